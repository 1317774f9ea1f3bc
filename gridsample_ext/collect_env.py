"""``python -m gridsample_ext.collect_env``: what to paste into a bug report."""

import os
import platform
import sys
from pathlib import Path

import torch

from gridsample_ext import _C, __version__, _ops


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cuda_library() -> str:
    """Whether the library of CUDA kernels is there and loaded, and if not, why."""
    present = "present" if _ops.CUDA_LIBRARY.exists() else "absent"
    error = _ops.cuda_library_error()
    if error is None:
        return f"{present}, loaded"
    return f"{present}, not loaded: {error}; CUDA tensors use torch.nn.functional.grid_sample"


def collect_env() -> dict[str, str]:
    """Versions and settings that results and speed depend on, in the order to be printed."""
    build = _C.build_info()
    return {
        "gridsample_ext": __version__,
        "PyTorch": torch.__version__,
        "PyTorch built against": build["torch_built_with"],
        "Python": sys.version.split()[0],
        "platform": platform.platform(),
        "CPU": _cpu_model(),
        "compiler": build["compiler"],
        "instruction set": build["isa"],
        "instruction set forced": build["isa_forced"] or "no (GRIDSAMPLE_EXT_ISA is not set)",
        "instruction sets supported": ", ".join(build["isa_supported"]),
        "vector gathers": "used" if build["fast_gathers"] else "not used",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} logical cores",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "PyTorch's CUDA": torch.version.cuda or "none",
        "CUDA available": str(torch.cuda.is_available()),
        "CUDA library": _cuda_library(),
    }


def slow_settings() -> list[str]:
    """What makes calls slow in the present set-up, and how to change it: a sentence each."""
    build = _C.build_info()
    advice = []
    cores = os.cpu_count() or 1
    if torch.get_num_threads() == 1 and cores > 1:
        advice.append(
            f"Calls use one thread of {cores} cores. torch.set_num_threads() gives them more, or "
            "the environment variable OMP_NUM_THREADS, if it is set before the program starts."
        )
    best = build["isa_supported"][-1]
    if build["isa_forced"] is not None and build["isa"] != best:
        advice.append(
            f"GRIDSAMPLE_EXT_ISA forces the kernels for {build['isa']}, and this CPU supports "
            f"{best}. Unset the variable."
        )
    if torch.cuda.is_available() and (why := _ops.cuda_library_error()) is not None:
        advice.append(f"CUDA tensors are sampled by PyTorch's kernels: {why}.")
    return advice


def main() -> None:
    """Print it, a line each, and what is slow."""
    facts = collect_env()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    for sentence in slow_settings():
        print(f"\nSlow: {sentence}")


if __name__ == "__main__":
    main()
