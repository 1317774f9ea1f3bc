"""Tables and figures from the JSON that run.py or run_cuda.py wrote, and from nothing else."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cases import Case
from rows import OURS, PASSES, STOCK, Row, load, passes_of
from sets import SETS

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
DERIVATIVES_BEGIN = "<!-- derivatives: begin -->"
DERIVATIVES_END = "<!-- derivatives: end -->"
CUDA_BEGIN, CUDA_END = "<!-- CUDA tables: begin -->", "<!-- CUDA tables: end -->"
NONE = "–"
RATIO = f"{STOCK} ÷ {OURS}"


class Cell(NamedTuple):
    """One pass of a row."""

    case: str
    threads: int | None
    direction: str
    times: dict[str, float]  # milliseconds, by side; "copy" among them
    path: str

    @property
    def ours(self) -> float:
        """Our milliseconds."""
        return self.times[OURS]

    def ratio(self, side: str = STOCK) -> float:
        """A side's time by ours; NaN where it was not timed."""
        return self.times.get(side, math.nan) / self.ours

    @property
    def of_copy(self) -> float:
        """The time of copying as many bytes, as a share of ours; NaN where it is unknown."""
        return self.times.get("copy", math.nan) / self.ours

    @property
    def words(self) -> list[str]:
        """What names it in a table."""
        return [self.case, str(self.threads or NONE), self.direction]


def cells_of(rows: list[Row], rate: float | None = None) -> list[Cell]:
    """All passes of all rows, with the time of a copy where ``rate``, bytes a second, tells it."""
    cells = []
    for row in rows:
        case = Case.parse(row["case"])
        for direction, values in passes_of(row).items():
            times = {name: value for name, value in values.items() if name != "path"}
            if rate and case and direction in PASSES:
                times["copy"] = 1e3 * case.bytes_moved(direction) / rate
            path = values.get("path", NONE)
            cells.append(Cell(row["case"], row.get("threads"), direction, times, path))
    return cells


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, numbers to the right, without columns that are empty."""
    rows = [["–" if cell in ("nan", "nan%") else cell for cell in row] for row in rows]
    kept = [i for i in range(len(columns)) if any(row[i] != NONE for row in rows) or not rows]
    lines = ["| " + " | ".join(columns[i] for i in kept) + " |"]
    lines.append("|---" + "|---:" * (len(kept) - 1) + "|")
    return "\n".join(lines + ["| " + " | ".join(row[i] for i in kept) + " |" for row in rows])


def geomean(values: Iterable[float]) -> float:
    """The geometric mean of those that are known; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.geometric_mean(known) if known else math.nan


def below_one(cells: list[Cell]) -> str:
    """The cells in which PyTorch is faster, the worst first, with the path that ours took."""
    losses = sorted((cell for cell in cells if cell.ratio() < 1), key=Cell.ratio)
    compared = sum(not math.isnan(cell.ratio()) for cell in cells)
    text = f"Below 1.0: {len(losses)} of {compared} cells."
    if not losses:
        return text
    rows = [[*cell.words, f"{cell.ours:.3f}", f"{cell.ratio():.2f}", cell.path] for cell in losses]
    columns = ["cells below 1.0", "threads", "pass", "ours, ms", RATIO, "path"]
    return f"{text}\n\n{table(columns, rows)}"


# What is summed up: a set, and which of its cases.
SUMMED: dict[str, tuple[str, Callable[[Case], bool]]] = {
    **{name: (name, lambda case: True) for name in SETS if name != "quick"},
    "survey, channels_last, C ≥ 32": (
        "survey",
        lambda case: case.channels_last and case.input[1] >= 32,
    ),
    "survey, bicubic": ("survey", lambda case: case.mode == "bicubic"),
    "few-channels, nearest": ("few-channels", lambda case: case.mode == "nearest"),
    "few-channels, affine": ("few-channels", lambda case: case.grid == "affine"),
    "large, contiguous": ("large", lambda case: not case.channels_last),
    "large, channels_last": ("large", lambda case: case.channels_last),
    "large, volumes": ("large", lambda case: case.dims == 3),
    "large, halves": ("large", lambda case: case.dtype.itemsize == 2),
    "large, one_pixel": ("large", lambda case: case.grid == "one_pixel"),
}


def names_of(summed: str) -> set[str]:
    """The names of the cases of a set that is summed up."""
    name, belongs = SUMMED[summed]
    members = SETS[name]()
    return {each.name for each in members if not isinstance(each, Case) or belongs(each)}


