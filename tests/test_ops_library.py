"""gridsample_ext_cpu.so: the ops without Python, in Python's processes and in a C++ program."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from binaries import TORCH_LIBRARIES, linked_libraries, needs_binutils, symbols
from torch.utils.cpp_extension import include_paths

import gridsample_ext
from gridsample_ext import _C, _ops

ROOT = Path(__file__).parents[1]
BUILD = runpy.run_path(str(ROOT / "csrc/cpu/build.py"))


@needs_binutils
def test_every_undefined_symbol_is_one_of_pytorch_or_the_c_library():
    """So none is Python's."""
    exported = set()
    torch_libraries = [TORCH_LIBRARIES / "libtorch_cpu.so", TORCH_LIBRARIES / "libc10.so"]
    for path in [*torch_libraries, *linked_libraries(_ops.CPU_LIBRARY)]:
        exported |= symbols(path, "--defined-only")
    assert not symbols(_ops.CPU_LIBRARY, "--undefined-only") - exported


@needs_binutils
def test_offers_functions_to_the_python_module_alone():
    """Kernels and what PyTorch's headers define inline stay inside."""
    names = symbols(_ops.CPU_LIBRARY, "--defined-only")
    ours = [name for name in names if "gridsample" in name]
    offered = ("build_info", "explain", "executed_paths", "all_paths")
    assert len(ours) == len(offered)
    assert all(any(name in symbol for symbol in ours) for name in offered), ours


class TwiceTheSamples(torch.nn.Module):
    """What tests/native/ops_program.cpp expects of a package."""

    def forward(self, image, grid):
        """Image (1, 3, 8, 8), grid (1, 5, 5, 2)."""
        return 2 * gridsample_ext.grid_sample(image, grid, align_corners=True)


def compile_program(source, folder):
    """An executable, linked with PyTorch's C++ libraries."""
    program, object_file = folder / source.stem, folder / f"{source.stem}.o"
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror"]
    headers = [f"-isystem{path}" for path in include_paths()]
    libraries = [f"-L{TORCH_LIBRARIES}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
    libraries += [f"-Wl,-rpath,{TORCH_LIBRARIES}"]
    for command in (
        [*BUILD["cached_compiler"](), *flags, *headers, "-c", source, "-o", object_file],
        [*BUILD["compiler"](), object_file, "-o", program, *libraries],
    ):
        subprocess.run(command, check=True)
    return program


def run(*command, **environment):
    """Standard output, or what the program says went wrong."""
    process = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    return process.stdout if process.returncode == 0 else f"failed: {process.stderr}"


@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
def test_program_without_python(tmp_path):
    program = compile_program(ROOT / "tests/native/ops_program.cpp", tmp_path)
    package = str(tmp_path / "package.pt2")
    model = torch.export.export(TwiceTheSamples(), (torch.rand(1, 3, 8, 8), torch.rand(1, 5, 5, 2)))
    torch._inductor.aoti_compile_and_package(model, package_path=package)

    lines = run(program, _ops.CPU_LIBRARY, package).splitlines()
    assert lines[:4] == [
        "output: 0 7.5",
        "grad_input: 1 0 0 0 0 0.25 0.25 0 0 0.25 0.25 0 0 0 0 0",
        "grad_grid: 1.5 6 1.5 6",
        "package: the op's output",
    ]
    loaded = [Path(line.removeprefix("loaded: ")).name for line in lines[4:]]
    assert {"libtorch_cpu.so", _ops.CPU_LIBRARY.name} <= set(loaded)
    assert not [name for name in loaded if "python" in name]

    # What is an error on import is one at the first call.
    for variable, value, words in (
        ("GRIDSAMPLE_EXT_ISA", "sse9", ("sse9", *_C.build_info()["isa_supported"])),
        ("GRIDSAMPLE_EXT_GATHERS", "yes", ("yes", "0 or 1")),
    ):
        error = run(program, _ops.CPU_LIBRARY, **{variable: value})
        assert all(word in error for word in ("failed", variable, *words))


@pytest.mark.compiles
def test_the_guides_lines_of_cpp(tmp_path):
    """They are compiled as they stand, but for the library's path."""
    guide = (ROOT / "docs/guide/export.md").read_text()
    (lines,) = re.findall(r"```cpp\n(.*?)```", guide, re.DOTALL)
    path = "/path/to/gridsample_ext/gridsample_ext_cpu.so"
    assert path in lines
    source = tmp_path / "guide.cpp"
    source.write_text(f"""
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <dlfcn.h>
#include <iostream>
#include <optional>

int main() {{
const at::Tensor image = at::arange(16, at::kFloat).reshape({{1, 1, 4, 4}});
const at::Tensor grid = at::zeros({{1, 1, 1, 2}});
{lines.replace(path, str(_ops.CPU_LIBRARY))}
std::cout << output.item<float>();
}}""")
    assert run(compile_program(source, tmp_path)) == "7.5"


@pytest.fixture
def package(tmp_path):
    """A copy of the package without the library."""
    here = Path(gridsample_ext.__file__).parent
    ignored = shutil.ignore_patterns(_ops.CPU_LIBRARY.name, "__pycache__")
    shutil.copytree(here, tmp_path / "gridsample_ext", ignore=ignored)
    return tmp_path / "gridsample_ext"


def import_error(package):
    """What Python says of the import."""
    program = f"import sys; sys.path.insert(0, {str(package.parent)!r}); import gridsample_ext"
    return run(sys.executable, "-c", program).splitlines()[-1]


def test_a_missing_library_is_an_import_error(package):
    error = import_error(package)
    assert error.startswith("ImportError")
    assert f"{package / _ops.CPU_LIBRARY.name} is missing" in error
    assert "pip install" in error


@pytest.mark.compiles
def test_a_library_for_another_pytorch_is_an_import_error(package):
    """One that calls what this PyTorch has not."""
    source = package / "future.c"
    source.write_text("int aoti_torch_of_the_future(); int (*call)() = aoti_torch_of_the_future;")
    library = package / _ops.CPU_LIBRARY.name
    subprocess.run(
        [*BUILD["compiler"](), "-x", "c", "-shared", "-fPIC", source, "-o", library], check=True
    )
    error = import_error(package)
    assert error.startswith("ImportError")
    assert "aoti_torch_of_the_future" in error
    assert torch.__version__ in error
    assert "pip install" in error
