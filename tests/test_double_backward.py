"""Second derivatives in reverse mode, as autograd takes them and as users write them."""

import composed
import pytest
import samples
import torch

import gridsample_ext
from gridsample_ext import grid_sample

TINY_SHAPES = [
    samples.TINY,
    samples.Shape("input_broadcast", C=1, size=(2, 3, 2), out=(1, 1, 2), N_input=1, N_grid=2),
    samples.Shape("grid_broadcast", C=1, size=(2, 3, 2), out=(1, 1, 2), N_input=2, N_grid=1),
    samples.Shape("four_channels", N=1, C=5, size=(2, 2, 3), out=(1, 1, 3)),
]


def leaves(case, shape, device, **options):
    input, grid = samples.sample(case, shape, device=device, **options)
    return input.requires_grad_(), grid.requires_grad_()


def gradgradcheck(case, shape, device, needs=(True, True)):
    input, grid = leaves(case, shape, device)
    input.requires_grad_(needs[0])
    grid.requires_grad_(needs[1])
    assert torch.autograd.gradgradcheck(
        lambda input, grid: grid_sample(input, grid, *case.options),
        (input, grid),
        # A GPU adds grad_input up in an order that changes.
        nondet_tol=1e-12 if device == "cuda" else 0.0,
    )


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_gradgradcheck(case, device):
    gradgradcheck(case, samples.TINY, device)


@pytest.mark.parametrize("shape", TINY_SHAPES[1:], ids=str)
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_gradgradcheck_of_other_shapes(case, shape, device):
    gradgradcheck(case, shape, device)


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=("input", "grid"))
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=True), ids=str)
def test_gradgradcheck_of_one_side(case, needs, device):
    gradgradcheck(case, samples.TINY, device, needs)


