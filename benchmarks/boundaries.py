"""Paddings, coordinates and pixels that PyTorch does not have, beside those that it has.

    PYTHONPATH=. .venv/bin/python benchmarks/boundaries.py [--threads N] [--seconds S]

prints two tables in Markdown: the times of circular padding, of a padding for each axis and of
pixel coordinates over those of border padding and normalised coordinates, on grids that reach 3 %
of the image beyond its edge; and uint8 images and label maps beside what is done without them.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from progress import progress

import gridsample_ext
from gridsample_ext import _ops, _options

Call = Callable[[], object]
SIZES = {(2, 1): (256, 256), (2, 3): (256, 256), (2, 16): (256, 256), (2, 64): (96, 96)}
SIZES |= {(3, 1): (32, 48, 48), (3, 3): (32, 48, 48), (3, 16): (32, 48, 48), (3, 64): (16, 24, 24)}


def time_of(call: Call, seconds: float) -> float:
    """The least time of a call, in seconds."""
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def in_turns(calls: list[Call], seconds: float, rounds: int = 3) -> list[float]:
    """The least time of each, measured in turns."""
    for call in calls:
        call()
    times = [[time_of(call, seconds) for call in calls] for _ in range(rounds)]
    return [min(of_call) for of_call in zip(*times, strict=True)]


def ratios(dims: int, channels: int, last: bool, mode: str, seconds: float) -> dict[str, list]:
    """By pass: times of circular, per axis and pixel coordinates over that of border padding."""
    size = SIZES[dims, channels]
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    layout = layout if last else torch.contiguous_format
    image, grad = (
        torch.randn(2, channels, *size).contiguous(memory_format=layout) for _ in range(2)
    )
    theta = torch.eye(dims, dims + 1).repeat(2, 1, 1)
    theta[:, :, -1] = 0.06
    theta[:, 0, 1] = 0.1
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    pixels = ((grid + 1) * torch.tensor(size[::-1]) - 1) / 2
    per_axis = ("circular", *["border"] * (dims - 1))
    found: dict[str, list] = {}
    for name in ("forward", "backward"):
        calls = []
        for padding, points in (
            ("border", grid), ("circular", grid), (per_axis, grid), ("border", pixels)
        ):  # fmt: skip
            options = _options.options_of(
                image, mode, padding, False,
                _options.Keywords("pixel" if points is pixels else "normalized"), "benchmark",
            )  # fmt: skip
            if name == "forward":
                calls.append(lambda g=points, o=options: _ops.grid_sample(image, g, *o))
            else:
                ends = _ops.put_together(options, [True, True])
                calls.append(lambda g=points, e=ends: _ops.grid_sample_backward(grad, image, g, *e))
        border, *others = in_turns(calls, seconds)
        found[name] = [other / border for other in others]
    return found


def boundaries(seconds: float) -> None:
    """Print the first table."""
    columns: dict[tuple[str, str], list] = {}
    cases = [
        (dims, channels, last, mode)
        for (dims, channels), last, mode in itertools.product(
            SIZES, (False, True), ("bilinear", "nearest", "bicubic")
        )
        if not (last and channels == 1)
    ]
    for case in progress(cases, "case"):
        for name, values in ratios(*case, seconds).items():
            columns.setdefault((case[-1], name), []).append(values)
    print("| time over that of border padding | circular | circular, border | pixel coordinates |")
    print("|---|---:|---:|---:|")
    for (mode, name), rows in columns.items():
        means = [statistics.geometric_mean(column) for column in zip(*rows, strict=True)]
        most = [max(column) for column in zip(*rows, strict=True)]
        cells = [f"{mean:.2f} (most {top:.2f})" for mean, top in zip(means, most, strict=True)]
        print(f"| {mode}, {name} | {' | '.join(cells)} |")


def pixels(seconds: float) -> None:
    """Print the second table."""
    print("\n| | without | with | times as fast |\n|---|---:|---:|---:|")

    def row(name: str, without: Call, with_it: Call) -> None:
        before, after = in_turns([without, with_it], seconds)
        print(f"| {name} | {before * 1e3:.2f} ms | {after * 1e3:.2f} ms | {before / after:.1f} |")

    for channels, size in ((1, (1080, 1920)), (3, (1080, 1920)), (3, (224, 224))):
        image = torch.randint(0, 256, (1, channels, *size), dtype=torch.uint8)
        theta = torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.0]]])
        grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)

        def by_float(image=image, grid=grid):
            output = F.grid_sample(image.float(), grid, align_corners=False)
            return output.round_().clamp_(0, 255).to(torch.uint8)

        row(
            f"uint8, {channels} x {size[0]} x {size[1]}, bilinear; F.grid_sample of a float copy",
            by_float,
            lambda i=image, g=grid: gridsample_ext.grid_sample(i, g, align_corners=False),
        )
    labels = torch.randint(0, 300, (1, 1, 96, 96, 96))
    grid = F.affine_grid(torch.eye(3, 4)[None] * 0.9, [1, 1, 96, 96, 96], align_corners=False)

    def by_one_hot():
        one_hot = F.one_hot(labels[:, 0], 300).movedim(-1, 1).float()
        return F.grid_sample(one_hot, grid, align_corners=False).argmax(1, keepdim=True)

    row(
        "300 labels, 96 x 96 x 96; one-hot, F.grid_sample, argmax",
        by_one_hot,
        lambda: gridsample_ext.sample_labels(labels, grid, align_corners=False),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Paddings, coordinates and pixels.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.05, help="of each measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.no_grad():
        boundaries(arguments.seconds)
        pixels(arguments.seconds)
