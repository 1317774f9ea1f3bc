"""Derivatives of any order, through every function of torch.autograd.functional and torch.func.

Each alone and nested, against the same of composed.grid_sample in float64, and where PyTorch has
the derivative, against F.grid_sample.
"""

import itertools

import composed
import pytest
import samples
import torch
import torch.nn.functional as F
from torch.autograd import functional
from torch.func import (
    functionalize,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
    vmap,
)
from torch.utils._pytree import tree_leaves

from gridsample_ext import _composed, _ops, grid_sample

LEAST = samples.Shape("least", N=1, C=1, size=(2, 2, 2), out=(1, 1, 1))
BROADCAST = samples.Shape("broadcast", C=2, size=(2, 3, 4), out=(2, 1, 2), N_input=2, N_grid=1)
CASES = samples.CASES[::5] + samples.cases(dims=2, mode="bicubic", padding_mode="reflection")


def scalar(function):
    return lambda *a: sum(leaf.sin().sum() for leaf in tree_leaves(function(*a)))


def cosines(arguments):
    return tuple(argument.cos() for argument in arguments)


# Function -> another function of the same arguments.
FUNC = {
    "grad": lambda f: grad(scalar(f), (0, 1)),
    "grad_and_value": lambda f: grad_and_value(scalar(f), (0, 1)),
    "functionalize": functionalize,
    "vjp": lambda f: lambda *a: (lambda y, pull: pull(y))(*vjp(f, *a)),
    "jvp": lambda f: lambda *a: jvp(f, a, cosines(a))[1],
    "linearize": lambda f: lambda *a: linearize(f, *a)[1](*cosines(a)),
    "jacrev": lambda f: jacrev(f, (0, 1)),
    "jacfwd": lambda f: jacfwd(f, (0, 1)),
    "hessian": lambda f: hessian(scalar(f), (0, 1)),
    "vmap": lambda f: lambda *a: vmap(f)(*(torch.stack([x, x * 0.9]) for x in a)),
}
# PyTorch nests linearize in few others, and functionalize not in itself.
NESTED = [
    pair
    for pair in itertools.product(FUNC, repeat=2)
    if "linearize" not in pair and pair != ("functionalize", "functionalize")
]
FUNCTIONAL = {
    "vjp": lambda f: lambda *a: functional.vjp(scalar(f), a, create_graph=True)[1],
    "jvp": lambda f: lambda *a: functional.jvp(scalar(f), a, cosines(a), create_graph=True)[1],
    "jacobian": lambda f: lambda *a: functional.jacobian(flat(f), a, create_graph=True),
    "hessian": lambda f: lambda *a: functional.hessian(scalar(f), a, create_graph=True),
    "hvp": lambda f: lambda *a: functional.hvp(scalar(f), a, cosines(a), create_graph=True)[1],
    "vhp": lambda f: lambda *a: functional.vhp(scalar(f), a, cosines(a), create_graph=True)[1],
}


def flat(function):
    return lambda *a: tuple(tree_leaves(function(*a)))


def assert_same_derivatives(transform, case, shape=samples.TINY_BATCH, device="cpu", expected=None):
    inputs = samples.sample(case, shape, device=device)
    ours, theirs = (
        tree_leaves(transform(lambda *a, f=f: f(*a, *case.options, **case.keywords))(*inputs))
        for f in (grid_sample, expected or composed.grid_sample)
    )
    assert len(ours) == len(theirs)
    terms = max(float(want.detach().abs().max()) for want in theirs if want is not None)
    for our, want in zip(ours, theirs, strict=True):
        if want is None:  # not connected there
            want = torch.zeros_like(our)
        samples.assert_close(our.detach(), want.detach(), terms=max(terms, 1.0))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of linearize
@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("transform", FUNC)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_func(case, transform, device):
    assert_same_derivatives(FUNC[transform], case, device=device)


@pytest.mark.parametrize(("outer", "inner"), NESTED, ids="-".join)
@pytest.mark.parametrize("case", [CASES[3], CASES[4]], ids=str)
def test_func_nested(case, outer, inner):
    assert_same_derivatives(lambda f: FUNC[outer](FUNC[inner](f)), case, LEAST)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("function", FUNCTIONAL)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_functional(case, function, device):
    assert_same_derivatives(FUNCTIONAL[function], case, device=device)


@pytest.mark.parametrize("inner", FUNCTIONAL)
@pytest.mark.parametrize("outer", FUNCTIONAL)
@pytest.mark.parametrize("case", [CASES[3], CASES[4]], ids=str)
def test_functional_nested(case, outer, inner):
    assert_same_derivatives(lambda f: FUNCTIONAL[outer](FUNCTIONAL[inner](f)), case, LEAST)


