"""Runs functions of a test's file as programs of their own.

So a hang or a crash is one failed test. The file ends with :func:`main`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
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


EACH = "--each"


def errors_of(file, calls, timeout=900, **environment):
    """Run functions of a file as one program, and return the error of each call, "" if none.

    calls: (function, *arguments), all of them text. For functions that take less time than it takes
    to import PyTorch.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "errors.json"
        run(file, EACH, json.dumps(calls), str(path), timeout=timeout, **environment)
        return dict(zip(calls, json.loads(path.read_text()), strict=True))


def error_of(function, arguments):
    try:
        function(*arguments)
    except Exception:
        return traceback.format_exc()
    return ""


def main(functions):
    """Call the functions that the command names: ``main(globals())``."""
    program, *arguments = sys.argv[1:]
    if program != EACH:
        functions[program](*arguments)
        return
    calls = json.loads(arguments[0])
    errors = [error_of(functions[name], values) for name, *values in calls]
    Path(arguments[1]).write_text(json.dumps(errors))
