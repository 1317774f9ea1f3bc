"""From the arguments of the public functions to the ops' options, with errors that name them."""

import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridsample_ext import _compat, _ops
from gridsample_ext._ops import Options


class Keywords(NamedTuple):
    """The arguments that PyTorch's function does not have."""

    coordinates: str = "normalized"
    fill_value: float | None = None
    outside_value: float | None = None
    cubic_coefficient: float | None = None


def unknown(name: str, value: object, known: Iterable[str], function: str) -> ValueError:
    """Make the error for a word that is none of those known."""
    return ValueError(
        f"{function}(): expected {name} to be {_ops.one_of(map(repr, known))}, but got: {value!r}"
    )


def type_name(value: object) -> str:
    """The name of a value's type, as errors give it."""
    module, name = type(value).__module__, type(value).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def mode_number(mode: object, function: str) -> int:
    """The number of a mode."""
    if not isinstance(mode, str) or mode not in _ops.MODES:
        raise unknown("mode", mode, _ops.MODES, function)
    return _ops.MODES[mode]


def padding_number(padding_mode: object, input: Tensor, function: str) -> int:
    """The number of a padding for all axes, or of one for each axis of ``input``."""
    if isinstance(padding_mode, str) and padding_mode in _ops.PADDING_MODES:
        return _ops.PADDING_MODES[padding_mode]
    if not isinstance(padding_mode, tuple | list):
        raise unknown("padding_mode", padding_mode, _ops.PADDING_MODES, function)
    for name in padding_mode:
        if not isinstance(name, str) or name not in _ops.PADDING_MODES:
            raise unknown("each of padding_mode", padding_mode, _ops.PADDING_MODES, function)
    dims = dims_of(input)
    if len(padding_mode) != dims:
        raise ValueError(
            f"{function}(): expected padding_mode to have {dims} entries, one for each of the axes "
            f"{'x, y' if dims == 2 else 'x, y, z'}, but got {padding_mode!r} for a tensor with "
            f"sizes {list(getattr(input, 'shape', []))}"
        )
    return _ops.padding_number(tuple(_ops.PADDING_MODES[name] for name in padding_mode))


def dims_of(input: Tensor) -> int:
    """How many axes an image has; 2 of what is none, whose error comes later."""
    return 3 if isinstance(input, Tensor) and input.dim() == 5 else 2


def align_corners_or_default(
    align_corners: object, coordinates: str, function: str, stacklevel: int = 3
) -> bool:
    """False for None, with PyTorch's warning where it matters to what the grid's values mean."""
    if align_corners is None:
        if coordinates == "normalized" and not torch.compiler.is_compiling():
            warnings.warn(  # under torch.compile a warning would break the graph
                "Default grid_sample and affine_grid behavior has changed to align_corners=False "
                "since 1.3.0. Please specify align_corners=True if the old behavior is desired. "
                "See the documentation of grid_sample for details.",
                stacklevel=stacklevel,
            )
        return False
    check_kind("align_corners", align_corners, bool, function)
    return bool(align_corners)


def later_options(
    input: Tensor, mode: int, padding_mode: int, keywords: Keywords, function: str
) -> tuple[bool, float, float | None, float]:
    """The ops' later options."""
    if keywords.coordinates not in ("normalized", "pixel"):
        raise unknown("coordinates", keywords.coordinates, ("normalized", "pixel"), function)
    fill, outside, cubic = (
        _real(name, getattr(keywords, name), function)
        for name in ("fill_value", "outside_value", "cubic_coefficient")
    )
    check_fill(keywords.fill_value, Options(mode, padding_mode, False), dims_of(input), function)
    if cubic is not None and not -1 <= cubic <= 0:
        raise ValueError(
            f"{function}(): expected cubic_coefficient to be in [-1, 0], but got: {cubic!r}"
        )
    if cubic is not None and mode != _ops.BICUBIC:
        raise ValueError(
            f"{function}(): expected cubic_coefficient to go with mode='bicubic', but got "
            f"cubic_coefficient={cubic!r} and mode={_ops.name_of(_ops.MODES, mode)!r}"
        )
    return (
        keywords.coordinates == "pixel",
        0.0 if fill is None else fill,
        outside,
        _ops.USUAL_CUBIC if cubic is None else cubic,
    )


def check_fill(fill_value: object, options: Options, dims: int, function: str) -> None:
    """Raise if there is a fill value and no axis that it could fill."""
    if fill_value is not None and _ops.ZEROS not in options.paddings(dims):
        raise ValueError(
            f"{function}(): expected fill_value to go with an axis that is padded with 'zeros', "
            f"but got fill_value={fill_value!r} and padding_mode={options.padding_name(dims)!r}"
        )


