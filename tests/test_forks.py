"""Forked processes sample on one thread, whatever their parent did."""

import multiprocessing

import pytest
import samples
import torch
from programs import main, run

import gridsample_ext
from gridsample_ext import grid_sample

OPS = torch.ops.gridsample_ext


def as_bytes(tensor):
    return tensor.detach().numpy().tobytes()


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
    run(__file__, "fork_patched")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_forked_process_samples(pair, layout):
    run(__file__, "fork", "process", pair, layout)


@pytest.mark.parametrize("way", ["pool", "data_loader"])
def test_forked_workers_sample(way):
    run(__file__, "fork", way, "float32", "contiguous")


@pytest.mark.parametrize("way", WAYS)
def test_a_process_forked_before_any_call_samples(way):
    run(__file__, "fork_first", way)


if __name__ == "__main__":
    main(globals())
