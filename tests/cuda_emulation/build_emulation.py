"""Compiles csrc/cuda/ for the host; run as a script, prints the library's path.

GRIDSAMPLE_EXT_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer;
GRIDSAMPLE_EXT_WERROR=1, CXX and MAX_JOBS are as in setup.py.
"""

import os
import subprocess
from pathlib import Path

import ninja
import torch
from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARY = "gridsample_ext_emulated.so"


def build() -> Path:
    """Compile what has changed."""
    sanitize = os.environ.get("GRIDSAMPLE_EXT_SANITIZE") == "1"
    folder = ROOT / "build" / ("cuda-emulation" + ("-sanitize" if sanitize else ""))
    folder.mkdir(parents=True, exist_ok=True)
    sanitizers = "-fsanitize=address,undefined -fno-sanitize-recover=undefined" if sanitize else ""
    compiler = os.environ.get("CXX", "c++")
    flags = [
        "-x c++ -std=c++20 -O1 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra",
        "-g1" if sanitize else "-g0",
        sanitizers,
        "-Werror" if os.environ.get("GRIDSAMPLE_EXT_WERROR") == "1" else "",
        f"-I{HERE / 'include'}",
        *(f"-isystem {path}" for path in include_paths()),
        "-DGRIDSAMPLE_CUDA_EMULATION",
        "-DTORCH_TARGET_VERSION=0x020a000000000000ULL",
    ]
    # All but the registration for CUDA tensors.
    kernels = [
        path for path in sorted((ROOT / "csrc/cuda").glob("*.cu")) if path.stem != "register"
    ]
    with (folder / "build.ninja").open("w") as file:
        writer = ninja.ninja_syntax.Writer(file)
        writer.rule(
            "compile",
            f"{compiler} {' '.join(flags)} -MMD -MF $out.d -c $in -o $out",
            depfile="$out.d",
            deps="gcc",
            description="c++ $in",
        )
        writer.rule(
            "link",
            f"{compiler} -shared {sanitizers} $in -o $out -L{Path(torch.__file__).parent / 'lib'} "
            "-Wl,--no-as-needed -ltorch -ltorch_cpu -lc10",
            description="link $out",
        )
        objects = []
        for source in (*kernels, HERE / "emulation.cpp", HERE / "register.cpp"):
            objects += writer.build(f"{source.stem}.o", "compile", str(source))
        writer.build(LIBRARY, "link", objects)
    jobs = os.environ.get("MAX_JOBS")
    command = [str(Path(ninja.BIN_DIR) / "ninja"), *(["-j", jobs] if jobs else [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the CUDA kernels do not compile for the host:\n{done.stdout}")
    return folder / LIBRARY


if __name__ == "__main__":
    print(build())
