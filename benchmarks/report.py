"""Tables and figures from the JSON that run.py wrote, and from nothing else.

Of the JSON of run_cuda.py, the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

OURS, STOCK = "gridsample_ext", "F.grid_sample"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
DERIVATIVES_BEGIN = "<!-- derivatives: begin -->"
DERIVATIVES_END = "<!-- derivatives: end -->"
CUDA_BEGIN, CUDA_END = "<!-- CUDA tables: begin -->", "<!-- CUDA tables: end -->"
Record = dict[str, Any]


def seconds(record: Record, name: str = OURS) -> float:
    """Median time of one implementation."""
    return record["seconds"][name]["median"]


def ratio(record: Record) -> float:
    """PyTorch's time over ours; NaN where PyTorch has no such kernel."""
    return seconds(record, STOCK) / seconds(record) if STOCK in record["seconds"] else math.nan


def of_copy(record: Record) -> str:
    """The time of copying as many bytes, as a share of ours."""
    copied = "copy" in record["seconds"]
    return f"{seconds(record, 'copy') / seconds(record):.0%}" if copied else "–"


def path(record: Record) -> str:
    """The path of ours, one for each result, or one that they have in common."""
    return " / ".join(dict.fromkeys(record.get("path", {}).values())) or "–"


def peer_ratios(record: Record) -> dict[str, float]:
    """The peers' times over ours, measured beside them."""
    group = record.get("beside_peers", {})
    return {
        name: timing["median"] / group[OURS]["median"]
        for name, timing in group.items()
        if name != OURS
    }


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def geomean_cells(ratios: list[float]) -> list[str]:
    """Geometric mean, the least, and how many."""
    if not ratios:
        return ["–", "–", "0"]
    return [f"{statistics.geometric_mean(ratios):.2f}", f"{min(ratios):.2f}", str(len(ratios))]


# The sets of the summary, all float32.
SETS: dict[str, Callable[[Record], bool]] = {
    "all": lambda case: True,
    "channels_last, C ≥ 32": lambda case: case["channels_last"] and case["input"][1] >= 32,
    "3-D": lambda case: len(case["output"]) == 3,
    "bicubic": lambda case: case["mode"] == "bicubic",
}


def summary(survey: list[Record], threads: int) -> str:
    """Geometric means and the least ratio, by set; and the mean that a copy would reach."""
    rows = []
    for name, belongs in SETS.items():
        row = [name]
        for direction in ("forward", "backward"):
            chosen = [
                record
                for record in survey
                if record["direction"] == direction
                and record["threads"] == threads
                and record["case"]["dtype"] == "float32"
                and STOCK in record["seconds"]
                and belongs(record["case"])
            ]
            copied = [
                seconds(record, STOCK) / seconds(record, "copy")
                for record in chosen
                if "copy" in record["seconds"]
            ]
            row += [*geomean_cells([ratio(record) for record in chosen]), geomean_cells(copied)[0]]
        rows.append(row)
    columns = ["float32", "forward, geomean", "least", "cells", "copy, geomean"]
    return table([*columns, "backward, geomean", "least ", "cells ", "copy, geomean "], rows)


def peers_table(survey: list[Record]) -> str:
    """Each peer over all the cells it supports, and where it wins."""
    by_peer: dict[str, list[tuple[float, str]]] = {}
    for record in survey:
        for name, value in peer_ratios(record).items():
            by_peer.setdefault(name, []).append((value, record["name"]))
    rows = []
    for name, values in by_peer.items():
        ratios = [value for value, _ in values]
        wins = sum(value < 1 for value in ratios)
        mean = statistics.geometric_mean(ratios)
        close = sum(value < 1.2 for value in ratios)
        rows.append(
            [name, str(len(values)), f"{mean:.2f}", f"{min(ratios):.2f}", str(wins), str(close)]
        )
    return table(["peer, forward", "cells", "geomean", "least", "wins", "below 1.2"], rows)


