"""Derivatives of every order and kind where paddings and values outside have a say."""

import boundaries
import composed
import pytest
import samples
import test_higher_order
import test_second_order
import torch
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from gridsample_ext import grid_sample

ops = torch.ops.gridsample_ext
LEAST = samples.Shape("least", N=1, C=2, size=(2, 3, 4), out=(1, 2, 2))
BROADCAST = [
    samples.Shape("one_image", C=2, size=(2, 3, 3), out=(1, 2, 2), N_input=1, N_grid=2),
    samples.Shape("one_grid", C=2, size=(2, 3, 3), out=(1, 2, 2), N_input=2, N_grid=1),
]
TYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.float16, torch.float32),
    (torch.float32, torch.float64),
]
CHANNELS = (1, 2, 3, 4, 8, 20)


@pytest.mark.all_combinations
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_gradcheck(case, device):
    inputs = [tensor.requires_grad_() for tensor in samples.sample(case, LEAST, device=device)]
    call = boundaries.sampler(case, grid_sample)
    tolerance = 1e-12 if device == "cuda" else 0.0  # there the order of sums changes
    assert torch.autograd.gradcheck(call, inputs, nondet_tol=tolerance)


@pytest.mark.parametrize("case", boundaries.smooth(), ids=str)
def test_gradgradcheck(case, device):
    least = samples.Shape("least", N=1, C=1, size=(2, 3, 4), out=(1, 1, 2))
    inputs = [tensor.requires_grad_() for tensor in samples.sample(case, least, device=device)]
    assert torch.autograd.gradgradcheck(
        boundaries.sampler(case, grid_sample), inputs, check_fwd_over_rev=True, nondet_tol=1e-12
    )


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "shape", "given"),
    boundaries.drawn([samples.SMALL, *BROADCAST], list(test_second_order.GIVEN)),
    ids=str,
)
def test_ops_of_second_order(case, shape, given, device):
    input, grid = samples.sample(case, shape, device=device)
    along = test_second_order.directions(input, grid, given)
    test_second_order.assert_jvp(case, input, grid, along)
    grad_output = samples.grad_like(input, grid)
    for mask in test_second_order.MASKS:
        test_second_order.assert_double_backward(case, along, grad_output, input, grid, mask)


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "types", "layout"),
    boundaries.drawn(CHANNELS, TYPES, ["contiguous", "channels_last"], of=boundaries.smooth()),
    ids=str,
)
def test_types_and_layouts_of_second_order(case, channels, types, layout, device):
    shapes = [samples.Shape("vectors", C=channels, size=(3, 4, 5), out=(1, 3, 20))]
    if types == (torch.float32, torch.float64):  # so few samples that they are taken one by one
        shapes.append(samples.Shape("few", C=channels, size=(4, 30, 40), out=(1, 1, 2)))
    for shape in shapes:
        input, grid = samples.sample(case, shape, *types, device=device)
        input = samples.INPUT_LAYOUTS[layout](input)
        along = test_second_order.directions(input, grid)
        grad_output = samples.grad_like(input, grid)
        test_second_order.assert_jvp(case, input, grid, along)
        test_second_order.assert_double_backward(case, along, grad_output, input, grid)


