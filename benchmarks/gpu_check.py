"""Everything that needs an NVIDIA GPU, in one command: ``make gpu-check PYTHON=python3``.

The test-suite on CUDA, part of it under compute-sanitizer, and the benchmark, in less than ten
minutes, with nothing installed. What came of it goes to two JSON files named after the GPU. Each
step is a process of its own with a time limit, and runs whatever became of those before it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progress import progress, write

ROOT = Path(__file__).resolve().parent.parent
TOTAL_SECONDS = 570.0  # unless told otherwise
INTERRUPTED_SECONDS = 8.0  # to end after an interrupt, out of a step's limit
ENVIRONMENT_SECONDS = 60.0
LEAST_SECONDS = 15.0  # for a step, even if nothing is left
TAIL = 40  # lines of output that are kept of a step that failed

PASSED, FAILED, TIMED_OUT = "passed", "failed", "timed out"
ERRORS_FOUND = "errors found"
TOOL_MISSING, CANNOT_RUN = "tool missing", "tool cannot run here"
BAD = (FAILED, TIMED_OUT, ERRORS_FOUND)

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", "cuda", "--tier", "all")
SANITIZED_TESTS = ("tests/test_forward.py", "tests/test_backward.py")
# Every mode in 2-D and 3-D, forward and backward, on images of three channels and of 67. The two
# terms of names that are matched stand for shapes in tests/samples.py.
SANITIZED_FILTER = (
    "test_matches_reference and edges and not border and (small or blocks_of_channels)"
)
ERROR_EXIT = 9


def scrub(text: str) -> str:
    """The text without the paths, the user and the machine that it was written on."""
    for path, name in ((ROOT, "."), (Path.home(), "~")):
        if len(path.parts) > 1:
            text = re.sub(rf"(?<![\w.-]){re.escape(str(path))}(?![\w-])", name, text)
    text = re.sub(r"/(?:home|Users)/[^/\s:'\"]+", "~", text)
    text = re.sub(r"(?<![\w/.-])/root(?![\w-])", "~", text)
    text = re.sub(r"(torchinductor_|pytest-of-)[\w.-]+", r"\1user", text)
    host = socket.gethostname()
    for name in (host, host.partition(".")[0]):
        if len(name) > 3 and name != "localhost":
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "<host>", text)
    return text


def slug(name: str) -> str:
    """A GPU's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown-gpu"


@dataclass
class Outcome:
    """What a command did."""

    exit_code: int | None  # None: stopped at its limit
    seconds: float
    output: str


@dataclass
class Step:
    """One command, and what its outcome means."""

    name: str
    weight: float  # its share of the time that is left
    command: Callable[[float], list[str]]  # given its limit in seconds
    judge: Callable[[Outcome], tuple[str, dict[str, Any]]]  # the status, and what else to record
    variables: dict[str, str] = field(default_factory=dict)
    missing: str = ""  # why there is nothing to run


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Commands begun within heed interrupts, even where a shell started this one to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_command(command: list[str], limit: float, variables: dict[str, str]) -> Outcome:
    """Run in the repository, show the output as it comes, and stop all of it at the limit.

    An interrupt comes first, upon which pytest and the benchmark write what they have.
    """
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1", **variables}
    # A group of its own can be stopped as a whole; one in this session ends with it, too.
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.version_info >= (3, 11):
        own_group = {"process_group": 0}
    start = time.monotonic()
    try:
        with interruptible():
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                **own_group,
            )
    except OSError as error:
        return Outcome(127, 0.0, f"{error}\n")
    lines: list[str] = []
    stream = process.stdout
    assert stream is not None

    def show() -> None:
        with stream:
            for line in stream:
                lines.append(line)
                write(line, end="")

    reader = threading.Thread(target=show, daemon=True)
    reader.start()
    exit_code: int | None = None
    try:
        exit_code = process.wait(max(1.0, limit - INTERRUPTED_SECONDS))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(INTERRUPTED_SECONDS)
    finally:  # the command itself, and what it may have left
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reader.join(5)
    return Outcome(exit_code, time.monotonic() - start, "".join(lines))


def status_of(outcome: Outcome) -> str:
    """By the exit status alone."""
    if outcome.exit_code is None:
        return TIMED_OUT
    return PASSED if outcome.exit_code == 0 else FAILED


def printed_json(text: str) -> dict[str, Any]:
    """The JSON object among the lines of an output, or nothing."""
    found = re.search(r"^\{$.*?^\}$", text, re.DOTALL | re.MULTILINE)
    try:
        return json.loads(found[0]) if found else {}
    except json.JSONDecodeError:
        return {}