def survey_table(survey: list[Record], threads: int) -> str:
    """Every case: both passes, one thread and several."""
    cells: dict[str, dict[tuple[str, int], Record]] = {}
    for record in survey:
        key = record["direction"], record["threads"]
        cells.setdefault(record["name"], {})[key] = record
    rows = []
    for name, records in cells.items():
        row = [name]
        for direction in ("forward", "backward"):
            several, one = records[direction, threads], records[direction, 1]
            row += [f"{seconds(several) * 1e3:.2f}", f"{ratio(several):.2f}", f"{ratio(one):.2f}"]
            row += [of_copy(several), path(several)]
        others = peer_ratios(records["forward", threads])
        best = min(others, key=others.__getitem__, default=None)
        row.append(f"{others[best]:.2f} ({best})" if best else "–")
        rows.append([cell.replace("nan", "–") for cell in row])
    columns = ["case", "forward, ms", f"ratio, {threads} threads", "1 thread", "of copy", "path"]
    columns += ["backward, ms", f"ratio, {threads} threads ", "1 thread ", "of copy ", "path "]
    return table([*columns, "fastest peer, forward"], rows)


def small_calls_table(records: list[Record]) -> str:
    """The cost of a call."""
    return table(
        ["a whole call", "F.grid_sample, µs", "ours, µs", "ours ÷ F", "path"],
        (
            [
                record["name"],
                f"{seconds(record, STOCK) * 1e6:.1f}",
                f"{seconds(record) * 1e6:.1f}",
                f"{1 / ratio(record):.2f}",
                path(record),
            ]
            for record in records
        ),
    )


def environment_line(results: dict[str, Any]) -> str:
    """What the tables were measured on."""
    environment = results["environment"]
    facts = ["CPU", "PyTorch", "compiler", "SIMD level in use"]
    text = "; ".join(f"{name}: {environment[name]}" for name in facts)
    return f"{text}; threads: {results['threads']}."


def mebibytes(count: int | None) -> str:
    """Of a number of bytes."""
    return "–" if count is None else f"{count / 2**20:.0f}"


def derivatives_tables(results: dict[str, Any]) -> str:
    """Second derivatives and forward mode: in summary, and every case."""
    records = results["derivatives"]
    summary_rows, rows = [], []
    for direction in dict.fromkeys(record["direction"] for record in records):
        chosen = [record for record in records if record["direction"] == direction]
        ratios = [ratio(record) for record in chosen if STOCK in record["seconds"]]
        memory = [
            record["peak_bytes"][STOCK] / max(record["peak_bytes"][OURS], 1)
            for record in chosen
            if None not in record["peak_bytes"].values() and STOCK in record["peak_bytes"]
        ]
        summary_rows.append([direction, *geomean_cells(ratios), *geomean_cells(memory)[:2]])
        for record in chosen:
            peaks = record["peak_bytes"]
            row = [record["name"], direction, f"{seconds(record) * 1e3:.2f}"]
            row += [f"{ratio(record):.2f}".replace("nan", "–")]
            row += [mebibytes(peaks[OURS]), mebibytes(peaks.get(STOCK)), path(record)]
            rows.append(row)
    columns = ["float32", "time, F ÷ ours, geomean", "least", "cells"]
    parts = [environment_line(results)]
    parts.append(table([*columns, "peak memory, F ÷ ours, geomean", "least "], summary_rows))
    columns = ["case", "what", "ours, ms", "F ÷ ours", "ours adds, MiB", "F adds, MiB", "path"]
    return "\n\n".join([*parts, table(columns, rows)])


def tables(results: dict[str, Any]) -> str:
    """All of them, in Markdown."""
    survey, threads = results["survey"], results["threads"]
    parts = [environment_line(results), summary(survey, threads)]
    if threads > 1:
        parts += ["With one thread:", summary(survey, 1)]
    if results["peers"]:
        parts.append(peers_table(survey))
    parts += [small_calls_table(results["small_calls"]), survey_table(survey, threads)]
    return "\n\n".join(parts)


