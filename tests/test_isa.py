"""Each instruction set this CPU has, in a process of its own, gives the same results.

So do loads and gathers. Any other choice is a clear error.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import samples
import torch

from gridsample_ext import _C

VARIABLE, GATHERS = "GRIDSAMPLE_EXT_ISA", "GRIDSAMPLE_EXT_GATHERS"
LEVELS = ("baseline", "neon", "avx2", "avx512")
SUPPORTED = _C.build_info()["isa_supported"]
DTYPES = (torch.float16, torch.float32, torch.float64)
SHAPES = [samples.Shape("isa", N=2, C=C, size=(4, 7, 9), out=(3, 5, 17)) for C in (3, 19)]
# What a process of its own is started with, by name.
RUNS = {
    **{level: {VARIABLE: level} for level in (*LEVELS, "sse9")},
    **{
        f"{level} {how}": {VARIABLE: level, GATHERS: value}
        for level in ("avx2", "avx512")
        for how, value in (("loads", "0"), ("gathers", "1"))
    },
    "bad gathers": {GATHERS: "yes"},
}


def compute_results():
    """Compute every result, by name, in one of the processes: they run this file as a program."""
    from gridsample_ext import grid_sample

    results = {}
    for case, dtype, shape in itertools.product(samples.CASES, DTYPES, SHAPES):
        input, grid = samples.sample(case, shape, dtype)
        for layout in ("contiguous", "channels_last"):
            image = samples.INPUT_LAYOUTS[layout](input).requires_grad_()
            output = grid_sample(image, grid.requires_grad_(), *case.options)
            gradients = torch.autograd.grad(output, (image, grid), samples.grad_like(input, grid))
            results[f"{case}-{dtype}-{shape.C}-{layout}"] = [output.detach(), *gradients]
    return results


def start(variables, path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    folder = Path(__file__).parent
    command = [sys.executable, __file__, str(path)]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Map name -> (exit code, standard error, path of the results). Two processes at a time."""
    folder = tmp_path_factory.mktemp("isa")
    finished = {}
    names = list(RUNS)
    for first in range(0, len(names), 2):
        processes = {name: start(RUNS[name], folder / name) for name in names[first : first + 2]}
        for name, process in processes.items():
            _, error = process.communicate(timeout=300)
            finished[name] = process.returncode, error, folder / name
    return finished


def load(path):
    return torch.load(path, weights_only=True)


def test_build_info():
    info = _C.build_info()
    assert isinstance(info, dict)
    assert info["isa_supported"][0] in ("baseline", "neon")
    assert set(info["isa_supported"]) <= set(LEVELS)
    assert info["isa"] in info["isa_supported"]
    assert info["isa_forced"] == os.environ.get(VARIABLE)
    if info["isa_forced"] is None:
        assert info["isa"] == max(info["isa_supported"], key=LEVELS.index)


def test_build_info_says_what_is_in_force(monkeypatch):
    """Not what the environment has come to say since the kernels were chosen."""
    before = _C.build_info()
    for value in ("sse9", SUPPORTED[0], ""):
        monkeypatch.setenv(VARIABLE, value)
        assert _C.build_info() == before


@pytest.mark.parametrize("level", LEVELS)
def test_forced_level_is_used_or_refused(level, runs):
    code, error, path = runs[level]
    if level in SUPPORTED:
        assert code == 0, error
        info = load(path)["build_info"]
        assert (info["isa"], info["isa_forced"]) == (level, level)
    else:
        assert code == 1
        assert VARIABLE in error
        assert level in error


def test_unknown_level_is_an_error(runs):
    code, error, _ = runs["sse9"]
    assert code == 1
    assert "ImportError" in error or "RuntimeError" in error
    assert all(word in error for word in (VARIABLE, "sse9", *SUPPORTED))


def test_levels_agree(runs):
    paths = [runs[level][2] for level in SUPPORTED]
    expected = load(paths[0])["results"]
    for path in paths[1:]:
        for key, tensors in load(path)["results"].items():
            for actual, values in zip(tensors, expected[key], strict=True):
                samples.assert_close(actual, values.double(), dtype=values.dtype)


@pytest.mark.parametrize("level", SUPPORTED[1:])
def test_gathers_change_nothing(level, runs):
    loads, gathers = (runs[f"{level} {how}"] for how in ("loads", "gathers"))
    assert loads[0] == gathers[0] == 0, (loads[1], gathers[1])
    loads, gathers = load(loads[2]), load(gathers[2])
    assert not loads["build_info"]["fast_gathers"]
    assert gathers["build_info"]["fast_gathers"]
    for key, tensors in gathers["results"].items():
        for actual, values in zip(tensors, loads["results"][key], strict=True):
            samples.assert_bitwise_equal(actual, values)


def test_other_values_for_gathers_are_an_error(runs):
    code, error, _ = runs["bad gathers"]
    assert code == 1
    assert all(word in error for word in (GATHERS, "yes", "0 or 1"))


if __name__ == "__main__":
    torch.save({"build_info": _C.build_info(), "results": compute_results()}, sys.argv[1])
