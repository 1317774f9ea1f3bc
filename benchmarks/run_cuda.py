"""Times gridsample_ext against PyTorch on an NVIDIA GPU: ``make bench-cuda``.

Every side is compared with float64 before it is timed. Sides take turns, batch by batch of calls
between two CUDA events, in one process. Where a case is small, batches rotate through copies of its
tensors that exceed the L2 cache together. Results go to a JSON file after every case; report.py
makes tables of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cases import Case, gpu_quick, gpu_survey
from cuda_sides import (
    Calls,
    DisagreementError,
    Side,
    Tensors,
    explain,
    oracle_of,
    sides_of,
    verify_all,
)
from gpu_check import scrub
from report import OURS, PASSES, cuda_peers_table, cuda_summary
from rounds import rounds

from gridsample_ext import _ops
from gridsample_ext.collect_env import collect_env

Timing = dict[str, Any]

ROTATED = 3  # times the L2 cache: how much the copies that batches rotate through make up
MOST_SETS = 32
MOST_CALLS = 2000  # in a batch
ROUNDS = 10  # that the time for a pass is meant for
# What is compared of a pass; "both" does what the two others do.
RESULTS = {"forward": ("output",), "backward": ("grad_input", "grad_grid"), "both": ()}


@dataclass(frozen=True)
class Device:
    """What runs and times the calls: the current CUDA device, or the CPU in tests of this file."""

    type: str = "cuda"

    @property
    def cache_bytes(self) -> int:
        """Size of the cache that rotation has to defeat."""
        if self.type == "cpu":
            return 1 << 16
        return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size

    @property
    def copied_bytes(self) -> int:
        """Size of the copy that bandwidth is measured by: far more than the cache."""
        return 1 << 22 if self.type == "cpu" else min(1 << 30, torch.cuda.mem_get_info()[0] // 8)

    def seconds(self, run: Callable[[], object]) -> float:
        """Time between two events around ``run()``."""
        if self.type == "cpu":
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def summarize(times: list[float]) -> Timing:
    """Median, quartiles and least."""
    low, median, high = statistics.quantiles(times, n=4)
    return {"median": median, "quartiles": [low, high], "least": min(times)}


def interleaved(
    batches: dict[str, Callable[[int], object]], seconds: float, device: Device, least: int = 5
) -> dict[str, Timing]:
    """Seconds of a call, by side: batches take turns for about ``seconds`` in all.

    At least ``least`` rounds, but three are enough of calls that take many times ``seconds``.
    """
    slot = seconds / (ROUNDS * len(batches))
    counts = {}
    for name, batch in batches.items():
        batch(1)
        count, passed = 1, device.seconds(lambda batch=batch: batch(1))
        # A second estimate from several calls, which are the warm-up as well.
        if passed < slot:
            several = min(20, max(3, int(slot / max(passed, 1e-7))))
            passed = device.seconds(lambda batch=batch, several=several: batch(several)) / several
            count = min(MOST_CALLS, max(1, round(slot / max(passed, 1e-7))))
        counts[name] = count
    times: dict[str, list[float]] = {name: [] for name in batches}
    for _ in rounds(seconds, least):
        for name, batch in batches.items():
            count = counts[name]
            total = device.seconds(lambda batch=batch, count=count: batch(count))
            times[name].append(total / count)
    return {
        name: summarize(each) | {"calls": counts[name], "rounds": len(times[name])}
        for name, each in times.items()
    }


def copy_rate(device: Device, seconds: float) -> float:
    """Bytes read and written in a second by a large copy within the device."""
    source = torch.empty(device.copied_bytes // 4, device=device.type).uniform_()
    target = torch.empty_like(source)

    def batch(count: int) -> None:
        for _ in range(count):
            target.copy_(source)

    timing = interleaved({"copy": batch}, seconds, device)["copy"]
    return 2 * source.nbytes / timing["median"]


def sets_of(case: Case, tensors: Tensors, cache_bytes: int) -> list[Tensors]:
    """The tensors, and copies of them until all exceed the cache."""
    wanted = math.ceil(ROTATED * cache_bytes / case.bytes_moved())
    copies = max(1, min(MOST_SETS, wanted)) - 1
    return [tensors, *(tuple(tensor.clone() for tensor in tensors) for _ in range(copies))]


def measure(
    case: Case, device: Device, seconds: float, rate: float, sides: list[Side] | None = None
) -> list[dict[str, Any]]:
    """Verify all sides, then time them: a record for each pass."""
    tensors = case.tensors(device=device.type)
    oracle = oracle_of(case, tensors)
    verdicts = verify_all(sides_of(case) if sides is None else sides, oracle)
    rows = oracle.rows
    del oracle
    sets = sets_of(case, tensors, device.cache_bytes)
    runs = {}
    for verdict in verdicts:
        side = verdict.side
        wanted = [name for name in side.passes if name not in verdict.not_timed]
        if wanted:
            runs[side.name] = wanted, Calls(side, case, sets)
    records = []
    for direction in PASSES:
        batches = {
            name: lambda count, calls=calls, direction=direction: calls.batch(direction, count)
            for name, (wanted, calls) in runs.items()
            if direction in wanted
        }
        moved = case.bytes_moved(direction)
        timings = interleaved(batches, seconds, device)
        records.append(
            {
                "case": {**dataclasses.asdict(case), "dtype": str(case.dtype)[6:]},
                "name": case.name,
                "direction": direction,
                "bytes_moved": moved,
                "sets": len(sets),
                "rows_verified": rows,
                "seconds": timings,
                "of_copy": {
                    name: moved / timing["median"] / rate for name, timing in timings.items()
                },
                "errors": {
                    verdict.side.name: printable(verdict.errors, RESULTS[direction])
                    for verdict in verdicts
                },
                "not_timed": {
                    verdict.side.name: verdict.not_timed[direction]
                    for verdict in verdicts
                    if direction in verdict.not_timed and direction in verdict.side.passes
                },
            }
        )
        for _, calls in runs.values():
            calls.forget()
    return records


def printable(errors: dict[str, float], names: tuple[str, ...]) -> dict[str, float | str]:
    """Those of some results; NaN and infinity, which JSON lacks, as text."""
    some = {name: errors[name] for name in names if name in errors}
    return {name: error if math.isfinite(error) else str(error) for name, error in some.items()}


def line(record: dict[str, Any]) -> str:
    """What the progress shows of a record."""
    seconds = record["seconds"]
    text = f"{record['name']:<76} {record['direction']:<8} "
    text += f"{seconds[OURS]['median'] * 1e3:9.4f} ms {record['of_copy'][OURS]:5.0%} of copy"
    for name, timing in seconds.items():
        if name != OURS:
            text += f"  {name} x{timing['median'] / seconds[OURS]['median']:.2f}"
    for name, reason in record["not_timed"].items():
        if not reason.startswith("same kernel"):
            text += f"  ({name}: {reason[:100]})"
    return text.replace("\n", " ")


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
    facts: dict[str, Any] = {name: scrub(value) for name, value in collect_env().items()}
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


def run(chosen: list[Case], device: Device, arguments: argparse.Namespace) -> dict[str, Any]:
    """All cases. The file is written after each, so that what is done outlasts a crash."""
    begin = time.perf_counter()
    rate = copy_rate(device, arguments.seconds)
    results: dict[str, Any] = {
        "environment": environment(device),
        "copy_bytes_per_second": rate,
        "seconds_per_pass": arguments.seconds,
        "survey": [],
        "left_out": {},
        "errors": {},
        "complete": False,
    }
    print(f"{len(chosen)} cases, {len(chosen) * len(PASSES)} passes; ", end="")
    print(f"a device copy moves {rate / 1e9:.0f} GB/s", flush=True)
    for number, case in enumerate(chosen, 1):
        if time.perf_counter() - begin > arguments.budget:
            results["left_out"][case.name] = f"the budget of {arguments.budget:.0f} s was spent"
            continue
        try:
            records = measure(case, device, arguments.seconds, rate)
        except DisagreementError as error:
            results["errors"][case.name] = str(error)
            print(f"[{number}/{len(chosen)}] WRONG: {error}", flush=True)
            save(results, arguments.out)
            continue
        except torch.OutOfMemoryError as error:
            results["left_out"][case.name] = explain(error)
            continue
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        results["survey"] += records
        for record in records:
            print(f"[{number}/{len(chosen)}] {line(record)}", flush=True)
        save(results, arguments.out)
    if device.type == "cuda":
        clocks = nvidia_smi("clocks.sm", "clocks.mem", "temperature.gpu")
        results["environment"]["clocks after the run"] = clocks
    results["complete"] = not results["errors"] and not results["left_out"]
    results["seconds"] = time.perf_counter() - begin
    save(results, arguments.out)
    return results


def save(results: dict[str, Any], path: Path | None) -> None:
    """Write the JSON file."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Run, write the JSON file and print geometric means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=0.3, help="per case and pass, all sides")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a cross-section, below a minute")
    parser.add_argument(
        "--budget", type=float, default=230, help="no case is begun after so many seconds"
    )
    parser.add_argument(
        "--environment", action="store_true", help="print the environment as JSON, and stop"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)

    device = Device(arguments.device)
    why_not = why_not_ours(device)
    if arguments.environment:
        print(json.dumps(environment(device), indent=1), flush=True)
        sys.exit(why_not)
    if why_not:
        sys.exit(why_not)
    cases = gpu_quick() if arguments.quick else gpu_survey()
    chosen = [case for case in cases if arguments.only in case.name]
    if not chosen:
        sys.exit(f"no case's name contains {arguments.only!r}")
    results = run(chosen, device, arguments)
    if results["survey"]:
        print(f"\n{cuda_summary(results['survey'])}\n\n{cuda_peers_table(results['survey'])}")
    for name, reason in results["left_out"].items():
        print(f"left out: {name}: {reason}")
    print(f"{results['seconds']:.0f} s" + (f", wrote {arguments.out}" if arguments.out else ""))
    sys.exit("\n".join(results["errors"].values()) or None)


if __name__ == "__main__":
    main()
