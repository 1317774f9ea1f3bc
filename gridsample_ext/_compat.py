"""Everything this package takes from PyTorch that PyTorch does not promise to keep.

Each name stands here once, with the releases that it was tried on and with what happens without
it. ``PRIVATE_NAMES`` lists them; ``tests/test_compat.py`` fails by name where the installed PyTorch
has moved one, and shows that :func:`gridsample_ext.grid_sample` works without any of them.
"""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Name -> the releases of PyTorch that it was tried on.
PRIVATE_NAMES: dict[str, str] = {}


def _declare(name: str, releases: str) -> str:
    PRIVATE_NAMES[name] = releases
    return name


def look_up(name: str) -> Any:
    """What a dotted name stands for, modules imported as need be; AttributeError if nothing."""
    module_name, found = "torch", torch
    for part in name.split(".")[1:]:
        module_name = f"{module_name}.{part}"
        if not hasattr(found, part):
            try:
                importlib.import_module(module_name)
            except ImportError:
                raise AttributeError(f"PyTorch {torch.__version__} has no {name}") from None
        found = getattr(found, part)
    return found


def _get(name: str) -> Any:
    """What a name stands for, or None."""
    try:
        return look_up(name)
    except AttributeError:
        return None


def _find(name: str, releases: str, fallback: Any) -> Any:
    """Declare a name of a module that torch imports: what it stands for, or the fallback."""
    found = _get(_declare(name, releases))
    return fallback if found is None else found


# --- Dispatch ---------------------------------------------------------------------------------


def _exclude_autograd() -> Any:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradFunctionality)
    return torch._C._ExcludeDispatchKeyGuard(keys)


#: A context in which ops skip autograd's dispatch keys.
below_autograd: Callable[[], Any] = _find(
    "torch._C._AutoDispatchBelowAutograd", "2.10-2.15", _exclude_autograd
)


_has_bare_op = _find("torch.ops.aten.grid_sampler_2d.default._op", "2.10-2.15", None) is not None


def bare(op: Any) -> Callable[..., Any]:
    """An op as the builtin behind it, which costs a call less."""
    return op._op if _has_bare_op else op  # type: ignore[no-any-return]


_declare("torch._C.DispatchKeySet", "2.10-2.15")
_declare("torch._C.DispatchKey", "2.10-2.15")


def kernel_of(name: str, key: str) -> Callable[..., Any]:
    """The kernel of one of PyTorch's ops for a dispatch key, whatever replaces it later."""
    kernel = torch.library.get_kernel(f"aten::{name}", key)
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    return functools.partial(kernel.call_boxed, keys)


def _peek_transform() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


#: Whether a transform of torch.func is at work.
in_func_transform: Callable[[], bool] = _find(
    "torch._C._are_functorch_transforms_active", "2.10-2.15", _peek_transform
)

_level_is_known = _find("torch.autograd.forward_ad._current_level", "2.10-2.15", None) is not None


def in_dual_level() -> bool:
    """Whether forward mode is open. Without a way to know: yes, the general way serves all."""
    return not _level_is_known or forward_ad._current_level >= 0


#: Whether torch.jit.trace is at work.
is_jit_tracing: Callable[[], bool] = _find(
    "torch._C._is_tracing",
    "2.10-2.15",
    lambda: torch.jit.is_tracing(),  # type: ignore[attr-defined]
)

#: The builtin behind F.grid_sample, whatever stands for its name.
torch_grid_sampler: Callable[..., Tensor] = _find(
    "torch._C._VariableFunctions.grid_sampler", "2.10-2.15", torch.grid_sampler
)


# --- torch.func -------------------------------------------------------------------------------


def _find_or_fail(name: str, releases: str) -> Any:
    """Declare a name that torch.func needs; without it torch.func is an error that names it."""

    def fail(*_: Any) -> Any:
        raise RuntimeError(f"gridsample_ext: PyTorch {torch.__version__} has no {name}")

    return _find(name, releases, fail)


_allow_one_level = _find_or_fail(
    "torch._functorch.utils.enable_single_level_autograd_function", "2.10-2.15"
)
_OneLevelFunction = _find_or_fail("torch.autograd.function._SingleLevelFunction", "2.10-2.15")
_set_forward_mode = _find_or_fail("torch.autograd.forward_ad._set_fwd_grad_enabled", "2.10-2.15")


