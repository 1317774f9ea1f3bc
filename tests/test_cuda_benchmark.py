"""The logic of the benchmark for CUDA run on the CPU."""

import json
import math
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import gridsample_ext

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import cases
import cuda_sides
import report
import run_cuda
from cases import Case

sys.path.pop()

CPU = run_cuda.Device("cpu")
IMAGE = Case((2, 3, 9, 8), (7, 6))
VOLUME = Case((1, 2, 5, 6, 7), (4, 5, 6), channels_last=True)


def ours(function=gridsample_ext.grid_sample):
    return cuda_sides.Side(report.OURS, function)


def peer(function):
    return cuda_sides.Side("peer", function)


def measure(case, *sides):
    return run_cuda.measure(case, CPU, seconds=0.001, rate=1e9, sides=list(sides))


# The cases


def test_survey_is_of_a_manageable_size():
    survey = cases.gpu_survey()
    assert len({case.name for case in survey}) == len(survey) <= 100
    assert set(cases.gpu_quick()) < set(survey)
    assert cases.gpu_compiled() < set(survey)
    assert cases.gpu_deterministic() < set(survey)


def test_survey_covers_every_kind():
    survey = cases.gpu_survey()
    for name, values in {
        "mode": set(cases.MODES),
        "padding_mode": {"zeros", "border", "reflection"},
        "grid": {"smooth", "random", "one_pixel"},
        "dtype": {torch.float32, torch.float16, torch.bfloat16},
        "channels_last": {False, True},
        "align_corners": {False, True},
        "dims": {2, 3},
    }.items():
        assert {getattr(case, name) for case in survey} == values
    for belongs in report.CUDA_SETS.values():
        assert any(belongs({**vars(case), "dtype": str(case.dtype)[6:]}) for case in survey)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(9, 8), (5, 6, 7)], ids=str)
def test_one_pixel_is_one_set_of_taps(size, align_corners):
    case = Case((1, 2, *size), size, grid="one_pixel", align_corners=align_corners)
    input, grid, grad = case.tensors()
    for mode, taps in (("nearest", 1), ("bilinear", 2 ** len(size))):
        leaf = input.clone().requires_grad_()
        F.grid_sample(leaf, grid, mode, align_corners=align_corners).backward(grad)
        assert leaf.grad[0, 0].count_nonzero() == taps


def test_bytes_moved():
    image, samples = 2 * 3 * 9 * 8, 2 * 7 * 6
    forward = 4 * (image + samples * (2 + 3))
    backward = 4 * (2 * image + samples * (2 * 2 + 3))
    assert IMAGE.bytes_moved() == forward
    assert IMAGE.bytes_moved("backward") == backward
    assert IMAGE.bytes_moved("both") == forward + backward


# Verification


