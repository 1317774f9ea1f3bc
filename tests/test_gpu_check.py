"""The logic of the check that runs on a GPU: limits, verdicts, and what it writes."""

import json
import signal
import socket
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import gpu_check

sys.path.pop()


def test_slug():
    assert gpu_check.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_scrub():
    text = f"{gpu_check.ROOT}/tests/a.py {Path.home()}/x /home/someone/y {socket.gethostname()}:1"
    cleaned = gpu_check.scrub(text + " /tmp/torchinductor_someone/z /usr/lib/python3")
    assert "./tests/a.py" in cleaned
    assert "/usr/lib/python3" in cleaned
    assert "someone" not in cleaned
    assert str(Path.home()) + "/" not in cleaned


CLEAN = "========= COMPUTE-SANITIZER\n48 passed in 20.1s\n========= ERROR SUMMARY: 0 errors\n"
RACES = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"


@pytest.mark.parametrize(
    ("exit_code", "text", "status"),
    [
        (0, CLEAN, gpu_check.PASSED),
        (0, CLEAN.replace("ERROR SUMMARY: 0 errors", RACES[10:-1]), gpu_check.PASSED),
        (9, CLEAN.replace("0 errors", "1 error"), gpu_check.ERRORS_FOUND),
        (
            9,
            "========= COMPUTE-SANITIZER\n========= Invalid __global__ read of size 4 bytes\n"
            "=========     Address 0x7f is out of bounds\n========= ERROR SUMMARY: 1 error\n",
            gpu_check.ERRORS_FOUND,
        ),
        (
            9,
            "========= COMPUTE-SANITIZER\n========= Error: Race reported between Read access\n"
            "2 passed in 1s\n========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)",
            gpu_check.ERRORS_FOUND,
        ),
        (
            9,
            "========= COMPUTE-SANITIZER\n========= Error: Device not supported. Please refer\n"
            "48 failed in 3s\n========= ERROR SUMMARY: 2 errors\n",
            gpu_check.CANNOT_RUN,
        ),
        (
            1,
            "========= COMPUTE-SANITIZER\n========= Error: Target application terminated before "
            "first instrumented API call\n",
            gpu_check.CANNOT_RUN,
        ),
        (
            4,
            "========= COMPUTE-SANITIZER\nERROR: usage: unrecognized arguments: --device\n"
            "========= Error: Target application terminated before first instrumented API call\n",
            gpu_check.FAILED,
        ),
        (1, CLEAN.replace("48 passed", "1 failed, 47 passed"), gpu_check.FAILED),
        (0, "========= COMPUTE-SANITIZER\n48 passed in 2s\n", gpu_check.CANNOT_RUN),
        (0, CLEAN.replace("48 passed", "48 skipped"), gpu_check.CANNOT_RUN),
        (127, "No such file or directory\n", gpu_check.CANNOT_RUN),
        (None, "========= COMPUTE-SANITIZER\n....", gpu_check.TIMED_OUT),
    ],
)
def test_sanitizer_verdicts(exit_code, text, status):
    assert gpu_check.judge_sanitizer(gpu_check.Outcome(exit_code, 1.0, text))[0] == status


