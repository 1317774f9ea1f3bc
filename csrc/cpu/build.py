"""Compiles the ops and the CPU kernels to gridsample_ext_cpu.so; setup.py calls it, with ninja.

The library needs PyTorch's libraries and no Python, so C++ programs can load it as well.

    python csrc/cpu/build.py --out FOLDER

The environment variables are those of setup.py. ccache is used where it is installed.
"""

import argparse
import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils.cpp_extension import include_paths

CPU = Path(__file__).resolve().parent
common = SimpleNamespace(**runpy.run_path(str(CPU.parent / "build_common.py")))

LIBRARY = "gridsample_ext_cpu.so"
DEBUG = os.environ.get("GRIDSAMPLE_EXT_DEBUG") == "1"
SANITIZE = os.environ.get("GRIDSAMPLE_EXT_SANITIZE") == "1"
EMULATE_AVX512 = os.environ.get("GRIDSAMPLE_EXT_EMULATE_AVX512") == "1"


def compiler() -> list[str]:
    """The command that CXX names, in words."""
    return os.environ.get("CXX", "").split() or ["c++"]


# Builds by another compiler, or with other results or checks: their objects lie in folders of their
# own.
VARIANT = (
    f"-{Path(compiler()[0]).name}" * ("CXX" in os.environ)
    + "-sanitize" * SANITIZE
    + "-avx512" * EMULATE_AVX512
)
SANITIZERS = ["-fsanitize=address,undefined"] if SANITIZE else []

# What is compiled for each instruction set, and for which compute types: csrc/cpu/kernels/NAME.h.
# AVX2's kernels serve for what is rare with AVX-512 (csrc/cpu/host/isa.cpp).
KERNELS = ("forward", "backward", "second_order", "plain")
INSTRUCTION_SETS = {
    "baseline": [(kernel, type) for kernel in KERNELS for type in ("float", "double")],
    "neon": [(kernel, type) for kernel in KERNELS for type in ("float", "double")],
    "avx2": [(kernel, type) for kernel in KERNELS for type in ("float", "double")],
    "avx512": [(kernel, "float") for kernel in ("forward", "backward")],
}

# What is worth more code, and more time to compile it: float32 on usual machines. Images and
# volumes have kernels of their own there (csrc/cpu/kernels/dispatch.h).
USUAL = {
    f"{kernel}_{isa}_float"
    for kernel in ("forward", "backward")
    for isa in ("neon", "avx2", "avx512")
}

OPTIMISE = "-O0" if DEBUG else "-O1" if SANITIZE else "-O2"
# For kernels, but plain ones and, where there are better, those of the baseline.
OPTIMISE_KERNELS = OPTIMISE if DEBUG or SANITIZE else "-O3"

# What each kind of machine has, as the operating system names it; any other has the baseline.
MACHINES = {
    "x86_64": ("baseline", "avx2", "avx512"),
    "aarch64": ("neon",),
    "arm64": ("neon",),
}

# Their major versions. The Clang of Xcode 14, which is Apple's 14, was made of LLVM 14.
OLDEST_GCC = 11
OLDEST_CLANG = 14


def cached_compiler() -> list[str]:
    """The compiler's command by way of ccache, where that is installed."""
    cache = shutil.which("ccache") and "ccache" not in compiler()[0]
    return [*(["ccache"] if cache else []), *compiler()]


