"""Images beyond 16-bit offsets, and offsets beyond 31 bits."""

import pytest
import samples
import torch
from agreement import assert_same_results

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward
grid_sample_jvp = torch.ops.gridsample_ext.grid_sample_jvp
grid_sample_double_backward = torch.ops.gridsample_ext.grid_sample_double_backward

HALF_DTYPES = (torch.float16, torch.bfloat16)
SAMPLES = {2: (61, 67), 3: (13, 17, 19)}


def image_size(dims, align_corners):
    """More than 65,535 pixels, at centres that are exact in half precision under corners."""
    if align_corners:
        return {2: (257, 257), 3: (33, 33, 65)}[dims]
    return {2: (256, 300), 3: (40, 41, 42)}[dims]


@pytest.mark.parametrize("dtype", HALF_DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_half_image_of_ones(case, dtype, device):
    """Ones stay ones: inside, and anywhere under padding that repeats pixels.

    A gradient of ones is then spread over grad_input without loss.
    """
    input = torch.ones(1, 1, *image_size(case.dims, case.align_corners), dtype=dtype, device=device)
    make_grid = samples.interior_grid if case.padding_mode == "zeros" else samples.wide_grid
    grid = make_grid(
        (1, *SAMPLES[case.dims], case.dims),
        input.shape[2:],
        case.align_corners,
        torch.float32,
        device,
    )
    output = grid_sample(input, grid, *case.options)
    assert torch.equal(output, torch.ones_like(output))

    grad_input, _ = grid_sample_backward(output, input, grid, *case.op_options, [True, False])
    rounding = samples.TOLERANCES[dtype] * grad_input.double().abs().sum()  # of each pixel
    assert (grad_input.double().sum() - output.numel()).abs() <= rounding


@pytest.mark.parametrize("grid_dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(
    "case", [case for case in samples.INTERPOLATING if case.align_corners], ids=str
)
def test_half_image_under_the_identity(case, grid_dtype, device):
    """Every pixel arrives in its place, and every gradient goes back to it, bit by bit."""
    input = samples.randn(1, 1, *image_size(case.dims, True), dtype=torch.float16, device=device)
    grid = samples.identity_grid(input.shape[2:], True, grid_dtype, device)
    assert torch.equal(grid_sample(input, grid, *case.options), input)
    grad_output = samples.grad_like(input, grid)
    grad_input, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False])
    assert torch.equal(grad_input, grad_output)


def huge(tensor, dimension):
    """Copy into a view whose last element is more than 2^31 elements behind the first.

    All along one dimension. The storage in between is never touched, hence never given memory.
    """
    strides = list(tensor.contiguous().stride())
    strides[dimension] = 2**31 // (tensor.shape[dimension] - 1) + 11
    extent = 1 + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True)
    )
    assert extent > 2**31
    view = torch.empty(extent, dtype=tensor.dtype, device=tensor.device).as_strided(
        tensor.shape, strides
    )
    return view.copy_(tensor)


LARGE_SHAPE = samples.Shape("large", N=2, C=2, size=(2, 2, 2), out=(2, 2, 2))
LARGE_CASES = samples.cases(padding_mode="reflection", align_corners=False)


@pytest.mark.parametrize("argument", [0, 1, 2], ids=("grad_output", "input", "grid"))
@pytest.mark.parametrize("case", LARGE_CASES, ids=str)
def test_offsets_beyond_31_bits(case, argument, device):
    input, grid = samples.sample(case, LARGE_SHAPE, torch.float16, device=device)
    plain = samples.grad_like(input, grid), input, grid
    for dimension in range(plain[argument].dim()):
        arguments = list(plain)
        arguments[argument] = huge(plain[argument], dimension)
        assert_same_results(case, arguments, plain)


@pytest.mark.parametrize("case", LARGE_CASES, ids=str)
def test_offsets_beyond_31_bits_in_channels_last(case, device):
    """Strides ordered like channels_last, with images, or rows of one image, far apart."""
    input, grid = samples.sample(case, LARGE_SHAPE, torch.float16, device=device)
    grad_output = samples.grad_like(input, grid)
    for dimension in range(case.dims + 1):
        far = huge(input.movedim(1, -1), dimension).movedim(-1, 1)
        assert_same_results(case, (grad_output, far, grid), (grad_output, input, grid))


