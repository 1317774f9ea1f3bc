"""The public functions."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from gridsample_ext import _compat, _composed, _fakes, _ops, _options, _pixels, distributed, onnx
from gridsample_ext._ops import Options
from gridsample_ext._options import Keywords
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
    batch of one on either side that is broadcast without a copy, cubic B-splines, circular padding,
    a padding for each axis, and the keywords below.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W), float16, bfloat16, float32 or float64, in any
            strides. H, W and D are at least 1. Also complex64 and complex128, real and imaginary
            part each by itself; bool and integers in mode ``"nearest"``; and uint8 and int16 in
            the others: computed in float32, rounded half to even and clamped to the dtype's range,
            without gradients.
        grid: (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), float16 to float64. The last
            dimension holds x, y(, z), which index W, H(, D); -1 and 1 are the ends of the image.
            N may be 1 here or in ``input``. NaN is read as -1 and an infinity as the largest
            finite value; their gradient is 0.
        mode: ``"bilinear"`` (trilinear for volumes), ``"nearest"`` (ties to even), ``"bicubic"``
            (cubic convolution, Keys 1981; the tensor product for volumes) or ``"bspline"`` (cubic
            B-splines, of which ``input`` holds the coefficients: :func:`spline_filter` makes them
            of pixels).
        padding_mode: what lies outside the image: ``"zeros"``; ``"border"``, its nearest pixel;
            ``"reflection"``, its mirror image, repeated; or ``"circular"``, the image itself,
            repeated every W pixels (H, D) whatever ``align_corners`` is. One for all axes, or a
            tuple with one for each, in the order x, y(, z).
        align_corners: whether -1 and 1 are the centres of the outermost pixels (True) or their
            outer edges (False). ``None`` warns and means False, as in PyTorch.
        coordinates: ``"normalized"``, as above, or ``"pixel"``: the grid counts pixels, and 0 is
            the centre of the first. ``align_corners`` then says only where reflection folds, and
            ``None`` means False without a warning. NaN is read as what -1 is there. (A float16 grid
            holds whole pixels up to 2048, a bfloat16 grid up to 256.)
        fill_value: what pixels outside the image are, in all channels, on axes padded with zeros: a
            number that the coordinates' type holds, or an infinity or NaN; 0 if ``None``. For
            ``"nearest"`` of integers, a number that ``input``'s dtype holds.
        outside_value: if not ``None``, such a number, too: the value of samples that do not lie on
            a pixel, but farther than half a pixel from the nearest pixel's centre on some axis,
            whatever the padding (circular padding included). They have no gradients.
            :func:`gridsample_ext.inside` tells which they are not.
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
        NotImplementedError: ``input`` is not of a dtype named above, or a tensor is not strided.
        RuntimeError: shapes, dtypes or devices that do not fit, or a value outside that its type
            does not hold; the message names them.
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
        padding_enum = _ops.PADDING_MODES[padding_mode]  # type: ignore[index]
    except (KeyError, TypeError):
        mode_enum = _options.mode_number(mode, "grid_sample")
        padding_enum = _options.padding_number(padding_mode, input, "grid_sample")
    later: tuple[Any, ...] = ()
    # No float is looked at here, which torch.compile would guard.
    if not (
        coordinates == "normalized"
        and fill_value is None
        and outside_value is None
        and cubic_coefficient is None
    ):
        keywords = Keywords(coordinates, fill_value, outside_value, cubic_coefficient)
        later = _options.later_options(input, mode_enum, padding_enum, keywords, "grid_sample")
    if align_corners is not True and align_corners is not False:
        align_corners = _options.align_corners_or_default(align_corners, coordinates, "grid_sample")
    are_tensors = isinstance(input, Tensor) and isinstance(grid, Tensor)
    on_cpu = are_tensors and input.is_cpu and grid.is_cpu
    if not (
        are_tensors
        and input.layout is torch.strided
        and grid.layout is torch.strided
        and (on_cpu or input.device == grid.device)
    ):
        _options.check_tensors({"input": input, "grid": grid}, "grid_sample")
    if input.dtype not in _ops.DTYPES and not (
        mode_enum == _ops.NEAREST and input.dtype in _ops.INTEGERS
    ):
        return _pixels.grid_sample(
            input,
            grid,
            mode,
            padding_mode,
            align_corners,
            Keywords(coordinates, fill_value, outside_value, cubic_coefficient),
        )
    if not on_cpu:
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
        if not later:  # to take them apart would take time
            return below_autograd(
                bare_grid_sample, input, grid, mode_enum, padding_enum, align_corners
            )
        return below_autograd(
            bare_grid_sample, input, grid, mode_enum, padding_enum, align_corners, *later
        )
    return _ops.grid_sample(  # type: ignore[no-any-return]
        input, grid, mode_enum, padding_enum, align_corners, *later
    )


def sample_labels(
    labels: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool | None = None,
    *,
    coordinates: str = "normalized",
    fill_value: int | None = None,
    outside_value: int | None = None,
    cubic_coefficient: float | None = None,
) -> Tensor:
    r"""Sample a label map softly: for each sample the label whose pixels' weights add up to most.

    What one-hot encoding, :func:`grid_sample` of it and ``argmax`` give, without the encoding: no
    memory beside the result, whatever the number of labels. Of labels with equal weights the
    smallest is taken. Labels need not be in a row, and may be negative.

    Args:
        labels: (N, C, H, W) or (N, C, D, H, W), integers of any dtype, or bools, in any strides.
            C label maps are sampled at the same positions.
        grid: see :func:`grid_sample`; so are the next three.
        mode: the weights of the pixels under a sample; ``"nearest"`` gives the nearest label.
        padding_mode: under ``"zeros"`` pixels outside count for no label.
        align_corners: see :func:`grid_sample`.
        coordinates: see :func:`grid_sample`.
        fill_value: the label that pixels outside count for, on axes padded with zeros. ``None``:
            for no label; samples in which no label has a weight above 0 are 0.
        outside_value: the label of samples that do not lie on a pixel; see :func:`grid_sample`.
        cubic_coefficient: see :func:`grid_sample`.

    Returns:
        (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) in ``labels``' dtype, without gradients.
        Weights are float32, or float64 if ``grid`` is.

    Raises:
        ValueError, TypeError, NotImplementedError, RuntimeError: as :func:`grid_sample`.

    Example:
        >>> import torch, gridsample_ext
        >>> labels = torch.tensor([[[[7, 7, 300], [7, 300, 300]]]])
        >>> points = torch.tensor([[[[0.4, 0.4], [0.6, 0.6], [1.5, 1.0]]]])
        >>> gridsample_ext.sample_labels(labels, points, coordinates="pixel")
        tensor([[[[  7,   7, 300]]]])

    """
    if has_torch_function_variadic(labels, grid):
        return handle_torch_function(
            sample_labels,
            (labels, grid),
            labels,
            grid,
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            coordinates=coordinates,
            fill_value=fill_value,
            outside_value=outside_value,
            cubic_coefficient=cubic_coefficient,
        )
    fill, outside = (
        _options.integer(name, value, "sample_labels")
        for name, value in (("fill_value", fill_value), ("outside_value", outside_value))
    )
    keywords = Keywords(coordinates, cubic_coefficient=cubic_coefficient)
    options = _options.options_of(
        labels, mode, padding_mode, align_corners, keywords, "sample_labels"
    )
    _options.check_fill(fill, options, _options.dims_of(labels), "sample_labels")
    # Of the values only whether they are given is an option; the ops take the labels apart.
    options = options._replace(
        fill_value=0.0 if fill is None else 1.0, outside_value=None if outside is None else 1.0
    )
    _options.check_tensors({"labels": labels, "grid": grid}, "sample_labels")
    if labels.dtype not in _ops.INTEGERS:
        raise NotImplementedError(
            "sample_labels(): expected labels to hold integers or bools, but got labels with sizes "
            f"{list(labels.shape)} and dtype {labels.dtype}; convert them, or sample with "
            "grid_sample()"
        )
    for name, value in (("fill_value", fill), ("outside_value", outside)):
        _fakes.check_holds(labels.dtype, name, value)
    if torch.compiler.is_compiling() and onnx.is_exporting():
        raise torch.onnx.OnnxExporterError("sample_labels(): ONNX has no operator for it")
    why_not = why_not_ours(labels.device)
    if why_not is not None:
        warn_of_composing(why_not)
        _fakes.output_shape(labels, grid, options, may_copy=True, name="labels")  # which checks
        return _composed.sample_labels(labels, grid, options, fill, outside)
    if type(labels) is not Tensor or type(grid) is not Tensor:
        distributed.prepare_for(type(labels), type(grid))
    return _ops.sample_labels(  # type: ignore[no-any-return]
        labels,
        grid,
        options.interpolation_mode,
        options.padding_mode,
        options.align_corners,
        options.pixel_coordinates,
        _ops.as_int64(fill),
        _ops.as_int64(outside),
        options.cubic_coefficient,
    )


def inside(
    grid: Tensor,
    size: Sequence[int],
    align_corners: bool | None = None,
    *,
    coordinates: str = "normalized",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Tell which samples lie on a pixel: within half a pixel of a pixel's centre on every axis.

    The samples for which it is False are given a value by ``outside_value`` of
    :func:`grid_sample`.

    Args:
        grid: (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), as :func:`grid_sample` takes it.
        size: the spatial sizes of the image, (H, W) or (D, H, W): ``input.shape[2:]``.
        align_corners: see :func:`grid_sample`.
        coordinates: see :func:`grid_sample`.
        dtype: that of the image. It matters where it is float64 or complex128 and ``grid`` is not
            float64: coordinates are computed in float64 then.

    Returns:
        (N, H_out, W_out) or (N, D_out, H_out, W_out), bool. NaN is read as :func:`grid_sample`
        reads it, and lies on a pixel.

    Raises:
        ValueError: unknown ``coordinates``, or ``size`` is not two or three sizes above 0.
        TypeError: ``grid`` is not a tensor, ``align_corners`` not a bool, ``size`` not of ints, or
            ``dtype`` not a dtype.
        NotImplementedError: ``grid`` is not strided (dense).
        RuntimeError: ``grid`` is not floating-point, or it does not have a size and a coordinate
            for each of ``size``.

    Example:
        >>> import torch, gridsample_ext
        >>> points = torch.tensor([[[[-0.5, 0.0], [-0.6, 0.0], [3.5, 1.5]]]])
        >>> gridsample_ext.inside(points, (2, 4), coordinates="pixel")
        tensor([[[ True, False,  True]]])

    """
    if coordinates not in ("normalized", "pixel"):
        raise _options.unknown("coordinates", coordinates, ("normalized", "pixel"), "inside")
    corners = _options.align_corners_or_default(align_corners, coordinates, "inside")
    sizes = _options.spatial_sizes(size, "inside")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(
            f"inside(): expected dtype to be a torch.dtype or None, not {_options.type_name(dtype)}"
        )
    _options.check_grid(grid, sizes, "inside")
    is_wide = dtype in (torch.float64, torch.complex128)
    compute_type = _composed.compute_type(grid.dtype, torch.float64 if is_wide else grid.dtype)
    options = Options(_ops.NEAREST, _ops.ZEROS, corners, coordinates == "pixel")
    return _composed.on_image(grid.to(compute_type), sizes[::-1], options)


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
    if not options.are_known_to_pytorch or input.dtype not in _ops.DTYPES:
        if not torch.compiler.is_compiling():
            _warn_fallback_once(why, *_COMPOSING)
        may_copy = options.interpolation_mode == _ops.NEAREST
        _fakes.output_shape(input, grid, options, may_copy=may_copy)  # which checks
        return _composed.grid_sample(input, grid, options)
    if not torch.compiler.is_compiling():
        _warn_fallback_once(why, "torch.nn.functional.grid_sample is", "its speed and its limits")
    if input.dim() == grid.dim() and input.dim() > 0:
        if input.size(0) == 1:
            input = input.expand(grid.size(0), *input.shape[1:])
        elif grid.size(0) == 1:
            grid = grid.expand(input.size(0), *grid.shape[1:])
    return torch_grid_sampler(input, grid, *options.first)


_COMPOSING = "tensor operations are", "more memory and time"


def warn_of_composing(why: str, stacklevel: int = 4) -> None:
    """Say once that tensor operations stand for kernels, of which there are none."""
    if not torch.compiler.is_compiling():
        _warn_fallback_once(why, *_COMPOSING, stacklevel)


@functools.cache
def _warn_fallback_once(why: str, what: str, cost: str, stacklevel: int = 4) -> None:
    warnings.warn(
        f"gridsample_ext has nothing of its own for {why} yet; {what} used there, with {cost} "
        "(this is said once)",
        stacklevel=stacklevel,
    )
