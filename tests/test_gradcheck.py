"""Gradients against finite differences, in float64.

The grids keep a band around pixel centres and edges, where bilinear slopes jump, that is far wider
than the step of the differences.
"""

import pytest
import samples
import torch

from gridsample_ext import grid_sample

BROADCAST = {
    "input": samples.Shape("input", C=1, size=(2, 3, 2), out=(1, 2, 2), N_input=1, N_grid=2),
    "grid": samples.Shape("grid", C=1, size=(2, 3, 2), out=(1, 2, 2), N_input=2, N_grid=1),
}


def gradcheck(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    inputs = input.requires_grad_(), grid.requires_grad_()
    # grad_input on a GPU is added up in an order that changes.
    tolerance = 1e-12 if device == "cuda" else 0.0
    assert torch.autograd.gradcheck(
        lambda input, grid: grid_sample(input, grid, *case.options), inputs, nondet_tol=tolerance
    )


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_gradcheck(case, device):
    gradcheck(case, samples.TINY, device)


@pytest.mark.parametrize("side", BROADCAST)
@pytest.mark.parametrize(
    "case", samples.cases(padding_mode="reflection", align_corners=False), ids=str
)
def test_gradcheck_of_a_broadcast_batch(case, side, device):
    gradcheck(case, BROADCAST[side], device)
