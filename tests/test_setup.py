"""setup.py before it compiles: which compilers it takes."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The macros that name a compiler and its version.
COMPILERS = {
    "GCC 10.2": {"__GNUC__": 10, "__GNUC_MINOR__": 2},
    "GCC 11.1": {"__GNUC__": 11, "__GNUC_MINOR__": 1},
    "Clang 13.0": {"__clang_major__": 13, "__clang_minor__": 0, "__GNUC__": 4},
    "Clang 14.0": {"__clang_major__": 14, "__clang_minor__": 0, "__GNUC__": 4},
    "Apple's Clang 13.1": {
        "__clang_major__": 13,
        "__clang_minor__": 1,
        "__GNUC__": 4,
        "__apple_build_version__": 13160021,
    },
    "neither": {"__TINYC__": 928},
}
TOO_OLD = ("GCC 10.2", "Clang 13.0", "Apple's Clang 13.1")


@pytest.fixture
def fake_compiler(tmp_path, monkeypatch):
    """Put a program c++ first on PATH that says it is one of COMPILERS, and compiles nothing."""

    def put(name):
        lines = [f"#define {macro} {value}" for macro, value in COMPILERS[name].items()]
        program = tmp_path / "c++"
        program.write_text("\n".join(["#!/bin/sh", "cat <<END", *lines, "END", ""]))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CXX", raising=False)

    return put


@pytest.fixture(scope="module")
def check_compiler():
    return runpy.run_path(str(ROOT / "csrc/cpu/build.py"))["check_compiler"]


def test_setup_stops_before_it_compiles(fake_compiler, tmp_path):
    fake_compiler("GCC 10.2")
    command = [sys.executable, "setup.py", "build", "--build-base", str(tmp_path / "build")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert "needs GCC >= 11 or Clang >= 14" in process.stderr
    assert "'c++' is GCC 10.2" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("name", TOO_OLD)
def test_a_compiler_that_is_too_old_is_named(name, fake_compiler, check_compiler):
    fake_compiler(name)
    with pytest.raises(SystemExit, match=f"GCC >= 11 or Clang >= 14.*'c\\+\\+' is {name};.*CXX"):
        check_compiler()


def test_other_compilers_are_named(fake_compiler, check_compiler):
    fake_compiler("neither")
    with pytest.raises(SystemExit, match=r"GCC >= 11 or Clang >= 14.*'c\+\+' is neither"):
        check_compiler()


@pytest.mark.parametrize("name", ["GCC 11.1", "Clang 14.0"])
def test_oldest_compilers(name, fake_compiler, check_compiler):
    fake_compiler(name)
    check_compiler()


def test_a_missing_compiler_is_named(check_compiler, monkeypatch):
    monkeypatch.setenv("CXX", "g++-of-nobody -m64")
    with pytest.raises(SystemExit, match=r"'g\+\+-of-nobody' is not on PATH"):
        check_compiler()
