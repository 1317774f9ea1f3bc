"""Differentiation of the registered ops.

The ops themselves are differentiable (``register_autograd``): that is what ``torch.compile`` and
direct calls of ``torch.ops.gridsample_ext.*`` see. :class:`GridSample` is the same formula as a
bare ``autograd.Function``, which costs an eager call a third of that.
"""

from typing import Any

import torch
from torch import Tensor

from gridsample_ext import _ops
from gridsample_ext.saving import without_data

_NEAREST = 1  # of interpolation_mode
_Gradients = tuple[Tensor | None, Tensor | None, None, None, None]


def _backward(ctx: Any, grad_output: Tensor) -> _Gradients:
    """Gradients of input and grid: those that are needed, and no others."""
    grid, input = ctx.saved_tensors
    grad_input, grad_grid = _ops.grid_sample_backward(
        grad_output,
        input,
        grid,
        *ctx.options,
        ctx.needs_input_grad[:2],
        torch.are_deterministic_algorithms_enabled(),
    )
    return grad_input, grad_grid, None, None, None


class GridSample(torch.autograd.Function):
    """``grid_sample`` with gradients."""

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
        # The gradient of input does not depend on its values; that of grid is 0 in nearest mode.
        needs_values = ctx.needs_input_grad[1] and interpolation_mode != _NEAREST
        # In the order of F.grid_sample: a checkpoint may run it again in place of this, or this in
        # place of it, if gridsample_ext.patch() has begun or ended meanwhile.
        ctx.save_for_backward(grid, input if needs_values else without_data(input))
        ctx.options = (interpolation_mode, padding_mode, align_corners)
        return without_autograd(input, grid, interpolation_mode, padding_mode, align_corners)

    backward = staticmethod(_backward)


def without_autograd(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """The op alone: nothing is recorded, and no time is spent on finding that out."""
    with torch._C._AutoDispatchBelowAutograd():
        return _ops.grid_sample(  # type: ignore[no-any-return]
            input, grid, interpolation_mode, padding_mode, align_corners
        )


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int, bool], output: Tensor) -> None:
    input, grid, *options = inputs
    ctx.save_for_backward(grid, input)  # in the order of PyTorch; see GridSample.forward
    ctx.options = options


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "gridsample_ext: grid_sample cannot be differentiated twice; for a second derivative use "
        "torch.nn.functional.grid_sample"
    )


torch.library.register_autograd(
    "gridsample_ext::grid_sample", _backward, setup_context=_setup_context
)
torch.library.register_autograd("gridsample_ext::grid_sample_backward", _no_second_derivative)
