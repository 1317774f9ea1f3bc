"""Exported programs in PyTorch's own ops, and the out variants."""

import subprocess
import sys

import pytest
import samples
import torch
from test_patch_exact import names_in

import gridsample_ext
from gridsample_ext import grid_sample

ops = torch.ops.gridsample_ext
# Of run_decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.")
OPS = ("grid_sample", "grid_sample_backward", "grid_sample_jvp", "grid_sample_double_backward")
CASES = samples.CASES[::3] + samples.cases(dims=3, mode="bicubic", padding_mode="border")
TYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float32),
    (torch.float32, torch.float64),
]


class Sampler(torch.nn.Module):
    """One call."""

    def __init__(self, case):
        super().__init__()
        self.options = case.options

    def forward(self, input, grid):  # noqa: D102
        return grid_sample(input, grid, *self.options)


def exported(case, input, grid, **options):
    return torch.export.export(Sampler(case), (input, grid), **options)


@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("shape", ["small", "input_broadcast", "grid_broadcast"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_decomposed_programs_mean_the_same(case, shape, types):
    shape = next(each for each in samples.SHAPES if each.name == shape)
    input, grid = samples.sample(case, shape, dtype=types[0], grid_dtype=types[1])
    grid = grid.clone()
    grid[0, 0, 0] = float("nan")
    program = exported(case, input, grid)
    decomposed = program.run_decompositions(gridsample_ext.decompositions())
    assert not any("gridsample_ext" in name for name in names_in(decomposed.graph))
    output, expected = (p.module()(input, grid) for p in (decomposed, program))
    assert output.dtype == expected.dtype
    assert output.is_contiguous()
    samples.assert_close(output, expected.double())


@pytest.mark.parametrize("dims", [2, 3])
def test_plain_programs_become_one_op_and_little_else(dims):
    """No casts and expands where none are needed, but for NaN coordinates."""
    case = samples.Case(dims, "bilinear", "zeros", False)
    program = exported(case, *samples.sample(case, dtype=torch.float32))
    program = program.run_decompositions(gridsample_ext.decompositions())
    names = names_in(program.graph)
    assert f"aten.grid_sampler_{dims}d.default" in names
    assert not names & {"aten._to_copy.default", "aten.expand.default", "aten.clone.default"}


def test_dynamic_sizes():
    case = samples.Case(2, "bilinear", "border", True)
    N, H = torch.export.Dim("N", min=2), torch.export.Dim("H", min=2)
    program = exported(
        case,
        torch.rand(4, 3, 5, 6),
        torch.rand(4, 7, 8, 2),
        dynamic_shapes=({0: N, 2: H}, {0: N}),
    ).run_decompositions(gridsample_ext.decompositions())
    input, grid = torch.rand(2, 3, 9, 6), torch.rand(2, 7, 8, 2) * 2 - 1
    samples.assert_close(
        program.module()(input, grid), grid_sample(input, grid, *case.options).double()
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("shape", ["small", "input_broadcast", "grid_broadcast"])
@pytest.mark.parametrize("case", samples.TORCH_CASES[::3], ids=str)
def test_decomposed_gradients_mean_the_same(case, shape, types, layout):
    shape = next(each for each in samples.SHAPES if each.name == shape)
    input, grid = samples.sample(case, shape, dtype=types[0], grid_dtype=types[1])
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    decompose = gridsample_ext.decompositions()[ops.grid_sample_backward.default]
    for mask in ([True, True], [True, False], [False, True]):
        arguments = grad_output, input, grid, *case.op_options, mask
        for ours, expected in zip(
            decompose(*arguments), ops.grid_sample_backward(*arguments), strict=True
        ):
            assert (ours is None) == (expected is None)
            if ours is not None:
                assert ours.dtype == expected.dtype
                assert ours.stride() == expected.stride()
                terms = max(input.shape[2:]) * input.shape[1]
                samples.assert_close(ours, expected.double(), terms=terms)


LOADING = """
import sys, torch
sys.modules["gridsample_ext"] = None
program, tensors = sys.argv[1:]
input, grid, expected = torch.load(tensors)
torch.testing.assert_close(torch.export.load(program).module()(input, grid), expected)
"""


def test_decomposed_program_runs_where_this_package_is_not(tmp_path):
    case = samples.Case(3, "bilinear", "border", False)
    input, grid = samples.sample(case, dtype=torch.float32)
    program = exported(case, input, grid).run_decompositions(gridsample_ext.decompositions())
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save((input, grid, grid_sample(input, grid, *case.options)), tmp_path / "tensors.pt")
    paths = [str(tmp_path / name) for name in ("program.pt2", "tensors.pt")]
    subprocess.run([sys.executable, "-c", LOADING, *paths], check=True, timeout=300)


def arguments_of(name, case, device):
    input, grid = samples.sample(case, device=device)
    ends = *case.op_options, [True, True]
    return {
        "grid_sample": (input, grid, *case.op_options),
        "grid_sample_backward": (samples.grad_like(input, grid), input, grid, *ends),
        "grid_sample_jvp": (input, grid, input.cos(), grid.cos(), *case.op_options),
        "grid_sample_double_backward": (
            input.cos(),
            grid.cos(),
            samples.grad_like(input, grid),
            input,
            grid,
            *ends,
        ),
    }[name]


@pytest.mark.parametrize("fits", [True, False], ids=("fits", "is_resized"))
@pytest.mark.parametrize("name", OPS)
def test_out_variants(name, fits, device):
    case = samples.Case(2, "bicubic", "zeros", True)
    arguments = arguments_of(name, case, device)
    op = getattr(ops, name)
    expected = op.default(*arguments)
    several = isinstance(expected, tuple)
    results = expected if several else (expected,)
    outs = [torch.full_like(x, 7.0) if fits else x.new_empty(0) for x in results]
    named = {f"out{i}": out for i, out in enumerate(outs)} if several else {"out": outs[0]}
    returned = op.out(*arguments, **named)
    for result, out, back in zip(results, outs, returned if several else (returned,), strict=True):
        assert back is out
        assert torch.equal(out, result)


def test_out_of_another_type_and_layout(device):
    case = samples.Case(2, "bilinear", "zeros", False)
    arguments = arguments_of("grid_sample", case, device)
    expected = ops.grid_sample.default(*arguments)
    out = samples.channels_last(torch.empty_like(expected, dtype=torch.float32))
    strides = out.stride()
    ops.grid_sample.out(*arguments, out=out)
    assert out.stride() == strides
    samples.assert_close(out, expected)


def test_out_of_a_type_that_does_not_fit():
    case = samples.Case(2, "bilinear", "zeros", False)
    out = torch.empty(0, dtype=torch.int32)
    with pytest.raises(RuntimeError, match=r"expected out to have a dtype that torch.float64 can"):
        ops.grid_sample.out(*arguments_of("grid_sample", case, "cpu"), out=out)


def test_out_is_not_differentiated():
    case = samples.Case(2, "bilinear", "zeros", False)
    input, grid, *options = arguments_of("grid_sample", case, "cpu")
    with pytest.raises(RuntimeError, match="arguments don't support automatic"):
        ops.grid_sample.out(input.requires_grad_(), grid, *options, out=torch.empty(0))


def test_executorch():
    """To its own format, by its portable kernels or out variants."""
    exir = pytest.importorskip("executorch.exir")
    case = samples.Case(2, "bilinear", "zeros", False)
    input, grid = samples.sample(case, dtype=torch.float32)
    program = exported(case, input, grid).run_decompositions(gridsample_ext.decompositions())
    assert exir.to_edge(program).to_executorch().buffer


@pytest.mark.parametrize("case", samples.cases(dims=2)[::4], ids=str)
def test_openvino(case):
    """Whose front end for PyTorch has no volumes."""
    openvino = pytest.importorskip("openvino")
    input, grid = samples.sample(case, dtype=torch.float32)
    program = exported(case, input, grid).run_decompositions(gridsample_ext.decompositions())
    compiled = openvino.compile_model(openvino.convert_model(program), "CPU")
    output = torch.from_numpy(compiled([input.numpy(), grid.numpy()])[0])
    samples.assert_close(output, grid_sample(input, grid, *case.options).double(), terms=100.0)
