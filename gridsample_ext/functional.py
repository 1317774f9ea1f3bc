"""The public function."""

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from gridsample_ext import _compat, _ops, distributed, onnx
from gridsample_ext.autograd import bare_grid_sample, below_autograd, record_grid_sample

_DEVICES = ("cpu", "meta")  # with kernels in any case, or none needed; CUDA is asked for its own

# PyTorch's own, whatever is patched later.
torch_grid_sample = F.grid_sample
torch_grid_sampler = _compat.torch_grid_sampler


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    r"""Sample ``input`` at the positions that ``grid`` gives, interpolating between pixels.

    A drop-in :func:`torch.nn.functional.grid_sample`, whose documentation defines the operation.
    Beyond it: tricubic sampling of volumes, a ``grid`` whose dtype differs from ``input``'s, and a
    batch of one on either side that is broadcast without a copy.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W), float16, bfloat16, float32 or float64, in any
            strides. H, W and D are at least 1.
        grid: (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), of any of these dtypes. The last
            dimension holds x, y(, z), which index W, H(, D); -1 and 1 are the ends of the image.
            N may be 1 here or in ``input``. NaN is read as -1 and an infinity as the largest
            finite value; their gradient is 0.
        mode: ``"bilinear"`` (trilinear for volumes), ``"nearest"`` (ties to even) or ``"bicubic"``
            (cubic convolution with A = -0.75, Keys 1981; the tensor product for volumes).
        padding_mode: what lies outside the image: ``"zeros"``; ``"border"``, its nearest pixel; or
            ``"reflection"``, its mirror image, repeated.
        align_corners: whether -1 and 1 are the centres of the outermost pixels (True) or their
            outer edges (False). ``None`` warns and means False, as in PyTorch.

    Returns:
        (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) in ``input``'s dtype; channels-last if
        ``input`` is. Coordinates and sums are float32, or float64 if ``input`` or ``grid`` is.

    Gradients flow to ``input`` and ``grid``, each in its own dtype, and only those needed are
    computed. Derivatives of any order exist, in reverse and forward mode; those beyond the second
    are composed of tensor operations. On the CPU results are bitwise repeatable and do not depend
    on the number of threads. On CUDA the output and the gradient of ``grid`` are bitwise
    repeatable, that of ``input`` under :func:`torch.use_deterministic_algorithms`.

    Raises:
        ValueError: unknown ``mode`` or ``padding_mode``.
        TypeError: ``input`` or ``grid`` is not a tensor, or ``align_corners`` not a bool.
        NotImplementedError: ``input`` is not of a floating-point dtype named above, or a tensor
            is not strided.
        RuntimeError: shapes, dtypes or devices that do not fit; the message names them.
        torch.OutOfMemoryError: no memory for the output or a gradient on CUDA (a RuntimeError on
            the CPU), with PyTorch's text.

    Example:
        >>> import torch, gridsample_ext
        >>> image = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> grid = torch.tensor([[[[-1.0, -1.0], [0.0, 0.0]]]])
        >>> gridsample_ext.grid_sample(image, grid, align_corners=True)
        tensor([[[[0.0000, 7.5000]]]])

    """
    if has_torch_function_variadic(input, grid):
        return handle_torch_function(
            grid_sample,
            (input, grid),
            input,
            grid,
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
        )
    try:
        mode_enum = _ops.MODES[mode]
    except (KeyError, TypeError):
        raise ValueError(
            f"grid_sample(): expected mode to be {_ops.one_of(map(repr, _ops.MODES))}, "
            f"but got: {mode!r}"
        ) from None
    try:
        padding_enum = _ops.PADDING_MODES[padding_mode]
    except (KeyError, TypeError):
        raise ValueError(
            "grid_sample(): expected padding_mode to be "
            f"{_ops.one_of(map(repr, _ops.PADDING_MODES))}, but got: {padding_mode!r}"
        ) from None
    if align_corners is None:
        if not torch.compiler.is_compiling():  # a warning would break the graph
            warnings.warn(
                "Default grid_sample and affine_grid behavior has changed to align_corners=False "
                "since 1.3.0. Please specify align_corners=True if the old behavior is desired. "
                "See the documentation of grid_sample for details.",
                stacklevel=2,
            )
        align_corners = False
    if not isinstance(input, Tensor) or not isinstance(grid, Tensor):
        name, value = ("grid", grid) if isinstance(input, Tensor) else ("input", input)
        raise TypeError(f"grid_sample(): expected {name} to be a Tensor, not {_type_name(value)}")
    if not isinstance(align_corners, bool):
        raise TypeError(
            f"grid_sample(): expected align_corners to be a bool, not {_type_name(align_corners)}"
        )
    if input.dtype not in _ops.DTYPES:
        raise NotImplementedError(
            "grid_sample(): expected input to have dtype float16, bfloat16, float32 or float64, "
            f"but got input with sizes {list(input.shape)} and dtype {input.dtype}"
        )
    if input.layout is not torch.strided or grid.layout is not torch.strided:
        raise NotImplementedError(
            "grid_sample(): expected input and grid to be strided (dense), but got input with "
            f"sizes {list(input.shape)} and layout {input.layout} and grid with sizes "
            f"{list(grid.shape)} and layout {grid.layout}"
        )
    if not (input.is_cpu and grid.is_cpu):
        if input.device != grid.device:
            raise RuntimeError(
                "grid_sample(): expected grid and input to be on the same device, but got input "
                f"with sizes {list(input.shape)} on {input.device} and grid with sizes "
                f"{list(grid.shape)} on {grid.device}"
            )
        why_not = why_not_ours(input.device)
        if why_not is not None:
            return _fall_back(why_not, input, grid, mode, padding_mode, align_corners)
    if type(input) is not Tensor or type(grid) is not Tensor:
        distributed.prepare_for(type(input), type(grid))
    if torch.compiler.is_compiling():
        if onnx.is_exporting():
            return onnx.grid_sample_for_export(input, grid, mode_enum, padding_enum, align_corners)
    elif not (_compat.is_jit_tracing() or _compat.in_func_transform() or _compat.in_dual_level()):
        # What the op would do as well, in more time.
        if torch.is_grad_enabled() and (input.requires_grad or grid.requires_grad):
            return record_grid_sample(input, grid, mode_enum, padding_enum, align_corners)
        return below_autograd(bare_grid_sample, input, grid, mode_enum, padding_enum, align_corners)
    return _ops.grid_sample(  # type: ignore[no-any-return]
        input, grid, mode_enum, padding_enum, align_corners
    )


