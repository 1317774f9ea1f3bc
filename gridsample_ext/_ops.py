"""Loads the registered ops and gives them fake kernels (shapes, strides and dtypes without data)."""

import torch
from torch import Tensor

from gridsample_ext import _C as _C  # registers torch.ops.gridsample_ext.*


def _memory_format(input: Tensor) -> torch.memory_format:
    """The layout of results for ``input``; ``prefers_channels_last`` in csrc/tensors.h."""
    if input.is_contiguous():
        return torch.contiguous_format
    least = 0
    for dim in (1, *range(input.dim() - 1, 1, -1), 0):
        size, stride = input.size(dim), input.stride(dim)
        if size == 0 or stride == 0 or stride < least:
            return torch.contiguous_format
        least = stride * size if size > 1 else stride
    return torch.channels_last if input.dim() == 4 else torch.channels_last_3d


def _check_fake(input: Tensor, grid: Tensor) -> None:
    """What the real ops check (csrc/checks.h) and the arithmetic on shapes below relies on."""
    torch._check(
        input.dim() in (4, 5) and grid.dim() == input.dim(),
        lambda: (
            "gridsample_ext: expected input and grid to be both 4-D or both 5-D, but got input "
            f"with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
        ),
    )
    torch._check(
        input.device == grid.device,
        lambda: (
            "gridsample_ext: expected grid and input to be on the same device, but got input "
            f"with sizes {list(input.shape)} on {input.device} and grid with sizes "
            f"{list(grid.shape)} on {grid.device}"
        ),
    )


@torch.library.register_fake("gridsample_ext::grid_sample")
def _grid_sample_fake(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    _check_fake(input, grid)
    batch = grid.size(0) if input.size(0) == 1 else input.size(0)
    return torch.empty(
        (batch, input.size(1), *grid.shape[1:-1]),
        dtype=input.dtype,
        device=input.device,
        memory_format=_memory_format(input),
    )


@torch.library.register_fake("gridsample_ext::grid_sample_backward")
def _grid_sample_backward_fake(
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    output_mask: list[bool],
) -> tuple[Tensor | None, Tensor | None]:
    _check_fake(input, grid)
    grad_input = grad_grid = None
    if output_mask[0]:
        grad_input = torch.empty(
            input.shape, dtype=input.dtype, device=input.device, memory_format=_memory_format(input)
        )
    if output_mask[1]:
        grad_grid = torch.empty(grid.shape, dtype=grid.dtype, device=grid.device)
    return grad_input, grad_grid


grid_sample = torch.ops.gridsample_ext.grid_sample.default
grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward.default
