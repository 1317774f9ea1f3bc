"""sample_labels in programs and elsewhere: transforms, compilers, other devices, memory, errors."""

import boundaries
import pytest
import samples
import torch
from test_integers import DTYPES, as_bits
from test_labels import CASES, draw, label_values
from test_memory import NEEDS_ADDRESS_SPACE, run_within_memory
from torch._subclasses import FakeTensorMode
from torch.export import Dim

from gridsample_ext import functional, sample_labels

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")

op = torch.ops.gridsample_ext.sample_labels
FEW = [
    boundaries.Case(2, "bilinear", "zeros", False),
    boundaries.Case(2, "bilinear", ("circular", "zeros"), True, "pixel", 7, 9),
    boundaries.Case(2, "bicubic", "reflection", False, cubic_coefficient=-0.5),
    boundaries.Case(2, "nearest", "zeros", False, fill_value=7),
    boundaries.Case(3, "bilinear", "zeros", True, outside_value=9),
]
ids = pytest.mark.parametrize("case", FEW, ids=str)


def arguments(case, dtype=torch.int32, shape=samples.SMALL, device="cpu"):
    """What the op takes."""
    labels, grid = draw(case, shape, dtype, torch.float32, device)
    keywords = label_values(case, dtype)
    values = keywords.get("fill_value"), keywords.get("outside_value")
    later = case.later[0], *values, case.later[3]
    return labels, grid, *case.op_options, *later


def sampler(case, dtype=torch.int32):
    keywords = label_values(case, dtype)
    return lambda labels, grid: sample_labels(labels, grid, *case.options, **keywords)


@pytest.fixture(autouse=True)
def no_loop():
    """Batching by PyTorch's fallback, a loop over the batch with a warning, is a failure."""
    torch._C._functorch._set_vmap_fallback_enabled(False)
    torch.compiler.reset()
    yield
    torch._C._functorch._set_vmap_fallback_enabled(True)


@ids
def test_the_op_is_what_the_function_calls(case, device):
    labels, grid, *options = arguments(case, device=device)
    assert torch.equal(op(labels, grid, *options), sampler(case)(labels, grid))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint64], ids=str)
@ids
def test_opcheck(case, dtype, device):
    pytest.importorskip("expecttest")  # which opcheck imports
    labels, grid, *options = arguments(case, dtype, samples.TINY_BATCH, device)
    torch.library.opcheck(op.default, (labels, grid.requires_grad_(), *options))


IN_DIMS = [(0, None), (2, None), (-1, None), (None, 0), (None, -1), (0, 0), (1, -2)]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
@pytest.mark.parametrize("shape", samples.SMALL_SHAPES, ids=str)
@ids
def test_vmap(case, shape, in_dims, dtype, device):
    sides = [
        [draw(case, shape, dtype, device=device, seed=seed)[0] for seed in range(3)],
        [draw(case, shape, dtype, device=device)[1] * (1 - 0.1 * k) for k in range(3)],
    ]
    batched = [
        side[0] if dim is None else torch.stack(side, dim)
        for side, dim in zip(sides, in_dims, strict=True)
    ]
    call = sampler(case, dtype)
    outputs = torch.vmap(call, in_dims, out_dims=1)(*batched)
    for b in range(3):
        each = [side[b * (dim is not None)] for side, dim in zip(sides, in_dims, strict=True)]
        assert torch.equal(outputs.select(1, b), call(*each))


@ids
def test_nested_vmap(case, device):
    labels = [draw(case, samples.SMALL, torch.int32, seed=seed)[0].to(device) for seed in (1, 2, 3)]
    _, grid = draw(case, samples.SMALL, torch.int32, device=device)
    grids = [grid, grid * 0.8]
    call = sampler(case)
    every = torch.vmap(torch.vmap(call, (0, None)), (None, 0))(
        torch.stack(labels), torch.stack(grids)
    )
    for i in range(2):
        for j in range(3):
            assert torch.equal(every[i, j], call(labels[j], grids[i]))


@pytest.mark.parametrize("case", FEW[1::3], ids=str)
def test_compile(case):
    """One graph, other sizes too; strides as without."""
    call = sampler(case)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    other = samples.Shape("other", N=4, C=3, size=(6, 5, 7), out=(3, 7, 2))
    for shape in (samples.SMALL, other):
        labels, grid = draw(case, shape, torch.int32, torch.float32)
        for image in (labels, samples.channels_last(labels)):
            expected = call(image, grid)
            output = compiled(image, grid.clone().requires_grad_())
            assert torch.equal(output, expected)
            assert (output.stride(), output.requires_grad) == (expected.stride(), False)


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", ["fill_value", "outside_value"])
def test_compile_for_labels_that_change(name, dynamic):
    """To torch.compile a number that changes is a symbol."""
    labels, grid = draw(FEW[0], samples.SMALL, torch.int16, torch.float32)

    def call(value):
        return sample_labels(labels, grid, align_corners=False, **{name: value})

    compiled = torch.compile(call, backend="eager", fullgraph=True, dynamic=dynamic)
    for value in (2, 3, -7):
        assert torch.equal(compiled(value), call(value))