def _type_name(value: object) -> str:
    module, name = type(value).__module__, type(value).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def why_not_ours(device: torch.device) -> str | None:
    """Why there is no kernel of ours for tensors of a device, or None if there is."""
    if device.type in _DEVICES:
        return None
    if device.type != "cuda":
        return f"device type {device.type!r}"
    problem = _ops.cuda_problem(device.index)
    return None if problem is None else f"CUDA tensors ({problem})"


def _fall_back(
    why: str, input: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool
) -> Tensor:
    """``F.grid_sample``, which lacks our broadcast of a batch of one."""
    if not torch.compiler.is_compiling():
        _warn_fallback_once(why)
    if input.dim() == grid.dim() and input.dim() > 0:
        if input.size(0) == 1:
            input = input.expand(grid.size(0), *input.shape[1:])
        elif grid.size(0) == 1:
            grid = grid.expand(input.size(0), *grid.shape[1:])
    return torch_grid_sampler(
        input, grid, _ops.MODES[mode], _ops.PADDING_MODES[padding_mode], align_corners
    )


@functools.cache
def _warn_fallback_once(why: str) -> None:
    warnings.warn(
        f"gridsample_ext has nothing of its own for {why} yet; torch.nn.functional.grid_sample is "
        "used there, with its speed and its limits (this is said once)",
        stacklevel=4,
    )
