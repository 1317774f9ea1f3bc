"""``warp``: sampling at the places that an affine map and a displacement give to a regular grid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from gridsample_ext import _composed, _ops, _options, functional
from gridsample_ext._compat import guard_or_false
from gridsample_ext._options import Keywords, type_name

_UNITS = ("pixel", "normalized")


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
            order x, y(, z), in ``units``. One of both has to be given.
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
    :func:`gridsample_ext.grid_sample`.

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
    if units not in _UNITS:
        raise _options.unknown("units", units, _UNITS, "warp")
    keywords = Keywords(units, fill_value, outside_value, cubic_coefficient)
    if not isinstance(align_corners, bool):
        raise TypeError(
            f"warp(): expected align_corners to be a bool, not {type_name(align_corners)}"
        )
    _options.options_of(input, mode, padding_mode, align_corners, keywords, "warp")
    if not isinstance(input, Tensor):
        raise TypeError(f"warp(): expected input to be a Tensor, not {type_name(input)}")
    if input.dim() not in (4, 5):
        raise RuntimeError(
            "warp(): expected input to be 4-D (N, C, H, W) or 5-D (N, C, D, H, W), but got input "
            f"with sizes {list(input.shape)}"
        )
    sizes = None if size is None else _options.spatial_sizes(size, "warp")
    grid = _grid(input, displacement, affine, sizes, units, displacement_dim, align_corners)
    return functional.grid_sample(
        input, grid, mode, padding_mode, align_corners, **keywords._asdict()
    )


def _grid(
    input: Tensor,
    displacement: Tensor | None,
    affine: Tensor | None,
    size: tuple[int, ...] | None,
    units: str,
    displacement_dim: int,
    align_corners: bool,
) -> Tensor:
    """The coordinates, in the compute type."""
    if displacement is None and affine is None:
        raise ValueError(
            "warp(): expected displacement or affine to be a tensor, but both are None"
        )
    dims = input.dim() - 2
    if displacement is not None:
        displacement = _checked_displacement(displacement, input, size, displacement_dim)
        size = displacement.shape[2:]
    elif size is None:
        size = input.shape[2:]
    if len(size) != dims:
        raise ValueError(
            f"warp(): expected size to have {dims} entries, but got size {size} for input with "
            f"sizes {list(input.shape)}"
        )
    if affine is not None:
        _check_map(affine, input)
    _check_batches({"input": input, "displacement": displacement, "affine": affine})
    dtypes = [each.dtype for each in (input, displacement, affine) if each is not None]
    is_wide = torch.complex128 in dtypes
    dtype = torch.float64 if is_wide else _composed.compute_type(*dtypes)

    places = [
        _places(n, of, units, align_corners, dtype, input.device).reshape(
            1, *[n if d == dims - 1 - a else 1 for d in range(dims)]
        )
        for a, (n, of) in enumerate(zip(size[::-1], input.shape[:1:-1], strict=True))
    ]
    axes = []
    for a in range(dims):
        coordinate = places[a]
        if affine is not None:
            row = affine.to(dtype)[:, a].reshape(-1, dims + 1, *[1] * dims)
            coordinate = row[:, 0] * places[0]
            for b in range(1, dims):
                coordinate = coordinate + row[:, b] * places[b]
            coordinate = coordinate + row[:, dims]
        if displacement is not None:
            coordinate = coordinate + displacement[:, a].to(dtype)
        axes.append(coordinate)
    return torch.stack(torch.broadcast_tensors(*axes), -1)


def _places(
    n: int, of: int, units: str, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Where n pixels of the output lie along an axis of ``of`` pixels, if nothing moves them."""
    i = torch.arange(n, device=device).to(dtype)
    is_single = guard_or_false(n == 1)
    if units == "normalized":
        if align_corners:
            return 2 * i / (n - 1) - 1 if not is_single else i
        return (2 * i + 1) / n - 1
    if guard_or_false(n == of):
        return i
    if align_corners:
        return i * (of - 1) / (n - 1) if not is_single else i + (of - 1) / 2
    return (i + 0.5) * of / n - 0.5


def _checked_displacement(
    displacement: Tensor, input: Tensor, size: tuple[int, ...] | None, dim: int
) -> Tensor:
    """With x, y(, z) in dimension 1, or the error that says what is wrong with it."""
    _check_tensor("displacement", displacement, input)
    if dim not in (1, -1, input.dim() - 1):
        raise ValueError(
            f"warp(): expected displacement_dim to be 1 or -1, the last dimension, but got: {dim!r}"
        )
    dims = input.dim() - 2
    sizes = f"got displacement with sizes {list(displacement.shape)}"
    if displacement.dim() != input.dim() or displacement.shape[dim] != dims:
        out = "H_out, W_out" if dims == 2 else "D_out, H_out, W_out"
        shape = f"(N, {dims}, {out})" if dim == 1 else f"(N, {out}, {dims})"
        raise RuntimeError(
            f"warp(): expected displacement to be {shape} for input with sizes "
            f"{list(input.shape)}, but {sizes} and displacement_dim={dim}"
        )
    displacement = displacement.movedim(dim, 1)
    if size is not None and tuple(displacement.shape[2:]) != tuple(size):
        raise RuntimeError(
            f"warp(): expected displacement to have the sizes of the output in space, but {sizes} "
            f"and size {tuple(size)}"
        )
    return displacement


def _check_map(affine: Tensor, input: Tensor) -> None:
    _check_tensor("affine", affine, input)
    dims = input.dim() - 2
    if affine.dim() != 3 or tuple(affine.shape[1:]) != (dims, dims + 1):
        raise RuntimeError(
            f"warp(): expected affine to be (N, {dims}, {dims + 1}) for input with sizes "
            f"{list(input.shape)}, but got affine with sizes {list(affine.shape)}"
        )


def _check_tensor(name: str, tensor: Any, input: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"warp(): expected {name} to be a Tensor or None, not {type_name(tensor)}")
    _options.check_tensors({"input": input, name: tensor}, "warp")
    if tensor.dtype not in _ops.DTYPES:
        raise RuntimeError(
            f"warp(): expected {name} to have dtype float16, bfloat16, float32 or float64, but got "
            f"{name} with sizes {list(tensor.shape)} and dtype {tensor.dtype}"
        )


def _check_batches(tensors: dict[str, Tensor | None]) -> None:
    given = {name: each for name, each in tensors.items() if each is not None}
    several = [each.shape[0] for each in given.values() if not guard_or_false(each.shape[0] == 1)]
    if any(batch != several[0] for batch in several[1:]):
        sizes = ", ".join(f"{name} with sizes {list(each.shape)}" for name, each in given.items())
        raise RuntimeError(
            f"warp(): expected {' and '.join(given)} to have the same batch size, or a batch of 1, "
            f"but got {sizes}"
        )
