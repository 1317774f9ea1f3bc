"""inside(): the samples that outside_value leaves alone."""

import itertools
import math

import boundaries
import pytest
import samples
import torch
from torch.export import Dim

import gridsample_ext
from gridsample_ext import grid_sample, inside

CALLS = list(itertools.product((2, 3), (False, True), ("normalized", "pixel")))
SHAPES = [
    samples.Shape("small", size=(3, 4, 5), out=(3, 7, 11)),
    samples.Shape("one_pixel", size=(1, 1, 1), out=(3, 7, 11)),
    samples.Shape("one_row", N=1, size=(2, 1, 9), out=(1, 1, 40)),
]


def marked(grid, size, align_corners, coordinates, dtype=torch.float32, mode="nearest"):
    """Where grid_sample does not give the outside value."""
    image = torch.zeros(1, 1, *size, dtype=dtype, device=grid.device)
    output = grid_sample(
        image, grid, mode, "border", align_corners, coordinates=coordinates, outside_value=1.0
    )
    return output[:, 0] == 0


@pytest.mark.parametrize("image_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize(("dims", "align_corners", "coordinates"), CALLS)
def test_random_grids(dims, align_corners, coordinates, mode, shape, dtype, image_dtype, device):
    size = shape.input_shape(dims)[2:]
    units = None if coordinates == "pixel" else align_corners
    grid = samples.wide_grid(shape.grid_shape(dims), size, units, dtype, device)
    mask = inside(grid, size, align_corners, coordinates=coordinates, dtype=image_dtype)
    assert (mask.dtype, mask.device, mask.shape) == (torch.bool, grid.device, grid.shape[:-1])
    expected = marked(grid, size, align_corners, coordinates, image_dtype, mode)
    assert torch.equal(mask, expected)
    if shape.name == "small":
        assert 0 < mask.sum() < mask.numel()


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("image_dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 255])
@pytest.mark.parametrize(("dims", "align_corners", "coordinates"), CALLS)
def test_edges(dims, align_corners, coordinates, size, image_dtype, dtype, device):
    """The numbers next to each end, and those that are none."""
    units = None if coordinates == "pixel" else align_corners
    ends = torch.tensor([[-0.5], [size - 0.5], [0.0], [size / 2]], dtype=torch.float64)
    ends = samples.normalize(ends, (size,), units).flatten().to(dtype)
    around = [ends, ends.nextafter(ends + 9), ends.nextafter(ends - 9)] if dtype in (
        torch.float32, torch.float64
    ) else [ends, ends * 1.01, ends * 0.99]  # fmt: skip
    values = torch.cat([*around, torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)])
    rows = torch.zeros(len(values) * dims, dims, dtype=dtype)
    for axis in range(dims):
        rows[axis * len(values) : (axis + 1) * len(values), axis] = values
    grid = samples.in_a_row(rows, device, dtype)
    mask = inside(grid, (size,) * dims, align_corners, coordinates=coordinates, dtype=image_dtype)
    expected = marked(grid, (size,) * dims, align_corners, coordinates, image_dtype)
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("align_corners", [False, True])
def test_pixel_edges_are_inside(align_corners, device):
    ulp = 2.0**-20
    rows = torch.tensor([
        [-0.5, 0.0], [3.5, 1.5], [1.0, -0.5], [math.nan, 1.0],
        [-0.5 - ulp, 0.0], [3.5 + ulp, 0.0], [0.0, 1.5 + ulp], [math.inf, 0.0], [0.0, -1e30],
    ])  # fmt: skip
    mask = inside(rows[None, None].to(device), (2, 4), align_corners, coordinates="pixel")
    assert mask.flatten().tolist() == [True] * 4 + [False] * 5
    assert torch.equal(mask, inside(rows[None, None].to(device), [2, 4], coordinates="pixel"))


def test_dtype_of_the_image_decides_about_coordinates(device):
    """Computed in float64 a grid value next to 1 is farther out than in float32."""
    grid = torch.tensor([1.0 + 2.0**-23, 0.0], device=device).reshape(1, 1, 1, 2)
    for image_dtype, size in itertools.product(samples.DTYPES, (3, 1000, 1001)):
        mask = inside(grid, (1, size), False, dtype=image_dtype)
        assert torch.equal(mask, marked(grid, (1, size), False, "normalized", image_dtype))


def test_size_of_an_image_and_empty_grids(device):
    image = torch.zeros(2, 3, 4, 5, device=device)
    for shape in ((0, 3, 4, 2), (2, 0, 4, 2)):
        mask = inside(torch.zeros(shape, device=device), image.shape[2:], False)
        assert mask.shape == shape[:-1]


@pytest.mark.parametrize("coordinates", ["normalized", "pixel"])
def test_transforms_and_programs(coordinates):
    grids = torch.rand(3, 2, 4, 5, 2, generator=samples.generator()) * 9 - 4

    def call(grid):
        return inside(grid, (3, 4), False, coordinates=coordinates)

    expected = torch.stack([call(grid) for grid in grids])
    assert torch.equal(torch.vmap(call)(grids), expected)
    torch.compiler.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True, dynamic=True)
    assert torch.equal(compiled(grids[0]), expected[0])
    assert call(grids[0].to("meta")).shape == expected[0].shape
    mask = call(grids[0].requires_grad_())
    assert not mask.requires_grad


