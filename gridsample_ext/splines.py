"""``spline_filter``: from pixels to the B-spline coefficients that interpolate them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from gridsample_ext import _composed, _fakes, _ops, _options, distributed, functional, onnx


def spline_filter(
    image: Tensor,
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool = False,
) -> Tensor:
    r"""Turn pixels into the coefficients of cubic B-splines that interpolate them.

    ``grid_sample(spline_filter(image), grid, "bspline")`` interpolates ``image``: at the pixels'
    centres it gives the pixels, and it has two continuous derivatives. The filter is the recursive
    one of Unser (1999, "Splines: A Perfect Fit for Signal and Image Processing"), along each axis
    in space. It is exact for the padding, whatever the size.

    Args:
        image: (N, C, H, W) or (N, C, D, H, W), float16, bfloat16, float32, float64, complex64 or
            complex128, in any strides. H, W and D are at least 1.
        padding_mode: that with which the coefficients will be sampled: ``"zeros"``, ``"border"``,
            ``"reflection"`` or ``"circular"``, or a tuple with one for each axis, in the order
            x, y(, z). SciPy calls reflection ``"mirror"`` with ``align_corners``, and without it
            ``"reflect"``, and circular ``"grid-wrap"``.
        align_corners: that with which the coefficients will be sampled; it matters to reflection.

    Returns:
        Coefficients of ``image``'s sizes and dtype; channels-last if ``image`` is. Those of float16
        and bfloat16 are computed in float32 and rounded once.

    A NaN or an infinity among the pixels leaves no finite coefficient in its image and channel.
    Gradients flow to ``image``, of any order, in reverse and forward mode. Results are bitwise
    repeatable and do not depend on the number of threads.

    Raises:
        ValueError: unknown ``padding_mode``.
        TypeError: ``image`` is not a tensor, or ``align_corners`` not a bool.
        NotImplementedError: ``image`` is not of a dtype named above, or not strided (dense).
        RuntimeError: ``image`` is not 4-D or 5-D, or has an axis of no pixels.
        torch.OutOfMemoryError: no memory for the result on CUDA (a RuntimeError on the CPU).

    Example:
        >>> import torch, gridsample_ext
        >>> image = torch.tensor([[[[0.0, 0.0, 6.0, 0.0, 0.0]]]])
        >>> coefficients = gridsample_ext.spline_filter(image, "reflection")
        >>> points = torch.tensor([[[[2.0, 0.0], [2.5, 0.0], [3.0, 0.0]]]])
        >>> gridsample_ext.grid_sample(
        ...     coefficients, points, "bspline", "reflection", coordinates="pixel"
        ... ).round(decimals=3)
        tensor([[[[6.0000, 3.6140, 0.0000]]]])

    """
    if has_torch_function_unary(image):
        return handle_torch_function(
            spline_filter,
            (image,),
            image,
            padding_mode=padding_mode,
            align_corners=align_corners,
        )
    _options.check_kind("image", image, Tensor, "spline_filter")
    _options.check_kind("align_corners", align_corners, bool, "spline_filter")
    padding = _options.padding_number(padding_mode, image, "spline_filter")
    has = f"got image with sizes {list(image.shape)}"
    if image.layout is not torch.strided:
        raise NotImplementedError(
            f"spline_filter(): expected image to be strided (dense), but {has} and layout "
            f"{image.layout}"
        )
    if image.is_complex():
        parts = (spline_filter(part, padding_mode, align_corners) for part in _parts(image))
        return torch.complex(*parts)
    if image.dtype not in _ops.DTYPES:
        raise NotImplementedError(
            "spline_filter(): expected image to have dtype float16, bfloat16, float32, float64, "
            f"complex64 or complex128, but {has} and dtype {image.dtype}; coefficients are no "
            "integers: convert image to a floating-point dtype"
        )
    if onnx.is_exporting():
        raise torch.onnx.OnnxExporterError("spline_filter(): ONNX has no operator for it")
    why_not = functional.why_not_ours(image.device)
    if why_not is not None:
        functional.warn_of_composing(why_not)
        _fakes.check_spline_filter(image, padding)
        return _composed.spline_filter(image, padding, align_corners, False)
    if type(image) is not Tensor:
        distributed.prepare_for(type(image))
    coefficients: Tensor = _ops.spline_filter(image, padding, align_corners)
    return coefficients


def _parts(image: Tensor) -> tuple[Tensor, ...]:
    """Real and imaginary part."""
    return torch.view_as_real(image.resolve_conj()).unbind(-1)
