"""The options in programs: opcheck, torch.compile, torch.export, decompositions, out variants."""

import boundaries
import pytest
import samples
import torch
from test_export import LOAD_PROGRAM, run_in_a_fresh_process
from test_patch_exact import names_in
from torch.export import Dim

import gridsample_ext
from gridsample_ext import grid_sample

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")

ops = torch.ops.gridsample_ext
# Each option alone, and some together.
CASES = [
    boundaries.Case(2, "bilinear", "circular", False),
    boundaries.Case(2, "nearest", ("circular", "border"), False),
    boundaries.Case(2, "bicubic", "zeros", True, cubic_coefficient=-0.5),
    boundaries.Case(2, "bilinear", "reflection", True, "pixel"),
    boundaries.Case(2, "bilinear", "zeros", False, fill_value=2.5),
    boundaries.Case(2, "bilinear", "border", False, outside_value=-1.5),
    boundaries.Case(3, "bilinear", ("zeros", "circular", "border"), False, "pixel", 2.5, -1.5),
    boundaries.Case(
        3, "bicubic", ("circular", "zeros", "reflection"), True, "pixel", 2.5, -1.5, -1.0
    ),
]  # fmt: skip
SHAPES = [
    samples.Shape("first", N=4, C=3, size=(5, 6, 7), out=(8, 9, 10)),
    samples.Shape("second", N=5, C=3, size=(9, 3, 4), out=(4, 6, 5)),
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Sampler(torch.nn.Module):
    """Samples once per case."""

    def __init__(self, cases):
        super().__init__()
        self.cases = cases

    def forward(self, input, grid):  # noqa: D102
        return [grid_sample(input, grid, *c.options, **c.keywords) for c in self.cases]


def with_gradients(function, *tensors):
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    outputs = function(*leaves)
    loss = sum(output.square().sum() for output in outputs)
    return [*outputs, *torch.autograd.grad(loss, leaves)]


def assert_same(actual, expected):
    for result, value in zip(actual, expected, strict=True):
        assert result.stride() == value.stride()
        samples.assert_bitwise_equal(result.detach(), value.detach())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.all_combinations
@pytest.mark.parametrize("case", [CASES[i] for i in (1, 2, 6)], ids=str)
@pytest.mark.parametrize("name", ["forward", "backward", "jvp", "double_backward"])
def test_opcheck(name, case, device):
    pytest.importorskip("expecttest")  # which opcheck imports
    input, grid = samples.sample(case, samples.TINY_BATCH, device=device)
    grad_output, along = samples.grad_like(input, grid), (input.cos(), grid.cos())
    # What lies beyond second derivatives is large programs, which take long to compare.
    needs_grad = name in ("forward", "backward") or case.mode == "nearest"
    sides = input.requires_grad_(needs_grad), grid.requires_grad_(needs_grad)
    ends = *case.op_options, [True, True], False, *case.later
    calls = {
        "forward": (ops.grid_sample, (*sides, *case.op_options, *case.later)),
        "backward": (ops.grid_sample_backward, (grad_output, *sides, *ends)),
        "jvp": (ops.grid_sample_jvp, (*sides, *along, *case.op_options, *case.later)),
        "double_backward": (
            ops.grid_sample_double_backward, (*along, grad_output, *sides, *ends)
        ),
    }  # fmt: skip
    op, arguments = calls[name]
    torch.library.opcheck(op.default, arguments)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_compile(dims, dynamic, device):
    """One graph for all options, and for all sizes."""
    model = Sampler([case for case in CASES if case.dims == dims])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for shape in SHAPES:
        tensors = samples.sample(model.cases[0], shape, torch.float32, device=device)
        actual, expected = with_gradients(compiled, *tensors), with_gradients(model, *tensors)
        if device == "cpu":
            assert_same(actual, expected)


def test_values_that_change_under_compile():
    """A float of the caller's, and a tuple that is made on the way."""

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(input, grid, fill, outside, names):
        paddings = tuple("circular" if name == "c" else "zeros" for name in names)
        return grid_sample(
            input, grid, "bilinear", paddings, coordinates="pixel",
            fill_value=fill, outside_value=outside,
        )  # fmt: skip

    case = boundaries.Case(2, "bilinear", ("circular", "zeros"), False, "pixel")
    input, grid = samples.sample(case)
    for fill, outside in ((1.0, None), (2.5, None), (3.5, 4.5), (0.0, -1.0)):
        output = compiled(input, grid, fill, outside, "cz")
        keywords = {"coordinates": "pixel", "fill_value": fill, "outside_value": outside}
        samples.assert_bitwise_equal(output, grid_sample(input, grid, *case.options, **keywords))


def test_bad_values_under_compile():
    compiled = torch.compile(
        lambda *a: grid_sample(*a, "bilinear", "border", False, fill_value=1.0),
        backend="aot_eager",
    )
    with pytest.raises(ValueError, match="fill_value"):
        compiled(torch.rand(1, 1, 4, 4), torch.rand(1, 2, 2, 2))


@pytest.mark.parametrize("strict", [False, True], ids=("non-strict", "strict"))
@pytest.mark.parametrize("dims", [2, 3])
def test_export(dims, strict, tmp_path):
    """All sizes in one program, in this process and after saving in another one."""
    model = Sampler([case for case in CASES if case.dims == dims]).eval()
    N, *sizes = (Dim(name) for name in ("N", *"DHWdhw"))
    dynamic = {
        "input": {0: N} | {2 + i: sizes[i] for i in range(dims)},
        "grid": {0: N} | {1 + i: sizes[3 + i] for i in range(dims)},
    }
    calls = [samples.sample(model.cases[0], shape, torch.float32) for shape in SHAPES]
    program = torch.export.export(model, calls[0], dynamic_shapes=dynamic, strict=strict)
    for exported in (program.module(), program.run_decompositions().module()):
        for tensors in calls:
            assert_same(with_gradients(exported, *tensors), with_gradients(model, *tensors))
    if strict or dims == 3:
        return
    path = str(tmp_path / "program.pt2")
    torch.export.save(program, path)
    for results, tensors in zip(
        run_in_a_fresh_process(LOAD_PROGRAM, {path: calls})[path], calls, strict=True
    ):
        assert_same(results, model(*tensors))


def test_programs_hold_no_defaults():
    """What does not use the options is exported as it was before there were any."""
    case = samples.Case(2, "bilinear", "border", True)
    usual = Sampler([case, boundaries.Case(*vars(case).values())])
    program = torch.export.export(usual, samples.sample(case))
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    assert [len(node.args) + len(node.kwargs) for node in calls] == [5, 5]


def test_programs_from_before_the_options_run():
    """A graph of calls with five arguments, and its gradients: with as many as there were."""
    graph = torch.fx.Graph()
    input, grid = graph.placeholder("input"), graph.placeholder("grid")
    grad_output = graph.placeholder("grad_output")
    output = graph.call_function(ops.grid_sample.default, (input, grid, 0, 2, True))
    gradients = [
        graph.call_function(
            ops.grid_sample_backward.default,
            (grad_output, input, grid, 0, 2, True, [True, True], *deterministic),
        )
        for deterministic in ((), (False,))
    ]
    graph.output((output, *gradients))
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    case = samples.Case(2, "bilinear", "reflection", True)
    tensors = samples.sample(case)
    weight = samples.grad_like(*tensors)
    output, *pairs = module(*tensors, weight)
    samples.assert_bitwise_equal(output, grid_sample(*tensors, *case.options))
    expected = ops.grid_sample_backward(weight, *tensors, *case.op_options, [True, True])
    for pair in pairs:
        for result, value in zip(pair, expected, strict=True):
            samples.assert_bitwise_equal(result, value)


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "types"),
    boundaries.drawn(
        [(torch.float32, torch.float32), (torch.float16, torch.float64)],
        of=CASES[:-1] + list(boundaries.cases(2)[::11]),
    ),
    ids=str,
)
def test_decompositions(case, types):
    """Into elementary operations, where PyTorch has no such op."""
    input, grid = samples.sample(case, dtype=types[0], grid_dtype=types[1])
    grid = grid.clone()
    grid[0, 0, 0] = float("nan")
    program = torch.export.export(Sampler([case]), (input, grid))
    decomposed = program.run_decompositions(gridsample_ext.decompositions())
    assert not any("gridsample_ext" in name for name in names_in(decomposed.graph))
    (output,), (expected,) = (p.module()(input, grid) for p in (decomposed, program))
    assert output.dtype == expected.dtype
    samples.assert_close(output, expected.double(), terms=8)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_decomposed_gradients(case):
    """The op's own where PyTorch has none."""
    input, grid = samples.sample(case)
    grad_output = samples.grad_like(input, grid)
    arguments = (
        grad_output, input, grid, *case.op_options, [True, True], False, *case.later
    )  # fmt: skip
    decompose = gridsample_ext.decompositions()[ops.grid_sample_backward.default]
    assert decompose(*arguments) is NotImplemented


@pytest.mark.parametrize("case", CASES, ids=str)
def test_out_variants(case, device):
    input, grid = samples.sample(case, device=device)
    arguments = input, grid, *case.op_options, *case.later
    out = torch.empty(0, dtype=input.dtype, device=device)
    expected = ops.grid_sample(*arguments)
    samples.assert_bitwise_equal(ops.grid_sample.out(*arguments, out=out), expected)
    samples.assert_bitwise_equal(out, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_and_checkpoint(case, device):
    """Nothing is lost on the way through either."""
    input, grid = samples.sample(case, dtype=torch.float32, device=device)
    call = boundaries.sampler(case, grid_sample)
    with torch.autocast(device, torch.bfloat16):
        samples.assert_bitwise_equal(call(input, grid), call(input, grid))
    leaves = input.requires_grad_(), grid.requires_grad_()
    output = torch.utils.checkpoint.checkpoint(call, *leaves, use_reentrant=False)
    weight = samples.grad_like(input, grid)
    gradients = [torch.autograd.grad(o, leaves, weight) for o in (output, call(*leaves))]
    for result, value in zip(*gradients, strict=True):
        samples.assert_close(result, value.double())
