"""Under torch.compile: one graph, for all sizes, with the results of the eager call."""

import dataclasses
import itertools

import pytest
import samples
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from gridsample_ext import grid_sample

CASE = samples.Case(2, "bilinear", "zeros", False)
ops = torch.ops.gridsample_ext


@pytest.fixture(autouse=True)
def fresh_compiler():
    """No test profits from what another has compiled, or runs into the limit of recompiles."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def call(*arguments):
    return grid_sample(*arguments, *CASE.options)


def with_gradients(function, input, grid, wanted=(True, True)):
    """(output, gradients) of leaves of the same values, types and strides."""
    leaves = [
        tensor.detach().requires_grad_(needed)
        for tensor, needed in zip((input, grid), wanted, strict=True)
    ]
    output = function(*leaves)
    loss = output.square().sum(dtype=torch.float64)
    return output, *torch.autograd.grad(loss, [leaf for leaf in leaves if leaf.requires_grad])


def assert_same(actual, expected):
    """To the bit, and in the same places of memory; for the order of sums on a GPU allow."""
    for result, value in zip(actual, expected, strict=True):
        assert (result.dtype, result.shape) == (value.dtype, value.shape)
        assert result.stride() == value.stride()
        if result.device.type == "cpu":
            samples.assert_bitwise_equal(result.detach(), value.detach())
        else:
            samples.assert_close(result.detach(), value.detach().double())


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_case(dims, mode, device):
    """Paddings and both meanings of align_corners in one graph per mode."""
    cases = samples.cases(dims=dims, mode=mode)

    def model(input, grid):
        return torch.stack([grid_sample(input, grid, *case.options) for case in cases])

    tensors = samples.sample(cases[0], dtype=torch.float32, device=device)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_same(with_gradients(compiled, *tensors), with_gradients(model, *tensors))


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_gradients_go_where_they_are_wanted(wanted, device):
    tensors = samples.sample(CASE, device=device)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    actual = with_gradients(compiled, *tensors, wanted)
    expected = with_gradients(call, *tensors, wanted)
    for result, value in zip(actual, expected, strict=True):
        samples.assert_close(result, value.double())  # on a GPU the order of sums changes


def test_default_arguments():
    """Where torch's own function warns outside the graph, and only there."""
    input, grid = samples.sample(CASE)
    compiled = torch.compile(
        lambda input, grid: grid_sample(input, grid), backend="aot_eager", fullgraph=True
    )
    assert torch.equal(compiled(input, grid), call(input, grid))


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("layout", ["channels_last", "sliced", "reversed_dimensions"])
@pytest.mark.parametrize("dims", [2, 3])
def test_layouts(dims, layout, device):
    case = samples.Case(dims, "bilinear", "border", True)
    input, grid = samples.sample(case, dtype=torch.float32, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)

    strides = []

    def model(input, grid):
        output = grid_sample(input, grid, *case.options)
        strides.append(output.stride())  # in a trace, what the fake kernel says
        return output

    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    actual, expected = with_gradients(compiled, input, grid), with_gradients(model, input, grid)
    assert_same(actual, expected)
    assert strides == [expected[0].stride()] * 2
    channels_innermost = expected[0].stride(1) == 1
    assert channels_innermost == (layout == "channels_last")


# Sizes that one graph has to serve. In a call that is compiled, axes of one size become one symbol,
# and a size that never changed is none: so none of the first is 2 or 3, the last dimension of grid,
# no two in a call are the same, and the second call has other sizes everywhere.
SIZES = [
    samples.Shape("first", N=4, C=5, size=(6, 7, 8), out=(9, 10, 11)),
    samples.Shape("second", N=6, C=7, size=(5, 9, 11), out=(8, 4, 12)),
    samples.Shape("third", N=5, C=8, size=(2, 9, 9), out=(4, 2, 8)),
    samples.Shape("fourth", N=2, C=3, size=(6, 2, 8), out=(5, 5, 5)),
]


@pytest.mark.parametrize("dynamic", [True, None], ids=("dynamic", "automatic"))
@pytest.mark.parametrize("dims", [2, 3])
def test_one_graph_for_all_sizes(dims, dynamic):
    """With dynamic=True from the first call; left to itself, torch.compile learns by the second."""
    case = samples.Case(dims, "bicubic", "reflection", False)

    def model(input, grid):
        return grid_sample(input, grid, *case.options)

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=dynamic)
    for shape in SIZES:
        tensors = samples.sample(case, shape, torch.float32)
        assert_same(with_gradients(compiled, *tensors), with_gradients(model, *tensors))
    assert counter.frame_count == (1 if dynamic else 2)