def test_junit_counts(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(
        '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1">'
        '<testcase classname="tests.a" name="one"><failure/></testcase>'
        '<testcase classname="tests.a" name="two"><error/></testcase>'
        '<testcase classname="tests.a" name="three"/></testsuite></testsuites>'
    )
    assert gpu_check.test_counts(path) == {
        "passed": 2,
        "failed": 2,
        "skipped": 1,
        "failures": ["tests.a.one", "tests.a.two"],
    }
    assert gpu_check.test_counts(tmp_path / "absent.xml") == {}


def test_command_is_stopped_at_its_limit(monkeypatch):
    monkeypatch.setattr(gpu_check, "INTERRUPTED_SECONDS", 0.5)
    program = "import time; print('begun', flush=True); time.sleep(60)"
    outcome = gpu_check.run_command([sys.executable, "-c", program], 3.5, {})
    assert outcome.exit_code is None
    assert outcome.seconds < 30
    assert "begun" in outcome.output


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_command_may_write_what_it_has_when_interrupted(monkeypatch, handler):
    """Also where interrupts are ignored, as in what a shell's script runs in the background."""
    monkeypatch.setattr(gpu_check, "INTERRUPTED_SECONDS", 3.0)
    program = "import time\ntry:\n time.sleep(60)\nexcept KeyboardInterrupt:\n print('written')"
    before = signal.signal(signal.SIGINT, handler)
    try:
        outcome = gpu_check.run_command([sys.executable, "-c", program], 6.0, {})
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.exit_code is None
    assert "written" in outcome.output


def test_missing_command_fails():
    assert gpu_check.run_command(["./no-such-command"], 5.0, {}).exit_code == 127


def test_shares_add_up_to_what_is_left():
    steps = [gpu_check.tests_step(Path("a")), gpu_check.benchmark_step(Path("b"))]
    first = gpu_check.allowance(steps, 0, 300)
    assert 0 < first < 300
    assert gpu_check.allowance(steps, 1, 300 - first) == pytest.approx(300 - first)


def test_benchmark_ends_within_its_limit_and_is_read(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("of an earlier run")
    step = gpu_check.benchmark_step(path)
    command = step.command(100.0)
    assert float(command[command.index("--budget") + 1]) < 100 - gpu_check.INTERRUPTED_SECONDS
    assert not path.exists()
    assert step.judge(gpu_check.Outcome(0, 1.0, ""))[0] == gpu_check.FAILED
    assert step.judge(gpu_check.Outcome(None, 1.0, ""))[0] == gpu_check.TIMED_OUT
    path.write_text(json.dumps({"rows": [{"case": "a"}] * 3, "left_out": {}, "errors": {}}))
    assert step.judge(gpu_check.Outcome(0, 1.0, "")) == (
        gpu_check.PASSED,
        {"cases": 1, "left_out": 0, "errors": {}},
    )


def step(name, program, **options):
    return gpu_check.Step(
        name,
        weight=1,
        command=lambda limit: [sys.executable, "-c", program],
        judge=lambda outcome: (gpu_check.status_of(outcome), {}),
        **options,
    )


@pytest.mark.parametrize("fails", [False, True])
def test_check_runs_every_step_and_tells(fails, tmp_path, monkeypatch, capsys):
    facts = json.dumps({"GPU": "NVIDIA Test 1", "PyTorch": {"nested": 1}}, indent=1)
    environment = step("environment", f"print('a warning'); print({facts!r})")
    environment.judge = gpu_check.environment_step().judge
    monkeypatch.setattr(gpu_check, "environment_step", lambda: environment)
    program = f"print({str(Path.home())!r} + '/x'); raise SystemExit({int(fails)})"
    monkeypatch.setattr(gpu_check, "tests_step", lambda junit: step("tests", program))
    monkeypatch.setattr(
        gpu_check, "sanitizer_step", lambda tool, *_: step(tool, "", missing="no such tool")
    )
    monkeypatch.setattr(
        gpu_check,
        "benchmark_step",
        lambda path: step("benchmark", f"open({str(path)!r}, 'w').write('{{}}')"),
    )
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--results", str(tmp_path), "--spent", "5"])
    assert ended.value.code == int(fails)
    check = json.loads((tmp_path / "nvidia-test-1-check.json").read_text())
    assert check["environment"]["GPU"] == "NVIDIA Test 1"
    assert check["passed"] == (not fails)
    assert check["seconds"] >= 5
    statuses = {record["name"]: record["status"] for record in check["steps"]}
    assert statuses == {
        "environment": gpu_check.PASSED,
        "tests": gpu_check.FAILED if fails else gpu_check.PASSED,
        "memcheck": gpu_check.TOOL_MISSING,
        "racecheck": gpu_check.TOOL_MISSING,
        "benchmark": gpu_check.PASSED,
    }
    assert ("tail" in check["steps"][1]) == fails
    assert str(Path.home()) + "/" not in json.dumps(check)
    assert (tmp_path / "nvidia-test-1-bench.json").exists()
    assert "tool missing" in capsys.readouterr().out
