"""Differentiation of the registered ops."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gridsample_ext import _ops


class GridSample(torch.autograd.Function):
    """``grid_sample`` with gradients; computes those that are asked for and no others."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        grid: Tensor,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
    ) -> Tensor:
        """Sample ``input`` at ``grid``; see :func:`gridsample_ext.grid_sample`."""
        ctx.save_for_backward(input, grid)
        ctx.options = (interpolation_mode, padding_mode, align_corners)
        return _ops.grid_sample(input, grid, interpolation_mode, padding_mode, align_corners)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input and grid, and of nothing else."""
        input, grid = ctx.saved_tensors
        grad_input, grad_grid = _ops.grid_sample_backward(
            grad_output, input, grid, *ctx.options, ctx.needs_input_grad[:2]
        )
        return grad_input, grad_grid, None, None, None
