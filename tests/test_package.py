"""The installed package: version, build facts, and the report that a bug report carries."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch

import gridsample_ext
from gridsample_ext import _C
from gridsample_ext.collect_env import slow_settings

LOWEST = _C.build_info()["isa_supported"][0]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Run outside the repository, so that the installed package answers."""
    environment = {**os.environ, "GRIDSAMPLE_EXT_ISA": LOWEST}
    command = [sys.executable, "-m", "gridsample_ext.collect_env"]
    folder = tmp_path_factory.mktemp("elsewhere")
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_version():
    assert gridsample_ext.__version__ == importlib.metadata.version("gridsample_ext")


def test_report_has_the_versions(report):
    for version in (gridsample_ext.__version__, torch.__version__, sys.version.split()[0]):
        assert version in report


def test_report_says_what_is_slow(report):
    is_lowest = _C.build_info()["isa_supported"][-1] == LOWEST
    assert ("Slow: GRIDSAMPLE_EXT_ISA forces the kernels for" in report) != is_lowest


@pytest.mark.skipif(os.cpu_count() == 1, reason="there is but one core")
@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_slow(threads):
    torch.set_num_threads(threads)
    assert any("one thread" in sentence for sentence in slow_settings()) == (threads == 1)


@pytest.mark.parametrize("word", ["compiler", "instruction set", "threads", "CUDA"])
def test_report_names(word, report):
    assert word.lower() in report.lower()


def test_report_tells_the_instruction_set_in_use_and_forced(report):
    lines = [line.lower() for line in report.splitlines() if "instruction set" in line.lower()]
    assert any(LOWEST in line for line in lines)
    assert any("forced" in line for line in lines)


def test_report_tells_the_compiler(report):
    assert _C.build_info()["compiler"] in report


def test_report_tells_the_threads(report):
    line = next(line for line in report.splitlines() if "threads" in line.lower())
    assert any(character.isdigit() for character in line)


def test_typed():
    folder = os.path.dirname(gridsample_ext.__file__)
    assert os.path.exists(os.path.join(folder, "py.typed"))
