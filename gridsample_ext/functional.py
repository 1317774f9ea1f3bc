"""The public function."""

import functools
import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from gridsample_ext import _compat, _composed, _ops, distributed, onnx
from gridsample_ext._ops import Options
from gridsample_ext.autograd import bare_grid_sample, below_autograd, record_grid_sample

_DEVICES = ("cpu", "meta")  # with kernels in any case, or none needed; CUDA is asked for its own

# PyTorch's own, whatever is patched later.
torch_grid_sample = F.grid_sample
torch_grid_sampler = _compat.torch_grid_sampler


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool | None = None,
    *,
    coordinates: str = "normalized",
    fill_value: float | None = None,
    outside_value: float | None = None,
    cubic_coefficient: float | None = None,
) -> Tensor:
    r"""Sample ``input`` at the positions that ``grid`` gives, interpolating between pixels.

    A drop-in :func:`torch.nn.functional.grid_sample`, whose documentation defines the operation.
    Beyond it: tricubic sampling of volumes, a ``grid`` whose dtype differs from ``input``'s, a
    batch of one on either side that is broadcast without a copy, circular padding, a padding for
    each axis, and the keywords below.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W), float16, bfloat16, float32 or float64, in any
            strides. H, W and D are at least 1.
        grid: (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), of any of these dtypes. The last
            dimension holds x, y(, z), which index W, H(, D); -1 and 1 are the ends of the image.
            N may be 1 here or in ``input``. NaN is read as -1 and an infinity as the largest
            finite value; their gradient is 0.
        mode: ``"bilinear"`` (trilinear for volumes), ``"nearest"`` (ties to even) or ``"bicubic"``
            (cubic convolution, Keys 1981; the tensor product for volumes).
        padding_mode: what lies outside the image: ``"zeros"``; ``"border"``, its nearest pixel;
            ``"reflection"``, its mirror image, repeated; or ``"circular"``, the image itself,
            repeated. One for all axes, or a tuple with one for each, in the order x, y(, z).
        align_corners: whether -1 and 1 are the centres of the outermost pixels (True) or their
            outer edges (False). ``None`` warns and means False, as in PyTorch.
        coordinates: ``"normalized"``, as above, or ``"pixel"``: the grid counts pixels, and 0 is
            the centre of the first. ``align_corners`` then says only where reflection folds, and
            ``None`` means False without a warning. NaN is read as what -1 is there.
        fill_value: what pixels outside the image are, on axes padded with zeros: any float; 0 if
            ``None``.
        outside_value: if not ``None``, the value of samples that do not lie on a pixel: farther
            than half a pixel from the nearest pixel's centre on some axis, whatever the padding.
            They have no gradients. :func:`gridsample_ext.inside` tells which they are not.
        cubic_coefficient: of the cubic kernel, in [-1, 0]: -0.75, PyTorch's and OpenCV's, if
            ``None``; -0.5 is the Catmull-Rom spline, which Pillow and TensorFlow have.

    Returns:
        (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) in ``input``'s dtype; channels-last if
        ``input`` is. Coordinates and sums are float32, or float64 if ``input`` or ``grid`` is.

    Gradients flow to ``input`` and ``grid``, each in its own dtype, and only those needed are
    computed. Derivatives of any order exist, in reverse and forward mode; those beyond the second
    are composed of tensor operations. On the CPU results are bitwise repeatable and do not depend
    on the number of threads. On CUDA the output and the gradient of ``grid`` are bitwise
    repeatable, that of ``input`` under :func:`torch.use_deterministic_algorithms`.

    Raises:
        ValueError: unknown ``mode``, ``padding_mode`` or ``coordinates``; a ``cubic_coefficient``
            out of range; ``fill_value`` where no axis is padded with zeros, or
            ``cubic_coefficient`` where the mode is not bicubic.
        TypeError: ``input`` or ``grid`` is not a tensor, ``align_corners`` not a bool, or a value
            not a number.
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

        Pixel coordinates, and an image that goes round along x, as a panorama does:

        >>> points = torch.tensor([[[[3.5, 0.0], [-0.5, 1.0]]]])
        >>> gridsample_ext.grid_sample(
        ...     image, points, padding_mode=("circular", "border"), coordinates="pixel"
        ... )
        tensor([[[[1.5000, 5.5000]]]])

        White paper around the image, and a mark for what does not lie on it:

        >>> edge = torch.tensor([[[[-0.5, 0.0], [-0.6, 0.0]]]])
        >>> gridsample_ext.grid_sample(
        ...     image, edge, coordinates="pixel", fill_value=255.0, outside_value=-1.0
        ... )
        tensor([[[[127.5000,  -1.0000]]]])

        The Catmull-Rom spline:

        >>> middle = torch.tensor([[[[1.5, 1.0]]]])
        >>> square = image**2
        >>> gridsample_ext.grid_sample(
        ...     square, middle, "bicubic", coordinates="pixel", cubic_coefficient=-0.5
        ... )
        tensor([[[[30.2500]]]])

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
            coordinates=coordinates,
            fill_value=fill_value,
            outside_value=outside_value,
            cubic_coefficient=cubic_coefficient,
        )
    try:
        mode_enum = _ops.MODES[mode]
    except (KeyError, TypeError):
        raise _unknown("mode", mode, _ops.MODES) from None
    try:
        padding_enum = _ops.PADDING_MODES[padding_mode]  # type: ignore[index]
    except (KeyError, TypeError):
        padding_enum = padding_of_axes(padding_mode, input)
    later: tuple[Any, ...] = ()
    # No float is looked at here, which torch.compile would guard.
    if not (
        coordinates == "normalized"
        and fill_value is None
        and outside_value is None
        and cubic_coefficient is None
    ):
        values = fill_value, outside_value, cubic_coefficient
        later = later_options(input, mode_enum, padding_enum, coordinates, *values)
        if coordinates == "pixel" and align_corners is None:
            align_corners = False
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
            options = Options(mode_enum, padding_enum, align_corners, *later)
            return _fall_back(why_not, input, grid, options)
    if type(input) is not Tensor or type(grid) is not Tensor:
        distributed.prepare_for(type(input), type(grid))
    if torch.compiler.is_compiling():
        if onnx.is_exporting():
            options = Options(mode_enum, padding_enum, align_corners, *later)
            return onnx.grid_sample_for_export(input, grid, options)
    elif not (_compat.is_jit_tracing() or _compat.in_func_transform() or _compat.in_dual_level()):
        # What the op would do as well, in more time.
        if torch.is_grad_enabled() and (input.requires_grad or grid.requires_grad):
            return record_grid_sample(input, grid, mode_enum, padding_enum, align_corners, *later)
        return below_autograd(
            bare_grid_sample, input, grid, mode_enum, padding_enum, align_corners, *later
        )
    return _ops.grid_sample(  # type: ignore[no-any-return]
        input, grid, mode_enum, padding_enum, align_corners, *later
    )


def _unknown(name: str, value: object, known: Iterable[str]) -> ValueError:
    return ValueError(
        f"grid_sample(): expected {name} to be {_ops.one_of(map(repr, known))}, but got: {value!r}"
    )


def padding_of_axes(padding_mode: object, input: Tensor) -> int:
    """The number of a padding for each axis, or the error if it is none."""
    if not isinstance(padding_mode, tuple | list):
        raise _unknown("padding_mode", padding_mode, _ops.PADDING_MODES)
    for name in padding_mode:
        if not isinstance(name, str) or name not in _ops.PADDING_MODES:
            raise _unknown("each of padding_mode", padding_mode, _ops.PADDING_MODES)
    dims = input.dim() - 2 if isinstance(input, Tensor) else 0
    if dims in (2, 3) and len(padding_mode) != dims:
        raise ValueError(
            f"grid_sample(): expected padding_mode to have {dims} entries, one for each of the "
            f"axes {'x, y' if dims == 2 else 'x, y, z'}, but got {padding_mode!r} for input with "
            f"sizes {list(input.shape)}"
        )
    if len(padding_mode) not in (2, 3):
        raise ValueError(
            "grid_sample(): expected padding_mode to have 2 or 3 entries, one for each axis, but "
            f"got {padding_mode!r}"
        )
    return _ops.padding_number(tuple(_ops.PADDING_MODES[name] for name in padding_mode))


def later_options(
    input: Tensor,
    mode: int,
    padding_mode: int,
    coordinates: str,
    fill_value: float | None,
    outside_value: float | None,
    cubic_coefficient: float | None,
) -> tuple[bool, float, float | None, float]:
    """The ops' later options of the keywords, if they are good."""
    if coordinates not in ("normalized", "pixel"):
        raise _unknown("coordinates", coordinates, ("normalized", "pixel"))
    fill = _real("fill_value", fill_value)
    outside = _real("outside_value", outside_value)
    cubic = _real("cubic_coefficient", cubic_coefficient)
    dims = min(max(input.dim() - 2, 1), 3) if isinstance(input, Tensor) else 1
    if fill is not None and _ops.ZEROS not in Options(mode, padding_mode, False).paddings(dims):
        raise ValueError(
            "grid_sample(): expected fill_value to go with an axis that is padded with 'zeros', "
            f"but got fill_value={fill_value!r} and another padding_mode"
        )
    if cubic is not None and not -1 <= cubic <= 0:
        raise ValueError(
            "grid_sample(): expected cubic_coefficient to be in [-1, 0], but got: "
            f"{cubic_coefficient!r}"
        )
    if cubic is not None and mode != _ops.BICUBIC:
        raise ValueError(
            "grid_sample(): expected cubic_coefficient to go with mode='bicubic', but got "
            f"cubic_coefficient={cubic_coefficient!r} and another mode"
        )
    return (
        coordinates == "pixel",
        0.0 if fill is None else fill,
        outside,
        _ops.USUAL_CUBIC if cubic is None else cubic,
    )


