"""Timing in turn, the files of results and the report, on the CPU."""

import math
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import derivatives
import measure as measuring
import progress
import report
import rows
import run
import sets
import steps
from cases import Case

sys.path.pop()

IMAGE = Case((2, 3, 9, 8), (7, 6))
VOLUME = Case((1, 2, 5, 6, 7), (4, 5, 6), channels_last=True)
RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


# Timing


def test_rounds_end_early_for_slow_calls():
    class Slow:
        def seconds(self, run):
            run()
            return 5.0

        def slot(self, seconds):
            return seconds

    counts = []
    times = measuring.interleaved({"a": counts.append}, seconds=1e-9, device=Slow())
    assert counts == [1] * 5  # two to begin with, and three rounds
    assert times == {"a": 5000.0}


def test_batches_have_as_many_calls_as_fit():
    class Steady:
        """Ten microseconds a call."""

        def __init__(self):
            self.total = 0

        def seconds(self, run):
            before = self.total
            run()
            return (self.total - before) * 1e-5

        def slot(self, seconds):
            return seconds / 10

    device = Steady()

    counts = []

    def batch(count):
        device.total += count
        counts.append(count)

    times = measuring.interleaved({"a": batch}, seconds=0.01, device=device)
    assert counts[-1] == 100
    assert times == {"a": 0.01}


def test_sets_differ_in_address_only():
    tensors = VOLUME.tensors()
    sets = measuring.sets_of(VOLUME, tensors, cache_bytes=2 * VOLUME.bytes_moved())
    assert len(sets) == 2 * measuring.ROTATED
    for other in sets[1:]:
        for one, copy in zip(tensors, other, strict=True):
            assert torch.equal(one, copy)
            assert one.stride() == copy.stride()
            assert one.data_ptr() != copy.data_ptr()
    assert len(measuring.sets_of(VOLUME, tensors, cache_bytes=1)) == 1


# Files and reports


def row(case, threads, ours, stock, **more):
    times = {rows.OURS: ours, rows.STOCK: stock, "path": "planes", "copy": ours / 2}
    return {"case": case.name, "threads": threads, "forward": times, "backward": times, **more}


def test_files_have_a_line_for_each_row(tmp_path):
    path = tmp_path / "new" / "a.json"
    some = [row(IMAGE, threads, 1.0, 2.0) for threads in (1, 2)]
    results = measuring.Results(path, {"threads": 2}, some, complete=True)
    results.save()
    read = rows.load(path)
    assert read["rows"] == some
    assert read["complete"]
    assert sum(line.startswith('{"case"') for line in path.read_text().splitlines()) == 2


def test_losses_come_first_and_have_a_path():
    few = sets.few_channels()
    cells = report.cells_of([row(few[0], 1, 2.0, 1.0), row(few[1], 1, 1.0, 4.0)])
    lines = report.below_one(cells).splitlines()
    assert lines[0] == "Below 1.0: 2 of 4 cells."
    assert lines[4] == f"| {few[0].name} | 1 | forward | 2.000 | 0.50 | planes |"
    assert len(lines) == 6
    assert report.below_one(cells[2:]) == "Below 1.0: 0 of 2 cells."


def test_sets_have_a_mean_and_a_least_cell():
    few = sets.few_channels()
    cells = report.cells_of([row(few[0], 1, 2.0, 1.0), row(few[1], 1, 1.0, 8.0)])
    text = report.sets_table(cells)
    expected = f"| few-channels | 1 | forward | 2 | 2.00 | 1 | 50% | 0.50 | {few[0].name} |"
    assert expected in text
    assert "large" not in text


def test_cells_that_pytorch_lacks_are_dashes():
    lacking = row(IMAGE, 1, 1.0, 2.0, not_timed={rows.STOCK: "unsupported: a | b"})
    del lacking["forward"][rows.STOCK]
    cells = report.cells_of([lacking])
    assert "nan" not in report.cases_table([lacking], cells)
    assert "a \\| b" in report.not_timed_table([lacking])


def test_copies_are_reckoned_where_the_rate_is_known():
    (cell,) = report.cells_of([{"case": IMAGE.name, "forward": {rows.OURS: 1.0}}], rate=1e9)
    assert cell.of_copy == pytest.approx(IMAGE.bytes_moved() / 1e6)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_committed_results_are_small_and_readable(path, capsys):
    assert path.stat().st_size <= 150_000
    if "check" not in path.name:
        report.main([str(path)])
        assert len(capsys.readouterr().out.splitlines()) > 20


# The program


def run_main(*arguments):
    """The exit status, or the message."""
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as ended:
            run.main(["--seconds", "1e-4", "--no-peers", "--threads", "1", "2", *arguments])
    finally:
        torch.set_num_threads(threads)
    return ended.value.code