# The sets of the summary for CUDA.
CUDA_SETS: dict[str, Callable[[Record], bool]] = {
    "all": lambda case: True,
    "NHWC": lambda case: case["channels_last"],
    "NCHW": lambda case: not case["channels_last"],
    "3-D": lambda case: len(case["output"]) == 3,
    "half": lambda case: case["dtype"] in ("float16", "bfloat16"),
    "one_pixel": lambda case: case["grid"] == "one_pixel",
}
PASSES = ("forward", "backward", "both")


def ratios_to(survey: list[Record], peer: str, direction: str) -> list[tuple[Record, float]]:
    """The cells of a pass in which a peer was timed, and its time over ours."""
    return [
        (record, seconds(record, peer) / seconds(record))
        for record in survey
        if record["direction"] == direction and {peer, OURS} <= record["seconds"].keys()
    ]


def cuda_columns(first: str) -> list[str]:
    """Geometric mean, least and cells of each pass."""
    return [first] + [
        column for name in PASSES for column in (f"{name}, geomean", "least", "cells")
    ]


def cuda_summary(survey: list[Record]) -> str:
    """F.grid_sample's times over ours, by set."""
    rows = []
    for name, belongs in CUDA_SETS.items():
        row = [name]
        for direction in PASSES:
            cells = ratios_to(survey, STOCK, direction)
            row += geomean_cells([value for record, value in cells if belongs(record["case"])])
        rows.append(row)
    return table(cuda_columns("F.grid_sample ÷ ours"), rows)


def cuda_peers_table(survey: list[Record]) -> str:
    """Every side's times over ours, the deterministic backward pass of ours among them."""
    names = {name: None for record in survey for name in record["seconds"] if name != OURS}
    rows = []
    for name in names:
        row = [name]
        for direction in PASSES:
            row += geomean_cells([value for _, value in ratios_to(survey, name, direction)])
        rows.append(row)
    return table(cuda_columns("side ÷ ours"), rows)


def cuda_survey_table(survey: list[Record]) -> str:
    """Every case: each pass in milliseconds, against F.grid_sample, and against a copy."""
    cells: dict[str, dict[str, Record]] = {}
    for record in survey:
        cells.setdefault(record["name"], {})[record["direction"]] = record
    rows = []
    for name, records in cells.items():
        row = [name]
        for direction in PASSES:
            record = records.get(direction)
            if record is None or OURS not in record["seconds"]:
                row += ["–"] * 3
                continue
            row += [
                f"{seconds(record) * 1e3:.3f}",
                f"{ratio(record):.2f}".replace("nan", "–"),
                f"{record['of_copy'][OURS]:.0%}",
            ]
        rows.append(row)
    columns = [column for name in PASSES for column in (f"{name}, ms", "ratio", "of copy")]
    return table(["case", *columns], rows)


def not_timed_table(survey: list[Record]) -> str:
    """What was not timed, and why."""
    rows = dict.fromkeys(
        (record["name"], record["direction"], name, reason)
        for record in survey
        for name, reason in record["not_timed"].items()
        if not reason.startswith("same kernel")
    )
    if not rows:
        return "All sides were timed in all cases."
    return table(
        ["not timed", "pass", "side", "why"],
        [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows],
    )


def cuda_tables(results: dict[str, Any]) -> str:
    """All of them, in Markdown."""
    survey, environment = results["survey"], results["environment"]
    facts = ["GPU", "driver", "PyTorch", "PyTorch's CUDA", "cuDNN"]
    text = "; ".join(f"{name}: {environment.get(name, 'unknown')}" for name in facts)
    copy = results["copy_bytes_per_second"]
    parts = [f"{text}; a device copy moves {copy / 1e9:.0f} GB/s."]
    if not results["complete"]:
        parts.append("The run was not complete.")
    parts += [f"Wrong: {error}." for error in results["errors"].values()]
    parts += [cuda_summary(survey), cuda_peers_table(survey), cuda_survey_table(survey)]
    parts.append(not_timed_table(survey))
    return "\n\n".join(parts)


