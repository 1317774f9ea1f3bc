"""torch.nn.functional.grid_sample while it is patched, and after."""

import copy
import functools
import pickle
import random
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import samples
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from test_drop_in import Elsewhere, Image, Overriding, first_fallback  # noqa: F401
from test_patch_exact import outcome
from torch._dynamo.backends.common import aot_autograd
from torch.nn.functional import grid_sample as imported_before
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import gridsample_ext

CASE = samples.Case(2, "bilinear", "zeros", False)
ORIGINAL = torch.grid_sampler
TABLE = {F.grid_sample: "grid_sample"}


def call(input, grid):
    return F.grid_sample(input, grid, *CASE.options)


def call_scripted(input, grid):
    return F.grid_sample(input, grid, mode="nearest", padding_mode="border", align_corners=True)


def is_ours(function=call):
    """Whether a function samples by our kernels, which alone read NaN as -1, a pixel's corner."""
    input, grid = torch.ones(2, 3, 4, 5), torch.full((2, 3, 4, 2), float("nan"))
    output = function(input.requires_grad_(), grid.requires_grad_())
    output.sum().backward()
    ours = {bool(values.isfinite().all()) for values in (output, grid.grad)}
    assert len(ours) == 1
    return ours.pop()


def is_native(function=call):
    """Whether a function is gridsample_ext.grid_sample: its node of the graph says so."""
    input, grid = samples.sample(CASE)
    output = function(input.requires_grad_(), grid)
    return not output.grad_fn.name().startswith("GridSampler2D")


@pytest.fixture(autouse=True)
def unpatched():
    """No test leaves a patch behind."""
    assert torch.grid_sampler is ORIGINAL
    yield
    assert torch.grid_sampler is ORIGINAL
    assert not is_ours()
    assert not is_native()


def test_context_manager():
    with gridsample_ext.patch():
        assert is_ours()
    assert not is_ours()


def test_context_manager_left_by_an_error():
    with pytest.raises(KeyError), gridsample_ext.patch():
        raise KeyError
    assert not is_ours()


def test_function():
    patch = gridsample_ext.patch()
    assert is_ours()
    assert "in force" in repr(patch)
    for _ in range(2):
        patch.undo()
        assert not is_ours()
    assert "undone" in repr(patch)


def test_undone_within_the_block():
    with gridsample_ext.patch() as outer:
        with gridsample_ext.patch() as patch:
            patch.undo()
            assert is_ours()
        assert is_ours()
        outer.undo()
        assert not is_ours()


def test_made_before_the_block():
    patch = gridsample_ext.patch()
    for _ in range(2):  # the second time anew
        with patch:
            assert is_ours()
            with patch:
                pass
            assert is_ours()
        assert not is_ours()


def test_nested_in_any_order():
    first, second = gridsample_ext.patch(), gridsample_ext.patch()
    first.undo()
    assert is_ours()
    with gridsample_ext.patch():
        second.undo()
        assert is_ours()
    assert not is_ours()


@pytest.mark.parametrize("shared", [False, True], ids=("each_its_own", "one_for_all"))
def test_many_threads(shared):
    """Each sees the patch in its own block, whatever the others do, and none leaves it behind."""
    one = gridsample_ext.patch()
    one.undo()
    start = threading.Barrier(8)

    def enter_and_leave(seed):
        choose = random.Random(seed)
        start.wait()
        for _ in range(60):
            if choose.random() < 0.5:
                call(*samples.sample(CASE))  # with or without the patch
            with one if shared else gridsample_ext.patch():
                assert is_ours()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(enter_and_leave, range(8)))
    finally:
        sys.setswitchinterval(interval)


def test_threads_wait_for_the_one_that_patches(monkeypatch):
    """The second is not told that the first has patched while that is still at it."""
    begun = threading.Event()
    register = torch.jit._builtins._register_builtin

    def register_slowly(*arguments):
        begun.set()
        time.sleep(0.2)
        register(*arguments)

    def second():
        begun.wait()
        with gridsample_ext.patch():
            return is_ours()

    monkeypatch.setattr(torch.jit._builtins, "_register_builtin", register_slowly)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(second)
        with gridsample_ext.patch():
            assert result.result()