def test_main_writes_what_the_report_reads(tmp_path, capsys, monkeypatch):
    small = sets.small_calls()[0]
    monkeypatch.setitem(sets.SETS, "survey", lambda: [IMAGE])
    monkeypatch.setitem(sets.SETS, "small-calls", lambda: [small])
    monkeypatch.setitem(sets.SETS, "training-steps", lambda: steps.training_steps()[:1])
    out, document = tmp_path / "cpu.json", tmp_path / "doc.md"
    assert not run_main("--sets", "survey", "small-calls", "training-steps", "--out", str(out))
    results = rows.load(out)
    assert [(each["case"], each["threads"]) for each in results["rows"]] == [
        (name, threads)
        for name in (IMAGE.name, small.name, steps.training_steps()[0].name)
        for threads in (1, 2)
    ]
    first, last = results["rows"][:2]
    assert first["forward"]["path"] == "in registers"
    assert "slabs" in first["backward"]["path"]
    assert "copy" in last["forward"]
    assert set(rows.passes_of(results["rows"][2])) == {"forward", "recorded", "both"}
    assert "planes" in results["rows"][4]["both"]["path"]
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.main([str(out), "--document", str(document)])
    text = document.read_text()
    assert "old" not in text
    assert text.index("Below 1.0") < text.index("| set |") < text.index("| case |")


def test_derivatives_are_timed_with_their_memory(tmp_path, capsys, monkeypatch):
    step = steps.Step(
        f"{IMAGE.name}, penalty step",
        IMAGE.tensors,
        partial(derivatives.penalty_step, IMAGE),
        derivatives.KINDS["penalty step"][1],
    )
    monkeypatch.setattr(run, "derivative_steps", lambda: [step])
    monkeypatch.setattr(run, "MORE_SETS", {"derivatives": lambda: [step]})
    monkeypatch.setattr(run, "peak_memory", lambda name, side: 1 << 20)
    out = tmp_path / "derivatives.json"
    assert not run_main("--sets", "derivatives", "--out", str(out))
    (found,) = rows.load(out)["rows"]
    assert found["threads"] == 2
    assert found["peak_bytes"] == {rows.OURS: 1 << 20, rows.STOCK: 1 << 20}
    report.main([str(out)])
    assert f"| {IMAGE.name} | penalty step |" in capsys.readouterr().out


def test_main_refuses_an_unknown_case():
    assert "no case" in run_main("--only", "nothing of the kind")


def test_progress_is_silent_off_a_terminal_and_needs_no_tqdm(capsys, monkeypatch):
    """Lines are printed in any case, and bars on terminals only."""
    for installed in (progress.tqdm, None):
        monkeypatch.setattr(progress, "tqdm", installed)
        for item in progress.progress(["one", "two"], "case"):
            progress.write(item)
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("one\ntwo\n", "")


def test_readme_says_what_was_measured():
    """Its table, but for the row of warp, which benchmarks/warping.py prints."""
    lines = (RESULTS.parents[1] / "README.md").read_text().splitlines()
    table = [line.strip("|").split(" | ") for line in lines if re.match(r"\| (CPU|H200)\b", line)]
    names = ("survey", "volumes", "few-channels", None, "large, channels_last", "large, contiguous")
    for name, (what, *numbers, _) in zip(names, table, strict=True):
        if name is None:
            assert "warp" in what
            continue
        on_gpu = "H200" in what
        results = rows.load(RESULTS / ("nvidia-h200-bench.json" if on_gpu else "cpu.json"))
        threads = None if on_gpu else 2
        ratios = {
            direction: [
                cell.ratio()
                for cell in report.cells_of(results["rows"])
                if cell.case in report.names_of(name)
                and (cell.threads, cell.direction) == (threads, direction)
                and not math.isnan(cell.ratio())
            ]
            for direction in ("forward", "backward")
        }
        means = [report.geomean(values) for values in ratios.values()]
        expected = [*means, min(map(min, ratios.values()))]
        assert [number.strip() for number in numbers] == [f"{value:.1f}" for value in expected]
        assert f"{len(ratios['forward'])} cases" in what


def test_figures_name_their_bars(tmp_path):
    """Of the results in the repository, on both devices."""
    pytest.importorskip("matplotlib").use("agg")
    sys.path.append(str(RESULTS.parent))
    import figures

    sys.path.pop()
    on_gpu = rows.load(RESULTS / "nvidia-h200-bench.json")
    groups = figures.grouped(report.cells_of(on_gpu["rows"]))
    assert list(groups) == ["bilinear", "nearest", "bicubic"]
    sizes = "\N{MULTIPLICATION SIGN}".join(["8", "64", "256", "256"])
    bars = groups["bilinear"][f"{sizes}, channels-last"]
    assert bars.keys() == {"forward", "backward"}
    figures.draw(rows.load(RESULTS / "cpu.json"), on_gpu, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"ratios.png", "sizes.png", "threads.png"}
