"""Builds gridsample_ext_cpu.so and, beside it, the thin Python module gridsample_ext._C.

Everything that is not compiled stands in pyproject.toml.

Environment variables
    MAX_JOBS        how many files ninja compiles at once (default: what ninja thinks fit)
    CXX             the C++20 compiler (default: c++)
    CXXFLAGS, LDFLAGS   further options for compiling and for linking
    GRIDSAMPLE_EXT_WERROR=1   warnings are errors, as in continuous integration
    GRIDSAMPLE_EXT_DEBUG=1    no optimisation, debug information
    GRIDSAMPLE_EXT_SANITIZE=1 checks for bad addresses and undefined behaviour (make sanitize)
    GRIDSAMPLE_EXT_EMULATE_AVX512=1  vectors as wide as AVX-512's, each made of two of AVX2's, to
                    test what depends on their width (make test-avx512)
    GRIDSAMPLE_EXT_CUDA, TORCH_CUDA_ARCH_LIST, CUDA_HOME   see csrc/cuda/build.py
"""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

from setuptools import Extension, setup

try:
    import torch
    from torch.utils.cpp_extension import BuildExtension
except ImportError as error:
    sys.exit(
        f"gridsample_ext is built against an installed PyTorch >= 2.10, which was not found "
        f"({error}); install it first, then build with `pip install --no-build-isolation .`"
    )

cpu = SimpleNamespace(**runpy.run_path("csrc/cpu/build.py"))
cuda = SimpleNamespace(**runpy.run_path("csrc/cuda/build.py"))


def check_tools() -> None:
    floor = cpu.common.TORCH_FLOOR
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < floor:
        sys.exit(
            f"gridsample_ext needs PyTorch >= {'.'.join(map(str, floor))}, "
            f"but {torch.__version__} is installed"
        )
    if sys.platform == "win32":
        sys.exit(
            "gridsample_ext needs GCC or Clang, whose vectors its kernels are written with; on "
            "Windows, where PyTorch's extensions are built by MSVC, use it under WSL"
        )
    cpu.check_compiler()


def python_module() -> Extension:
    import pybind11  # the package, not the copy among PyTorch's headers

    here = "@loader_path" if sys.platform == "darwin" else "$ORIGIN"
    return Extension(
        name="gridsample_ext._C",
        sources=["csrc/bindings.cpp", "csrc/portable.cpp"],
        include_dirs=[pybind11.get_include()],
        extra_compile_args={"cxx": cpu.compile_arguments()},
        extra_link_args=[*cpu.SANITIZERS, f"-Wl,-rpath,{here}"],
        language="c++",
    )


class BuildLibraries(BuildExtension):
    """Builds the libraries of kernels as well.

    Keeps objects in build/ also for editable installs, which else compile anew each time.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.build_temp = f"build/{sys.implementation.cache_tag}{cpu.VARIANT}"
        self.libraries_built = [cpu.LIBRARY, *([cuda.LIBRARY] if cuda.wanted() else [])]

    def run(self) -> None:
        library = cpu.build(self.package_folder(), Path(f"build/cpu{cpu.VARIANT}"))
        for module in self.extensions:
            old_glibc = cpu.common.portable.old_glibc(Path(self.build_temp), cpu.compiler())
            module.extra_objects = [str(library), *old_glibc]
        super().run()
        if cuda.LIBRARY in self.libraries_built:
            cuda.build(self.package_folder(), Path("build/cuda"))

    def get_outputs(self) -> list[str]:
        return sorted({*super().get_outputs(), *self.built()})

    def get_output_mapping(self) -> dict[str, str]:
        return super().get_output_mapping() | (self.built() if self.inplace else {})

    def built(self) -> dict[str, str]:
        """Map each library's place in a build's output to where it is built."""
        output = Path(self.build_lib) / "gridsample_ext"
        return {str(output / n): str(self.package_folder() / n) for n in self.libraries_built}

    def package_folder(self) -> Path:
        return Path(self.get_ext_fullpath("gridsample_ext._C")).parent


check_tools()
setup(ext_modules=[python_module()], cmdclass={"build_ext": BuildLibraries})
