"""spline_filter and mode bspline beside scipy.ndimage: times.

    PYTHONPATH=. .venv/bin/python benchmarks/splines.py [--threads N] [--seconds S]

prints a table in Markdown. SciPy has one thread, and results of the images' dtype. "Filtered and
sampled" is ``map_coordinates``, of as many samples as pixels on a smooth grid, which filters first.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from boundaries import in_turns
from progress import progress, write
from scipy import ndimage
from torch import Tensor

from gridsample_ext import grid_sample, spline_filter


@dataclass(frozen=True)
class Case:
    """Images, filtered alone or sampled as well, or the gradient of filtered ones."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    job: str = "filtered"  # or "filtered and sampled", "gradient"

    def __str__(self) -> str:
        sizes = " x ".join(map(str, self.shape))
        return f"{sizes}, {str(self.dtype).removeprefix('torch.')}, {self.job}"


VOLUME = (1, 1, 128, 128, 128)
CASES = [
    Case(VOLUME),
    Case(VOLUME, torch.float64),
    Case((1, 1, 97, 101, 103)),
    Case((1, 1, 2048, 2048)),
    Case((8, 3, 256, 256)),
    Case((1, 3, 1080, 1920), torch.float16),
    Case(VOLUME, job="gradient"),
    Case(VOLUME, job="filtered and sampled"),
]


def points(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Pixel coordinates, smoothly moved: (1, ...sizes, dims)."""
    mesh = torch.meshgrid(*[torch.arange(n, dtype=dtype) for n in shape[2:]], indexing="ij")
    moved = [axis + 3 * torch.sin(sum(mesh) / 17 + a) for a, axis in enumerate(mesh)]
    return torch.stack(moved[::-1], -1)[None]


def ours(case: Case, image: Tensor) -> Callable[[], Any]:
    """By this package."""
    if case.job == "gradient":
        leaf = image.clone().requires_grad_()
        output, weight = spline_filter(leaf, "reflection"), torch.rand_like(image)
        return lambda: torch.autograd.grad(output, leaf, weight, retain_graph=True)
    if case.job == "filtered":
        return lambda: spline_filter(image, "reflection")
    grid = points(case.shape, case.dtype)
    return lambda: grid_sample(
        spline_filter(image, "reflection"), grid, "bspline", "reflection", coordinates="pixel"
    )


def scipys(case: Case, image: Tensor) -> Callable[[], Any]:
    """By SciPy, image by image; it has no gradient, which is as much work as filtering is."""
    images = (image.float() if image.dtype == torch.float16 else image).flatten(0, 1).numpy()
    kind = images.dtype
    if case.job != "filtered and sampled":
        return lambda: [ndimage.spline_filter(each, 3, kind, "reflect") for each in images]
    at = np.moveaxis(points(case.shape, case.dtype)[0].numpy()[..., ::-1], -1, 0)
    return lambda: [
        ndimage.map_coordinates(each, at, kind, order=3, mode="reflect") for each in images
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="B-splines beside SciPy's.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each time")
    arguments = parser.parse_args()
    print("| | SciPy | one thread | times as fast | threads | times as fast |")
    print("|---|---:|---:|---:|---:|---:|")
    for case in progress(CASES, "case"):
        torch.manual_seed(0)
        image = torch.rand(case.shape).to(case.dtype)
        cells = []
        for threads in (1, arguments.threads):
            torch.set_num_threads(threads)
            calls = [scipys(case, image), ours(case, image)]
            theirs, own = in_turns(calls, arguments.seconds)
            if not cells:
                cells.append(f"{1e3 * theirs:.2f} ms")
            cells += [f"{1e3 * own:.2f} ms", f"{theirs / own:.1f}"]
        write(f"| {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
