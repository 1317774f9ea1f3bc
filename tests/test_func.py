"""torch.func: grad, vjp, jacobians, hessian, per-sample gradients, vmap in any dimension."""

import composed
import pytest
import samples
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.func import functionalize, grad, hessian, jacfwd, jacrev, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from gridsample_ext import grid_sample

CASES = [
    samples.Case(2, "bilinear", "zeros", False),
    samples.Case(2, "nearest", "border", False),
    samples.Case(2, "bicubic", "reflection", True),
    samples.Case(3, "bilinear", "border", True),
    samples.Case(3, "bicubic", "zeros", False),
]


def loss_of(sample, case):
    return lambda input, grid: sample(input, grid, *case.options).sin().sum()


TRANSFORMS = {
    "grad": lambda f: grad(lambda *a: f(*a).sin().sum(), (0, 1)),
    "grad_of_grad": lambda f: grad(
        lambda *a: sum(g.square().sum() for g in grad(lambda *b: f(*b).sin().sum(), (0, 1))(*a)),
        (0, 1),
    ),
    "vjp": lambda f: lambda *a: vjp(f, *a)[1](f(*a).cos()),
    "jacrev": lambda f: jacrev(f, (0, 1)),
    "jacfwd": lambda f: jacfwd(f, (0, 1)),
    "hessian": lambda f: hessian(lambda *a: f(*a).sin().sum(), (0, 1)),
    "reverse_over_reverse": lambda f: jacrev(jacrev(lambda *a: f(*a).sin().sum(), (0, 1)), (0, 1)),
}


def assert_all_close(ours, expected):
    for our, want in zip(tree_leaves(ours), tree_leaves(expected), strict=True):
        assert our.shape == want.shape
        samples.assert_close(our, want)


@pytest.fixture(autouse=True)
def no_loop(monkeypatch):
    """Batching by PyTorch's fallback, a loop over the batch with a warning, is a failure."""
    torch._C._functorch._set_vmap_fallback_enabled(False)
    yield
    torch._C._functorch._set_vmap_fallback_enabled(True)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_transforms(case, transform, device):
    inputs = samples.sample(case, samples.TINY_BATCH, device=device)
    ours, expected = (
        TRANSFORMS[transform](lambda *a, sample=sample: sample(*a, *case.options))(*inputs)
        for sample in (grid_sample, composed.grid_sample)
    )
    assert_all_close(ours, expected)


def stack(tensor, dim, count=3):
    """Stack variants of a tensor along a new dimension; alone where that is None."""
    if dim is None:
        return tensor
    return torch.stack([tensor * (1 - 0.07 * k) for k in range(count)], dim)


def one(tensor, dim, index):
    return tensor if dim is None else tensor.select(dim, index)


IN_DIMS = [(0, None), (2, None), (-1, None), (None, 0), (None, 2), (None, -1), (0, 0), (1, -2)]


