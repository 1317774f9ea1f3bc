"""What memory kernels touch, and how much they take.

No kernel reads outside the storage of its arguments: each lies between two forbidden pages. A read
beyond would end the process. The storage's last byte is the last before a page, or its first the
first behind one.

Calls of few samples take no memory for a copy of the image: they run in a process that may not
have it.
"""

import ctypes
import mmap
import os
import subprocess
import sys

import pytest
import samples
import torch

import gridsample_ext
from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

PAGE = mmap.PAGESIZE
PROT_NONE = 0
DTYPES = (torch.float16, torch.float32, torch.float64)
SHAPES = [
    samples.Shape("one_channel", N=1, C=1, size=(3, 4, 5), out=(2, 3, 7)),
    samples.Shape("few_channels", N=1, C=3, size=(3, 4, 5), out=(2, 3, 19)),
    samples.Shape("blocks_of_channels", N=1, C=35, size=(2, 5, 3), out=(2, 4, 5)),
    samples.Shape("odd_channels", N=2, C=19, size=(2, 3, 5), out=(2, 3, 19)),
]


def guarded(tensor, end):
    """Copy, in the same order in memory, to just before a forbidden page, or just behind one."""
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, PAGE + pages + PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (address, address + PAGE + pages):
        assert mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), PROT_NONE) == 0
    offset = PAGE + (pages - size if end else 0)
    storage = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
    return storage.as_strided(tensor.shape, tensor.stride()).copy_(tensor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_reads_stay_inside(case, shape, layout, dtype):
    input, grid = samples.sample(case, shape, dtype)
    grid.flatten()[: 3 * case.dims] = torch.tensor([-1.0, 1.0, float("inf")]).repeat(case.dims)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid))
    plain = grad_output, samples.INPUT_LAYOUTS[layout](input), grid
    for end in (False, True):
        arguments = [guarded(tensor, end) for tensor in plain]
        samples.assert_bitwise_equal(
            grid_sample(*arguments[1:], *case.options), grid_sample(*plain[1:], *case.options)
        )
        gradients = grid_sample_backward(*arguments, *case.op_options, [True, True])
        expected = grid_sample_backward(*plain, *case.op_options, [True, True])
        for gradient, values in zip(gradients, expected, strict=True):
            samples.assert_bitwise_equal(gradient, values)


# Every op of a call of ten samples. WITHIN bytes of address space beside the results.
FEW_SAMPLES = """
import resource, sys
import torch
import gridsample_ext

ops = torch.ops.gridsample_ext
torch.set_num_threads(1)
WITHIN = 8 << 20

def free(result):
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + result + WITHIN, resource.RLIM_INFINITY))

def check(input, tangent_input, grid_dtype, ops_of_input):
    grid = torch.rand(1, *[1] * (input.dim() - 3), 10, input.dim() - 2, dtype=grid_dtype) * 2 - 1
    tangent_grid = torch.rand_like(grid)
    grad_output = torch.rand(1, input.shape[1], *grid.shape[1:-1], dtype=input.dtype)
    for mode in range(3):
        first = grad_output, input, grid, mode, 0, False
        second = tangent_input, tangent_grid, *first
        free(0)
        ops.grid_sample(*first[1:])
        ops.grid_sample_backward(*first, [False, True])
        for directions in (second[:2], (None, tangent_grid), (tangent_input, None)):
            ops.grid_sample_jvp(*first[1:3], *directions, *first[3:])
            ops.grid_sample_double_backward(*directions, *first, [False, True])
        if not ops_of_input:
            continue
        free(input.numel() * input.element_size())
        for mask in ([True, False], [True, True]):
            ops.grid_sample_backward(*first, mask)
            ops.grid_sample_double_backward(*second, mask)
    # The next arguments are not the ops' to save.
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

"""
VOLUME = """
input = torch.rand({shape}, dtype=torch.{dtype})
if {channels_last}:
    input = input.movedim(1, -1).contiguous().movedim(-1, 1)
check(input, torch.rand_like(input), torch.{grid_dtype}, True)
"""
EXPANDED = """
for shape in ((1, 1, 2**16, 2**15), (1, 1, 2**11, 2**10, 2**10)):
    input = torch.rand([1] * len(shape), dtype=torch.{dtype}).expand(shape)
    check(input, input, torch.{grid_dtype}, False)
    input = torch.rand([*shape[:-1], 1], dtype=torch.{dtype}).expand(shape)
    check(input, input, torch.{grid_dtype}, False)
"""
# AddressSanitizer takes address space of its own.
NEEDS_ADDRESS_SPACE = pytest.mark.skipif(
    sys.platform != "linux" or "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="counts address space, in /proc",
)
PAIRS = [("float32", "float64"), ("float16", "float64"), ("float32", "float32")]