THIRD = {
    "grad_of_grad_of_grad": ("grad", "grad", "grad"),
    "jvp_of_jvp_of_jvp": ("jvp", "jvp", "jvp"),
    "jvp_of_grad_of_jvp": ("jvp", "grad", "jvp"),
    "jvp_of_jvp_of_grad": ("jvp", "jvp", "grad"),
    "grad_of_jvp_of_jvp": ("grad", "jvp", "jvp"),
    "jvp_of_grad_of_grad": ("jvp", "grad", "grad"),
    "vmap_of_grad_of_hessian": ("vmap", "grad", "hessian"),
}


@pytest.mark.parametrize("transforms", THIRD)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_third_order(case, transforms):
    def transform(function):
        for name in reversed(THIRD[transforms]):
            function = FUNC[name](function)
        return function

    for shape in (samples.TINY_BATCH, BROADCAST):
        assert_same_derivatives(transform, case, shape)


def grad_of_grad_of_grad(function):
    def gradients(*inputs):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        results = [function(*leaves)]
        for _ in range(3):
            loss = sum(result.sin().sum() for result in results if result is not None)
            results = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        return results

    return gradients


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_third_order_by_autograd(case, device):
    assert_same_derivatives(grad_of_grad_of_grad, case, device=device)


@pytest.mark.skipif(
    samples.TORCH_VERSION < (2, 13), reason="PyTorch before 2.13 has the first only"
)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("case", samples.TORCH_CASES[::3], ids=str)
def test_as_pytorch_s(case, order, device):
    """In every case that the installed PyTorch has."""

    def transform(function):
        for _ in range(order):
            function = FUNC["grad"](function)
        return function

    assert_same_derivatives(transform, case, device=device, expected=F.grid_sample)


@pytest.mark.parametrize("case", samples.cases(mode="bicubic", align_corners=False), ids=str)
def test_third_order_by_finite_differences(case):
    least = samples.Shape("least", N=1, C=1, size=(2, 3, 4), out=(1, 1, 2))
    input, grid = samples.sample(case, least)
    grad_output, along = samples.grad_like(input, grid), (input.cos(), grid.cos())

    def double_backward(*tensors):
        return torch.ops.gridsample_ext.grid_sample_double_backward(
            *tensors, *case.op_options, [True, True]
        )

    tensors = [tensor.requires_grad_() for tensor in (*along, grad_output, input, grid)]
    assert torch.autograd.gradcheck(
        double_backward, tensors, check_forward_ad=True, check_batched_grad=True
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_types_of_third_derivatives(dtype, device):
    case = samples.Case(2, "bicubic", "zeros", False)
    input, grid = samples.sample(
        case, samples.TINY_BATCH, dtype=dtype, grid_dtype=torch.float32, device=device
    )
    transform = FUNC["grad"]
    results = transform(transform(transform(lambda *a: grid_sample(*a, *case.options))))(
        input, grid
    )
    assert [result.dtype for result in results] == [input.dtype, grid.dtype]
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("case", samples.CASES[::4], ids=str)
def test_third_derivatives_at_coordinates_that_do_not_move(case, value, device):
    """Are exactly 0, where pixels are infinite, too."""
    input, grid = samples.sample(case, samples.TINY_BATCH, device=device)
    input, grid = input.clone(), grid.clone()
    input[0] = float("inf")
    grid[0] = value
    pads_taps = case.mode in samples.CUBIC_MODES
    moves = value == 1e30 and (pads_taps or case.padding_mode != "border")
    along = torch.zeros_like(input), grid.isfinite() * torch.ones_like(grid)

    def sample(*inputs):
        return grid_sample(*inputs, *case.options)

    def curvature(*inputs):
        return jvp(lambda *a: jvp(sample, a, along)[1], inputs, along)[1]

    results = curvature(input, grid), *grad(lambda *a: curvature(*a)[0].sum(), (0, 1))(input, grid)
    for result in results:
        assert moves or result[0].eq(0).all()
        assert result[1:].isfinite().all()


def test_composed_sampling_sees_no_pixel_outside_the_footprint():
    """An infinite one reaches neither the output nor a gradient."""
    case = samples.Case(2, "bilinear", "zeros", False)
    input = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    input[..., 3, 3] = float("inf")
    grid = torch.tensor([[[[-2.0, -2.0], [0.1, 0.2]]]], dtype=torch.float64)
    input[..., 0, 0] = float("inf")  # the pixel that the first sample's taps are clamped to
    leaves = input.requires_grad_(), grid.requires_grad_()
    output = _composed.grid_sample(*leaves, _ops.Options(*case.op_options))
    gradients = torch.autograd.grad(output.sum(), leaves)
    expected = torch.autograd.grad(grid_sample(*leaves, *case.options).sum(), leaves)
    for ours, theirs in zip(gradients, expected, strict=True):
        samples.assert_close(ours, theirs)
        assert ours.isfinite().all()
