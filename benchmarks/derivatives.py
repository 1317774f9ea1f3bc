"""Second derivatives and forward mode, against PyTorch's own where it has them.

A gradient-penalty step is the forward pass, both gradients, and the gradients of their squares;
PyTorch composes the last of tensor operations. Forward mode is one call on dual tensors, which
PyTorch has since 2.15.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from cases import _IMAGES, _VOLUMES, Case
from torch import Tensor
from torch.autograd import forward_ad

import gridsample_ext

Results = Callable[[], tuple[Tensor, ...]]
OURS, STOCK = "gridsample_ext", "F.grid_sample"
FUNCTIONS = {OURS: gridsample_ext.grid_sample, STOCK: F.grid_sample}


def derivative_cases() -> list[Case]:
    """Images and volumes, few channels and many, in both layouts; cubic for some of them."""
    few, many = _IMAGES[:2]
    eight, volume = _VOLUMES[1:]
    bilinear = [
        Case(*size, channels_last=last)
        for size in (few, many, eight, volume)
        for last in (False, True)
    ]
    cubic = [
        Case(*size, "bicubic", channels_last=last)
        for size, last in ((few, False), (many, False), (many, True), (volume, False))
    ]
    return bilinear + cubic


def penalty_step(
    function: Callable[..., Tensor], case: Case, input: Tensor, grid: Tensor, grad: Tensor
) -> Results:
    """A gradient-penalty step on both gradients."""
    leaves = [input.detach().clone().requires_grad_(), grid.detach().clone().requires_grad_()]

    def step() -> tuple[Tensor, ...]:
        output = function(*leaves, **case.options)
        gradients = torch.autograd.grad(output, leaves, grad, create_graph=True)
        penalty = gradients[0].square().sum() + gradients[1].square().sum()
        return torch.autograd.grad(penalty, leaves)

    return step


def forward_mode(
    function: Callable[..., Tensor], case: Case, input: Tensor, grid: Tensor, grad: Tensor
) -> Results:
    """The derivative along a tangent of input and grid."""
    tangents = input.roll(1, -1), torch.full_like(grid, 0.01)

    def call() -> tuple[Tensor, ...]:
        with forward_ad.dual_level(), torch.no_grad():
            duals = map(forward_ad.make_dual, (input, grid), tangents)
            output = function(*duals, **case.options)
            return tuple(forward_ad.unpack_dual(output))

    return call


KINDS = {"penalty step": penalty_step, "forward mode": forward_mode}
# What they compute, by the names that gridsample_ext._C.executed_paths has for it.
RESULTS = {
    "penalty step": (
        "output",
        "grad_input",
        "grad_grid",
        "second grad_input",
        "second grad_grid",
    ),
    "forward mode": ("output", "tangent"),
}


def stock_has(what: str, case: Case) -> bool:
    """Whether this PyTorch has it."""
    try:
        small = Case((1, 1, *(4,) * case.dims), (3,) * case.dims, case.mode)
        KINDS[what](F.grid_sample, small, *small.tensors())()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def resident(which: str) -> int:
    """Bytes of this process: VmRSS, resident now, or VmHWM, at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def added_at_peak(name: str, what: str, implementation: str) -> int:
    """Bytes that a call adds to resident memory at its peak. For a process that made no other."""
    case = next(case for case in derivative_cases() if case.name == name)
    call = KINDS[what](FUNCTIONS[implementation], case, *case.tensors())
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begin = resident("VmRSS")
    call()
    return resident("VmHWM") - begin