BAD = {
    "coordinates": ({"coordinates": "pixels"}, ValueError, ["coordinates", "'pixels'", "'pixel'"]),
    "grid": ({"grid": [[1.0]]}, TypeError, ["grid", "Tensor", "list"]),
    "align_corners": ({"align_corners": 1}, TypeError, ["align_corners", "bool", "int"]),
    "sizes_of_grid": ({"grid": torch.zeros(2, 3, 2)}, RuntimeError, ["grid", "[2, 3, 2]"]),
    "coordinates_of_grid": ({"grid": torch.zeros(1, 2, 3, 3)}, RuntimeError, ["[1, 2, 3, 3]"]),
    "volume": ({"size": (2, 3, 4)}, RuntimeError, ["size", "(2, 3, 4)", "[1, 2, 3, 2]"]),
    "one_size": ({"size": (2,)}, ValueError, ["size", "(2,)", "(H, W)"]),
    "no_sizes": ({"size": 8}, ValueError, ["size", "8", "shape[2:]"]),
    "whole_shape": ({"size": (1, 3, 8, 8)}, ValueError, ["size", "(1, 3, 8, 8)", "shape[2:]"]),
    "image": ({"size": torch.zeros(1, 1, 4, 5)}, ValueError, ["size", "Tensor", "[1, 1, 4, 5]"]),
    "text": ({"size": "45"}, ValueError, ["size", "'45'"]),
    "texts": ({"size": ("4", "5")}, TypeError, ["size", "ints", "('4', '5')"]),
    "nothing": ({"size": (4, None)}, TypeError, ["size", "ints", "(4, None)"]),
    "halves": ({"size": (4, 4.5)}, TypeError, ["size", "ints", "(4, 4.5)"]),
    "bool": ({"size": (True, 4)}, TypeError, ["size", "ints", "(True, 4)"]),
    "zero": ({"size": (0, 4)}, ValueError, ["size", "above 0", "(0, 4)"]),
    "negative": ({"size": (-1, 4)}, ValueError, ["size", "above 0", "(-1, 4)"]),
    "integers": ({"grid": torch.zeros(1, 2, 3, 2).long()}, RuntimeError, ["grid", "int64"]),
    "sparse": ({"grid": torch.zeros(1, 2, 3, 2).to_sparse()}, NotImplementedError,
               ["grid", "strided", "[1, 2, 3, 2]", "sparse"]),
    "dtype": ({"dtype": "float64"}, TypeError, ["dtype", "str"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    changes, kind, words = BAD[name]
    arguments = {"grid": torch.zeros(1, 2, 3, 2), "size": (4, 5), "align_corners": False} | changes
    with pytest.raises(kind, match=r"inside\(\)") as error:
        inside(**arguments)
    for word in words:
        assert word in str(error.value)


def test_default_of_align_corners():
    """PyTorch's warning where it matters."""
    grid = torch.zeros(1, 2, 3, 2)
    with pytest.warns(UserWarning, match="align_corners=False"):
        inside(grid, (4, 5))
    assert inside(grid, (4, 5), coordinates="pixel").all()


def test_exported():
    assert {"inside", "sample_labels"} <= set(gridsample_ext.__all__)
    assert inside.__doc__
    assert all(f"{name}:" in gridsample_ext.sample_labels.__doc__ for name in boundaries.LATER)


def test_beyond_the_integers_and_a_half_of_float32(device):
    """S - 0.5 is no float32; S is outside all the same."""
    size = 2**23 + 2
    image = torch.ones(1, 1, 1, 1, device=device).expand(1, 1, 1, size)
    points = torch.tensor([[[[size - 1.0, 0.0], [float(size), 0.0]]]], device=device)
    assert inside(points, (1, size), coordinates="pixel").flatten().tolist() == [True, False]
    output = grid_sample(image, points, "nearest", coordinates="pixel", outside_value=7.0)
    assert output.flatten().tolist() == [1, 7]


def test_of_a_complex_image(device):
    """Coordinates of complex128 images are float64."""
    points = torch.linspace(0.9999, 1.0001, 20001, device=device)[None, None, :, None]
    points = torch.cat([points, torch.zeros_like(points)], -1)
    image = torch.ones(1, 1, 1, 1000, dtype=torch.complex128, device=device)
    marked = grid_sample(image, points, align_corners=False, outside_value=7.0).real != 7
    told = inside(points, (1, 1000), align_corners=False, dtype=image.dtype)
    assert torch.equal(marked[:, 0], told)


@pytest.mark.parametrize("size", [2**24 + 3, 2**24 + 4])
def test_sizes_that_float32_does_not_hold(size, device):
    """The last pixel is the largest number below; csrc/math/coordinates.h."""
    ends = [size - 3.0, size - 2.0, size - 1.0, float(size), size + 1.0, size + 4.0]
    grid = torch.stack([torch.tensor(ends), torch.zeros(len(ends))], -1)[None, None].to(device)
    image = torch.zeros(1, 1, 1, 1, device=device).expand(1, 1, 1, size)
    output = grid_sample(image, grid, "nearest", "border", coordinates="pixel", outside_value=1.0)
    mask = inside(grid, (1, size), coordinates="pixel")
    assert torch.equal(mask, output[:, 0] == 0)
    assert mask[0, 0, 0]
    assert not mask[0, 0, -1]


class Inside(torch.nn.Module):
    """For images of any size."""

    def forward(self, grid, image):
        """Tell which samples of the grid lie on the image."""
        return inside(grid, image.shape[2:], align_corners=False)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_for_any_size(strict):
    """Nothing is asked of the sizes, which have no bounds."""
    grid, image = torch.rand(2, 5, 6, 2) * 3 - 1.5, torch.zeros(2, 3, 4, 7)
    shapes = {"grid": {0: Dim("N")}, "image": {2: Dim("H"), 3: Dim("W")}}
    program = torch.export.export(Inside(), (grid, image), dynamic_shapes=shapes, strict=strict)
    assert program.module()(grid, image.new_zeros(2, 3, 9, 3)).shape == grid.shape[:-1]
    bounds = [str(bound.upper) for bound in program.range_constraints.values()]
    assert bounds == ["int_oo"] * len(bounds)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.")  # deprecated by torch itself
def test_traced():
    grid, image = torch.rand(2, 5, 6, 2) * 3 - 1.5, torch.zeros(2, 3, 4, 7)
    traced = torch.jit.trace(Inside(), (grid, image))
    other = torch.zeros(1, 1, 9, 3)
    assert torch.equal(traced(grid, other), Inside()(grid, other))
