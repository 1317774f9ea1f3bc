"""Times verified calls in turn, and writes rows to a file: what the CPU and CUDA have in common.

A row is of one case and one number of threads. It has the milliseconds of every side, by pass, and
on the CPU the path that ours took.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import Case
from gpu_check import scrub
from progress import progress, write
from rows import OURS, STOCK, Row, passes_of, save
from sets import SETS, Member
from sides import Calls, Side, Tensors, cpu_sides
from steps import Step
from torch import Tensor
from verify import (
    SAME_KERNEL,
    DisagreementError,
    explain,
    oracle_of,
    verify_all,
    verify_results,
)

from gridsample_ext.collect_env import collect_env

Batch = Callable[[int], object]

ROTATED = 3  # times the cache: how much the copies that batches rotate through make up
MOST_SETS = 32
MOST_CALLS = 2000  # in a batch


class Device:
    """What runs and times the calls: the CPU, where sides take turns call by call.

    Calls that are too short for the clock make a batch.
    """

    type = "cpu"

    @property
    def cache_bytes(self) -> int:
        """Size of the cache that rotation has to defeat."""
        return 0

    def seconds(self, run: Callable[[], object]) -> float:
        """Time of ``run()``."""
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def slot(self, seconds: float) -> float:
        """How long a batch should take, of so many seconds for each side."""
        return min(20e-6, seconds)


def rounds(seconds: float, least: int) -> Iterator[int]:
    """Numbers of rounds, from 1, for about ``seconds`` in all.

    At least ``least`` rounds, but three are enough of calls that take many times ``seconds``.
    """
    begin = time.perf_counter()
    done = 0
    while True:
        passed = time.perf_counter() - begin
        enough = done >= least and passed >= seconds
        if enough or (done >= 3 and passed >= 10 * seconds):
            return
        done += 1
        yield done


def calls_in_a_batch(batch: Batch, slot: float, device: Device) -> int:
    """As many as fill the slot. Calls it a few times, which is the warm-up as well."""
    batch(1)
    passed = device.seconds(lambda: batch(1))
    if passed >= slot:
        return 1
    several = min(20, max(3, int(slot / max(passed, 1e-7))))
    passed = device.seconds(lambda: batch(several)) / several
    return min(MOST_CALLS, max(1, round(slot / max(passed, 1e-7))))


def interleaved(
    batches: dict[str, Batch], seconds: float, device: Device, least: int = 5
) -> dict[str, float]:
    """Milliseconds of a call, by side: the medians of batches in turn, ``seconds`` in all.

    At least ``least`` rounds, but three are enough of calls that take many times ``seconds``.
    """
    slot = device.slot(seconds / len(batches)) if batches else 0.0
    counts = {name: calls_in_a_batch(batch, slot, device) for name, batch in batches.items()}
    times: dict[str, list[float]] = {name: [] for name in batches}
    for _ in rounds(seconds, least) if batches else ():
        for name, batch in batches.items():
            total = device.seconds(partial(batch, counts[name]))
            times[name].append(total / counts[name])
    return {name: rounded(1e3 * statistics.median(each)) for name, each in times.items()}


def rounded(value: float) -> float:
    """Four digits, which is more than a measurement has."""
    return float(f"{value:.4g}")


def batch_of(call: Callable[[], object]) -> Batch:
    """So many calls, one after the other."""

    def batch(count: int) -> None:
        for _ in range(count):
            call()

    return batch


def sets_of(case: Case, tensors: Tensors, cache_bytes: int) -> list[Tensors]:
    """The tensors, and copies of them until all exceed the cache."""
    wanted = math.ceil(ROTATED * cache_bytes / case.bytes_moved())
    copies = max(1, min(MOST_SETS, wanted)) - 1
    return [tensors, *(tuple(tensor.clone() for tensor in tensors) for _ in range(copies))]


class Prepared:
    """A case of which all sides have been verified, ready to be timed."""

    def __init__(self, case: Case, sides: list[Side], device: Device) -> None:
        self.case, self.device = case, device
        self.tensors = case.tensors(device=device.type)
        self.verdicts = verify_all(sides, oracle_of(case, self.tensors))
        sets = sets_of(case, self.tensors, device.cache_bytes)
        self.calls: dict[str, tuple[list[str], Calls]] = {}
        for verdict in self.verdicts:
            side = verdict.side
            passes = [name for name in side.passes if name not in verdict.not_timed]
            if passes:
                self.calls[side.name] = passes, Calls(side, case, sets)

    def timed(self, direction: str, seconds: float) -> dict[str, float]:
        """Milliseconds of a pass, by side."""
        batches = {
            name: partial(calls.batch, direction)
            for name, (passes, calls) in self.calls.items()
            if direction in passes
        }
        times = interleaved(batches, seconds, self.device)
        for _, calls in self.calls.values():
            calls.forget()
        return times

    @property
    def not_timed(self) -> Row:
        """For a row: the sides that some pass is not timed of, and why, if there are any."""
        reasons = {
            verdict.side.name: next(iter(verdict.not_timed.values()))
            for verdict in self.verdicts
            if verdict.not_timed
        }
        told = {name: reason for name, reason in reasons.items() if reason != SAME_KERNEL}
        return {"not_timed": told} if told else {}


def step_calls(step: Step, device: Device) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Calls of a step with each sampler; of PyTorch's, if it can be done with it."""
    torch.manual_seed(0)
    tensors = [tensor.to(device.type) for tensor in step.tensors()]
    exact = [tensor.double() for tensor in tensors]
    samplers = {side.name: side.function for side in cpu_sides()}
    try:
        expected = step.run(samplers[STOCK], *exact)
    except RuntimeError:  # before 2.15 PyTorch has neither tricubic sampling nor forward mode
        del samplers[STOCK]
        expected = step.run(samplers[OURS], *exact)
    calls = {name: partial(step.run, sampler, *tensors) for name, sampler in samplers.items()}
    for name, call in calls.items():
        verify_results(f"{step.name}: {name}", call(), expected, step.tolerance)
    return calls


