"""Threads with small stacks, and how much stack kernels use."""

import ctypes
import mmap
import sys
import threading

import pytest
import samples
import torch
from programs import main, run

from gridsample_ext import _C, grid_sample

OPS = torch.ops.gridsample_ext
SMALL_STACK = 128 << 10

STACK_SHAPES = [
    samples.Shape("few_channels", N=1, C=3, size=(5, 9, 11), out=(3, 17, 19)),
    samples.Shape("blocks_of_channels", N=1, C=67, size=(5, 9, 11), out=(3, 17, 19)),
]


def all_ops(case, input, grid, grad_output, moved_input, moved_grid):
    options = case.op_options
    backward = OPS.grid_sample_backward, (grad_output, input, grid, *options)
    second = OPS.grid_sample_double_backward
    tangents = moved_input, moved_grid
    results = [OPS.grid_sample(input, grid, *options)]
    for mask in ([True, True], [True, False], [False, True]):
        results += backward[0](*backward[1], mask)
    results += second(*tangents, grad_output, input, grid, *options, [True, True])
    results.append(OPS.grid_sample_jvp(input, grid, *tangents, *options))
    leaves = input.detach().requires_grad_(), grid.detach().requires_grad_()
    output = grid_sample(*leaves, *case.options)
    first = torch.autograd.grad(output, leaves, grad_output, create_graph=True)
    results += torch.autograd.grad(first, leaves, tangents, allow_unused=True)
    return [result for result in (*results, *first) if result is not None]


def stack_calls(dtypes, shapes):
    """(case, tensors) of everything that has kernels of its own."""
    for case in samples.cases(padding_mode="reflection", align_corners=False):
        for shape in shapes:
            for dtype in dtypes:
                for layout in ("contiguous", "channels_last"):
                    input, grid = samples.sample(case, shape, dtype)
                    input = samples.INPUT_LAYOUTS[layout](input)
                    yield (
                        case,
                        (
                            input,
                            grid,
                            samples.grad_like(input, grid),
                            torch.randn_like(input),
                            torch.randn_like(grid),
                        ),
                    )


def in_small_thread(function):
    """Calls it in a thread that has a stack of 128 KiB."""
    result = []
    before = threading.stack_size(SMALL_STACK)
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    threading.stack_size(before)
    thread.join()
    return result[0]


def small_stacks(threads, scale):
    torch.set_num_threads(int(threads))
    shapes = [
        samples.Shape(s.name, s.N, s.C, s.size, tuple(int(scale) * n for n in s.out))
        for s in STACK_SHAPES
    ]
    for case, arguments in stack_calls(samples.DTYPES, shapes):
        expected = all_ops(case, *arguments)
        actual = in_small_thread(lambda c=case, a=arguments: all_ops(c, *a))
        for tensor, values in zip(actual, expected, strict=True):
            samples.assert_bitwise_equal(tensor, values)


def test_threads_with_small_stacks():
    run(__file__, "small_stacks", "1", "1", timeout=900)


def test_workers_with_small_stacks():
    run(__file__, "small_stacks", "2", "4", timeout=900, OMP_STACKSIZE="128k")


def depth_of(function):
    """Bytes of stack that a call uses: of a new thread's stack, painted before."""
    size, paint = 16 << 20, b"\xa5"
    memory = mmap.mmap(-1, size)
    memory.write(paint * size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    library = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(256)
    failures = []

    def body(_):
        try:
            function()
        except BaseException as error:
            failures.append(error)
        return 0

    entry = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(body)
    thread = ctypes.c_ulong()
    assert library.pthread_attr_init(attributes) == 0
    assert (
        library.pthread_attr_setstack(attributes, ctypes.c_void_p(address), ctypes.c_size_t(size))
        == 0
    )
    assert library.pthread_create(ctypes.byref(thread), attributes, entry, None) == 0
    assert library.pthread_join(thread, None) == 0
    assert not failures, failures
    painted = len(memory[:]) - len(memory[:].lstrip(paint))
    return size - painted


def measure_stacks():
    """With two threads, of which this is one, parts of grad_input have kernels of their own."""
    depths = {"no kernel": depth_of(lambda: torch.zeros(2, 3).add(1))}
    scattered = samples.Shape("scattered", N=1, C=5, size=(32, 32, 32), out=(2, 131, 140))
    for case, arguments in stack_calls((torch.float32, torch.float64), (*STACK_SHAPES, scattered)):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            depth = depth_of(lambda c=case, a=arguments: all_ops(c, *a))
            name = f"{case.dims}-D {case.mode} {arguments[0].dtype}"
            depths[name] = max(depths.get(name, 0), depth)
    for name, depth in depths.items():
        print(f"{name}: {depth / 1024:.0f} KiB")
    assert max(depths.values()) * 1.5 <= _C.kernel_stack


@pytest.mark.skipif(sys.platform != "linux", reason="the size of pthread_attr_t")
@pytest.mark.parametrize("level", _C.build_info()["isa_supported"])
def test_kernels_need_no_more_stack_than_they_are_given(level):
    """With a margin of a half; what Python and PyTorch use is counted along."""
    print(run(__file__, "measure_stacks", timeout=900, GRIDSAMPLE_EXT_ISA=level))


if __name__ == "__main__":
    main(globals())
