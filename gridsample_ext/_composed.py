"""``grid_sample`` made of PyTorch's tensor operations, which autograd differentiates to any order.

It means what the kernels mean (docs/semantics.md), at a multiple of their time and memory, and
serves where there is no kernel: third derivatives and beyond. Its derivatives are taken by
``torch.func.vjp`` alone, because that nests in itself and in everything else.
"""

import itertools
from typing import Any

import torch
from torch import Tensor

_BILINEAR, _NEAREST, _BICUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)
_CUBIC_A = -0.75  # Keys 1981

_Pair = tuple[Tensor | None, Tensor | None]


def compute_type(*dtypes: torch.dtype) -> torch.dtype:
    """What coordinates and sums are computed in; docs/semantics.md."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _moving_where(condition: Tensor, coordinate: Tensor, still: Tensor | float) -> Tensor:
    """``coordinate`` where it follows the grid; elsewhere a value with the derivative 0."""
    return torch.where(condition, coordinate, still)


def _unnormalize(values: Tensor, size: int, align_corners: bool) -> Tensor:
    extent = size - 1 if align_corners else size
    limits = torch.finfo(values.dtype)
    finite = _moving_where(
        values.isfinite(),
        values,
        values.detach().nan_to_num(-1.0, limits.max, limits.min),
    )
    u = ((finite + 1) * extent - (0 if align_corners else 1)) / 2
    return _moving_where(u.isfinite(), u, u.detach().clamp(limits.min, limits.max))


def _clamp(u: Tensor, size: int) -> Tensor:
    return _moving_where((u > 0) & (u < size - 1), u, u.detach().clamp(0, size - 1))


def _reflect(u: Tensor, size: int, align_corners: bool) -> Tensor:
    low, extent = (0.0, size - 1) if align_corners else (-0.5, size)
    if extent == 0:
        return torch.zeros_like(u)
    from_low = (u - low).abs()
    within = from_low.detach().remainder(extent)
    odd = ((from_low.detach() - within) / extent).round().remainder(2) == 1
    # from_low - within is constant between folds; so the derivative is that of from_low.
    rest = within + (from_low - from_low.detach())
    return low + torch.where(odd, extent - rest, rest)


def _pad(u: Tensor, size: int, padding_mode: int, align_corners: bool) -> Tensor:
    if padding_mode == _REFLECTION:
        u = _reflect(u, size, align_corners)
    return u if padding_mode == _ZEROS else _clamp(u, size)


def _cubic_weights(t: Tensor) -> list[Tensor]:
    A, s = _CUBIC_A, 1 - t
    near = [((A + 2) * d - (A + 3)) * d * d + 1 for d in (t, s)]
    return [A * t * s * s, *near, A * s * t * t]


def _axis_taps(
    values: Tensor, size: int, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> list[tuple[Tensor, Tensor]]:
    """The taps of one axis as (position, weight)."""
    u = _unnormalize(values, size, align_corners)
    if interpolation_mode == _BICUBIC:
        floor = u.detach().floor()
        positions = [
            _pad(floor + k, size, padding_mode, align_corners).round() for k in (-1, 0, 1, 2)
        ]
        return list(zip(positions, _cubic_weights(u - floor), strict=True))
    u = _pad(u, size, padding_mode, align_corners)
    if interpolation_mode == _NEAREST:
        return [(u.detach().round(), torch.ones_like(u))]
    floor = u.detach().floor()
    return [(floor, 1 - (u - floor)), (floor + 1, u - floor)]


def grid_sample(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Sample as the op does, batches of 1 included; all arguments as the op has them."""
    dtype = compute_type(input.dtype, grid.dtype)
    N = grid.shape[0] if input.shape[0] == 1 else input.shape[0]
    sizes = input.shape[2:]
    image = input.to(dtype).movedim(1, -1)  # (N, [D,] H, W, C)
    positions = grid.to(dtype).expand(N, *grid.shape[1:])
    axes = [
        _axis_taps(positions[..., a], sizes[-1 - a], interpolation_mode, padding_mode, align_corners)
        for a in range(len(sizes))
    ]
    if input.shape[0] == 1:
        batch = grid.new_zeros((), dtype=torch.int64)
    else:
        batch = torch.arange(N, device=grid.device).reshape(N, *[1] * len(sizes))
    # In the order of the kernels: x within y within z.
    total: Tensor | None = None
    for taps in itertools.product(*reversed(axes)):
        inside = torch.ones_like(positions[..., 0], dtype=torch.bool)
        weight: Tensor | None = None
        where = []
        for (position, axis_weight), size in zip(taps, sizes, strict=True):
            inside = inside & (position >= 0) & (position <= size - 1)
            weight = axis_weight if weight is None else weight * axis_weight
            where.append(position.clamp(0, size - 1).long())
        assert weight is not None
        # Selected before and after the product: an infinite pixel outside reaches no derivative.
        seen = inside[..., None]
        pixel = torch.where(seen, image[(batch, *where)], 0)
        term = pixel * torch.where(inside, weight, 0)[..., None]
        total = term if total is None else total + term
    assert total is not None
    return total.movedim(-1, 1).to(input.dtype)


def _pull(gradients: Any, tangents: _Pair, like: tuple[Tensor, Tensor]) -> Any:
    """Apply a vjp to a pair of which one may be None, meaning zero."""
    pair = tuple(
        torch.zeros_like(of) if tangent is None else tangent.to(of.dtype)
        for tangent, of in zip(tangents, like, strict=True)
    )
    return gradients(pair)


def _backward(grad_output: Tensor, input: Tensor, grid: Tensor, *options: Any) -> Any:
    _, gradients = torch.func.vjp(lambda *of: grid_sample(*of, *options), input, grid)
    return gradients(grad_output.to(input.dtype))


def _double_backward(
    along: _Pair, grad_output: Tensor, input: Tensor, grid: Tensor, *options: Any
) -> Any:
    _, gradients = torch.func.vjp(
        lambda *of: _backward(grad_output, *of, *options), input, grid
    )
    return _pull(gradients, along, (input, grid))


def triple_backward(
    along: _Pair,
    and_along: _Pair,
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by grad_output, input and grid of ``<and_along, double_backward(along, ...)>``.

    Both directions are (of input, of grid), None for zero. Because derivatives commute, the first
    result is the second derivative of the output along both directions, and the other two are the
    derivative of ``double_backward(along, ...)`` along ``and_along``.
    """
    _, gradients = torch.func.vjp(
        lambda *of: _double_backward(along, *of, *options), grad_output, input, grid
    )
    return _pull(gradients, and_along, (input, grid))  # type: ignore[no-any-return]
