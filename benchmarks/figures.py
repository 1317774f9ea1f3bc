"""The figures of docs/benchmarks.md, drawn by report.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from cases import Case
from report import Cell, names_of
from rows import OURS, STOCK

DIRECTIONS = ("forward", "backward")


def of_set(cells: list[Cell], name: str, direction: str) -> Iterator[tuple[Case, Cell]]:
    """The cells of a set in one pass."""
    names = names_of(name)
    for cell in cells:
        case = Case.parse(cell.case)
        if case and cell.case in names and cell.direction == direction:
            yield case, cell


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure, and forget it."""
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_ratios(cells: list[Cell], threads: int, path: Path) -> None:
    """A bar for each cell of the survey and of few channels, sorted, in both directions."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    colors = {"bilinear": "tab:blue", "nearest": "tab:green", "bicubic": "tab:orange"}
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        bars = sorted(
            (cell.ratio(), case.mode)
            for name in ("survey", "few-channels")
            for case, cell in of_set(cells, name, direction)
            if cell.threads == threads and not math.isnan(cell.ratio())
        )
        heights = [value for value, _ in bars]
        axis.bar(range(len(bars)), heights, color=[colors[mode] for _, mode in bars], width=1.0)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(f"{direction}, {threads} threads, float32")
        axis.set_xlabel("cases of the survey and of few channels, sorted")
    axes[0].set_ylabel("F.grid_sample's time ÷ ours")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in colors.values()]
    axes[0].legend(handles, colors, loc="upper left")
    save(figure, path)


def plot_threads(cells: list[Cell], path: Path) -> None:
    """Time against threads, the cases of one image or volume."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        by_case: dict[Case, dict[int, float]] = {}
        for case, cell in of_set(cells, "survey", direction):
            plain = (case.mode, case.padding_mode, case.grid) == ("bilinear", "zeros", "smooth")
            if plain and case.input[0] == 1 and cell.threads:
                by_case.setdefault(case, {})[cell.threads] = cell.ours
        for case, times in by_case.items():
            words = case.name.split(" ")
            line = "--" if case.channels_last else "-"
            label = f"{words[0]} {words[-1]}"
            axis.plot(list(times), list(times.values()), marker="o", linestyle=line, label=label)
        axis.set_xticks(sorted({count for times in by_case.values() for count in times}))
        axis.set_yscale("log")
        axis.set_xlabel("threads")
        axis.set_title(f"{direction}, bilinear, smooth")
    axes[0].set_ylabel("ms")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def plot_sizes(cells: list[Cell], threads: int, path: Path) -> None:
    """Time per output against the side of a square image of 16 channels."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        chosen = [
            (case, cell)
            for case, cell in of_set(cells, "sizes", direction)
            if cell.threads == threads
        ]
        for last in (False, True):
            for name, color in ((OURS, "tab:blue"), (STOCK, "tab:red")):
                points = [
                    (
                        case.output[0],
                        1e6 * cell.times[name] / (math.prod(case.output) * case.input[1]),
                    )
                    for case, cell in chosen
                    if case.channels_last == last
                ]
                axis.plot(
                    *zip(*points, strict=True),
                    marker="o",
                    color=color,
                    linestyle="--" if last else "-",
                    label=f"{name}, {'channels_last' if last else 'contiguous'}",
                )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("side of the image, 1×16×side×side")
        axis.set_title(f"{direction}, bilinear, smooth, {threads} threads")
    axes[0].set_ylabel("ns per output value")
    axes[1].legend(fontsize=8)
    save(figure, path)


def draw(cells: list[Cell], folder: Path) -> None:
    """All figures of which there are cells."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = max(cell.threads or 0 for cell in cells)
    cases = {cell.case for cell in cells}
    if cases & names_of("survey"):
        plot_ratios(cells, threads, folder / "ratios.png")
        plot_threads(cells, folder / "threads.png")
    if names_of("sizes") <= cases:
        plot_sizes(cells, threads, folder / "sizes.png")
