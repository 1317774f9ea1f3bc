"""Images of integers and bools: copied bit for bit by nearest, rounded by the other modes."""

import itertools
import math
from dataclasses import replace

import boundaries
import pytest
import reference
import samples
import torch

import gridsample_ext
from gridsample_ext import _C, grid_sample

UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
DTYPES = (*UNSIGNED, *SIGNED, torch.bool)
ROUNDED = (torch.uint8, torch.int16)
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 16, 20)
LAYOUTS = [name for name in samples.INPUT_LAYOUTS if name != "sliced"]  # that one needs NaN
GRID_DTYPES = (torch.float32, torch.float64, torch.float16)
NEAREST = list(boundaries.cases(mode="nearest"))
SMOOTH = boundaries.smooth()


def any_bits(dtype, *shape, device="cpu"):
    """Elements of every value."""
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=samples.generator(7)).bool().to(device)
    whole = (*shape[:-1], shape[-1] * dtype.itemsize)
    draw = torch.randint(0, 256, whole, generator=samples.generator(7), dtype=torch.uint8)
    return draw.view(dtype).to(device)


def as_bits(tensor):
    """As integers that every operation takes."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(kinds[tensor.element_size()])


def with_values_of(dtype, case):
    """With numbers that the type holds in place of the case's."""
    fill = None if case.fill_value is None else 1.0
    outside = -1.0 if dtype in SIGNED else 0.0
    return replace(case, fill_value=fill, outside_value=case.outside_value and outside)


def copied(case, input, grid):
    """The bits that a sampling by nearest has to have, by the numbers of the pixels."""
    numbers = torch.arange(1.0, 1 + input[0, 0].numel(), dtype=torch.float64)
    marked = {} if case.outside_value is None else {"outside_value": -1.0}
    marked["coordinates"] = case.coordinates
    where = reference.grid_sample(
        numbers.reshape(1, 1, *input.shape[2:]), grid.cpu(), *case.options, **marked
    )
    ends = [
        as_bits(torch.tensor([value or 0]).to(input.dtype))
        for value in (case.fill_value, case.outside_value)
    ]
    N = max(input.shape[0], grid.shape[0])
    pixels = as_bits(input.cpu()).flatten(2).expand(N, -1, -1)
    fill, outside = (end.expand(*pixels.shape[:2], 1) for end in ends)
    table = torch.cat([fill, pixels, outside], -1)
    where = torch.where(where < 0, table.shape[-1] - 1, where).long().flatten(2)
    found = table.gather(-1, where.expand(N, pixels.shape[1], -1))
    return found.reshape(N, pixels.shape[1], *grid.shape[1:-1])


def drawn_grid(case, shape, dtype, device):
    sizes = shape.input_shape(case.dims)[2:]
    return samples.wide_grid(shape.grid_shape(case.dims), sizes, case.units, dtype, device)


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype", "grid_dtype"),
    boundaries.drawn(CHANNELS, LAYOUTS, DTYPES, GRID_DTYPES, of=NEAREST * 3),
    ids=str,
)
def test_nearest_copies_every_bit(case, channels, layout, dtype, grid_dtype, device):
    case = with_values_of(dtype, case)
    shape = samples.Shape("drawn", C=channels, size=(3, 4, 5), out=(2, 3, 20))
    grid = drawn_grid(case, shape, grid_dtype, device)
    input = any_bits(dtype, *shape.input_shape(case.dims), device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    output = grid_sample(input, grid, *case.options, **case.keywords)
    assert output.dtype == dtype
    assert not output.requires_grad
    assert torch.equal(as_bits(output).cpu(), copied(case, input, grid))
    floats = samples.INPUT_LAYOUTS[layout](torch.zeros(input.shape, device=device))
    like = grid_sample(floats, grid, *case.options, **case.keywords)
    assert output.stride() == like.stride()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [*samples.SHAPES, *samples.FEW_SAMPLES_SHAPES], ids=str)
