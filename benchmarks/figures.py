"""The figures of docs/benchmarks.md, drawn by report.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from cases import Case
from matplotlib.ticker import LogLocator
from report import Cell, cells_of, names_of
from rows import OURS, STOCK

DIRECTIONS = ("forward", "backward")
COLORS = {"forward": "tab:blue", "backward": "tab:orange"}


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


def label(case: Case) -> str:
    """What a bar is of, beside the title of its group."""
    sizes = "×".join(map(str, case.input))
    if case.output != case.input[2:]:
        sizes += " at " + "×".join(map(str, case.output))
    return sizes + (", channels-last" if case.channels_last else "")


def typical(case: Case) -> bool:
    """Whether the case is one of those drawn by name: float32, zeros, and grids of real images."""
    plain = case.dtype is torch.float32 and case.grid_dtype is None and not case.align_corners
    usual = case.grid in ("smooth", "affine") and case.padding_mode == "zeros"
    layout = case.input[1] > 1 if case.channels_last else True  # of one channel there is but one
    return plain and usual and layout and (case.mode == "bilinear" or not case.channels_last)


GROUPS = ("bilinear", "bilinear, affine maps", "nearest", "bicubic")


def grouped(cells: list[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    """Ratios by group, case and pass, of the cases that are drawn by name."""
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("survey", "few-channels", "large"):
        for direction in DIRECTIONS:
            for case, cell in of_set(cells, name, direction):
                if typical(case) and not math.isnan(cell.ratio()):
                    group = case.mode + (", affine maps" if case.grid == "affine" else "")
                    bars = groups.setdefault(group, {}).setdefault(label(case), {})
                    bars[direction] = cell.ratio()
    return {name: groups[name] for name in GROUPS if name in groups}


def draw_bars(axis: plt.Axes, cells: list[Cell], title: str) -> None:
    """A line for each group's title, and one for each case: two bars, forward and backward."""
    titles = grouped(cells)
    lines = [line for group, cases in titles.items() for line in [(group, None), *cases.items()]]
    for line, (_, ratios) in enumerate(lines):
        for direction, shift in zip(DIRECTIONS, (-0.2, 0.2), strict=True):
            ratio = (ratios or {}).get(direction, math.nan)
            if not math.isnan(ratio):
                axis.barh(line + shift, ratio - 1, 0.4, left=1, color=COLORS[direction])
                end = max(ratio, 1) * 1.04
                axis.text(end, line + shift, f"{ratio:.2g}", fontsize=6.5, va="center")
    axis.set_yticks(range(len(lines)), [name for name, _ in lines], fontsize=8)
    for tick, (name, _) in zip(axis.get_yticklabels(), lines, strict=True):
        tick.set_weight("bold" if name in titles else "normal")
    axis.tick_params(axis="y", length=0)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(LogLocator(base=2, numticks=20))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("F.grid_sample's time ÷ ours", fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right", "left"]].set_visible(False)


def plot_ratios(devices: list[tuple[str, list[Cell]]], path: Path) -> None:
    """The typical cases by name, a column for each device."""
    lines = max(sum(1 + len(cases) for cases in grouped(cells).values()) for _, cells in devices)
    figure, axes = plt.subplots(
        1, len(devices), figsize=(5 * len(devices), 1 + 0.2 * lines), sharex=True, squeeze=False
    )
    for axis, (title, cells) in zip(axes[0], devices, strict=True):
        draw_bars(axis, cells, title)
        axis.set_ylim(lines - 0.4, -0.8)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in DIRECTIONS]
    axes[0][-1].legend(handles, DIRECTIONS, loc="lower right", fontsize=8)
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
            name = f"{words[0]} {words[-1]}"
            axis.plot(list(times), list(times.values()), marker="o", linestyle=line, label=name)
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


def draw(results: dict[str, Any], on_gpu: dict[str, Any] | None, folder: Path) -> None:
    """All figures of which there are cells; results on a GPU are drawn beside those on the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = cells_of(results["rows"])
    threads = max(cell.threads or 0 for cell in cells)
    cases = {cell.case for cell in cells}
    if cases & names_of("survey"):
        title = f"{results['environment']['CPU']}, {threads} threads"
        devices = [(title, [cell for cell in cells if cell.threads == threads])]
        if on_gpu:
            devices.append((on_gpu["environment"]["GPU"], cells_of(on_gpu["rows"])))
        plot_ratios(devices, folder / "ratios.png")
        plot_threads(cells, folder / "threads.png")
    if names_of("sizes") <= cases:
        plot_sizes(cells, threads, folder / "sizes.png")
