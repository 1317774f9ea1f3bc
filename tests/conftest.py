"""Fixtures that every test gets."""

import contextlib
import sys
import warnings
from pathlib import Path

import pytest
import torch

import gridsample_ext

sys.path.insert(0, str(Path(__file__).parent / "cuda_emulation"))
import build_emulation

DEVICES = ("cpu", "emulated-cuda", "cuda")
OPS = (
    "grid_sample",
    "grid_sample_backward",
    "grid_sample_jvp",
    "grid_sample_double_backward",
)


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        action="append",
        choices=DEVICES,
        help="run tests that have a device on this one only; may be repeated (default: on all)",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "devices(*names): those that a test is for, of all")


def why_no_cuda():
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    return gridsample_ext._ops.cuda_library_error()


def pytest_generate_tests(metafunc):
    if "device" not in metafunc.fixturenames:
        return
    reason = why_no_cuda()
    marks = {"cuda": pytest.mark.skipif(reason is not None, reason=f"no CUDA: {reason}")}
    wanted = metafunc.config.getoption("--device") or DEVICES
    names = next(metafunc.definition.iter_markers("devices"), pytest.mark.devices(*DEVICES)).args
    metafunc.parametrize(
        "device",
        [pytest.param(name, marks=marks.get(name, ())) for name in names if name in wanted],
        indirect=True,
    )


@pytest.fixture(scope="session")
def emulated_ops():
    """The CUDA kernels as ops for CPU tensors, compiled if need be."""
    torch.ops.load_library(str(build_emulation.build()))
    return torch.ops.gridsample_ext_emulated


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
