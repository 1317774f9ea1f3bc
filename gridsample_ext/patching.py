"""``torch.nn.functional.grid_sample`` on this implementation, whoever calls it.

``F.grid_sample`` is a check of strings, then ``torch.grid_sampler``, which checks shapes and types
and calls one of the kernels behind ``aten::grid_sampler_2d`` and ``aten::grid_sampler_3d``.
:func:`patch` replaces these kernels, on the CPU and on CUDA. All that is said or done before a
kernel is reached stays PyTorch's: errors, autocast, autograd, vmap, tracing and scripting. What has
no place among PyTorch's kernels needs the name ``torch.grid_sampler`` as well, for which
:func:`_grid_sampler` stands meanwhile: torch.compile, whose Inductor would not call a kernel, and
``patch(native=True)``. ``F.grid_sample`` itself stays the object it is, and so references to it,
tables keyed by it, ``__torch_function__`` and pickles go on working, and are patched, too.

The patch is for the whole process, and counted: it is in force while anyone wants it. One per
thread or context would miss the threads that PyTorch starts by itself, whose contexts are empty:
the autograd engine's, in which activation checkpointing runs the forward pass again, and
``DataParallel``'s. A thread that did not ask for the patch gets the same values anyway.
"""

import contextlib
import functools
import inspect
import os
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from gridsample_ext import _compat, _ops, distributed, functional

_MODES = {number: _ops.name_of(_ops.MODES, number) for number in _ops.TORCH_MODES}
_PADDING_MODES = {
    number: name
    for name, number in _ops.PADDING_MODES.items()
    if number in _ops.TORCH_PADDING_MODES
}
_CACHE_KEY_TAG = "gridsample_ext.patch"

# Re-entrant, because an object's finalizer may undo a patch while this thread holds it.
_lock = threading.RLock()
_in_force = {"exact": 0, "native": 0}  # how many of each kind of patch
_replaced: Any = functional.torch_grid_sampler
_undo = contextlib.ExitStack()
# A child that is forked while another thread holds the lock would wait for that thread for ever.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


class Patch:
    """A patch of ``torch.nn.functional.grid_sample``; made by :func:`gridsample_ext.patch`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._count = 0
        self._awaits_with = False

    def undo(self) -> None:
        """Take this patch back; others stay in force. A second call does nothing.

        After the last patch ``F.grid_sample`` computes by PyTorch's own kernels again. It reaches
        them by way of Python, which costs a call some microseconds, until the process ends.
        """
        with _lock:
            _add(self._kind, -self._count)
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
                _add(self._kind, -1)
                self._count -= 1

    def __copy__(self) -> "Patch":
        return self

    def __deepcopy__(self, memo: object) -> "Patch":
        return self

    def __reduce__(self) -> tuple[type["Patch"], tuple[str]]:
        return Patch, (self._kind,)  # in another process it is undone

    def __repr__(self) -> str:
        native = "native " if self._kind == "native" else ""
        return f"<gridsample_ext {native}patch, {'in force' if self._count else 'undone'}>"

    def _apply(self) -> None:
        _add(self._kind, 1)
        self._count += 1


def patch(*, native: bool = False) -> Patch:
    """Make ``torch.nn.functional.grid_sample`` use this implementation, wherever it is called.

    In force from the call on, until :meth:`.Patch.undo` of the result or the end of a ``with``
    block. Patches nest, in any order, and may be made and undone by any thread; they are in force
    in all threads while at least one of them is. A process started by ``spawn`` starts unpatched.

    A patched call is PyTorch's in everything but its kernels: it has the dtype, the layout
    (contiguous) and the errors that it has unpatched, and autocast, autograd, ``torch.func``,
    checkpoints, tracing, scripting and export treat it as they always do. Code that calls
    ``torch.grid_sampler``, ``torch.grid_sampler_2d``, ``torch.ops.aten.grid_sampler_2d_backward``
    and the like, or TorchScript, is patched, too. What is traced, scripted or exported holds
    PyTorch's op and runs where gridsample_ext is not installed. What ``torch.compile`` compiles
    with Inductor, its default, while patched keeps these kernels; what it has compiled before keeps
    PyTorch's, until ``torch.compiler.reset()``. (The backends "eager" and "aot_eager" call the ops
    anew each time.) Tensors of other devices and types go to PyTorch's kernels.

    The backward pass of a call takes these kernels if a patch is in force when it runs, whenever
    the call was made: run ``backward()`` within the ``with`` block. A native call keeps its
    backward pass.

    Args:
        native: whether ``F.grid_sample`` is to be :func:`gridsample_ext.grid_sample`, with what
            that has beyond PyTorch's: a channels-last ``input`` gives a channels-last output; under
            autocast the output keeps ``input``'s dtype; two dtypes, a batch of one on one side and
            tricubic sampling succeed; second derivatives are fused, and there are forward mode and
            a deterministic gradient on CUDA; errors in shapes have other texts; traces and exports
            hold the op of gridsample_ext. While patches of both kinds are in force, all calls are
            native. ``F.grid_sample`` keeps its five arguments and its three paddings, and refuses
            images of integers and complex numbers. ``torch.jit.script`` and code that calls the ops
            behind ``F.grid_sample`` are patched in the ordinary way.

    Returns:
        The patch, to undo it, or for a ``with`` statement. If the result is dropped, the patch
        stays for the life of the process.

    Raises:
        RuntimeError: the installed PyTorch's ``grid_sample`` is not built as expected. Then nothing
            is patched.

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
    result = Patch("native" if native else "exact")
    with _lock:
        result._apply()
        result._awaits_with = True
    return result