def _real(name: str, value: object) -> float | None:
    """As a float; None stays None."""
    if value is None:
        return None
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    raise TypeError(
        f"grid_sample(): expected {name} to be a float or None, not {_type_name(value)}"
    )


def options_of(
    input: Tensor,
    mode: str,
    padding_mode: str | Sequence[str],
    align_corners: bool,
    **later: Any,
) -> Options:
    """The ops' options of good arguments of :func:`grid_sample`."""
    mode_enum = _ops.MODES[mode]
    if isinstance(padding_mode, str):
        padding_enum = _ops.PADDING_MODES[padding_mode]
    else:
        padding_enum = padding_of_axes(padding_mode, input)
    return Options(
        mode_enum,
        padding_enum,
        align_corners,
        *later_options(input, mode_enum, padding_enum, *later.values()),
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


def _fall_back(why: str, input: Tensor, grid: Tensor, options: Options) -> Tensor:
    """``F.grid_sample``, or a composition of tensor operations for options it does not know."""
    if not options.are_known_to_pytorch:
        if not torch.compiler.is_compiling():
            _warn_fallback_once(why, "tensor operations are", "more memory and time")
        _ops.output_shape(input, grid, options)  # which checks
        return _composed.grid_sample(input, grid, options)
    if not torch.compiler.is_compiling():
        _warn_fallback_once(why, "torch.nn.functional.grid_sample is", "its speed and its limits")
    if input.dim() == grid.dim() and input.dim() > 0:
        if input.size(0) == 1:
            input = input.expand(grid.size(0), *input.shape[1:])
        elif grid.size(0) == 1:
            grid = grid.expand(input.size(0), *grid.shape[1:])
    return torch_grid_sampler(input, grid, *options.first)


@functools.cache
def _warn_fallback_once(why: str, what: str, cost: str) -> None:
    warnings.warn(
        f"gridsample_ext has nothing of its own for {why} yet; {what} used there, with {cost} "
        "(this is said once)",
        stacklevel=4,
    )
