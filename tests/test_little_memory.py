"""Processes that may not allocate scratch, or not even results.

What malloc has freed goes back to the system there, so that it cannot be had again.
"""

import mmap
import resource
import sys
from pathlib import Path

import pytest
import samples
import torch
from programs import main, run

import gridsample_ext

OPS = torch.ops.gridsample_ext

GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": "0"}


class MemoryLimit:
    """While open, `more` bytes can be allocated."""

    def __init__(self, more):
        self.more = more

    def __enter__(self):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(
            resource.RLIMIT_AS, (pages * mmap.PAGESIZE + self.more, resource.RLIM_INFINITY)
        )

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def with_little_memory(op, slack):
    """What op() gives ordinarily, and what with memory for its results and `slack` bytes more."""
    expected = op()
    with MemoryLimit(sum(r.numel() * r.element_size() for r in expected) + slack):
        actual = op()
    return actual, expected


def taken(*results):
    """The paths of the last call, the one with little memory."""
    return [gridsample_ext._C.executed_paths()[result] for result in results]


def smooth(N, C, size, out):
    input = samples.randn(N, C, *size, dtype=torch.float32)
    grid = samples.identity_grid(out, False).float().mul(0.9).expand(N, -1, -1, -1).contiguous()
    return input, grid, samples.randn(N, C, *out, dtype=torch.float32, seed=3)


def forward_without_scratch(threads):
    """A quarter of 16 MiB to pack each block of channels in cannot be had."""
    torch.set_num_threads(int(threads))
    input, grid, _ = smooth(1, 16, (512, 512), (400, 400))
    actual, expected = with_little_memory(
        lambda: [OPS.grid_sample(input, grid, 0, 0, False)], slack=2 << 20
    )
    assert taken("output") == ["planes"]
    samples.assert_bitwise_equal(actual[0], expected[0])


def backward_without_scratch(threads):
    torch.set_num_threads(int(threads))
    input, grid, grad_output = smooth(1, 16, (512, 512), (400, 400))
    actual, expected = with_little_memory(
        lambda: OPS.grid_sample_backward(grad_output, input, grid, 0, 0, False, [True, True]),
        slack=2 << 20,
    )
    assert taken("grad_input", "grad_grid") == ["planes", "planes"]
    samples.assert_bitwise_equal(actual[0], expected[0])
    samples.assert_close(actual[1], expected[1].double(), dtype=torch.float32, terms=1024)
    packed, grid_alone = with_little_memory(
        lambda: OPS.grid_sample_backward(grad_output, input, grid, 0, 0, False, [False, True])[1:],
        slack=2 << 20,
    )
    samples.assert_bitwise_equal(packed[0], actual[1])
    samples.assert_bitwise_equal(grid_alone[0], expected[1])


def backward_without_partial_sums():
    """Two threads share the channels of few samples: 64 chunks of 7 tiles are 0.9 MB."""
    torch.set_num_threads(2)
    input, grid, grad_output = smooth(1, 4096, (64, 64), (28, 64))
    actual, expected = with_little_memory(
        lambda: OPS.grid_sample_backward(grad_output, input, grid, 0, 0, False, [False, True])[1:],
        slack=600_000,
    )
    samples.assert_bitwise_equal(actual[0], expected[0])


def backward_without_ranges():
    """Two threads share an image of one channel: 36,864 tiles have a range of 16 bytes each."""
    torch.set_num_threads(2)
    input, grid, grad_output = smooth(1, 1, (64, 64), (3072, 3072))
    actual, expected = with_little_memory(
        lambda: OPS.grid_sample_backward(grad_output, input, grid, 0, 0, False, [True, False])[:1],
        slack=400_000,
    )
    samples.assert_bitwise_equal(actual[0], expected[0])


