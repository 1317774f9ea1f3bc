"""What the builds of both libraries of kernels share: csrc/cpu/build.py and csrc/cuda/build.py."""

import fcntl
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

INCLUDE = Path(__file__).resolve().parent  # what #include "..." is relative to
portable = SimpleNamespace(**runpy.run_path(str(INCLUDE / "portable.py")))
# The oldest PyTorch whose stable C++ interface the sources use; a build runs on all from there.
TORCH_FLOOR = (2, 10)
TORCH_TARGET_VERSION = f"0x{TORCH_FLOOR[0]:02x}{TORCH_FLOOR[1]:02x}000000000000ULL"


def torch_libraries() -> Path:
    """Where PyTorch's own libraries lie."""
    return Path(torch.__file__).parent / "lib"


def run_ninja(
    folder: Path,
    sources: list[Path],
    target: Path,
    compile_command: str,
    link_command: str,
    options: dict[Path, str] | None = None,
) -> None:
    """Compile what has changed to objects in a folder, and link.

    ``options``: further words for the compiler, by source; of two -O the last counts.
    """
    options = options or {}
    objects = {source: f"{source.parent.name}_{source.stem}.o" for source in sources}
    lines = [
        f"rule compile\n  command = {compile_command} $options\n  depfile = $out.d\n  deps = gcc",
        "  description = $in",
        f"rule link\n  command = {link_command}\n  description = $out",
        *(
            f"build {name}: compile {_escaped(source)}\n  options = {options.get(source, '')}"
            for source, name in objects.items()
        ),
        f"build {_escaped(target)}: link {' '.join(objects.values())}",
    ]
    jobs = os.environ.get("MAX_JOBS")
    command = [_find_ninja(), *(["-j", jobs] if jobs else [])]
    with (folder / "ninja.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that build may run side by side
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        if subprocess.run(command, cwd=folder).returncode != 0:
            raise RuntimeError(f"{target.name} could not be built; the reason stands above")


def _escaped(path: Path) -> str:
    """As ninja reads it."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _find_ninja() -> str:
    """The program: on PATH, or that of the Python package."""
    found = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit("the kernels are built with ninja, which was not found; pip install ninja")
    return found