@pytest.mark.parametrize("far", [(0,), (1,), (0, 3), (2,), (4,)], ids=str)
@pytest.mark.parametrize("case", LARGE_CASES, ids=str)
def test_second_order_offsets_beyond_31_bits(case, far, device):
    """Of input, grid, grad_output and the directions, that for input by itself or with input."""
    input, grid = samples.sample(case, LARGE_SHAPE, torch.float16, device=device)
    plain = [input, grid, samples.grad_like(input, grid)]
    plain += [samples.randn(*t.shape, dtype=t.dtype, device=device, seed=5) for t in (input, grid)]

    def results(input, grid, grad_output, of_input, of_grid):
        return [
            grid_sample_jvp(input, grid, of_input, of_grid, *case.op_options),
            *grid_sample_double_backward(
                of_input, of_grid, grad_output, input, grid, *case.op_options, [True, True]
            ),
        ]

    expected = results(*plain)
    for dimension in range(input.dim()):
        arguments = list(plain)
        for argument in far:
            arguments[argument] = huge(plain[argument], dimension)
        for result, values in zip(results(*arguments), expected, strict=True):
            samples.assert_close(result, values.double())


@pytest.fixture(scope="module", params=(2**24 + 3, 2**24 + 4))
def long_row(request):
    """More pixels than float32 can count: one of the last indices rounds up to the size itself.

    Ones, between NaNs that must not be read.
    """
    storage = torch.full((request.param + 128,), float("nan"), dtype=torch.float16)
    return storage[64:-64].fill_(1)


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_axis_beyond_the_integers_of_float32(case, long_row, device):
    input = long_row.to(device).reshape(1, 1, *[1] * (case.dims - 1), -1)
    x = torch.tensor(
        [-2.0, -1.0, 0.0, 0.9999999, 1.0, 2.0, float("inf"), float("nan")], device=device
    )
    grid = torch.stack([x, *[torch.zeros_like(x)] * (case.dims - 1)], -1).reshape(
        1, *[1] * (case.dims - 1), 8, -1
    )
    output = grid_sample(input, grid, *case.options)
    assert output.isfinite().all()
    grad_output = torch.ones_like(output)
    grad_input, grad_grid = grid_sample_backward(
        grad_output, input, grid, *case.op_options, [True, True]
    )
    assert grad_grid.isfinite().all()
    if case.padding_mode == "zeros":
        assert output[..., x.abs() > 1.5].count_nonzero() == 0
    else:
        total = grad_input.sum(dtype=torch.float32)
        if case.mode == "bspline":  # of weights that float16 rounds
            total = total.half()
        else:
            assert torch.equal(output, grad_output)
        samples.assert_close(output, grad_output.double())
        samples.assert_close(total, grad_output.double().sum())


@pytest.mark.parametrize("coordinate", [2**24 + 4, 2**24 + 5])
def test_second_tap_beyond_the_integers_of_float32(coordinate, device):
    """The whole number after a tap's position may round back to it; its index does not.

    The second tap has the weight 0: only an infinite gradient shows where it is.
    """
    size = 2**24 + 64
    y = torch.tensor((2.0 * coordinate + 1) / size - 1, dtype=torch.float64).float()
    input = torch.ones(1, 1, size, 1, dtype=torch.float16, device=device)
    grid = torch.stack([torch.zeros_like(y), y]).reshape(1, 1, 1, 2).to(device)
    position = int(((y + 1) * size - 1) / 2)
    grad_output = torch.full((1, 1, 1, 1), float("inf"), dtype=torch.float16, device=device)
    grad_input, _ = grid_sample_backward(grad_output, input, grid, 0, 0, False, [True, False])
    near = grad_input.flatten()[position - 1 : position + 3].tolist()
    assert near[0] == 0
    assert near[1] == float("inf")
    assert near[2] != near[2]
    assert near[3] == 0
