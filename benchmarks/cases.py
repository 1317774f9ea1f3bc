"""A case of the benchmark: a problem, its name, and the tensors that it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("bilinear", "nearest", "bicubic")
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def off_the_lattice(grid: Tensor, spatial: tuple[int, ...], align_corners: bool = False) -> Tensor:
    """The grid with no sample within 1/500 pixel of a pixel's centre or edge.

    There results jump (nearest, grad_grid), depend on the last bit of the coordinate, and could
    not be verified against float64.
    """
    lengths = [size - align_corners for size in spatial[::-1]]
    scale = torch.tensor(lengths, dtype=torch.float64, device=grid.device) / 2
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
    grid: str = "smooth"  # a key of GRIDS
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    align_corners: bool = False
    grid_dtype: torch.dtype | None = None  # None: that of ``input``

    @property
    def name(self) -> str:
        """The case in one line."""
        words = ["x".join(map(str, self.input))]
        if self.output != self.input[2:]:
            words += ["->", "x".join(map(str, self.output))]
        words += [self.mode, self.padding_mode]
        words += ["align_corners"] if self.align_corners else []
        words += [self.grid, str(self.dtype)[6:]]
        words += [f"{str(self.grid_dtype)[6:]}-grid"] if self.grid_dtype else []
        return " ".join([*words, "channels_last" if self.channels_last else "contiguous"])

    @classmethod
    def parse(cls, name: str) -> Case | None:
        """The case of a name; None for the name of something else."""
        words = name.split(" ")
        try:
            input = tuple(map(int, words.pop(0).split("x")))
            output = input[2:]
            if words[0] == "->":
                output = tuple(map(int, words[1].split("x")))
                words = words[2:]
            mode, padding_mode, *words = words
            corners = words[0] == "align_corners"
            grid, dtype, *grid_dtype, layout = words[corners:]
            grid_dtype = [getattr(torch, word.removesuffix("-grid")) for word in grid_dtype]
            last = layout == "channels_last"
            dtype = getattr(torch, dtype)
            case = cls(input, output, mode, padding_mode, grid, dtype, last, corners, *grid_dtype)
        except (ValueError, IndexError, AttributeError, TypeError):
            return None
        return case if case.name == name else None

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.output)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of grid_sample."""
        return {
            "mode": self.mode,
            "padding_mode": self.padding_mode,
            "align_corners": self.align_corners,
        }

    def bytes_moved(self, direction: str = "forward") -> int:
        """What a pass cannot do without, each tensor once.

        Forward: input, grid and output. Backward: those two and grad_output, and both gradients.
        """
        samples = self.input[0] * math.prod(self.output)
        values = math.prod(self.input), samples * self.input[1]
        image, output = (count * self.dtype.itemsize for count in values)
        points = samples * self.dims * (self.grid_dtype or self.dtype).itemsize
        forward = image + points + output
        backward = 2 * image + 2 * points + output
        return {"forward": forward, "backward": backward, "both": forward + backward}[direction]

    def tensors(self, seed: int = 0, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Input, grid and a gradient of the output."""
        generator = torch.Generator(device).manual_seed(seed)
        drawn = {"generator": generator, "device": device}
        input = self.laid_out(torch.randn(self.input, **drawn).to(self.dtype))
        grid = GRIDS[self.grid](self, drawn)
        grid = off_the_lattice(grid, self.input[2:], self.align_corners)
        grad = torch.randn(*self.input[:2], *self.output, **drawn).to(self.dtype)
        return input, grid.to(self.grid_dtype or self.dtype), self.laid_out(grad)

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor in the layout of the case, of one channel, too."""
        if not self.channels_last:
            return tensor
        return torch.empty_like(tensor, memory_format=FORMATS[self.dims]).copy_(tensor)


# Grids: what ``Case.grid`` names. ``drawn`` are the arguments of random functions.


def uniform(case: Case, drawn: dict[str, Any]) -> Tensor:
    """Numbers between 0 and 1 in the shape of the case's grid."""
    return torch.rand(case.input[0], *case.output, case.dims, **drawn)


def affine_grid(case: Case, theta: Tensor) -> Tensor:
    """F.affine_grid for the case's output."""
    size = [case.input[0], 1, *case.output]
    return F.affine_grid(theta, size, align_corners=case.align_corners)


def identity(case: Case, drawn: dict[str, Any]) -> Tensor:
    """Every sample where it is."""
    theta = torch.eye(case.dims, case.dims + 1, device=drawn["device"])
    return affine_grid(case, theta.repeat(case.input[0], 1, 1))


def smooth(case: Case, drawn: dict[str, Any]) -> Tensor:
    """The identity, and normal noise of half a pixel that differs from sample to sample."""
    grid = identity(case, drawn)
    return grid + torch.randn(grid.shape, **drawn) * (1.0 / case.output[-1])


def random(case: Case, drawn: dict[str, Any]) -> Tensor:
    """Uniform over the image."""
    return uniform(case, drawn) * 2 - 1


def affine(case: Case, drawn: dict[str, Any]) -> Tensor:
    """A rotation by 10 to 20 degrees, a scale of 0.9 to 1.1 and a shift by up to 0.1, by image.

    Of volumes the rotation is about z. Corners fall outside.
    """
    batch, dims = case.input[0], case.dims
    angle = torch.deg2rad(10 + 10 * torch.rand(batch, **drawn))
    scale = 0.9 + 0.2 * torch.rand(batch, **drawn)
    theta = torch.zeros(batch, dims, dims + 1, device=drawn["device"])
    theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
    theta[:, 1, 0] = scale * angle.sin()
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, 2:, 2] = scale[:, None]
    theta[:, :, -1] = 0.2 * torch.rand(batch, dims, **drawn) - 0.1
    return affine_grid(case, theta)


def flow(case: Case, drawn: dict[str, Any]) -> Tensor:
    """The identity, and a smooth displacement: noise of four pixels every 16, interpolated."""
    coarse = [max(2, size // 16) for size in case.output]
    pixels = 4 * torch.randn(case.input[0], case.dims, *coarse, **drawn)
    mode = {2: "bilinear", 3: "trilinear"}[case.dims]
    fine = F.interpolate(pixels, case.output, mode=mode, align_corners=True).movedim(1, -1)
    return identity(case, drawn) + fine * 2 / torch.tensor(case.input[:1:-1], device=fine.device)


def one_pixel(case: Case, drawn: dict[str, Any]) -> Tensor:
    """All samples in the first half of the middle pixel: one nearest pixel, one set of taps.

    Their gradients add to the same few elements of grad_input.
    """
    sizes = torch.tensor(case.input[:1:-1], device=drawn["device"])
    pixels = sizes // 2 + 0.05 + 0.4 * uniform(case, drawn)
    if case.align_corners:
        return 2 * pixels / (sizes - 1) - 1
    return (2 * pixels + 1) / sizes - 1


GRIDS = {
    "smooth": smooth,
    "random": random,
    "affine": affine,
    "flow": flow,
    "one_pixel": one_pixel,
}
