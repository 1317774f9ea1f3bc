"""No kernel reads outside the storage of its arguments: each lies between two forbidden pages.

A read beyond would end the process. The storage's last byte is the last before a page, or its first
the first behind one.
"""

import ctypes
import mmap

import pytest
import samples
import torch

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
