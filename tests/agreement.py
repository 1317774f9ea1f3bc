"""Holds values and both gradients of a call to the reference, or to another call."""

import reference
import samples
import torch

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward


def backward(case, grad_output, input, grid, mask=(True, True)):
    return grid_sample_backward(
        grad_output, input, grid, *case.op_options, mask, False, *case.later
    )


def assert_matches_reference(case, input, grid):
    expected = reference.grid_sample(input, grid, *case.options, **case.keywords)
    actual = grid_sample(input, grid, *case.options, **case.keywords)
    samples.assert_close(actual, expected, dtype=input.dtype)

    grad_output = samples.grad_like(input, grid)
    actual = backward(case, grad_output, input, grid)
    expected = reference.grid_sample_backward(
        grad_output, input, grid, *case.options, **case.keywords
    )
    samples.assert_gradients_close(actual, expected, input, grid)


def assert_same_results(case, arguments, plain):
    """Compare all results of (grad_output, input, grid) in two layouts of the same values."""
    assert all(map(torch.equal, arguments, plain))
    samples.assert_close(
        grid_sample(*arguments[1:], *case.options),
        grid_sample(*plain[1:], *case.options).double(),
        plain[1].dtype,
    )
    results = grid_sample_backward(*arguments, *case.op_options, [True, True])
    expected = grid_sample_backward(*plain, *case.op_options, [True, True])
    for gradient, values, tensor in zip(results, expected, plain[1:], strict=True):
        samples.assert_close(gradient, values.double(), dtype=tensor.dtype)