def sets_table(cells: list[Cell]) -> str:
    """Geometric means by set, threads and pass, and the least cell with its name."""
    groups: dict[tuple[str, int, str], list[Cell]] = {}
    for name in ("all", *SUMMED):
        members = {cell.case for cell in cells} if name == "all" else names_of(name)
        for cell in cells:
            if cell.case in members and not math.isnan(cell.ratio()):
                groups.setdefault((name, cell.threads or 0, cell.direction), []).append(cell)
    order = ["all", *SUMMED]
    rows = []
    for (name, threads, direction), group in sorted(
        groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
    ):
        least = min(group, key=Cell.ratio)
        mean = geomean(cell.ratio() for cell in group)
        copy = geomean(cell.of_copy for cell in group)
        below = sum(cell.ratio() < 1 for cell in group)
        row = [name, str(threads or NONE), direction, str(len(group)), f"{mean:.2f}"]
        row += [str(below), f"{copy:.0%}", f"{least.ratio():.2f}", least.case]
        rows.append(row)
    columns = ["set", "threads", "pass", "cells", f"{RATIO}, geomean", "below 1.0", "of copy"]
    return table([*columns, "least", "the least cell"], rows)


def sides_table(cells: list[Cell]) -> str:
    """Every side's time by ours, the deterministic backward pass of ours among them."""
    names = dict.fromkeys(name for cell in cells for name in cell.times)
    rows = []
    for side in names:
        for direction in PASSES:
            ratios = [cell.ratio(side) for cell in cells if cell.direction == direction]
            known = [ratio for ratio in ratios if not math.isnan(ratio)]
            if known and side not in (OURS, "copy"):
                mean = f"{geomean(known):.2f}"
                rows.append([side, direction, str(len(known)), mean, f"{min(known):.2f}"])
    return table(["side ÷ ours", "pass", "cells", "geomean", "least"], rows)


def peers_table(rows: list[Row]) -> str:
    """Each peer over all the cells it supports, and where it wins."""
    by_peer: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.get("peers", {}).items():
            by_peer.setdefault(name, []).append(value)
    lines = []
    for name, ratios in by_peer.items():
        wins, close = (str(sum(value < limit for value in ratios)) for limit in (1, 1.2))
        mean = f"{geomean(ratios):.2f}"
        lines.append([name, str(len(ratios)), mean, f"{min(ratios):.2f}", wins, close])
    return table(["peer, forward", "cells", "geomean", "least", "wins", "below 1.2"], lines)


def fastest_peer(peers: dict[str, float]) -> str:
    """The least of the peers' times by ours, and whose it is."""
    best = min(peers, key=peers.__getitem__, default=None)
    return f"{peers[best]:.2f} ({best})" if best else NONE


def cases_table(rows: list[Row], cells: list[Cell]) -> str:
    """Every case: its passes, with the most threads and with fewer."""
    threads = sorted({cell.threads or 0 for cell in cells}, reverse=True)
    by_key = {(cell.case, cell.threads or 0, cell.direction): cell for cell in cells}
    peers = {row["case"]: row["peers"] for row in rows if "peers" in row}
    timed = {cell.case for cell in cells if cell.direction == "backward"}
    lines = []
    for case in dict.fromkeys(cell.case for cell in cells if cell.case in timed):
        line = [case]
        for direction in PASSES:
            found = [by_key.get((case, count, direction)) for count in threads]
            most = found[0]
            line.append(f"{most.ours:.3f}" if most else NONE)
            line += [f"{cell.ratio():.2f}" if cell else NONE for cell in found]
            line += [f"{most.of_copy:.0%}", most.path] if most else [NONE, NONE]
        lines.append([*line, fastest_peer(peers.get(case, {}))])
    columns = ["case"]
    words = {0: "ratio", 1: "ratio, 1 thread"}
    ratios = [words.get(count, f"ratio, {count} threads") for count in threads]
    for direction in PASSES:
        columns += [f"{direction}, ms", *ratios, "of copy", "path"]
    return table([*columns, "fastest peer, forward"], lines)


def whole_calls_table(cells: list[Cell]) -> str:
    """Small calls and steps of training."""
    timed = {cell.case for cell in cells if cell.direction == "backward"}
    rows = [
        [
            *cell.words,
            f"{1e3 * cell.times.get(STOCK, math.nan):.1f}",
            f"{1e3 * cell.ours:.1f}",
            f"{cell.ratio():.2f}",
            cell.path,
        ]
        for cell in cells
        if cell.case not in timed
    ]
    columns = ["a whole call", "threads", "pass", f"{STOCK}, µs", "ours, µs", RATIO, "path"]
    return table(columns, rows) if rows else ""


def not_timed_table(rows: list[Row]) -> str:
    """What was not timed in some pass, and why."""
    lines = [
        [row["case"], side, reason.replace("|", "\\|").replace("\n", " ")]
        for row in rows
        for side, reason in row.get("not_timed", {}).items()
    ]
    if not lines:
        return "All sides were timed in all cases."
    return table(["not timed in some pass", "side", "why"], lines)