def test_undone_by_many_threads():
    """One patch is taken back once, and the other stays."""
    with gridsample_ext.patch():
        for _ in range(20):
            patch = gridsample_ext.patch()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _, patch=patch: patch.undo(), range(8)))
            assert is_ours()


def test_is_in_force_in_other_threads():
    with gridsample_ext.patch(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(is_ours).result()


@pytest.mark.parametrize("case", samples.INTERPOLATING, ids=str)
def test_values_and_gradients(case, device):
    """Native they are those of gridsample_ext.grid_sample; else where PyTorch has the case.

    Of modes that F.grid_sample knows the names of.
    """
    input, grid = (t.requires_grad_() for t in samples.sample(case, device=device))

    def results_of(function):
        output = function(input, grid, *case.options)
        return output, *torch.autograd.grad(output.square().sum(), (input, grid))

    expected = results_of(gridsample_ext.grid_sample)
    for native in (False, True):
        with gridsample_ext.patch(native=native):
            if case in samples.TORCH_CASES or native:
                for patched, ours in zip(results_of(F.grid_sample), expected, strict=True):
                    samples.assert_close(patched, ours)


def test_references_taken_before():
    partial = functools.partial(F.grid_sample, align_corners=False)
    with gridsample_ext.patch():
        assert is_ours(lambda *tensors: imported_before(*tensors, *CASE.options))
        assert is_ours(partial)
    assert not is_ours(partial)


def test_the_function_stays_the_same_object():
    before = F.grid_sample
    with gridsample_ext.patch():
        assert F.grid_sample is before
        assert TABLE[F.grid_sample] == "grid_sample"
        assert pickle.loads(pickle.dumps(F.grid_sample)) is before


def test_the_replacement_survives_a_patch():
    """Held, pickled, or put back by someone who saved it: it passes on, and is patched again."""
    with gridsample_ext.patch():
        replacement = torch.grid_sampler
        pickled = pickle.dumps(replacement)
    options = CASE.op_options
    for function in (replacement, pickle.loads(pickled)):
        assert not is_ours(lambda *tensors, function=function: function(*tensors, *options))
    torch.grid_sampler = replacement
    assert not is_ours()
    with gridsample_ext.patch():
        assert is_ours()


def test_someone_else_s_replacement():
    """Made before: it is called, and put back. Made meanwhile: it is not overwritten."""
    calls = []

    def theirs(*arguments, of=ORIGINAL):
        calls.append(of)
        return of(*arguments)

    torch.grid_sampler = theirs
    try:
        with gridsample_ext.patch():
            assert is_ours()
        assert calls == [ORIGINAL]
        with gridsample_ext.patch(native=True):
            assert is_native()
            assert calls == [ORIGINAL]
            with pytest.raises(NotImplementedError):
                F.grid_sample(*(t.int() for t in samples.sample(CASE)), *CASE.options)
        assert calls == [ORIGINAL] * 2  # what we do not do is theirs
    finally:
        assert torch.grid_sampler is theirs
        torch.grid_sampler = ORIGINAL

    with gridsample_ext.patch(native=True):
        meanwhile = functools.partial(theirs, of=torch.grid_sampler)
        torch.grid_sampler = meanwhile
        assert is_native()
    assert torch.grid_sampler is meanwhile
    assert not is_native()
    with gridsample_ext.patch(native=True):
        assert is_native()
    assert torch.grid_sampler is meanwhile
    torch.grid_sampler = ORIGINAL


def test_warning_without_align_corners():
    input, grid = samples.sample(CASE)
    with (
        gridsample_ext.patch(),
        pytest.warns(UserWarning, match="Default grid_sample and affine_grid behavior") as record,
    ):
        F.grid_sample(input, grid)
    assert [warning.filename for warning in record] == [__file__]


FLOATS = samples.sample(CASE, dtype=torch.float32)
UNSUPPORTED = {
    "mode": lambda: F.grid_sample(*FLOATS, "bilinaer", align_corners=False),
    "padding": lambda: F.grid_sample(*FLOATS, padding_mode="zero", align_corners=False),
    "align_corners": lambda: F.grid_sample(*FLOATS, align_corners=1),
    "no_tensor": lambda: F.grid_sample(FLOATS[0], [[1.0]], align_corners=False),
    "int32": lambda: call(*(t.int() for t in FLOATS)),
    "int32_grid": lambda: call(FLOATS[0], FLOATS[1].int()),
    "complex": lambda: call(FLOATS[0].cfloat(), FLOATS[1]),
    "sparse": lambda: call(FLOATS[0].to_sparse(), FLOATS[1]),
    "name_for_enum": lambda: torch.grid_sampler(*FLOATS, "bilinear", 0, False),
    "another_device": lambda: call(*map(Elsewhere, FLOATS)).tensor,
    "fallback": lambda: gridsample_ext.grid_sample(*map(Elsewhere, FLOATS), *CASE.options).tensor,
    "functional_transform": lambda: torch.func.vmap(call)(*(t[None] for t in FLOATS))[0],
}


@pytest.mark.filterwarnings("ignore:.*_fall_back|gridsample_ext has nothing of its own")
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_calls_are_the_original_s(name, native):
    """Their values or errors, to the letter, and no recursion."""
    expected = outcome(UNSUPPORTED[name])
    with gridsample_ext.patch(native=native):
        actual = outcome(UNSUPPORTED[name])
    if isinstance(expected, torch.Tensor):
        samples.assert_close(actual, expected.double())
    else:
        assert actual == expected


@pytest.mark.parametrize("native", [False, True])
def test_no_warning_about_what_is_unsupported(native, first_fallback):  # noqa: F811
    with warnings.catch_warnings(), gridsample_ext.patch(native=native):
        warnings.simplefilter("error")
        UNSUPPORTED["another_device"]()
        UNSUPPORTED["functional_transform"]()


@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning", "ignore:.*quantiz.*")
def test_quantised():
    image = torch.quantize_per_tensor(FLOATS[0], 0.1, 128, torch.quint8)
    expected = call(image, FLOATS[1])
    with gridsample_ext.patch():
        output = call(image, FLOATS[1])
    assert output.dtype == torch.quint8
    assert torch.equal(output.int_repr(), expected.int_repr())


class Wrapper(Elsewhere):
    """The same on the CPU: knows PyTorch's ops and no others."""

    @staticmethod
    def __new__(cls, tensor):
        """Wrap a CPU tensor."""
        return torch.Tensor._make_wrapper_subclass(cls, tensor.shape, dtype=tensor.dtype)


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
def test_subclass_with_a_dispatch_of_its_own(side):
    tensors = list(FLOATS)
    tensors[side] = Wrapper(tensors[side])
    for native in (False, True):
        with gridsample_ext.patch(native=native):
            output = call(*tensors)
        assert type(output) is Wrapper
        samples.assert_close(output.tensor, call(*FLOATS).double())


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
def test_torch_function_sees_the_original(side):
    tensors = list(FLOATS)
    tensors[side] = Overriding()
    expected = F.grid_sample(*tensors, align_corners=False)
    with gridsample_ext.patch():
        assert F.grid_sample(*tensors, align_corners=False) == expected
        assert expected[0] is F.grid_sample


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
def test_plain_subclass(side):
    """Stays what it is, and is sampled by us."""
    tensors = list(samples.sample(CASE))
    tensors[side] = tensors[side].as_subclass(Image).requires_grad_()
    for native in (False, True):
        with gridsample_ext.patch(native=native):
            output = call(*tensors)
        assert type(output) is Image
        samples.assert_close(output.detach().as_subclass(torch.Tensor), call(*samples.sample(CASE)))


def test_torch_function_mode():
    """Sees the function that the caller named; what it calls then is patched."""
    seen = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            seen.append(function)
            return function(*arguments, **(keywords or {}))

    with gridsample_ext.patch(), Recorder(), torch.device("cpu"):
        assert is_ours()
        torch.grid_sampler(*FLOATS, *CASE.op_options)
    assert F.grid_sample in seen
    assert ORIGINAL in seen


@pytest.mark.parametrize("needs_grad", [(True, True), (True, False), (False, True)])
def test_compiles_without_a_graph_break(needs_grad, device):
    leaves = [
        leaf.requires_grad_(needed)
        for leaf, needed in zip(samples.sample(CASE, device=device), needs_grad, strict=True)
    ]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    targets = set()

    def record(graph, example_inputs):
        targets.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    # One is also called by the name behind, as old code may.
    for function in (call, lambda *tensors: torch.grid_sampler(*tensors, *CASE.op_options)):
        torch.compiler.reset()
        targets.clear()
        expected = torch.autograd.grad(call(*leaves).square().sum(), wanted)
        with gridsample_ext.patch():
            backend = aot_autograd(fw_compiler=record, bw_compiler=record)
            output = torch.compile(function, backend=backend, fullgraph=True)(*leaves)
            gradients = torch.autograd.grad(output.square().sum(), wanted)
        assert {
            "gridsample_ext.grid_sample.default",
            "gridsample_ext.grid_sample_backward.default",
        } <= targets
        for gradient, values in zip(gradients, expected, strict=True):
            samples.assert_close(gradient, values)


def test_compiled_code_is_cached_apart():
    """In every thread, and beside the user's own tag."""
    config = torch.compiler.config

    def tag():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: config.cache_key_tag).result()

    before = tag()
    with gridsample_ext.patch():
        patched = tag()
        with gridsample_ext.patch():
            assert tag() == patched
    assert patched != before
    assert tag() == before
    config.cache_key_tag = "mine"
    try:
        with gridsample_ext.patch():
            assert config.cache_key_tag not in ("mine", patched)
        assert config.cache_key_tag == "mine"
    finally:
        config.cache_key_tag = before


