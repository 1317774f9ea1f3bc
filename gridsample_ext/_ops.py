"""Loads the ops and gives them fake kernels: shapes, strides and dtypes without data."""

import ctypes
import functools
import importlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridsample_ext._compat import constant_under_compile, guard_or_false

# What kernels have; the public function looks it up, too.
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# What nearest copies, and labels are.
INTEGERS = (
    torch.uint8,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.bool,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)

# Built by setup.py, the second where it finds nvcc: csrc/cpu/build.py, csrc/cuda/build.py.
CPU_LIBRARY = Path(__file__).with_name("gridsample_ext_cpu.so")
CUDA_LIBRARY = Path(__file__).with_name("gridsample_ext_cuda.so")


def _load_library(path: Path) -> None:
    """Load it into PyTorch; an OSError says what the dynamic linker said."""
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise (error.__cause__ or error) from None  # PyTorch's own names only the file


def _load_cpu_library() -> Any:
    """Load the library, which registers the ops and their CPU kernels; returns the module _C."""
    build = "build it here with `pip install --no-build-isolation .`"
    if not CPU_LIBRARY.exists():
        raise ImportError(f"{CPU_LIBRARY} is missing; {build}")
    try:
        _load_library(CPU_LIBRARY)
    except OSError as error:
        raise ImportError(
            f"{CPU_LIBRARY.name} could not be loaded ({error}). It runs with the PyTorch it was "
            f"built with and with later ones (this is {torch.__version__}), on the kind of machine "
            f"that it was built on; {build}"
        ) from error
    # An instruction set that GRIDSAMPLE_EXT_ISA cannot name is an error now, not at the first call.
    return importlib.import_module("gridsample_ext._C")


_C = _load_cpu_library()

# The names of modes and paddings, and the numbers that the ops take for them: csrc/math/lists.h.
MODES: dict[str, int] = _C.MODES
PADDING_MODES: dict[str, int] = _C.PADDING_MODES
USUAL_CUBIC: float = _C.USUAL_CUBIC  # PyTorch's coefficient of the cubic kernel
BILINEAR, NEAREST, BICUBIC = (MODES[name] for name in ("bilinear", "nearest", "bicubic"))
ZEROS, BORDER, REFLECTION, CIRCULAR = (
    PADDING_MODES[name] for name in ("zeros", "border", "reflection", "circular")
)
#: The numbers that PyTorch's ops take, too.
TORCH_PADDING_MODES = ZEROS, BORDER, REFLECTION


def name_of(names: dict[str, int], number: int) -> str:
    """The name of a mode or padding."""
    return next(name for name, other in names.items() if other == number)


def padding_number(paddings: tuple[int, ...]) -> int:
    """The ``padding_mode`` of the ops for a padding of each axis, x, y(, z)."""
    if len(set(paddings)) == 1:
        return paddings[0]
    number: int = _C.PADDING_PER_AXIS
    for axis, padding in enumerate(paddings):
        number += padding << (axis * _C.BITS_OF_PADDING)
    return number


class Options(NamedTuple):
    """The arguments of the ops behind their tensors: csrc/schemas.h."""

    interpolation_mode: int
    padding_mode: int
    align_corners: bool
    pixel_coordinates: bool = False
    fill_value: float = 0.0
    outside_value: float | None = None
    cubic_coefficient: float = USUAL_CUBIC

    def paddings(self, dims: int) -> tuple[int, ...]:
        """The padding of each axis, x, y(, z)."""
        mode = self.padding_mode
        if mode < _C.PADDING_PER_AXIS:
            return (mode,) * dims
        mask = (1 << _C.BITS_OF_PADDING) - 1
        return tuple(mode >> (axis * _C.BITS_OF_PADDING) & mask for axis in range(dims))

    def padding_name(self, dims: int) -> str | tuple[str, ...]:
        """``padding_mode`` as the public functions take it."""
        names = tuple(name_of(PADDING_MODES, padding) for padding in self.paddings(dims))
        return names[0] if len(set(names)) == 1 else names

    @property
    def first(self) -> tuple[int, int, bool]:
        """Those without defaults, which PyTorch has, too."""
        return self[:3]

    @property
    def later(self) -> tuple[Any, ...]:
        """Those with defaults; none if all have them."""
        return () if self[3:] == USUAL_LATER else self[3:]

    @property
    def are_known_to_pytorch(self) -> bool:
        """Whether ``torch.grid_sampler`` takes them."""
        return self.padding_mode in TORCH_PADDING_MODES and self[3:] == USUAL_LATER

    @property
    def of_directions(self) -> "Options":
        """For a tangent of input, to which values that do not change add nothing."""
        outside = None if self.outside_value is None else 0.0
        return self._replace(fill_value=0.0, outside_value=outside)


