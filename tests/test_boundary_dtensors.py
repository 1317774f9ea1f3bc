"""Distributed tensors under the options: values that samples have without pixels are added once."""

import itertools

import boundaries
import pytest
import samples
import torch
from test_distributed import (
    RANKS,
    assert_same_placed,
    distribute,
    mesh_of,
    parse,
    processes,  # noqa: F401  a fixture
    pytestmark,  # noqa: F401
)

from gridsample_ext import grid_sample
from gridsample_ext.distributed import register_sharding_rules

ops = torch.ops.gridsample_ext
SHAPES = {
    "even": samples.Shape("even", N=4, C=4, size=(3, 4, 5), out=(2, 4, 6)),
    "one_image": samples.Shape("one_image", C=4, out=(2, 4, 6), N_input=1, N_grid=4),
}
CASES = [
    boundaries.Case(2, "bilinear", ("circular", "border"), False, "pixel"),
    boundaries.Case(2, "bilinear", "zeros", True, fill_value=2.5),
    boundaries.Case(2, "bicubic", "border", False, outside_value=-1.5, cubic_coefficient=-0.5),
    boundaries.Case(3, "bilinear", ("zeros", "circular", "border"), False, "pixel", 2.5, -1.5),
]


def check_every_placement(case, shape):
    """Partial inputs, too: parts of which each would get the fill of the whole."""
    input, grid = samples.sample(case, shape)
    weight = samples.grad_like(input, grid)
    placements = itertools.product(["R", "P", *map(str, range(case.dims + 2))], repeat=2)
    assert_same_placed(boundaries.sampler(case, grid_sample), (input, grid), weight, placements)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_placement(processes, case, shape):  # noqa: F811
    processes.run(check_every_placement, case, SHAPES[shape])


def check_partial_is_kept(case):
    """What adds no values is as linear as it was."""
    mesh = mesh_of(RANKS)
    input, grid = samples.sample(case, SHAPES["even"])
    output = boundaries.sampler(case, grid_sample)(
        distribute(input, parse("P"), mesh), distribute(grid, parse("R"), mesh)
    )
    adds_values = case.fill_value is not None or case.outside_value is not None
    assert output.placements[0].is_partial() != adds_values


@pytest.mark.parametrize("case", CASES, ids=str)
def test_partial_inputs(processes, case):  # noqa: F811
    processes.run(check_partial_is_kept, case)


def check_ops_in_parts(case):
    """Directional derivatives and gradients: each linear argument as a sum of parts."""
    register_sharding_rules()
    mesh = mesh_of(RANKS)
    input, grid = samples.sample(case, SHAPES["even"])
    grad_output, along = samples.grad_like(input, grid), (input.cos(), grid.cos())
    ends = *case.op_options, [True, True], False, *case.later
    calls = [
        (ops.grid_sample_jvp, (input, grid, *along), (*case.op_options, *case.later), "P R P R"),
        (ops.grid_sample_jvp, (input, grid, *along), (*case.op_options, *case.later), "R R P P"),
        (ops.grid_sample_backward, (grad_output, input, grid), ends, "P R R"),
        (ops.grid_sample_backward, (grad_output, input, grid), ends, "R P R"),
        (ops.grid_sample_double_backward, (*along, grad_output, input, grid), ends, "P P R R R"),
        (ops.grid_sample_double_backward, (*along, grad_output, input, grid), ends, "R R P R R"),
        (ops.grid_sample_double_backward, (*along, grad_output, input, grid), ends, "R R R P R"),
    ]
    for op, tensors, rest, names in calls:
        placed = [
            distribute(tensor, parse(name), mesh)
            for tensor, name in zip(tensors, names.split(), strict=True)
        ]
        actual, expected = op(*placed, *rest), op(*tensors, *rest)
        if isinstance(expected, torch.Tensor):
            actual, expected = [actual], [expected]
        for result, values in zip(actual, expected, strict=True):
            samples.assert_close(result.full_tensor(), values, terms=16)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ops_in_parts(processes, case):  # noqa: F811
    processes.run(check_ops_in_parts, case)
