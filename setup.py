"""Builds gridsample_ext._C. Everything that is not the extension stands in pyproject.toml.

Environment variables
    MAX_JOBS        how many files ninja compiles at once (default: what ninja thinks fit)
    CXX             the C++20 compiler (default: c++)
    GRIDSAMPLE_EXT_WERROR=1   warnings are errors, as in continuous integration
    GRIDSAMPLE_EXT_DEBUG=1    no optimisation, debug information
    GRIDSAMPLE_EXT_SANITIZE=1 checks for bad addresses and undefined behaviour (make sanitize)
    GRIDSAMPLE_EXT_EMULATE_AVX512=1  vectors as wide as AVX-512's, each made of two of AVX2's, to
                    test what depends on their width (make test-avx512)
    GRIDSAMPLE_EXT_CUDA, TORCH_CUDA_ARCH_LIST, CUDA_HOME   see csrc/cuda/build.py
"""

import os
import platform
import runpy
import shutil
import sys
from pathlib import Path

from setuptools import setup

try:
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths
except ImportError as error:
    sys.exit(
        f"gridsample_ext is built against an installed PyTorch >= 2.10, which was not found "
        f"({error}); install it first, then build with `pip install --no-build-isolation .`"
    )

# The oldest PyTorch whose stable C++ interface the sources use; a build runs on all from there.
TORCH_FLOOR = (2, 10)
SANITIZE = os.environ.get("GRIDSAMPLE_EXT_SANITIZE") == "1"
EMULATE_AVX512 = os.environ.get("GRIDSAMPLE_EXT_EMULATE_AVX512") == "1"


def check_tools() -> None:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < TORCH_FLOOR:
        sys.exit(
            f"gridsample_ext needs PyTorch >= {'.'.join(map(str, TORCH_FLOOR))}, "
            f"but {torch.__version__} is installed"
        )
    if sys.platform == "win32":
        sys.exit(
            "gridsample_ext needs GCC or Clang, whose vectors its kernels are written with; on "
            "Windows, where PyTorch's extensions are built by MSVC, use it under WSL"
        )
    compiler = os.environ.get("CXX", "").split() or ["c++"]
    if shutil.which(compiler[0]) is None:
        sys.exit(
            f"gridsample_ext needs a C++20 compiler, and {compiler[0]!r} is not on PATH; install "
            "one (Debian: `apt install g++`) or name one in CXX"
        )


def compile_arguments() -> list[str]:
    debug = os.environ.get("GRIDSAMPLE_EXT_DEBUG") == "1"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    arguments = [
        "-std=c++20",
        *(["-O0", "-g"] if debug else ["-O1", "-g1"] if SANITIZE else ["-O3", "-g0"]),
        *(sanitize if SANITIZE else []),
        "-fvisibility=hidden",
        "-fopenmp-simd",
        # Coordinates must not depend on the instruction set: see csrc/math/coordinates.h.
        "-ffp-contract=off",
        # Not fast-math: results, NaN and infinity included, stay the same without these.
        "-fno-math-errno",
        "-fno-trapping-math",
        "-Wall",
        "-Wextra",
        "-Wno-psabi",  # vectors wider than the baseline's cross no function call: all is inlined
        # PyTorch's headers as system headers: their warnings are not ours to mend.
        *(f"-isystem{path}" for path in include_paths()),
    ]
    return arguments + (["-Werror"] if os.environ.get("GRIDSAMPLE_EXT_WERROR") == "1" else [])


# What is compiled for each instruction set, and for which compute types: csrc/cpu/kernels/NAME.h.
# AVX2's kernels serve for what is rare with AVX-512 (csrc/cpu/host/isa.cpp).
KERNELS = ("forward", "backward", "second_order", "plain")
INSTRUCTION_SETS = {
    "baseline": [(kernel, type) for kernel in KERNELS for type in ("float", "double")],
    "neon": [(kernel, type) for kernel in KERNELS for type in ("float", "double")],
    "avx2": [(kernel, type) for kernel in KERNELS for type in ("float", "double")],
    "avx512": [(kernel, "float") for kernel in ("forward", "backward")],
}


def kernel_sources() -> list[str]:
    """A file for each kernel, instruction set and compute type; all foreign headers come first."""
    folder = Path("build/kernels")
    folder.mkdir(parents=True, exist_ok=True)
    isas = {"x86_64": ("baseline", "avx2", "avx512"), "aarch64": ("neon",), "arm64": ("neon",)}
    sources = []
    for isa in isas.get(platform.machine(), ("baseline",)):
        for kernel, compute_type in INSTRUCTION_SETS[isa]:
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
            sources.append(str(path))
    return sources


def extension() -> CppExtension:
    import pybind11  # the package, not the copy among PyTorch's headers

    major, minor = TORCH_FLOOR
    return CppExtension(
        name="gridsample_ext._C",
        sources=sorted(map(str, Path("csrc").rglob("*.cpp"))) + kernel_sources(),
        depends=sorted(map(str, Path("csrc").rglob("*.h"))),
        include_dirs=[str(Path("csrc").resolve()), pybind11.get_include()],
        define_macros=[
            ("TORCH_TARGET_VERSION", f"0x{major:02x}{minor:02x}000000000000ULL"),
            ("GRIDSAMPLE_TORCH_VERSION", torch.__version__),
            *([("GRIDSAMPLE_EMULATE_AVX512", None)] if EMULATE_AVX512 else []),
        ],
        extra_compile_args={"cxx": compile_arguments()},
        extra_link_args=["-fsanitize=address,undefined"] if SANITIZE else [],
    )


class IncrementalBuild(BuildExtension):
    """Builds the library of CUDA kernels as well.

    Keeps objects in build/ also for editable installs, which else compile anew each time.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        variant = "-sanitize" * SANITIZE + "-avx512" * EMULATE_AVX512
        self.build_temp = f"build/{sys.implementation.cache_tag}{variant}"
        self.cuda = runpy.run_path("csrc/cuda/build.py")
        self.builds_cuda = self.cuda["wanted"]()

    def run(self) -> None:
        super().run()
        if self.builds_cuda:
            self.cuda["build"](self.package_folder(), Path("build/cuda"))

    def get_outputs(self) -> list[str]:
        library = [str(self.package_folder() / self.cuda["LIBRARY"])] if self.builds_cuda else []
        return super().get_outputs() + library

    def package_folder(self) -> Path:
        return Path(self.get_ext_fullpath("gridsample_ext._C")).parent


check_tools()
setup(ext_modules=[extension()], cmdclass={"build_ext": IncrementalBuild})
