"""Includes point one way: a file of csrc/ includes its own floor, and floors below it."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
SUFFIXES = {".h", ".cuh", ".cpp", ".cu"}

# What the files of a folder may include beside their own. "" are the headers in csrc/ itself.
MAY_INCLUDE = {
    "math": {""},
    "cpu/threads": set(),
    "cpu/simd": {"cpu", "math"},
    "cpu/taps": {"cpu/simd", "math"},
    "cpu/pixels": {"cpu/taps", "cpu/simd", "math"},
    "cpu/registers": {"cpu/pixels", "cpu/taps", "cpu/simd", "math"},
    "cpu/kernels": {"cpu/registers", "cpu/pixels", "cpu/taps", "cpu/simd", "cpu", "math"},
    "cpu/plan": {"cpu", "math", ""},
    "cpu/host": {"cpu/plan", "cpu/kernels", "cpu/threads", "cpu", "math", ""},
    "cpu": {""},
    "cuda/device": {"math", ""},
    "cuda/kernels": {"cuda/device", "math", ""},
    "cuda/plain": {"cuda/kernels", "cuda/device", "math", ""},
    "cuda/host": {"cuda/kernels", "cuda/device", "math", ""},
    "": {"cpu/host", "cpu/threads", "math"},
}
# What csrc/ itself may include in headers that the floors share.
SHARED = {
    "params.h": {"math"},
    "checks.h": {"math"},
    "tensors.h": {""},
    "splines.h": {"math"},
    "library.h": {"math"},
}


def folder_of(path):
    folder = str(Path(path).parent)
    return "" if folder == "." else folder


def sources():
    return sorted(path for path in CSRC.rglob("*") if path.suffix in SUFFIXES)


def includes(path):
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(CSRC)))
def test_includes_point_down(path):
    folder = folder_of(path.relative_to(CSRC))
    allowed = SHARED.get(path.name, MAY_INCLUDE[folder]) if folder == "" else MAY_INCLUDE[folder]
    for included in includes(path):
        assert (CSRC / included).exists(), included
        assert folder_of(included) in allowed | {folder}, included


def test_math_includes_nothing_that_includes_it():
    # The one floor that both devices share: params.h, of csrc/ itself, includes its lists.
    for path in sorted((CSRC / "math").iterdir()):
        below = {included for included in includes(path) if not included.startswith("math/")}
        assert below <= {"params.h"}, path.name


def test_folders_are_small():
    folders = {path.parent for path in sources()}
    assert len(folders) > 8
    for folder in folders:
        assert len([path for path in folder.iterdir() if path.suffix in SUFFIXES]) <= 12, folder