def warps_without_a_grid(kind, threads):
    """A grid would be 128 MB; sums for the affine map take 0.75, ranges of tiles 1."""
    torch.set_num_threads(int(threads))
    size = 4000, 4000
    input = samples.randn(1, 1, *size, dtype=torch.float32)
    zero = torch.zeros(()).expand(1, *size, 2)
    moved = 3 * samples.randn(1, 2, *size, dtype=torch.float32, seed=1).movedim(1, -1)
    displacement = zero if kind == "affine" else moved
    affine = torch.tensor([[[0.9, 0.1, 1.0], [-0.1, 0.8, 2.0]]])
    affine = None if kind == "displacement" else affine
    grad_output = samples.randn(1, 1, *size, dtype=torch.float32, seed=2)
    options = 0, 1, False
    later = True, 0.0, None, -0.75
    mask = [True, kind != "affine", affine is not None]

    def both():
        output = OPS.warp(input, displacement, affine, *options, *later)
        gradients = OPS.warp_backward(
            grad_output, input, displacement, affine, *options, mask, False, *later
        )
        return [output, *(each for each in gradients if each is not None)]

    actual, expected = with_little_memory(both, slack=6 << 20)
    for one, other in zip(actual, expected, strict=True):
        samples.assert_bitwise_equal(one, other)


def error_of(op, more):
    """Of the kernels; in its place Python raises PyTorch's own (tests/test_memory.py)."""
    with (
        MemoryLimit(more),
        gridsample_ext._compat.below_autograd(),
        pytest.raises(RuntimeError) as info,
    ):
        op()
    return str(info.value)


def lists_of_taps_that_cannot_be_had():
    """Of 80,000 taps: 5,000 bicubic samples of a float16 image.

    Without the list sums are made in float32, for which there is no memory either.
    """
    torch.set_num_threads(1)
    image = torch.zeros(1, 1, 4096, 4096, dtype=torch.float16)
    grid = torch.rand(1, 50, 100, 2).half() * 2 - 1
    grad_output = torch.rand(1, 1, 50, 100).half()
    message = error_of(
        lambda: OPS.grid_sample_backward(grad_output, image, grid, 2, 0, False, [True, False]),
        2 * image.numel() + (1 << 20),
    )
    start = "gridsample_ext: could not allocate a tensor with sizes [1, 1, 4096, 4096] of float32"
    assert message.startswith(start), message


def results_that_cannot_be_had():
    """The error says what; and so where the second-order ops need a copy, of 16 MiB."""
    torch.set_num_threads(1)
    input, grid, grad_output = smooth(1, 16, (512, 512), (400, 400))
    options = 0, 0, False
    start = "gridsample_ext: could not allocate a tensor with sizes "
    message = error_of(lambda: OPS.grid_sample(input, grid, *options), 1 << 20)
    assert message.startswith(f"{start}[1, 16, 400, 400] of float32 on cpu"), message
    message = error_of(
        lambda: OPS.grid_sample_backward(grad_output, input, grid, *options, [True, True]), 1 << 20
    )
    assert message.startswith(f"{start}[1, 16, 512, 512] of float32 on cpu"), message
    result = grad_output.numel() * 4
    message = error_of(
        lambda: OPS.grid_sample_jvp(input, grid, None, grid, *options), result + (2 << 20)
    )
    assert message.startswith(f"{start}[{input.numel()}] of float32 on cpu"), message


@pytest.mark.skipif(sys.platform != "linux", reason="limits of glibc's malloc")
@pytest.mark.parametrize(
    "program",
    [
        ("forward_without_scratch", "1"),
        ("forward_without_scratch", "2"),
        ("backward_without_scratch", "1"),
        ("backward_without_scratch", "2"),
        ("backward_without_partial_sums",),
        ("backward_without_ranges",),
        ("warps_without_a_grid", "displacement", "2"),
        ("warps_without_a_grid", "affine", "1"),
        ("warps_without_a_grid", "both", "2"),
        ("results_that_cannot_be_had",),
        ("lists_of_taps_that_cannot_be_had",),
    ],
    ids=" ".join,
)
def test_little_memory(program):
    assert run(__file__, *program, **GIVE_BACK) == ""  # nothing is printed


if __name__ == "__main__":
    main(globals())