def step_times(
    calls: dict[str, Callable[[], Any]], seconds: float, device: Device
) -> dict[str, float]:
    """Milliseconds of a step, by sampler."""
    batches = {name: batch_of(call) for name, call in calls.items()}
    return interleaved(batches, seconds, device, least=3)


def environment() -> dict[str, Any]:
    """What speed depends on, without anything that names the machine or its user."""
    return {name: scrub(value) for name, value in collect_env().items()}


@dataclass
class Results:
    """A file of facts and rows, a line each."""

    path: Path | None
    facts: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    def save(self) -> None:
        """Write the file."""
        facts = {**self.facts, "complete": self.complete}
        if self.path:
            save(self.path, facts | {"left_out": self.left_out, "errors": self.errors}, self.rows)


def measure_all(
    members: list[Member],
    rows_of: Callable[[Member], Iterable[Row]],
    results: Results,
    budget: float = math.inf,
) -> None:
    """Measure all. The file is written after each, so that what is done outlasts a crash."""
    begin = time.perf_counter()
    for member in progress(members, "case"):
        name = member.name
        if time.perf_counter() - begin > budget:
            results.left_out[name] = f"the budget of {budget:.0f} s was spent"
            continue
        try:
            for row in rows_of(member):
                results.rows.append(row)
                write(line(row))
        except DisagreementError as error:
            results.errors[name] = str(error)
            write(f"WRONG: {error}")
        except torch.OutOfMemoryError as error:
            results.left_out[name] = explain(error)
        results.save()
    results.complete = not results.errors and not results.left_out
    results.facts["seconds"] = round(time.perf_counter() - begin)
    results.save()


def line(row: Row) -> str:
    """What the progress shows of a row."""
    text = f"{row['case']:<72}"
    text += f" {row['threads']} thr" if "threads" in row else ""
    for name, times in passes_of(row).items():
        text += f"  {name} {times[OURS]:.3f} ms"
        for side, value in times.items():
            if side not in (OURS, "copy") and isinstance(value, float):
                text += f" {side} x{value / times[OURS]:.2f}"
    for name, reason in row.get("not_timed", {}).items():
        text += f"  ({name}: {reason[:100]})"
    return text.replace("\n", " ")


def add_arguments(
    parser: argparse.ArgumentParser, sets: list[str], seconds: float, more: Iterable[str] = ()
) -> None:
    """Those of both programs; ``sets`` are measured if none is named, ``more`` can be named."""
    names = sorted({*SETS, *more})
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=seconds, help="per pass, of all sides")
    parser.add_argument(
        "--sets",
        nargs="+",
        default=sets,
        choices=names,
        metavar="SET",
        help=f"of {', '.join(names)}; these if none: {', '.join(sets)}",
    )
