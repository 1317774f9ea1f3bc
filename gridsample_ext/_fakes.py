"""Fake kernels: shapes, strides and dtypes of the ops' results without data.

Symbolic sizes never reach C++, so what csrc/checks.h says of real tensors is said again here.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gridsample_ext import _C
from gridsample_ext._compat import guard_or_false
from gridsample_ext._ops import (
    BICUBIC,
    DTYPES,
    INTEGERS,
    MODES,
    NEAREST,
    PADDING_MODES,
    USUAL_CUBIC,
    ZEROS,
    Options,
    one_of,
    take_apart,
)


def memory_format(input: Tensor) -> torch.memory_format:
    """The layout of results for ``input``; ``prefers_channels_last`` in csrc/tensors.h."""
    # First, because of an expanded tensor with a symbol for a size the next cannot be asked.
    if any(guard_or_false(stride == 0) for stride in input.stride()):
        return torch.contiguous_format
    if input.is_contiguous():
        return torch.contiguous_format
    least = 0
    for dim in (1, *range(input.dim() - 1, 1, -1), 0):
        size, stride = input.size(dim), input.stride(dim)
        if size == 0 or stride < least:
            return torch.contiguous_format
        least = stride * size if size > 1 else stride
    return torch.channels_last if input.dim() == 4 else torch.channels_last_3d


def output_shape(
    input: Tensor,
    grid: Tensor,
    options: Options,
    *,
    may_copy: bool = False,
    name: str = "input",
    grid_name: str = "grid",
    is_wide: bool = False,
) -> tuple[int, ...]:
    """The shape of the output, or the error that csrc/checks.h has for real tensors.

    The caller knows input and grid by ``name`` and ``grid_name``. ``is_wide``: whether something
    else is float64.
    """
    sizes = (
        f"got {name} with sizes {list(input.shape)} and {grid_name} with sizes {list(grid.shape)}"
    )

    def check(condition: bool, expected: str) -> None:
        torch._check(condition, lambda: f"gridsample_ext: expected {expected}, but {sizes}")

    check(
        input.device == grid.device,
        f"{grid_name} (on {grid.device}) and {name} (on {input.device}) to be on the same device",
    )
    check(
        (input.dtype in DTYPES or (may_copy and input.dtype in INTEGERS)) and grid.dtype in DTYPES,
        f"{name} ({input.dtype}) and {grid_name} ({grid.dtype}) to have dtype float16, bfloat16, "
        "float32 or float64",
    )
    check(input.dim() in (4, 5), f"{name} to be 4-D (N, C, H, W) or 5-D (N, C, D, H, W)")
    _check_options(options, input.dim() - 2)
    if not is_wide and torch.float64 not in (input.dtype, grid.dtype):
        _check_fits_float("fill_value", options.fill_value)
        _check_fits_float("outside_value", options.outside_value)
    check(grid.dim() == input.dim(), f"{grid_name} to have as many dimensions as {name}")
    check(
        grid.size(-1) == input.dim() - 2,
        f"{grid_name} to have size {input.dim() - 2} in its last dimension",
    )
    for dim in range(2, input.dim()):
        check(input.size(dim) > 0, f"{name} to have non-empty spatial dimensions")
    batch = input.size(0)
    if guard_or_false(batch == 1):
        batch = grid.size(0)
    elif not guard_or_false(grid.size(0) == 1):
        check(
            grid.size(0) == batch,
            f"{name} and {grid_name} to have the same batch size, or one of them a batch of 1",
        )
    return (batch, input.size(1), *grid.shape[1:-1])


def _check_options(options: Options, dims: int) -> None:
    """``check_options`` in csrc/checks.h."""

    def check(condition: bool, expected: str) -> None:
        torch._check(condition, lambda: f"gridsample_ext: expected {expected}")

    mode = options.interpolation_mode
    check(
        mode in MODES.values(),
        f"interpolation_mode to be {_numbered(MODES)}, but got {mode}",
    )
    _check_padding_mode(options, dims)
    check(
        options.fill_value == 0 or ZEROS in options.paddings(dims),
        "fill_value to be 0 where no axis is padded with zeros, but got "
        f"{options.fill_value} and padding_mode {options.padding_mode}",
    )
    check(
        -1 <= options.cubic_coefficient <= 0,
        f"cubic_coefficient to be in [-1, 0], but got {options.cubic_coefficient}",
    )


def _numbered(names: dict[str, int]) -> str:
    return one_of(f"{number} ({name})" for name, number in names.items())


def _check_padding_mode(options: Options, dims: int) -> None:
    """``check_padding_mode`` in csrc/checks.h."""
    padding_mode = options.padding_mode
    known = all(padding in PADDING_MODES.values() for padding in options.paddings(dims))
    torch._check(
        known and padding_mode < _C.PADDING_PER_AXIS + (1 << dims * _C.BITS_OF_PADDING),
        lambda: (
            f"gridsample_ext: expected padding_mode to be {_numbered(PADDING_MODES)}, or "
            f"{_C.PADDING_PER_AXIS} + x + 16 y + 256 z for those of the axes, but got "
            f"{padding_mode}"
        ),
    )


def _check_fits_float(name: str, value: float | None) -> None:
    """``check_fits_float`` in csrc/checks.h."""
    most = torch.finfo(torch.float32).max
    if value is not None and most < abs(value) < math.inf:
        raise RuntimeError(
            f"gridsample_ext: expected {name} to be a number that float32, which this call "
            f"computes in, holds, but got {value}"
        )


def check_holds(dtype: torch.dtype, name: str, value: float | None) -> None:
    """``element_of`` in csrc/tensors.h: whether integers of a dtype, or bools, hold a value."""
    if value is None or dtype not in INTEGERS:
        return
    least, most = 0, 1
    if dtype != torch.bool:
        least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    # Not torch._check, whose message torch.compile cannot make of a value that is a symbol.
    if not (least <= value <= most and (isinstance(value, int) or value == int(value))):
        raise RuntimeError(
            f"gridsample_ext: expected {name} to be a number that {dtype} holds, but got {value}"
        )


def with_one_batch_size(input: Tensor, grid: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Both with the batch size of the output: a batch of one expanded."""
    if not guard_or_false(batch == 1):
        if guard_or_false(input.size(0) == 1):
            input = input.expand(batch, *input.shape[1:])
        elif guard_or_false(grid.size(0) == 1):
            grid = grid.expand(batch, *grid.shape[1:])
    return input, grid