def test_counts(path: Path) -> dict[str, Any]:
    """Passed, failed and skipped, and the names of failures, from JUnit XML."""
    try:
        suites = list(xml.etree.ElementTree.parse(path).getroot().iter("testsuite"))
    except (OSError, xml.etree.ElementTree.ParseError):
        return {}
    total, *bad, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    )
    names = [
        f"{test.get('classname')}.{test.get('name')}"
        for suite in suites
        for test in suite.iter("testcase")
        if test.find("failure") is not None or test.find("error") is not None
    ]
    return {
        "passed": total - sum(bad) - skipped,
        "failed": sum(bad),
        "skipped": skipped,
        "failures": [scrub(name) for name in names[:50]],
    }


# What compute-sanitizer says where it cannot work, and of what it finds.
_TOOL_TROUBLE = re.compile(
    r"^=+.*(?:Device not supported|Failed to initialize|No attachable process|Internal Sanitizer"
    r"|Unable to find injection|terminated before first instrumented API call"
    r"|[Uu]nsupported (?:device|driver)|[Dd]river version is insufficient).*$",
    re.MULTILINE,
)
_FINDING = re.compile(
    r"^=+\s+(?:Error: )?"
    r"(?:Invalid (?:__|PC)|Misaligned|Race reported|Warp Illegal|Out-of-range|Stack overflow"
    r"|Address \S+ is (?:out of bounds|misaligned))",
    re.MULTILINE,
)
# What pytest says where it is to blame that there was nothing to instrument.
_NO_TESTS = re.compile(
    r"^ERROR|: error: |no tests ran|\d+ deselected in|errors? during collection", re.MULTILINE
)
_SUMMARY = re.compile(r"^=+\s+((?:ERROR|RACECHECK|LEAK) SUMMARY:.*)$", re.MULTILINE)


