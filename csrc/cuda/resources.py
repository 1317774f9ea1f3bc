"""What each kernel takes of a multiprocessor, from the reports that build.py keeps.

    python csrc/cuda/resources.py [--out FILE]

writes a table in Markdown, and fails if a kernel spills registers or keeps anything in local
memory, but for those in LOCAL.
"""

import argparse
import collections
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPORTS = Path(__file__).resolve().parents[2] / "build" / "cuda"
MODES = ("bilinear", "nearest", "bicubic")
REGISTERS = 65536  # of a multiprocessor, from compute capability 7.5 to 12.0
THREADS = 256  # of a block
# Kernels that cannot do without local memory: these count labels, in an order that data decide.
LOCAL = ("labels_kernel",)
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
CONFIG = re.compile(
    r"(\w+_kernel)<gridsample_ext::cuda::Config<"
    r"(?:gridsample_ext::cuda::)?(\w+), (\d), \(gridsample_ext::Mode\)(\d), "
    r"(int|long), (true|false)>"
)
OFFSET_BITS = {"int": "32", "long": "64"}
PADDING = {"true": "zeros", "false": "any"}


@dataclass(frozen=True)
class Usage:
    """Of one kernel on one architecture; bytes per thread."""

    symbol: str
    architecture: str
    stack: int
    spills: int
    registers: int


def read(folder: Path) -> list[Usage]:
    """Every kernel in the reports."""
    usages = []
    for report in sorted(folder.glob("*.ptxas")):
        symbol = architecture = ""
        stack = spills = 0
        for line in report.read_text().splitlines():
            if match := ENTRY.search(line):
                symbol, architecture = match.groups()
            elif match := STACK.search(line):
                stack, stores, loads = map(int, match.groups())
                spills = stores + loads
            elif (match := USED.search(line)) and symbol:
                usages.append(Usage(symbol, architecture, stack, spills, int(match[1])))
                symbol = ""
    return usages


def demangled(symbols: list[str]) -> list[str]:
    """C++ names."""
    text = "\n".join(symbols)
    return subprocess.run(
        ["c++filt"], input=text, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def group_of(name: str) -> tuple[str, str, str, str, str]:
    """Kernel, element type, dimensions and mode, padding, bits of offsets."""
    match = CONFIG.search(name)
    if match is None:
        plain = re.search(r"(\w+_kernel)", name)
        return (plain[1] if plain else name, "", "", "", "")
    kernel, dtype, dims, mode, offset, zeros = match.groups()
    return (kernel, dtype, f"{dims}-D {MODES[int(mode)]}", PADDING[zeros], OFFSET_BITS[offset])


def main() -> None:
    """Write the table; exit with an error if a kernel breaks the rule."""
    parser = argparse.ArgumentParser(description="Resources of the CUDA kernels.")
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    usages = read(REPORTS)
    if not usages:
        sys.exit("no reports of ptxas found; build with GRIDSAMPLE_EXT_CUDA=1 first")
    groups = collections.defaultdict(list)
    for usage, name in zip(usages, demangled([u.symbol for u in usages]), strict=True):
        groups[(usage.architecture, *group_of(name))].append(usage)
    lines = [
        "| | kernel | pixels | mode | padding | bits of offsets | kernels | registers "
        "| blocks of 256 | spills, bytes |",
        "|---|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    broken = []
    for (architecture, kernel, dtype, mode, padding, bits), members in sorted(groups.items()):
        least = min(usage.registers for usage in members)
        registers = max(usage.registers for usage in members)
        rounded = -(-registers // 8) * 8
        spills = max(usage.spills + usage.stack for usage in members)
        lines.append(
            f"| {architecture} | {kernel} | {dtype} | {mode} | {padding} | {bits} | {len(members)} "
            f"| {least} to {registers} "
            f"| {REGISTERS // (rounded * THREADS)} | {spills} |"
        )
        if spills and kernel not in LOCAL:
            broken.append(
                f"{kernel} {dtype} {mode} {padding}, {bits} bits, on {architecture}: {spills} bytes"
            )
    for architecture, count in sorted(collections.Counter(u.architecture for u in usages).items()):
        lines += ["", f"{architecture}: {count} kernels"]
    text = "\n".join(lines)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    print(text)
    if broken:
        sys.exit("local memory in kernels:\n  " + "\n  ".join(broken))


if __name__ == "__main__":
    main()
