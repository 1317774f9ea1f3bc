from collections.abc import Sequence
from typing import TypedDict

class BuildInfo(TypedDict):
    compiler: str
    cxx_standard: int
    torch_built_with: str
    isa: str
    isa_forced: str | None
    isa_supported: list[str]
    fast_gathers: bool

MODES: dict[str, int]
PADDING_MODES: dict[str, int]
PADDING_PER_AXIS: int
BITS_OF_PADDING: int
USUAL_CUBIC: float
kernel_stack: int

def build_info() -> BuildInfo: ...

# Sizes, strides, dtype, and whether results are channels-last.
_Facts = tuple[Sequence[int], Sequence[int], str, bool]

class Plan(TypedDict):
    paths: dict[str, str]
    reasons: dict[str, str]
    instruction_set: str
    threads: int
    scratch_bytes: dict[str, int]
    split: dict[str, int]

def explain(
    op: str,
    input: _Facts,
    grid: _Facts,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    pixel_coordinates: bool = False,
    fill_value: float = 0.0,
    outside_value: float | None = None,
    cubic_coefficient: float = ...,
    *,
    tangent_input: _Facts | None = None,
    moves_grid: bool = False,
    wanted: tuple[bool, bool] = (True, True),
    scattered: bool = False,
    grid_address: int = 0,
    threads: int = 0,
    without: Sequence[str] = (),
) -> Plan: ...
def executed_paths() -> dict[str, str]: ...
def all_paths() -> dict[str, list[str]]: ...
