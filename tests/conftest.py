"""Fixtures that every test gets."""

import pytest
import torch


@pytest.fixture(params=["cpu"])
def device(request):
    """Every device with kernels."""
    return request.param


@pytest.fixture(autouse=True)
def same_start():
    """Seed the same way, and put back the thread count that a test may have changed."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
