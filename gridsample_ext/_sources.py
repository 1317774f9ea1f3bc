"""Coordinates that are not given as a grid: an affine map and a displacement of a regular one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridsample_ext import _composed, _ops, _options
from gridsample_ext._compat import guard_or_false
from gridsample_ext._options import type_name

UNITS = ("pixel", "normalized")


@dataclass(frozen=True)
class Source:
    """What a call is given in place of a grid; docs/semantics.md, "Warp"."""

    displacement: Tensor | None
    affine: Tensor | None
    units: str
    displacement_dim: int

    def grid(
        self,
        tensors: dict[str, Tensor],
        of: tuple[int, ...],
        size: tuple[int, ...] | None,
        align_corners: bool,
        function: str,
    ) -> Tensor:
        """The coordinates in an image of sizes ``of``, in the compute type.

        ``tensors``: the call's only other tensor, by name. ``size``: the sizes of the output, by
        default the displacement's, else ``of``.
        """
        ((name, tensor),) = tensors.items()
        call = _Call(function, name, tensor, len(of))
        displacement, affine = self.displacement, self.affine
        if displacement is None and affine is None:
            raise ValueError(
                f"{function}(): expected displacement or affine to be a tensor, but both are None"
            )
        if displacement is not None:
            displacement = call.channels_first(displacement, self.displacement_dim, size)
            size = displacement.shape[2:]
        elif size is None:
            size = of
        if affine is not None:
            call.check_affine(affine)
        call.check_batches({name: tensor, "displacement": displacement, "affine": affine})
        dtypes = [each.dtype for each in (tensor, displacement, affine) if each is not None]
        is_wide = torch.complex128 in dtypes
        dtype = torch.float64 if is_wide else _composed.compute_type(*dtypes)

        dims = len(of)
        places = [
            _places(n, pixels, self.units, align_corners, dtype, tensor.device).reshape(
                1, *[n if d == dims - 1 - a else 1 for d in range(dims)]
            )
            for a, (n, pixels) in enumerate(zip(size[::-1], of[::-1], strict=True))
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

    def channels_first(
        self, displacement: Tensor, dim: int, size: tuple[int, ...] | None
    ) -> Tensor:
        """The displacement with x, y(, z) in dimension 1."""
        self._check_tensor("displacement", displacement)
        dims, rank = self.dims, self.dims + 2
        if dim not in (1, -1, rank - 1):
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
        displacement = displacement.movedim(dim, 1)
        if size is not None and tuple(displacement.shape[2:]) != tuple(size):
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
                f"{self.function}(): expected {' and '.join(given)} to have the same batch size, "
                f"or a batch of 1, but got {sizes}"
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
