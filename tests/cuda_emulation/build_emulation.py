"""Compiles csrc/cuda/ for the host; run as a script, prints the library's path.

GRIDSAMPLE_EXT_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer;
GRIDSAMPLE_EXT_WERROR=1, CXX and MAX_JOBS are as in setup.py.
"""

import os
import runpy
from pathlib import Path
from types import SimpleNamespace

from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARY = "gridsample_ext_emulated.so"


def build() -> Path:
    """Compile what has changed."""
    common = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc/build_common.py")))
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
        f"-I{common.INCLUDE}",
        *(f"-isystem {path}" for path in include_paths()),
        "-DGRIDSAMPLE_CUDA_EMULATION",
        f"-DTORCH_TARGET_VERSION={common.TORCH_TARGET_VERSION}",
    ]
    # All but the registration for CUDA tensors, and what it asks the device.
    sources = runpy.run_path(str(ROOT / "csrc/cuda/build.py"))["sources"]()
    sources = [path for path in sources if path.stem not in ("register", "probe")]
    target = folder / LIBRARY
    common.run_ninja(
        folder,
        [*sources, HERE / "emulation.cpp", HERE / "register.cpp"],
        target,
        f"{compiler} {' '.join(flags)} -MMD -MF $out.d -c $in -o $out",
        f"{compiler} -shared {sanitizers} $in -o $out -L{common.torch_libraries()} "
        "-Wl,--no-as-needed -ltorch -ltorch_cpu -lc10",
    )
    return target


if __name__ == "__main__":
    print(build())
