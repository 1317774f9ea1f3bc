"""Progress bars: tqdm's where it is installed, none where it is not or off a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

try:
    from tqdm import tqdm
except ImportError:  # a machine with a GPU may lack it
    tqdm = None

T = TypeVar("T")


def progress(items: Iterable[T], unit: str) -> Iterable[T]:
    """The items, with a bar on the terminal's standard error."""
    return items if tqdm is None else tqdm(items, disable=None, unit=unit)


def write(text: str, end: str = "\n") -> None:
    """Print a text above the bar, at once."""
    if tqdm is None:
        print(text, end=end)
    else:
        tqdm.write(text, end=end)
    sys.stdout.flush()
