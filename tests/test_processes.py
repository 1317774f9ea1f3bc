"""Forked processes, threads with small stacks, processes with little memory.

Each test runs this file as a program of its own, so that a hang or a crash is one failed test.
"""

import ctypes
import mmap
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import samples
import torch

import gridsample_ext
from gridsample_ext import _C, grid_sample

ROOT = Path(gridsample_ext.__file__).parents[1]
OPS = torch.ops.gridsample_ext
SMALL_STACK = 128 << 10


def run(program, *arguments, timeout=240, **environment):
    """Run a function of this file; with all that it started, it ends after `timeout` seconds."""
    process = subprocess.Popen(
        [sys.executable, __file__, program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail(f"{program} {' '.join(arguments)} hangs")
    assert process.returncode == 0, f"exit code {process.returncode}\n{errors}"
    return output + errors


def as_bytes(tensor):
    return tensor.detach().numpy().tobytes()


# Forked processes

# One image that two threads share, and of more elements than PyTorch copies on one thread.
FORKED_SHAPE = samples.Shape("forked", N=1, C=8, size=(8, 128, 128), out=(4, 128, 128))
FORKED_CASE = samples.Case(2, "bilinear", "zeros", False)
PAIRS = {
    "float32": (torch.float32, torch.float32),
    "float16": (torch.float16, torch.float16),
    "float64-grid": (torch.float32, torch.float64),
}
tensors = None  # what children inherit


def prepare(pair, layout):
    """Everything that takes PyTorch's own threads to make."""
    global tensors
    input, grid = samples.sample(FORKED_CASE, FORKED_SHAPE, *PAIRS[pair])
    input = samples.INPUT_LAYOUTS[layout](input)
    moved_input, moved_grid = torch.randn_like(input), torch.randn_like(grid)
    tensors = samples.grad_like(input, grid), input, grid, moved_input, moved_grid


def derivatives(_=None):
    """Forward, both gradients and second derivatives, as bytes, without sums of PyTorch's."""
    grad_output, input, grid, moved_input, moved_grid = tensors
    options = FORKED_CASE.op_options
    direct = [
        OPS.grid_sample(input, grid, *options),
        *OPS.grid_sample_backward(grad_output, input, grid, *options, [True, True]),
        *OPS.grid_sample_double_backward(
            moved_input, moved_grid, grad_output, input, grid, *options, [True, True]
        ),
        OPS.grid_sample_jvp(input, grid, moved_input, moved_grid, *options),
        OPS.grid_sample_backward(grad_output, input, grid, 1, *options[1:], [True, True])[
            1
        ],  # zeros
    ]
    leaves = input.detach().requires_grad_(), grid.detach().requires_grad_()
    output = grid_sample(*leaves, *FORKED_CASE.options)
    first = torch.autograd.grad(output, leaves, grad_output, create_graph=True)
    second = torch.autograd.grad(first, leaves, (moved_input, moved_grid))
    return [as_bytes(tensor) for tensor in (*direct, output, *first, *second)]


def derivatives_with_threads(_=None):
    torch.set_num_threads(2)
    return derivatives()


def put_derivatives(queue):
    queue.put(derivatives_with_threads())


def by_process():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=put_derivatives, args=(queue,))
    child.start()
    result = queue.get()
    child.join()
    assert child.exitcode == 0
    return [result]


def by_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(derivatives_with_threads, range(3))


class Derivatives(torch.utils.data.Dataset):
    """The derivatives, computed by the worker that is asked."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return derivatives()


def start_worker(_):
    torch.set_num_threads(2)


def by_data_loader():
    loader = torch.utils.data.DataLoader(
        Derivatives(),
        batch_size=None,
        num_workers=2,
        worker_init_fn=start_worker,
        multiprocessing_context="fork",
    )
    return list(loader)


WAYS = {"process": by_process, "pool": by_pool, "data_loader": by_data_loader}


def fork(way, pair, layout):
    """Of a parent that has used two threads."""
    torch.set_num_threads(2)
    prepare(pair, layout)
    expected = derivatives()
    for result in WAYS[way]():
        assert result == expected
    assert derivatives() == expected  # the parent goes on as before


def fork_first(way):
    """Of a parent that has not used threads."""
    torch.set_num_threads(1)
    prepare("float32", "contiguous")
    results = WAYS[way]()
    expected = derivatives()
    for result in results:
        assert result == expected


def patched_derivatives(_=None):
    grad_output, input, grid, *_ = tensors
    leaves = input.detach().requires_grad_(), grid.detach().requires_grad_()
    output = torch.nn.functional.grid_sample(*leaves, *FORKED_CASE.options)
    gradients = torch.autograd.grad(output, leaves, grad_output)
    return [as_bytes(tensor) for tensor in (output, *gradients)]


def fork_patched():
    """A pool whose workers call a patched F.grid_sample, as their parent has."""
    torch.set_num_threads(2)
    prepare("float32", "contiguous")
    with gridsample_ext.patch():
        expected = patched_derivatives()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            for result in pool.map(patched_derivatives, range(3)):
                assert result == expected


def test_a_pool_samples_under_a_patch():
    run("fork_patched")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_forked_process_samples(pair, layout):
    run("fork", "process", pair, layout)


@pytest.mark.parametrize("way", ["pool", "data_loader"])
def test_forked_workers_sample(way):
    run("fork", way, "float32", "contiguous")


@pytest.mark.parametrize("way", WAYS)
def test_a_process_forked_before_any_call_samples(way):
    run("fork_first", way)


# Small stacks

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
    run("small_stacks", "1", "1", timeout=900)


def test_workers_with_small_stacks():
    run("small_stacks", "2", "4", timeout=900, OMP_STACKSIZE="128k")


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
    print(run("measure_stacks", timeout=900, GRIDSAMPLE_EXT_ISA=level))


# Little memory. What malloc has freed goes back to the system, so that it cannot be had again.

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
    samples.assert_bitwise_equal(actual[0], expected[0])


def backward_without_scratch(threads):
    torch.set_num_threads(int(threads))
    input, grid, grad_output = smooth(1, 16, (512, 512), (400, 400))
    actual, expected = with_little_memory(
        lambda: OPS.grid_sample_backward(grad_output, input, grid, 0, 0, False, [True, True]),
        slack=2 << 20,
    )
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
        ("results_that_cannot_be_had",),
        ("lists_of_taps_that_cannot_be_had",),
    ],
    ids=" ".join,
)
def test_little_memory(program):
    assert run(*program, **GIVE_BACK) == ""  # nothing is printed


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