def test_native_export(device):
    class Module(torch.nn.Module):
        def forward(self, input, grid):
            return call(input, grid)

    tensors = samples.sample(CASE, device=device)
    with gridsample_ext.patch(native=True):
        program = torch.export.export(Module(), tensors)
        expected = call(*tensors)
    assert torch.equal(program.module()(*tensors), expected)
    assert any("gridsample_ext" in str(node.target) for node in program.graph.nodes)


def test_torchscript_is_left_alone():
    """Compiled before, meanwhile or after; the function or one that calls it."""
    before = torch.jit.script(call_scripted)
    with gridsample_ext.patch():
        torch.jit._state._jit_caching_layer.clear()  # F.grid_sample is to be compiled again
        scripted = [torch.jit.script(function) for function in (call_scripted, F.grid_sample)]
        options = [(), ("nearest", "border", True)]
        for function, extra in zip(scripted, options, strict=True):
            assert "aten::grid_sampler" in str(function.inlined_graph)
            samples.assert_close(function(*FLOATS, *extra), before(*FLOATS).double())
    torch.jit._state._jit_caching_layer.clear()
    assert "aten::grid_sampler" in str(torch.jit.script(call_scripted).inlined_graph)


def test_recomputed_by_a_checkpoint_after_the_patch():
    """Forward patched, its second run in the backward pass not: the gradients are the same."""
    tensors = [t.requires_grad_() for t in samples.sample(CASE)]
    expected = torch.autograd.grad(call(*tensors).square().sum(), tensors)
    for reentrant in (False, True):
        with gridsample_ext.patch():
            output = checkpoint(call, *tensors, use_reentrant=reentrant)
        for leaf in tensors:
            leaf.grad = None
        output.square().sum().backward()
        for leaf, gradient in zip(tensors, expected, strict=True):
            samples.assert_close(leaf.grad, gradient)


