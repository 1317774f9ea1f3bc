"""``warp``: sampling at the places that an affine map and a displacement give to a regular grid."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from gridsample_ext import _compat, _ops, _options, _pixels, distributed, functional, onnx
from gridsample_ext._options import Keywords
from gridsample_ext._sources import UNITS, Source
from gridsample_ext.autograd import bare_warp, below_autograd, record_warp


def warp(
    input: Tensor,
    displacement: Tensor | None = None,
    affine: Tensor | None = None,
    *,
    size: Sequence[int] | None = None,
    units: str = "pixel",
    displacement_dim: int = 1,
    mode: str = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool = False,
    fill_value: float | None = None,
    outside_value: float | None = None,
    cubic_coefficient: float | None = None,
) -> Tensor:
    r"""Sample ``input`` where an affine map and a displacement take the pixels of the output.

    The output's pixel i is read at A q(i) + t + s(i): q(i) is its own place in ``input``, (A, t)
    the ``affine`` map, or the identity, and s the ``displacement``, or 0. With the output as large
    as ``input``, q(i) = i. With another size both cover the same extent, by the rule that
    ``align_corners`` stands for: the corners' centres or the outer edges of both meet.

    Args:
        input: see :func:`gridsample_ext.grid_sample`; N may be 1 here, too.
        displacement: (N or 1, 2, H_out, W_out) or (N or 1, 3, D_out, H_out, W_out), float16 to
            float64, in any strides: optical flow, the field of a registration. x, y(, z), in
            ``units``.
        affine: (N or 1, 2, 3) or (N or 1, 3, 4), float16 to float64: the rows of (A | t), in the
            order x, y(, z), in ``units``. It or ``displacement`` has to be given, or both.
        size: (H_out, W_out) or (D_out, H_out, W_out); by default ``displacement``'s, else
            ``input``'s.
        units: ``"pixel"``: ``input``'s pixels, 0 being the centre of the first; or
            ``"normalized"``: those of :func:`gridsample_ext.grid_sample`, and of
            :func:`torch.nn.functional.affine_grid`.
        displacement_dim: the dimension of x, y(, z) in ``displacement``: 1, or the last.
        mode: see :func:`gridsample_ext.grid_sample`; so are the rest.
        padding_mode: see :func:`gridsample_ext.grid_sample`.
        align_corners: see :func:`gridsample_ext.grid_sample`.
        fill_value: see :func:`gridsample_ext.grid_sample`.
        outside_value: see :func:`gridsample_ext.grid_sample`.
        cubic_coefficient: see :func:`gridsample_ext.grid_sample`.

    Returns:
        (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) in ``input``'s dtype. Coordinates and
        sums are float32, or float64 if a tensor is: a float16 displacement is used as exactly as it
        is given, in an image of any size.

    Gradients of any order flow to ``input``, ``displacement`` and ``affine``, as from
    :func:`gridsample_ext.grid_sample`. Output and first derivatives take no memory for a grid, but
    for the gradient of ``affine`` on CUDA, and where there is a ``fill_value``.

    Raises:
        ValueError: neither ``displacement`` nor ``affine``; unknown ``units``, ``mode`` or
            ``padding_mode``; a bad ``size`` or ``displacement_dim``; what
            :func:`gridsample_ext.grid_sample` says of values and their combinations.
        TypeError: what should be a tensor is none, ``align_corners`` not a bool, ``size`` not of
            ints.
        NotImplementedError: a tensor is not strided (dense), or ``input``'s dtype is none that the
            mode takes.
        RuntimeError: shapes, dtypes or devices that do not fit; the message names them.

    Example:
        >>> import torch, gridsample_ext
        >>> image = torch.arange(8.0).reshape(1, 1, 2, 4)
        >>> flow = torch.zeros(1, 2, 2, 4)
        >>> flow[:, 0] = 1.0  # along x
        >>> gridsample_ext.warp(image, flow, padding_mode="border")
        tensor([[[[1., 2., 3., 3.],
                  [5., 6., 7., 7.]]]])

        A spatial transformer: the affine map of ``affine_grid``, here a turn by 180 degrees.

        >>> theta = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]])
        >>> gridsample_ext.warp(image, affine=theta, units="normalized")
        tensor([[[[7., 6., 5., 4.],
                  [3., 2., 1., 0.]]]])

    """
    if has_torch_function_variadic(input, displacement, affine):
        return handle_torch_function(
            warp,
            (input, displacement, affine),
            input,
            displacement,
            affine,
            size=size,
            units=units,
            displacement_dim=displacement_dim,
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            fill_value=fill_value,
            outside_value=outside_value,
            cubic_coefficient=cubic_coefficient,
        )
    if units not in UNITS:
        raise _options.unknown("units", units, UNITS, "warp")
    keywords = Keywords(units, fill_value, outside_value, cubic_coefficient)
    _options.check_kind("align_corners", align_corners, bool, "warp")
    options = _options.options_of(input, mode, padding_mode, align_corners, keywords, "warp")
    _options.check_kind("input", input, Tensor, "warp")
    if input.dim() not in (4, 5):
        raise RuntimeError(
            "warp(): expected input to be 4-D (N, C, H, W) or 5-D (N, C, D, H, W), but got input "
            f"with sizes {list(input.shape)}"
        )
    sizes = None if size is None else _options.spatial_sizes(size, "warp")
    if sizes is not None and len(sizes) != input.dim() - 2:
        raise ValueError(
            f"warp(): expected size to have {input.dim() - 2} entries, but got size {sizes} for "
            f"input with sizes {list(input.shape)}"
        )
    source = Source(displacement, affine, units, displacement_dim)
    call = {"input": input}, input.shape[2:], sizes
    has_kernels = input.dtype in _ops.DTYPES or (mode == "nearest" and input.dtype in _ops.INTEGERS)
    _pixels.check_dtype(input, mode, "warp")
    if not has_kernels or functional.why_not_ours(input.device) or onnx.is_exporting():
        grid = source.grid(*call, options, "warp")
        return functional.grid_sample(
            input, grid, mode, padding_mode, align_corners, **keywords._asdict()
        )
    displacement, affine = source.checked(*call, "warp")
    distributed.prepare_for(*{type(each) for each in (input, displacement, affine)})
    arguments = input, displacement, affine, *options
    if torch.compiler.is_compiling() or (
        _compat.is_jit_tracing() or _compat.in_func_transform() or _compat.in_dual_level()
    ):
        return _ops.warp(*arguments)  # type: ignore[no-any-return]
    # What the op would do as well, in more time.
    tensors = input, displacement, affine
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return record_warp(*arguments)
    return below_autograd(bare_warp, *arguments)
