"""The benchmark's cases: named problems, and the tensors they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("bilinear", "nearest", "bicubic")


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
    # "smooth", identity + small noise; "random", uniform over the image; or "one_pixel", where all
    # samples add to the same few elements of grad_input.
    grid: str = "smooth"
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    align_corners: bool = False

    @property
    def name(self) -> str:
        """The case in one line."""
        layout = "channels_last" if self.channels_last else "contiguous"
        shape = "x".join(map(str, self.input))
        size = "" if self.output == self.input[2:] else " -> " + "x".join(map(str, self.output))
        dtype = str(self.dtype).removeprefix("torch.")
        corners = " align_corners" if self.align_corners else ""
        kind = f"{self.mode} {self.padding_mode}{corners} {self.grid}"
        return f"{shape}{size} {kind} {dtype} {layout}"

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.output)

    @property
    def options(self) -> dict[str, object]:
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
        image, points, values = math.prod(self.input), samples * self.dims, samples * self.input[1]
        forward = image + points + values
        backward = 2 * image + 2 * points + values
        numbers = {"forward": forward, "backward": backward, "both": forward + backward}[direction]
        return numbers * self.dtype.itemsize

    def tensors(self, seed: int = 0, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Input, grid and a gradient of the output."""
        generator = torch.Generator(device).manual_seed(seed)
        drawn = {"generator": generator, "device": device}
        dims = self.dims
        batch = self.input[0]
        input = torch.randn(self.input, **drawn).to(self.dtype)
        if self.channels_last:
            formats = {2: torch.channels_last, 3: torch.channels_last_3d}
            input = input.contiguous(memory_format=formats[dims])
        if self.grid == "random":
            grid = torch.rand(batch, *self.output, dims, **drawn) * 2 - 1
        elif self.grid == "one_pixel":
            grid = self.one_pixel(torch.rand(batch, *self.output, dims, **drawn))
        else:
            identity = torch.eye(dims, dims + 1, device=device).expand(batch, dims, dims + 1)
            size = [batch, 1, *self.output]
            grid = F.affine_grid(identity.contiguous(), size, align_corners=self.align_corners)
            grid = grid + torch.randn(grid.shape, **drawn) * (1.0 / self.output[-1])
        grid = off_the_lattice(grid, self.input[2:], self.align_corners)
        grad = torch.randn(batch, self.input[1], *self.output, **drawn).to(self.dtype)
        if self.channels_last:
            grad = grad.contiguous(memory_format=formats[dims])
        return input, grid.to(self.dtype), grad

    def one_pixel(self, uniform: Tensor) -> Tensor:
        """Grid values in the first half of the middle pixel: one nearest pixel, one set of taps."""
        sizes = torch.tensor(self.input[:1:-1], device=uniform.device)
        pixels = sizes // 2 + 0.05 + 0.4 * uniform
        if self.align_corners:
            return 2 * pixels / (sizes - 1) - 1
        return (2 * pixels + 1) / sizes - 1


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


# On a GPU: sizes that fill a large one, and a call that costs more than its work.
_GPU_IMAGES = (
    ((8, 3, 1024, 1024), (1024, 1024)),
    ((8, 64, 256, 256), (256, 256)),
    ((32, 256, 32, 32), (30, 30)),
    ((1, 1, 4096, 4096), (4096, 4096)),
    ((1, 64, 1024, 1024), (1024, 1024)),
)
_GPU_VOLUMES = (
    ((1, 1, 256, 256, 256), (256, 256, 256)),
    ((2, 8, 128, 128, 128), (128, 128, 128)),
    ((1, 32, 128, 128, 128), (128, 128, 128)),
)
_GPU_SMALL = ((1, 3, 64, 64), (64, 64))


def _layouts(input: tuple[int, ...]) -> tuple[bool, ...]:
    """Of one channel, both layouts are the same."""
    return (False, True) if input[1] > 1 else (False,)


def gpu_survey() -> list[Case]:
    """What ``run_cuda.py`` times, the most telling first."""
    few, many, features, one_channel, _ = _GPU_IMAGES
    sizes = _GPU_IMAGES + _GPU_VOLUMES

    def in_layouts(*size: tuple[int, ...], **options: Any) -> list[Case]:
        return [Case(*size, channels_last=last, **options) for last in _layouts(size[0])]

    cases = [Case(*_GPU_SMALL)]
    for grid in ("smooth", "random"):
        for size in sizes:
            cases += in_layouts(*size, grid=grid)
    for size in (few, many, one_channel, _GPU_VOLUMES[1]):
        cases += in_layouts(*size, grid="one_pixel")
    for size in (many, features, _GPU_VOLUMES[1]):
        for dtype in (torch.float16, torch.bfloat16):
            cases += in_layouts(*size, dtype=dtype)
    for size in _GPU_IMAGES:
        cases += in_layouts(*size, mode="bicubic")
    cases += in_layouts(*_GPU_VOLUMES[1], mode="bicubic")
    for size in sizes:
        cases += in_layouts(*size, mode="nearest")
    for padding_mode in ("border", "reflection"):
        cases += in_layouts(*many, padding_mode=padding_mode)
        cases.append(Case(*_GPU_VOLUMES[1], padding_mode=padding_mode))
    # Bilinear images with zeros and align_corners: PyTorch takes cuDNN's kernels for them alone.
    cases += [Case(*size, align_corners=True) for size in _GPU_IMAGES]
    cases += [
        Case(*few, grid="random", align_corners=True),
        Case(*many, grid="random", align_corners=True),
        Case(*many, channels_last=True, align_corners=True),
        Case(*many, dtype=torch.float16, align_corners=True),
    ]
    return cases


def gpu_quick() -> list[Case]:
    """A cross-section of it."""
    _, many, features, _, _ = _GPU_IMAGES
    return [
        Case(*_GPU_SMALL),
        *(Case(*many, mode, channels_last=last) for mode in MODES for last in (False, True)),
        *(Case(*_GPU_VOLUMES[1], channels_last=last) for last in (False, True)),
        Case(*features, grid="random", channels_last=True),
        Case(*many, grid="one_pixel"),
        Case(*many, dtype=torch.float16),
        Case(*many, align_corners=True),
    ]


def gpu_compiled() -> set[Case]:
    """The cases of ``gpu_survey`` that torch.compile is tried on: it takes seconds for each."""
    few, many, _, _, _ = _GPU_IMAGES
    return {
        Case(*few),
        Case(*many),
        Case(*many, channels_last=True),
        Case(*many, mode="bicubic"),
        Case(*many, dtype=torch.float16),
        Case(*_GPU_VOLUMES[1]),
    }


def gpu_deterministic() -> set[Case]:
    """Those whose backward pass is also timed under torch.use_deterministic_algorithms."""
    few, many, _, _, _ = _GPU_IMAGES
    volume = _GPU_VOLUMES[1]
    return {
        Case(*size, grid=grid, channels_last=last)
        for size, grid, last in (
            (few, "smooth", False),
            (many, "smooth", False),
            (many, "smooth", True),
            (many, "random", False),
            (many, "one_pixel", False),
            (volume, "smooth", False),
            (volume, "smooth", True),
        )
    }