def test_documented_differences_of_a_native_patch(device):
    """Those that patch() names, so that its documentation stays true."""
    input, grid = samples.sample(CASE, dtype=torch.float32, device=device)
    image = input.to(memory_format=torch.channels_last)
    with gridsample_ext.patch(native=True):
        assert is_native()
        assert call(image, grid).is_contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, dtype=torch.bfloat16):
            assert call(input.bfloat16(), grid).dtype == torch.bfloat16
        assert call(input.half(), grid).dtype == torch.float16
        assert call(input[:1], grid).shape[0] == grid.shape[0]
        with pytest.raises(RuntimeError, match="batch size"):
            call(torch.cat([input, input]), torch.cat([grid] * 3))
        tangent = torch.func.jvp(lambda x: call(x, grid), (input,), (input,))[1]
        samples.assert_close(tangent, call(input, grid).double())


def test_kinds_of_patches_nest_in_any_order():
    exact, native = gridsample_ext.patch(), gridsample_ext.patch(native=True)
    assert is_native()
    assert repr(native) == "<gridsample_ext native patch, in force>"
    native.undo()
    assert is_ours()
    assert not is_native()
    with gridsample_ext.patch(native=True):
        exact.undo()
        assert is_native()
    assert not is_ours()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("moved", ["name", "caches", "kernel", "last_kernel"])
