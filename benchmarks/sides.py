"""The implementations that the benchmark compares, and calls of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case
from rows import OURS, PASSES, RECORDED, STOCK
from sets import compiled, deterministic
from torch import Tensor

import gridsample_ext

NO_CUDNN = "F without cuDNN"
COMPILED = "torch.compile"
DETERMINISTIC = "ours, deterministic"

Tensors = tuple[Tensor, Tensor, Tensor]


def stock(input: Tensor, grid: Tensor, **options: Any) -> Tensor:
    """F.grid_sample.

    It needs one dtype. Features of a half type are cast to that of the grid, and the result is not
    cast back, which is what users of autocast get.
    """
    return F.grid_sample(input.to(grid.dtype), grid, **options)


@dataclass(frozen=True)
class Side:
    """An implementation, and what has to be set while it is called."""

    name: str
    function: Callable[..., Tensor]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    passes: tuple[str, ...] = (*PASSES, RECORDED)

    @property
    def is_ours(self) -> bool:
        """Whether a wrong result makes the run fail."""
        return self.name in (OURS, DETERMINISTIC)


@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """torch.use_deterministic_algorithms for a while."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Switches cuDNN off for a while; its other flags stay as they are."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def compiled_side() -> Side:
    """torch.compile of F.grid_sample, which generates kernels for one case."""

    def sample(input: Tensor, grid: Tensor, **options: Any) -> Tensor:
        return F.grid_sample(input, grid, **options)

    torch.compiler.reset()
    return Side(COMPILED, torch.compile(sample, dynamic=False))


def cpu_sides() -> list[Side]:
    """What is compared on the CPU, ours first; peers.py has the others."""
    return [Side(OURS, gridsample_ext.grid_sample), Side(STOCK, stock)]


def cuda_sides(case: Case) -> list[Side]:
    """What is compared on CUDA, ours first."""
    sides = [*cpu_sides(), Side(NO_CUDNN, stock, without_cudnn)]
    if case in compiled():
        sides.append(compiled_side())
    if case in deterministic():
        ours = gridsample_ext.grid_sample
        sides.append(Side(DETERMINISTIC, ours, deterministic_algorithms, ("backward",)))
    return sides


class Calls:
    """The passes of one side over sets of tensors of one case, which differ in address only."""

    def __init__(self, side: Side, case: Case, sets: list[Tensors]) -> None:
        self.side, self.options = side, case.options
        self.inputs = [(input, grid) for input, grid, _ in sets]
        self.leaves = [
            (input.detach().requires_grad_(), grid.detach().requires_grad_())
            for input, grid in self.inputs
        ]
        self.results: list[object] = [None] * len(sets)
        with side.context():
            self.outputs = [side.function(*leaves, **self.options) for leaves in self.leaves]
        pairs = zip(sets, self.outputs, strict=True)
        self.grads = [tensors[2].to(output.dtype) for tensors, output in pairs]

    def call(self, direction: str, index: int = 0) -> Any:
        """One call on one set."""
        function, options = self.side.function, self.options
        if direction == "forward":
            return function(*self.inputs[index], **options)
        leaves, grad = self.leaves[index], self.grads[index]
        if direction == "backward":
            return torch.autograd.grad(self.outputs[index], leaves, grad, retain_graph=True)
        output = function(*leaves, **options)
        return output if direction == RECORDED else torch.autograd.grad(output, leaves, grad)

    def batch(self, direction: str, count: int) -> None:
        """Calls on one set after the other. Results are kept a round, so addresses change, too."""
        sets = len(self.results)
        with self.side.context():
            for index in range(count):
                self.results[index % sets] = self.call(direction, index % sets)

    def forget(self) -> None:
        """Free the results."""
        self.results = [None] * len(self.results)
