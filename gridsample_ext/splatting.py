"""``splat``: what is sampled at a grid, given back to the image. The adjoint of ``grid_sample``."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from gridsample_ext import _composed, _ops, _options, distributed, functional, onnx
from gridsample_ext._compat import guard_or_false
from gridsample_ext._options import Keywords
from gridsample_ext._sources import UNITS, Source

_SHAPES = {2: "(N, C, H_out, W_out)", 3: "(N, C, D_out, H_out, W_out)"}


def splat(
    values: Tensor,
    grid: Tensor | None = None,
    size: Sequence[int] | None = None,
    mode: str = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool = False,
    *,
    coordinates: str = "normalized",
    cubic_coefficient: float | None = None,
    displacement: Tensor | None = None,
    affine: Tensor | None = None,
    units: str | None = None,
    displacement_dim: int = 1,
) -> Tensor:
    r"""Add ``values`` into an image of zeros at the positions that ``grid`` gives.

    Each value is divided among the pixels that :func:`grid_sample` would read there, by the weights
    that it would give them: the result is the gradient of ``input`` that ``grid_sample`` has where
    the gradient of its output is ``values``. Values whose pixels lie outside the image are lost
    under ``"zeros"``, and go where the padding says otherwise. Known as forward warping, and as
    push, in registration.

    Args:
        values: (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out), float16, bfloat16, float32 or
            float64, in any strides.
        grid: (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), as :func:`grid_sample` takes it.
            N may be 1 here or in ``values``. Without it ``displacement`` or ``affine`` say where
            values go, and the result is what :func:`warp` of these is the adjoint of.
        size: the spatial sizes of the result, (H, W) or (D, H, W); without a grid by default those
            of ``values``.
        mode: see :func:`grid_sample`; so are the next four.
        padding_mode: see :func:`grid_sample`.
        align_corners: see :func:`grid_sample`.
        coordinates: see :func:`grid_sample`; of a grid alone.
        cubic_coefficient: see :func:`grid_sample`.
        displacement: see :func:`warp`; so are the rest. Not together with a grid.
        affine: see :func:`warp`.
        units: see :func:`warp`; ``None`` means ``"pixel"``.
        displacement_dim: see :func:`warp`.

    Returns:
        (N, C, \*size) in ``values``' dtype, contiguous. Sums are float32, or float64 if a tensor
        is.

    Gradients flow to ``values``, by sampling, and to what says where they go, to any order, in
    reverse and forward mode. On the CPU results are bitwise repeatable and do not depend on the
    number of threads; on CUDA they are bitwise repeatable under
    :func:`torch.use_deterministic_algorithms`.

    Raises:
        ValueError: unknown ``mode``, ``padding_mode``, ``coordinates`` or ``units``; ``size`` is
            not two or three sizes above 0; a ``cubic_coefficient`` out of range, or where the mode
            is not bicubic; a grid and what takes its place, or neither.
        TypeError: ``values`` or ``grid`` is not a tensor, ``size`` not of ints, ``align_corners``
            not a bool.
        NotImplementedError: a tensor is not strided (dense).
        RuntimeError: shapes, dtypes or devices that do not fit; the message names them.
        torch.OutOfMemoryError: no memory for the result on CUDA (a RuntimeError on the CPU).

    Example:
        >>> import torch, gridsample_ext
        >>> values = torch.tensor([[[[8.0, 1.0]]]])
        >>> points = torch.tensor([[[[0.25, 0.0], [1.0, 1.0]]]])
        >>> gridsample_ext.splat(values, points, (2, 3), coordinates="pixel")
        tensor([[[[6., 2., 0.],
                  [0., 1., 0.]]]])

        Softmax splatting (Niklaus and Liu 2020): where pixels of a frame meet, the important win.

        >>> def softmax_splat(frame, flow, importance):
        ...     weight = importance.exp()
        ...     weighted = torch.cat([frame * weight, weight], 1)
        ...     both = gridsample_ext.splat(weighted, displacement=flow)
        ...     return both[:, :-1] / both[:, -1:].clamp(min=1e-7)
        >>> frame = torch.tensor([[[[1.0, 2.0]]]])
        >>> flow = torch.tensor([[[[0.0, -1.0]], [[0.0, 0.0]]]])  # the second goes to the first
        >>> softmax_splat(frame, flow, importance=torch.tensor([[[[0.0, 1.0]]]]))
        tensor([[[[1.7311, 0.0000]]]])

    """
    if has_torch_function_variadic(values, grid, displacement, affine):
        return handle_torch_function(
            splat,
            (values, grid, displacement, affine),
            values,
            grid,
            size,
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            coordinates=coordinates,
            cubic_coefficient=cubic_coefficient,
            displacement=displacement,
            affine=affine,
            units=units,
            displacement_dim=displacement_dim,
        )
    if grid is None:
        if coordinates != "normalized":
            raise ValueError(
                f"splat(): expected coordinates to go with a grid, but got {coordinates!r} and no "
                "grid; units is what tells how displacement and affine count"
            )
        units = "pixel" if units is None else units
        if units not in UNITS:
            raise _options.unknown("units", units, UNITS, "splat")
        where: Tensor | Source = Source(displacement, affine, units, displacement_dim)
        coordinates = units
    elif displacement is not None or affine is not None or units is not None:
        raise ValueError(
            "splat(): expected grid, or displacement, affine and units in its place, but got both"
        )
    else:
        where = grid
    keywords = Keywords(coordinates, cubic_coefficient=cubic_coefficient)
    return _splat(values, where, size, mode, padding_mode, align_corners, keywords, "splat")


def _splat(
    values: Tensor,
    where: Tensor | Source,
    size: Sequence[int] | None,
    mode: str,
    padding_mode: str | Sequence[str],
    align_corners: bool,
    keywords: Keywords,
    function: str,
) -> Tensor:
    if onnx.is_exporting():
        raise torch.onnx.OnnxExporterError(f"{function}(): ONNX has no operator for it")
    _options.check_kind("values", values, Tensor, function)
    _options.check_kind("align_corners", align_corners, bool, function)
    if size is None and isinstance(where, Source):
        size = values.shape[2:]
    sizes = _options.spatial_sizes(size, function)
    if values.dim() != len(sizes) + 2:
        raise RuntimeError(
            f"{function}(): expected values to be {_SHAPES[len(sizes)]} for size {sizes}, but got "
            f"values with sizes {list(values.shape)}"
        )
    options = _options.options_of(values, mode, padding_mode, align_corners, keywords, function)
    why_not = functional.why_not_ours(values.device)
    affine = None
    if isinstance(where, Source):
        call = {"values": values}, sizes, values.shape[2:]
        if why_not is not None:
            grid = where.grid(*call, options, function)
        else:
            grid, affine = where.checked(*call, function)
    else:
        grid = where
        _options.check_tensors({"values": values, "grid": grid}, function)
        _options.check_grid(grid, sizes, function)
    N = _checked_batch(values, grid, function)
    if values.shape[0] != N:
        values = values.expand(N, *values.shape[1:])
    # The op asks the image for its sizes and dtype alone, so one zero stands for all of it.
    image = values.new_zeros(()).expand(N, values.shape[1], *sizes)
    if why_not is not None:
        functional.warn_of_composing(why_not, stacklevel=5)
        return _composed.splat(values, image, grid, options)
    if type(values) is not Tensor or type(grid) is not Tensor:
        distributed.prepare_for(type(values), type(grid))
    deterministic = torch.are_deterministic_algorithms_enabled()
    result: Tensor
    if isinstance(where, Source):
        ends = _ops.put_together(options, (True, False, False), deterministic)
        result = _ops.warp_backward(values, image, grid, affine, *ends)[0]
    else:
        ends = _ops.put_together(options, (True, False), deterministic)
        result = _ops.grid_sample_backward(values, image, grid, *ends)[0]
    return result


def _checked_batch(values: Tensor, grid: Tensor, function: str) -> int:
    """The batch size of both, or the error that says what is wrong with ``values`` for ``grid``."""

    def error(expected: str) -> RuntimeError:
        return RuntimeError(
            f"{function}(): expected values to {expected}, but got values with sizes "
            f"{list(values.shape)} and dtype {values.dtype} and grid with sizes {list(grid.shape)}"
        )

    if values.dtype not in _ops.DTYPES:
        raise error("have dtype float16, bfloat16, float32 or float64")
    if values.shape[2:] != grid.shape[1:-1]:
        raise error(f"be {_SHAPES[grid.dim() - 2]} for grid's samples")
    N: int = values.shape[0]
    if guard_or_false(N == 1):
        return grid.shape[0]
    if not guard_or_false(grid.shape[0] == 1) and grid.shape[0] != N:
        raise error("have grid's batch size, or one of them a batch of 1")
    return N


def splat_count(
    grid: Tensor,
    size: Sequence[int],
    mode: str = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool = False,
    *,
    coordinates: str = "normalized",
    cubic_coefficient: float | None = None,
) -> Tensor:
    r"""Add up the weights with which the samples of ``grid`` read each pixel of an image.

    :func:`splat` of ones: how many samples each pixel has, by which a splat image is divided to
    have means of what met in a pixel.

    Args:
        grid: see :func:`splat`; so are the rest.
        size: see :func:`splat`.
        mode: see :func:`splat`.
        padding_mode: see :func:`splat`.
        align_corners: see :func:`splat`.
        coordinates: see :func:`splat`.
        cubic_coefficient: see :func:`splat`.

    Returns:
        (N, 1, \*size), float64 if ``grid`` is, else float32.

    Raises:
        ValueError, TypeError, NotImplementedError, RuntimeError: as :func:`splat`.

    Example:
        >>> import torch, gridsample_ext
        >>> points = torch.tensor([[[[0.25, 0.0], [1.0, 0.0]]]])
        >>> gridsample_ext.splat_count(points, (1, 3), coordinates="pixel")
        tensor([[[[0.7500, 1.2500, 0.0000]]]])

    """
    if has_torch_function_variadic(grid):
        return handle_torch_function(
            splat_count,
            (grid,),
            grid,
            size,
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            coordinates=coordinates,
            cubic_coefficient=cubic_coefficient,
        )
    _options.check_grid(grid, _options.spatial_sizes(size, "splat_count"), "splat_count")
    dtype = _composed.compute_type(grid.dtype)
    ones = grid.new_ones((), dtype=dtype).expand(grid.shape[0], 1, *grid.shape[1:-1])
    keywords = Keywords(coordinates, cubic_coefficient=cubic_coefficient)
    return _splat(ones, grid, size, mode, padding_mode, align_corners, keywords, "splat_count")
