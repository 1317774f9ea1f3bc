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
kernel_stack: int

def build_info() -> BuildInfo: ...
