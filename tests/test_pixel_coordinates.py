"""coordinates="pixel": the grid counts pixels, from the centre of the first."""

import math
import warnings

import agreement
import boundaries
import pytest
import samples
import torch

from gridsample_ext import grid_sample

PIXEL = [case for case in boundaries.cases() if case.coordinates == "pixel"]


def both_units(case, shape=samples.SMALL, device="cpu"):
    """(case, input, grid) in pixels, and the same normalized."""
    normalized = boundaries.Case(**vars(case) | {"coordinates": "normalized"})
    input, grid = samples.sample(case, shape, device=device)
    other = samples.normalize(grid.cpu(), input.shape[2:], case.align_corners).to(device)
    return (case, input, grid), (normalized, input, other)


@pytest.mark.all_combinations
@pytest.mark.parametrize("case", PIXEL, ids=str)
def test_as_normalized(case, device):
    """Values and gradients, whose slope is 1."""
    calls = both_units(case, device=device)
    outputs = [grid_sample(i, g, *c.options, **c.keywords) for c, i, g in calls]
    samples.assert_close(*outputs, terms=4)
    grad_output = samples.grad_like(*calls[0][1:])
    (mine, grad_grid), (expected, by_units) = (
        agreement.backward(c, grad_output, i, g) for c, i, g in calls
    )
    samples.assert_close(mine, expected, terms=4)
    sizes = torch.tensor(calls[0][1].shape[:1:-1], dtype=torch.float64, device=device)
    scale = (sizes - 1 if case.align_corners else sizes) / 2
    samples.assert_close(grad_grid * scale, by_units, terms=16)


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("mode", [mode for mode in samples.MODES if mode != "bspline"])
@pytest.mark.parametrize("padding_mode", boundaries.PADDINGS)
@pytest.mark.parametrize("dims", [2, 3])
def test_whole_numbers_are_pixels(dims, padding_mode, mode, dtype, device):
    """To the bit, of any size; no unit of the image's size has to be formed."""
    input = samples.randn(2, 3, *(3, 5, 7)[-dims:], dtype=dtype, device=device)
    grid = samples.identity_grid(input.shape[2:], None, dtype, device)
    for align_corners in (False, True):
        output = grid_sample(input, grid, mode, padding_mode, align_corners, coordinates="pixel")
        samples.assert_bitwise_equal(output, input)


@pytest.mark.parametrize(
    "case", boundaries.of_padding("zeros", coordinates="pixel")[: 2 * len(samples.MODES)], ids=str
)
def test_far_corner_of_a_large_image(case, device):
    """Coordinates are taken as they are, to the last bit of float32."""
    input = torch.arange(3.0, device=device)[:, None].repeat(1, 5001)
    input = (input + torch.arange(5001.0, device=device) % 2)[None, None]
    x = torch.tensor([4000.0625, 4000.5 - 2.0**-12, 4999.9375])
    grid = samples.in_a_row(torch.stack([x, torch.ones(3)], -1), device, torch.float32)
    exact = grid_sample(input.double(), grid.double(), *case.options, **case.keywords)
    output = grid_sample(input, grid, *case.options, **case.keywords)
    samples.assert_close(output, exact)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("padding_mode", boundaries.PADDINGS)
@pytest.mark.parametrize("dims", [2, 3])
def test_nan_is_read_as_minus_one_is_otherwise(dims, padding_mode, mode, align_corners, device):
    """The centre of the first pixel with align_corners, its outer edge without."""
    input = samples.randn(1, 2, *(3, 4, 5)[-dims:], device=device)
    options = mode, padding_mode, align_corners
    grids = {
        "pixel": torch.full((1, *[1] * dims, dims), math.nan, device=device),
        "normalized": torch.full((1, *[1] * dims, dims), -1.0, device=device),
    }
    outputs = [
        grid_sample(input, grid, *options, coordinates=units) for units, grid in grids.items()
    ]
    samples.assert_bitwise_equal(*outputs)
    case = boundaries.Case(dims, *options, coordinates="pixel")
    _, grad_grid = agreement.backward(case, outputs[0], input, grids["pixel"])
    assert grad_grid.eq(0).all()


@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("padding_mode", boundaries.PADDINGS)
def test_align_corners_decides_about_reflection_alone(padding_mode, mode, device):
    case = boundaries.Case(2, mode, padding_mode, False, coordinates="pixel")
    input, grid = samples.sample(case, device=device)
    outputs = [
        grid_sample(input, grid, mode, padding_mode, align_corners, coordinates="pixel")
        for align_corners in (False, True)
    ]
    assert torch.equal(*outputs) == (padding_mode != "reflection")


def test_no_warning_without_align_corners(device):
    """None means False, and there is nothing to be warned of."""
    case = boundaries.Case(2, "bilinear", "reflection", False, coordinates="pixel")
    input, grid = samples.sample(case, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = grid_sample(input, grid, padding_mode="reflection", coordinates="pixel")
    expected = grid_sample(input, grid, *case.options, **case.keywords)
    samples.assert_bitwise_equal(output, expected)
    with pytest.warns(UserWarning, match="align_corners"):
        grid_sample(input, grid, padding_mode=("circular", "zeros"), fill_value=1.0)
