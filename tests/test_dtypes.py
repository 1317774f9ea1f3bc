"""Half, bfloat16, single and double, input and grid independently."""

import itertools

import pytest
import reference
import samples
import torch
from agreement import assert_matches_reference

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

HALF_DTYPES = (torch.float16, torch.bfloat16)
TINY = samples.Shape("tiny", N=1, C=2, size=(3, 4, 5), out=(1, 2, 3))


def name(dtype):
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    "dtypes",
    list(itertools.product(samples.DTYPES, repeat=2)),
    ids=lambda p: "-".join(map(name, p)),
)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_matches_reference(case, dtypes, device):
    input, grid = samples.sample(case, TINY, *dtypes, device=device)
    assert_matches_reference(case, input, grid)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("C", [2, 16, 33])
@pytest.mark.parametrize("grad_dtype", samples.DTYPES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=name)
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_grad_output_of_another_dtype(case, dtype, grad_dtype, C, layout, device):
    """A direct call may have one: it is converted, and changes no result's type."""
    shape = samples.Shape("several", N=1, C=C, size=(3, 4, 5), out=(2, 3, 9))
    input, grid = samples.sample(case, shape, dtype, torch.float32, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid)).to(grad_dtype)
    actual = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
    expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
    samples.assert_gradients_close(actual, expected, input, grid)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("C", [2, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=name)
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_one_gradient_of_a_float64_grid(case, dtype, C, layout, device):
    """Of which only that of the grid needs the values of the image."""
    shape = samples.Shape("several", N=1, C=C, size=(3, 4, 5), out=(2, 3, 9))
    input, grid = samples.sample(case, shape, dtype, torch.float64, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    arguments = (grad_output, input, grid, *case.op_options)
    grad_input, none = grid_sample_backward(*arguments, [True, False])
    assert none is None
    none, grad_grid = grid_sample_backward(*arguments, [False, True])
    assert none is None
    expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
    samples.assert_gradients_close((grad_input, grad_grid), expected, input, grid)


@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", HALF_DTYPES, ids=name)
@pytest.mark.parametrize("grid_dtype", [torch.float32, torch.float64], ids=name)
def test_empty_gradients(dtype, grid_dtype, shape, device):
    case = samples.Case(3, "bilinear", "zeros", False)
    assert_matches_reference(case, *samples.sample(case, shape, dtype, grid_dtype, device))


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("shape", samples.FEW_SAMPLES_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=name)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_few_samples_of_a_float64_grid(case, dtype, shape, device):
    input, grid = samples.sample(case, shape, dtype, torch.float64, device=device)
    assert_matches_reference(case, input, grid)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize(
    ("layout", "grid_layout"),
    [(layout, "contiguous") for layout in samples.INPUT_LAYOUTS]
    + [("contiguous", layout) for layout in samples.GRID_LAYOUTS],
)
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_few_samples_of_a_float64_grid_in_any_layout(case, layout, grid_layout, device):
    input, grid = samples.sample(
        case, samples.FEW_SAMPLES, torch.float32, torch.float64, device=device
    )
    input = samples.INPUT_LAYOUTS[layout](input)
    grid = samples.GRID_LAYOUTS[grid_layout](grid)
    assert_matches_reference(case, input, grid)
    dense = grid_sample(input, grid.float(), *case.options)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid))
    assert grid_sample(input, grid, *case.options).stride() == dense.stride()
    arguments = grad_output, input, grid, *case.op_options
    actual = grid_sample_backward(*arguments, [True, True])
    expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
    samples.assert_gradients_close(actual, expected, input, grid)
    for gradient, alone in zip(
        actual,
        (
            grid_sample_backward(*arguments, [True, False])[0],
            grid_sample_backward(*arguments, [False, True])[1],
        ),
        strict=True,
    ):
        assert gradient.stride() == alone.stride()
        samples.assert_bitwise_equal(gradient, alone)


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("C", [1, 3, 17])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=name)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_output_of_a_float64_grid_is_that_of_a_float64_image(case, dtype, layout, C, device):
    """To the bit, for few samples and for many."""
    for out in ((1, 2, 3), (5, 40, 41)):
        shape = samples.Shape("some", N=1, C=C, size=(9, 40, 50), out=out)
        input, grid = samples.sample(case, shape, dtype, torch.float64, device=device)
        input = samples.INPUT_LAYOUTS[layout](input)
        expected = grid_sample(input.double(), grid, *case.options).to(dtype)
        samples.assert_bitwise_equal(grid_sample(input, grid, *case.options), expected)


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=name)
@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=False), ids=str)
def test_from_few_samples_of_a_float64_grid_to_many(case, dtype, layout, device):
    """Samples more or less change nothing for the others, however the call is computed."""
    size, counts = samples.few_to_many(case)
    input = samples.randn(1, 4, *size, dtype=dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    shape = (1, *[1] * (case.dims - 1), counts[-1], case.dims)
    grid = samples.wide_grid(shape, size, case.align_corners, device=device)
    grad_output = samples.grad_like(input, grid)
    output = grid_sample(input, grid, *case.options)
    _, grad_grid = grid_sample_backward(grad_output, input, grid, *case.op_options, [False, True])
    for n in counts:
        few = grid[..., :n, :]
        samples.assert_bitwise_equal(grid_sample(input, few, *case.options), output[..., :n])
        actual = grid_sample_backward(
            grad_output[..., :n], input, few, *case.op_options, [True, True]
        )
        # The others add 0 to pixels.
        masked = torch.where(torch.arange(counts[-1], device=device) < n, grad_output, 0)
        expected, _ = grid_sample_backward(masked, input, grid, *case.op_options, [True, False])
        samples.assert_bitwise_equal(actual[0] + 0, expected + 0)
        samples.assert_close(actual[1], grad_grid[..., :n, :].double(), terms=max(size) * 2)


@pytest.mark.parametrize("dtype", HALF_DTYPES, ids=name)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_half_is_the_float32_result_rounded_once(case, dtype, device):
    shape = samples.Shape("rounded", N=2, C=19, size=(5, 6, 7), out=(3, 5, 7))
    input, grid = samples.sample(case, shape, dtype, device=device)
    expected = grid_sample(input.float(), grid.float(), *case.options).to(dtype)
    assert torch.equal(grid_sample(input, grid, *case.options), expected)


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=name)
@pytest.mark.parametrize("case", samples.cases(mode="nearest"), ids=str)
def test_nearest_copies_pixels(case, dtype, device):
    input, grid = samples.sample(case, samples.SMALL, dtype, device=device)
    output = grid_sample(input, grid, *case.options)
    pixels = torch.cat([input.flatten(), input.new_zeros(1)])
    assert torch.isin(output, pixels).all()


