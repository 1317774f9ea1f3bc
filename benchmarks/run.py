"""Times gridsample_ext against other implementations on the CPU: ``make bench``.

Every case is verified before it is timed. The implementations take turns, call by call, in one
process, so that whatever else the machine does falls on all of them; what counts is the ratio of
the medians. Results go to a JSON file with the environment; report.py makes tables and figures of
it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial

import torch
from cases import Case
from derivatives import derivative_steps, peak_memory
from measure import (
    Batch,
    Device,
    Prepared,
    Results,
    add_arguments,
    batch_of,
    environment,
    interleaved,
    measure_all,
    rounded,
    step_calls,
    step_times,
)
from peers import Peer, installed_peers
from rows import OURS, RECORDED, Row
from sets import Member, chosen, sizes, small_calls, survey, types
from sides import cpu_sides
from steps import Step
from verify import TOLERANCES, verify_results

import gridsample_ext
from gridsample_ext import _C

MORE_SETS = {"derivatives": derivative_steps}  # measured if it is named
# Those of small calls first, on a machine that has just begun.
SETS = ["small-calls", "few-channels", "few-samples", "mixed-types", "training-steps"]
SETS += ["transforms", "volumes", "survey", "types", "sizes"]
CPU = Device()


def path(prepared: Prepared, direction: str) -> str:
    """The path of each result of a pass, with the current number of threads."""
    input, grid, _ = prepared.tensors
    options = prepared.case.options
    paths: list[str] = []
    if direction != "backward":
        paths += gridsample_ext.explain(input, grid, **options).paths.values()
    if direction in ("backward", "both"):
        paths += gridsample_ext.explain(input, grid, **options, backward=True).paths.values()
    return " / ".join(dict.fromkeys(paths))


def copied(moved: int, seconds: float) -> float:
    """Milliseconds of a clone() that reads and writes ``moved`` bytes in all.

    It allocates, as the op does.
    """
    source = torch.zeros(max(1, moved // 8))
    return interleaved({"copy": batch_of(source.clone)}, seconds, CPU)["copy"]


def beside_peers(
    prepared: Prepared, peers: list[Peer], threads: int, seconds: float
) -> dict[str, float]:
    """The forward pass of each peer: its time by ours, measured beside it."""
    case = prepared.case
    input, grid, _ = prepared.tensors
    ours = prepared.calls[OURS][1]
    exact = [ours.call("forward").double()]
    batches: dict[str, Batch] = {OURS: partial(ours.batch, "forward")}
    for peer in peers:
        if peer.supports(case):
            call = peer.prepare(case, input, grid, threads)
            result = peer.to_tensor(case, call())
            tolerance = peer.tolerance or TOLERANCES[case.dtype]
            verify_results(f"{case.name}: {peer.name}", [result], exact, tolerance)
            batches[peer.name] = batch_of(call)
    if len(batches) == 1:
        return {}
    times = interleaved(batches, seconds * 1.5, CPU)
    mine = times.pop(OURS)
    return {name: rounded(value / mine) for name, value in times.items()}


def case_rows(
    case: Case, all_threads: list[int], peers: list[Peer], seconds: float
) -> Iterator[Row]:
    """A row for each number of threads; copies and peers with the most threads only."""
    prepared = Prepared(case, cpu_sides(), CPU)
    small = case in small_calls()
    for threads in all_threads:
        torch.set_num_threads(threads)
        last = threads == all_threads[-1]
        row: Row = {"case": case.name, "threads": threads}
        for direction in ("forward", RECORDED, "both") if small else ("forward", "backward"):
            row[direction] = {
                "path": path(prepared, direction),
                **prepared.timed(direction, seconds),
            }
            if last and not small:
                row[direction]["copy"] = copied(case.bytes_moved(direction), seconds / 8)
        if last:
            row |= prepared.not_timed
            others = beside_peers(prepared, peers, threads, seconds)
            row |= {"peers": others} if others else {}
        yield row


def step_rows(step: Step, all_threads: list[int], seconds: float) -> Iterator[Row]:
    """A row for each number of threads."""
    calls = step_calls(step, CPU)
    for threads in all_threads:
        torch.set_num_threads(threads)
        calls[OURS]()
        taken = _C.executed_paths()  # by the last call of the sampler, if the step has several
        times = step_times(calls, seconds, CPU)
        paths = dict.fromkeys(taken[name] for name in step.computed)
        yield {"case": step.name, "threads": threads, "both": {"path": " / ".join(paths), **times}}


def derivative_rows(step: Step, threads: int, seconds: float) -> Iterator[Row]:
    """One row, with the memory at the peak."""
    for row in step_rows(step, [threads], seconds):
        sides = [side.name for side in cpu_sides() if side.name in row["both"]]
        yield row | {"peak_bytes": {name: peak_memory(step.name, name) for name in sides}}


def rows_of(member: Member, arguments: argparse.Namespace, peers: list[Peer]) -> Iterator[Row]:
    """Measure a case or a step."""
    threads, seconds = sorted(set(arguments.threads)), arguments.seconds
    if isinstance(member, Case):
        others = peers if member in survey() else []
        some = threads[-1:] if member in types() + sizes() else threads
        return case_rows(member, some, others, seconds)
    if member.name in {step.name for step in derivative_steps()}:
        return derivative_rows(member, threads[-1], seconds)
    return step_rows(member, threads, seconds)


def main(argv: list[str] | None = None) -> None:
    """Run and write the JSON file."""
    most = torch.get_num_threads()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, SETS, seconds=0.05, more=list(MORE_SETS))
    parser.add_argument("--no-peers", action="store_true", help="PyTorch's own only")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=sorted({1, min(2, most), most}),
        help="numbers of threads; 1, 2 and all if none is given",
    )
    arguments = parser.parse_args(argv)
    peers = [] if arguments.no_peers else installed_peers()
    facts = {"environment": environment(), "peers": [peer.name for peer in peers]}
    facts |= {"threads": max(arguments.threads), "seconds_per_pass": arguments.seconds}
    members = chosen(arguments.sets, arguments.only, **MORE_SETS)
    if not members:
        sys.exit(f"no case's name contains {arguments.only!r}")
    results = Results(arguments.out, facts)
    measure_all(members, lambda member: rows_of(member, arguments, peers), results)
    if arguments.out:
        print(f"wrote {arguments.out}")
    sys.exit("\n".join(results.errors.values()) or None)


if __name__ == "__main__":
    main()