@pytest.mark.parametrize("case", samples.cases(mode="nearest"), ids=str)
def test_nearest_of_every_shape(case, shape, dtype, device):
    """As images of floats that hold the same numbers."""
    input = any_bits(torch.bool, *shape.input_shape(case.dims), device=device)
    grid = drawn_grid(case, shape, torch.float32, device)
    expected = grid_sample(input.float(), grid, *case.options)
    output = grid_sample(input.to(dtype), grid, *case.options)
    assert output.dtype == dtype
    assert torch.equal(output.double(), expected.double())


@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.int64], ids=str)
def test_empty_ones(dtype, shape, device):
    case = samples.Case(2, "nearest", "zeros", False)
    input = torch.zeros(shape.input_shape(2), dtype=dtype, device=device)
    grid = torch.zeros(shape.grid_shape(2), device=device)
    expected = grid_sample(input.float(), grid, *case.options)
    output = grid_sample(input, grid, *case.options)
    assert (output.dtype, output.shape) == (dtype, expected.shape)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != torch.bool], ids=str)
def test_ends_of_the_type(dtype, device):
    ends = torch.iinfo(dtype)
    values = [ends.min, ends.max, ends.max - 1, ends.min + 1]
    image = torch.tensor(values, dtype=dtype).reshape(1, 1, 1, 4).to(device)
    grid = torch.tensor([[3.0, 0], [1.2, 0], [0, 0], [2, 0], [9, 0]], device=device)
    for channels in (1, 3, 20):
        output = grid_sample(
            image.expand(1, channels, 1, 4), grid[None, None], "nearest", coordinates="pixel"
        )
        expected = [values[3], values[1], values[0], values[2], 0]
        assert output.cpu()[0, :, 0].tolist() == [expected] * channels


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_bits_of_not_a_number(layout, channels, device):
    """Payloads and signs of NaN, and negative zeros, which an arithmetic copy would change."""
    bits = torch.tensor([0x7F800001, -0x3FFFFF, -1, -(2**31), 0x7FC12345], dtype=torch.int32)
    image = bits.repeat(channels * 4).reshape(1, channels, 4, 5).to(device)
    image = samples.INPUT_LAYOUTS[layout](image)
    grid = samples.identity_grid((4, 5), False, torch.float32, device)
    for of_type in (torch.int32, torch.uint32):
        output = grid_sample(image.view(of_type), grid, "nearest", align_corners=False)
        assert torch.equal(output.view(torch.int32), image)


PATHS = {
    "in registers": (torch.int32, 3, "contiguous"),
    "nearest planes": (torch.int64, 3, "contiguous"),
    "nearest rows": (torch.int16, 20, "channels_last"),
    "plain": (torch.uint8, 1, "far_rows"),
}


def with_far_rows(input):
    """Rows so far apart that 32 bits do not hold where they are, in memory that is never read."""
    whole = torch.empty((input.shape[-2] - 1 << 31) + input.shape[-1], dtype=input.dtype)
    strides = [1] * (input.dim() - 2) + [1 << 31, 1]
    return whole.as_strided(input.shape, strides).copy_(input)


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("path", PATHS)
def test_paths(path, device):
    """explain() names what runs."""
    dtype, channels, layout = PATHS[path]
    case = boundaries.Case(2, "nearest", "zeros", False)
    shape = samples.Shape("drawn", N=1, C=channels, size=(2, 5), out=(3, 20))
    layouts = {**samples.INPUT_LAYOUTS, "far_rows": with_far_rows}
    input = layouts[layout](any_bits(dtype, *shape.input_shape(2)))
    grid = drawn_grid(case, shape, torch.float32, device)
    assert gridsample_ext.explain(input, grid, *case.options).paths == {"output": path}
    output = grid_sample(input, grid, *case.options)
    assert _C.executed_paths()["output"] == path
    assert torch.equal(as_bits(output), copied(case, input.contiguous(), grid))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["fill_value", "outside_value"])
