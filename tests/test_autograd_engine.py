"""What autograd's engine may do with a graph: save, recompute, keep, free, and run in threads."""

import contextlib
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import samples
import torch
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import gridsample_ext
from gridsample_ext import grid_sample

CASE = samples.Case(2, "bilinear", "zeros", False)
NEEDS_GRAD = [(True, True), (True, False), (False, True)]
LARGE = samples.Shape("large", N=2, C=4, size=(9, 50, 60), out=(3, 4, 5))
SHAPES = [samples.SMALL, LARGE]  # on both sides of what is worth leaving out (saving.py)


def call(input, grid):
    return grid_sample(input, grid, *CASE.options)


def leaves(needs_grad=(True, True), shape=samples.SMALL, case=CASE, device="cpu"):
    return [
        tensor.requires_grad_(needed)
        for tensor, needed in zip(
            samples.sample(case, shape, device=device), needs_grad, strict=True
        )
    ]


def gradients(output, tensors, **options):
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    return torch.autograd.grad(output.square().sum(), wanted, **options)


def assert_same(actual, expected):
    """To the bit on the CPU; on a GPU atomics add in any order."""
    for tensor, values in zip(actual, expected, strict=True):
        samples.assert_close(tensor, values)
        if tensor.device.type == "cpu":
            samples.assert_bitwise_equal(tensor, values)


@pytest.fixture(autouse=True)
def deterministic():
    """Emulated and real CUDA kernels are to give the same bits each time, too."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("needs_grad", NEEDS_GRAD)
@pytest.mark.parametrize("reentrant", [False, True], ids=("not_reentrant", "reentrant"))
def test_checkpoint(reentrant, needs_grad, shape, device):
    tensors = leaves(needs_grad, shape, device=device)
    runs = []

    def twice(input, grid):
        runs.append(torch.is_grad_enabled())
        return call(call(input, grid), grid)

    expected = gradients(twice(*tensors), tensors)
    runs.clear()
    output = checkpoint(twice, *tensors, use_reentrant=reentrant)
    assert runs == [not reentrant]
    output.square().sum().backward()
    assert runs == [not reentrant, True]
    assert_same([t.grad for t in tensors if t.requires_grad], expected)


class Packed:
    """Hooks that keep a copy of what is saved, and remember what that was."""

    def __init__(self):
        self.packed, self.unpacked = [], 0
        self.hooks = saved_tensors_hooks(self.pack, self.unpack)

    def pack(self, tensor):
        """Copy."""
        self.packed.append(tensor)
        return tensor.numpy(force=True).copy(), tensor.device

    def unpack(self, packed):
        """Make a tensor of the copy."""
        self.unpacked += 1
        return torch.from_numpy(packed[0]).to(packed[1])

    def has(self, tensor):
        """Tell whether a tensor's data was saved."""
        return any(saved.data_ptr() == tensor.data_ptr() for saved in self.packed)

    def bytes(self):
        """Count the memory of all that was saved."""
        return sum(saved.untyped_storage().nbytes() for saved in self.packed)


@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("needs_grad", NEEDS_GRAD)
def test_only_what_is_needed_is_saved(needs_grad, mode, device):
    """Grid always; the pixels for grad_grid alone, which in nearest mode is 0."""
    case = samples.Case(2, mode, "zeros", False)
    tensors = leaves(needs_grad, LARGE, case, device)
    expected = gradients(grid_sample(*tensors, *case.options), tensors)
    packed = Packed()
    with packed.hooks:
        output = grid_sample(*tensors, *case.options)
    assert len(packed.packed) == 2
    assert packed.has(tensors[1])
    assert packed.has(tensors[0]) == (needs_grad[1] and mode != "nearest")
    if not packed.has(tensors[0]):
        assert packed.bytes() == tensors[1].untyped_storage().nbytes() + tensors[0].element_size()
    assert packed.unpacked == 0
    assert_same(gradients(output, tensors), expected)
    assert packed.unpacked == 2


def test_nothing_is_saved_without_gradients(device):
    packed = Packed()
    tensors = samples.sample(CASE, device=device)
    with packed.hooks:
        call(*tensors)
        with torch.no_grad():
            call(*leaves(device=device))
    assert not packed.packed


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "expanded_width", "expanded_batch"])
def test_layout_of_the_gradient_of_input(layout, device):
    """Follows input's, whether or not grid needs a gradient and input's values are kept."""
    input, grid = samples.sample(CASE, LARGE, device=device)
    results = []
    for needs_grid in (False, True):
        image = samples.INPUT_LAYOUTS[layout](input).detach().requires_grad_()
        output = call(image, grid.detach().requires_grad_(needs_grid))
        results.append(torch.autograd.grad(output.square().sum(), image)[0])
    assert results[0].stride() == results[1].stride()
    samples.assert_close(results[0], results[1])