@pytest.mark.parametrize(
    "dtypes",
    [(torch.float32, torch.float64), (torch.float64, torch.float32)],
    ids=lambda p: name(p[0]),
)
@pytest.mark.parametrize("case", samples.cases(padding_mode="reflection"), ids=str)
def test_coordinates_are_float64_if_either_is(case, dtypes, device):
    """So far out that float32 coordinates are off by a pixel and more."""
    input, grid = samples.sample(case, TINY, dtypes[0], device=device)
    grid = (grid.double() + 4 * 2**20).to(dtypes[1])
    if dtypes[1] == torch.float64:
        assert not torch.equal(grid.float().double(), grid)
    expected = reference.grid_sample(input, grid, *case.options)
    samples.assert_close(grid_sample(input, grid, *case.options), expected, dtype=input.dtype)


@pytest.mark.parametrize("dtype", HALF_DTYPES, ids=name)
@pytest.mark.parametrize("mode", samples.MODES)
def test_half_coordinates_are_computed_in_float32(mode, dtype, device):
    """Held in half, coordinates up to 999 would be off by a quarter of a pixel, or by two."""
    input = samples.randn(1, 1, 1, 999, dtype=torch.float32, device=device)
    grid = (2 * torch.rand(1, 1, 200, 2, generator=samples.generator(4)) - 1).to(device, dtype)
    expected = reference.grid_sample(input, grid, mode, "border", False)
    samples.assert_close(
        grid_sample(input, grid, mode, "border", False), expected, dtype=torch.float32
    )


@pytest.mark.parametrize("dtype", HALF_DTYPES, ids=name)
@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=True), ids=str)
def test_half_gradients_accumulate_in_float32(case, dtype, device):
    """4096 ones onto one pixel, and 4096 channels into one grid point.

    A sum of ones sticks at 2048 in float16, at 256 in bfloat16.
    """
    size = (1, 3, 3)[-case.dims :]
    input = torch.zeros(1, 1, *size, dtype=dtype, device=device)
    grid = torch.zeros(1, *(1, 64, 64)[-case.dims :], case.dims, dtype=dtype, device=device)
    ones = torch.ones(1, 1, *grid.shape[1:-1], dtype=dtype, device=device)
    grad_input, _ = grid_sample_backward(ones, input, grid, *case.op_options, [True, False])
    weight = 4 / 9 if case.mode == "bspline" else 1
    total = grad_input[(0, 0, *[s // 2 for s in size])].item()
    assert total == pytest.approx(4096 * weight, rel=0 if weight == 1 else 4e-3)

    ramp = torch.arange(3, dtype=dtype, device=device).expand(1, 4096, *size)
    grid, ones = (
        grid[(slice(None), *[slice(1)] * case.dims)],
        ones.new_ones(1, 4096, *[1] * case.dims),
    )
    _, grad_grid = grid_sample_backward(ones, ramp, grid, *case.op_options, [False, True])
    # bicubic: -A (v[+1] - v[-1]); the other two of a ramp: its slope.
    slope_of_ramp = {"nearest": 0, "bicubic": 1.5}.get(case.mode, 1)
    assert grad_grid.flatten()[0].item() == slope_of_ramp * 4096
