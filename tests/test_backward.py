"""Both gradients, in float64, against torch's and the plain-loop reference's."""

import itertools

import pytest
import reference
import samples
import torch
import torch.nn.functional as F

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward


def autograd_gradients(function, input, grid, grad_output, options):
    """Call the function, with the batch broadcasting spelled out for torch's."""
    input, grid = input.detach().requires_grad_(), grid.detach().requires_grad_()
    N = grad_output.shape[0]
    if function is F.grid_sample:
        output = function(
            input.expand(N, *input.shape[1:]), grid.expand(N, *grid.shape[1:]), *options
        )
    else:
        output = function(input, grid, *options)
    return torch.autograd.grad(output, (input, grid), grad_output)


def assert_both_close(actual, expected, like):
    for gradient, values, tensor in zip(actual, expected, like, strict=True):
        assert gradient.shape == tensor.shape
        samples.assert_close(gradient, values, dtype=tensor.dtype)


@pytest.mark.all_combinations
@pytest.mark.parametrize("shape", samples.SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.TORCH_CASES, ids=str)
def test_matches_torch(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    grad_output = samples.grad_like(input, grid)
    actual = autograd_gradients(grid_sample, input, grid, grad_output, case.options)
    expected = autograd_gradients(F.grid_sample, input, grid, grad_output, case.options)
    assert_both_close(actual, expected, (input, grid))


@pytest.mark.parametrize("shape", samples.SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_matches_reference(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    grad_output = samples.grad_like(input, grid)
    actual = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
    expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
    assert_both_close(actual, expected, (input, grid))


@pytest.mark.parametrize("case", samples.TORCH_CASES, ids=str)
def test_matches_torch_in_the_interior(case, device):
    shape = samples.Shape("interior", N=2, C=5, size=(5, 9, 11), out=(3, 7, 9))
    input, grid = samples.sample(case, shape, device=device, make_grid=samples.interior_grid)
    grad_output = samples.grad_like(input, grid)
    actual = autograd_gradients(grid_sample, input, grid, grad_output, case.options)
    expected = autograd_gradients(F.grid_sample, input, grid, grad_output, case.options)
    assert_both_close(actual, expected, (input, grid))


@pytest.mark.parametrize("output_mask", list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_output_mask(case, output_mask, device):
    """What is asked for has the same values whether or not the other is; what is not is None."""
    input, grid = samples.sample(case, device=device)
    grad_output = samples.grad_like(input, grid)
    gradients = grid_sample_backward(grad_output, input, grid, *case.op_options, list(output_mask))
    expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
    for gradient, values, asked in zip(gradients, expected, output_mask, strict=True):
        if asked:
            samples.assert_close(gradient, values, dtype=torch.float64)
        else:
            assert gradient is None


@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_empty_gives_zero_gradients(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    gradients = grid_sample_backward(
        samples.grad_like(input, grid), input, grid, *case.op_options, [True, True]
    )
    for gradient, tensor in zip(gradients, (input, grid), strict=True):
        assert gradient.shape == tensor.shape
        assert gradient.count_nonzero() == 0


@pytest.mark.parametrize("case", samples.INTERPOLATING, ids=str)
def test_samples_at_one_pixel_add_up(case, device):
    """Every sample of both images at the same pixel of one broadcast image."""
    size = (5, 5, 5)[: case.dims]
    input = samples.randn(1, 2, *size, device=device)
    grid = torch.zeros(2, *[7] * case.dims, case.dims, dtype=torch.float64, device=device)
    grad_output = samples.grad_like(input, grid)
    grad_input, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False])
    expected = torch.zeros_like(input)
    expected[(0, slice(None), *[2] * case.dims)] = grad_output.transpose(0, 1).flatten(1).sum(1)
    samples.assert_close(grad_input, expected)


@pytest.mark.parametrize("zoom", [0.4, 1, 4, 30])
@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "case", samples.cases(mode="bilinear", padding_mode="zeros", align_corners=False), ids=str
)
def test_magnified_image(case, dtype, C, zoom, device):
    """Neighbouring samples share all of their pixels, half of them, or none."""
    dims = case.dims
    input = samples.randn(1, C, *(7, 41, 37)[-dims:], device=device).to(dtype)
    identity = torch.eye(dims, dims + 1, dtype=torch.float64, device=device)[None] / zoom
    grid = F.affine_grid(identity, [1, 1, *(3, 23, 141)[-dims:]], align_corners=False)
    grid = (grid + 0.01 * 2**0.5).to(dtype)
    grad_output = samples.grad_like(input, grid)
    actual = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
    expected = autograd_gradients(
        F.grid_sample, input.double(), grid.double(), grad_output.double(), case.options
    )
    # About zoom ** dims samples fall on one pixel; their rounding errors add up like a random walk.
    samples.assert_close(actual[0], expected[0], dtype, terms=max(1, zoom) ** (dims / 2))
    samples.assert_close(actual[1], expected[1], dtype)


@pytest.mark.parametrize("case", samples.cases(mode="nearest"), ids=str)
def test_nearest_has_no_gradient_for_grid(case, device):
    input, grid = samples.sample(case, device=device)
    grad_output = samples.grad_like(input, grid)
    _, grad_grid = grid_sample_backward(grad_output, input, grid, *case.op_options, [False, True])
    assert grad_grid.shape == grid.shape
    assert grad_grid.count_nonzero() == 0


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_gradient_for_input_is_the_adjoint(case, device):
    """Sampling is linear in input: <grad_output, A input> = <A* grad_output, input>.

    With more samples than the reference can loop over.
    """
    input = samples.randn(2, 5, *(9, 11, 13)[-case.dims :], device=device)
    grid_shape = (2, *(8, 9, 31)[-case.dims :], case.dims)
    grid = samples.wide_grid(grid_shape, input.shape[2:], case.align_corners, device=device)
    output = grid_sample(input, grid, *case.options)
    grad_output = samples.grad_like(input, grid)
    grad_input, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False])
    samples.assert_close((grad_input * input).sum(), (grad_output * output).sum())


def test_arguments_are_not_modified(device):
    for case in samples.CASES:
        input, grid = samples.sample(case, device=device)
        arguments = samples.grad_like(input, grid), input, grid
        before = [tensor.clone() for tensor in arguments]
        grid_sample_backward(*arguments, *case.op_options, [True, True])
        assert all(map(torch.equal, arguments, before))
