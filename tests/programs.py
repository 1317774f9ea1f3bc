"""Runs a function of a test's file as a program of its own.

So a hang or a crash is one failed test. The file ends with :func:`main`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gridsample_ext

ROOT = Path(gridsample_ext.__file__).parents[1]


def run(file, program, *arguments, timeout=240, **environment):
    """Run a function of a file; with all that it started, it ends after `timeout` seconds."""
    process = subprocess.Popen(
        [sys.executable, file, program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail(f"{program} {' '.join(arguments)} hangs")
    assert process.returncode == 0, f"exit code {process.returncode}\n{errors}"
    return output + errors


def main(functions):
    """Call the function that the command names: ``main(globals())``."""
    functions[sys.argv[1]](*sys.argv[2:])
