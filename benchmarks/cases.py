"""The benchmark's cases: named problems, and the tensors they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def off_the_lattice(grid: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """The grid with no sample within 1/500 pixel of a pixel's centre or edge.

    There results jump (nearest, grad_grid), depend on the last bit of the coordinate, and could
    not be verified against float64.
    """
    scale = torch.tensor(spatial[::-1], dtype=torch.float64) / 2
    halves = (grid.double() + 1) * scale * 2  # in half pixels
    distance = halves - halves.round()
    nudge = torch.where(distance.abs() < 4e-3, 8e-3, 0.0)
    return (grid.double() + nudge / (2 * scale)).to(grid.dtype)


@dataclass(frozen=True)
class Case:
    """One call of grid_sample.

    Shapes leave out what ``torch.nn.functional.grid_sample`` fixes: ``input`` is (N, C, *spatial),
    ``output`` the spatial sizes of the grid.
    """

    input: tuple[int, ...]
    output: tuple[int, ...]
    mode: str = "bilinear"
    padding_mode: str = "zeros"
    grid: str = "smooth"  # identity + small noise; or "random", uniform over the image
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    @property
    def name(self) -> str:
        """The case in one line."""
        layout = "channels_last" if self.channels_last else "contiguous"
        shape = "x".join(map(str, self.input))
        size = "" if self.output == self.input[2:] else " -> " + "x".join(map(str, self.output))
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{shape}{size} {self.mode} {self.padding_mode} {self.grid} {dtype} {layout}"

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.output)

    @property
    def options(self) -> dict[str, object]:
        """The keyword arguments of grid_sample."""
        return {"mode": self.mode, "padding_mode": self.padding_mode, "align_corners": False}

    def bytes_moved(self) -> int:
        """Input, grid and output, each once: what the forward pass cannot do without."""
        samples = self.input[0] * math.prod(self.output)
        numbers = math.prod(self.input) + samples * (self.dims + self.input[1])
        return numbers * self.dtype.itemsize

    def tensors(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Input, grid and a gradient of the output."""
        generator = torch.Generator().manual_seed(seed)
        dims = self.dims
        batch = self.input[0]
        input = torch.randn(self.input, generator=generator).to(self.dtype)
        if self.channels_last:
            formats = {2: torch.channels_last, 3: torch.channels_last_3d}
            input = input.contiguous(memory_format=formats[dims])
        if self.grid == "random":
            grid = torch.rand(batch, *self.output, dims, generator=generator) * 2 - 1
        else:
            identity = torch.eye(dims, dims + 1).expand(batch, dims, dims + 1)
            size = [batch, 1, *self.output]
            grid = F.affine_grid(identity.contiguous(), size, align_corners=False)
            grid = grid + torch.randn(grid.shape, generator=generator) * (1.0 / self.output[-1])
        grid = off_the_lattice(grid, self.input[2:])
        grad = torch.randn(batch, self.input[1], *self.output, generator=generator).to(self.dtype)
        if self.channels_last:
            grad = grad.contiguous(memory_format=formats[dims])
        return input, grid.to(self.dtype), grad


# Input and output sizes of the survey.
_IMAGES = (
    ((1, 3, 512, 512), (512, 512)),
    ((8, 64, 64, 64), (64, 64)),
    ((1, 64, 256, 256), (256, 256)),
    ((4, 256, 32, 32), (30, 30)),
    ((1, 1, 1024, 1024), (1024, 1024)),
)
_VOLUMES = (
    ((1, 1, 96, 96, 96), (96, 96, 96)),
    ((2, 8, 48, 48, 48), (48, 48, 48)),
    ((1, 32, 32, 32, 32), (32, 32, 32)),
)
# Those also run in other types. Half-precision images stay below 32,768 pixels, beyond which stock
# kernels on the CPU read out of bounds (PyTorch 2.13).
_TYPED = (_IMAGES[1], _IMAGES[3], _VOLUMES[2])


def survey() -> list[Case]:
    """Sizes x modes and paddings x grids x layouts in float32, and some of them in other types."""
    kinds = [("bilinear", padding) for padding in ("zeros", "border", "reflection")]
    kinds += [("nearest", "zeros"), ("bicubic", "zeros")]
    variants = [(grid, last) for last in (False, True) for grid in ("smooth", "random")]
    cases = [
        Case(input, output, mode, padding, grid, channels_last=last)
        for input, output in _IMAGES + _VOLUMES
        for mode, padding in kinds
        for grid, last in variants
    ]
    cases += [
        Case(input, output, grid=grid, dtype=dtype, channels_last=last)
        for input, output in _TYPED
        for dtype in (torch.bfloat16, torch.float16, torch.float64)
        for grid, last in variants
    ]
    return cases


def quick() -> list[Case]:
    """A cross-section that takes less than a minute."""
    shapes = (_IMAGES[0], _IMAGES[1], _IMAGES[3], _VOLUMES[2])
    return [
        Case(input, output, mode, channels_last=last)
        for input, output in shapes
        for mode in ("bilinear", "nearest", "bicubic")
        for last in (False, True)
        if mode != "bicubic" or len(output) == 2
    ]


def sizes() -> list[Case]:
    """Square images of 16 channels, from small to large."""
    return [
        Case((1, 16, side, side), (side, side), channels_last=last)
        for last in (False, True)
        for side in (16, 32, 64, 128, 256, 512)
    ]


def small_calls() -> list[Case]:
    """Where a call costs more than the work."""
    return [Case((1, 3, 16, 16), (16, 16))]
