"""Compiles the kernels and driver.cpp to a program without PyTorch, and prints its path.

CXX and MAX_JOBS are as in setup.py. What has not changed is not compiled again (build/native/).
"""

import argparse
import fcntl
import os
import platform
import runpy
import shutil
from pathlib import Path

from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CROSS_COMPILER = "aarch64-linux-gnu-g++"

# As in setup.py.
KERNELS = ("forward", "backward", "second_order", "plain")
ALL = [(kernel, type) for kernel in KERNELS for type in ("float", "double")]
INSTRUCTION_SETS = {
    "x86_64": {
        "baseline": ALL,
        "avx2": ALL,
        "avx512": [("forward", "float"), ("backward", "float")],
    },
    "aarch64": {"neon": ALL},
}


def host_machine() -> str:
    machine = platform.machine()
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(machine, machine)


def why_not(machine: str) -> str | None:
    """What is missing to compile for a machine and to run it here."""
    if machine not in INSTRUCTION_SETS:
        return f"no instruction sets are listed for {machine}"
    if machine == host_machine():
        return None
    if machine != "aarch64":
        return f"there is no cross compiler for {machine}"
    missing = [tool for tool in (CROSS_COMPILER, *emulator(machine)) if shutil.which(tool) is None]
    return f"{' and '.join(missing)} not found" if missing else None


def emulator(machine: str) -> list[str]:
    """What a program for a machine is run by."""
    return [] if machine == host_machine() else [f"qemu-{machine}-static"]


def kernel_sources(machine: str, folder: Path) -> list[Path]:
    """A file for each kernel, instruction set and compute type."""
    sources = []
    for isa, kernels in INSTRUCTION_SETS[machine].items():
        for kernel, compute_type in kernels:
            path = folder / f"{kernel}_{isa}_{compute_type}.cpp"
            text = (
                f"#define GRIDSAMPLE_COMPUTE_TYPE {compute_type}\n"
                '#include "cpu/simd/foreign.h"\n'
                f'#include "cpu/simd/{isa}.h"\n'
                f'#include "cpu/kernels/{kernel}.h"\n'
                '#include "cpu/simd/end.h"\n'
            )
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
            sources.append(path)
    return sources


def build(machine: str) -> Path:
    """Compile what has changed."""
    cross = machine != host_machine()
    compiler = CROSS_COMPILER if cross else os.environ.get("CXX", "c++")
    folder = ROOT / "build" / "native" / f"{machine}-{Path(compiler.split()[0]).name}"
    folder.mkdir(parents=True, exist_ok=True)
    flags = [
        "-std=c++20 -O1 -fopenmp-simd -ffp-contract=off -fno-math-errno -fno-trapping-math",
        "-Wno-psabi",
        f"-I{ROOT / 'csrc'}",
        *(f"-isystem {path}" for path in include_paths()),
    ]
    target = folder / "driver"
    run_ninja = runpy.run_path(str(ROOT / "csrc/cuda/build.py"))["run_ninja"]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run side by side
        run_ninja(
            folder,
            [
                ROOT / "csrc/cpu/host/isa.cpp",
                HERE / "driver.cpp",
                *kernel_sources(machine, folder),
            ],
            target,
            f"{compiler} {' '.join(flags)} -MMD -MF $out.d -c $in -o $out",
            # An emulator finds no libraries of the other machine.
            f"{compiler} {'-static' if cross else ''} $in -o $out",
        )
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the native driver.")
    parser.add_argument("--machine", default=host_machine(), choices=INSTRUCTION_SETS)
    print(build(parser.parse_args().machine))
