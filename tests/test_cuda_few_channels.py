"""The CUDA kernel for images of one to four channels: when it is chosen, and what it computes.

forward_planes, which takes every other image in planes, computes the same bits. A grid whose
coordinates do not lie side by side is its way of being asked.
"""

import math

import pytest
import samples
import torch
from agreement import assert_matches_reference

from gridsample_ext import grid_sample

pytestmark = pytest.mark.devices("emulated-cuda", "cuda")
emulated_only = pytest.mark.devices("emulated-cuda")

CASES = [case for case in samples.cases(dims=2) if case.mode not in samples.CUBIC_MODES]
# Sizes of images, of outputs, and batches: less than a tile, several, and what fills none.
SHAPES = [
    samples.Shape("one_pixel", size=(1, 1, 1), out=(1, 3, 5)),
    samples.Shape("one_row", size=(1, 1, 9), out=(1, 3, 5)),
    samples.Shape("one_column", size=(1, 9, 1), out=(1, 3, 5)),
    samples.Shape("two_pixels", size=(1, 2, 2), out=(1, 32, 32)),
    samples.Shape("row_of_samples", size=(1, 60, 70), out=(1, 1, 1100)),
    samples.Shape("column_of_samples", size=(1, 60, 70), out=(1, 1100, 1)),
    samples.Shape("square", N=3, size=(1, 60, 70), out=(1, 30, 30)),
    samples.Shape("tiles", N=1, size=(1, 60, 70), out=(1, 259, 290)),
    samples.Shape("input_broadcast", size=(1, 60, 70), out=(1, 9, 40), N_input=1, N_grid=3),
    samples.Shape("grid_broadcast", size=(1, 60, 70), out=(1, 9, 40), N_input=3, N_grid=1),
]
SHAPES_BY_NAME = {shape.name: shape for shape in SHAPES}
HOSTILE = (math.nan, math.inf, -math.inf, 3e38, -3e38, 1e10, -1e10, 1e-40, -1.0, 1.0, 0.0)


def hostile_grid(shape, sizes, align_corners, dtype, device):
    """Most samples well inside, so that warps are; and in each third row some that are anything."""
    grid = samples.interior_grid(shape, sizes, align_corners, dtype, "cpu")
    flat = grid.view(-1)
    for i, value in enumerate(HOSTILE):
        flat[i * 97 % flat.numel()] = value
    return grid.to(device)


def lattice_grid(shape, sizes, align_corners, dtype, device):
    """Pixel centres, edges and their neighbours in the type, in and about the image."""
    lengths = torch.tensor(sizes[::-1], dtype=torch.float64)
    r = torch.rand(shape, generator=samples.generator(), dtype=torch.float64)
    u = torch.floor(r * (2 * lengths + 4) - 2) / 2
    grid = samples.normalize(u, sizes, align_corners).to(dtype)
    ulps = torch.randint(-1, 2, shape, generator=samples.generator(1))
    direction = torch.where(ulps > 0, math.inf, -math.inf).to(dtype)
    return torch.where(ulps == 0, grid, torch.nextafter(grid, direction)).to(device)


def corner_grid(shape, sizes, align_corners, dtype, device):
    """All in the first pixel, about which reflection folds."""
    r = torch.rand(shape, generator=samples.generator(), dtype=torch.float64)
    return samples.normalize(0.999 * r**8, sizes, align_corners).to(device, dtype)


GRIDS = {
    "inside": samples.interior_grid,
    "corner": corner_grid,
    "wide": samples.wide_grid,
    "hostile": hostile_grid,
    "lattice": lattice_grid,
}


def draw(case, shape, C, make_grid, device):
    shape = samples.Shape(**{**vars(shape), "C": C})
    return samples.sample(case, shape, torch.float32, device=device, make_grid=make_grid)


@pytest.mark.parametrize("make_grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("C", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_as_with_any_strides(case, shape, C, make_grid, device):
    input, grid = draw(case, shape, C, make_grid, device)
    apart = samples.GRID_LAYOUTS["coordinates_first"](grid)
    samples.assert_bitwise_equal(
        grid_sample(input, grid, *case.options), grid_sample(input, apart, *case.options)
    )


@pytest.mark.parametrize("C", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.name != "tiles"], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case, shape, C, device):
    for make_grid in (samples.interior_grid, samples.wide_grid):
        assert_matches_reference(case, *draw(case, shape, C, make_grid, device))