@pytest.mark.parametrize("side", ["input", "grid"])
def test_one_graph_beside_a_batch_of_one(side):
    """The batch of 1 is a constant of the graph, the other one is not."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, backend=counter, fullgraph=True, dynamic=True)
    for batch in (4, 2, 7):
        batches = {"N_input": batch, "N_grid": batch, f"N_{side}": 1}
        tensors = samples.sample(CASE, dataclasses.replace(SIZES[0], **batches))
        assert_same(with_gradients(compiled, *tensors), with_gradients(call, *tensors))
    assert counter.frame_count == 1


INDUCTOR_CASES = {
    "2d-bilinear": (samples.Case(2, "bilinear", "zeros", False), "contiguous", torch.float32),
    "2d-bicubic-channels-last": (
        samples.Case(2, "bicubic", "border", True),
        "channels_last",
        torch.bfloat16,
    ),
    "3d-nearest": (samples.Case(3, "nearest", "reflection", False), "contiguous", torch.float64),
}


@pytest.mark.compiles
@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("name", INDUCTOR_CASES)
def test_inductor(name, device):
    """Between operations that are compiled to kernels, for several sizes."""
    case, layout, dtype = INDUCTOR_CASES[name]

    def model(input, grid):
        return 2 * grid_sample(input * 2, grid + 0.25, *case.options)

    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for shape in SIZES[:2]:
        input, grid = samples.sample(case, shape, dtype, torch.float32, device=device)
        tensors = samples.INPUT_LAYOUTS[layout](input), grid
        # Powers of 2 are exact, and so are the results.
        assert_same(with_gradients(compiled, *tensors), with_gradients(model, *tensors))
    assert counter.frame_count == 1


@pytest.mark.devices("cuda")
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # one that PyTorch begins with
def test_reduce_overhead(device):
    """CUDA graphs: what was recorded runs on new data."""
    compiled = torch.compile(call, mode="reduce-overhead", fullgraph=True)
    for seed in range(4):
        input, grid = samples.sample(CASE, dtype=torch.float32, device=device)
        tensors = input + seed, grid * (1 - 0.1 * seed)
        torch.compiler.cudagraph_mark_step_begin()
        assert_same(
            [result.clone() for result in with_gradients(compiled, *tensors)],
            with_gradients(call, *tensors),
        )


FAKE_SHAPES = ("one_image_one_channel", "size_1_width", "input_broadcast", "grid_broadcast")
FAKE_DTYPES = (
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float64),
    (torch.float64, torch.float16),
)


def run_op_and_backward(input, grid, grad_output, options):
    output = ops.grid_sample(input, grid, *options)
    return output, *ops.grid_sample_backward(grad_output, input, grid, *options, [True, True])


@pytest.mark.parametrize("dynamic", [False, True], ids=("static", "symbolic"))
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("dims", [2, 3])
def test_fake_results(dims, layout, dynamic):
    """Sizes, strides and types are those of real results, with numbers or symbols for sizes."""
    case = samples.Case(dims, "bilinear", "zeros", False)
    shapes = [samples.SMALL, *(shape for shape in samples.SHAPES if shape.name in FAKE_SHAPES)]
    for shape, dtypes in zip(shapes, itertools.cycle(FAKE_DTYPES), strict=False):
        input, grid = samples.sample(case, shape, *dtypes)
        reals = samples.INPUT_LAYOUTS[layout](input), grid, samples.grad_like(input, grid)
        expected = run_op_and_backward(*reals, case.op_options)
        with FakeTensorMode(shape_env=ShapeEnv()) as mode:
            fakes = [mode.from_tensor(real, static_shapes=not dynamic) for real in reals]
            actual = run_op_and_backward(*fakes, case.op_options)
        for fake, real in zip(actual, expected, strict=True):
            assert fake.dtype == real.dtype
            assert tuple(map(int, fake.shape)) == real.shape
            assert tuple(map(int, fake.stride())) == real.stride()


def test_symbols_stay_symbols():
    """Shapes of results are expressed by those of the arguments, without guards on numbers."""
    input, grid = samples.sample(CASE, SIZES[0], torch.float32)
    traced = make_fx(call, tracing_mode="symbolic")(input, grid)
    placeholders = [node.meta["val"] for node in traced.graph.nodes if node.op == "placeholder"]
    (output,) = [
        node.meta["val"]
        for node in traced.graph.nodes
        if node.target is torch.ops.gridsample_ext.grid_sample.default
    ]
    (input, grid) = placeholders
    expected = (*input.shape[:2], *grid.shape[1:-1])
    assert all(isinstance(size, torch.SymInt) for size in output.shape)
    assert [size.node.expr for size in output.shape] == [size.node.expr for size in expected]
