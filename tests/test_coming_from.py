"""docs/coming_from.md: what other libraries compute, and the calls here that give the same numbers.

The page is what runs. Each section's code runs in a namespace of its own, behind the code that all
sections start from, where the packages that it imports are installed. Wherever a statement ends
with "# within ... of before", ``after`` is compared with ``before``. The rows of the tables are
filled in where their heads have "...".
"""

import ast
import math
import re
import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "coming_from.md"
OLDEST = {"cv2": "5.0"}  # OpenCV 4 rounds positions


class Table(NamedTuple):
    """A table of calls: their heads, the bound of their differences, and the rows' cells."""

    heads: list[str]
    within: float
    rows: list[list[str]]


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def code_of(cell):
    """Take the code in a cell of a table, which is all that it holds."""
    assert re.fullmatch("`[^`]+`", cell), cell
    return cell.strip("`")


def parts_of(section):
    """Split a section into its blocks of code and its tables, in the order of the page."""
    for match in re.finditer(r"^```python\n(.*?)^```$|((?:^\|[^\n]*\n)+)", section, re.M | re.S):
        block, table = match.groups()
        if block is not None:
            yield block
            continue
        head, line, *rows = map(cells, table.splitlines())
        assert all(re.fullmatch("-+", cell) for cell in line)
        assert len(head) == 2, head
        right, within = re.fullmatch(r"(.*), within (\S+)", head[1]).groups()
        # Heads in words belong to rows that hold whole calls.
        heads = [code_of(each) if "..." in each else "..." for each in (head[0], right)]
        yield Table(heads, float(within), [list(map(code_of, row)) for row in rows])


def read_page():
    start, *sections = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    (prelude,) = re.findall(r"^```python\n(.*?)^```$", start, re.M | re.S)
    split = (section.partition("\n") for section in sections)
    return prelude, {title: list(parts_of(text)) for title, _, text in split}


PRELUDE, SECTIONS = read_page()


def imported(block):
    """Name the packages that a block imports."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def softsplat(values, flow, metric, strMode):
    """Splat as softmax-splatting does, which needs a GPU, by a loop over pixels."""
    weight = {"sum": 1.0, "soft": None if metric is None else metric.exp()}[strMode]
    weighted = torch.cat([values, torch.ones_like(values[:, :1])], 1) * weight
    total = torch.zeros_like(weighted)
    height, width = values.shape[2:]
    for n, y, x in np.ndindex(values.shape[0], height, width):
        to_x, to_y = (float(at + flow[n, i, y, x]) for i, at in enumerate((x, y)))
        for j in (math.floor(to_y), math.floor(to_y) + 1):
            for i in (math.floor(to_x), math.floor(to_x) + 1):
                if 0 <= i < width and 0 <= j < height:
                    share = (1 - abs(to_x - i)) * (1 - abs(to_y - j))
                    total[n, :, j, i] += share * weighted[n, :, y, x]
    return total[:, :-1] if strMode == "sum" else total[:, :-1] / (total[:, -1:] + 1e-7)


@pytest.fixture
def softsplat_module(monkeypatch):
    module = types.ModuleType("softsplat")
    module.softsplat = softsplat
    monkeypatch.setitem(sys.modules, "softsplat", module)


@pytest.fixture
def grid_pull_of_monai(monkeypatch):
    """A function that puts torch-interpol's in its place where MONAI lacks its C++ extension."""

    def put():
        layers = pytest.importorskip("monai.networks.layers")
        if find_spec("monai._C"):
            return
        interpol = pytest.importorskip("interpol")

        def grid_pull(image, grid, interpolation, bound):
            return interpol.grid_pull(image, grid, interpolation, bound, extrapolate=True)

        monkeypatch.setattr(layers, "grid_pull", grid_pull)

    return put


def difference(one, other):
    """The largest difference of two results, axes of size 1 aside; infinity of two sizes."""
    one, other = (
        (each if isinstance(each, torch.Tensor) else torch.from_numpy(np.array(each))).squeeze()
        for each in (one, other)
    )
    if one.shape != other.shape:
        return math.inf
    return float((one.double() - other.double()).abs().max())


def run_block(block, namespace):
    """Run a block statement by statement; return how many comparisons it held."""
    compared = 0
    for statement in ast.parse(block).body:
        source = block.splitlines()[statement.lineno - 1 : statement.end_lineno]
        exec(compile(ast.Module([statement], []), str(PAGE), "exec"), namespace)
        bound = re.search(r"# within (\S+) of before$", source[-1])
        if bound is not None:
            compared += 1
            before, after = namespace.pop("before"), namespace.pop("after")
            assert difference(before, after) <= float(bound[1]), "\n".join(source)
    assert compared == len(re.findall("# within .* of before", block))
    assert "before" not in namespace, block
    return compared


def run_table(table, namespace):
    """Compare both sides of each row, and see that rows can be told apart by the bound."""
    results = {}
    for row in table.rows:
        calls = [head.replace("...", cell) for head, cell in zip(table.heads, row, strict=True)]
        before, after = (eval(call, namespace) for call in calls)
        assert difference(before, after) <= table.within, calls
        results[calls[1]] = after
    for call, result in results.items():
        for other, another in results.items():
            assert call == other or difference(result, another) > table.within, (call, other)
    return len(table.rows)


@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp")  # that it calls F.grid_sample
@pytest.mark.parametrize("title", SECTIONS)
def test_before_and_after_agree(title, softsplat_module, grid_pull_of_monai):
    blocks = [part for part in SECTIONS[title] if isinstance(part, str)]
    for package in sorted({name for block in blocks for name in imported(block)}):
        pytest.importorskip(package, OLDEST.get(package))
    if title == "MONAI: grid_pull":
        grid_pull_of_monai()
    namespace = {}
    run_block(PRELUDE, namespace)
    compared = sum(
        (run_block if isinstance(part, str) else run_table)(part, namespace)
        for part in SECTIONS[title]
    )
    assert compared
