"""warp beside what users compose of PyTorch's functions: its time, and the memory beside it.

    PYTHONPATH=. .venv/bin/python benchmarks/warping.py [--threads N] [--seconds S]

prints a table in Markdown. Composed code adds the displacement to a mesh of pixels, or calls
``affine_grid``, normalises, and calls ``F.grid_sample``; it is timed as it is, and compiled by
``torch.compile``. "On a grid" is gridsample_ext.grid_sample of a grid that is there already. Memory
is what a process has at most during its only call, less what it had before and the results (Linux).
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
import torch.nn.functional as F
from boundaries import in_turns
from progress import progress, write
from torch import Tensor

import gridsample_ext

Sampler = Callable[..., Tensor]
FEW_CHANNELS = 4


@dataclass(frozen=True)
class Case:
    """An image, and a displacement in pixels or an affine map in normalised units."""

    name: str
    shape: tuple[int, ...]
    affine: bool = False
    half: bool = False  # a float16 displacement

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The image and what moves it."""
        torch.manual_seed(0)
        N, _, *size = self.shape
        image, dims = torch.rand(self.shape), len(size)
        if self.affine:
            return image, torch.eye(dims, dims + 1) + 0.05 * torch.randn(N, dims, dims + 1)
        coarse = torch.randn(N, dims, *[max(2, length // 16) for length in size])
        mode = "bilinear" if dims == 2 else "trilinear"
        displacement = 4 * F.interpolate(coarse, size, mode=mode, align_corners=True)
        return image, displacement.half() if self.half else displacement


CASES = [
    Case("flow, 1 x 3 x 1080 x 1920", (1, 3, 1080, 1920)),
    Case("flow, 8 x 1 x 256 x 256", (8, 1, 256, 256)),
    Case("float16 flow, 1 x 3 x 1080 x 1920", (1, 3, 1080, 1920), half=True),
    Case("flow, 4 x 64 x 96 x 128", (4, 64, 96, 128)),
    Case("displacement, 1 x 1 x 96 x 96 x 96", (1, 1, 96, 96, 96)),
    Case("displacement, 1 x 4 x 64 x 64 x 64", (1, 4, 64, 64, 64)),
    Case("affine, 32 x 3 x 224 x 224", (32, 3, 224, 224), affine=True),
    Case("affine, 2 x 1 x 96 x 96 x 96", (2, 1, 96, 96, 96), affine=True),
]


def grid_of(case: Case, moving: Tensor) -> Tensor:
    """The normalised grid, as users make it."""
    size = case.shape[2:]
    if case.affine:
        return F.affine_grid(moving, list(case.shape), align_corners=False)
    mesh = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in size], indexing="ij")
    axes = [
        (2 * (place + moving[:, a].float()) + 1) / place.shape[-1 - a] - 1
        for a, place in enumerate(reversed(mesh))
    ]
    return torch.stack(axes, -1)


def composed(case: Case) -> Sampler:
    """PyTorch's functions, one after the other."""
    return lambda image, moving: F.grid_sample(image, grid_of(case, moving), align_corners=False)


def warped(case: Case) -> Sampler:
    """The function of this package."""
    if case.affine:
        return lambda image, theta: gridsample_ext.warp(image, affine=theta, units="normalized")
    return gridsample_ext.warp


def on_a_grid(image: Tensor, grid: Tensor) -> Tensor:
    """Sampling alone."""
    return gridsample_ext.grid_sample(image, grid, align_corners=False)


def step(sampler: Sampler, tensors: tuple[Tensor, Tensor], backward: bool) -> Callable[[], Any]:
    """A forward pass, with the gradients of the image and of what moves it or without."""
    image, moving = (tensor.requires_grad_(backward) for tensor in tensors)

    def call() -> Any:
        output = sampler(image, moving)
        if not backward:
            return (output,)
        return output, *torch.autograd.grad(output.sum(), (image, moving))

    return call


def memory(name: str) -> int:
    """Of this process, in bytes: VmRSS, what it has, or VmHWM, the most it has had (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def peak(case: Case, side: str, backward: bool) -> None:
    """Print what one call needs beside its results, in bytes."""
    sampler = {"composed": composed, "warp": warped}[side](case)
    small = Case("small", (*case.shape[:2], *[8] * (len(case.shape) - 2)), case.affine, case.half)
    step({"composed": composed, "warp": warped}[side](small), small.tensors(), backward)()
    call = step(sampler, case.tensors(), backward)
    Path("/proc/self/clear_refs").write_text("5")  # the most is what there is
    before = memory("VmRSS")
    results = call()
    after = memory("VmHWM")
    kept = sum(each.numel() * each.element_size() for each in results)
    print(max(after - before - kept, 0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="warp beside composed code.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each time")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        number, side, backward = arguments.peak
        return peak(CASES[int(number)], side, backward == "True")
    print(
        "| | composed | compiled | warp | composed / warp | on a grid | MiB composed | MiB warp |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    ratios: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    rows = [(case, backward) for case in CASES for backward in (False, True)]
    for case, backward in progress(rows, "case"):
        torch.compiler.reset()
        sides = [composed(case), torch.compile(composed(case)), warped(case)]
        calls = [step(side, case.tensors(), backward) for side in sides]
        image, moving = case.tensors()
        calls.append(step(on_a_grid, (image, grid_of(case, moving)), backward))
        times = [1e3 * seconds for seconds in in_turns(calls, arguments.seconds)]
        beside = []
        for side in ("composed", "warp"):
            words = ["--peak", str(CASES.index(case)), side, str(backward)]
            words += ["--threads", str(arguments.threads)]
            printed = subprocess.check_output([sys.executable, __file__, *words], text=True)
            beside.append(f"{int(printed) / 2**20:.1f}")
        ratio = times[0] / times[2]
        if case.shape[1] <= FEW_CHANNELS:
            ratios[backward].append((ratio, times[3] / times[2]))
        cells = [*(f"{time:.2f} ms" for time in times[:3]), f"{ratio:.1f}", f"{times[3]:.2f} ms"]
        name = f"{case.name}, {'forward and backward' if backward else 'forward'}"
        write(f"| {name} | {' | '.join([*cells, *beside])} |")
    for backward, pairs in ratios.items():
        means = [geometric_mean(each) for each in zip(*pairs, strict=True)]
        passes = "forward and backward" if backward else "forward"
        print(
            f"Up to {FEW_CHANNELS} channels, {passes}, geometric means: composed / warp "
            f"{means[0]:.2f}, on a grid / warp {means[1]:.2f}"
        )
    return None


if __name__ == "__main__":
    main()