def mebibytes(count: int | None) -> str:
    """Of a number of bytes."""
    return NONE if count is None else f"{count / 2**20:.0f}"


def derivatives_tables(rows: list[Row]) -> str:
    """Second derivatives and forward mode: in summary, and every case."""
    summary: dict[str, list[tuple[float, float]]] = {}
    lines = []
    for row, cell in zip(rows, cells_of(rows), strict=True):
        case, kind = cell.case.split(", ")
        peaks = row["peak_bytes"]
        memory = math.nan
        if None not in peaks.values() and STOCK in peaks:
            memory = peaks[STOCK] / max(peaks[OURS], 1)
        summary.setdefault(kind, []).append((cell.ratio(), memory))
        line = [case, kind, f"{cell.ours:.2f}", f"{cell.ratio():.2f}"]
        lines.append([*line, *(mebibytes(peaks.get(side)) for side in (OURS, STOCK)), cell.path])
    totals = []
    for kind, pairs in summary.items():
        total = [kind]
        for values in zip(*pairs, strict=True):
            known = [value for value in values if not math.isnan(value)]
            total += [f"{geomean(known):.2f}", f"{min(known, default=math.nan):.2f}"]
        totals.append([*total, str(len(pairs))])
    columns = ["float32", f"time, {RATIO}, geomean", "least"]
    first = table([*columns, f"peak memory, {RATIO}, geomean", "least", "cases"], totals)
    columns = ["case", "what", "ours, ms", RATIO, "ours adds, MiB", f"{STOCK} adds, MiB", "path"]
    return f"{first}\n\n{table(columns, lines)}"


def facts_line(results: dict[str, Any]) -> str:
    """What the tables were measured on."""
    environment = results["environment"]
    rate = results.get("copy_bytes_per_second")
    facts = ["CPU", "PyTorch", "compiler", "instruction set"]
    if rate:
        facts = ["GPU", "driver", "PyTorch", "PyTorch's CUDA", "cuDNN"]
    text = "; ".join(f"{name}: {environment.get(name, 'unknown')}" for name in facts)
    if rate:
        return f"{text}; a device copy moves {rate / 1e9:.0f} GB/s."
    return f"{text}; threads: {results['threads']}."


def derivative_rows(results: dict[str, Any]) -> list[Row]:
    """Those of second derivatives and forward mode."""
    return [row for row in results["rows"] if "peak_bytes" in row]


def tables(results: dict[str, Any]) -> str:
    """All but those of derivatives, in Markdown."""
    rows = [row for row in results["rows"] if "peak_bytes" not in row]
    cells = cells_of(rows, results.get("copy_bytes_per_second"))
    parts = [facts_line(results)]
    if not results["complete"]:
        parts.append("The run was not complete.")
    parts += [f"Wrong: {error}." for error in results["errors"].values()]
    parts += [below_one(cells), sets_table(cells)]
    if any(set(cell.times) - {OURS, STOCK, "copy"} for cell in cells):
        parts.append(sides_table(cells))
    if any("peers" in row for row in rows):
        parts.append(peers_table(rows))
    parts += [whole_calls_table(cells), cases_table(rows, cells), not_timed_table(rows)]
    return "\n\n".join(part for part in parts if part)


def fill(document: Path, begin: str, end: str, text: str) -> None:
    """Put the text between two markers of a Markdown file."""
    before, rest = document.read_text().split(begin)
    after = rest.split(end)[1]
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main(argv: list[str] | None = None) -> None:
    """Print the tables, or put them and the figures into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--document", type=Path, help="Markdown file with the two markers")
    parser.add_argument("--figures", type=Path, help="folder for the PNG files")
    parser.add_argument("--beside", type=Path, help="results on a GPU, for the figures")
    arguments = parser.parse_args(argv)

    results = load(arguments.results)
    on_cuda = "copy_bytes_per_second" in results
    if arguments.figures and on_cuda:
        parser.error("figures are drawn of the CPU's results only")
    derivatives = derivative_rows(results)
    others = len(results["rows"]) > len(derivatives)
    texts = {}
    if others:
        texts[(CUDA_BEGIN, CUDA_END) if on_cuda else (BEGIN, END)] = tables(results)
    # The document's are of a run of their own, with a PyTorch that has forward mode.
    if derivatives and not (arguments.document and others):
        text = f"{facts_line(results)}\n\n{derivatives_tables(derivatives)}"
        texts[DERIVATIVES_BEGIN, DERIVATIVES_END] = text
    for (begin, end), text in texts.items():
        if arguments.document:
            fill(arguments.document, begin, end, text)
        else:
            print(text)
    if arguments.figures:
        from figures import draw

        draw(results, arguments.beside and load(arguments.beside), arguments.figures)


if __name__ == "__main__":
    main()
