"""Compiles the kernels and driver.cpp to a program without PyTorch, and prints its path.

CXX and MAX_JOBS are as in setup.py. What has not changed is not compiled again (build/native/).
The kernels of this machine are those that `make build` has left in build/cpu/, if it has.
"""

import argparse
import fcntl
import os
import platform
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CROSS_COMPILER = "aarch64-linux-gnu-g++"

cpu = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc/cpu/build.py")))
MACHINES = [machine for machine in cpu.MACHINES if machine != "arm64"]  # aarch64 by another name


def host_machine() -> str:
    machine = platform.machine()
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(machine, machine)


def why_not(machine: str) -> str | None:
    """What is missing to compile for a machine and to run it here."""
    if machine not in MACHINES:
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


def built_objects(machine: str) -> list[Path]:
    """The kernels of this machine as `make build` left them, or none."""
    if machine != host_machine():
        return []
    folder = ROOT / "build" / "cpu"
    names = [f"cpu_{kernel}.o" for kernel in cpu.kernel_names(machine)]
    objects = [folder / name for name in (*names, "host_isa.o")]
    return objects if all(path.exists() for path in objects) else []


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
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run side by side
        objects = built_objects(machine)
        if target.exists() and any(target.stat().st_mtime < o.stat().st_mtime for o in objects):
            target.unlink()
        kernels = [ROOT / "csrc/cpu/host/isa.cpp", *cpu.kernel_sources(folder, machine)]
        cpu.common.run_ninja(
            folder,
            [HERE / "driver.cpp", *([] if objects else kernels)],
            target,
            f"{compiler} {' '.join(flags)} -MMD -MF $out.d -c $in -o $out",
            # An emulator finds no libraries of the other machine.
            f"{compiler} {'-static' if cross else ''} $in {' '.join(map(str, objects))} -o $out",
        )
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the native driver.")
    parser.add_argument("--machine", default=host_machine(), choices=MACHINES)
    print(build(parser.parse_args().machine))
