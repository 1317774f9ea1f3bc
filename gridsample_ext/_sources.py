"""Coordinates that are not given as a grid: an affine map and a displacement of a regular one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridsample_ext import _composed, _ops, _options
from gridsample_ext._compat import guard_or_false
from gridsample_ext._ops import Options
from gridsample_ext._options import type_name

UNITS = ("pixel", "normalized")


@dataclass(frozen=True)
class Source:
    """What a call is given in place of a grid; docs/semantics.md, "Warp"."""

    displacement: Tensor | None
    affine: Tensor | None
    units: str
    displacement_dim: int

    def checked(
        self,
        tensors: dict[str, Tensor],
        of: tuple[int, ...],
        size: tuple[int, ...] | None,
        function: str,
    ) -> tuple[Tensor, Tensor | None]:
        """The displacement as the op ``warp`` takes it, and the affine map.

        ``tensors``: the call's only other tensor, by name. ``of``: the image's sizes in space.
        ``size``: those of the output, by default the displacement's, else ``of``.
        """
        ((name, tensor),) = tensors.items()
        call = _Call(function, name, tensor, len(of))
        displacement, affine = self.displacement, self.affine
        if displacement is None and affine is None:
            raise ValueError(
                f"{function}(): expected displacement or affine to be a tensor, but both are None"
            )
        if displacement is not None:
            displacement = call.channels_last(displacement, self.displacement_dim, size)
        if affine is not None:
            call.check_affine(affine)
        call.check_batches({name: tensor, "displacement": self.displacement, "affine": affine})
        if displacement is None:
            # One zero, which takes no memory.
            assert affine is not None
            zero = affine.detach().new_zeros(())
            displacement = zero.expand(affine.shape[0], *(of if size is None else size), len(of))
        elif affine is not None and guard_or_false(displacement.shape[0] == 1):
            displacement = displacement.expand(affine.shape[0], *displacement.shape[1:])
        return displacement, affine

    def grid(
        self,
        tensors: dict[str, Tensor],
        of: tuple[int, ...],
        size: tuple[int, ...] | None,
        options: Options,
        function: str,
    ) -> Tensor:
        """The coordinates in an image of sizes ``of``, in the compute type."""
        ((_, tensor),) = tensors.items()
        displacement, affine = self.checked(tensors, of, size, function)
        return compose(tensor.dtype, displacement, affine, of, options)


def compose(
    dtype: torch.dtype,
    displacement: Tensor,
    affine: Tensor | None,
    of: tuple[int, ...],
    options: Options,
) -> Tensor:
    """The grid of a warp, of tensor operations, in the type that a call with ``dtype`` computes in.

    ``displacement`` and ``affine`` are those of the op ``warp``; ``of``: the image's sizes in
    space.
    """
    dtypes = [each.dtype for each in (displacement, affine) if each is not None]
    is_wide = dtype == torch.complex128
    compute_type = torch.float64 if is_wide else _composed.compute_type(dtype, *dtypes)
    places = _places_of(displacement, of, options, compute_type)
    axes = places if affine is None else _mapped(affine.to(compute_type), places)
    moved = displacement.to(compute_type).unbind(-1)
    return torch.stack([at + added for at, added in zip(axes, moved, strict=True)], -1)


def direction(
    grid: Tensor,
    displacement: Tensor | None,
    affine: Tensor | None,
    of: tuple[int, ...],
    options: Options,
) -> Tensor | None:
    """How a composed grid moves, of tangents of the displacement and the affine map."""
    if affine is None:
        return None if displacement is None else displacement.to(grid.dtype)
    moved = _mapped(affine.to(grid.dtype), _places_of(grid, of, options, grid.dtype))
    total = torch.stack(moved, -1).expand(grid.shape)
    return total if displacement is None else total + displacement


def gradients(
    grad_grid: Tensor | None,
    displacement: Tensor | None,
    affine: Tensor | None,
    of: tuple[int, ...],
    options: Options,
) -> tuple[Tensor | None, Tensor | None]:
    """Those of the displacement and the affine map, of that of a composed grid; None for None."""
    if grad_grid is None:
        return None, None
    by_displacement = by_affine = None
    if displacement is not None:
        by_displacement = grad_grid.to(displacement.dtype)
    if affine is not None:
        dims = len(of)
        places = _places_of(grad_grid, of, options, grad_grid.dtype)
        over = tuple(range(1, dims + 1))
        columns = [(grad_grid * place.unsqueeze(-1)).sum(over) for place in places]
        by_affine = torch.stack([*columns, grad_grid.sum(over)], -1)
        if guard_or_false(affine.shape[0] == 1):
            by_affine = by_affine.sum(0, keepdim=True)
        by_affine = by_affine.to(affine.dtype)
    return by_displacement, by_affine


def _places_of(
    grid: Tensor, of: tuple[int, ...], options: Options, dtype: torch.dtype
) -> list[Tensor]:
    """Where the samples of a grid lie along x, y(, z) if nothing moves them, to be broadcast."""
    dims = len(of)
    out = grid.shape[1:-1]
    pixel, corners = options.pixel_coordinates, options.align_corners
    return [
        _places(n, pixels, pixel, corners, dtype, grid.device).reshape(
            1, *[n if d == dims - 1 - a else 1 for d in range(dims)]
        )
        for a, (n, pixels) in enumerate(zip(out[::-1], of[::-1], strict=True))
    ]


def _mapped(affine: Tensor, places: list[Tensor]) -> list[Tensor]:
    """Coordinates of an affine map of places."""
    dims = len(places)
    axes = []
    for a in range(dims):
        row = affine[:, a].reshape(-1, dims + 1, *[1] * dims)
        coordinate = row[:, 0] * places[0]
        for b in range(1, dims):
            coordinate = coordinate + row[:, b] * places[b]
        axes.append(coordinate + row[:, dims])
    return axes


def _places(
    n: int, of: int, pixel: bool, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Where n pixels of the output lie along an axis of ``of`` pixels, if nothing moves them."""
    i = torch.arange(n, device=device).to(dtype)

    def over(numbers: Tensor, divisor: int) -> Tensor:
        # Divided: on CUDA PyTorch would multiply by the reciprocal of what is no tensor.
        return numbers / torch.full((), divisor, dtype=dtype, device=device)

    is_single = guard_or_false(n == 1)
    if not pixel:
        if align_corners:
            return over(2 * i, n - 1) - 1 if not is_single else i
        return over(2 * i + 1, n) - 1
    if guard_or_false(n == of):
        return i
    if align_corners:
        return over(i * (of - 1), n - 1) if not is_single else i + (of - 1) / 2
    return over((i + 0.5) * of, n) - 0.5


