"""Times gridsample_ext against PyTorch on an NVIDIA GPU: ``make bench-cuda``.

Every side is compared with float64 before it is timed. Sides take turns, batch by batch of calls
between two CUDA events, in one process. Where a case is small, batches rotate through copies of its
tensors that exceed the L2 cache together. Results go to a JSON file after every case; report.py
makes tables of it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import measure
import torch
from cases import Case
from gpu_check import scrub
from measure import (
    Device,
    Prepared,
    Results,
    add_arguments,
    batch_of,
    interleaved,
    measure_all,
    step_calls,
    step_times,
)
from report import cells_of, sets_table, sides_table
from rows import PASSES, RECORDED, Row
from sets import Member, chosen, small_calls
from sides import cuda_sides
from steps import Step

from gridsample_ext import _ops

ROUNDS = 10  # that the time for a pass is meant for
SETS = ["large", "few-channels", "few-samples", "small-calls", "training-steps"]
SETS += ["mixed-types", "transforms", "volumes"]


class Cuda(Device):
    """The current CUDA device, where calls are queued in batches between two events."""

    type = "cuda"

    @property
    def cache_bytes(self) -> int:
        """Size of the L2 cache."""
        return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size

    def seconds(self, run: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def slot(self, seconds: float) -> float:
        return seconds / ROUNDS


def copy_rate(device: Device, seconds: float) -> float:
    """Bytes read and written in a second by a large copy within the device."""
    on_cuda = device.type == "cuda"
    size = min(1 << 30, torch.cuda.mem_get_info()[0] // 8) if on_cuda else 1 << 22
    source = torch.empty(size // 4, device=device.type).uniform_()
    target = torch.empty_like(source)
    times = interleaved({"copy": batch_of(lambda: target.copy_(source))}, seconds, device)
    return 2 * source.nbytes / (times["copy"] / 1e3)


def case_rows(case: Case, device: Device, seconds: float) -> Iterator[Row]:
    """The row of a case."""
    prepared = Prepared(case, cuda_sides(case), device)
    row: Row = {"case": case.name}
    for direction in ("forward", RECORDED, "both") if case in small_calls() else PASSES:
        row[direction] = prepared.timed(direction, seconds)
    yield row | prepared.not_timed
    del prepared
    if device.type == "cuda":
        torch.cuda.empty_cache()


def step_rows(step: Step, device: Device, seconds: float) -> Iterator[Row]:
    """The row of a training step."""
    yield {"case": step.name, "both": step_times(step_calls(step, device), seconds, device)}


def rows_of(member: Member, device: Device, seconds: float) -> Iterator[Row]:
    """Measure a case or a step."""
    if isinstance(member, Case):
        return case_rows(member, device, seconds)
    return step_rows(member, device, seconds)


def nvidia_smi(*fields: str) -> dict[str, str]:
    """Facts that only the driver's tool tells; it is asked, and sets nothing."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    command.append(f"--id=GPU-{uuid.removeprefix('GPU-')}")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        values = answer.stdout.strip().splitlines()[0].split(", ")
        return dict(zip(fields, values, strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return dict.fromkeys(fields, "unknown")


def environment(device: Device) -> dict[str, Any]:
    """What speed depends on, without anything that names the machine or its user."""
    facts = measure.environment()
    facts["cuDNN"] = str(torch.backends.cudnn.version() or "none")
    if device.type == "cpu" or not torch.cuda.is_available():
        return facts | {"GPU": "none"}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    asked = nvidia_smi("driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit")
    return facts | {
        "GPU": properties.name,
        "driver": asked["driver_version"],
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory, bytes": properties.total_memory,
        "L2 cache, bytes": properties.L2_cache_size,
        "largest clock, multiprocessors": asked["clocks.max.sm"],
        "largest clock, memory": asked["clocks.max.mem"],
        "power limit": asked["power.limit"],
    }


def why_not_ours(device: Device) -> str | None:
    """Why there is nothing to be timed here, or None."""
    if device.type == "cpu":
        return None
    if not torch.cuda.is_available():
        return "no CUDA device: torch.cuda.is_available() is False"
    error = _ops.cuda_library_error()
    return error and scrub(f"the CUDA kernels are not loaded: {error}")


def main(argv: list[str] | None = None) -> None:
    """Run, write the JSON file and print geometric means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, SETS, seconds=0.2)
    parser.add_argument(
        "--budget", type=float, default=math.inf, help="no case is begun after so many seconds"
    )
    parser.add_argument(
        "--environment", action="store_true", help="print the environment as JSON, and stop"
    )
    # The logic without a GPU, for tests.
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)

    device = Cuda() if arguments.device == "cuda" else Device()
    why_not = why_not_ours(device)
    if arguments.environment:
        print(json.dumps(environment(device), indent=1), flush=True)
        sys.exit(why_not)
    if why_not:
        sys.exit(why_not)
    members = chosen(arguments.sets, arguments.only)
    if not members:
        sys.exit(f"no case's name contains {arguments.only!r}")
    rate = copy_rate(device, arguments.seconds)
    facts = {
        "environment": environment(device),
        "copy_bytes_per_second": rate,
        "seconds_per_pass": arguments.seconds,
    }
    print(f"{len(members)} cases; a device copy moves {rate / 1e9:.0f} GB/s", flush=True)
    results = Results(arguments.out, facts)
    measure_all(
        members,
        lambda member: rows_of(member, device, arguments.seconds),
        results,
        arguments.budget,
    )
    if device.type == "cuda":
        clocks = nvidia_smi("clocks.sm", "clocks.mem", "temperature.gpu")
        facts["environment"]["clocks after the run"] = clocks
        results.save()
    if results.rows:
        cells = cells_of(results.rows, rate)
        print(f"\n{sets_table(cells)}\n\n{sides_table(cells)}")
    for name, reason in results.left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"{facts['seconds']:.0f} s" + (f", wrote {arguments.out}" if arguments.out else ""))
    sys.exit("\n".join(results.errors.values()) or None)


if __name__ == "__main__":
    main()
