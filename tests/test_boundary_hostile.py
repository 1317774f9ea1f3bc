"""Hostile coordinates and pixels, under every padding of each axis and every option."""

import itertools
import math

import agreement
import boundaries
import pytest
import samples
import torch

from gridsample_ext import grid_sample

ops = torch.ops.gridsample_ext
CHANNELS = (1, 2, 3, 4, 8, 20)
LAYOUTS = ("contiguous", "channels_last")
DTYPES = (torch.float32, torch.float64)
VALUES = (math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 16777217.0, -8388607.5, 1e-40, 0.3)


def grid_of(case, values, device, dtype):
    """All pairs of values along x and y; z has those of x, in another order."""
    rows = torch.tensor(list(itertools.product(values, repeat=2)), dtype=torch.float64)
    rows = torch.cat([rows, rows[:, :1].roll(7, 0)], 1)[:, : case.dims]
    return samples.in_a_row(rows, device, dtype)


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "size", "channels", "layout", "dtype"),
    boundaries.drawn([(3, 4, 5), (1, 1, 1), (1, 5, 2), (2, 1, 7)], CHANNELS, LAYOUTS, DTYPES),
    ids=str,
)
def test_hostile_coordinates(case, size, channels, layout, dtype, device):
    input = samples.randn(1, channels, *size[-case.dims :], dtype=dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grid = grid_of(case, VALUES, device, dtype)
    agreement.assert_matches_reference(case, input, grid)
    output = grid_sample(input, grid, *case.options, **case.keywords)
    assert output.isfinite().all()


@pytest.mark.all_combinations
@pytest.mark.parametrize(("case", "channels", "dtype"), boundaries.drawn(CHANNELS, DTYPES), ids=str)
def test_hostile_coordinates_have_no_gradient(case, channels, dtype, device):
    """Those that are not finite: exactly 0 in first and second order, whatever the pixels."""
    grid = grid_of(case, (math.nan, math.inf, -math.inf), device, dtype)
    for value in (1.0, math.inf, math.nan):
        input = torch.full((1, channels, *[3] * case.dims), value, dtype=dtype, device=device)
        grad_output = (
            torch.full_like(grid[..., 0], value).unsqueeze(1).repeat_interleave(channels, 1)
        )
        results = [
            agreement.backward(case, grad_output, input, grid, [False, True])[1],
            ops.grid_sample_jvp(
                input, grid, None, torch.ones_like(grid), *case.op_options, *case.later
            ),
            ops.grid_sample_double_backward(
                None, torch.ones_like(grid), grad_output, input, grid, *case.op_options,
                [False, True], False, *case.later,
            )[1],
        ]  # fmt: skip
        for result in results:
            assert result.eq(0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_hostile_coordinates_spoil_only_themselves(case, dtype, device):
    """One in a vector of good ones, at every place in it."""
    sizes = [7] * case.dims
    input = samples.randn(1, 3, *sizes, dtype=dtype, device=device)
    shape = (1, *[1] * (case.dims - 1), 32, case.dims)
    good = samples.wide_grid(shape, sizes, case.units, dtype, device)
    call = boundaries.sampler(case, grid_sample)
    undisturbed = call(input, good)
    for hostile, place in itertools.product((math.nan, math.inf, -1e30), range(0, 32, 5)):
        grid = good.clone()
        grid[..., place, :] = hostile
        output = call(input, grid)
        assert output.isfinite().all()
        output[..., place] = undisturbed[..., place]
        samples.assert_bitwise_equal(output, undisturbed)


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_infinite_pixels_without_a_tap(case, channels, device):
    """A sample inside an image that is infinite wherever the sample has no tap."""
    input, grid = samples.amid_infinity(case, device)
    input = input[:, :1].expand(-1, channels, *input.shape[2:]).contiguous()
    assert grid_sample(input, grid, *case.options, **case.keywords).isfinite().all()
    agreement.assert_matches_reference(case, input, grid)


@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_every_half_pixel(case, device):
    """From before the image to behind it: ties, seams, folds and where outside begins."""
    for size in (3, 4):
        input = samples.randn(1, 2, *[size] * case.dims, device=device)
        u = torch.arange(-5, 2 * size + 5, dtype=torch.float64) / 2
        places = torch.stack([u, u.flip(0), u.roll(3)], -1)[:, : case.dims]
        grid = samples.normalize(places, input.shape[2:], case.units)
        agreement.assert_matches_reference(case, input, samples.in_a_row(grid, device))


@pytest.mark.parametrize("value", [1e-40, -1e-42, 1e-45])
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_denormal_pixels_and_values(case, channels, value, device):
    """Are kept: neither flushed in the image nor as a value outside."""
    keywords = {k: value if k.endswith("_value") else v for k, v in case.keywords.items()}
    input = torch.full((1, channels, *[4] * case.dims), value, device=device)
    grid = grid_of(case, [math.nan, -5.0, 0.0, 9.0], device, torch.float32)
    output = grid_sample(input, grid, "nearest", *case.options[1:], **{
        k: v for k, v in keywords.items() if k != "cubic_coefficient"
    })  # fmt: skip
    stored = torch.tensor(value).double()
    others = {0.0} if "zeros" in case.paddings and case.fill_value is None else set()
    assert set(output.double().flatten().tolist()) <= {stored.item()} | others
    assert stored.item() in output.double().flatten().tolist()
