"""Rows of a file of results: one for a case and a number of threads."""

from __future__ import annotations

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
