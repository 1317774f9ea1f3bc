"""Loads the ops; their names, numbers and options."""

import ctypes
import functools
import importlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gridsample_ext._compat import constant_under_compile

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
BILINEAR, NEAREST, BICUBIC, BSPLINE = (
    MODES[name] for name in ("bilinear", "nearest", "bicubic", "bspline")
)
ZEROS, BORDER, REFLECTION, CIRCULAR = (
    PADDING_MODES[name] for name in ("zeros", "border", "reflection", "circular")
)
#: The modes of four taps along an axis.
CUBIC_MODES = BICUBIC, BSPLINE
#: The numbers that PyTorch's ops take, too.
TORCH_MODES = BILINEAR, NEAREST, BICUBIC
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
        return (
            self.interpolation_mode in TORCH_MODES
            and self.padding_mode in TORCH_PADDING_MODES
            and self[3:] == USUAL_LATER
        )

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
warp = torch.ops.gridsample_ext.warp.default
warp_backward = torch.ops.gridsample_ext.warp_backward.default
spline_filter = torch.ops.gridsample_ext.spline_filter.default
OPS = (
    grid_sample,
    grid_sample_backward,
    grid_sample_jvp,
    grid_sample_double_backward,
    sample_labels,
    warp,
    warp_backward,
    spline_filter,
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


def all_of(names: Iterable[str]) -> str:
    """The names as "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}"


def as_int64(label: int | None) -> int | None:
    """As the ops take labels: those above int64's as the negative numbers of their bits."""
    return label - 2**64 if label is not None and label >= 2**63 else label