def judge_sanitizer(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """Tell a tool that cannot run from an error that it found.

    A clean summary counts only beside tests that ran.
    """
    text = outcome.output
    summaries = _SUMMARY.findall(text)
    errors = sum(int(number) for line in summaries for number in re.findall(r"(\d+) errors?", line))
    passed = re.search(r"(\d+) passed", text)
    details: dict[str, Any] = {"summary": summaries}
    if passed:
        details["passed"] = int(passed[1])
    if _FINDING.search(text):
        return ERRORS_FOUND, details
    trouble = _TOOL_TROUBLE.search(text)
    if trouble:
        if "terminated before" in trouble[0] and _NO_TESTS.search(text):
            return FAILED, details
        return CANNOT_RUN, details | {"reason": scrub(trouble[0].strip("= "))[:300]}
    if outcome.exit_code is None:
        return TIMED_OUT, details
    if errors or outcome.exit_code == ERROR_EXIT:
        return ERRORS_FOUND, details
    if outcome.exit_code == 0 and summaries and passed:
        return PASSED, details
    if outcome.exit_code == 0 or "COMPUTE-SANITIZER" not in text:
        return CANNOT_RUN, details | {"reason": "the tool reported nothing"}
    return FAILED, details


def sanitizer_path() -> str | None:
    """compute-sanitizer on the path or where CUDA's toolkit puts it."""
    found = shutil.which("compute-sanitizer")
    usual = "/usr/local/cuda/bin/compute-sanitizer"
    return found or (usual if os.access(usual, os.X_OK) else None)


def sanitizer_step(tool: str, *options: str) -> Step:
    """A small part of the tests under one of the sanitizer's tools."""
    path = sanitizer_path()

    def command(limit: float) -> list[str]:
        head = [path or "", "--tool", tool, "--error-exitcode", str(ERROR_EXIT), *options]
        return [*head, sys.executable, *PYTEST, *SANITIZED_TESTS, "-k", SANITIZED_FILTER]

    return Step(
        tool,
        weight=1,
        command=command,
        judge=judge_sanitizer,
        # Else allocations share blocks, and an overrun of one ends in another.
        variables={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        missing="" if path else "compute-sanitizer is neither on the path nor in /usr/local/cuda",
    )


def environment_step() -> Step:
    """Whether PyTorch sees a GPU and the CUDA kernels are loaded."""
    return Step(
        "environment",
        weight=1,
        command=lambda limit: [sys.executable, "benchmarks/run_cuda.py", "--environment"],
        judge=lambda outcome: (status_of(outcome), {"environment": printed_json(outcome.output)}),
    )


def in_parallel() -> list[str]:
    """What lets pytest-xdist, if it is installed, spread the tests over half of the cores."""
    workers = min(8, (os.cpu_count() or 1) // 2)
    if workers < 2 or importlib.util.find_spec("xdist") is None:
        return []
    # Work is taken over from workers that are held up; pytest-benchmark would warn.
    return ["-n", str(workers), "--dist", "worksteal", "-p", "no:benchmark"]


def tests_step(junit: Path) -> Step:
    """The whole test-suite on CUDA."""

    def judge(outcome: Outcome) -> tuple[str, dict[str, Any]]:
        counts = test_counts(junit)
        status = status_of(outcome)
        if status == PASSED and not counts.get("passed"):
            status = FAILED
        return status, counts

    return Step(
        "tests",
        weight=7,
        command=lambda limit: [sys.executable, *PYTEST, *in_parallel(), f"--junitxml={junit}"],
        judge=judge,
        # Workers of many threads each would wait for one another.
        variables={"OMP_NUM_THREADS": "2"} if in_parallel() else {},
    )


def benchmark_step(results: Path) -> Step:
    """The benchmark, told to begin no case that might not end within the limit."""

    def command(limit: float) -> list[str]:
        results.unlink(missing_ok=True)
        budget = max(5.0, min(230.0, limit - 30))
        head = [sys.executable, "benchmarks/run_cuda.py", "--out", str(results)]
        return [*head, "--seconds", "0.1", "--budget", f"{budget:.0f}"]

    def judge(outcome: Outcome) -> tuple[str, dict[str, Any]]:
        try:
            found = json.loads(results.read_text())
        except (OSError, json.JSONDecodeError):
            return status_of(outcome) if outcome.exit_code != 0 else FAILED, {}
        cases = len({row["case"] for row in found["rows"]})
        details = {"cases": cases, "left_out": len(found["left_out"]), "errors": found["errors"]}
        return status_of(outcome), details

    return Step("benchmark", weight=3.5, command=command, judge=judge)


def allowance(steps: list[Step], index: int, left: float) -> float:
    """A step's share of the time that is left to it and to those after it."""
    return left * steps[index].weight / sum(step.weight for step in steps[index:])


def run_step(step: Step, limit: float) -> dict[str, Any]:
    """Run and judge one step."""
    write(f"\n=== {step.name}, at most {limit:.0f} s")
    if step.missing:
        write(step.missing)
        return {"name": step.name, "status": TOOL_MISSING, "seconds": 0.0, "reason": step.missing}
    outcome = run_command(step.command(limit), limit, step.variables)
    status, details = step.judge(outcome)
    record = {
        "name": step.name,
        "status": status,
        "seconds": round(outcome.seconds, 1),
        "limit": round(limit, 1),
        "exit_code": outcome.exit_code,
        **details,
    }
    if status != PASSED:
        record["tail"] = scrub(outcome.output).splitlines()[-TAIL:]
    write(f"=== {step.name}: {status} in {outcome.seconds:.0f} s")
    return record


def table(records: list[dict[str, Any]]) -> str:
    """A line for each step."""
    lines = []
    for record in records:
        facts = [
            f"{record[name]} {name.replace('_', ' ')}"
            for name in ("passed", "failed", "skipped", "cases", "left_out")
            if name in record
        ]
        facts += record.get("summary", [])
        if "reason" in record:
            facts.append(record["reason"])
        text = f"{record['name']:<12} {record['status']:<20} {record['seconds']:6.0f} s"
        lines.append(f"{text}  {', '.join(facts)}".rstrip())
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run every step; the exit status says whether one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument(
        "--spent", type=float, default=0, help="seconds that the build took, out of --limit"
    )
    parser.add_argument(
        "--limit", type=float, default=TOTAL_SECONDS, help="seconds for all of it together"
    )
    arguments = parser.parse_args(argv)
    begin = time.monotonic() - arguments.spent
    folder = arguments.results.resolve()
    folder.mkdir(parents=True, exist_ok=True)

    record = run_step(environment_step(), ENVIRONMENT_SECONDS)
    environment = record.pop("environment")
    gpu = environment.get("GPU", "none")
    name = "no-gpu" if gpu == "none" else slug(gpu)
    check: dict[str, Any] = {
        "environment": environment,
        "spent_before": arguments.spent,
        "steps": [record],
    }
    files = [folder / f"{name}-check.json", folder / f"{name}-bench.json"]

    def save() -> None:
        check["passed"] = not any(step["status"] in BAD for step in check["steps"])
        check["seconds"] = round(time.monotonic() - begin, 1)
        files[0].write_text(json.dumps(check, indent=1) + "\n")

    save()
    with tempfile.TemporaryDirectory() as scratch:
        steps = [
            tests_step(Path(scratch) / "junit.xml"),
            # Calls that fail are the program's to handle, and PyTorch makes some on purpose.
            sanitizer_step("memcheck", "--report-api-errors", "no"),
            sanitizer_step("racecheck"),
            benchmark_step(files[1]),
        ]
        for index, step in enumerate(progress(steps, "step")):
            left = arguments.limit - (time.monotonic() - begin)
            limit = max(LEAST_SECONDS, allowance(steps, index, left))
            check["steps"].append(run_step(step, limit))
            save()
    print(f"\n{'no GPU' if gpu == 'none' else gpu}, {check['seconds']:.0f} s in all")
    print(table(check["steps"]))
    for path in files:
        if path.exists():
            print(f"wrote {os.path.relpath(path)}")
    sys.exit(0 if check["passed"] else 1)


if __name__ == "__main__":
    main()