def _check_dtype(name: str, tensor: Tensor) -> None:
    torch._check(
        tensor.dtype in DTYPES,
        lambda: (
            f"gridsample_ext: expected {name} to have dtype float16, bfloat16, float32 or float64, "
            f"but got {name} with sizes {list(tensor.shape)} and dtype {tensor.dtype}"
        ),
    )


def _check_grad_output(grad_output: Tensor, input: Tensor, shape: tuple[int, ...]) -> None:
    _check_dtype("grad_output", grad_output)
    matches = grad_output.device == input.device and grad_output.dim() == len(shape)
    for dim, size in enumerate(shape):
        torch._check(
            matches and grad_output.size(dim) == size,
            lambda: (
                "gridsample_ext: expected grad_output to be on the device of input and have the "
                f"sizes of the output, {list(shape)} on {input.device}, but got grad_output with "
                f"sizes {list(grad_output.shape)} on {grad_output.device}"
            ),
        )


def _check_companions(companions: dict[str, tuple[Tensor | None, str, Tensor]]) -> None:
    """Check tensors that come along with others of the same sizes: name -> (it, whose, of whom)."""
    torch._check(
        any(companion is not None for companion, _, _ in companions.values()),
        lambda: (
            f"gridsample_ext: expected {' or '.join(companions)} to be a tensor, but both are None"
        ),
    )
    for name, (companion, of_name, of) in companions.items():
        if companion is None:
            continue
        _check_dtype(name, companion)
        matches = companion.device == of.device and companion.dim() == of.dim()
        for dim, size in enumerate(of.shape):
            torch._check(
                matches and companion.size(dim) == size,
                lambda name=name, companion=companion, of_name=of_name, of=of: (
                    f"gridsample_ext: expected {name} to be on the device of {of_name} and have "
                    f"its sizes, but got {name} with sizes {list(companion.shape)} on "
                    f"{companion.device} and {of_name} with sizes {list(of.shape)} on {of.device}"
                ),
            )