@dataclass(frozen=True)
class _Call:
    """Checks what a source is made of, for a call with another tensor."""

    function: str
    name: str
    tensor: Tensor
    dims: int

    @property
    def _other(self) -> str:
        return f"{self.name} with sizes {list(self.tensor.shape)}"

    def channels_last(self, displacement: Tensor, dim: int, size: tuple[int, ...] | None) -> Tensor:
        """The displacement with x, y(, z) in the last dimension, as in a grid."""
        self._check_tensor("displacement", displacement)
        dims, rank = self.dims, self.dims + 2
        if type(dim) is not int or dim not in (1, -1, rank - 1):
            raise ValueError(
                f"{self.function}(): expected displacement_dim to be 1 or -1, the last dimension, "
                f"but got: {dim!r}"
            )
        sizes = f"got displacement with sizes {list(displacement.shape)}"
        if displacement.dim() != rank or displacement.shape[dim] != dims:
            out = "H_out, W_out" if dims == 2 else "D_out, H_out, W_out"
            shape = f"(N, {dims}, {out})" if dim == 1 else f"(N, {out}, {dims})"
            raise RuntimeError(
                f"{self.function}(): expected displacement to be {shape} for {self._other}, but "
                f"{sizes} and displacement_dim={dim}"
            )
        displacement = displacement.movedim(dim, -1)
        if size is not None and tuple(displacement.shape[1:-1]) != tuple(size):
            raise RuntimeError(
                f"{self.function}(): expected displacement to have the output's sizes in space, "
                f"{tuple(size)}, but {sizes}"
            )
        return displacement

    def check_affine(self, affine: Tensor) -> None:
        """Raise what is wrong with an affine map."""
        self._check_tensor("affine", affine)
        if affine.dim() != 3 or tuple(affine.shape[1:]) != (self.dims, self.dims + 1):
            raise RuntimeError(
                f"{self.function}(): expected affine to be (N, {self.dims}, {self.dims + 1}) for "
                f"{self._other}, but got affine with sizes {list(affine.shape)}"
            )

    def check_batches(self, tensors: dict[str, Tensor | None]) -> None:
        """Raise if batches are neither equal nor 1."""
        given = {name: each for name, each in tensors.items() if each is not None}
        several = [
            each.shape[0] for each in given.values() if not guard_or_false(each.shape[0] == 1)
        ]
        if any(batch != several[0] for batch in several[1:]):
            sizes = ", ".join(f"{name} with sizes {list(e.shape)}" for name, e in given.items())
            raise RuntimeError(
                f"{self.function}(): expected {_ops.all_of(given)} to have the same batch size, or "
                f"a batch of 1, but got {sizes}"
            )

    def _check_tensor(self, name: str, tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{self.function}(): expected {name} to be a Tensor or None, not "
                f"{type_name(tensor)}"
            )
        _options.check_tensors({self.name: self.tensor, name: tensor}, self.function)
        if tensor.dtype not in _ops.DTYPES:
            raise RuntimeError(
                f"{self.function}(): expected {name} to have dtype float16, bfloat16, float32 or "
                f"float64, but got {name} with sizes {list(tensor.shape)} and dtype {tensor.dtype}"
            )
