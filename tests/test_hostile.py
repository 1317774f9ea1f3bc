"""Coordinates and pixels that break careless kernels: non-finite, huge, on borders and on ties.

torch is no oracle here: its kernels disagree about NaN. The reference computes coordinates exactly
as specified, so that even where they sit on a jump the ordinary tolerances hold.
"""

import itertools
import math

import pytest
import reference
import samples
import torch
from agreement import assert_matches_reference

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

# -2^24 - 3: no fractions left in float32; 1e18, 1e30: folds that fit no integer; the largest float
HOSTILE = (
    math.nan,
    math.inf,
    -math.inf,
    1e30,
    -1e30,
    1e18,
    -16777219.0,
    70000.3,
    3.4028234663852886e38,
    -1.0,
    0.3,
)


def points(values, dims, device, dtype):
    """Every value beside every other, (1, ..., dims); z runs through them in another order."""
    pairs = list(itertools.product(range(len(values)), repeat=2))
    rows = [[values[i], values[j], values[(i + 2 * j) % len(values)]][:dims] for i, j in pairs]
    return samples.in_a_row(torch.tensor(rows, dtype=torch.float64), device, dtype)


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_hostile_coordinates(case, dtype, device):
    input = samples.randn(1, 2, *(2, 3, 5)[-case.dims :], dtype=dtype, device=device)
    assert_matches_reference(case, input, points(HOSTILE, case.dims, device, dtype))


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_few_hostile_coordinates_in_float64(case, dtype, device):
    """So few that the CPU copies no image; see samples.FEW_SAMPLES."""
    values = (math.nan, math.inf, -math.inf, 1e30, -16777219.0, 70000.3, 0.3)
    size = {2: (230, 240), 3: (40, 70, 72)}[case.dims]
    input = samples.randn(1, 2, *size, dtype=dtype, device=device)
    input[..., 0] = math.inf
    assert_matches_reference(case, input, points(values, case.dims, device, torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_hostile_coordinates_among_ordinary_ones(case, dtype, device):
    """One hostile sample in a vector of good ones, at every place in it, spoils only itself."""
    input = samples.randn(1, 3, *[7] * case.dims, dtype=dtype, device=device)
    shape = (1, *[1] * (case.dims - 1), 32, case.dims)
    good = samples.interior_grid(shape, input.shape[2:], case.align_corners, dtype, device)
    undisturbed = grid_sample(input, good, *case.options)
    for hostile, place in itertools.product((math.nan, math.inf, -1e30), range(0, 32, 3)):
        grid = good.clone()
        grid[..., place, :] = hostile
        output = grid_sample(input, grid, *case.options)
        assert output[..., place].isfinite().all()
        output[..., place] = undisturbed[..., place]
        samples.assert_close(output, undisturbed.double())


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_nan_is_read_as_minus_one_and_inf_as_the_largest(case, dtype, device):
    input = samples.randn(1, 2, *(4, 3, 5)[-case.dims :], dtype=dtype, device=device)
    # infinity is the largest value of the compute type, which a half grid cannot spell
    real = reference.compute_dtype(input)
    grid = points((math.nan, math.inf, -math.inf, 0.3), case.dims, device, dtype)
    largest = torch.finfo(real).max
    plain = grid.to(real).nan_to_num(nan=-1.0, posinf=largest, neginf=-largest)
    samples.assert_bitwise_equal(
        grid_sample(input, grid, *case.options), grid_sample(input, plain, *case.options)
    )


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_non_finite_coordinates_have_no_gradient(case, device):
    """Exactly zero, even over infinite pixels and under an infinite gradient."""
    grid = points((math.nan, math.inf, -math.inf), case.dims, device, torch.float32)
    for value in (1.0, math.inf, math.nan):
        input = torch.full((1, 2, *[3] * case.dims), value, device=device)
        grad_output = torch.full((1, 2, *grid.shape[1:-1]), value, device=device)
        _, grad_grid = grid_sample_backward(
            grad_output, input, grid, *case.op_options, [False, True]
        )
        assert torch.equal(grad_grid, torch.zeros_like(grid))


@pytest.mark.parametrize(
    "case", [c for c in samples.cases(mode="bilinear") if c.padding_mode != "zeros"], ids=str
)
def test_clamped_coordinates_have_no_gradient(case, device):
    """Beyond the border pixels' centres; reflection clamps only the half pixel up to the edges."""
    input = torch.full((1, 1, *[4] * case.dims), math.inf, device=device)
    u = torch.tensor(
        [-0.5, -0.25, 0.0, 3.0, 3.25, 3.5] + ([-7.0, 9.0] if case.padding_mode == "border" else [])
    )
    if case.padding_mode == "reflection" and case.align_corners:
        u = torch.tensor([0.0, 3.0, 6.0, -3.0])  # the turning points alone
    grid = samples.normalize(
        u.double()[:, None].expand(-1, case.dims), input.shape[2:], case.align_corners
    )
    grid = samples.in_a_row(grid, device)
    grad_output = torch.ones(1, 1, *grid.shape[1:-1], device=device)
    _, grad_grid = grid_sample_backward(grad_output, input, grid, *case.op_options, [False, True])
    assert torch.equal(grad_grid, torch.zeros_like(grid))


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_infinite_pixels_outside_the_footprint(case, device):
    """One sample inside an image that is infinite wherever the sample has no tap."""
    input, grid = samples.amid_infinity(case, device)
    assert grid_sample(input, grid, *case.options).isfinite().all()
    assert_matches_reference(case, input, grid)


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros"), ids=str)
def test_infinite_pixels_far_from_samples_outside(case, value, device):
    """A tap outside is skipped: not a pixel read at a clamped index and multiplied by zero."""
    input = torch.full((1, 2, *[3] * case.dims), value, device=device)
    grid = points((-50.0, 7.0, 1e30, math.inf), case.dims, device, torch.float32)
    output = grid_sample(input, grid, *case.options)
    assert torch.equal(output, torch.zeros_like(output))
    _, grad_grid = grid_sample_backward(
        torch.ones_like(output), input, grid, *case.op_options, [False, True]
    )
    assert torch.equal(grad_grid, torch.zeros_like(grid))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros"), ids=str)
def test_sample_outside_under_infinite_gradient(case, channels_last, device):
    """No tap, no gradient: not an infinity times a sum of nothing."""
    input = samples.randn(1, 16, *[3] * case.dims, dtype=torch.float32, device=device)
    if channels_last:
        input = samples.channels_last(input)
    grid = points((-50.0, 7.0), case.dims, device, torch.float32)
    grad_output = torch.full((1, 16, *grid.shape[1:-1]), math.inf, device=device)
    gradients = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
    for gradient in gradients:
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_borders_and_ties(case, dtype, device):
    """Every half pixel from before the image to behind it, in sizes exact in binary and not."""
    for size in (3, 4, 5):
        input = samples.randn(1, 2, *[size] * case.dims, dtype=dtype, device=device)
        u = torch.arange(-5, 2 * size + 5, dtype=torch.float64) / 2
        places = torch.stack([u, u.flip(0), u.roll(3)], -1)[:, : case.dims]
        grid = samples.normalize(places, input.shape[2:], case.align_corners)
        assert_matches_reference(case, input, samples.in_a_row(grid, device, dtype))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
def test_nearest_rounds_half_to_even(dtype, align_corners, device):
    size = 5 if align_corners else 4
    input = torch.arange(size, dtype=dtype, device=device).reshape(1, 1, 1, size)
    u = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)
    grid = samples.normalize(torch.stack([u, 0 * u], -1), (1, size), align_corners).reshape(
        1, 1, 3, 2
    )
    output = grid_sample(input, grid.to(device, dtype), "nearest", "zeros", align_corners)
    assert output.flatten().tolist() == [0, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="reflection"), ids=str)