@pytest.mark.parametrize("strict", [False, True], ids=("non-strict", "strict"))
@pytest.mark.parametrize("case", FEW[1::3], ids=str)
def test_export(case, strict):
    """All sizes in one program."""

    class Sampler(torch.nn.Module):
        def forward(self, labels, grid):
            return sampler(case)(labels, grid)

    N, *sizes = (Dim(name) for name in ("N", *"DHWdhw"))
    dynamic = {
        "labels": {0: N} | {2 + i: sizes[i] for i in range(case.dims)},
        "grid": {0: N} | {1 + i: sizes[3 + i] for i in range(case.dims)},
    }
    first = samples.Shape("first", N=4, size=(5, 6, 7), out=(8, 9, 10))
    tensors = draw(case, first, torch.int32, torch.float32)
    program = torch.export.export(Sampler(), tensors, dynamic_shapes=dynamic, strict=strict)
    for exported in (program.module(), program.run_decompositions().module()):
        for shape in (first, samples.SMALL):
            labels, grid = draw(case, shape, torch.int32, torch.float32)
            assert torch.equal(exported(labels, grid), sampler(case)(labels, grid))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@ids
def test_without_data(case, dtype):
    """On the meta device, and fake: sizes, strides and types."""
    labels, grid, *_ = arguments(case, dtype)
    call = sampler(case, dtype)
    with FakeTensorMode() as mode:
        fakes = mode.from_tensor(labels), mode.from_tensor(grid)
        results = [call(*fakes)]
    for image in (labels, samples.channels_last(labels)):
        results.append(call(image.to("meta"), grid.to("meta")))
        expected = call(image, grid)
        assert results[-1].stride() == expected.stride()
    for result in results:
        assert (result.shape, result.dtype) == (expected.shape, dtype)