def _check_output_mask(output_mask: Sequence[bool], results: int) -> None:
    torch._check(
        len(output_mask) == results,
        lambda: (
            f"gridsample_ext: expected output_mask to have {results} elements, but got "
            f"{len(output_mask)}"
        ),
    )


def _empty_gradients(
    input: Tensor, grid: Tensor, output_mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    _check_output_mask(output_mask, 2)
    grad_input = grad_grid = None
    if output_mask[0]:
        grad_input = _empty_output(input, input.shape)
    if output_mask[1]:
        grad_grid = torch.empty(grid.shape, dtype=grid.dtype, device=grid.device)
    return grad_input, grad_grid


def _empty_output(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=memory_format(input)
    )


def _may_copy(input: Tensor, options: Options) -> bool:
    """Whether input may hold integers, which then have to hold the values outside."""
    check_holds(input.dtype, "fill_value", options.fill_value)
    check_holds(input.dtype, "outside_value", options.outside_value)
    return options.interpolation_mode == NEAREST


@torch.library.register_fake("gridsample_ext::grid_sample")
def _grid_sample_fake(input: Tensor, grid: Tensor, *rest: Any) -> Tensor:
    options = Options(*rest)
    may_copy = _may_copy(input, options)
    return _empty_output(input, output_shape(input, grid, options, may_copy=may_copy))


@torch.library.register_fake("gridsample_ext::grid_sample_backward")
def _grid_sample_backward_fake(
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    *rest: Any,
) -> tuple[Tensor | None, Tensor | None]:
    options, output_mask, _ = take_apart(rest)
    _check_grad_output(grad_output, input, output_shape(input, grid, options))
    return _empty_gradients(input, grid, output_mask)


@torch.library.register_fake("gridsample_ext::grid_sample_jvp")
def _grid_sample_jvp_fake(
    input: Tensor,
    grid: Tensor,
    tangent_input: Tensor | None,
    tangent_grid: Tensor | None,
    *options: Any,
) -> Tensor:
    output = _empty_output(input, output_shape(input, grid, Options(*options)))
    _check_companions(
        {
            "tangent_input": (tangent_input, "input", input),
            "tangent_grid": (tangent_grid, "grid", grid),
        }
    )
    return output


@torch.library.register_fake("gridsample_ext::grid_sample_double_backward")
def _grid_sample_double_backward_fake(
    grad_grad_input: Tensor | None,
    grad_grad_grid: Tensor | None,
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    *rest: Any,
) -> tuple[Tensor | None, Tensor | None]:
    options, output_mask, _ = take_apart(rest)
    _check_grad_output(grad_output, input, output_shape(input, grid, options))
    _check_companions(
        {
            "grad_grad_input": (grad_grad_input, "input", input),
            "grad_grad_grid": (grad_grad_grid, "grid", grid),
        }
    )
    return _empty_gradients(input, grid, output_mask)


def warp_shape(
    input: Tensor,
    displacement: Tensor,
    affine: Tensor | None,
    options: Options,
    *,
    may_copy: bool = False,
) -> tuple[int, ...]:
    """``output_shape`` of a warp: ``check_warp`` in csrc/checks.h."""
    if affine is not None:
        _check_dtype("affine", affine)
    shape = output_shape(
        input,
        displacement,
        options,
        may_copy=may_copy,
        grid_name="displacement",
        is_wide=affine is not None and affine.dtype == torch.float64,
    )
    if affine is None:
        return shape
    dims = input.dim() - 2
    sizes = f"but got affine with sizes {list(affine.shape)}"
    torch._check(
        affine.device == input.device
        and affine.dim() == 3
        and affine.size(1) == dims
        and affine.size(2) == dims + 1,
        lambda: (
            f"gridsample_ext: expected affine to be (N, {dims}, {dims + 1}) on {input.device}, "
            f"{sizes} on {affine.device}"
        ),
    )
    if not guard_or_false(affine.size(0) == 1):
        torch._check(
            affine.size(0) == displacement.size(0),
            lambda: (
                "gridsample_ext: expected affine to have the batch size of displacement, or a "
                f"batch of 1, {sizes} and displacement with sizes {list(displacement.shape)}"
            ),
        )
    return shape


def laid_out_for(displacement: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a displacement in its layout: ``empty_grid`` in csrc/tensors.h."""
    if guard_or_false(displacement.stride(-1) == 1):
        return gradient.contiguous()
    return gradient.movedim(-1, 1).contiguous().movedim(1, -1)


@torch.library.register_fake("gridsample_ext::warp")
def _warp_fake(input: Tensor, displacement: Tensor, affine: Tensor | None, *rest: Any) -> Tensor:
    options = Options(*rest)
    may_copy = _may_copy(input, options)
    shape = warp_shape(input, displacement, affine, options, may_copy=may_copy)
    return _empty_output(input, shape)


@torch.library.register_fake("gridsample_ext::warp_backward")
def _warp_backward_fake(
    grad_output: Tensor, input: Tensor, displacement: Tensor, affine: Tensor | None, *rest: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    options, output_mask, _ = take_apart(rest)
    _check_grad_output(grad_output, input, warp_shape(input, displacement, affine, options))
    _check_output_mask(output_mask, 3)
    grad_input, grad_displacement = _empty_gradients(input, displacement, output_mask[:2])
    if grad_displacement is not None:
        grad_displacement = laid_out_for(displacement, grad_displacement)
    grad_affine = None
    if output_mask[2] and affine is not None:
        grad_affine = affine.new_empty(affine.shape)
    return grad_input, grad_displacement, grad_affine


@torch.library.register_fake("gridsample_ext::sample_labels")
def _sample_labels_fake(
    labels: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    pixel_coordinates: bool = False,
    fill_value: int | None = None,
    outside_value: int | None = None,
    cubic_coefficient: float = USUAL_CUBIC,
) -> Tensor:
    torch._check(
        labels.dtype in INTEGERS,
        lambda: (
            "gridsample_ext: expected labels to hold integers or bools, but got labels with sizes "
            f"{list(labels.shape)} and dtype {labels.dtype}"
        ),
    )
    if labels.dtype != torch.uint64:  # whose labels above int64's are negative here
        check_holds(labels.dtype, "fill_value", fill_value)
        check_holds(labels.dtype, "outside_value", outside_value)
    options = Options(
        interpolation_mode,
        padding_mode,
        align_corners,
        pixel_coordinates,
        0.0 if fill_value is None else 1.0,
        cubic_coefficient=cubic_coefficient,
    )
    return _empty_output(labels, output_shape(labels, grid, options, may_copy=True, name="labels"))


def check_spline_filter(image: Tensor, padding_mode: int) -> None:
    """``check_spline_filter`` in csrc/checks.h."""
    _check_dtype("image", image)

    def check(condition: bool, expected: str) -> None:
        torch._check(
            condition,
            lambda: (
                f"gridsample_ext: expected image to {expected}, but got image with sizes "
                f"{list(image.shape)}"
            ),
        )

    check(image.dim() in (4, 5), "be 4-D (N, C, H, W) or 5-D (N, C, D, H, W)")
    _check_padding_mode(Options(BICUBIC, padding_mode, False), image.dim() - 2)
    for dim in range(2, image.dim()):
        check(image.size(dim) > 0, "have non-empty spatial dimensions")


@torch.library.register_fake("gridsample_ext::spline_filter")
def _spline_filter_fake(
    image: Tensor, padding_mode: int, align_corners: bool, transposed: bool = False
) -> Tensor:
    check_spline_filter(image, padding_mode)
    return _empty_output(image, image.shape)
