"""Holds gridsample_ext to the reference: values and both gradients of one call."""

import reference
import samples
import torch

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward


def assert_matches_reference(case, input, grid):
    expected = reference.grid_sample(input, grid, *case.options)
    samples.assert_close(grid_sample(input, grid, *case.options), expected, dtype=input.dtype)

    grad_output = samples.grad_like(input, grid)
    actual = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
    expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
    samples.assert_gradients_close(actual, expected, input, grid)
