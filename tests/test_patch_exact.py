"""A patched F.grid_sample is PyTorch's own in all but its numbers' last bits."""

import itertools
import subprocess
import sys

import pytest
import samples
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.autograd import functional
from torch.func import functionalize, grad, jacrev, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import gridsample_ext

CASE = samples.Case(2, "bilinear", "zeros", False)
CASES = samples.TORCH_CASES[::3]
FLOATS = samples.sample(CASE, dtype=torch.float32)
VOLUMES = samples.sample(samples.Case(3, "bilinear", "zeros", False), dtype=torch.float32)
aten = torch.ops.aten


def call(input, grid):
    return F.grid_sample(input, grid, *CASE.options)


def outcome(function, *arguments):
    """What a call gives or raises, to be compared."""
    try:
        return function(*arguments)
    except Exception as error:
        # Without PyTorch's list of where it has kernels from, which names the patch's.
        return type(error), str(error).partition("\nCPU: registered at")[0]


def patched(function, *arguments):
    with gridsample_ext.patch():
        return function(*arguments)


def traits(tensor):
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.device, tensor.requires_grad


LAYOUTS = {
    **samples.INPUT_LAYOUTS,
    "torch.channels_last": lambda t: t.contiguous(
        memory_format=torch.channels_last if t.dim() == 4 else torch.channels_last_3d
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts(case, layout, device):
    input, grid = samples.sample(case, dtype=torch.float32, device=device)
    leaves = [LAYOUTS[layout](input).requires_grad_(), grid.requires_grad_()]

    def results():
        output = F.grid_sample(*leaves, *case.options)
        # As code does that knows PyTorch's output to be contiguous.
        assert output.view(output.shape[0], -1).shape[0] == output.shape[0]
        return output, *torch.autograd.grad(output.square().sum(), leaves)

    for ours, theirs in zip(patched(results), results(), strict=True):
        assert traits(ours) == traits(theirs)
        samples.assert_close(ours.detach(), theirs.detach().double())


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [*samples.DTYPES], ids=str)
def test_cpu_autocast(dtype, cast):
    input, grid = (t.to(dtype) for t in FLOATS)
    with torch.autocast("cpu", dtype=cast):
        expected, ours = call(input, grid), patched(call, input, grid)
        assert traits(ours) == traits(expected)
        samples.assert_close(ours, expected.double())
        if dtype == cast:
            assert ours.dtype == torch.float32
            ours.numpy()
            torch.nn.functional.linear(ours, torch.rand(2, ours.shape[-1]))


@pytest.mark.devices("cuda")
@pytest.mark.parametrize("dtypes", list(itertools.product(samples.DTYPES[:3], repeat=2)), ids=str)
def test_cuda_autocast(dtypes, device):
    input, grid = (t.to(device, dtype) for t, dtype in zip(FLOATS, dtypes, strict=True))
    with torch.autocast("cuda"):
        expected, ours = call(input, grid), patched(call, input, grid)
    assert traits(ours) == traits(expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_under_autocast_that_outlives_the_patch(reentrant):
    input, grid = (t.bfloat16().requires_grad_() for t in FLOATS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with gridsample_ext.patch():
            output = checkpoint(call, input, grid, use_reentrant=reentrant)
        expected = torch.autograd.grad(call(input, grid).square().sum(), (input, grid))
    output.square().sum().backward()
    for leaf, gradient in zip((input, grid), expected, strict=True):
        samples.assert_close(leaf.grad, gradient.double())


def broken(pair, **changes):
    input, grid = pair
    return changes.get("input", lambda t: t)(input), changes.get("grid", lambda t: t)(grid)


REFUSED_PAIRS = {
    "two_dtypes": broken(FLOATS, grid=torch.Tensor.double),
    "half_and_float": broken(FLOATS, input=torch.Tensor.half),
    "integers": broken(FLOATS, input=torch.Tensor.int, grid=torch.Tensor.int),
    "integer_grid": broken(FLOATS, grid=torch.Tensor.long),
    "bool": broken(FLOATS, input=torch.Tensor.bool, grid=torch.Tensor.bool),
    "complex": broken(FLOATS, input=torch.Tensor.cfloat),
    "batch_of_one_input": broken(FLOATS, input=lambda t: t[:1]),
    "batch_of_one_grid": broken(FLOATS, grid=lambda t: t[:1]),
    "batches": broken(FLOATS, grid=lambda t: torch.cat([t] * 2)),
    "three_dimensions": broken(FLOATS, input=lambda t: t[0]),
    "six_dimensions": broken(VOLUMES, input=lambda t: t[None], grid=lambda t: t[None]),
    "two_ranks": broken(FLOATS, grid=lambda t: t[:, None]),
    "three_coordinates": broken(FLOATS, grid=lambda t: torch.cat([t, t], -1)[..., :3]),
    "two_coordinates_of_a_volume": broken(VOLUMES, grid=lambda t: t[..., :2]),
    "no_width": broken(FLOATS, input=lambda t: t[..., :0]),
    "no_height": broken(FLOATS, input=lambda t: t[..., :0, :]),
    "no_depth": broken(VOLUMES, input=lambda t: t[:, :, :0]),
    "sparse": broken(FLOATS, input=torch.Tensor.to_sparse),
    "sparse_grid": broken(FLOATS, grid=torch.Tensor.to_sparse),
    "meta_grid": broken(FLOATS, grid=lambda t: t.to("meta")),
    "several_at_once": broken(FLOATS, input=lambda t: t[:1, ..., :0], grid=torch.Tensor.double),
    "no_samples": broken(FLOATS, grid=lambda t: t[:, :0]),
    "no_channels": broken(FLOATS, input=lambda t: t[:, :0]),
    "no_images": broken(FLOATS, input=lambda t: t[:0], grid=lambda t: t[:0]),
}
WAYS = {
    "function": lambda *a: F.grid_sample(*a, align_corners=False),
    "bicubic": lambda *a: F.grid_sample(*a, mode="bicubic", align_corners=True),
    "builtin": lambda *a: torch.grid_sampler(*a, 0, 1, True),
    "2d": lambda *a: torch.grid_sampler_2d(*a, 0, 2, False),
    "3d": lambda *a: torch.grid_sampler_3d(*a, 0, 0, False),
    "3d_bicubic": lambda *a: aten.grid_sampler_3d(*a, 2, 0, False),
    "enum_out_of_range": lambda *a: torch.grid_sampler(*a, 3, 0, False),
    "padding_out_of_range": lambda *a: torch.grid_sampler(*a, 0, -1, False),
    "positional_names": lambda *a: F.grid_sample(*a, "linear", "zeros", False),
    "name_of_padding": lambda *a: F.grid_sample(*a, "bilinear", "wrap", False),
    "align_corners": lambda *a: F.grid_sample(*a, align_corners="yes"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REFUSED_PAIRS)
def test_what_pytorch_refuses_is_its_own_error(name, way):
    """Type, text and order of checks; and what it takes has its traits."""
    expected = outcome(WAYS[way], *REFUSED_PAIRS[name])
    actual = outcome(patched, WAYS[way], *REFUSED_PAIRS[name])
    if isinstance(expected, torch.Tensor):
        assert traits(actual) == traits(expected)
        samples.assert_close(actual, expected.double())
    else:
        assert actual == expected


@pytest.mark.parametrize("dims", [2, 3])
def test_what_pytorch_refuses_of_a_backward_op(dims):
    input, grid = FLOATS if dims == 2 else VOLUMES
    op = aten.grid_sampler_2d_backward if dims == 2 else aten.grid_sampler_3d_backward
    grad_output = samples.grad_like(input, grid)
    wrong = {
        "right": (grad_output, input, grid),
        "dtype": (grad_output.double(), input, grid),
        "grid": (grad_output, input, grid.double()),
        "batch": (grad_output, input[:1], grid),
    }
    for arguments in wrong.values():
        expected = outcome(lambda *a: op(*a, 0, 0, False, [True, True]), *arguments)
        actual = outcome(patched, lambda *a: op(*a, 0, 0, False, [True, True]), *arguments)
        if isinstance(expected[0], torch.Tensor):
            for ours, theirs in zip(actual, expected, strict=True):
                assert traits(ours) == traits(theirs)
                samples.assert_close(ours, theirs.double())
        else:
            assert actual == expected


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_code_that_calls_the_ops_behind_is_patched():
    """Those of PyTorch, TorchScript and what was scripted or traced before."""
    input, grid = FLOATS
    scripted, traced = torch.jit.script(call_scripted), torch.jit.trace(call, FLOATS)
    grad_output = samples.grad_like(input, grid)
    for function in (
        lambda: torch.grid_sampler(input, grid, 0, 0, False),
        lambda: torch.grid_sampler_2d(input, grid, 0, 0, False),
        lambda: aten.grid_sampler_2d(input, grid, 0, 0, False),
        lambda: aten.grid_sampler_2d_backward(grad_output, input, grid, 0, 0, False, [True, True]),
        lambda: scripted(input, grid),
        lambda: traced(input, grid),
        lambda: torch.export.export(Sampler(), FLOATS).module()(*FLOATS),
    ):
        assert calls_ours(patched, function)
        assert not calls_ours(function)


def call_scripted(input, grid):
    return F.grid_sample(input, grid, mode="nearest", padding_mode="border", align_corners=True)


class Sampler(torch.nn.Module):
    """For exporters and scripts."""

    def forward(self, input, grid):  # noqa: D102
        return F.grid_sample(input, grid, mode="bilinear", align_corners=False)


def calls_ours(function, *arguments):
    with torch.autograd.profiler.profile() as record:
        function(*arguments)
    return any(event.name.startswith("gridsample_ext::") for event in record.function_events)


def names_in(graph):
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_hold_pytorch_s_op(strict):
    for native in (False, True):
        with gridsample_ext.patch(native=native):
            program = torch.export.export(Sampler(), FLOATS, strict=strict)
        names = names_in(program.graph)
        assert any("grid_sampl" in name for name in names)
        assert any("gridsample_ext" in name for name in names) == native


@pytest.mark.parametrize("tracing_mode", ["real", "fake", "symbolic"])
def test_traces_hold_pytorch_s_op(tracing_mode):
    for function in (call, functionalize(call), grad(lambda *a: call(*a).sum())):
        with gridsample_ext.patch():
            graph = make_fx(function, tracing_mode=tracing_mode)(*FLOATS)
        names = names_in(graph.graph)
        assert any("aten.grid_sampler_2d" in name for name in names)
        assert not any("gridsample_ext" in name for name in names)
    with gridsample_ext.patch(native=True):
        graph = make_fx(call, tracing_mode=tracing_mode)(*FLOATS)
    assert "gridsample_ext.grid_sample.default" in names_in(graph.graph)


LOADING = """
import sys, torch
sys.modules["gridsample_ext"] = None
for path in sys.argv[2:]:
    input, grid, expected = torch.load(sys.argv[1])
    torch.testing.assert_close(torch.jit.load(path)(input, grid), expected)
"""


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_traced_and_scripted_code_runs_where_this_package_is_not(tmp_path):
    torch.save((*FLOATS, call(*FLOATS)), tmp_path / "tensors.pt")
    paths = [str(tmp_path / "traced.pt"), str(tmp_path / "scripted.pt")]
    with gridsample_ext.patch():
        torch.jit.trace(call, FLOATS).save(paths[0])
        torch.jit.script(Sampler()).save(paths[1])
    command = [sys.executable, "-c", LOADING, tmp_path / "tensors.pt", *paths]
    subprocess.run(list(map(str, command)), check=True, timeout=300)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_compiled(case, layout, autocast):
    """Has our op in the graph, and PyTorch's dtype and layout."""
    names = set()

    def record(graph, example_inputs):
        names.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    def function(input, grid):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return F.grid_sample(input, grid, *case.options)

    dtype = torch.bfloat16 if autocast else torch.float32
    input, grid = samples.sample(case, dtype=dtype)
    leaves = [samples.INPUT_LAYOUTS[layout](input).requires_grad_(), grid.requires_grad_()]
    expected = function(*leaves)
    torch.compiler.reset()
    with gridsample_ext.patch():
        backend = aot_autograd(fw_compiler=record, bw_compiler=record)
        output = torch.compile(function, backend=backend, fullgraph=True)(*leaves)
    gradients = torch.autograd.grad(output.sum(), leaves)
    for ours, theirs in zip(
        (output, *gradients),
        (expected, *torch.autograd.grad(expected.sum(), leaves)),
        strict=True,
    ):
        assert traits(ours)[:3] == traits(theirs)[:3]
        samples.assert_close(ours.detach(), theirs.detach().double())
    assert "gridsample_ext.grid_sample.default" in names
    assert "gridsample_ext.grid_sample_backward.default" in names
    assert not any("grid_sampler" in name for name in names)


def test_compiled_errors_are_pytorch_s():
    for name in ("two_dtypes", "half_and_float", "batch_of_one_grid", "no_width", "integers"):
        torch.compiler.reset()
        compiled = torch.compile(call, backend="aot_eager")
        expected = outcome(compiled, *REFUSED_PAIRS[name])
        torch.compiler.reset()
        assert (
            outcome(patched, torch.compile(call, backend="aot_eager"), *REFUSED_PAIRS[name])[0]
            == expected[0]
        )


def test_hessian_vector_product_vmap_and_functionalize():
    """All PyTorch's own."""
    tensors = samples.sample(CASE)

    def hvp(*inputs):
        return functional.hvp(lambda *a: call(*a).sin().sum(), inputs, inputs)[1]

    stacked = [torch.stack([t, t * 0.9]) for t in tensors]
    for function, arguments in (
        (hvp, tensors),
        (vmap(call), stacked),
        (vmap(grad(lambda *a: call(*a).sin().sum(), (0, 1))), stacked),
        (functionalize(call), tensors),
        (jacrev(grad(lambda *a: call(*a).sin().sum())), tensors),
    ):
        expected, ours = function(*arguments), patched(function, *arguments)
        for value, of_ours in zip(
            *(x if isinstance(x, tuple) else (x,) for x in (expected, ours)), strict=True
        ):
            assert traits(of_ours) == traits(value)
            samples.assert_close(of_ours, value)


@pytest.mark.devices("cuda")
def test_deterministic_algorithms_are_an_error_as_pytorch_s(device):
    leaves = [t.to(device).requires_grad_() for t in FLOATS]

    def backward():
        torch.use_deterministic_algorithms(True)
        try:
            call(*leaves).sum().backward()
        finally:
            torch.use_deterministic_algorithms(False)

    assert outcome(patched, backward) == outcome(backward)


TRICUBIC_FIRST = """
import torch, gridsample_ext
import torch.nn.functional as F
volume, grid = torch.rand(1, 1, 3, 3, 3), torch.rand(1, 2, 2, 2, 3)
calls = []
original = gridsample_ext._compat.torch_grid_sampler
gridsample_ext._compat.torch_grid_sampler = lambda *a: (calls.append(a), original(*a))[1]
with gridsample_ext.patch():
    try:
        F.grid_sample(volume, grid, mode="bicubic", align_corners=False)
    except RuntimeError as error:
        assert "bicubic" in str(error)
assert len(calls) == 1, len(calls)
"""


def test_tricubic_as_the_first_patched_call():
    """Whether PyTorch has it is asked once, of PyTorch."""
    subprocess.run([sys.executable, "-c", TRICUBIC_FIRST], check=True, timeout=300)
