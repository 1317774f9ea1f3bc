"""Compares gridsample_ext with torch.nn.functional.grid_sample: ``make bench``.

Each case is verified against F.grid_sample in float64, then timed. The two implementations take
turns, call by call, in one process, so that whatever else the machine does falls on both; what is
reported is the ratio of the medians. A second table times ours with one thread and with all.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from cases import Case, first_table, thread_table
from torch import Tensor
from tqdm import tqdm

import gridsample_ext
from gridsample_ext.collect_env import collect_env

Call = Callable[[], object]

# Relative to the largest value: rounding of inputs and sums of a few dozen terms.
TOLERANCES = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}


def forward_and_backward(
    function: Callable[..., Tensor], case: Case, input: Tensor, grid: Tensor, grad: Tensor
) -> tuple[Call, Call, Callable[[], list[Tensor]]]:
    """Calls to be timed: the forward pass, the backward pass (both gradients); and all results."""
    options = {
        "mode": case.mode,
        "padding_mode": case.padding_mode,
        "align_corners": False,
    }
    leaves = [input.detach().clone().requires_grad_(), grid.detach().clone().requires_grad_()]
    output = function(*leaves, **options)

    def forward() -> Tensor:
        return function(input, grid, **options)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(output, leaves, grad, retain_graph=True)

    return forward, backward, lambda: [forward(), *backward()]


def verify(case: Case, results: Iterable[Tensor], expected: Iterable[Tensor]) -> None:
    """Stops the benchmark when a result is wrong."""
    for name, ours, oracle in zip(
        ("output", "grad_input", "grad_grid"), results, expected, strict=True
    ):
        scale = oracle.abs().max().clamp_min(1e-30)
        error = ((ours.double() - oracle).abs().max() / scale).item()
        if not error <= TOLERANCES[case.dtype]:
            sys.exit(f"{case.name}: {name} is off by {error:.1e} of its largest value")


def interleaved_medians(calls: list[Call], seconds: float) -> list[float]:
    """Median seconds of each call, taking turns for about ``seconds`` in all."""
    samples: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[0]) < 7:
        for call, times in zip(calls, samples, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in samples]


def compare(case: Case, seconds: float) -> tuple[list[float], list[float]]:
    """Medians (F.grid_sample, ours) of the forward pass and of the backward pass."""
    input, grid, grad = case.tensors()
    theirs = forward_and_backward(F.grid_sample, case, input, grid, grad)
    ours = forward_and_backward(gridsample_ext.grid_sample, case, input, grid, grad)
    oracle = forward_and_backward(F.grid_sample, case, input.double(), grid.double(), grad.double())
    verify(case, ours[2](), oracle[2]())
    return (
        interleaved_medians([theirs[0], ours[0]], seconds),
        interleaved_medians([theirs[1], ours[1]], seconds),
    )


def with_threads(threads: int, call: Call) -> Call:
    """The call on so many threads."""

    def run() -> None:
        torch.set_num_threads(threads)
        call()

    return run


def scaling(case: Case, threads: int, seconds: float) -> tuple[list[float], list[float]]:
    """Medians of ours (one thread, several) of the forward pass and of the backward pass."""
    input, grid, grad = case.tensors()
    forward, backward, _ = forward_and_backward(gridsample_ext.grid_sample, case, input, grid, grad)
    return tuple(  # type: ignore[return-value]
        interleaved_medians([with_threads(1, call), with_threads(threads, call)], seconds)
        for call in (forward, backward)
    )


def row(case: Case, forward: list[float], backward: list[float]) -> str:
    """A line of Markdown: milliseconds and ratios."""
    cells = [case.name]
    for first, second in (forward, backward):
        cells += [f"{first * 1e3:.2f}", f"{second * 1e3:.2f}", f"{first / second:.2f}"]
    return "| " + " | ".join(cells) + " |"


def header(*columns: str) -> str:
    """The first two lines of a Markdown table."""
    return "| " + " | ".join(columns) + " |\n|---" + "|---:" * (len(columns) - 1) + "|"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.6, help="per case and direction")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()

    environment = collect_env()
    for name in ("CPU", "PyTorch", "compiler", "SIMD level in use"):
        print(f"{name}: {environment[name]}")
    print(f"threads: {arguments.threads}\n")

    torch.set_num_threads(arguments.threads)
    print(header("case (ms)", "F forward", "ours", "ratio", "F backward", "ours ", "ratio "))
    ratios = []
    for case in tqdm([case for case in first_table() if arguments.only in case.name], leave=False):
        forward, backward = compare(case, arguments.seconds)
        ratios += [forward[0] / forward[1], backward[0] / backward[1]]
        tqdm.write(row(case, forward, backward))
    if ratios:
        print(
            "\nF.grid_sample's time over ours: geometric mean "
            f"{statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}"
        )

    if arguments.threads > 1:
        several = f"{arguments.threads} threads"
        columns = ("forward, 1", several, "ratio", "backward, 1", several, "ratio")
        print("\n" + header("ours (ms)", *columns))
        for case in thread_table():
            print(row(case, *scaling(case, arguments.threads, arguments.seconds * 3)))


if __name__ == "__main__":
    main()