def run_within_memory(program):
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr


@NEEDS_ADDRESS_SPACE
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "grid_dtype"), PAIRS)
def test_few_samples_of_a_volume(dtype, grid_dtype, channels_last):
    # More than 32 MiB in either type: malloc gives such memory back at once.
    shape = (1, 6, 160, 160, 160)
    names = {"dtype": dtype, "grid_dtype": grid_dtype, "channels_last": channels_last}
    run_within_memory(FEW_SAMPLES + VOLUME.format(shape=shape, **names))


@NEEDS_ADDRESS_SPACE
@pytest.mark.parametrize(("dtype", "grid_dtype"), PAIRS)
def test_few_samples_of_an_expanded_image(dtype, grid_dtype):
    """Of 2^31 pixels, of which one, or one of each row, is in memory."""
    run_within_memory(FEW_SAMPLES + EXPANDED.format(dtype=dtype, grid_dtype=grid_dtype))


def test_out_of_memory_is_pytorch_s_error(device):
    """Its type, torch.OutOfMemoryError on CUDA, and its text, from every way to call."""
    sizes = 1, 1 << 10, 1 << 20, 1 << 15  # 128 TiB
    with pytest.raises(RuntimeError) as expected:
        torch.empty(sizes, device=device)
    image = torch.ones(1, 1, 1, 1, device=device).expand(1, 1 << 10, 1, 1)
    grid = torch.zeros(1, 1, 1, 2, device=device).expand(1, 1 << 20, 1 << 15, 2)
    leaf = image.detach().requires_grad_()
    for call in (
        lambda: gridsample_ext.grid_sample(image, grid, align_corners=False),
        lambda: gridsample_ext.grid_sample(leaf, grid, align_corners=False),
        lambda: torch.ops.gridsample_ext.grid_sample(image, grid, 0, 0, False),
        lambda: torch.ops.gridsample_ext.grid_sample(leaf, grid, 0, 0, False),
        lambda: torch.vmap(
            lambda image: gridsample_ext.grid_sample(image, grid, align_corners=False)
        )(image[None]),
    ):
        with pytest.raises(type(expected.value)) as actual:
            call()
        if device == "cpu":  # on CUDA the text tells how much is in use
            assert str(actual.value) == str(expected.value)


def test_out_of_memory_that_has_passed_is_told_all_the_same(monkeypatch):
    """If by now there is memory, the type is that of PyTorch's error on CUDA."""
    error = RuntimeError(
        "gridsample_ext: could not allocate a tensor with sizes [2, 3] of float32 on cuda:0"
    )
    monkeypatch.setattr(torch, "empty", lambda *arguments, **named: None)
    with pytest.raises(torch.OutOfMemoryError, match=r"sizes \[2, 3\] of float32 on cuda:0"):
        gridsample_ext._ops.raise_out_of_memory(error)
    gridsample_ext._ops.raise_out_of_memory(RuntimeError("something else"))


def test_backward_without_memory_for_a_gradient():
    """Gradients' allocations are results as well."""
    image = torch.ones(1, 1, 1, 1).expand(1, 1 << 24, 1 << 12, 1 << 12)
    grid = torch.zeros(1, 1, 1, 2)
    grad_output = torch.ones(1, 1 << 24, 1, 1)
    with pytest.raises(RuntimeError, match="allocate"):
        torch.ops.gridsample_ext.grid_sample_backward(
            grad_output, image, grid, 0, 0, False, [True, False]
        )
