"""What a wheel promises: metadata, and libraries that run on machines of manylinux_2_28."""

import importlib.metadata
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from binaries import needs_binutils, symbols

from gridsample_ext import _C, _ops

ROOT = Path(__file__).parents[1]
portable = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc/portable.py")))
COMPILER = os.environ.get("CXX", "c++").split()
LIBRARIES = [
    path for path in (Path(_C.__file__), _ops.CPU_LIBRARY, _ops.CUDA_LIBRARY) if path.exists()
]


def made_by_newer_gcc():
    """Whether headers newer than those of GCC 12 were compiled, which may need newer symbols."""
    found = re.match(r"gcc (\d+)", _C.build_info()["compiler"])
    return found is not None and int(found[1]) > 12


@needs_binutils
@pytest.mark.skipif(made_by_newer_gcc(), reason="wheels are built with GCC 12, or in a container")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name.partition(".")[0])
def test_libraries_need_nothing_newer_than_manylinux(library):
    assert portable.needed_symbols(library)["GLIBC"]
    assert portable.too_new(library) == []


@needs_binutils
@pytest.mark.compiles
def test_symbols_that_are_too_new_are_found_and_replaced(tmp_path):
    """A function whose newest version is of glibc 2.29, and one of 2.34; both have older ones."""
    old = portable.old_glibc(tmp_path, COMPILER)
    if not old:
        pytest.skip("glibc is not newer than that of manylinux")
    source = tmp_path / "new.c"
    source.write_text(
        "#include <math.h>\n#include <pthread.h>\n"
        "double power(double x, double y) { return pow(x, y); }\n"
        "int join(pthread_t thread) { return pthread_join(thread, 0); }\n"
    )
    command = [*COMPILER, "-x", "c", "-shared", "-fPIC", str(source), "-x", "none"]
    library = tmp_path / "library.so"
    subprocess.run([*command, "-lm", "-o", str(library)], check=True)
    newest = sorted(portable.too_new(library))
    assert newest[0] == "pow of GLIBC 2.29"

    subprocess.run([*command, *old, "-lm", "-o", str(library)], check=True)
    assert portable.too_new(library) == []
    assert {"pow", "pthread_join"} <= symbols(library, "--undefined-only")


@needs_binutils
@pytest.mark.compiles
@pytest.mark.parametrize("optimise", ["-O0", "-O2"])
def test_own_definitions_in_place_of_the_libraries(tmp_path, optimise):
    program = tmp_path / "program"
    files = [str(ROOT / "tests/native/portable_program.cpp"), str(portable.SOURCE)]
    flags = ["-std=c++20", optimise, "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*COMPILER, *flags, *files, "-o", str(program)], check=True)
    output = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [
        "thrown: 7",
        "alive while a pointer is left: 1",
        "alive after the last: 0",
        "owners: 2",
        "too long",
    ]
    if not made_by_newer_gcc():
        assert [name for name in portable.too_new(program) if "GLIBC " not in name] == []
        assert "__libc_single_threaded" not in symbols(program, "--undefined-only")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
def test_loads_no_second_openmp():
    """A second one would be a second pool of threads."""
    script = """
import torch
def runtimes():
    names = {line.split()[-1] for line in open("/proc/self/maps")}
    return sorted(name for name in names if any(lib in name for lib in ("gomp", "iomp", "libomp")))
image = torch.rand(2, 3, 64, 64)
torch.nn.functional.avg_pool2d(image, 2)
print(runtimes())
import gridsample_ext
gridsample_ext.grid_sample(image, torch.rand(2, 64, 64, 2), align_corners=False)
print(runtimes())
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    before, after = output.splitlines()
    assert before == after


def test_metadata():
    facts = importlib.metadata.metadata("gridsample_ext")
    assert facts["License-Expression"] == "Apache-2.0"
    assert facts["License-File"] == "LICENSE"
    assert facts["Requires-Python"] == ">=3.10"
    assert facts["Description-Content-Type"] == "text/markdown"
    title = (ROOT / "README.md").read_text().splitlines()[0]
    assert facts["Description"].splitlines()[0] == title
    needed = [text for text in facts.get_all("Requires-Dist") if "extra ==" not in text]
    assert needed == ["torch>=2.10"]
    classifiers = facts.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert not [name for name in classifiers if name.startswith("License ::")]  # of PEP 639


@pytest.mark.parametrize("name", ["py.typed", "_C.pyi"])
def test_types_lie_beside_the_libraries(name):
    assert _ops.CPU_LIBRARY.with_name(name).exists()
