"""How tests are chosen: samples.pairwise, and what the tiers make of it."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import samples


def pairs(row):
    return set(itertools.combinations(sorted(row.items()), 2))


def every_pair(rows):
    return set().union(*map(pairs, rows))


@pytest.mark.parametrize(
    "allowed",
    [lambda row: True, lambda row: row["a"] != row["c"]],
    ids=("product", "part_of_a_product"),
)
def test_pairwise_holds_every_pair(allowed):
    values = {"a": range(2), "b": "xyz", "c": range(3), "d": (None, True)}
    rows = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
    rows = list(filter(allowed, rows))
    chosen = samples.pairwise(rows)
    assert every_pair(rows[i] for i in chosen) == every_pair(rows)
    assert len(chosen) <= len(rows) / 2
    assert chosen == sorted(chosen) == samples.pairwise(rows)


def test_pairwise_of_one_factor_is_each_value_once():
    assert samples.pairwise([{"a": value} for value in "xyxzz"]) == [0, 1, 3]
    assert samples.pairwise([]) == []


def test_cases_are_combined_by_their_options():
    rows = [samples.factors({"case": case, "shape": samples.SMALL}) for case in samples.CASES]
    assert {frozenset(row) for row in rows} == {
        frozenset(("dims", "mode", "padding_mode", "align_corners", "shape"))
    }
    assert len(samples.pairwise(rows)) < len(samples.CASES) / 3


def collected(*arguments):
    """Names of the tests that pytest would run."""
    command = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return [line.rpartition("/")[2] for line in ran.stdout.splitlines() if "::" in line]


def functions(names):
    return {name.partition("[")[0] for name in names}


def test_tiers():
    """Of most tests the pairwise tier leaves out combinations, and of none all."""
    files = "--device", "cpu", "test_forward.py", "test_cuda_kernels.py"
    pairwise, everything = collected(*files), collected(*files, "--tier", "all")
    assert set(pairwise) < set(everything)
    assert functions(pairwise) == functions(everything)
    for test, shares in (("matches_torch", 1), ("matches_reference", 3), ("empty", 2)):
        chosen, combinations = (
            sum(name.startswith(f"test_forward.py::test_{test}[") for name in names)
            for names in (pairwise, everything)
        )
        assert 0 < chosen <= combinations / shares
        assert shares > 1 or chosen == combinations
    # Tests for devices that this run does not have are in neither.
    without_device = "test_cuda_kernels.py::test_fallback_says_why_and_how_to_build"
    assert [name for name in everything if "cuda_kernels" in name] == [without_device]
    # Combinations that are named are all taken.
    named = [name for name in everything if "::test_empty[" in name]
    assert collected("--device", "cpu", *named) == named
