"""torch.export and AOTInductor: what was exported runs in another process, with equal results."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import samples
import torch
from torch.export import Dim

import gridsample_ext
from gridsample_ext import grid_sample

# PyTorch itself uses what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")

GRID_SAMPLE = torch.ops.gridsample_ext.grid_sample.default
CASES = {
    "images": samples.cases(dims=2, align_corners=False),
    "volumes": samples.cases(dims=3, padding_mode="reflection"),
}


class Warp(torch.nn.Module):
    """Moves an image by an offset that it has learned, and samples it in several ways."""

    def __init__(self, cases):
        super().__init__()
        self.cases = cases
        self.offset = torch.nn.Parameter(torch.full((cases[0].dims,), 0.125))

    def forward(self, input, grid):
        """The mean over the cases."""
        sides = input, grid + self.offset
        return sum(grid_sample(*sides, *case.options) for case in self.cases) / len(self.cases)


# None of the sizes, which a symbol could be confused with, is the last dimension of grid.
EXAMPLE = samples.Shape("example", N=4, C=3, size=(5, 6, 7), out=(8, 9, 10))
SHAPES = [EXAMPLE, samples.Shape("other", N=2, C=3, size=(9, 3, 4), out=(2, 3, 5))]


def draw(dims, shape=EXAMPLE):
    case = samples.Case(dims, "bilinear", "zeros", False)
    return samples.sample(case, shape, torch.float32)


def dynamic_shapes(dims):
    """The batch, the size of the image and that of the output."""
    N, *sizes = (Dim(f"{name}{dims}d") for name in ("N", *"DHWdhw"))
    return {
        "input": {0: N} | {2 + i: sizes[i] for i in range(dims)},
        "grid": {0: N} | {1 + i: sizes[3 + i] for i in range(dims)},
    }


def assert_same(actual, expected):
    assert actual.stride() == expected.stride()
    samples.assert_bitwise_equal(actual.detach(), expected.detach())


@pytest.mark.parametrize("strict", [False, True], ids=("non-strict", "strict"))
@pytest.mark.parametrize("dynamic", [False, True], ids=("static", "dynamic"))
@pytest.mark.parametrize("name", CASES)
def test_program_holds_the_op(name, dynamic, strict):
    """In the same process: results of all sizes, and gradients."""
    cases = CASES[name]
    model, dims = Warp(cases), cases[0].dims
    program = torch.export.export(
        model,
        draw(dims),
        dynamic_shapes=dynamic_shapes(dims) if dynamic else None,
        strict=strict,
    )
    targets = [node.target for node in program.graph.nodes]
    assert targets.count(GRID_SAMPLE) == len(cases)
    for exported in (program.module(), program.run_decompositions().module()):
        for shape in SHAPES if dynamic else SHAPES[:1]:
            input, grid = draw(dims, shape)
            outputs = [
                function(input.requires_grad_(), grid.requires_grad_())
                for function in (exported, model)
            ]
            assert_same(*outputs)
            gradients = [
                torch.autograd.grad(output.square().sum(), (input, grid)) for output in outputs
            ]
            for actual, expected in zip(*gradients, strict=True):
                assert_same(actual, expected)


@pytest.mark.parametrize("side", ["input", "grid"])
def test_dynamic_batch_beside_a_batch_of_one(side):
    class Model(torch.nn.Module):
        """Sample."""

        def forward(self, input, grid):
            """Sample."""
            return grid_sample(input, grid, align_corners=True)

    def draw_beside_one(batch):
        batches = {"N_input": batch, "N_grid": batch, f"N_{side}": 1}
        return draw(2, samples.Shape("broadcast", **batches))

    shapes = {"input": {}, "grid": {}}
    shapes[{"input": "grid", "grid": "input"}[side]] = {0: Dim("N")}
    exported = torch.export.export(Model(), draw_beside_one(4), dynamic_shapes=shapes).module()
    for batch in (4, 2, 9):
        tensors = draw_beside_one(batch)
        assert_same(exported(*tensors), Model()(*tensors))


RUN = """
import sys
import torch
{imports}
for path in sys.argv[1:]:
    model = {load}
    results = [model(*arguments) for arguments in torch.load(path + ".arguments")]
    torch.save(results, path + ".results")
"""
LOAD_PROGRAM = "torch.export.load(path).module()"
LOAD_PACKAGE = "torch._inductor.aoti_load_package(path)"


def run_in_a_fresh_process(load, arguments, imports="import gridsample_ext"):
    """What saved models, {path: [arguments]}, return for each of their arguments."""
    for path, calls in arguments.items():
        torch.save(calls, f"{path}.arguments")
    program = RUN.format(load=load, imports=imports)
    process = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(gridsample_ext.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {process.stderr}")
    return {path: torch.load(f"{path}.results") for path in arguments}


def test_saved_programs(tmp_path):
    models, arguments = {}, {}
    for name, dynamic in itertools.product(CASES, (False, True)):
        dims = CASES[name][0].dims
        path = str(tmp_path / f"{name}-{dynamic}.pt2")
        models[path] = Warp(CASES[name]).eval()
        arguments[path] = [draw(dims, shape) for shape in (SHAPES if dynamic else SHAPES[:1])]
        program = torch.export.export(
            models[path], draw(dims), dynamic_shapes=dynamic_shapes(dims) if dynamic else None
        )
        torch.export.save(program, path)
    for path, results in run_in_a_fresh_process(LOAD_PROGRAM, arguments).items():
        for actual, tensors in zip(results, arguments[path], strict=True):
            assert_same(actual, models[path](*tensors))


class ImagesAndVolumes(torch.nn.Module):
    """Both in one package, whose compilation takes most of the time of these tests."""

    def __init__(self):
        super().__init__()
        self.images, self.volumes = Warp(CASES["images"]), Warp(CASES["volumes"])

    def forward(self, images, volumes):
        """Results of both."""
        return self.images(*images), self.volumes(*volumes)


@pytest.mark.compiles
def test_compiled_package(tmp_path):
    """AOTInductor: compiled ahead of time, for all sizes."""
    path = str(tmp_path / "package.pt2")
    model = ImagesAndVolumes().eval().requires_grad_(False)
    shapes = {
        name: tuple(dynamic_shapes(dims).values()) for name, dims in (("images", 2), ("volumes", 3))
    }
    arguments = [(draw(2, shape), draw(3, shape)) for shape in SHAPES]
    program = torch.export.export(model, arguments[0], dynamic_shapes=shapes)
    torch._inductor.aoti_compile_and_package(program, package_path=path)
    results = run_in_a_fresh_process(LOAD_PACKAGE, {path: arguments})[path]
    for pair, tensors in zip(results, arguments, strict=True):
        for actual, expected in zip(pair, model(*tensors), strict=True):
            assert actual.stride() == expected.stride()
            # Inductor may round a sum over the cases otherwise.
            samples.assert_close(actual, expected.double())


def test_loading_takes_the_import(tmp_path):
    """As documented: a process that has not imported gridsample_ext knows no such op."""
    path = str(tmp_path / "program.pt2")
    torch.export.save(torch.export.export(Warp(CASES["images"][:1]).eval(), draw(2)), path)
    with pytest.raises(RuntimeError, match="gridsample_ext"):
        run_in_a_fresh_process(LOAD_PROGRAM, {path: []}, imports="")
