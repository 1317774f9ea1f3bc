"""Forward mode: torch.autograd.forward_ad and torch.func.jvp, over reverse mode too."""

import composed
import pytest
import samples
import torch
from torch.autograd import forward_ad

from gridsample_ext import grid_sample


def draw(case, shape, device):
    """Draw input, grid and a tangent of each."""
    input, grid = samples.sample(case, shape, device=device)
    tangents = (
        samples.randn(*input.shape, device=device, seed=5),
        samples.randn(*grid.shape, device=device, seed=6),
    )
    return (input, grid), tangents


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_gradcheck_of_forward_mode(case, device):
    inputs, _ = draw(case, samples.TINY, device)
    assert torch.autograd.gradcheck(
        lambda input, grid: grid_sample(input, grid, *case.options),
        [tensor.requires_grad_() for tensor in inputs],
        check_forward_ad=True,
        check_backward_ad=False,
        check_batched_forward_grad=True,
        check_undefined_grad=False,
    )


@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_gradgradcheck_of_forward_over_reverse(case, device):
    inputs, _ = draw(case, samples.TINY, device)
    assert torch.autograd.gradgradcheck(
        lambda input, grid: grid_sample(input, grid, *case.options),
        [tensor.requires_grad_() for tensor in inputs],
        check_fwd_over_rev=True,
        check_rev_over_rev=False,
        check_undefined_grad=False,
        nondet_tol=1e-12 if device == "cuda" else 0.0,
    )


@pytest.mark.parametrize("shape", samples.SMALL_SHAPES, ids=str)
@pytest.mark.parametrize("which", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_dual_tensors(case, which, shape, device):
    inputs, tangents = draw(case, shape, device)

    def zero_unless(flag, tangent):
        return tangent if flag else torch.zeros_like(tangent)

    _, expected = torch.func.jvp(
        lambda *inputs: composed.grid_sample(*inputs, *case.options),
        inputs,
        tuple(map(zero_unless, which, tangents)),
    )
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(tensor, tangent) if flag else tensor
            for tensor, tangent, flag in zip(inputs, tangents, which, strict=True)
        ]
        output, tangent = forward_ad.unpack_dual(grid_sample(*duals, *case.options))
    assert torch.equal(output, grid_sample(*inputs, *case.options))
    samples.assert_close(tangent, expected)


def test_plain_tensors_within_a_dual_level(device):
    case = samples.Case(2, "bilinear", "zeros", False)
    inputs, _ = draw(case, samples.SMALL, device)
    with forward_ad.dual_level():
        output = grid_sample(*inputs, *case.options)
        assert forward_ad.unpack_dual(output).tangent is None
    assert torch.equal(output, grid_sample(*inputs, *case.options))


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
def test_types_of_tangents(dtype, device):
    case = samples.Case(2, "bicubic", "border", False)
    inputs, tangents = draw(case, samples.SMALL, device)
    input, grid = inputs[0].to(dtype), inputs[1].float()
    tangents = tangents[0].to(dtype), tangents[1].float()
    output, tangent = torch.func.jvp(
        lambda *inputs: grid_sample(*inputs, *case.options), (input, grid), tangents
    )
    assert output.dtype == tangent.dtype == dtype
    _, expected = torch.func.jvp(
        lambda *inputs: composed.grid_sample(*inputs, *case.options),
        (input.double(), grid.double()),
        tuple(tangent.double() for tangent in tangents),
    )
    samples.assert_close(tangent, expected, dtype, terms=expected.abs().max().item())


@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_jvp_of_grad(case, device):
    inputs, tangents = draw(case, samples.SMALL, device)

    def derivative(sample):
        gradient = torch.func.grad(
            lambda *inputs: sample(*inputs, *case.options).square().sum(), (0, 1)
        )
        return torch.func.jvp(gradient, inputs, tangents)

    for ours, expected in zip(
        derivative(grid_sample), derivative(composed.grid_sample), strict=True
    ):
        for our, want in zip(ours, expected, strict=True):
            samples.assert_close(our, want)


@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_grad_of_jvp(case, device):
    inputs, tangents = draw(case, samples.SMALL, device)

    def gradient(sample):
        def loss(inputs, tangents):
            _, tangent = torch.func.jvp(
                lambda *inputs: sample(*inputs, *case.options), inputs, tangents
            )
            return tangent.square().sum()

        return torch.func.grad(loss, (0, 1))(inputs, tangents)

    ours, expected = gradient(grid_sample), gradient(composed.grid_sample)
    for our, want in zip(sum(ours, ()), sum(expected, ()), strict=True):
        samples.assert_close(our, want)


@pytest.mark.parametrize("inside", [True, False], ids=("made_inside", "made_before"))
def test_tangent_of_grad_output(inside, device):
    """Of a backward pass through a node that was made before the level was entered, too."""
    case = samples.Case(2, "bicubic", "zeros", False)
    inputs, _ = draw(case, samples.SMALL, device)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    grad_output = samples.grad_like(*inputs)
    output = None if inside else grid_sample(*leaves, *case.options)
    with forward_ad.dual_level():
        if inside:
            output = grid_sample(*leaves, *case.options)
        dual = forward_ad.make_dual(grad_output, grad_output.cos())
        gradients = torch.autograd.grad(output, leaves, dual)
        tangents = [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]
    expected = torch.autograd.grad(grid_sample(*leaves, *case.options), leaves, grad_output.cos())
    for tangent, want in zip(tangents, expected, strict=True):
        samples.assert_close(tangent, want)


def test_func_of_a_backward_pass_through_an_ordinary_node(device):
    case = samples.Case(2, "bilinear", "zeros", False)
    inputs, _ = draw(case, samples.SMALL, device)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    output = grid_sample(*leaves, *case.options)
    grad_output = samples.grad_like(*inputs)

    def gradients(grad_output):
        return torch.autograd.grad(output, leaves, grad_output, retain_graph=True)

    _, tangents = torch.func.jvp(gradients, (grad_output,), (grad_output.cos(),))
    for tangent, want in zip(tangents, gradients(grad_output.cos()), strict=True):
        samples.assert_close(tangent, want)
