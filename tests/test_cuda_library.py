"""The library of CUDA kernels as a file: what it needs is there, and it is loaded where it runs."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from binaries import TORCH_LIBRARIES, linked_libraries, needs_binutils, symbols

from gridsample_ext import _ops
from gridsample_ext.collect_env import collect_env

# Symbols that only CUDA builds of PyTorch export, all of them in its stable C interface.
CUDA_ONLY = {
    "aoti_torch_get_current_cuda_stream",
}

needs_library = pytest.mark.skipif(
    not _ops.CUDA_LIBRARY.exists(),
    reason="the CUDA kernels are not built: GRIDSAMPLE_EXT_CUDA=1 builds them",
)


def test_built_where_it_must_be():
    if os.environ.get("GRIDSAMPLE_EXT_CUDA") == "1":
        assert _ops.CUDA_LIBRARY.exists()


@needs_library
@needs_binutils
def test_every_undefined_symbol_is_exported_somewhere():
    exported = set()
    for path in [*TORCH_LIBRARIES.glob("*.so*"), *linked_libraries(_ops.CUDA_LIBRARY)]:
        exported |= symbols(path, "--defined-only")
    missing = symbols(_ops.CUDA_LIBRARY, "--undefined-only") - exported
    if torch.version.cuda is None:
        missing -= CUDA_ONLY
    assert not missing


@needs_library
@needs_binutils
def test_exports_one_function():
    """Kernels and what PyTorch's headers define inline stay inside."""
    names = symbols(_ops.CUDA_LIBRARY, "--defined-only")
    assert {name for name in names if not name.startswith("_")} == {"gridsample_ext_cuda_problem"}


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a PyTorch without CUDA")
def test_not_loaded_without_cuda():
    assert "without CUDA" in _ops.cuda_library_error()
    assert "not loaded" in collect_env()["CUDA library"]


def test_a_library_that_cannot_be_loaded_is_reported(tmp_path):
    """The CPU goes on working, and the reason says how to build."""
    broken = tmp_path / "gridsample_ext_cuda.so"
    broken.write_bytes(b"not a library")
    script = f"""
import torch
torch.version.cuda = "13.0"
import pathlib
with_name = pathlib.Path.with_name
pathlib.Path.with_name = lambda self, name: (
    pathlib.Path({str(broken)!r}) if name == {broken.name!r} else with_name(self, name)
)
import gridsample_ext
from gridsample_ext import _ops
print(_ops.cuda_library_error())
assert gridsample_ext.grid_sample(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 1, 2),
                                  align_corners=False).item() == 1
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert "could not be loaded" in output
    assert "GRIDSAMPLE_EXT_CUDA=1" in output


@pytest.mark.skipif(
    torch.version.cuda is not None and not torch.cuda.is_available(),
    reason="a CUDA build of PyTorch has no device to ask about",
)
def test_compilers_take_the_answer_for_a_constant():
    """To load a library is nothing that torch.compile could trace."""
    _ops._ask_cuda_problem.cache_clear()
    _ops._load_cuda_library.cache_clear()

    def call(tensor):
        return tensor + (1 if _ops.cuda_problem(0) is None else 2)

    compiled = torch.compile(call, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.zeros(3)), call(torch.zeros(3)))


@pytest.fixture(scope="module")
def cuda_build():
    return runpy.run_path(str(Path(__file__).parents[1] / "csrc/cuda/build.py"))


@pytest.mark.parametrize(("choice", "wanted"), [("0", False), ("1", True)])
def test_build_is_forbidden_or_required(choice, wanted, cuda_build, monkeypatch):
    monkeypatch.setenv("GRIDSAMPLE_EXT_CUDA", choice)
    if wanted and cuda_build["find_nvcc"]() is None:
        with pytest.raises(SystemExit, match="nvcc was found neither"):
            cuda_build["wanted"]()
    else:
        assert cuda_build["wanted"]() == wanted


def test_build_takes_no_other_choice(cuda_build, monkeypatch):
    monkeypatch.setenv("GRIDSAMPLE_EXT_CUDA", "yes")
    with pytest.raises(SystemExit, match="GRIDSAMPLE_EXT_CUDA to be 0 or 1"):
        cuda_build["wanted"]()


def test_architectures(cuda_build, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    assert cuda_build["code_flags"](cuda_build["architectures"]("nvcc")) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]
