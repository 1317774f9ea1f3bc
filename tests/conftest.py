"""Which tests run, on which devices, and fixtures that every test gets."""

import contextlib
import ctypes
import functools
import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import samples
import torch

import gridsample_ext

sys.path.insert(0, str(Path(__file__).parent / "cuda_emulation"))
import build_emulation

DEVICES = ("cpu", "emulated-cuda", "cuda")
PER_DEVICE = ("device", "cuda_side")  # fixtures: a test that has one runs on each of the devices
OPS = (
    "grid_sample",
    "grid_sample_backward",
    "grid_sample_jvp",
    "grid_sample_double_backward",
    "sample_labels",
    "warp",
    "warp_backward",
    "spline_filter",
)


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        action="append",
        choices=DEVICES,
        help="run tests that have a device on this one only; may be repeated (default: on all)",
    )
    parser.addoption(
        "--tier",
        choices=("pairwise", "all"),
        default="pairwise",
        help="run every pair of values of a test's parameters, or all combinations "
        "(default: pairwise)",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "devices(*names): those that a test is for, of all")
    config.addinivalue_line("markers", "all_combinations: of a test's parameters, in every tier")
    config.addinivalue_line("markers", "compiles: a test that compiles C++")
    if "cuda" in (config.getoption("--device") or ()) and why_no_cuda():
        raise pytest.UsageError(f"--device cuda: {why_no_cuda()}")


@functools.cache
def why_no_cuda():
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    return gridsample_ext._ops.cuda_library_error()


@functools.cache
def why_no_compiler():
    """Tell why nothing can be compiled, or None: with ninja, which may lie beside Python."""
    compiler = os.environ.get("CXX", "c++").split()[0]
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    missing = [name for name in (compiler, "ninja") if shutil.which(name, path=path) is None]
    return f"there is no {' and no '.join(missing)}" if missing else None


def devices(config):
    """List the devices of this run."""
    missing = {"cuda": why_no_cuda(), "emulated-cuda": why_no_compiler()}
    return [name for name in config.getoption("--device") or DEVICES if not missing.get(name)]


def pytest_generate_tests(metafunc):
    for fixture in set(PER_DEVICE) & set(metafunc.fixturenames):
        mark = next(metafunc.definition.iter_markers("devices"), pytest.mark.devices(*DEVICES))
        names = [name for name in mark.args if name in devices(metafunc.config)]
        # Without any the test is collected once, and left out below.
        metafunc.parametrize(fixture, names or [None], indirect=True)


def parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config, items):
    """Leave out tests without a device and, in the pairwise tier, what samples.pairwise does."""
    tests = {}
    for item in items:
        if not any(parameters(item).get(name, "") is None for name in PER_DEVICE):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    by_name = any("[" in argument for argument in config.args)  # who names combinations wants them
    if config.getoption("--tier") == "pairwise" and not by_name:
        for name, group in tests.items():
            if len(group) > 1 and group[0].get_closest_marker("all_combinations") is None:
                chosen = samples.pairwise([samples.factors(parameters(item)) for item in group])
                tests[name] = [group[i] for i in chosen]
    kept = {item for group in tests.values() for item in group}
    if why_no_compiler():
        for item in kept:
            if item.get_closest_marker("compiles"):
                item.add_marker(pytest.mark.skip(reason=why_no_compiler()))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--tier") == "pairwise":
        terminalreporter.write_line(
            "Parameters of tests were combined pairwise; --tier all takes all combinations."
        )
    if why_no_cuda() and not config.getoption("--device"):
        emulated = why_no_compiler() or "the CUDA kernels ran emulated on the host"
        terminalreporter.write_line(f"Nothing ran on a GPU ({why_no_cuda()}): {emulated}.")


@pytest.fixture(scope="session")
def emulated_library():
    """The path of the library with the CUDA kernels for the host, compiled if need be."""
    if why_no_compiler():
        pytest.skip(why_no_compiler())
    path = str(build_emulation.build())
    torch.ops.load_library(path)
    return path


@pytest.fixture(scope="session")
def emulated_ops(emulated_library):
    """The CUDA kernels as ops for CPU tensors."""
    return torch.ops.gridsample_ext_emulated


@pytest.fixture
def launched(emulated_library):
    """A function that tells which CUDA kernels were launched, emulated, since its last call."""
    launches = ctypes.CDLL(emulated_library).gridsample_ext_emulated_launches
    launches.restype = ctypes.c_char_p

    def names():
        return set(launches().decode().split())

    names()
    return names


@contextlib.contextmanager
def replaced_on_cpu(ops):
    """While open, the ops of gridsample_ext run others on CPU tensors."""
    library = torch.library.Library("gridsample_ext", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced
        for name in OPS:
            library.impl(name, getattr(ops, name).default, "CPU", allow_override=True)
    try:
        yield
    finally:
        library._destroy()


@pytest.fixture
def device(request):
    """Every device with kernels; CUDA's emulated on the host (tests/cuda_emulation), too."""
    if request.param != "emulated-cuda":
        yield request.param
        return
    with replaced_on_cpu(request.getfixturevalue("emulated_ops")):
        yield "cpu"


@pytest.fixture(autouse=True)
def same_start():
    """Seed the same way, and put back the thread count that a test may have changed."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