def bare_apply(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """``function.apply`` for where no transform of torch.func is at work, and it need not ask."""
    return getattr(super(torch.autograd.Function, function), "apply", function.apply)


def apply_at_this_level(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """``function.apply`` for one level of torch.func, from the op's autograd key.

    There the level's tensors are what autograd records, as with PyTorch's own ops. ``apply`` itself
    would start anew with all levels.
    """
    with _allow_one_level():
        return _at_one_level(function).apply(*arguments)


@functools.cache
def _at_one_level(function: type[torch.autograd.Function]) -> Any:
    """A Function whose ``apply`` knows nothing of torch.func's other levels."""
    rules = ("forward", "setup_context", "backward", "jvp")
    own = {name: staticmethod(getattr(function, name)) for name in rules}
    return type(function.__name__, (_OneLevelFunction,), own)


@contextlib.contextmanager
def lower_levels_record() -> Iterator[None]:
    """Within a Function that :func:`apply_at_this_level` runs: the levels below record, too."""
    with torch.enable_grad(), _set_forward_mode(True):
        yield


# --- Compilers and tracing --------------------------------------------------------------------

_GUARD = _declare("torch.fx.experimental.symbolic_shapes.guard_or_false", "2.10-2.15")


def guard_or_false(condition: Any) -> bool:
    """Whether a condition on sizes holds; False where symbols leave it open."""
    # To torch.compile a condition on symbols is a bool, which a branch on it would guard.
    if isinstance(condition, bool) and not torch.compiler.is_compiling():
        return condition
    if isinstance(condition, Tensor):  # torch.jit.trace has tensors for sizes
        return bool(condition)
    guard = _get(_GUARD)  # imports sympy: only where there are symbols
    return bool(condition) if guard is None else guard(condition)


_KNOWN = _declare("torch.fx.experimental.symbolic_shapes.statically_known_true", "2.10-2.15")


def known_true(condition: Any) -> bool:
    """Whether a condition on sizes holds whatever symbols stand for, of which nothing is asked."""
    # To torch.compile a condition on symbols is a bool, which it would guard.
    if not torch.compiler.is_compiling():
        if isinstance(condition, bool):
            return condition
        if isinstance(condition, Tensor):  # of torch.jit.trace
            return False
    known = _get(_KNOWN)
    return known is not None and known(condition)


def constant_under_compile(function: _Function) -> _Function:
    """Have torch.compile take the answer of ``function`` and not trace the question.

    This is what ``torch.compiler.assume_constant_result`` does, after importing all of the
    compiler. Without it torch.compile would trace the function, and break the graph there.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


_TracingContext = _find("torch._guards.TracingContext", "2.10-2.15", None)


def is_in_torch_compile() -> bool:
    """Whether torch.compile is tracing, and not torch.export."""
    # In 2.10 is_compiling says no once Dynamo is done, while AOTAutograd is still tracing.
    is_tracing = torch.compiler.is_compiling() or (
        _TracingContext is not None and _TracingContext.try_get() is not None
    )
    return is_tracing and not torch.compiler.is_exporting()


_TRACING_TENSORS = (
    _declare("torch._subclasses.fake_tensor.FakeTensor", "2.10-2.15"),
    _declare("torch._subclasses.functional_tensor.FunctionalTensor", "2.10-2.15"),
)


def is_tracing_tensor(kind: type) -> bool:
    """Whether a class is one of those that a tracer uses, which take any op."""
    return issubclass(kind, tuple(filter(None, map(_get, _TRACING_TENSORS))))


_REGISTER_BUILTIN = _declare("torch.jit._builtins._register_builtin", "2.10-2.15")


def name_for_torchscript(function: Callable[..., Any], name: str) -> None:
    """Have torch.jit.script compile a function of ours as an op of PyTorch.

    Without it torch.jit.script compiles what the function does.
    """
    register = _get(_REGISTER_BUILTIN)
    if register is not None:
        register(function, name)


_CONFIG = _declare("torch.compiler.config._config", "2.10-2.15")


def tag_compile_caches(tag: str) -> Callable[[], None]:
    """Keep what is compiled now apart from the rest of torch.compile's caches on disk.

    Returns what takes the tag back.
    """
    config: Any = torch.compiler.config
    tag = "+".join(filter(None, (config.cache_key_tag, tag)))
    # Set in the ordinary way, it would be for this thread alone; a forced value is for all.
    entry = (_get(_CONFIG) or {}).get("cache_key_tag")
    is_forced = hasattr(entry, "env_value_force")
    holder, name = (entry, "env_value_force") if is_forced else (config, "cache_key_tag")
    before = getattr(holder, name)
    setattr(holder, name, tag)
    return lambda: setattr(holder, name, before)


# --- ONNX -------------------------------------------------------------------------------------

for _helper in ("_get_const", "_get_tensor_dim_size", "_get_tensor_rank"):
    # Without these the TorchScript exporter (dynamo=False) fails, and names them.
    _declare(f"torch.onnx.symbolic_helper.{_helper}", "2.10-2.15")
_OPSET = _declare("torch.onnx._constants.ONNX_DEFAULT_OPSET", "2.10-2.15")


def default_onnx_opset() -> int:
    """The opset that torch.onnx.export targets unless told otherwise."""
    return _get(_OPSET) or 20


# --- What the installed PyTorch can do --------------------------------------------------------


@functools.cache
def torch_has_tricubic() -> bool:
    """Whether F.grid_sample samples volumes in mode bicubic: from 2.15 on.

    It is found out by a call, so it has to be asked before anything is patched or traced.
    """
    try:
        image, grid = (
            torch.zeros(1, 1, 1, 1, channels, dtype=torch.float32, device="cpu")
            for channels in (1, 3)
        )
        torch_grid_sampler(image, grid, 2, 0, False)
    except RuntimeError:
        return False
    return True
