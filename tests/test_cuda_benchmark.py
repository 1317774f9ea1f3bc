"""The benchmark for CUDA: what it asks of a GPU, and the program run on the CPU."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch

import gridsample_ext

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import report
import run_cuda
import sides
from cases import Case
from rows import OURS, PASSES, load

sys.path.pop()

IMAGE = Case((2, 3, 9, 8), (7, 6))
VOLUME = Case((1, 2, 5, 6, 7), (4, 5, 6), channels_last=True)


@pytest.fixture
def small_set(monkeypatch):
    monkeypatch.setitem(run_cuda.chosen.__globals__["SETS"], "large", lambda: [VOLUME, IMAGE])


def run_main(*arguments):
    """The exit status, or the message, of the benchmark on the CPU."""
    with pytest.raises(SystemExit) as ended:
        run_cuda.main(["--device", "cpu", "--seconds", "1e-4", "--sets", "large", *arguments])
    return ended.value.code


def test_main_writes_what_the_report_reads(small_set, tmp_path, capsys):
    out, document = tmp_path / "new" / "folder" / "bench.json", tmp_path / "doc.md"
    assert not run_main("--out", str(out))
    assert "2 cases" in capsys.readouterr().out
    results = load(out)
    assert results["complete"]
    assert not results["errors"]
    assert results["copy_bytes_per_second"] > 0
    assert "PyTorch" in results["environment"]
    assert [row["case"] for row in results["rows"]] == [VOLUME.name, IMAGE.name]
    for row in results["rows"]:
        assert all(row[direction][OURS] > 0 for direction in PASSES)
    report.main([str(out)])
    printed = capsys.readouterr().out
    for name in ("large, volumes", IMAGE.name, VOLUME.name):
        assert f"| {name} |" in printed
    document.write_text(f"before\n{report.CUDA_BEGIN}\nold\n{report.CUDA_END}\nafter\n")
    report.main([str(out), "--document", str(document)])
    text = document.read_text()
    assert "old" not in text
    assert "of copy" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_main_goes_on_after_an_error(small_set, tmp_path, monkeypatch):
    def wrong_in_3d(input, grid, **options):
        factor = 1.01 if input.dim() == 5 else 1
        return gridsample_ext.grid_sample(input, grid, **options) * factor

    ours = sides.Side(OURS, wrong_in_3d)
    monkeypatch.setattr(run_cuda, "cuda_sides", lambda case: [ours])
    out = tmp_path / "bench.json"
    assert VOLUME.name in run_main("--out", str(out))
    results = load(out)
    assert list(results["errors"]) == [VOLUME.name]
    assert not results["complete"]
    assert [row["case"] for row in results["rows"]] == [IMAGE.name]


def test_main_begins_no_case_beyond_the_budget(small_set, tmp_path):
    out = tmp_path / "bench.json"
    assert not run_main("--out", str(out), "--budget", "-1")
    results = load(out)
    assert list(results["left_out"]) == [VOLUME.name, IMAGE.name]
    assert not results["complete"]


def test_main_refuses_an_unknown_case(small_set):
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
    device = run_cuda.Cuda()
    assert device.cache_bytes == 50 << 20
    assert device.slot(1.0) == 1 / run_cuda.ROUNDS
    assert device.seconds(lambda: None) == pytest.approx(1e-3)


def test_environment_names_the_gpu(fake_gpu, monkeypatch):
    def answer(command, **options):
        assert command[0] == "nvidia-smi"
        assert command[1].startswith("--query-gpu=")
        assert command[-1] == "--id=GPU-1234-5678"
        fields = command[1].count(",") + 1
        return types.SimpleNamespace(stdout=", ".join(["580.1"] * fields) + "\n")

    monkeypatch.setattr(run_cuda.subprocess, "run", answer)
    facts = run_cuda.environment(run_cuda.Cuda())
    assert facts["GPU"] == "NVIDIA Test 1"
    assert facts["driver"] == "580.1"
    assert facts["compute capability"] == "9.0"
    assert facts["L2 cache, bytes"] == 50 << 20
    assert "1234" not in json.dumps(facts)


def test_environment_without_nvidia_smi(fake_gpu, monkeypatch):
    def missing(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(run_cuda.subprocess, "run", missing)
    assert run_cuda.environment(run_cuda.Cuda())["driver"] == "unknown"


def test_benchmark_needs_the_cuda_kernels(fake_gpu, monkeypatch):
    reason = f"{Path.home()}/lib.so: undefined symbol"
    monkeypatch.setattr(run_cuda._ops, "cuda_library_error", lambda: reason, raising=False)
    why_not = run_cuda.why_not_ours(run_cuda.Cuda())
    assert "undefined symbol" in why_not
    assert str(Path.home()) + "/" not in why_not
    monkeypatch.setattr(run_cuda._ops, "cuda_library_error", lambda: None)
    assert run_cuda.why_not_ours(run_cuda.Cuda()) is None