def _real(name: str, value: Any, function: str) -> float | None:
    """As a float; None stays None."""
    if value is None:
        return None
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(
            f"{function}(): expected {name} to be a float or None, not {type_name(value)}"
        )
    try:
        number = float(value)
    except OverflowError:
        number = None
    if number is None or (isinstance(value, numbers.Integral) and number != int(value)):
        raise ValueError(
            f"{function}(): expected {name} to be a number that a float64 holds, but got: {value!r}"
        )
    return number


def integer(name: str, value: Any, function: str) -> int | None:
    """As an int; None stays None."""
    if value is None:
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    raise TypeError(f"{function}(): expected {name} to be an int or None, not {type_name(value)}")


def options_of(
    input: Tensor,
    mode: str,
    padding_mode: str | Sequence[str],
    align_corners: bool | None,
    keywords: Keywords,
    function: str,
) -> Options:
    """All options of a call."""
    mode_enum = mode_number(mode, function)
    padding_enum = padding_number(padding_mode, input, function)
    later = later_options(input, mode_enum, padding_enum, keywords, function)
    corners = align_corners_or_default(align_corners, keywords.coordinates, function, stacklevel=4)
    return Options(mode_enum, padding_enum, corners, *later)


def spatial_sizes(size: object, function: str) -> tuple[int, ...]:
    """The sizes of an image in space, (H, W) or (D, H, W), which a caller gives."""
    sizes = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str | bytes) else ()
    if len(sizes) not in (2, 3):
        given = repr(size)
        if isinstance(size, Tensor):
            given = f"a Tensor with sizes {list(size.shape)}"
        raise ValueError(
            f"{function}(): expected size to be (H, W) or (D, H, W), an image's sizes in space "
            f"(shape[2:]), but got: {given}"
        )
    if not torch.compiler.is_compiling() and _compat.is_jit_tracing():  # sizes are tensors there
        return sizes
    for each in sizes:
        if isinstance(each, bool) or not isinstance(each, numbers.Integral | torch.SymInt):
            raise TypeError(f"{function}(): expected size to hold ints, but got: {sizes!r}")
    # NumPy's are no ints to PyTorch.
    sizes = tuple(each if isinstance(each, int | torch.SymInt) else int(each) for each in sizes)
    for each in sizes:
        if _compat.guard_or_false(each <= 0):
            raise ValueError(
                f"{function}(): expected size to hold sizes above 0, but got: {sizes!r}"
            )
    return sizes


def check_kind(name: str, value: object, kind: type, function: str) -> None:
    """Raise if an argument is not of its type."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{function}(): expected {name} to be a {kind.__name__}, not {type_name(value)}"
        )


def check_grid(grid: object, size: tuple[int, ...], function: str) -> None:
    """Raise what is wrong with a grid for images of a size in space."""
    check_kind("grid", grid, Tensor, function)
    assert isinstance(grid, Tensor)
    if grid.layout is not torch.strided:
        raise NotImplementedError(
            f"{function}(): expected grid to be strided (dense), but got grid with sizes "
            f"{list(grid.shape)} and layout {grid.layout}"
        )
    check_dtype_of_grid(grid, function)
    if grid.dim() != len(size) + 2 or grid.shape[-1] != len(size):
        shape = "(N, H_out, W_out, 2)" if len(size) == 2 else "(N, D_out, H_out, W_out, 3)"
        raise RuntimeError(
            f"{function}(): expected grid to be {shape} for size {size}, but got grid with sizes "
            f"{list(grid.shape)}"
        )


def check_dtype_of_grid(grid: Tensor, function: str) -> None:
    """Raise if a grid is of none of the floating-point dtypes that kernels have."""
    if grid.dtype not in _ops.DTYPES:
        raise RuntimeError(
            f"{function}(): expected grid to have dtype float16, bfloat16, float32 or float64, but "
            f"got grid with sizes {list(grid.shape)} and dtype {grid.dtype}"
        )


def check_tensors(tensors: dict[str, object], function: str) -> None:
    """Raise what is wrong with the two tensors of a call, but for their sizes and dtypes."""
    for name, tensor in tensors.items():
        check_kind(name, tensor, Tensor, function)
    (first, image), (second, grid) = tensors.items()
    assert isinstance(image, Tensor)
    assert isinstance(grid, Tensor)
    if image.layout is not torch.strided or grid.layout is not torch.strided:
        raise NotImplementedError(
            f"{function}(): expected {first} and {second} to be strided (dense), but got {first} "
            f"with sizes {list(image.shape)} and layout {image.layout} and {second} with sizes "
            f"{list(grid.shape)} and layout {grid.layout}"
        )
    if image.device != grid.device:
        raise RuntimeError(
            f"{function}(): expected {second} and {first} to be on the same device, but got "
            f"{first} with sizes {list(image.shape)} on {image.device} and {second} with sizes "
            f"{list(grid.shape)} on {grid.device}"
        )
