"""Everything about torch.nn.functional.grid_sample that is not a number."""

import functools
import inspect
import warnings

import pytest
import samples
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map_only

import gridsample_ext.functional
from gridsample_ext import grid_sample

CASE = samples.Case(2, "bilinear", "zeros", False)


def call(*arguments):
    return grid_sample(*arguments, *CASE.options)


def test_signature():
    def parameters(function):
        return [
            (p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()
        ]

    ours, pytorchs = parameters(grid_sample), parameters(F.grid_sample)
    assert ours[: len(pytorchs)] == pytorchs
    assert {kind for _, kind, _ in ours[len(pytorchs) :]} == {inspect.Parameter.KEYWORD_ONLY}


def test_defaults(device):
    input, grid = samples.sample(CASE, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples.assert_close(grid_sample(input, grid), F.grid_sample(input, grid))
    samples.assert_close(
        grid_sample(
            grid=grid, input=input, align_corners=True, padding_mode="border", mode="nearest"
        ),
        F.grid_sample(input, grid, "nearest", "border", True),
    )


@pytest.mark.parametrize("function", [grid_sample, F.grid_sample], ids=("ours", "torch"))
def test_warning_without_align_corners(function):
    """Once, and at the line that called."""
    input, grid = samples.sample(CASE)
    with pytest.warns(
        UserWarning, match="Default grid_sample and affine_grid behavior has changed"
    ) as record:
        function(input, grid)
    assert [warning.filename for warning in record] == [__file__]


@pytest.mark.parametrize("align_corners", [False, True])
def test_no_warning_with_align_corners(align_corners):
    input, grid = samples.sample(CASE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid_sample(input, grid, align_corners=align_corners)


class Image(torch.Tensor):
    """A subclass that adds nothing."""


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
def test_subclass_is_kept(side, device):
    """As by torch's function, values and type, with gradients to the plain tensors."""
    tensors = list(samples.sample(CASE, device=device))
    expected = call(*tensors)
    tensors[side] = tensors[side].as_subclass(Image).requires_grad_()
    output = call(*tensors)
    assert type(output) is type(F.grid_sample(*tensors, *CASE.options)) is Image
    samples.assert_close(output.as_subclass(torch.Tensor).detach(), expected)
    (gradient,) = torch.autograd.grad(output.sum(), tensors[side])
    assert gradient.shape == tensors[side].shape


class Overriding:
    """Not a tensor, but takes part in torch's function protocol."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), keywords=None):
        """Report the call instead of making it."""
        return function, types, arguments, keywords


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
def test_torch_function_sees_the_call(side):
    tensors = list(samples.sample(CASE))
    tensors[side] = Overriding()
    function, types, arguments, keywords = grid_sample(*tensors, mode="nearest", align_corners=True)
    assert function is grid_sample
    assert Overriding in types
    bound = inspect.signature(grid_sample).bind(*arguments, **keywords)
    bound.apply_defaults()
    assert bound.arguments["input"] is tensors[0]
    assert bound.arguments["grid"] is tensors[1]
    assert [bound.arguments[name] for name in ("mode", "padding_mode", "align_corners")] == [
        "nearest",
        "zeros",
        True,
    ]


def test_parameter(device):
    input, grid = samples.sample(CASE, device=device)
    parameter = torch.nn.Parameter(input)
    output = call(parameter, grid)
    assert type(output) is torch.Tensor
    output.square().sum().backward()
    samples.assert_close(
        parameter.grad,
        torch.autograd.grad(
            F.grid_sample(parameter, grid, *CASE.options).square().sum(), parameter
        )[0],
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_grad(mode, device):
    input, grid = (tensor.requires_grad_() for tensor in samples.sample(CASE, device=device))
    with mode():
        output = call(input, grid)
    assert not output.requires_grad
    assert output.is_inference() == (mode is torch.inference_mode)
    samples.assert_close(output.clone(), call(input, grid).detach())


@pytest.mark.parametrize("needs_grad", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_gradients_go_where_they_are_wanted(case, needs_grad, device):
    input, grid = samples.sample(case, device=device)
    input.requires_grad_(needs_grad[0])
    grid.requires_grad_(needs_grad[1])
    output = grid_sample(input, grid, *case.options)
    assert output.requires_grad == any(needs_grad)
    if output.requires_grad:
        output.sum().backward()
    assert (input.grad is not None, grid.grad is not None) == needs_grad


def test_gradients_accumulate(device):
    input, grid = (tensor.requires_grad_() for tensor in samples.sample(CASE, device=device))
    call(input, grid).sum().backward()
    once = input.grad.clone(), grid.grad.clone()
    call(input, grid).sum().backward()
    samples.assert_close(input.grad, 2 * once[0])
    samples.assert_close(grid.grad, 2 * once[1])


@pytest.mark.parametrize("side", [0, 1], ids=("input", "grid"))
def test_saved_tensor_modified_in_place(side, device):
    leaves = [tensor.requires_grad_() for tensor in samples.sample(CASE, device=device)]
    tensors = [leaf * 1 for leaf in leaves]
    output = call(*tensors)
    tensors[side].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_graph_is_freed_after_backward(device):
    input, grid = samples.sample(CASE, device=device)
    output = call(input.requires_grad_(), grid)
    output.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        output.sum().backward()


def test_result_may_be_modified_in_place(device):
    input, grid = (tensor.requires_grad_() for tensor in samples.sample(CASE, device=device))
    output = call(input, grid)
    output.mul_(2).sum().backward()
    expected = torch.autograd.grad(
        2 * F.grid_sample(input, grid, *CASE.options).sum(), (input, grid)
    )
    samples.assert_close(input.grad, expected[0])
    samples.assert_close(grid.grad, expected[1])


class Elsewhere(torch.Tensor):
    """A CPU tensor that claims to be on a device without kernels of ours."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, tensor):
        """Wrap a CPU tensor."""
        return torch.Tensor._make_wrapper_subclass(
            cls, tensor.shape, strides=tensor.stride(), dtype=tensor.dtype, device="mps"
        )

    def __init__(self, tensor):
        self.tensor = tensor

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        """Compute on the wrapped tensors."""
        assert function.namespace == "aten", "an op without a kernel for this device was called"
        unwrap = tree_map_only(cls, lambda wrapper: wrapper.tensor, (arguments, keywords or {}))
        return tree_map_only(torch.Tensor, cls, function(*unwrap[0], **unwrap[1]))


@pytest.fixture
def first_fallback():
    """As in a process that has not fallen back yet, before the test and after it."""
    gridsample_ext.functional._warn_fallback_once.cache_clear()
    yield
    gridsample_ext.functional._warn_fallback_once.cache_clear()


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in samples.cases(padding_mode="reflection", align_corners=False, dims=2)
        if case in samples.TORCH_CASES
    ],
    ids=str,
)
def test_fallback_gives_torch_s_result(case, first_fallback):
    input, grid = samples.sample(case, dtype=torch.float32)
    with pytest.warns(UserWarning, match="mps"):
        output = grid_sample(Elsewhere(input), Elsewhere(grid), *case.options)
    assert output.device.type == "mps"
    assert torch.equal(output.tensor, F.grid_sample(input, grid, *case.options))


def test_fallback_warns_once(first_fallback):
    tensors = [Elsewhere(tensor) for tensor in samples.sample(CASE, dtype=torch.float32)]
    with pytest.warns(UserWarning, match="mps") as record:  # noqa: PT031
        for _ in range(3):
            call(*tensors)
    assert len(record) == 1


def test_fallback_broadcasts_the_batch(first_fallback):
    for sizes in ((1, 3), (3, 1)):
        shape = samples.Shape("broadcast", N_input=sizes[0], N_grid=sizes[1])
        input, grid = samples.sample(CASE, shape, torch.float32)
        gridsample_ext.functional._warn_fallback_once.cache_clear()
        with pytest.warns(UserWarning, match="mps"):
            output = call(Elsewhere(input), Elsewhere(grid))
        samples.assert_close(output.tensor, call(input, grid).double())


def test_fallback_keeps_torch_s_errors(first_fallback):
    """What torch cannot do there is torch's error, not a crash."""
    input, grid = samples.sample(CASE, samples.Shape("2_and_3", N_input=2, N_grid=3), torch.float32)
    call_elsewhere = functools.partial(call, Elsewhere(input), Elsewhere(grid))
    with pytest.warns(UserWarning, match="mps"), pytest.raises(RuntimeError, match="batch size"):
        call_elsewhere()


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")  # deprecated by torch itself
def test_jit_trace_of_a_differentiable_call():
    input, grid = samples.sample(CASE, dtype=torch.float64)
    input.requires_grad_()
    traced = torch.jit.trace(call, (input, grid))
    assert torch.equal(traced(input, grid), call(input, grid))
    expected = torch.autograd.grad(call(input, grid).sum(), input)
    assert torch.equal(torch.autograd.grad(traced(input, grid).sum(), input)[0], expected[0])