USUAL_LATER = Options(0, 0, False)[3:]


def take_apart(rest: Sequence[Any]) -> tuple[Options, Sequence[bool], bool]:
    """The options, ``output_mask`` and ``deterministic`` of a backward op's last arguments."""
    *first, output_mask, deterministic = (*rest, False)[:5]
    return Options(*first, *rest[5:]), output_mask, deterministic


def put_together(
    options: Options, output_mask: Sequence[bool], deterministic: bool = False
) -> tuple[Any, ...]:
    """The last arguments of a backward op."""
    # Sliced, because torch.compile of PyTorch 2.10 knows no properties of a NamedTuple.
    later = options[3:]
    ends = *options[:3], output_mask, deterministic
    return ends if later == USUAL_LATER else (*ends, *later)


grid_sample = torch.ops.gridsample_ext.grid_sample.default
grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward.default
grid_sample_jvp = torch.ops.gridsample_ext.grid_sample_jvp.default
grid_sample_double_backward = torch.ops.gridsample_ext.grid_sample_double_backward.default
sample_labels = torch.ops.gridsample_ext.sample_labels.default
OPS = (
    grid_sample,
    grid_sample_backward,
    grid_sample_jvp,
    grid_sample_double_backward,
    sample_labels,
)


@functools.cache
def _load_cuda_library() -> ctypes.CDLL | str:
    """The library, whose loading gives the ops their CUDA kernels, or why there is none."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    if not CUDA_LIBRARY.exists():
        return (
            "the CUDA kernels were not built; to build them, install nvcc and reinstall with "
            "GRIDSAMPLE_EXT_CUDA=1"
        )
    try:
        _load_library(CUDA_LIBRARY)
        return ctypes.CDLL(str(CUDA_LIBRARY))
    except OSError as error:
        return (
            f"{CUDA_LIBRARY.name} could not be loaded ({error}); reinstall with "
            "GRIDSAMPLE_EXT_CUDA=1"
        )


def cuda_library_error() -> str | None:
    """Why the library of CUDA kernels is not loaded, or None if it is."""
    library = _load_cuda_library()
    return library if isinstance(library, str) else None


@functools.cache
def _ask_cuda_problem(device: int) -> str | None:
    library = _load_cuda_library()
    if isinstance(library, str):
        return library
    ask = library.gridsample_ext_cuda_problem
    ask.restype = ctypes.c_char_p
    with torch.cuda.device(device):
        text = ask()
    return None if text is None else text.decode()


@constant_under_compile
def cuda_problem(device: int) -> str | None:
    """Why the kernels cannot run on a CUDA device, or None if they can."""
    return _ask_cuda_problem(device)


_load_cuda_library()

_NOT_ALLOCATED = re.compile(
    r"gridsample_ext: could not allocate a tensor with sizes \[([\d, ]*)\] of (\w+) on (\S+)"
)


def raise_out_of_memory(error: RuntimeError) -> None:
    """Raise PyTorch's own error in place of ours if a result could not be allocated.

    The kernels' interface to PyTorch loses the type of an error: on CUDA
    ``torch.OutOfMemoryError``, which programs catch. So what failed is asked of PyTorch itself.
    """
    found = _NOT_ALLOCATED.search(str(error))
    if found is None:
        return
    sizes, dtype, device = found.groups()
    try:
        torch.empty(
            [int(size) for size in sizes.split(",") if size.strip()],
            dtype=getattr(torch, dtype),
            device=device,
        )
    except RuntimeError as own:  # torch.OutOfMemoryError is one
        raise own from None
    if not device.startswith("cpu"):  # by now there is memory; there was not
        raise torch.OutOfMemoryError(str(error)) from None


def one_of(names: Iterable[str]) -> str:
    """The names as "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}"


def memory_format(input: Tensor) -> torch.memory_format:
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


