"""``torch.nn.functional.grid_sample`` on this implementation, whoever calls it.

Every call of ``F.grid_sample`` ends in a call of ``torch.grid_sampler``, looked up by that name.
While a patch is in force the name stands for :func:`_grid_sampler` here. ``F.grid_sample`` itself
stays the object it is, and that is why the name behind it is the one to replace: references that
other modules took (``from torch.nn.functional import grid_sample``), tables keyed by the function,
``__torch_function__`` and pickles go on working, and are patched, too.

The patch is for the whole process, and counted: it is in force while anyone wants it. One per
thread or context would miss the threads that PyTorch starts by itself, whose contexts are empty:
the autograd engine's, in which activation checkpointing runs the forward pass again, and
``DataParallel``'s. A thread that did not ask for the patch gets the same values anyway.
"""

import contextlib
import inspect
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import has_torch_function_variadic

from gridsample_ext import _ops, distributed, functional

_MODES = {number: name for name, number in functional._MODES.items()}
_PADDING_MODES = {number: name for name, number in functional._PADDING_MODES.items()}
_CACHE_KEY_TAG = "gridsample_ext.patch"

# Re-entrant, because an object's finalizer may undo a patch while this thread holds it.
_lock = threading.RLock()
_in_force = 0
_replaced: Any = functional.torch_grid_sampler
_undo_cache_key_tag = contextlib.ExitStack()


class Patch:
    """A patch of ``torch.nn.functional.grid_sample``; made by :func:`patch`, which describes it."""

    def __init__(self) -> None:
        self._count = 0
        self._awaits_with = False

    def undo(self) -> None:
        """Take this patch back; others stay in force. A second call does nothing."""
        with _lock:
            _add(-self._count)
            self._count = 0
            self._awaits_with = False

    def __enter__(self) -> "Patch":
        with _lock:
            if not self._awaits_with:
                self._apply()
            self._awaits_with = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _lock:
            if self._count > 0:  # not undone within the block
                self._count -= 1
                _add(-1)

    def __repr__(self) -> str:
        return f"<gridsample_ext patch, {'in force' if self._count else 'undone'}>"

    def _apply(self) -> None:
        self._count += 1
        _add(1)


def patch() -> Patch:
    """Make ``torch.nn.functional.grid_sample`` use this implementation, wherever it is called.

    In force from the call on, until :meth:`Patch.undo` of the result or the end of a ``with``
    block. Patches nest, in any order, and may be made and undone by any thread; they are in force
    in all threads while at least one of them is. A process started by ``spawn`` starts unpatched.

    What :func:`gridsample_ext.grid_sample` has no kernels for goes to PyTorch's function, without a
    warning: other devices and dtypes, quantised and sparse tensors, tensors whose class overrides
    ``__torch_function__`` or ``__torch_dispatch__``. TorchScript always does. Functions that
    ``torch.compile`` compiles while patched keep this implementation, those compiled before keep
    PyTorch's, until ``torch.compiler.reset()``.

    A patched call differs from the original in what :func:`gridsample_ext.grid_sample` differs: a
    channels-last ``input`` gives a channels-last output; under autocast the output keeps
    ``input``'s dtype; calls that PyTorch refuses (two dtypes, a batch of one on one side, tricubic)
    succeed; for errors in shapes the texts differ, not the types.

    Returns:
        The patch, to undo it, or for a ``with`` statement. If the result is dropped, the patch
        stays for the life of the process.

    Raises:
        RuntimeError: the installed PyTorch's ``grid_sample`` is not built as expected.

    Example:
        >>> import torch, gridsample_ext
        >>> image, grid = torch.ones(1, 1, 4, 4), torch.zeros(1, 2, 2, 2)
        >>> with gridsample_ext.patch():
        ...     torch.nn.functional.grid_sample(image, grid, align_corners=False)
        tensor([[[[1., 1.],
                  [1., 1.]]]])

    """
    code = getattr(inspect.unwrap(functional.torch_grid_sample), "__code__", None)
    if code is not None and "grid_sampler" not in code.co_names:
        raise RuntimeError(
            "gridsample_ext.patch(): torch.nn.functional.grid_sample of PyTorch "
            f"{torch.__version__} does not call torch.grid_sampler; there is nothing to patch"
        )
    result = Patch()
    with _lock:
        result._apply()
        result._awaits_with = True
    return result


def _add(change: int) -> None:
    """Count patches; replace the function for the first, and put it back after the last."""
    global _in_force, _replaced
    was_in_force, _in_force = _in_force, _in_force + change
    if bool(was_in_force) == bool(_in_force):
        return
    if _in_force:
        # Still ours if someone, having saved it while patched, put it back later.
        if torch.grid_sampler is not _grid_sampler:
            _replaced = torch.grid_sampler
        # torch.jit.script knows the names of torch by the objects they stand for.
        torch.jit._builtins._register_builtin(_grid_sampler, "aten::grid_sampler")
        torch.grid_sampler = _grid_sampler
        _undo_cache_key_tag.enter_context(_tagged_compile_caches())
    else:
        # Someone else's replacement may call ours, which passes on while no patch is in force.
        if torch.grid_sampler is _grid_sampler:
            torch.grid_sampler = _replaced
        _undo_cache_key_tag.close()


@contextlib.contextmanager
def _tagged_compile_caches() -> Iterator[None]:
    """Keep what is compiled now apart from the rest of torch.compile's caches on disk.

    Their keys have F.grid_sample by its name, and would not tell which implementation was traced.
    """
    config: Any = torch.compiler.config
    tag = "+".join(filter(None, (config.cache_key_tag, _CACHE_KEY_TAG)))
    # Set in the ordinary way, it would be for this thread alone; a forced value is for all.
    entry = config._config["cache_key_tag"]
    before, entry.env_value_force = entry.env_value_force, tag
    try:
        yield
    finally:
        entry.env_value_force = before


def _grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Stand in for ``torch.grid_sampler``."""
    mode, padding = _MODES.get(interpolation_mode), _PADDING_MODES.get(padding_mode)
    if (
        _in_force
        and mode is not None
        and padding is not None
        and isinstance(align_corners, bool)
        and not has_torch_function_variadic(input, grid)
        and _is_supported(input)
        and _is_supported(grid)
        and input.device == grid.device
        and functional._why_not_ours(input, grid) is None
    ):
        return functional.grid_sample(input, grid, mode, padding, align_corners)
    return _replaced(  # type: ignore[no-any-return]
        input, grid, interpolation_mode, padding_mode, align_corners
    )


def _is_supported(value: object) -> bool:
    """Whether it is a tensor that our ops can be given."""
    kind: Any = type(value)
    if kind is not Tensor and not (
        isinstance(value, Tensor)
        and (
            # Ops are computed on its data, and not by its class ...
            kind.__torch_dispatch__ is Tensor.__torch_dispatch__
            # ... or by one of those that take any op.
            or isinstance(value, (FakeTensor, FunctionalTensor))
            or distributed.is_dtensor_type(kind)
        )
    ):
        return False
    return value.dtype in _ops.DTYPES and value.layout == torch.strided  # type: ignore[attr-defined]
