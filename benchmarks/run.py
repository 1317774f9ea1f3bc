"""Times gridsample_ext against other implementations: ``make bench``, ``make bench-quick``.

Every case is verified before it is timed. The implementations take turns, call by call, in one
process, so that whatever else the machine does falls on all of them; what counts is the ratio of
the medians. Results go to a JSON file with the environment; report.py makes tables and figures of
it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case, quick, sizes, small_calls, survey
from derivatives import FUNCTIONS, KINDS, RESULTS, added_at_peak, derivative_cases, stock_has
from peers import Peer, installed_peers
from rounds import rounds
from torch import Tensor
from tqdm import tqdm

import gridsample_ext
from gridsample_ext import _C
from gridsample_ext.collect_env import collect_env

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import reference

Call = Callable[[], object]
Timing = dict[str, float]

# Relative to the largest value: rounding of inputs and sums of a few dozen terms.
TOLERANCES = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
OURS, STOCK = "gridsample_ext", "F.grid_sample"


def stock_supports(case: Case) -> bool:
    """PyTorch has had 5-D bicubic since 2.15."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return version >= (2, 15) or case.dims == 2 or case.mode != "bicubic"


def forward_and_backward(
    function: Callable[..., Tensor], case: Case, input: Tensor, grid: Tensor, grad: Tensor
) -> tuple[Call, Call, Callable[[], list[Tensor]]]:
    """Calls to be timed: the forward pass, the backward pass (both gradients); and all results."""
    leaves = [input.detach().clone().requires_grad_(), grid.detach().clone().requires_grad_()]
    output = function(*leaves, **case.options)

    def forward() -> Tensor:
        return function(input, grid, **case.options)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(output, leaves, grad, retain_graph=True)

    return forward, backward, lambda: [forward(), *backward()]


def check_close(
    case: Case, what: str, ours: Tensor, oracle: Tensor, tolerance: float | None = None
) -> None:
    """Stops the benchmark when a result is wrong."""
    scale = oracle.abs().max().clamp_min(1e-30)
    error = ((ours.double() - oracle).abs().max() / scale).item()
    if not error <= (tolerance or TOLERANCES[case.dtype]):
        sys.exit(f"{case.name}: {what} is off by {error:.1e} of its largest value")


def verify(case: Case, results: list[Tensor], input: Tensor, grid: Tensor, grad: Tensor) -> Tensor:
    """Compare output and gradients with float64; returns the output in float64."""
    exact = input.double(), grid.double(), grad.double()
    if stock_supports(case):
        oracle = forward_and_backward(F.grid_sample, case, *exact)[2]()
        for name, ours, theirs in zip(
            ("output", "grad_input", "grad_grid"), results, oracle, strict=True
        ):
            check_close(case, name, ours, theirs)
        return oracle[0]
    # A few samples by the plain-loop reference; all of grad_input by linearity in the input.
    points = torch.randperm(grid[0, ..., 0].numel())[:16]
    some_grid = exact[1].flatten(1, -2)[:, points][:, None, None]
    some_grad = exact[2].flatten(2)[..., points][:, :, None, None]
    options = (case.mode, case.padding_mode, False)
    output = reference.grid_sample(exact[0], some_grid, *options)
    grad_grid = reference.grid_sample_backward(some_grad, exact[0], some_grid, *options)[1]
    check_close(case, "output", results[0].flatten(2)[..., points], output.flatten(2))
    check_close(case, "grad_grid", results[2].flatten(1, -2)[:, points], grad_grid.flatten(1, -2))
    products = (results[1].double() * exact[0]).sum(), (results[0].double() * exact[2]).sum()
    check_close(case, "grad_input", products[0], products[1])
    return results[0].double()


def interleaved(calls: dict[str, Call], seconds: float, least: int = 5) -> dict[str, Timing]:
    """Seconds of each call, median and spread, taking turns for about ``seconds`` in all.

    At least ``least`` rounds, but three are enough of calls that take many times ``seconds``.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in rounds(seconds, least):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    timings = {}
    for name, each in times.items():
        low, median, high = statistics.quantiles(each, n=4)
        timings[name] = {"median": median, "quartiles": [low, high], "least": min(each)}
    return timings


def copy_call(moved: int) -> Call:
    """A clone() that reads and writes ``moved`` bytes in all; it allocates, as the op does."""
    source = torch.zeros(max(1, moved // 8))
    return source.clone


def path(case: Case, direction: str, input: Tensor, grid: Tensor) -> dict[str, str]:
    """The path of each result of a pass, with the current number of threads."""
    plan = gridsample_ext.explain(input, grid, **case.options, backward=direction == "backward")
    return plan.paths


def measure(
    case: Case, all_threads: Iterable[int], peers: list[Peer], seconds: float, verified: bool = True
) -> list[dict[str, Any]]:
    """Timings of one case: a record for every direction and number of threads."""
    input, grid, grad = case.tensors()
    ours = forward_and_backward(gridsample_ext.grid_sample, case, input, grid, grad)
    output = verify(case, ours[2](), input, grid, grad) if verified else None
    passes = {"forward": {OURS: ours[0]}, "backward": {OURS: ours[1]}}
    if stock_supports(case):
        stock = forward_and_backward(F.grid_sample, case, input, grid, grad)
        passes["forward"][STOCK], passes["backward"][STOCK] = stock[:2]
    records = []
    for threads in all_threads:
        torch.set_num_threads(threads)
        for direction, implementations in passes.items():
            record = {
                "case": {**dataclasses.asdict(case), "dtype": str(case.dtype)[6:]},
                "name": case.name,
                "bytes_moved": case.bytes_moved(direction),
                "direction": direction,
                "threads": threads,
                "path": path(case, direction, input, grid),
                "seconds": interleaved(implementations, seconds),
            }
            records.append(record)
            if threads == max(all_threads):
                copies = {"copy": copy_call(case.bytes_moved(direction))}
                record["seconds"] |= interleaved(copies, seconds / 8)
            if direction == "forward" and threads == max(all_threads):
                calls = {}
                for peer in peers:
                    if peer.supports(case):
                        calls[peer.name] = call = peer.prepare(case, input, grid, threads)
                        result = peer.to_tensor(case, call())
                        check_close(case, peer.name, result, output, peer.tolerance)
                if calls:
                    record["beside_peers"] = interleaved(
                        {OURS: implementations[OURS], **calls}, seconds * 1.5
                    )
    return records


def measure_small_call(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A whole call of the public function: alone, with a gradient to be recorded, and backward."""
    input, grid, grad = case.tensors()
    torch.set_num_threads(1)
    leaves = [tensor.clone().requires_grad_() for tensor in (input, grid)]
    functions = {OURS: gridsample_ext.grid_sample, STOCK: F.grid_sample}

    def call(function: Callable[..., Tensor], *tensors: Tensor) -> Call:
        return lambda: function(*tensors, align_corners=False)

    def step(function: Callable[..., Tensor]) -> Call:
        forward = call(function, *leaves)
        return lambda: torch.autograd.grad(forward(), leaves, grad)

    kinds = {
        "no gradient": lambda function: call(function, input, grid),
        "gradient": lambda function: call(function, *leaves),
        "forward and backward": step,
    }
    forward = path(case, "forward", input, grid)
    backward = path(case, "backward", input, grid)
    return [
        {
            "name": f"{case.name}, {kind}",
            "path": forward | backward if make is step else forward,
            "seconds": interleaved(
                {name: make(function) for name, function in functions.items()},
                seconds,
                least=2000,
            ),
        }
        for kind, make in kinds.items()
    ]