def _add(kind: str, change: int) -> None:
    """Count patches; replace what they replace for the first, and put it back after the last.

    An error on the way leaves all as it was.
    """
    was_in_force = sum(_in_force.values()) > 0
    _in_force[kind] += change
    if was_in_force == (sum(_in_force.values()) > 0):
        return
    if was_in_force:
        _undo.close()
        return
    try:
        with contextlib.ExitStack() as undo:
            _replace_kernels()
            undo.callback(_replace_name())
            undo.callback(_compat.tag_compile_caches(_CACHE_KEY_TAG))
            _undo.push(undo.pop_all())
    except BaseException:
        _in_force[kind] -= change
        raise


# --- The kernels ------------------------------------------------------------------------------


def _torch_takes(
    dims: int, input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int
) -> bool:
    """Whether PyTorch takes a call, of which our ops take more kinds."""
    return (
        input.dtype in _ops.DTYPES
        and grid.dtype == input.dtype
        and input.dim() == grid.dim() == dims + 2
        and input.size(0) == grid.size(0)
        and interpolation_mode in _ops.TORCH_MODES
        and padding_mode in _ops.TORCH_PADDING_MODES
        and (interpolation_mode != _ops.BICUBIC or dims == 2 or _compat.torch_has_tricubic())
    )