def plot_ratios(survey: list[Record], threads: int, path: Path) -> None:
    """A bar for each cell, sorted, in both directions."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    colors = {"bilinear": "tab:blue", "nearest": "tab:green", "bicubic": "tab:orange"}
    for axis, direction in zip(axes, ("forward", "backward"), strict=True):
        cells = sorted(
            (ratio(record), record["case"]["mode"])
            for record in survey
            if record["direction"] == direction
            and record["threads"] == threads
            and record["case"]["dtype"] == "float32"
            and STOCK in record["seconds"]
        )
        axis.bar(
            range(len(cells)),
            [value for value, _ in cells],
            color=[colors[mode] for _, mode in cells],
            width=1.0,
        )
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(f"{direction}, {threads} threads, float32")
        axis.set_xlabel("cases, sorted")
    axes[0].set_ylabel("F.grid_sample's time ÷ ours")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in colors.values()]
    axes[0].legend(handles, colors, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_threads(survey: list[Record], threads: int, path: Path) -> None:
    """Time against threads, the cases of one image or volume."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, direction in zip(axes, ("forward", "backward"), strict=True):
        by_case: dict[str, dict[int, float]] = {}
        for record in survey:
            case = record["case"]
            plain = case["mode"] == "bilinear" and case["padding_mode"] == "zeros"
            plain = plain and case["grid"] == "smooth" and case["dtype"] == "float32"
            if plain and case["input"][0] == 1 and record["direction"] == direction:
                by_case.setdefault(record["name"], {})[record["threads"]] = seconds(record)
        for name, times in by_case.items():
            shape, layout = name.split(" ")[0], name.split(" ")[-1]
            axis.plot(
                list(times),
                [1e3 * value for value in times.values()],
                marker="o",
                linestyle="-" if layout == "contiguous" else "--",
                label=f"{shape} {layout}",
            )
        axis.set_xticks(sorted({1, threads}))
        axis.set_yscale("log")
        axis.set_xlabel("threads")
        axis.set_title(f"{direction}, bilinear, smooth")
    axes[0].set_ylabel("ms")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_sizes(records: list[Record], threads: int, path: Path) -> None:
    """Time per output against the side of a square image of 16 channels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, direction in zip(axes, ("forward", "backward"), strict=True):
        for last in (False, True):
            for name, color in ((OURS, "tab:blue"), (STOCK, "tab:red")):
                points = [
                    (
                        record["case"]["output"][0],
                        1e9
                        * seconds(record, name)
                        / (math.prod(record["case"]["output"]) * record["case"]["input"][1]),
                    )
                    for record in records
                    if record["direction"] == direction
                    and record["threads"] == threads
                    and record["case"]["channels_last"] == last
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
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the tables, or put them and the figures into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--document", type=Path, help="Markdown file with the two markers")
    parser.add_argument("--figures", type=Path, help="folder for the PNG files")
    arguments = parser.parse_args()

    results = json.loads(arguments.results.read_text())
    on_cuda = "copy_bytes_per_second" in results
    if arguments.figures and on_cuda:
        parser.error("figures are drawn of the CPU's results only")
    texts = {}
    if on_cuda:
        texts[CUDA_BEGIN, CUDA_END] = cuda_tables(results)
    elif results["survey"]:
        texts[BEGIN, END] = tables(results)
    # The document's are of a run of their own, with a PyTorch that has forward mode.
    if results.get("derivatives") and not (arguments.document and results["survey"]):
        texts[DERIVATIVES_BEGIN, DERIVATIVES_END] = derivatives_tables(results)
    for (begin, end), text in texts.items():
        if arguments.document:
            before, rest = arguments.document.read_text().split(begin)
            after = rest.split(end)[1]
            arguments.document.write_text(f"{before}{begin}\n{text}\n{end}{after}")
        else:
            print(text)
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        threads = results["threads"]
        plot_ratios(results["survey"], threads, arguments.figures / "ratios.png")
        plot_threads(results["survey"], threads, arguments.figures / "threads.png")
        if results["sizes"]:
            plot_sizes(results["sizes"], threads, arguments.figures / "sizes.png")


if __name__ == "__main__":
    main()
