"""Second derivatives and forward mode, against PyTorch's own where it has them.

A gradient-penalty step is the forward pass, both gradients, and the gradients of their squares;
PyTorch composes the last of tensor operations. Forward mode is one call on dual tensors, which
PyTorch has since 2.15.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from cases import Case
from sets import IMAGES, VOLUMES, in_both_layouts
from sides import cpu_sides
from steps import Results, Sampler, Step
from torch import Tensor
from torch.autograd import forward_ad


def derivative_cases() -> list[Case]:
    """Images and volumes, few channels and many, in both layouts; cubic for some of them."""
    few, many = IMAGES[:2]
    eight, volume = VOLUMES[1:]
    bilinear = [case for size in (few, many, eight, volume) for case in in_both_layouts(*size)]
    cubic = [
        Case(*size, "bicubic", channels_last=last)
        for size, last in ((few, False), (many, False), (many, True), (volume, False))
    ]
    return bilinear + cubic


def penalty_step(
    case: Case, sampler: Sampler, input: Tensor, grid: Tensor, grad: Tensor
) -> Results:
    """A gradient-penalty step on both gradients."""
    leaves = [input.detach().requires_grad_(), grid.detach().requires_grad_()]
    output = sampler(*leaves, **case.options)
    gradients = torch.autograd.grad(output, leaves, grad, create_graph=True)
    penalty = gradients[0].square().sum() + gradients[1].square().sum()
    return torch.autograd.grad(penalty, leaves)


def forward_mode(
    case: Case, sampler: Sampler, input: Tensor, grid: Tensor, grad: Tensor
) -> Results:
    """The derivative along a tangent of input and grid."""
    tangents = input.roll(1, -1), torch.full_like(grid, 0.01)
    with forward_ad.dual_level(), torch.no_grad():
        duals = map(forward_ad.make_dual, (input, grid), tangents)
        return tuple(forward_ad.unpack_dual(sampler(*duals, **case.options)))


FIRST = ("output", "grad_input", "grad_grid")
KINDS = {
    "penalty step": (penalty_step, (*FIRST, "second grad_input", "second grad_grid")),
    "forward mode": (forward_mode, ("output", "tangent")),
}


def derivative_steps() -> list[Step]:
    """Both kinds of every case."""
    return [
        Step(
            f"{case.name}, {kind}",
            case.tensors,
            partial(run, case),
            computed,
        )
        for kind, (run, computed) in KINDS.items()
        for case in derivative_cases()
    ]


def resident(which: str) -> int:
    """Bytes of this process: VmRSS, resident now, or VmHWM, at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def added_at_peak(name: str, implementation: str) -> int:
    """Bytes that a step adds to resident memory at its peak. For a process that made no other."""
    step = next(step for step in derivative_steps() if step.name == name)
    sampler = next(side.function for side in cpu_sides() if side.name == implementation)
    tensors = step.tensors()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begin = resident("VmRSS")
    step.run(sampler, *tensors)
    return resident("VmHWM") - begin


def peak_memory(name: str, implementation: str) -> int | None:
    """Bytes that a step adds at its peak, in a process of its own; None where that is unknown."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    context = multiprocessing.get_context("forkserver")  # PyTorch is imported once for all
    context.set_forkserver_preload(["torch", "gridsample_ext"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(added_at_peak, name, implementation).result()