@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_third_order_by_autograd(case, device):
    test_higher_order.assert_same_derivatives(
        test_higher_order.grad_of_grad_of_grad, case, device=device
    )


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of linearize
@pytest.mark.devices("cpu", "cuda")
@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "transform"), boundaries.drawn(list(test_higher_order.FUNC))[::4], ids=str
)
def test_func(case, transform, device):
    test_higher_order.assert_same_derivatives(
        test_higher_order.FUNC[transform], case, device=device
    )


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "transforms"), boundaries.drawn(list(test_higher_order.THIRD))[::8], ids=str
)
def test_third_order_of_func(case, transforms):
    def transform(function):
        for name in reversed(test_higher_order.THIRD[transforms]):
            function = test_higher_order.FUNC[name](function)
        return function

    test_higher_order.assert_same_derivatives(transform, case, LEAST)


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_vmap(case, in_dims, device):
    """Each of three calls by itself: forward, its gradients, and along directions."""
    input, grid = samples.sample(case, LEAST, device=device)
    batched = [
        tensor if dim is None else torch.stack([tensor, 0.9 * tensor, -tensor])
        for tensor, dim in zip((input, grid), in_dims, strict=True)
    ]
    call = boundaries.sampler(case, grid_sample)

    def everything(input, grid):
        output = call(input, grid)
        gradients = grad(lambda *a: call(*a).sin().sum(), (0, 1))(input, grid)
        along = jvp(call, (input, grid), (input.cos(), grid.cos()))[1]
        return output, *gradients, along

    results = vmap(everything, in_dims)(*batched)
    for i in range(3):
        one = [t if dim is None else t[i] for t, dim in zip(batched, in_dims, strict=True)]
        for result, expected in zip(results, everything(*one), strict=True):
            samples.assert_close(result[i], expected, terms=8)


@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_forward_mode_is_reverse_mode(case, device):
    inputs = samples.sample(case, LEAST, device=device)
    call = boundaries.sampler(case, grid_sample)
    for forward, reverse in zip(
        jacfwd(call, (0, 1))(*inputs), jacrev(call, (0, 1))(*inputs), strict=True
    ):
        samples.assert_close(forward, reverse, terms=8)


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_samples_without_pixels_have_no_derivatives(case, channels, device):
    """Exactly 0 in every order: excluded ones, and those without a tap inside."""
    if case.outside_value is None:
        if "zeros" not in case.paddings:
            pytest.skip("every sample has a tap inside")
        far = 1e4
    else:
        far = 7.3
    shape = samples.Shape("few", N=1, C=channels, size=(3, 4, 5), out=(1, 2, 3))
    input, grid = samples.sample(case, shape, device=device)
    axis = case.paddings.index("zeros") if case.outside_value is None else 0
    grid[..., axis] = far
    call = boundaries.sampler(case, grid_sample)
    value = (case.fill_value or 0.0) if case.outside_value is None else case.outside_value
    assert call(input, grid).eq(value).all()
    input[:] = torch.inf
    along = torch.ones_like(input), torch.ones_like(grid)
    grad_output = torch.full_like(call(input, grid), torch.inf)
    mask = [True, True]
    later = False, *case.later
    results = [
        *ops.grid_sample_backward(grad_output, input, grid, *case.op_options, mask, *later),
        ops.grid_sample_jvp(input, grid, *along, *case.op_options, *case.later),
        *ops.grid_sample_double_backward(
            *along, grad_output, input, grid, *case.op_options, mask, *later
        ),
    ]
    leaves = input.requires_grad_(), grid.requires_grad_()
    results += test_higher_order.grad_of_grad_of_grad(call)(*leaves)
    for result in results:
        assert result.eq(0).all()


@pytest.mark.parametrize("case", boundaries.smooth()[::3], ids=str)
def test_composed_for_other_devices(case):
    """functional._fall_back, which there is called for tensors that no kernel takes."""
    from gridsample_ext import _ops, functional

    inputs = samples.sample(case)
    options = _ops.Options(*case.op_options, *case.later)
    if options.are_known_to_pytorch:
        pytest.skip("PyTorch's own")
    functional._warn_fallback_once.cache_clear()

    def fall_back(*tensors):
        return functional._fall_back("tests", *tensors, options)

    with pytest.warns(UserWarning, match="nothing of its own for tests yet; tensor operations"):
        output = fall_back(*inputs)
    samples.assert_close(output, boundaries.sampler(case, composed.grid_sample)(*inputs))
    leaves = [tensor.requires_grad_() for tensor in inputs]
    gradients = torch.autograd.grad(fall_back(*leaves).sin().sum(), leaves)
    expected = boundaries.sampler(case, grid_sample)(*leaves)
    expected = torch.autograd.grad(expected.sin().sum(), leaves)
    for result, value in zip(gradients, expected, strict=True):
        samples.assert_close(result, value, terms=8)