def test_save_on_cpu(device):
    tensors = leaves(shape=LARGE, device=device)
    expected = gradients(call(*tensors), tensors)
    with save_on_cpu():
        output = call(*tensors)
    assert_same(gradients(output, tensors), expected)


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_saved_leaf_modified_in_place(shape, side, device):
    tensors = leaves(shape=shape, device=device)
    output = call(*tensors)
    with torch.no_grad():
        tensors[side].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_saved_constant_modified_in_place(shape, device):
    """One that needs no gradient itself is as much needed."""
    for needs_grad in ((True, False), (False, True)):
        tensors = leaves(needs_grad, shape, device=device)
        output = call(*tensors)
        tensors[needs_grad.index(False)].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


def test_unsaved_input_modified_in_place(device):
    """Its values are not needed, and may change."""
    input, grid = leaves((True, False), LARGE, device=device)
    expected = gradients(call(input, grid), [input])
    image = input * 1
    output = call(image, grid)
    image.zero_()
    assert_same(torch.autograd.grad(output.square().sum(), input), expected)


def test_retain_graph(device):
    tensors = leaves(device=device)
    output = call(*tensors).square().sum()
    output.backward(retain_graph=True)
    once = [tensor.grad.clone() for tensor in tensors]
    output.backward()
    assert_same([tensor.grad for tensor in tensors], [2 * gradient for gradient in once])
    with pytest.raises(RuntimeError, match="second time"):
        output.backward()


def test_hooks_on_tensors_and_nodes(device):
    """Hooks see and may change gradients, as with any function."""
    tensors = leaves(device=device)
    expected = gradients(call(*tensors), tensors)
    intermediate = [tensor * 1 for tensor in tensors]
    for tensor in intermediate:
        tensor.register_hook(lambda gradient: 3 * gradient)
        tensor.retain_grad()
    output = call(*intermediate)
    seen = []
    output.grad_fn.register_prehook(lambda grads: seen.append(len(grads)))
    output.grad_fn.register_hook(lambda grads, _: seen.append([g is not None for g in grads[:2]]))
    output.square().sum().backward()
    assert seen == [1, [True, True]]
    assert_same([t.grad for t in tensors], [3 * gradient for gradient in expected])
    assert_same([t.grad for t in intermediate], [3 * gradient for gradient in expected])


def test_threads_with_shared_leaves(device):
    """Each thread builds and differentiates its own graph; the sums lose nothing."""
    tensors = leaves(shape=LARGE, device=device)
    once = gradients(call(*tensors), tensors)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: call(*tensors).square().sum().backward(), range(24)))
    for tensor, gradient in zip(tensors, once, strict=True):
        samples.assert_close(tensor.grad, 24 * gradient)


def test_threads_with_one_graph(device):
    tensors = leaves(shape=LARGE, device=device)
    output = call(*tensors)
    expected = gradients(output, tensors, retain_graph=True)
    with ThreadPoolExecutor(8) as pool:
        for actual in pool.map(lambda _: gradients(output, tensors, retain_graph=True), range(24)):
            assert_same(actual, expected)


@contextlib.contextmanager
def no_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("ending", ["none", "backward", "retained", "failed", "patched"])
@pytest.mark.parametrize("needs_grad", NEEDS_GRAD)
def test_no_cycle_keeps_tensors_alive(needs_grad, ending, device):
    """All is freed by reference counts, without the garbage collector."""
    tensors = leaves(needs_grad, device=device)
    with no_garbage_collection():
        intermediate = [tensor * 1 for tensor in tensors]
        if ending == "patched":
            with gridsample_ext.patch():
                output = torch.nn.functional.grid_sample(*intermediate, *CASE.options)
        else:
            output = call(*intermediate)
        alive = [*intermediate, output]
        if ending != "patched":  # PyTorch's own nodes have no weak references
            alive.append(output.grad_fn)
        references = [weakref.ref(value) for value in alive]
        del alive
        if ending == "failed":
            intermediate[1].zero_()
            with contextlib.suppress(RuntimeError):
                output.sum().backward()
        elif ending != "none":
            output.sum().backward(retain_graph=ending == "retained")
        del intermediate, output
        assert all(reference() is None for reference in references)


def test_backward_frees_what_was_saved(device):
    """Even if the output lives on."""
    tensors = leaves(device=device)
    with no_garbage_collection():
        intermediate = [tensor * 1 for tensor in tensors]
        output = call(*intermediate)
        references = [weakref.ref(tensor) for tensor in intermediate]
        del intermediate
        assert all(reference() is not None for reference in references)
        output.sum().backward()
        assert all(reference() is None for reference in references)