def test_a_patch_that_fails_half_way_leaves_nothing_patched(moved, native, monkeypatch):
    """As it would if a new PyTorch had moved what it needs."""

    def fail(*arguments):
        raise RuntimeError("moved")

    calls = []

    def fail_at_the_last(*arguments):
        calls.append(arguments)
        return fail() if len(calls) == 4 else get_kernel(*arguments)

    monkeypatch.setattr(gridsample_ext.patching, "_registered", set())  # as in a new process
    get_kernel = torch.library.get_kernel
    if moved == "name":
        monkeypatch.setattr(gridsample_ext._compat, "name_for_torchscript", fail)
    elif moved == "caches":
        monkeypatch.setattr(gridsample_ext._compat, "tag_compile_caches", fail)
    else:
        replacement = fail if moved == "kernel" else fail_at_the_last
        monkeypatch.setattr(torch.library, "get_kernel", replacement)
    with pytest.raises(RuntimeError, match="moved"):
        gridsample_ext.patch(native=native)
    assert torch.grid_sampler is ORIGINAL
    assert not is_ours()
    monkeypatch.undo()
    with gridsample_ext.patch():
        assert is_ours()


FORKED_LOOP = """
import torch, gridsample_ext

@torch.jit.script
def loop(image, grid, count: int):
    total = torch.zeros(1)
    for i in range(count):
        total = total + torch.grid_sampler(image, grid, 0, 0, False).sum()
    return total

image, grid = torch.rand(1, 1, 4, 4), torch.rand(1, 3, 3, 2)
expected = loop(image, grid, 300)
for round in range(5):
    future = torch.jit.fork(loop, image, grid, 300)
    for _ in range(300):
        with gridsample_ext.patch():
            pass
    torch.testing.assert_close(torch.jit.wait(future), expected)
"""


def test_made_and_undone_while_unknown_threads_sample(tmp_path):
    """Those of torch.jit.fork are none of Python's."""
    program = tmp_path / "program.py"  # torch.jit.script reads it
    program.write_text(FORKED_LOOP)
    command = [sys.executable, "-W", "ignore", str(program)]
    subprocess.run(command, check=True, timeout=300)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_is_the_same_patch(duplicate):
    patch = gridsample_ext.patch()
    other = duplicate(patch)
    patch.undo()
    assert not is_ours()
    other.undo()
    assert not is_ours()
    with gridsample_ext.patch():
        assert is_ours()


def test_a_pickled_patch_is_undone():
    with gridsample_ext.patch(native=True) as patch:
        other = pickle.loads(pickle.dumps(patch))
        assert repr(other) == "<gridsample_ext native patch, undone>"
        other.undo()
        assert is_native()


LOCKED_FORK = """
import os, threading, gridsample_ext
from gridsample_ext import patching

def hold():
    with patching._lock:
        held.set()
        end.wait(1)

held, end = threading.Event(), threading.Event()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    with gridsample_ext.patch():
        os._exit(0)
end.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


def test_forked_while_another_thread_patches():
    subprocess.run([sys.executable, "-c", LOCKED_FORK], check=True, timeout=240)


def gradients_of_floats():
    leaves = [tensor.clone().requires_grad_() for tensor in FLOATS]
    output = call(*leaves)
    return output, *torch.autograd.grad(output.square().sum(), leaves)


def test_a_grid_sample_that_is_built_in_another_way(monkeypatch):
    """patch() says so, and does not do nothing."""
    monkeypatch.setattr(
        gridsample_ext.functional, "torch_grid_sample", lambda *arguments: arguments[0]
    )
    with pytest.raises(RuntimeError, match="nothing to patch"):
        gridsample_ext.patch()