@pytest.mark.parametrize("seed", samples.SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_order_of_threads_does_not_matter(case, seed, device, monkeypatch):
    arguments = draw(case, SHAPES_BY_NAME["row_of_samples"], 3, hostile_grid, device)
    expected = grid_sample(*arguments, *case.options)
    monkeypatch.setenv("GRIDSAMPLE_EMULATION_SHUFFLE", seed)
    samples.assert_bitwise_equal(grid_sample(*arguments, *case.options), expected)


def test_infinite_pixels_without_a_tap(device):
    """Of samples inside, too, only their own pixels are read."""
    for case in CASES:
        input, grid = samples.amid_infinity(case, device)
        grid = grid.expand(1, 3, 40, 2).contiguous()
        output = grid_sample(input.float(), grid.float(), *case.options)
        assert output.isfinite().all()


@pytest.mark.parametrize("padding_mode", samples.PADDING_MODES)
def test_last_row_and_column_have_no_next(padding_mode, device):
    """There the second of two taps is outside, and what follows in memory is not read."""
    input = torch.ones(1, 2, 5, 9, device=device)
    input[:, 1, 0] = input[:, :, :, 0] = math.inf
    u = 1 + 2 * torch.rand(1, 4, 40, 2, generator=samples.generator(), dtype=torch.float64)
    for axis, last in ((0, 8), (1, 4)):
        at = u.clone()
        at[:, ::2, :, axis] = last
        grid = samples.normalize(at, input.shape[2:], True).to(device, torch.float32)
        assert (grid[:, ::2, :, axis] == 1).all()
        output = grid_sample(input, grid, "bilinear", padding_mode, True)
        torch.testing.assert_close(output, torch.ones_like(output))


@emulated_only
@pytest.mark.parametrize("C", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_chosen(case, shape, C, device, launched):
    arguments = draw(case, shape, C, samples.wide_grid, device)
    launched()
    grid_sample(*arguments, *case.options)
    assert launched() == {"forward_few_channels"}


@emulated_only
def test_is_chosen_for_crops(device, launched):
    """Rows of an image may lie apart, and so may its channels."""
    case = CASES[0]
    input, grid = draw(case, SHAPES_BY_NAME["square"], 3, samples.wide_grid, device)
    expected = grid_sample(input, grid, *case.options)
    wide = torch.cat([input, input], -1)[..., : input.shape[-1]]
    assert not wide.is_contiguous()
    launched()
    samples.assert_bitwise_equal(grid_sample(wide, grid, *case.options), expected)
    assert launched() == {"forward_few_channels"}


def misaligned(grid):
    """The same grid, 4 bytes behind a multiple of 8."""
    memory = grid.new_empty(grid.numel() + 1)
    return memory[1:].view(grid.shape).copy_(grid)


REFUSED = {
    "many_channels": (lambda x: torch.cat([x, x], 1), lambda g: g, "forward_planes"),
    "channels_last": (samples.channels_last, lambda g: g, "forward_planes"),
    "transposed": (samples.INPUT_LAYOUTS["spatial_transposed"], lambda g: g, "forward_planes"),
    "expanded": (samples.INPUT_LAYOUTS["expanded_width"], lambda g: g, "forward_planes"),
    "half": (lambda x: x.half(), lambda g: g, "forward_planes"),
    "double": (lambda x: x.double(), lambda g: g, "forward_planes"),
    "half_grid": (lambda x: x, lambda g: g.half(), "forward_planes"),
    "double_grid": (lambda x: x, lambda g: g.double(), "forward_planes"),
    "grid_apart": (lambda x: x, samples.GRID_LAYOUTS["coordinates_first"], "forward_planes"),
    "sliced_grid": (lambda x: x, samples.sliced, "forward_planes"),
    "misaligned_grid": (lambda x: x, misaligned, "forward_planes"),
    "rows": (
        lambda x: samples.channels_last(torch.cat([x, x[:, :1]], 1)),
        lambda g: g,
        "forward_rows",
    ),
}


@emulated_only
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_not_chosen_for(case, name, device, launched):
    change_input, change_grid, kernel = REFUSED[name]
    input, grid = draw(case, SHAPES_BY_NAME["square"], 3, samples.wide_grid, device)
    input, grid = change_input(input), change_grid(grid)
    launched()
    grid_sample(input, grid, *case.options)
    assert launched() == {kernel}


@emulated_only
def test_is_not_chosen_for_other_modes_and_volumes(device, launched):
    for case in samples.CASES:
        if case in CASES:
            continue
        arguments = samples.sample(case, dtype=torch.float32, device=device)
        launched()
        grid_sample(*arguments, *case.options)
        assert launched() == {"forward_planes"}


@emulated_only
def test_is_not_chosen_for_more_images_than_a_launch_has(device, launched):
    case = CASES[0]
    arguments = draw(
        case,
        samples.Shape("many", N=65536, size=(1, 2, 2), out=(1, 1, 2)),
        1,
        samples.wide_grid,
        device,
    )
    launched()
    grid_sample(*arguments, *case.options)
    assert launched() == {"forward_planes"}
