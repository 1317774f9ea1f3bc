"""Sampling of images that kernels do not compute with: complex numbers, uint8 and int16."""

from typing import Any

import torch
from torch import Tensor

from gridsample_ext import _compat, _composed, _fakes, _ops, _options, functional
from gridsample_ext._options import Keywords

_COMPLEX = (torch.complex64, torch.complex128)
_ROUNDED = (torch.uint8, torch.int16)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str,
    padding_mode: Any,
    align_corners: bool,
    keywords: Keywords,
) -> Tensor:
    """``functional.grid_sample``, whose arguments these are, of an ``input`` of such a dtype."""
    check_dtype(input, mode, "grid_sample")
    options = mode, padding_mode, align_corners
    if input.dtype in _COMPLEX:
        return _sample_complex(input, grid, options, keywords)
    _check_storage(input)
    image = _floating(input, grid)
    output = functional.grid_sample(image, grid, *options, **keywords._asdict())
    return _rounded(output.detach(), input.dtype)


def check_dtype(input: Tensor, mode: str, function: str) -> None:
    """Raise if there is no way to sample images of the dtype of ``input`` in a mode."""
    if input.dtype in (*_ops.DTYPES, *_COMPLEX) or (
        input.dtype in (_ops.INTEGERS if mode == "nearest" else _ROUNDED)
    ):
        return
    if input.dtype in _ops.INTEGERS:
        raise NotImplementedError(
            f"{function}(): expected input of integers or bools to be sampled in mode='nearest', "
            "or, of uint8 and int16, in any mode, but got input with sizes "
            f"{list(input.shape)} and dtype {input.dtype} and mode={mode!r}; sample labels by "
            "sample_labels(), and convert other numbers to a floating-point dtype"
        )
    raise NotImplementedError(
        f"{function}(): expected input to have dtype float16, bfloat16, float32 or float64, "
        "complex64 or complex128, or to hold integers or bools, but got input with sizes "
        f"{list(input.shape)} and dtype {input.dtype}"
    )


def image_for_kernels(
    input: Tensor, grid: Tensor, mode: str, keywords: Keywords
) -> tuple[Tensor, dict[str, int]]:
    """What kernels sample for an ``input``, or the first of two, and the bytes of copies."""
    samples = max(input.shape[0], grid.shape[0]) * grid.shape[1:-1].numel()
    if input.dtype in _COMPLEX:
        parts = torch.view_as_real(input)
        copied = parts.numel() * parts.element_size() if _is_zero_outside(keywords) else 0
        image = _channels(parts) if copied else parts[..., 0]
        results = samples * input.shape[1] * input.element_size()
    elif input.dtype in _ROUNDED and mode != "nearest":
        image = _floating(input, grid)
        copied = image.numel() * image.element_size()
        results = samples * input.shape[1] * image.element_size()
    else:
        return input, {}
    copies = {"copies of images": copied, "copies of results": results}
    return image, {name: count for name, count in copies.items() if count > 0}


def _floating(input: Tensor, grid: Tensor) -> Tensor:
    return input.to(_composed.compute_type(grid.dtype))


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or _compat.is_jit_tracing()


def _check_storage(input: Tensor) -> None:
    """``has_storage`` in csrc/checks.h, for an image that PyTorch reads before a kernel does."""
    if _is_traced() or _compat.in_func_transform():
        return
    if type(input) is not Tensor or not input.is_cpu or input.numel() == 0:
        return
    reach = sum((n - 1) * stride for n, stride in zip(input.shape, input.stride(), strict=True))
    end = (input.storage_offset() + reach + 1) * input.element_size()
    if end > input.untyped_storage().nbytes():
        raise RuntimeError(
            "grid_sample(): expected input to have its data allocated, but the storage of input "
            f"with sizes {list(input.shape)} is too small"
        )


def _rounded(output: Tensor, dtype: torch.dtype) -> Tensor:
    """Half to even, clamped; what is not a number is 0."""
    limits = torch.iinfo(dtype)
    if not (torch.compiler.is_compiling() or _compat.in_func_transform()):
        # In place: nobody else has the output.
        return output.round_().clamp_(limits.min, limits.max).nan_to_num_(0.0).to(dtype)
    return output.round().clamp(limits.min, limits.max).nan_to_num(0.0).to(dtype)


def _sample_complex(
    input: Tensor, grid: Tensor, options: tuple[Any, ...], keywords: Keywords
) -> Tensor:
    """Real and imaginary parts as channels, of which the values outside are real."""
    _check_storage(input)
    if not _is_traced():
        _options.check_dtype_of_grid(grid, "grid_sample")
        mode, padding_mode, align_corners = options
        checked = _options.options_of(
            input, mode, padding_mode, align_corners, keywords, "grid_sample"
        )
        _fakes.output_shape(input.real, grid, checked)  # whose errors name input's sizes
    if input.numel() == 0:
        output = functional.grid_sample(input.real, grid, *options, **keywords._asdict())
        return torch.complex(output, torch.zeros_like(output))
    parts = torch.view_as_real(input.resolve_conj())
    if _is_zero_outside(keywords):
        output = functional.grid_sample(_channels(parts), grid, *options, **keywords._asdict())
        output = output.unflatten(1, (input.shape[1], 2)).movedim(2, -1)
        if output.numel() == 0:
            return torch.complex(*output.unbind(-1))
        return torch.view_as_complex(output.contiguous() if output.stride(-1) != 1 else output)
    of_imaginary = keywords._replace(
        fill_value=None, outside_value=None if keywords.outside_value is None else 0.0
    )
    real, imaginary = (
        functional.grid_sample(part, grid, *options, **each._asdict())
        for part, each in zip(parts.unbind(-1), (keywords, of_imaginary), strict=True)
    )
    return torch.complex(real, imaginary)


def _is_zero_outside(keywords: Keywords) -> bool:
    """Whether values outside are 0, in the imaginary part as in the real one."""
    return keywords.fill_value is None and not keywords.outside_value


def _channels(parts: Tensor) -> Tensor:
    """Of the parts of complex numbers, which are the last dimension: two channels each."""
    return parts.movedim(-1, 2).flatten(1, 2)