@ids
def test_out_variant(case, device):
    given = arguments(case, torch.int16, device=device)
    expected = op(*given)
    for dtype in (torch.int16, torch.int64):
        out = torch.empty(0, dtype=dtype, device=device)
        assert op.out(*given, out=out) is out
        assert torch.equal(out, expected.to(dtype))
    with pytest.raises(RuntimeError, match="out"):
        op.out(*given, out=torch.empty(0, dtype=torch.bool, device=device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_on_other_devices(case, dtype, monkeypatch):
    """Tensor operations give the same, where two labels are not nearly as heavy."""
    labels, grid = draw(case, samples.SMALL, dtype, torch.float64)
    call = sampler(case, dtype)
    expected = call(labels, grid)
    monkeypatch.setattr(functional, "why_not_ours", lambda device: "tests")
    functional._warn_fallback_once.cache_clear()
    with pytest.warns(UserWarning, match="nothing of its own for tests yet; tensor operations"):
        output = call(labels, grid)
    assert (output.dtype, output.shape) == (dtype, expected.shape)
    assert (as_bits(output) == as_bits(expected)).double().mean() > 0.98
    functional._warn_fallback_once.cache_clear()


# A one-hot encoding of the labels would take 75 MiB, and its floats 300.
MEMORY = """
import resource, torch, gridsample_ext
torch.set_num_threads(1)
labels = torch.randint(0, 300, (1, 1, 512, 512), dtype=torch.int16) - 100
grid = torch.rand(1, 512, 512, 2) * 2.2 - 1.1
call = dict(mode="bicubic", padding_mode="zeros", align_corners=False, fill_value=3)
gridsample_ext.sample_labels(labels[..., :8, :8], grid[:, :8, :8], **call)
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
most = used + labels.numel() * labels.element_size() + (8 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
gridsample_ext.sample_labels(labels, grid, **call)
"""


@NEEDS_ADDRESS_SPACE
def test_memory():
    """The result, and nothing that grows with the number of labels."""
    run_within_memory(MEMORY)


LABELS, GRID = torch.zeros(1, 2, 3, 4, dtype=torch.uint8), torch.zeros(1, 5, 6, 2)
BAD = {
    "float_labels": ({"labels": LABELS.float()}, NotImplementedError, ["labels", "float32"]),
    "complex_labels": ({"labels": LABELS.cfloat()}, NotImplementedError, ["[1, 2, 3, 4]"]),
    "labels_of_none": ({"labels": None}, TypeError, ["labels", "Tensor", "NoneType"]),
    "grid_of_none": ({"grid": None}, TypeError, ["grid", "Tensor", "NoneType"]),
    "sparse_labels": ({"labels": LABELS.to_sparse()}, NotImplementedError, ["labels", "strided"]),
    "integer_grid": ({"grid": GRID.long()}, RuntimeError, ["grid", "float32"]),
    "batches": ({"labels": LABELS.repeat(2, 1, 1, 1), "grid": GRID.repeat(3, 1, 1, 1)},
                RuntimeError, ["batch", "[2, 2, 3, 4]", "[3, 5, 6, 2]"]),
    "coordinates_of_grid": ({"grid": GRID[..., :1]}, RuntimeError, ["grid", "[1, 5, 6, 1]"]),
    "empty_axis": ({"labels": LABELS[:, :, :0]}, RuntimeError, ["non-empty", "[1, 2, 0, 4]"]),
    "two_dimensions": ({"labels": LABELS[0, 0]}, RuntimeError, ["4-D", "[3, 4]"]),
    "float_fill": ({"fill_value": 1.5}, TypeError, ["fill_value", "int", "float"]),
    "whole_float_fill": ({"fill_value": 1.0}, TypeError, ["fill_value", "int", "float"]),
    "float_outside": ({"outside_value": 1.5}, TypeError, ["outside_value", "int", "float"]),
    "fill_too_high": ({"fill_value": 256}, RuntimeError, ["fill_value", "256"]),
    "fill_too_low": ({"fill_value": -1}, RuntimeError, ["fill_value", "-1"]),
    "outside_too_high": ({"outside_value": 256}, RuntimeError, ["outside_value", "256"]),
    "outside_too_low": ({"outside_value": -1}, RuntimeError, ["outside_value", "-1"]),
    "bool_too_high": ({"labels": LABELS.bool(), "fill_value": 2}, RuntimeError, ["fill_value"]),
    "no_channels": ({"labels": LABELS[0]}, RuntimeError, ["labels", "(N, C, H, W)"]),
    "floats": ({"labels": LABELS.float()}, NotImplementedError, ["labels", "grid_sample()"]),
    "fill_text": ({"fill_value": "1"}, TypeError, ["fill_value", "str"]),
    "fill_without_zeros": ({"fill_value": 1, "padding_mode": "border"}, ValueError,
                           ["fill_value=1 ", "zeros", "'border'"]),
    "padding": ({"padding_mode": "wrap"}, ValueError, ["padding_mode", "'wrap'", "'circular'"]),
    "mode": ({"mode": "area"}, ValueError, ["mode", "'area'", "'nearest'"]),
    "coordinates": ({"coordinates": "pixels"}, ValueError, ["coordinates", "'pixel'"]),
    "cubic": ({"cubic_coefficient": -0.5}, ValueError, ["cubic_coefficient", "bicubic"]),
    "align_corners": ({"align_corners": 1}, TypeError, ["align_corners", "bool"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors(name, device):
    changes, kind, words = BAD[name]
    given = {"labels": LABELS, "grid": GRID, "align_corners": False} | changes
    given = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    with pytest.raises(kind) as error:
        sample_labels(**given)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", ["fill_text", "float_fill"])
def test_errors_say_what_a_label_is(name):
    changes, kind, _ = BAD[name]
    with pytest.raises(kind, match="to be an int or None"):
        sample_labels(LABELS, GRID, align_corners=False, **changes)


@pytest.mark.parametrize("name", ["fill_value", "outside_value"])
def test_every_label_of_the_type_is_good_outside(name, device):
    """Those of uint64 that int64 does not hold, too."""
    labels = torch.zeros(1, 1, 2, 2, dtype=torch.uint64, device=device)
    grid = torch.full((1, 1, 1, 2), 9.0, device=device)
    for value in (2**63 - 1, 2**63, 2**64 - 1):
        output = sample_labels(labels, grid, align_corners=False, **{name: value})
        assert output.cpu().item() == value


@pytest.mark.parametrize("given", [{"fill_value": 256}, {"outside_value": -1}], ids=str)
def test_labels_out_of_range_without_data(given):
    """What is an error with data is one on the meta device."""
    with pytest.raises(RuntimeError, match=next(iter(given))):
        sample_labels(LABELS.to("meta"), GRID.to("meta"), align_corners=False, **given)
