"""The benchmark's cases: named problems, and the tensors they stand for."""

from __future__ import annotations

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

    def tensors(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Input, grid and a gradient of the output."""
        generator = torch.Generator().manual_seed(seed)
        dims = len(self.output)
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


# One image, one volume.
_IMAGE, _VOLUME = (1, 16, 256, 256), (1, 4, 64, 64, 64)


def thread_table() -> list[Case]:
    """A batch of one: what several threads gain."""
    return [Case(_IMAGE, _IMAGE[2:]), Case(_VOLUME, _VOLUME[2:])]


def first_table() -> list[Case]:
    """A cross-section: sizes, modes, paddings, layouts, dtypes, grids.

    Half-precision images stay below 32,768 pixels, beyond which stock kernels on the CPU read
    out of bounds (PyTorch 2.13).
    """
    image, volume = _IMAGE, _VOLUME
    cases = []
    for mode in ("bilinear", "nearest", "bicubic"):
        cases += [
            Case(image, image[2:], mode),
            Case(image, image[2:], mode, channels_last=True),
            Case((1, 3, 512, 512), (512, 512), mode),
            Case((8, 64, 64, 64), (64, 64), mode),
        ]
    for mode in ("bilinear", "nearest"):
        cases += [
            Case(volume, volume[2:], mode),
            Case((2, 8, 48, 48, 48), (48, 48, 48), mode),
            Case((2, 32, 32, 32, 32), (32, 32, 32), mode, channels_last=True),
        ]
    cases += [
        Case(image, image[2:], padding_mode="border"),
        Case(image, image[2:], padding_mode="reflection"),
        Case(image, image[2:], grid="random"),
        Case(image, image[2:], grid="random", channels_last=True),
        Case(volume, volume[2:], grid="random"),
        Case((4, 256, 32, 32), (30, 30), grid="random"),
        Case((1, 1, 1024, 1024), (1024, 1024)),
        Case((1, 1, 1024, 1024), (1024, 1024), grid="random"),
        Case((2, 1, 1024, 1024), (1024, 1024), grid="random"),
        Case(image, image[2:], dtype=torch.float64),
        Case((1, 64, 128, 128), (128, 128), dtype=torch.bfloat16),
        Case((1, 64, 128, 128), (128, 128), dtype=torch.float16),
        Case(volume, volume[2:], dtype=torch.bfloat16),
    ]
    return cases