@pytest.mark.parametrize("case", [IMAGE, VOLUME], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_records(case, dtype):
    case = Case(case.input, case.output, dtype=dtype, channels_last=case.channels_last)
    records = measure(case, ours(), cuda_sides.Side(report.STOCK, F.grid_sample))
    assert [record["direction"] for record in records] == ["forward", "backward", "both"]
    for record in records:
        assert record["name"] == case.name
        assert record["case"]["dtype"] == str(dtype)[6:]
        assert record["bytes_moved"] == case.bytes_moved(record["direction"])
        assert record["sets"] > 1  # smaller than the cache
        assert record["rows_verified"] == case.output[0]
        assert list(record["errors"][report.OURS]) == list(run_cuda.RESULTS[record["direction"]])
        timing = record["seconds"][report.OURS]
        low, high = timing["quartiles"]
        assert 0 < timing["least"] <= low <= timing["median"] <= high
        assert timing["rounds"] >= 3
        copied = record["of_copy"][report.OURS] * timing["median"] * 1e9
        assert math.isclose(copied, record["bytes_moved"])
    json.dumps(records, allow_nan=False)


def test_wrong_peer_is_not_timed():
    def wrong(input, grid, **options):
        return F.grid_sample(input, grid, **options) * 1.01

    for record in measure(IMAGE, ours(), peer(wrong)):
        assert set(record["seconds"]) == {report.OURS}
        assert record["not_timed"]["peer"].startswith("wrong: ")
        assert all(error > 5e-3 for error in record["errors"]["peer"].values())


def test_peer_wrong_in_the_backward_pass_only():
    def wrong(input, grid, **options):
        exact = F.grid_sample(input, grid, **options)
        return exact.detach() + 1.01 * (exact - exact.detach())

    forward, backward, both = measure(IMAGE, ours(), peer(wrong))
    assert "peer" in forward["seconds"]
    for record in (backward, both):
        assert "peer" not in record["seconds"]
        assert record["not_timed"]["peer"].startswith("wrong: grad_")


def test_nan_is_wrong():
    def wrong(input, grid, **options):
        return F.grid_sample(input, grid, **options) * float("nan")

    record = measure(IMAGE, ours(), peer(wrong))[0]
    assert record["not_timed"]["peer"].startswith("wrong: ")
    json.dumps(record, allow_nan=False)


def test_peer_that_raises_is_unsupported():
    def broken(input, grid, **options):
        raise RuntimeError(f"no such kernel in {Path.home()}/somewhere")

    for record in measure(IMAGE, ours(), peer(broken)):
        assert record["not_timed"]["peer"].startswith("unsupported: RuntimeError: no such kernel")
        assert str(Path.home()) not in record["not_timed"]["peer"]


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_ours_wrong_ends_the_run_and_names_the_case(factor):
    def wrong(input, grid, **options):
        return gridsample_ext.grid_sample(input, grid, **options) * factor

    with pytest.raises(cuda_sides.DisagreementError, match=IMAGE.name):
        measure(IMAGE, ours(wrong))


def test_ours_raising_ends_the_run():
    def broken(input, grid, **options):
        raise RuntimeError("out of order")

    with pytest.raises(cuda_sides.DisagreementError, match="out of order"):
        measure(IMAGE, ours(broken))


def test_falling_back_is_not_taken_for_ours():
    with pytest.raises(cuda_sides.DisagreementError, match="fell back"):
        measure(IMAGE, ours(F.grid_sample))


def test_deterministic_side_is_timed_in_the_backward_pass():
    side = cuda_sides.Side(
        cuda_sides.DETERMINISTIC,
        gridsample_ext.grid_sample,
        cuda_sides.deterministic_algorithms,
        ("backward",),
    )
    records = measure(IMAGE, ours(), side)
    assert [side.name in record["seconds"] for record in records] == [False, True, False]
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

    side = cuda_sides.Side(cuda_sides.DETERMINISTIC, drifting, passes=("backward",))
    with pytest.raises(cuda_sides.DisagreementError, match="two calls"):
        measure(IMAGE, ours(), side)


@pytest.mark.parametrize("fails", [None, "output", "grad_input", "grad_grid"])
def test_tricubic_is_verified_without_torch(fails, monkeypatch):
    """At points, by plain loops, and grad_input by linearity."""
    monkeypatch.setattr(cuda_sides, "in_float64", lambda case, tensors: None)
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
        assert report.OURS in measure(case, ours(side))[0]["seconds"]
    else:
        with pytest.raises(cuda_sides.DisagreementError, match=fails):
            measure(case, ours(side))


@pytest.mark.parametrize("case", [IMAGE, VOLUME], ids=lambda case: case.name)
def test_part_of_the_output_is_verified_where_memory_is_short(case, monkeypatch):
    exact = cuda_sides.in_float64

    def short(case, tensors):
        if tensors[1].shape[1] > 2:
            raise torch.OutOfMemoryError("no")
        return exact(case, tensors)

    monkeypatch.setattr(cuda_sides, "in_float64", short)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert measure(case, ours())[0]["rows_verified"] in (1, 2)
    _, _, grad = cuda_sides.first_rows(case, case.tensors(), 2)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[case.dims]
    assert grad.is_contiguous(memory_format=layout) == case.channels_last


def test_cudnn_is_switched_off_only_where_it_is_used():
    sides = [side for side in cuda_sides.sides_of(IMAGE) if side.name != cuda_sides.COMPILED]
    record = measure(IMAGE, *sides)[0]
    assert record["not_timed"][cuda_sides.NO_CUDNN].startswith("same kernel")
    enabled = []

    def spy(*arguments, **options):
        enabled.append(torch.backends.cudnn.enabled)
        return F.grid_sample(*arguments, **options)

    before = torch.backends.cudnn.enabled
    measure(IMAGE, ours(), cuda_sides.Side(cuda_sides.NO_CUDNN, spy, cuda_sides.without_cudnn))
    assert enabled
    assert not any(enabled)
    assert torch.backends.cudnn.enabled == before


# Timing


def test_rounds_end_early_for_slow_calls():
    class Slow:
        def seconds(self, run):
            run()
            return 5.0

    counts = []
    timing = run_cuda.interleaved({"a": counts.append}, seconds=1e-9, device=Slow())["a"]
    assert set(counts) == {1}
    assert timing["rounds"] == 3
    assert timing["median"] == 5.0


def test_batches_have_as_many_calls_as_fit():
    class Steady:
        """Ten microseconds a call."""

        def __init__(self):
            self.total = 0

        def seconds(self, run):
            before = self.total
            run()
            return (self.total - before) * 1e-5

    device = Steady()

    def batch(count):
        device.total += count

    timing = run_cuda.interleaved({"a": batch}, seconds=0.01, device=device)["a"]
    assert timing["calls"] == 100
    assert timing["median"] == pytest.approx(1e-5)


def test_sets_differ_in_address_only():
    tensors = VOLUME.tensors()
    sets = run_cuda.sets_of(VOLUME, tensors, cache_bytes=2 * VOLUME.bytes_moved())
    assert len(sets) == 2 * run_cuda.ROTATED
    for other in sets[1:]:
        for one, copy in zip(tensors, other, strict=True):
            assert torch.equal(one, copy)
            assert one.stride() == copy.stride()
            assert one.data_ptr() != copy.data_ptr()
    assert len(run_cuda.sets_of(VOLUME, tensors, cache_bytes=1)) == 1


# The program


@pytest.fixture
def small_survey(monkeypatch):
    monkeypatch.setattr(run_cuda, "gpu_survey", lambda: [IMAGE, VOLUME])


def run_main(*arguments):
    """The exit status, or the message, of the benchmark on the CPU."""
    with pytest.raises(SystemExit) as ended:
        run_cuda.main(["--device", "cpu", "--seconds", "0.001", *arguments])
    return ended.value.code


def test_main_writes_what_the_report_reads(small_survey, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new" / "folder" / "bench.json"
    assert not run_main("--out", str(out))
    assert "2 cases" in capsys.readouterr().out
    results = json.loads(out.read_text())
    assert results["complete"]
    assert not results["errors"]
    assert results["copy_bytes_per_second"] > 0
    assert len(results["survey"]) == 6
    assert "PyTorch" in results["environment"]
    monkeypatch.setattr(sys, "argv", ["report.py", str(out)])
    report.main()
    printed = capsys.readouterr().out
    for name in ("NHWC", "one_pixel", IMAGE.name, VOLUME.name):
        assert f"| {name} |" in printed


def test_report_fills_a_document(small_survey, tmp_path, monkeypatch):
    out, document = tmp_path / "bench.json", tmp_path / "doc.md"
    run_main("--out", str(out), "--only", "channels_last")
    document.write_text(f"before\n{report.CUDA_BEGIN}\nold\n{report.CUDA_END}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["report.py", str(out), "--document", str(document)])
    report.main()
    text = document.read_text()
    assert "old" not in text
    assert VOLUME.name in text
    assert IMAGE.name not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_main_goes_on_after_an_error(tmp_path, monkeypatch):
    def wrong_in_3d(input, grid, **options):
        factor = 1.01 if input.dim() == 5 else 1
        return gridsample_ext.grid_sample(input, grid, **options) * factor

    monkeypatch.setattr(run_cuda, "sides_of", lambda case: [ours(wrong_in_3d)])
    monkeypatch.setattr(run_cuda, "gpu_survey", lambda: [VOLUME, IMAGE])
    out = tmp_path / "bench.json"
    assert VOLUME.name in run_main("--out", str(out))
    results = json.loads(out.read_text())
    assert list(results["errors"]) == [VOLUME.name]
    assert not results["complete"]
    assert {record["name"] for record in results["survey"]} == {IMAGE.name}


def test_main_begins_no_case_beyond_the_budget(small_survey, tmp_path):
    out = tmp_path / "bench.json"
    assert not run_main("--out", str(out), "--budget", "-1")
    results = json.loads(out.read_text())
    assert list(results["left_out"]) == [IMAGE.name, VOLUME.name]
    assert not results["complete"]


def test_main_refuses_an_unknown_case(small_survey):
    assert "no case" in run_main("--only", "nothing of the kind")


class FakeEvent:
    """A CUDA event; a millisecond passes from each to the next."""

    recorded = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):  # noqa: D102
        FakeEvent.recorded += 1
        self.time = FakeEvent.recorded

    def synchronize(self):  # noqa: D102
        pass

    def elapsed_time(self, end):  # noqa: D102
        return float(end.time - self.time)


@pytest.fixture
def fake_gpu(monkeypatch):
    """As much of torch.cuda as is asked about a device."""
    properties = types.SimpleNamespace(
        name="NVIDIA Test 1",
        uuid="1234-5678",
        major=9,
        minor=0,
        multi_processor_count=132,
        total_memory=1 << 36,
        L2_cache_size=50 << 20,
    )
    for name, value in {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: properties,
        "mem_get_info": lambda: (1 << 35, 1 << 36),
        "Event": FakeEvent,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


def test_device_is_timed_with_events(fake_gpu):
    device = run_cuda.Device()
    assert device.cache_bytes == 50 << 20
    assert device.copied_bytes == 1 << 30
    assert device.seconds(lambda: None) == pytest.approx(1e-3)


def test_environment_names_the_gpu(fake_gpu, monkeypatch):
    def answer(command, **options):
        assert command[0] == "nvidia-smi"
        assert command[1].startswith("--query-gpu=")
        assert command[-1] == "--id=GPU-1234-5678"
        fields = command[1].count(",") + 1
        return types.SimpleNamespace(stdout=", ".join(["580.1"] * fields) + "\n")

    monkeypatch.setattr(run_cuda.subprocess, "run", answer)
    facts = run_cuda.environment(run_cuda.Device())
    assert facts["GPU"] == "NVIDIA Test 1"
    assert facts["driver"] == "580.1"
    assert facts["compute capability"] == "9.0"
    assert facts["L2 cache, bytes"] == 50 << 20
    assert "1234" not in json.dumps(facts)


def test_environment_without_nvidia_smi(fake_gpu, monkeypatch):
    def missing(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(run_cuda.subprocess, "run", missing)
    assert run_cuda.environment(run_cuda.Device())["driver"] == "unknown"


def test_benchmark_needs_the_cuda_kernels(fake_gpu, monkeypatch):
    reason = f"{Path.home()}/lib.so: undefined symbol"
    monkeypatch.setattr(run_cuda._ops, "cuda_library_error", lambda: reason, raising=False)
    why_not = run_cuda.why_not_ours(run_cuda.Device())
    assert "undefined symbol" in why_not
    assert str(Path.home()) + "/" not in why_not
    monkeypatch.setattr(run_cuda._ops, "cuda_library_error", lambda: None)
    assert run_cuda.why_not_ours(run_cuda.Device()) is None