def _forward_kernel(
    dims: int,
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor | None:
    if not _torch_takes(dims, input, grid, interpolation_mode, padding_mode):
        return None
    output: Tensor = _ops.grid_sample(input, grid, interpolation_mode, padding_mode, align_corners)
    return output.contiguous()


def _backward_kernel(
    dims: int,
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    output_mask: list[bool],
) -> tuple[Tensor | None, Tensor | None] | None:
    if not _torch_takes(dims, input, grid, interpolation_mode, padding_mode):
        return None
    if grad_output.dtype != input.dtype:
        return None
    if input.is_cuda and torch.are_deterministic_algorithms_enabled():
        return None  # an error of PyTorch's
    grad_input, grad_grid = _ops.grid_sample_backward(
        grad_output, input, grid, interpolation_mode, padding_mode, align_corners, output_mask
    )
    return None if grad_input is None else grad_input.contiguous(), grad_grid


_CUDNN = 0, 0, True  # bilinear, zeros, align_corners: what cuDNN samples


def _cudnn_forward_kernel(input: Tensor, grid: Tensor) -> Tensor | None:
    return _forward_kernel(2, input, grid, *_CUDNN)


def _cudnn_backward_kernel(
    input: Tensor, grid: Tensor, grad_output: Tensor
) -> tuple[Tensor | None, Tensor | None] | None:
    return _backward_kernel(2, grad_output, input, grid, *_CUDNN, [True, True])


_KERNELS: dict[str, Callable[..., Any]] = {
    "grid_sampler_2d": functools.partial(_forward_kernel, 2),
    "grid_sampler_3d": functools.partial(_forward_kernel, 3),
    "grid_sampler_2d_backward": functools.partial(_backward_kernel, 2),
    "grid_sampler_3d_backward": functools.partial(_backward_kernel, 3),
}
_CUDNN_KERNELS: dict[str, Callable[..., Any]] = {
    "cudnn_grid_sampler": _cudnn_forward_kernel,
    "cudnn_grid_sampler_backward": _cudnn_backward_kernel,
}

_library: torch.library.Library | None = None  # keeps them registered
_registered: set[tuple[str, str]] = set()


def _replace_kernels() -> None:
    """Put ours in the place of PyTorch's, for the life of the process.

    They pass on while no patch is in force (:func:`_kernel`). They are never taken away again: a
    thread that is just calling one would be left with freed memory, and not every thread is known.
    """
    global _library
    _compat.torch_has_tricubic()  # to be asked of PyTorch's own kernels
    wanted = [(name, "CPU", ours) for name, ours in _KERNELS.items()]
    if _ops.cuda_library_error() is None:
        wanted += [(name, "CUDA", ours) for name, ours in (_KERNELS | _CUDNN_KERNELS).items()]
    kernels = {
        (name, key): _kernel(name, key, ours)
        for name, key, ours in wanted
        if (name, key) not in _registered
    }
    if _library is None:
        _library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced
        for (name, key), kernel in kernels.items():
            _library.impl(name, kernel, key, allow_override=True)
            _registered.add((name, key))


def _kernel(name: str, key: str, ours: Callable[..., Any]) -> Callable[..., Any]:
    """Make a kernel that calls ours, or PyTorch's where ours is not for the call."""
    original = _compat.kernel_of(name, key)

    def kernel(*arguments: Any) -> Any:
        if _in_force["exact"] > 0 or _in_force["native"] > 0:
            try:
                result = ours(*arguments)
            except RuntimeError:
                result = None  # and the error is PyTorch's
            if result is not None:
                return result
        return original(*arguments)

    return kernel


# --- The name ---------------------------------------------------------------------------------


def _replace_name() -> Callable[[], None]:
    """Replace ``torch.grid_sampler``, and return what puts it back."""
    global _replaced
    # Still ours if someone, having saved it while patched, put it back later.
    if torch.grid_sampler is not _grid_sampler:
        _replaced = torch.grid_sampler
    # torch.jit.script knows the names of torch by the objects they stand for.
    _compat.name_for_torchscript(_grid_sampler, "aten::grid_sampler")
    torch.grid_sampler = _grid_sampler
    return _put_name_back


def _put_name_back() -> None:
    # Someone else's replacement may call ours, which passes on while no patch is in force.
    if torch.grid_sampler is _grid_sampler:
        torch.grid_sampler = _replaced


def _grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Stand in for ``torch.grid_sampler``."""
    arguments = input, grid, interpolation_mode, padding_mode, align_corners
    if _in_force["native"] and _is_supported(*arguments):
        return functional.grid_sample(
            input,
            grid,
            _MODES[interpolation_mode],
            _PADDING_MODES[padding_mode],
            align_corners,
        )
    result: Tensor = _replaced(*arguments)
    if (
        _in_force["exact"]
        and _compat.is_in_torch_compile()
        and _is_supported(*arguments)
        and _torch_takes_types(input, grid)
    ):
        # Of PyTorch's call the dtype remains; in the graph it is a node that nobody uses. Of a
        # contiguous input the output is contiguous, and so is the gradient.
        input, grid = input.to(result.dtype).contiguous(), grid.to(result.dtype)
        with contextlib.suppress(RuntimeError):  # the kernel of result will say what is wrong
            result = _ops.grid_sample(input, grid, *arguments[2:])
    return result


def _torch_takes_types(input: Tensor, grid: Tensor) -> bool:
    """Whether PyTorch's kernels take these types, which only they check; two if autocast casts."""
    if input.dtype == grid.dtype:
        return True
    is_cast = torch.is_autocast_enabled(input.device.type)
    return is_cast and torch.float64 not in (input.dtype, grid.dtype)


def _is_supported(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> bool:
    return (
        interpolation_mode in _MODES
        and padding_mode in _PADDING_MODES
        and isinstance(align_corners, bool)
        and not has_torch_function_variadic(input, grid)
        and _is_supported_tensor(input)
        and _is_supported_tensor(grid)
        and input.device == grid.device
        and functional.why_not_ours(input.device) is None
    )


def _is_supported_tensor(value: object) -> bool:
    """Whether it is a tensor that our ops can be given."""
    kind: Any = type(value)
    if kind is not Tensor and not (
        isinstance(value, Tensor)
        and (
            # Ops are computed on its data, and not by its class ...
            kind.__torch_dispatch__ is Tensor.__torch_dispatch__
            # ... or by one of those that take any op.
            or _compat.is_tracing_tensor(kind)
            or distributed.is_dtensor_type(kind)
        )
    ):
        return False
    return value.dtype in _ops.DTYPES and value.layout == torch.strided  # type: ignore[attr-defined]
