"""Integers, complex numbers and labels elsewhere: DTensor, decompositions, memory, derivatives."""

import boundaries
import pytest
import samples
import torch
from test_distributed import (
    RANKS,
    distribute,
    mesh_of,
    parse,
    processes,  # noqa: F401  a fixture
)
from test_distributed import pytestmark as needs_processes
from test_integers import any_bits, as_bits
from test_memory import guarded

from gridsample_ext import decompositions, grid_sample, inside, sample_labels

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")

GRID = torch.rand(2, 3, 7, 2, generator=samples.generator()) * 2.4 - 1.2
CALLS = {
    "copied": (lambda *a: grid_sample(*a, "nearest", align_corners=False), torch.int64),
    "copied_bools": (
        lambda *a: grid_sample(*a, "nearest", align_corners=True, outside_value=1), torch.bool
    ),
    "rounded": (lambda *a: grid_sample(*a, "bicubic", align_corners=False), torch.uint8),
    "complex": (lambda *a: grid_sample(*a, align_corners=False), torch.complex64),
    "complex_with_values": (
        lambda *a: grid_sample(*a, align_corners=False, outside_value=2.5), torch.complex64
    ),
    "labels": (lambda *a: sample_labels(*a, align_corners=False), torch.int32),
    "labels_outside": (
        lambda *a: sample_labels(*a, align_corners=True, fill_value=7, outside_value=-3),
        torch.int64,
    ),
}  # fmt: skip


def image_of(dtype, *shape):
    if dtype.is_complex:
        return torch.complex(samples.randn(*shape), samples.randn(*shape, seed=1)).to(dtype)
    return any_bits(dtype, *shape)


def check_placements(name):
    """Split along the batch, channels and samples, and along the image, which is exchanged."""
    call, dtype = CALLS[name]
    image, mesh = image_of(dtype, 2, 4, 4, 5), mesh_of(RANKS)
    expected = call(image, GRID)
    for names in ("RR", "00", "1R", "R1", "R2", "2R", "30"):
        sides = zip((image, GRID), map(parse, names), strict=True)
        output = call(*(distribute(side, placement, mesh) for side, placement in sides))
        torch.testing.assert_close(output.full_tensor(), expected)


@needs_processes
@pytest.mark.parametrize("name", CALLS)
def test_distributed_tensors(processes, name):  # noqa: F811
    processes.run(check_placements, name)


class Caller(torch.nn.Module):
    """Calls one of the functions."""

    def __init__(self, name):
        super().__init__()
        self.call = CALLS[name][0]

    def forward(self, image, grid):  # noqa: D102
        return self.call(image, grid)


@pytest.mark.parametrize("name", CALLS)
def test_decompositions(name):
    """Every bit of integers, too."""
    call, dtype = CALLS[name]
    image = image_of(dtype, 2, 3, 4, 5)
    program = torch.export.export(Caller(name), (image, GRID))
    decomposed = program.run_decompositions(decompositions()).module()
    torch.testing.assert_close(decomposed(image, GRID), call(image, GRID))


@pytest.mark.parametrize("name", [name for name in CALLS if "complex" not in name])
def test_nothing_has_derivatives(name):
    """In reverse and forward mode, and beside what has some."""
    call, dtype = CALLS[name]
    image = image_of(dtype, 2, 3, 4, 5)

    def function(grid):
        return call(image, grid).double().sum() + 2 * grid.sum()

    assert torch.equal(torch.func.grad(function)(GRID), torch.full_like(GRID, 2))
    leaf = GRID.clone().requires_grad_()
    assert not call(image, leaf).requires_grad
    _, tangent = torch.func.jvp(function, (GRID,), (torch.ones_like(GRID),))
    assert tangent == 2 * GRID.numel()
    with torch.autograd.forward_ad.dual_level():
        output = call(image, torch.autograd.forward_ad.make_dual(GRID, GRID))
        assert torch.autograd.forward_ad.unpack_dual(output).tangent is None


@pytest.mark.parametrize("name", CALLS)
def test_autocast_inference_mode_and_traces(name, device):
    call, dtype = CALLS[name]
    image, grid = image_of(dtype, 2, 3, 4, 5).to(device), GRID.to(device)
    expected = call(image, grid)
    with torch.autocast(device, torch.bfloat16):
        torch.testing.assert_close(call(image, grid), expected)
    with torch.inference_mode():
        torch.testing.assert_close(call(image, grid), expected)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [1, 3, 4, 20])
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int16, torch.uint16, torch.int32, torch.int64], ids=str
)
@pytest.mark.parametrize("case", boundaries.cases()[::7], ids=str)
def test_reads_stay_inside(case, dtype, channels, layout, device):
    """Images lie between pages that end the process if they are read."""
    shape = samples.Shape("drawn", N=1, C=channels, size=(3, 4, 5), out=(2, 3, 7))
    image = samples.INPUT_LAYOUTS[layout](any_bits(dtype, *shape.input_shape(case.dims)))
    _, grid = samples.sample(case, shape, torch.float32)
    grid.flatten()[: 3 * case.dims] = torch.tensor([-1.0, 1.0, float("inf")]).repeat(case.dims)
    keywords = {"coordinates": case.coordinates}
    for end in (False, True):
        sides = guarded(image, end), guarded(grid, end)
        output = sample_labels(*sides, *case.options, **keywords)
        expected = sample_labels(image, grid, *case.options, **keywords)
        assert torch.equal(as_bits(output), as_bits(expected))
        options = "nearest", *case.options[1:]
        output = grid_sample(*sides, *options, **keywords)
        expected = grid_sample(image, grid, *options, **keywords)
        assert torch.equal(as_bits(output), as_bits(expected))


@pytest.mark.parametrize("value", [256, -1, 0.5, float("nan")])
@pytest.mark.parametrize("name", ["fill_value", "outside_value"])
def test_values_out_of_range_without_data(name, value):
    """What is an error with data is one on the meta device."""
    image = torch.zeros(1, 1, 4, 4, dtype=torch.uint8, device="meta")
    with pytest.raises((RuntimeError, ValueError), match=name):
        grid_sample(image, GRID[:1].to("meta"), "nearest", align_corners=False, **{name: value})


class Logged(torch.Tensor):
    """Tells of the calls that it is given to."""

    calls = ()

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.calls = (*cls.calls, function)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_subclasses_of_tensors():
    labels = any_bits(torch.int16, 2, 3, 4, 5)
    output = sample_labels(labels, GRID.as_subclass(Logged), align_corners=False, fill_value=3)
    assert sample_labels in Logged.calls
    expected = sample_labels(labels, GRID, align_corners=False, fill_value=3)
    assert torch.equal(output.as_subclass(torch.Tensor), expected)
    mask = inside(GRID.as_subclass(Logged), (4, 5), False)
    assert torch.equal(mask.as_subclass(torch.Tensor), inside(GRID, (4, 5), False))