def test_far_out_reflection_is_periodic(case, dtype, device):
    """The mirrored image has period 4 in grid units: adding 4·2^k, exactly, changes no tap."""
    input = samples.randn(
        1, 2, *[5 if case.align_corners else 4] * case.dims, dtype=dtype, device=device
    )
    rows = (
        torch.randint(-96, 96, (40, case.dims), generator=samples.generator(5)).to(torch.float64)
        / 32
    )
    grid = samples.in_a_row(rows, device, dtype)
    near = grid_sample(input, grid, *case.options)
    for k in (0, 7, 13):
        for sign in (1, -1):
            far = grid_sample(input, grid + sign * 4 * 2**k, *case.options)
            samples.assert_close(far, near.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="reflection"), ids=str)
def test_far_out_reflection(case, dtype, device):
    """At many powers of ten, in sizes where an inexact fold goes astray: no powers of two."""
    input = samples.randn(1, 2, *(3, 5, 7)[-case.dims :], dtype=dtype, device=device)
    values = [sign * 1.2345678 * 10.0**k for k in range(0, 39, 3) for sign in (1, -1)]
    rows = torch.tensor(
        [[x, values[-i], values[i // 2]][: case.dims] for i, x in enumerate(values)]
    )
    assert_matches_reference(case, input, samples.in_a_row(rows, device, dtype))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [(3, 5, 7), (1, 6, 1), (33, 2, 70)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="reflection"), ids=str)
def test_reflection_depends_on_no_other_sample(case, dtype, size, layout, device):
    """How samples are folded may be decided for several of them: by the one farthest out."""
    size = size[-case.dims :]
    input = samples.INPUT_LAYOUTS[layout](samples.randn(1, 3, *size, dtype=dtype, device=device))
    # Folded once at most, some next to the folds. Cubic taps are up to two pixels farther out.
    low, high = (-4.7, 2.7) if case.mode in samples.CUBIC_MODES else (-4.99999, 2.99999)
    once = low + (high - low) * torch.rand(
        60, case.dims, generator=samples.generator(4), dtype=torch.float64
    )
    folds = torch.tensor([-3.0, -1.0, 1.0], dtype=dtype)
    beside = [torch.nextafter(folds, torch.tensor(end, dtype=dtype)) for end in (-9.0, 9.0)]
    once[:11] = torch.cat([torch.tensor([low, high]), folds, *beside])[:, None]
    results = []
    for value in (0.0, 3.5, -5.5, 1e3, 1e8, -1e30):
        rows = torch.cat([once, torch.full((1, case.dims), value, dtype=torch.float64)])
        grid = samples.in_a_row(rows, device, dtype)
        output = grid_sample(input, grid, *case.options)
        grad_output = samples.grad_like(input, grid)
        gradients = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
        results.append((output[..., :60], gradients[1][..., :60, :]))
    for output, grad_grid in results[1:]:
        samples.assert_bitwise_equal(output, results[0][0])
        samples.assert_bitwise_equal(grad_grid, results[0][1])