def output_shape(
    input: Tensor, grid: Tensor, options: Options, *, may_copy: bool = False, name: str = "input"
) -> tuple[int, ...]:
    """The shape of the output, or the error that csrc/checks.h has for real tensors.

    Said again here because symbolic shapes never reach C++. The caller knows input by ``name``.
    """
    sizes = f"got {name} with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"

    def check(condition: bool, expected: str) -> None:
        torch._check(condition, lambda: f"gridsample_ext: expected {expected}, but {sizes}")

    check(
        input.device == grid.device,
        f"grid (on {grid.device}) and {name} (on {input.device}) to be on the same device",
    )
    check(
        (input.dtype in DTYPES or (may_copy and input.dtype in INTEGERS)) and grid.dtype in DTYPES,
        f"{name} ({input.dtype}) and grid ({grid.dtype}) to have dtype float16, bfloat16, float32 "
        "or float64",
    )
    check(input.dim() in (4, 5), f"{name} to be 4-D (N, C, H, W) or 5-D (N, C, D, H, W)")
    _check_options(options, input.dim() - 2)
    if torch.float64 not in (input.dtype, grid.dtype):
        _check_fits_float("fill_value", options.fill_value)
        _check_fits_float("outside_value", options.outside_value)
    check(grid.dim() == input.dim(), f"grid to have as many dimensions as {name}")
    check(
        grid.size(-1) == input.dim() - 2,
        f"grid to have size {input.dim() - 2} in its last dimension",
    )
    for dim in range(2, input.dim()):
        check(input.size(dim) > 0, f"{name} to have non-empty spatial dimensions")
    batch = input.size(0)
    if guard_or_false(batch == 1):
        batch = grid.size(0)
    elif not guard_or_false(grid.size(0) == 1):
        check(
            grid.size(0) == batch,
            f"{name} and grid to have the same batch size, or one of them a batch of 1",
        )
    return (batch, input.size(1), *grid.shape[1:-1])


def _check_options(options: Options, dims: int) -> None:
    """``check_options`` in csrc/checks.h."""

    def check(condition: bool, expected: str) -> None:
        torch._check(condition, lambda: f"gridsample_ext: expected {expected}")

    def numbered(names: dict[str, int]) -> str:
        return one_of(f"{number} ({name})" for name, number in names.items())

    mode, padding_mode = options.interpolation_mode, options.padding_mode
    check(
        mode in MODES.values(),
        f"interpolation_mode to be {numbered(MODES)}, but got {mode}",
    )
    paddings = options.paddings(dims)
    known = all(padding in PADDING_MODES.values() for padding in paddings)
    check(
        known and padding_mode < _C.PADDING_PER_AXIS + (1 << dims * _C.BITS_OF_PADDING),
        f"padding_mode to be {numbered(PADDING_MODES)}, or {_C.PADDING_PER_AXIS} + x + 16 y + "
        f"256 z for those of the axes, but got {padding_mode}",
    )
    check(
        options.fill_value == 0 or ZEROS in paddings,
        "fill_value to be 0 where no axis is padded with zeros, but got "
        f"{options.fill_value} and padding_mode {padding_mode}",
    )
    check(
        -1 <= options.cubic_coefficient <= 0,
        f"cubic_coefficient to be in [-1, 0], but got {options.cubic_coefficient}",
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


def as_int64(label: int | None) -> int | None:
    """As the ops take labels: those above int64's as the negative numbers of their bits."""
    return label - 2**64 if label is not None and label >= 2**63 else label


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


def _empty_gradients(
    input: Tensor, grid: Tensor, output_mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    torch._check(
        len(output_mask) == 2,
        lambda: (
            f"gridsample_ext: expected output_mask to have 2 elements, but got {len(output_mask)}"
        ),
    )
    grad_input = grad_grid = None
    if output_mask[0]:
        grad_input = torch.empty(
            input.shape, dtype=input.dtype, device=input.device, memory_format=memory_format(input)
        )
    if output_mask[1]:
        grad_grid = torch.empty(grid.shape, dtype=grid.dtype, device=grid.device)
    return grad_input, grad_grid


def _empty_output(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=memory_format(input)
    )


@torch.library.register_fake("gridsample_ext::grid_sample")
def _grid_sample_fake(input: Tensor, grid: Tensor, *rest: Any) -> Tensor:
    options = Options(*rest)
    may_copy = options.interpolation_mode == NEAREST
    check_holds(input.dtype, "fill_value", options.fill_value)
    check_holds(input.dtype, "outside_value", options.outside_value)
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
