"""What the benchmark compares with float64 before it times it."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import gridsample_ext

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import measure as measuring
import rows
import sides
import steps
import verify
from cases import Case

sys.path.pop()

CPU = measuring.Device()
IMAGE = Case((2, 3, 9, 8), (7, 6))
VOLUME = Case((1, 2, 5, 6, 7), (4, 5, 6), channels_last=True)


def ours(function=gridsample_ext.grid_sample):
    return sides.Side(rows.OURS, function)


def peer(function):
    return sides.Side("peer", function)


def measure(case, *compared):
    """The row of a case."""
    prepared = measuring.Prepared(case, list(compared), CPU)
    times = {direction: prepared.timed(direction, 1e-4) for direction in rows.PASSES}
    return times | prepared.not_timed


@pytest.mark.parametrize("case", [IMAGE, VOLUME], ids=lambda case: case.name)
@pytest.mark.parametrize(
    ("dtype", "grid_dtype"),
    [
        (torch.float32, None),
        (torch.float16, None),
        (torch.bfloat16, None),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
    ids=str,
)
def test_sides_agree_in_all_types(case, dtype, grid_dtype):
    case = dataclasses.replace(case, dtype=dtype, grid_dtype=grid_dtype)
    row = measure(case, *sides.cpu_sides())
    assert all(row[direction][rows.OURS] > 0 for direction in rows.PASSES)
    if dtype == torch.float32 or grid_dtype:
        assert all(row[direction][rows.STOCK] > 0 for direction in rows.PASSES)


def test_stock_casts_features_as_autocast_does():
    case = dataclasses.replace(IMAGE, dtype=torch.bfloat16, grid_dtype=torch.float32)
    input, grid, _ = case.tensors()
    output = sides.stock(input, grid, **case.options)
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.grid_sample(input.float(), grid, **case.options)
    assert output.dtype == expected.dtype == torch.float32
    assert torch.equal(output, expected)


def test_wrong_peer_is_not_timed():
    def wrong(input, grid, **options):
        return F.grid_sample(input, grid, **options) * 1.01

    row = measure(IMAGE, ours(), peer(wrong))
    assert all(set(row[direction]) == {rows.OURS} for direction in rows.PASSES)
    assert row["not_timed"]["peer"].startswith("wrong: ")


def test_peer_wrong_in_the_backward_pass_only():
    def wrong(input, grid, **options):
        exact = F.grid_sample(input, grid, **options)
        return exact.detach() + 1.01 * (exact - exact.detach())

    row = measure(IMAGE, ours(), peer(wrong))
    assert ["peer" in row[direction] for direction in rows.PASSES] == [True, False, False]
    assert row["not_timed"]["peer"].startswith("wrong: grad_")


def test_nan_is_wrong():
    def wrong(input, grid, **options):
        return F.grid_sample(input, grid, **options) * float("nan")

    row = measure(IMAGE, ours(), peer(wrong))
    assert row["not_timed"]["peer"].startswith("wrong: ")
    json.dumps(row, allow_nan=False)


def test_peer_that_raises_is_unsupported():
    def broken(input, grid, **options):
        raise RuntimeError(f"no such kernel in {Path.home()}/somewhere")

    reason = measure(IMAGE, ours(), peer(broken))["not_timed"]["peer"]
    assert reason.startswith("unsupported: RuntimeError: no such kernel")
    assert str(Path.home()) not in reason


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_ours_wrong_ends_the_run_and_names_the_case(factor):
    def wrong(input, grid, **options):
        return gridsample_ext.grid_sample(input, grid, **options) * factor

    with pytest.raises(verify.DisagreementError, match=IMAGE.name):
        measure(IMAGE, ours(wrong))


def test_ours_raising_ends_the_run():
    def broken(input, grid, **options):
        raise RuntimeError("out of order")

    with pytest.raises(verify.DisagreementError, match="out of order"):
        measure(IMAGE, ours(broken))


def test_falling_back_is_not_taken_for_ours():
    with pytest.raises(verify.DisagreementError, match="fell back"):
        measure(IMAGE, ours(F.grid_sample))


def test_deterministic_side_is_timed_in_the_backward_pass():
    side = sides.Side(
        sides.DETERMINISTIC,
        gridsample_ext.grid_sample,
        sides.deterministic_algorithms,
        ("backward",),
    )
    row = measure(IMAGE, ours(), side)
    assert [side.name in row[direction] for direction in rows.PASSES] == [False, True, False]
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_side_that_differs_between_calls_ends_the_run():
    calls = iter(range(100))

    class Drifting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, output):
            return output.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * (1 + 1e-6 * next(calls))

    def drifting(input, grid, **options):
        return Drifting.apply(gridsample_ext.grid_sample(input, grid, **options))

    side = sides.Side(sides.DETERMINISTIC, drifting, passes=("backward",))
    with pytest.raises(verify.DisagreementError, match="two calls"):
        measure(IMAGE, ours(), side)


@pytest.mark.parametrize("fails", [None, "output", "grad_input", "grad_grid"])
def test_tricubic_is_verified_without_torch(fails, monkeypatch):
    """At points, by plain loops, and grad_input by linearity."""
    monkeypatch.setattr(verify, "in_float64", lambda case, tensors: None)
    case = Case((2, 2, 5, 6, 7), (4, 5, 6), mode="bicubic")

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, tensor, factor):
            ctx.factor = factor
            return tensor.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.factor, None

    def side(input, grid, **options):
        if fails == "grad_input":
            input = Wrong.apply(input, 1.01)
        if fails == "grad_grid":
            grid = Wrong.apply(grid, 1.01)
        output = gridsample_ext.grid_sample(input, grid, **options)
        return output * 1.01 if fails == "output" else output

    if fails is None:
        assert rows.OURS in measure(case, ours(side))["forward"]
    else:
        with pytest.raises(verify.DisagreementError, match=fails):
            measure(case, ours(side))


@pytest.mark.parametrize("case", [IMAGE, VOLUME], ids=lambda case: case.name)
def test_part_of_the_output_is_verified_where_memory_is_short(case, monkeypatch):
    exact = verify.in_float64

    def short(case, tensors):
        if tensors[1].shape[1] > 2:
            raise torch.OutOfMemoryError("no")
        return exact(case, tensors)

    monkeypatch.setattr(verify, "in_float64", short)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert verify.oracle_of(case, case.tensors()).rows in (1, 2)
    assert rows.OURS in measure(case, ours())["both"]
    _, _, grad = verify.first_rows(case, case.tensors(), 2)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[case.dims]
    assert grad.is_contiguous(memory_format=layout) == case.channels_last


def test_cudnn_is_switched_off_only_where_it_is_used():
    row = measure(IMAGE, *sides.cuda_sides(IMAGE))
    assert sides.NO_CUDNN not in row["forward"]
    assert "not_timed" not in row
    enabled = []

    def spy(*arguments, **options):
        enabled.append(torch.backends.cudnn.enabled)
        return F.grid_sample(*arguments, **options)

    before = torch.backends.cudnn.enabled
    measure(IMAGE, ours(), sides.Side(sides.NO_CUDNN, spy, sides.without_cudnn))
    assert enabled
    assert not any(enabled)
    assert torch.backends.cudnn.enabled == before


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("step", steps.training_steps()[:1], ids=lambda step: step.name)
def test_steps_are_verified(step, wrong, monkeypatch):
    def off(*arguments, **options):
        return gridsample_ext.grid_sample(*arguments, **options) * 1.5

    if not wrong:
        calls = measuring.step_calls(step, CPU)
        assert list(calls) == [rows.OURS, rows.STOCK]
        assert set(measuring.step_times(calls, 1e-4, CPU)) == set(calls)
        return
    monkeypatch.setattr(measuring, "cpu_sides", lambda: [ours(off), *sides.cpu_sides()[1:]])
    with pytest.raises(verify.DisagreementError, match=step.name):
        measuring.step_calls(step, CPU)


def test_stock_may_lack_a_step():
    def lacking(sampler, image):
        if sampler is sides.stock:
            raise NotImplementedError("no such derivative")
        return (image,)

    step = steps.Step("a step", lambda: (torch.ones(2),), lacking, ("output",))
    assert list(measuring.step_calls(step, CPU)) == [rows.OURS]
