"""Rows of a file of results: one for a case and a number of threads, a line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OURS, STOCK = "ours", "F"
PASSES = ("forward", "backward", "both")
RECORDED = "recorded"  # the forward pass of tensors that require a gradient

# "case"; on the CPU "threads"; for each pass milliseconds by side, on the CPU "copy" and "path" as
# well; "peers", their times by ours; "not_timed", why by side; "peak_bytes" by side.
Row = dict[str, Any]


def passes_of(row: Row) -> dict[str, dict[str, Any]]:
    """What was timed of each pass."""
    names = (*PASSES, RECORDED)
    return {name: value for name, value in row.items() if name in names and OURS in value}


def save(path: Path, facts: dict[str, Any], rows: list[Row]) -> None:
    """Write a file. Passes are lists there; what is in them is said once, in ``columns``."""
    passes = [times for row in rows for times in passes_of(row).values()]
    columns = list(dict.fromkeys(name for times in passes for name in times))

    def listed(times: dict[str, Any]) -> list[Any]:
        values = [times.get(name) for name in columns]
        while values and values[-1] is None:
            values.pop()
        return values

    packed = [row | {name: listed(times) for name, times in passes_of(row).items()} for row in rows]
    facts = {**facts, "columns": columns}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in facts.items()]
    text = ",\n".join(json.dumps(row, separators=(",", ":")) for row in packed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + "\n".join(lines) + f'\n"rows": [\n{text}\n]\n}}\n')


def load(path: Path) -> dict[str, Any]:
    """The facts of a file, and its ``rows``."""
    results = json.loads(path.read_text())
    for row in results["rows"]:
        for name in (*PASSES, RECORDED):
            if name in row:
                pairs = zip(results["columns"], row[name], strict=False)
                row[name] = {column: value for column, value in pairs if value is not None}
    return results
