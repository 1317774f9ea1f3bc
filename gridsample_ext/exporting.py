"""Exported programs in PyTorch's own ops, for runtimes that do not know ours.

``torch.export`` keeps the op of gridsample_ext as it is. Runtimes that do not know it (ExecuTorch,
OpenVINO's front end for PyTorch) take the program after its decomposition into PyTorch's own ops.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from gridsample_ext import _compat, _composed, _fakes, _ops, _sources
from gridsample_ext._ops import Options, put_together, take_apart


def decompositions() -> dict[OpOverload[..., Any], Callable[..., Any]]:
    """The ops of gridsample_ext in terms of PyTorch's, for ``ExportedProgram.run_decompositions``.

    ``grid_sample`` and ``grid_sample_backward`` become ``aten.grid_sampler_2d`` or ``_3d`` and the
    backward ops of these. What makes them mean the same (docs/semantics.md) stands around them:
    casts to the compute type and back, -1 in place of NaN coordinates, and a batch of one expanded.
    Infinite coordinates, and others that overflow in the compute type, are treated as PyTorch does.

    Tricubic sampling where PyTorch has no kernel of its own, and options that PyTorch does not
    know, become elementary tensor operations; their ``grid_sample_backward`` stays as it is.
    ``spline_filter`` becomes products with matrices, one for each axis.

    Returns:
        A decomposition table, a new dictionary that may be added to others.

    Example:
        >>> import torch, gridsample_ext
        >>> class Sampler(torch.nn.Module):
        ...     def forward(self, image, grid):
        ...         return gridsample_ext.grid_sample(image, grid, align_corners=False)
        >>> arguments = torch.rand(1, 3, 8, 8), torch.rand(1, 5, 5, 2)
        >>> program = torch.export.export(Sampler(), arguments)
        >>> program = program.run_decompositions(gridsample_ext.decompositions())
        >>> [node.name for node in program.graph.nodes if "sampler" in node.name]
        ['grid_sampler_2d']

    """
    _compat.torch_has_tricubic()  # to be asked before tracing
    return {
        _ops.grid_sample: _decomposed_grid_sample,
        _ops.grid_sample_backward: _decomposed_backward,
        _ops.warp: _decomposed_warp,
        _ops.warp_backward: _decomposed_warp_backward,
        _ops.spline_filter: _decomposed_spline_filter,
    }


def _fitted(input: Tensor, grid: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Of one type and batch size, and finite, as PyTorch's ops have to have them."""
    batch = _fakes.output_shape(input, grid, options)[0]
    dtype = _composed.compute_type(input.dtype, grid.dtype)
    input, grid = _fakes.with_one_batch_size(input, grid, batch)
    limits = torch.finfo(dtype)
    return input.to(dtype), grid.to(dtype).nan_to_num(-1.0, limits.max, limits.min)


def _is_for_pytorch(input: Tensor, options: Options) -> bool:
    if input.dtype not in _ops.DTYPES:
        return False
    is_tricubic = input.dim() == 5 and options.interpolation_mode == _ops.BICUBIC
    return options.are_known_to_pytorch and not (is_tricubic and not _compat.torch_has_tricubic())


def _decomposed_grid_sample(input: Tensor, grid: Tensor, *rest: Any) -> Tensor:
    options = Options(*rest)
    dtype, layout = input.dtype, _fakes.memory_format(input)
    if _is_for_pytorch(input, options):
        aten = torch.ops.aten
        sampler = aten.grid_sampler_2d if input.dim() == 4 else aten.grid_sampler_3d
        output: Tensor = sampler.default(*_fitted(input, grid, options), *options.first).to(dtype)
    else:
        may_copy = options.interpolation_mode == _ops.NEAREST
        _fakes.output_shape(input, grid, options, may_copy=may_copy)  # which checks
        output = _composed.grid_sample(input, grid, options)
    return output.contiguous(memory_format=layout)


def _decomposed_spline_filter(
    image: Tensor, padding_mode: int, align_corners: bool, transposed: bool = False
) -> Tensor:
    _fakes.check_spline_filter(image, padding_mode)
    coefficients = _composed.spline_filter(image, padding_mode, align_corners, transposed)
    return coefficients.contiguous(memory_format=_fakes.memory_format(image))


def _decomposed_backward(grad_output: Tensor, input: Tensor, grid: Tensor, *rest: Any) -> Any:
    options, output_mask, _ = take_apart(rest)
    if not _is_for_pytorch(input, options):
        return NotImplemented  # the op stays in the program
    fitted = _fitted(input, grid, options)
    aten = torch.ops.aten
    op = aten.grid_sampler_2d_backward if input.dim() == 4 else aten.grid_sampler_3d_backward
    gradients = op.default(grad_output.to(fitted[0].dtype), *fitted, *options.first, output_mask)
    results: list[Tensor | None] = []
    for gradient, of, layout, wanted in zip(
        gradients,
        (input, grid),
        (_fakes.memory_format(input), torch.contiguous_format),
        output_mask,
        strict=True,
    ):
        if not wanted:
            results.append(None)
            continue
        if of is grid:
            gradient = torch.where(grid.isfinite(), gradient, 0)
        if gradient.shape[0] != of.shape[0]:
            gradient = gradient.sum(0, keepdim=True)
        results.append(gradient.to(of.dtype).contiguous(memory_format=layout))
    return tuple(results)


def _decomposed_warp(
    input: Tensor, displacement: Tensor, affine: Tensor | None, *rest: Any
) -> Tensor:
    options = Options(*rest)
    may_copy = options.interpolation_mode == _ops.NEAREST
    _fakes.warp_shape(input, displacement, affine, options, may_copy=may_copy)  # which checks
    grid = _sources.compose(input.dtype, displacement, affine, input.shape[2:], options)
    return _decomposed_grid_sample(input, grid, *rest)


def _decomposed_warp_backward(
    grad_output: Tensor, input: Tensor, displacement: Tensor, affine: Tensor | None, *rest: Any
) -> Any:
    options, output_mask, deterministic = take_apart(rest)
    of = input.shape[2:]
    _fakes.warp_shape(input, displacement, affine, options)  # which checks
    grid = _sources.compose(input.dtype, displacement, affine, of, options)
    mask = output_mask[0], output_mask[1] or output_mask[2]
    ends = put_together(options, mask, deterministic)
    gradients = _decomposed_backward(grad_output, input, grid, *ends)
    if gradients is NotImplemented:
        return NotImplemented
    by_displacement, by_affine = _sources.gradients(
        gradients[1],
        displacement if output_mask[1] else None,
        affine if output_mask[2] else None,
        of,
        options,
    )
    if by_displacement is not None:
        by_displacement = _fakes.laid_out_for(displacement, by_displacement)
    return gradients[0], by_displacement, by_affine