def test_values_that_the_type_does_not_hold(name, dtype, device):
    input = torch.zeros(1, 1, 4, 4, dtype=dtype, device=device)
    grid = torch.full((1, 2, 2, 2), 9.0, device=device)
    most = 1 if dtype == torch.bool else torch.iinfo(dtype).max
    least = 0 if dtype == torch.bool else torch.iinfo(dtype).min
    for value in (2.0 * (most + 1), -2.0 * (most + 1), 0.5, math.nan, math.inf, -math.inf):
        with pytest.raises((RuntimeError, ValueError), match=name):
            grid_sample(input, grid, "nearest", align_corners=False, **{name: value})
    for value in (least, most if most < 2**53 else 2**52 + 1):
        output = grid_sample(input, grid, "nearest", align_corners=False, **{name: value})
        assert output.flatten().tolist() == [value] * 4


@pytest.mark.parametrize("name", ["fill_value", "outside_value"])
@pytest.mark.parametrize(("dtype", "value"), [
    (torch.int64, 2**53 + 1), (torch.int64, 2**63 - 1), (torch.uint64, 2**63 - 1),
    (torch.uint64, 2**64 - 1),
], ids=str)  # fmt: skip
def test_values_are_never_rounded(dtype, value, name, device):
    """What a float64 does not hold is exact, or an error that names it."""
    input = torch.zeros(1, 1, 4, 4, dtype=dtype, device=device)
    grid = torch.full((1, 2, 2, 2), 9.0, device=device)
    try:
        output = grid_sample(input, grid, "nearest", align_corners=False, **{name: value})
        outcome = output.cpu().flatten().tolist()
    except (RuntimeError, ValueError) as error:
        outcome = str(error)
    assert outcome == [value] * 4 or name in outcome


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype", "grid_dtype"),
    boundaries.drawn(CHANNELS, LAYOUTS, ROUNDED, GRID_DTYPES, of=SMOOTH),
    ids=str,
)
def test_rounded(case, channels, layout, dtype, grid_dtype, device):
    """At most half from the reference, clamped: cubic weights overshoot."""
    shape = samples.Shape("drawn", C=channels, size=(3, 4, 5), out=(2, 3, 5))
    grid = drawn_grid(case, shape, grid_dtype, device)
    ends = torch.iinfo(dtype)
    input = torch.randint(0, 3, shape.input_shape(case.dims), generator=samples.generator())
    input = torch.tensor([ends.min, 99, ends.max], dtype=dtype)[input].to(device)
    input = samples.INPUT_LAYOUTS[layout](input)
    output = grid_sample(input, grid.requires_grad_(), *case.options, **case.keywords)
    assert output.dtype == dtype
    assert not output.requires_grad
    floating = input.double() if grid_dtype == torch.float64 else input.float()
    floats = grid_sample(floating, grid, *case.options, **case.keywords).detach()
    assert output.stride() == floats.stride()
    assert torch.equal(output.to(floats.dtype), floats.round().clamp(ends.min, ends.max))
    expected = reference.grid_sample(input, grid, *case.options, **case.keywords)
    off = output.cpu().double() - expected.clamp(ends.min, ends.max)
    assert off.abs().max() <= 0.5 + 1e-6 * (ends.max - ends.min)


@pytest.mark.parametrize("dtype", ROUNDED, ids=str)
def test_halves_are_rounded_to_even(dtype, device):
    image = torch.tensor([0, 1, 2, 3, 6, 7], dtype=dtype, device=device).reshape(1, 1, 1, 6)
    grid = torch.tensor([[0.5, 0], [1.5, 0], [2.5, 0], [4.5, 0], [5.5, 0]], device=device)
    output = grid_sample(image, grid[None, None], coordinates="pixel", fill_value=8)
    assert output.flatten().tolist() == [0, 2, 2, 6, 8]