def peak_memory(case: Case, what: str, implementation: str) -> int | None:
    """Bytes that a call adds at its peak, in a process of its own; None where that is unknown."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    context = multiprocessing.get_context("forkserver")  # PyTorch is imported once for all
    context.set_forkserver_preload(["torch", "gridsample_ext"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(added_at_peak, case.name, what, implementation).result()


def measure_derivatives(case: Case, threads: int, seconds: float) -> list[dict[str, Any]]:
    """A gradient-penalty step and forward mode: time, and memory at the peak."""
    torch.set_num_threads(threads)
    tensors = case.tensors()
    exact = [tensor.double() for tensor in tensors]
    records = []
    for what, make in KINDS.items():
        names = [OURS, STOCK] if stock_has(what, case) else [OURS]
        calls = {name: make(FUNCTIONS[name], case, *tensors) for name in names}
        for ours, oracle in zip(
            calls[OURS](), make(FUNCTIONS[names[-1]], case, *exact)(), strict=True
        ):
            check_close(case, what, ours, oracle, 1e-3)
        calls[OURS]()
        taken = _C.executed_paths()
        records.append(
            {
                "case": {**dataclasses.asdict(case), "dtype": str(case.dtype)[6:]},
                "name": case.name,
                "direction": what,
                "threads": threads,
                "path": {result: taken[result] for result in RESULTS[what]},
                "seconds": interleaved(calls, seconds, least=3),
                "peak_bytes": {name: peak_memory(case, what, name) for name in names},
            }
        )
    return records


def line(record: dict[str, Any]) -> str:
    """What the progress shows of a record."""
    seconds = record["seconds"]
    text = f"{record['name']:<72} {record.get('direction', 'call'):<12} "
    text += f"{record.get('threads', 1)} thr  {seconds[OURS]['median'] * 1e3:9.3f} ms"
    for group in (seconds, record.get("beside_peers", {})):
        for name, timing in group.items():
            if name != OURS:
                text += f"  {name} x{timing['median'] / group[OURS]['median']:.2f}"
    return text


def main() -> None:
    """Run and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--quick", action="store_true", help="a cross-section, below a minute")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=0.12, help="per case, pass and threads")
    parser.add_argument("--derivatives", action="store_true", help="second derivatives alone")
    parser.add_argument("--no-peers", action="store_true", help="PyTorch's own only")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()

    all_threads = sorted({1, arguments.threads})
    peers = [] if arguments.no_peers or arguments.quick else installed_peers()
    results: dict[str, Any] = {
        "environment": collect_env(),
        "peers": [peer.name for peer in peers],
        "threads": arguments.threads,
        "survey": [],
        "sizes": [],
        "small_calls": [],
        "derivatives": [],
    }

    def save() -> None:
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")

    cases = [] if arguments.derivatives else quick() if arguments.quick else survey()
    chosen = [case for case in cases if arguments.only in case.name]
    for case in tqdm(chosen, leave=False, unit="case"):
        for record in measure(case, all_threads, peers, arguments.seconds):
            results["survey"].append(record)
            tqdm.write(line(record))
        save()  # after every case, so that what is done outlasts a crash
    if not arguments.quick:
        for case in tqdm(derivative_cases(), leave=False, unit="case"):
            if arguments.only in case.name:
                for record in measure_derivatives(case, arguments.threads, arguments.seconds):
                    results["derivatives"].append(record)
                    tqdm.write(line(record))
    if not (arguments.quick or arguments.only or arguments.derivatives):
        for case in tqdm(sizes(), leave=False, unit="case"):
            results["sizes"] += measure(case, all_threads, [], arguments.seconds)
    for case in [] if arguments.derivatives else small_calls():
        results["small_calls"] += measure_small_call(case, arguments.seconds)
        for record in results["small_calls"]:
            tqdm.write(line(record))
    save()
    if arguments.out:
        print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