@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
@pytest.mark.parametrize("shape", samples.SMALL_SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap(case, shape, in_dims, device):
    """Outputs are to the bit what the calls one by one give, gradients nearly."""
    inputs = samples.sample(case, shape, device=device)
    batched = [stack(tensor, dim) for tensor, dim in zip(inputs, in_dims, strict=True)]

    def sample(*inputs):
        return grid_sample(*inputs, *case.options)

    gradient = grad(loss_of(grid_sample, case), (0, 1))
    outputs = vmap(sample, in_dims, out_dims=1)(*batched)
    gradients = vmap(gradient, in_dims)(*batched)
    for b in range(3):
        each = [one(tensor, dim, b) for tensor, dim in zip(batched, in_dims, strict=True)]
        samples.assert_close(outputs.select(1, b), sample(*each))
        assert_all_close([gradient[b] for gradient in gradients], gradient(*each))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nested_vmap(case, device):
    input, grid = samples.sample(case, device=device)
    inputs, grids = stack(input, 0), stack(grid, 0, count=2)

    def sample(*inputs):
        return grid_sample(*inputs, *case.options)

    every = vmap(vmap(sample, (0, None)), (None, 0))(inputs, grids)
    both = vmap(vmap(sample), (1, 1))(stack(inputs, 1, 2), stack(stack(grid, 0), 1, 2))
    for i in range(2):
        for j in range(3):
            samples.assert_close(every[i, j], sample(inputs[j], grids[i]))
            samples.assert_close(
                both[i, j], sample(stack(inputs, 1, 2)[j, i], stack(stack(grid, 0), 1, 2)[j, i])
            )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_per_sample_gradients_of_a_model(case, device):
    """Of the parameters that both a warp and its image depend on."""
    input, grid = samples.sample(case, device=device)
    inputs = stack(input, 0)
    parameters = {
        "scale": torch.tensor(0.9, dtype=torch.float64, device=device),
        "gain": samples.randn(input.shape[1], *[1] * case.dims, device=device),
    }

    def gradients(sample):
        def loss(parameters, input):
            warped = sample(input * parameters["gain"], grid * parameters["scale"], *case.options)
            return warped.square().mean()

        return vmap(grad(loss), (None, 0))(parameters, inputs)

    assert_all_close(gradients(grid_sample), gradients(composed.grid_sample))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hessian_vector_products_in_a_batch(case, device):
    inputs = samples.sample(case, samples.TINY_BATCH, device=device)
    directions = [stack(tensor.cos(), 0) for tensor in inputs]

    def products(sample):
        gradient = grad(loss_of(sample, case), (0, 1))
        return vmap(lambda *along: torch.func.jvp(gradient, inputs, along)[1])(*directions)

    assert_all_close(products(grid_sample), products(composed.grid_sample))


def test_vmap_folds_and_does_not_copy_the_image(device):
    """One image at many grids is one call, for which the image is not repeated."""
    case = samples.Case(2, "bilinear", "zeros", False)
    input, grid = samples.sample(case, device=device)
    grids = stack(grid, 0)
    with torch.autograd.profiler.profile(record_shapes=True) as record:
        vmap(lambda grid: grid_sample(input, grid, *case.options))(grids)
    shapes = [
        event.input_shapes[:2]
        for event in record.function_events
        if event.name == "gridsample_ext::grid_sample"
    ]
    N, H, W, _ = grid.shape
    assert shapes[-1] == [list(input.shape), [N, 3 * H, W, 2]]


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0)], ids=str)
def test_vmap_of_the_op_itself(in_dims, device):
    case = samples.Case(2, "bicubic", "zeros", True)
    inputs = samples.sample(case, device=device)
    batched = [stack(tensor, dim) for tensor, dim in zip(inputs, in_dims, strict=True)]
    outputs = vmap(lambda *a: torch.ops.gridsample_ext.grid_sample(*a, *case.op_options), in_dims)(
        *batched
    )
    for b in range(3):
        each = [one(tensor, dim, b) for tensor, dim in zip(batched, in_dims, strict=True)]
        samples.assert_close(outputs[b], grid_sample(*each, *case.options))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_the_op_itself(transform, device):
    case = samples.Case(2, "bicubic", "zeros", True)
    inputs = samples.sample(case, samples.TINY_BATCH, device=device)
    ours, expected = (
        TRANSFORMS[transform](function)(*inputs)
        for function in (
            lambda *a: torch.ops.gridsample_ext.grid_sample(*a, *case.op_options),
            lambda *a: composed.grid_sample(*a, *case.options),
        )
    )
    assert_all_close(ours, expected)


def in_graph_of(function, *inputs):
    """(results, names of what is called) of a function under torch.compile."""
    names = set()

    def record(graph, example_inputs):
        names.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    torch.compiler.reset()
    backend = aot_autograd(fw_compiler=record, bw_compiler=record)
    return torch.compile(function, backend=backend, fullgraph=True)(*inputs), names