def check_compiler() -> None:
    """Exit with a sentence that says what is missing where the compiler cannot do."""
    command = compiler()
    name = " ".join(command)
    needed = (
        f"gridsample_ext needs GCC >= {OLDEST_GCC} or Clang >= {OLDEST_CLANG} (on macOS that of "
        f"Xcode >= {OLDEST_CLANG})"
    )
    remedy = "install one (Debian: `apt install g++`) or name one in CXX"
    if shutil.which(command[0]) is None:
        sys.exit(f"{needed}, and {command[0]!r} is not on PATH; {remedy}")
    asked = subprocess.run(
        [*command, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True
    )
    lines = [line.split(maxsplit=2) for line in asked.stdout.splitlines()]
    macros = {line[1]: line[2] for line in lines if len(line) == 3}
    for maker, major, minor, oldest in (
        ("Clang", "__clang_major__", "__clang_minor__", OLDEST_CLANG),
        ("GCC", "__GNUC__", "__GNUC_MINOR__", OLDEST_GCC),  # Clang has these macros, too
    ):
        if major in macros:
            if int(macros[major]) < oldest:
                apple = "Apple's " if "__apple_build_version__" in macros else ""
                version = f"{macros[major]}.{macros.get(minor, '0')}"
                sys.exit(f"{needed}, but {name!r} is {apple}{maker} {version}; {remedy}")
            return
    said = f" ({asked.stderr.strip()})" if asked.stderr.strip() else ""
    sys.exit(f"{needed}, and {name!r} is neither{said}; {remedy}")


def compile_arguments() -> list[str]:
    """For all C++ of the CPU, the Python module included."""
    return [
        "-std=c++20",
        OPTIMISE,
        "-g" if DEBUG else "-g1" if SANITIZE else "-g0",
        *SANITIZERS,
        *(["-fno-sanitize-recover=undefined"] if SANITIZE else []),
        "-fPIC",
        "-fvisibility=hidden",
        "-fopenmp-simd",
        # Coordinates must not depend on the instruction set: see csrc/math/coordinates.h.
        "-ffp-contract=off",
        # Not fast-math: results, NaN and infinity included, stay the same without these.
        "-fno-math-errno",
        "-fno-trapping-math",
        # As CPython compiles extensions. Without, GCC 12's forward kernels of AVX2 are 4 % larger.
        "-fwrapv",
        "-DNDEBUG",
        "-Wall",
        "-Wextra",
        "-Wno-psabi",  # vectors wider than the baseline's cross no function call: all is inlined
        "-Wno-pass-failed",  # Clang's: a loop with bounds known at run time may stay a loop
        *(["-Werror"] if os.environ.get("GRIDSAMPLE_EXT_WERROR") == "1" else []),
        f"-I{common.INCLUDE}",
        # PyTorch's headers as system headers: their warnings are not ours to mend.
        *(f"-isystem{path}" for path in include_paths()),
        f"-DTORCH_TARGET_VERSION={common.TORCH_TARGET_VERSION}",
        f"-DGRIDSAMPLE_TORCH_VERSION={torch.__version__}",
        *(["-DGRIDSAMPLE_EMULATE_AVX512"] if EMULATE_AVX512 else []),
    ]


def kernel_names(machine: str) -> list[str]:
    """What is compiled for a machine: "KERNEL_ISA_TYPE"."""
    return [
        f"{kernel}_{isa}_{compute_type}"
        for isa in MACHINES.get(machine, ("baseline",))
        for kernel, compute_type in INSTRUCTION_SETS[isa]
    ]


def kernel_sources(folder: Path, machine: str) -> list[Path]:
    """A file for each kernel, instruction set and compute type; all foreign headers come first."""
    sources = []
    for name in kernel_names(machine):
        kernel, isa, compute_type = name.rsplit("_", 2)
        path = folder / f"{name}.cpp"
        text = (
            f"#define GRIDSAMPLE_COMPUTE_TYPE {compute_type}\n"
            f"#define GRIDSAMPLE_IS_USUAL {int(name in USUAL)}\n"
            '#include "cpu/simd/foreign.h"\n'
            f'#include "cpu/simd/{isa}.h"\n'
            f'#include "cpu/kernels/{kernel}.h"\n'
            '#include "cpu/simd/end.h"\n'
        )
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        sources.append(path)
    return sources


def build(out: Path, temporary: Path) -> Path:
    """Compile what has changed, and link; returns the library's path."""
    out, temporary = out.resolve(), temporary.resolve()
    out.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(parents=True, exist_ok=True)
    kernels = kernel_sources(temporary, platform.machine())
    # The longest compilations first, so that none is left over at the end.
    sources = [
        *sorted(kernels, key=lambda path: path.stem not in USUAL),
        *sorted(CPU.rglob("*.cpp")),
        common.INCLUDE / "library.cpp",
        common.INCLUDE / "ops.cpp",
        common.portable.SOURCE,
    ]
    flags, link_flags = (shlex.split(os.environ.get(name, "")) for name in ("CXXFLAGS", "LDFLAGS"))
    compile_words = [*cached_compiler(), *flags, *compile_arguments()]
    # The name is that by which the Python module asks for the library.
    if sys.platform == "darwin":
        shared = ["-dynamiclib", f"-Wl,-install_name,@rpath/{LIBRARY}"]
    else:
        shared = ["-shared", f"-Wl,-soname,{LIBRARY}"]
    link_words = [*compiler(), *SANITIZERS, *shared, *link_flags]
    libraries = [f"-L{common.torch_libraries()}", "-ltorch_cpu", "-lc10"]
    libraries += common.portable.old_glibc(temporary, compiler())
    common.run_ninja(
        temporary,
        sources,
        out / LIBRARY,
        f"{_words(compile_words)} -MMD -MF $out.d -c $in -o $out",
        f"{_words(link_words)} $in -o $out {_words(libraries)}",
        {path: OPTIMISE_KERNELS for path in kernels if not _is_rare(path.stem)},
    )
    return out / LIBRARY


def _is_rare(name: str) -> bool:
    """Whether a kernel is not worth the time to optimise it further."""
    has_better = platform.machine() in MACHINES
    return name.startswith("plain") or (has_better and "_baseline_" in name)


def _words(arguments: list[str]) -> str:
    """As the shell reads them, in a file for ninja."""
    return shlex.join(arguments).replace("$", "$$")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the ops and the CPU kernels.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the library")
    check_compiler()
    print(build(parser.parse_args().out, CPU.parents[1] / "build" / f"cpu{VARIANT}"))