def second_gradients(function, leaves, penalty):
    output = function(*leaves)
    gradients = torch.autograd.grad(
        output.sin().sum(),
        leaves,
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    loss = penalty(output, *gradients)
    return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


PENALTIES = {
    "on_input": lambda output, grad_input, grad_grid: grad_input.square().sum(),
    "on_grid": lambda output, grad_input, grad_grid: (grad_grid.norm(dim=-1) - 1).square().sum(),
    "on_both": lambda output, grad_input, grad_grid: (
        output.square().sum() + grad_input.square().sum() + grad_grid.square().sum()
    ),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_penalties_of_gradients(case, dtype, penalty, device):
    """In every type, against the composed operation in float64."""
    grid_dtype = torch.promote_types(dtype, torch.float32)
    input, grid = leaves(case, samples.SMALL, device, dtype=dtype, grid_dtype=grid_dtype)
    doubles = [leaf.detach().double().requires_grad_() for leaf in (input, grid)]
    if case.mode == "nearest" and penalty == "on_grid":
        penalty = "on_both"  # the norm of a gradient of 0 has no derivative
    ours = second_gradients(
        lambda *leaves: grid_sample(*leaves, *case.options), (input, grid), PENALTIES[penalty]
    )
    expected = second_gradients(
        lambda *leaves: composed.grid_sample(*leaves, *case.options), doubles, PENALTIES[penalty]
    )
    for our, want, leaf in zip(ours, expected, (input, grid), strict=True):
        assert (our.shape, our.dtype) == (leaf.shape, leaf.dtype)
        # Made of gradients that are rounded themselves to input's type.
        scale = max(want.abs().max().item(), 1.0) * max(input.shape[2:])
        tolerance = 20 * samples.TOLERANCES[dtype] * scale
        torch.testing.assert_close(our.double(), want, rtol=0, atol=tolerance)


def test_wgan_gp_step(device):
    """The critic's gradient penalty with a spatial transformer inside, a step of an optimiser."""
    torch.manual_seed(1)
    case = samples.Case(2, "bilinear", "zeros", False)
    images = torch.rand(3, 2, 6, 7, dtype=torch.float64, device=device)
    weight = torch.rand(2, 2, 3, 3, dtype=torch.float64, device=device) - 0.5
    theta = samples.interior_grid((3, 4, 5, 2), (6, 7), False, device=device)

    def step(sample):
        critic = weight.clone().requires_grad_()
        shift = torch.zeros(2, dtype=torch.float64, device=device, requires_grad=True)
        optimizer = torch.optim.SGD([critic, shift], lr=0.1)
        mixed = images.clone().requires_grad_()
        warped = sample(torch.tanh(mixed), theta + shift, *case.options)
        score = torch.nn.functional.conv2d(warped, critic).square().mean()
        (gradient,) = torch.autograd.grad(score, mixed, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        (score + 10 * penalty).backward()
        optimizer.step()
        return critic, shift

    for ours, expected in zip(step(grid_sample), step(composed.grid_sample), strict=True):
        torch.testing.assert_close(ours, expected)
        assert not torch.equal(ours, torch.zeros_like(ours))


def test_eikonal_loss_of_a_sampled_field(device):
    """A signed distance field in a volume: |d value / d position| is pulled to 1, by its pixels."""
    case = samples.Case(3, "bilinear", "border", True)
    volume = samples.randn(1, 1, 5, 6, 7, device=device)
    points = samples.interior_grid((1, 1, 1, 40, 3), (5, 6, 7), True, device=device)

    def gradients(sample):
        field = volume.clone().requires_grad_()
        where = points.clone().requires_grad_()
        values = sample(field, where, *case.options)
        (normal,) = torch.autograd.grad(values.sum(), where, create_graph=True)
        loss = (normal.norm(dim=-1) - 1).square().mean()
        loss.backward()
        return field.grad, where.grad

    for ours, expected in zip(gradients(grid_sample), gradients(composed.grid_sample), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("padding_mode", samples.PADDING_MODES)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("dims", [2, 3])
def test_infinite_pixels_outside_the_footprint(dims, mode, padding_mode, device):
    """They reach no derivative, of any order."""
    case = samples.Case(dims, mode, padding_mode, True)
    sizes = (12,) * dims
    corner = (slice(None), slice(None), *[slice(7, None)] * dims)
    plain = samples.randn(1, 2, *sizes, device=device)
    grid = samples.normalize(
        samples.off_lattice(
            1 + 3 * torch.rand(1, *[2] * dims, dims, generator=samples.generator()).double()
        ),
        sizes,
        True,
    ).to(device)
    # Far outside: clamped at the low corner with border, no pixel at all with zeros.
    grid[(0,) * (dims + 1)] = -1.0 if padding_mode == "reflection" else -9.0
    results = []
    for value in (0.0, float("inf")):
        input = plain.clone()
        input[corner] = value
        leaves = input.requires_grad_(), grid.clone().requires_grad_()
        output = grid_sample(*leaves, *case.options)
        first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), leaves)
        results.append((output, *first, *second))
    for without, with_infinity in zip(*results, strict=True):
        assert torch.isfinite(with_infinity).all()
        samples.assert_bitwise_equal(with_infinity, without)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.devices("cpu")
def test_threads_do_not_change_a_bit(dims, channels, threads, device):
    case = samples.Case(dims, "bicubic", "reflection", False)
    shape = samples.Shape("large", N=2, C=channels, size=(6, 20, 31), out=(5, 17, 29))
    input, grid = samples.sample(case, shape, torch.float32)
    along = samples.randn(*input.shape, dtype=torch.float32, seed=5), grid.cos()
    grad_output = samples.grad_like(input, grid)
    ops = torch.ops.gridsample_ext

    def run():
        return (
            ops.grid_sample_jvp(input, grid, *along, *case.op_options),
            *ops.grid_sample_double_backward(
                *along, grad_output, input, grid, *case.op_options, [True, True]
            ),
        )

    torch.set_num_threads(threads)
    results = run()
    torch.set_num_threads(1)
    for ours, expected in zip(results, run(), strict=True):
        samples.assert_bitwise_equal(ours, expected)


def test_only_what_is_needed_is_differentiated(device, monkeypatch):
    """A penalty on grad_input alone asks no kernel for what it does not need."""
    calls = []
    double_backward = gridsample_ext.autograd._ops.grid_sample_double_backward

    def spy(*arguments):
        calls.append(arguments[8])
        return double_backward(*arguments)

    monkeypatch.setattr(gridsample_ext.autograd._ops, "grid_sample_double_backward", spy)
    case = samples.Case(2, "bilinear", "zeros", False)
    input, grid = leaves(case, samples.TINY, device)
    grid.requires_grad_(False)
    output = grid_sample(input, grid, *case.options)
    (grad_input,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
    grad_input.square().sum().backward()
    # grad_input depends on input through grad_output alone.
    assert not any(any(mask) for mask in calls) or calls == [(True, False)]
    assert input.grad.isfinite().all()


def test_batched_gradients_keep_their_graph(device):
    """Of a jacobian in one batch, which can be differentiated again."""
    case = samples.Case(2, "bicubic", "zeros", False)
    input, grid = leaves(case, samples.TINY, device)
    results = []
    for sample in (grid_sample, composed.grid_sample):
        jacobian = torch.autograd.functional.jacobian(
            lambda grid, sample=sample: sample(input, grid, *case.options),
            grid,
            vectorize=True,
            create_graph=True,
        )
        assert jacobian.requires_grad
        results.append(torch.autograd.grad(jacobian.square().sum(), (input, grid)))
    for ours, expected in zip(*results, strict=True):
        samples.assert_close(ours, expected)


@pytest.mark.parametrize("side", [10, 200], ids=("small", "without_data"))
def test_whether_input_is_used_does_not_depend_on_its_size(side, device):
    """A large input is not kept where its values are not needed; nobody notices."""
    input = samples.randn(1, 1, side, side, device=device).requires_grad_()
    grid = samples.interior_grid((1, 2, 3, 2), (side, side), False, device=device).requires_grad_()
    output = grid_sample(input, grid, "nearest", "zeros", False)
    gradients = torch.autograd.grad(output.sum(), (input, grid), create_graph=True)
    for gradient in gradients:
        assert torch.autograd.grad(gradient.sum(), input, allow_unused=True, retain_graph=True) == (
            None,
        )