COMPILED = {
    "jvp": lambda f: lambda *a: torch.func.jvp(f, a, a),
    "vmap": lambda f: lambda *a: vmap(f)(*(stack(tensor, 0) for tensor in a)),
    "vmap_of_grad": lambda f: (
        lambda *a: vmap(grad(lambda *b: f(*b).sin().sum(), (0, 1)))(
            *(stack(tensor, 0) for tensor in a)
        )
    ),
    **TRANSFORMS,
}


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("transform", COMPILED)
@pytest.mark.parametrize(
    ("dtype", "grid_dtype"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
@pytest.mark.parametrize("case", [*CASES, samples.Case(3, "nearest", "reflection", True)], ids=str)
def test_compiled_transforms(case, dtype, grid_dtype, transform, device):
    """They keep our op, whatever F.grid_sample cannot do, NaN coordinates included."""
    inputs = samples.sample(
        case, samples.TINY_BATCH, dtype=dtype, grid_dtype=grid_dtype, device=device
    )
    inputs[1][0, 0, 0] = float("nan")
    function = COMPILED[transform](lambda *a: grid_sample(*a, *case.options))
    compiled, names = in_graph_of(function, *inputs)
    for result, eager in zip(tree_leaves(compiled), tree_leaves(function(*inputs)), strict=True):
        assert result.dtype == eager.dtype
        samples.assert_close(result, eager.double())
    assert any(name.startswith("gridsample_ext.") for name in names)
    assert not any("grid_sampler" in name for name in names)


@pytest.mark.devices("cpu", "cuda")
def test_compiled_vmap_of_large_half_images(device):
    """Of more than 32,767 pixels, where PyTorch's kernel gives NaN."""
    image = torch.rand(2, 1, 1, 200, 400, device=device).half()
    grid = torch.rand(2, 1, 4, 4, 2, device=device).half() * 2 - 1

    def sample(image, grid):
        return grid_sample(image, grid, align_corners=False)

    compiled = torch.compile(vmap(sample), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(image, grid), vmap(sample)(image, grid))


FUNCTIONALIZED = {"plain": lambda f: f, **TRANSFORMS, "vmap": COMPILED["vmap"]}


@pytest.mark.parametrize("transform", FUNCTIONALIZED)
def test_functionalize(transform, device):
    case = samples.Case(2, "bicubic", "reflection", True)
    inputs = samples.sample(case, samples.TINY_BATCH, device=device)
    function = FUNCTIONALIZED[transform](lambda *a: grid_sample(*a, *case.options))
    expected = function(*inputs)
    assert_all_close(functionalize(function)(*inputs), expected)
    graph = make_fx(functionalize(function))(*inputs)
    assert_all_close(graph(*inputs), expected)
    assert any("gridsample_ext" in str(node.target) for node in graph.graph.nodes)


def test_vmap_over_a_batch_of_one_checks_sizes(device):
    """Folded into one another, the 2 and the 3 would not be missed."""
    input = torch.rand(1, 2, 3, 5, 5, device=device)
    grid = torch.rand(1, 3, 5, 5, 2, device=device)
    with pytest.raises(RuntimeError, match=r"input with sizes \[2, 3, 5, 5\] and grid with sizes"):
        vmap(lambda *a: grid_sample(*a, align_corners=False))(input, grid)
    ops = torch.ops.gridsample_ext
    output = torch.rand(1, 3, 3, 5, 5, device=device)
    for call in (
        lambda g, i, x: ops.grid_sample_backward(g, i, x, 0, 0, False, [True, True]),
        lambda g, i, x: ops.grid_sample_jvp(i, x, i, x, 0, 0, False),
        lambda g, i, x: ops.grid_sample_double_backward(i, x, g, i, x, 0, 0, False, [True, True]),
    ):
        with pytest.raises(RuntimeError, match="the same batch size"):
            vmap(call)(output, input, grid)


def test_vmapped_results_may_be_written_to(device):
    """Zeros and repeated results are memory of their own, not one element repeated."""
    ops = torch.ops.gridsample_ext
    case = samples.Case(2, "bilinear", "zeros", False)
    input, grid = samples.sample(case, device=device)
    grad_output = samples.grad_like(input, grid)
    gradients = vmap(
        lambda U: ops.grid_sample_double_backward(
            U, None, grad_output, input, grid, *case.op_options, [True, True]
        )
    )(stack(input, 0))
    tangents = vmap(lambda V: ops.grid_sample_jvp(input, grid, input, V, *case.op_options))(
        stack(grid, 0)
    )
    linear = vmap(lambda x: ops.grid_sample_jvp(x, grid, input, None, *case.op_options))(
        stack(input, 0)
    )
    for result in (*gradients, tangents, linear):
        result.add_(1)
    assert gradients[0].eq(1).all()


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0)], ids=str)
def test_empty_batch(in_dims, device):
    case = samples.Case(2, "bilinear", "zeros", False)
    inputs = samples.sample(case, device=device)
    batched = [
        tensor if dim is None else tensor[None][:0]
        for tensor, dim in zip(inputs, in_dims, strict=True)
    ]
    outputs = vmap(lambda *a: grid_sample(*a, *case.options), in_dims)(*batched)
    assert outputs.shape == (0, *grid_sample(*inputs, *case.options).shape)


def test_vmap_of_directions_keeps_types_and_checks(device):
    case = samples.Case(2, "bicubic", "zeros", False)
    input, grid = samples.sample(case, dtype=torch.float32, device=device)
    jvp = torch.ops.gridsample_ext.grid_sample_jvp
    tangents = stack(input.double(), 0)
    outputs = vmap(lambda tangent: jvp(input, grid, tangent, None, *case.op_options))(tangents)
    for output, tangent in zip(outputs, tangents, strict=True):
        expected = jvp(input, grid, tangent, None, *case.op_options)
        assert output.dtype == expected.dtype == input.dtype
        samples.assert_close(output, expected.double())
    with pytest.raises(RuntimeError, match="tangent_input to have the sizes of input"):
        vmap(lambda tangent: jvp(input, grid, tangent, None, *case.op_options))(tangents[:, :, :2])
    with pytest.raises(RuntimeError, match="both are None"):
        vmap(lambda grid: jvp(input, grid, None, None, *case.op_options))(stack(grid, 0))
