"""Makes sure that all sides compute the same before they are timed."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from cases import FORMATS, Case
from gpu_check import scrub
from rows import PASSES, RECORDED, STOCK
from sides import DETERMINISTIC, NO_CUDNN, Calls, Side, Tensors, without_cudnn
from torch import Tensor

# Relative to the largest value: rounding of inputs and sums of a few dozen terms.
TOLERANCES = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
# PyTorch's kernels keep some coordinates and sums in half precision. So far off, and no farther,
# they are still timed.
PEER_HALF_TOLERANCE = 0.1
SAME_KERNEL = "same kernel"  # why a side is not timed, of which nothing is said


class DisagreementError(Exception):
    """A result of ours is wrong, or there is none."""


def distance(actual: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """The largest difference, relative to the largest value, or to ``scale``."""
    if actual.shape != expected.shape:
        return math.inf
    scale = expected.abs().max() if scale is None else scale
    return ((actual.double() - expected).abs().max() / scale.clamp_min(1e-30)).item()


@dataclass
class Oracle:
    """What a case should give, on the first ``rows`` rows (slices) of its output."""

    case: Case
    tensors: Tensors  # those of the case, as far as they are compared
    rows: int
    values: dict[str, Tensor] | None  # in float64; None where PyTorch has no such kernel

    def errors(self, calls: Calls, direction: str, output: Tensor | None) -> dict[str, float]:
        """How far the results of a pass are off; ``output`` is that of the forward pass."""
        with calls.side.context():
            results = calls.call(direction)
        names = ("output",) if direction == "forward" else ("grad_input", "grad_grid")
        named = dict(zip(names, [results] if direction == "forward" else results, strict=True))
        if self.values is None:
            return self._errors_at_points(named, output)
        return {name: distance(result, self.values[name]) for name, result in named.items()}

    def _errors_at_points(
        self, results: dict[str, Tensor], output: Tensor | None
    ) -> dict[str, float]:
        """At a few samples by plain loops; all of grad_input by linearity in the input."""
        tests = str(Path(__file__).resolve().parent.parent / "tests")
        if tests not in sys.path:
            sys.path.append(tests)
        import reference

        input, grid, grad = (tensor.double() for tensor in self.tensors)
        options = (self.case.mode, self.case.padding_mode, self.case.align_corners)
        generator = torch.Generator().manual_seed(0)
        points = torch.randint(math.prod(grid.shape[1:-1]), (16,), generator=generator)
        points = points.to(grid.device)
        some_grid = grid.flatten(1, -2)[:, points].unflatten(1, (1,) * (self.case.dims - 1) + (-1,))
        if "output" in results:
            expected = reference.grid_sample(input, some_grid, *options).to(grid.device)
            actual = results["output"].flatten(2)[..., points]
            return {"output": distance(actual, expected.flatten(2))}
        some_grad = grad.flatten(2)[..., points].unflatten(2, some_grid.shape[1:-1])
        _, grad_grid = reference.grid_sample_backward(some_grad, input, some_grid, *options)
        actual = results["grad_grid"].flatten(1, -2)[:, points]
        errors = {"grad_grid": distance(actual, grad_grid.to(grid.device).flatten(1, -2))}
        if output is not None:
            terms = output.double() * grad
            product = (results["grad_input"].double() * input).sum()
            errors["grad_input"] = distance(product, terms.sum(), scale=terms.norm())
        return errors


def in_float64(case: Case, tensors: Tensors) -> dict[str, Tensor] | None:
    """F.grid_sample of the same values in float64; None where it has no such kernel."""
    input, grid = (tensor.double().requires_grad_() for tensor in tensors[:2])
    with without_cudnn():
        try:
            output = F.grid_sample(input, grid, **case.options)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None
        gradients = torch.autograd.grad(output, (input, grid), tensors[2].double())
    names = ("output", "grad_input", "grad_grid")
    return dict(zip(names, (output.detach(), *gradients), strict=True))


def first_rows(case: Case, tensors: Tensors, rows: int) -> Tensors:
    """The problem with the first rows (slices) of the output alone."""
    input, grid, grad = tensors
    if rows == grid.shape[1]:
        return tensors
    layout = FORMATS[case.dims] if case.channels_last else torch.contiguous_format
    return input, grid[:, :rows].contiguous(), grad[:, :, :rows].contiguous(memory_format=layout)


def oracle_of(case: Case, tensors: Tensors) -> Oracle:
    """Of all rows if memory allows, else of as many as it allows."""
    rows = tensors[1].shape[1]
    while True:
        some = first_rows(case, tensors, rows)
        try:
            return Oracle(case, some, rows, in_float64(case, some))
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        torch.cuda.empty_cache()
        rows = max(1, rows // 4)


def tolerance(case: Case, name: str, is_ours: bool) -> float:
    """How far a result may be off, relative to the largest value."""
    allowed = TOLERANCES[case.dtype]
    if not is_ours and case.dtype.itemsize == 2:
        allowed = PEER_HALF_TOLERANCE
    # A pixel coordinate is rounded to some 2^-24 of the size; values change by their own size
    # within a pixel or less.
    allowed += 2**-22 * max(case.input[2:])
    if name == "grad_input" and case.grid == "one_pixel":
        # Sums of so many terms err like a random walk.
        allowed += 2**-21 * math.sqrt(math.prod(case.output))
    return allowed


@dataclass
class Verdict:
    """What came of comparing one side with the oracle."""

    side: Side
    errors: dict[str, float] = field(default_factory=dict)
    not_timed: dict[str, str] = field(default_factory=dict)  # pass -> why
    kernel: str = ""  # the autograd node of its output


def explain(error: BaseException) -> str:
    """An exception in a line or two."""
    return scrub(f"{type(error).__name__}: {error}")[:120]


def verify(side: Side, oracle: Oracle) -> Verdict:
    """Run each pass once; which of them may be timed.

    Peers that raise or are wrong are not. Either of ours is a :class:`DisagreementError`.
    """
    case, verdict = oracle.case, Verdict(side)
    output = None
    for direction in ("forward", "backward"):
        try:
            if direction == "forward":
                calls = Calls(side, case, [oracle.tensors])
                verdict.kernel = calls.outputs[0].grad_fn.name()
                output = calls.outputs[0].detach()
            errors = oracle.errors(calls, direction, output)
        except Exception as error:
            if side.is_ours and isinstance(error, torch.OutOfMemoryError):
                raise
            if side.is_ours:
                raise DisagreementError(
                    f"{case.name}: {side.name} raised {explain(error)}"
                ) from error
            verdict.not_timed[direction] = f"unsupported: {explain(error)}"
            if direction == "forward":
                verdict.not_timed["backward"] = verdict.not_timed[direction]
                break
            continue
        if side.is_ours and verdict.kernel.startswith(("GridSampler", "Cudnn")):
            raise DisagreementError(f"{case.name}: {side.name} fell back to PyTorch's kernels")
        verdict.errors |= errors
        for name, value in errors.items():
            if not value <= tolerance(case, name, side.is_ours):
                wrong = f"{name} is off by {value:.1e} of its largest value"
                if side.is_ours:
                    raise DisagreementError(f"{case.name}: {side.name}: {wrong}")
                verdict.not_timed[direction] = f"wrong: {wrong}"
    if side.name == DETERMINISTIC:
        with side.context():
            pairs = zip(calls.call("backward"), calls.call("backward"), strict=True)
            if not all(torch.equal(one, other) for one, other in pairs):
                raise DisagreementError(
                    f"{case.name}: {side.name}: two calls gave different results"
                )
    if verdict.not_timed:
        verdict.not_timed["both"] = next(iter(verdict.not_timed.values()))
    if "forward" in verdict.not_timed:
        verdict.not_timed[RECORDED] = verdict.not_timed["forward"]
    return verdict


def verify_all(sides: list[Side], oracle: Oracle) -> list[Verdict]:
    """All sides; cuDNN is not switched off where it is not used anyway."""
    verdicts: list[Verdict] = []
    for side in sides:
        stock = next((verdict for verdict in verdicts if verdict.side.name == STOCK), None)
        if side.name == NO_CUDNN and stock and stock.kernel and "Cudnn" not in stock.kernel:
            passes = (*PASSES, RECORDED)
            verdicts.append(Verdict(side, not_timed=dict.fromkeys(passes, SAME_KERNEL)))
        else:
            verdicts.append(verify(side, oracle))
    return verdicts


def verify_results(
    what: str, results: Sequence[Tensor], exact: Sequence[Tensor], tolerance: float
) -> None:
    """Compare the results of a whole function with those in float64."""
    for number, (actual, expected) in enumerate(zip(results, exact, strict=True)):
        error = distance(actual, expected)
        if not error <= tolerance:
            raise DisagreementError(
                f"{what}: result {number} is off by {error:.1e} of its largest value"
            )
