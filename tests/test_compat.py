"""What is taken from PyTorch without its promise: all in one place, there, and dispensable."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gridsample_ext import _compat

PACKAGE = Path(_compat.__file__).parent


@pytest.mark.parametrize("name", _compat.PRIVATE_NAMES)
def test_pytorch_has_the_name(name):
    """If not, a new PyTorch has moved it: find it, or live by the fallback, and say so here."""
    _compat.look_up(name)


def test_other_modules_take_nothing_private():
    """Names of PyTorch with an underscore are named in _compat.py alone."""
    private = re.compile(
        r"\b(?:torch|forward_ad|F)(?:\.\w+)*\.(_(?!_|check\b|ops\b)\w+)"
        r"|from torch(?:\.\w+)*\.(_\w+)"
    )
    found = {
        (path.name, match.group(0))
        for path in PACKAGE.glob("*.py")
        if path.name != "_compat.py"
        for match in private.finditer(path.read_text())
    }
    allowed = {
        "from torch._ops",  # OpOverload, to annotate
    }
    assert {pair for pair in found if pair[1] not in allowed} == set()
    assert not {path.name for path in PACKAGE.glob("*.py") if "helper._" in path.read_text()}


# In a forked process for each name: importing PyTorch takes longer than all the rest.
WITHOUT = """
import json, os, sys, types, torch
import torch.nn.functional as F
from pathlib import Path

path, *names = sys.argv[1:]
torch.testing.assert_close(torch.ones(1), torch.ones(1))  # which imports much on its first call

def check_without(name):
    # The module, with a PyTorch that lacks the name. (PyTorch itself cannot do without.)
    text = Path(path).read_text()
    head = "def look_up(name: str) -> Any:\\n"
    assert text.count(head) == 1
    text = text.replace(head, head + f"    if name == {name!r}: raise AttributeError(name)\\n")
    compat = types.ModuleType("gridsample_ext._compat")
    compat.__file__ = path
    sys.modules["gridsample_ext._compat"] = compat
    exec(compile(text, path, "exec"), compat.__dict__)
    import gridsample_ext
    assert gridsample_ext._fakes.guard_or_false is compat.guard_or_false

    image, grid = torch.rand(1, 2, 8, 8), torch.rand(1, 5, 5, 2) * 2 - 1
    leaves = [image.requires_grad_(), grid.requires_grad_()]

    def results(function):
        output = function(*leaves, align_corners=False)
        return output, *torch.autograd.grad(output.sin().sum(), leaves)

    expected = results(F.grid_sample)

    def check(function):
        for ours, theirs in zip(results(function), expected):
            torch.testing.assert_close(ours, theirs)

    check(gridsample_ext.grid_sample)
    with torch.no_grad():
        torch.testing.assert_close(
            gridsample_ext.grid_sample(*leaves, align_corners=False), expected[0])
    for native in (False, True):
        with gridsample_ext.patch(native=native):
            check(F.grid_sample)
    for again, before in zip(results(F.grid_sample), expected):
        assert torch.equal(again, before)

statuses = {}
for name in names:
    child = os.fork()
    if child == 0:
        print(name, file=sys.stderr, flush=True)
        check_without(name)
        os._exit(0)
    statuses[name] = os.waitpid(child, 0)[1]
print(json.dumps(statuses))
"""


@pytest.fixture(scope="module")
def without():
    """(exit status by name, standard error) of the programs that do without a name."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, _compat.__file__, *_compat.PRIVATE_NAMES],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("name", _compat.PRIVATE_NAMES)
def test_calls_survive_without_the_name(name, without):
    """A call, its gradients, and a patch."""
    statuses, errors = without
    assert statuses[name] == 0, errors


def test_import_takes_no_symbolic_algebra():
    """Which costs most of a second: it is imported where sizes are symbols."""
    code = "import sys, torch, gridsample_ext; sys.exit('sympy' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )


def test_versions_are_told():
    assert all(re.fullmatch(r"2\.\d+-2\.\d+", tried) for tried in _compat.PRIVATE_NAMES.values())