@pytest.mark.parametrize("dims", [2, 3])
def test_overshoot_is_clamped(dims, device):
    image = torch.zeros(1, 1, *[5] * dims, dtype=torch.uint8, device=device)
    image[..., 1:4] = 255
    rows = torch.full((2, dims), 2.0)
    rows[:, 0] = torch.tensor([1.5, 0.4])
    grid = samples.in_a_row(rows, device, torch.float32)
    for input in (image, 255 - image):
        floats = grid_sample(input.float(), grid, "bicubic", coordinates="pixel")
        rounded = grid_sample(input, grid, "bicubic", coordinates="pixel")
        assert floats.max() > 255 or floats.min() < 0
        assert torch.equal(rounded.float(), floats.round().clamp(0, 255))


@pytest.mark.parametrize("dtype", ROUNDED, ids=str)
def test_values_outside_are_rounded_and_clamped(dtype, device):
    """And are 0 where they are not numbers."""
    image = torch.ones(1, 1, 3, 3, dtype=dtype, device=device)
    grid = torch.full((1, 1, 1, 2), 9.0, device=device)
    ends = torch.iinfo(dtype)
    results = {
        2.5: 2, 3.5: 4, math.inf: ends.max, -math.inf: ends.min, 1e9: ends.max, math.nan: 0
    }  # fmt: skip
    for (value, result), name in itertools.product(results.items(), boundaries.LATER):
        if name in ("fill_value", "outside_value"):
            output = grid_sample(image, grid, align_corners=False, **{name: value})
            assert output.item() == result


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype not in ROUNDED], ids=str)
def test_other_integers_are_not_interpolated(dtype, mode, device):
    input = torch.ones(1, 2, 3, 4, dtype=dtype, device=device)
    grid = torch.zeros(1, 2, 2, 2, device=device)
    with pytest.raises(NotImplementedError) as error:
        grid_sample(input, grid, mode, align_corners=False)
    for word in ("nearest", "uint8", "int16", str(dtype), mode, "[1, 2, 3, 4]"):
        assert word in str(error.value)


@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("dtype", ROUNDED, ids=str)
def test_transforms_and_programs(dtype, mode):
    """vmap, torch.compile, torch.export and the meta device."""
    images = any_bits(dtype, 3, 2, 2, 4, 5)
    grid = torch.rand(2, 3, 6, 2, generator=samples.generator()) * 3 - 1.5

    class Sampler(torch.nn.Module):
        def forward(self, image, grid):
            return grid_sample(image, grid, mode, align_corners=False, outside_value=7.0)

    expected = torch.stack([Sampler()(image, grid) for image in images])
    assert torch.equal(torch.vmap(Sampler(), (0, None))(images, grid), expected)
    torch.compiler.reset()
    compiled = torch.compile(Sampler(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(images[0], grid), expected[0])
    program = torch.export.export(Sampler(), (images[0], grid))
    assert torch.equal(program.module()(images[0], grid), expected[0])
    on_meta = Sampler()(images[0].to("meta"), grid.to("meta"))
    assert (on_meta.dtype, on_meta.shape) == (dtype, expected[0].shape)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint64], ids=str)
def test_opcheck_of_nearest(dtype, device):
    pytest.importorskip("expecttest")  # which opcheck imports
    case = boundaries.Case(2, "nearest", "zeros", False, "pixel", 1.0, 0.0)
    grid = drawn_grid(case, samples.SMALL, torch.float32, device).requires_grad_()
    arguments = any_bits(dtype, 2, 3, 4, 5, device=device), grid, *case.op_options, *case.later
    torch.library.opcheck(torch.ops.gridsample_ext.grid_sample.default, arguments)


def test_rounded_once_with_a_float64_grid(device):
    """The float64 value is a little above a half."""
    image = torch.tensor([[[[2, 3]]]], dtype=torch.uint8, device=device)
    points = torch.tensor([[[[0.5 + 1e-9, 0.0]]]], dtype=torch.float64, device=device)
    assert grid_sample(image, points, coordinates="pixel").item() == 3


def test_values_are_checked_of_an_empty_output_too(device):
    image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8, device=device)
    grid = torch.zeros(1, 0, 2, 2, device=device)
    with pytest.raises(RuntimeError, match="outside_value"):
        grid_sample(image, grid, "nearest", align_corners=False, outside_value=0.5)
