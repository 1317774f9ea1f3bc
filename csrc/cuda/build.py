"""Compiles the CUDA kernels to gridsample_ext_cuda.so; setup.py calls it, with nvcc and ninja.

The library uses PyTorch's stable C++ interface only, so it can be compiled and linked against any
PyTorch from the oldest supported one on, a CPU-only one too. It runs with PyTorch's CUDA builds.

    python csrc/cuda/build.py --out FOLDER

Environment variables
    GRIDSAMPLE_EXT_CUDA=0|1   do not build / fail if it cannot be built (default: build where nvcc
                              is found and the installed PyTorch is a CUDA build)
    TORCH_CUDA_ARCH_LIST      compute capabilities, such as "8.0;9.0+PTX" (default: that of the GPUs
                              here, or without one all from 7.5 on)
    CUDA_HOME, else CUDA_PATH where nvcc is; looked at before PATH
    GRIDSAMPLE_EXT_WERROR=1, MAX_JOBS   as in setup.py

Beside every object lies what ptxas said about it: registers, stack and spills of each kernel.
csrc/cuda/resources.py makes a table of it.
"""

import argparse
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils.cpp_extension import include_paths

CUDA = Path(__file__).resolve().parent
common = SimpleNamespace(**runpy.run_path(str(CUDA.parent / "build_common.py")))

LIBRARY = "gridsample_ext_cuda.so"
ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX")


def find_nvcc() -> str | None:
    """The compiler, or None."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (Path(home) / "bin" / "nvcc").exists():
            return str(Path(home) / "bin" / "nvcc")
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def wanted() -> bool:
    """Whether to build, by GRIDSAMPLE_EXT_CUDA; exits where it must be built and cannot."""
    choice = os.environ.get("GRIDSAMPLE_EXT_CUDA", "")
    if choice not in ("", "0", "1"):
        sys.exit(f"expected GRIDSAMPLE_EXT_CUDA to be 0 or 1, but got {choice!r}")
    if choice == "1":
        if sys.platform != "linux":
            sys.exit(f"GRIDSAMPLE_EXT_CUDA=1, but CUDA kernels need Linux, not {sys.platform}")
        if find_nvcc() is None:
            sys.exit(
                "GRIDSAMPLE_EXT_CUDA=1, but nvcc was found neither in CUDA_HOME, on PATH nor in "
                "/usr/local/cuda; install the CUDA toolkit"
            )
        return True
    return (
        choice == ""
        and sys.platform == "linux"
        and torch.version.cuda is not None
        and find_nvcc() is not None
    )


def architectures(nvcc: str) -> list[str]:
    """Compute capabilities to compile for, as TORCH_CUDA_ARCH_LIST spells them."""
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if chosen:
        return chosen
    if torch.cuda.is_available():
        devices = map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))
        return sorted({f"{major}.{minor}" for major, minor in devices})
    return known_architectures(nvcc)


def known_architectures(nvcc: str) -> list[str]:
    """Those of ARCHITECTURES that nvcc can compile for."""
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True)
    return [arch for arch in ARCHITECTURES if f"compute_{_number(arch)}" in known.stdout.split()]


def _number(arch: str) -> str:
    return arch.removesuffix("+PTX").replace(".", "")


def code_flags(archs: list[str]) -> list[str]:
    """The machine code, and for +PTX the intermediate code, of each."""
    flags = []
    for arch in archs:
        number = _number(arch)
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if arch.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def build(out: Path, temporary: Path) -> Path:
    """Compile what has changed, and link; returns the library's path."""
    nvcc = find_nvcc()
    assert nvcc is not None
    out, temporary = out.resolve(), temporary.resolve()
    out.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(parents=True, exist_ok=True)
    strict = os.environ.get("GRIDSAMPLE_EXT_WERROR") == "1"
    host = ["-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", *(["-Werror"] if strict else [])]
    flags = [
        "-std=c++20",
        "-O3",
        f"-DTORCH_TARGET_VERSION={common.TORCH_TARGET_VERSION}",
        "-DUSE_CUDA",
        f"-I{common.INCLUDE}",
        *(f"-isystem {path}" for path in include_paths()),
        # Coordinates must not depend on the device: see csrc/math/coordinates.h.
        "-fmad=false",
        "-Xptxas -v",
        "-Xfatbin -compress-all",  # a sixth of the size
        *(["-Werror all-warnings"] if strict else []),
        *code_flags(architectures(nvcc)),
        f"-Xcompiler {','.join(host)}",
    ]
    target = out / LIBRARY
    # nvcc's report of resources is kept, and shown if something goes wrong.
    compile_command = (
        f"{nvcc} {' '.join(flags)} -MD -MF $out.d -c $in -o $out > $out.ptxas 2>&1 "
        "|| { cat $out.ptxas; exit 1; }"
    )
    old_glibc = common.portable.old_glibc(temporary, ["gcc"])
    link_command = (
        f"{nvcc} -shared -cudart static $in -o $out -L{common.torch_libraries()} "
        "-Xlinker --no-as-needed -ltorch -ltorch_cpu -lc10 "
        + " ".join(f"-Xlinker {library}" for library in old_glibc)
    )
    files = [*sources(), common.portable.SOURCE]
    common.run_ninja(temporary, files, target, compile_command, link_command)
    return target


def sources() -> list[Path]:
    """Kernels, and host code, which nvcc passes on to the C++ compiler."""
    return sorted([*CUDA.rglob("*.cu"), *CUDA.rglob("*.cpp")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the CUDA kernels.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the library")
    print(build(parser.parse_args().out, CUDA.parents[1] / "build" / "cuda"))
