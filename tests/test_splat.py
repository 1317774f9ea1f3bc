"""splat, the adjoint of grid_sample: against plain loops, autograd, and what users make of it."""

import inspect
import io
import itertools
import math

import agreement
import boundaries
import pytest
import reference
import samples
import torch
from test_distributed import (
    assert_same_placed,
    processes,  # noqa: F401  a fixture
)
from torch.export import Dim

import gridsample_ext
from gridsample_ext import functional, grid_sample, splat, splat_count

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")

CASES = [
    boundaries.Case(dims, mode, padding_mode, align_corners, coordinates)
    for dims, mode, padding_mode, align_corners, coordinates in itertools.product(
        (2, 3),
        samples.MODES,
        boundaries.PADDINGS,
        (False, True),
        ("normalized", "pixel"),
    )
] + [
    boundaries.Case(2, "bilinear", ("circular", "border"), False, "pixel"),
    boundaries.Case(3, "bicubic", ("zeros", "circular", "reflection"), True, "pixel"),
    boundaries.Case(2, "bicubic", "zeros", False, cubic_coefficient=-0.5),
]
FEW = CASES[1::11]
ids = pytest.mark.parametrize("case", CASES, ids=str)
few = pytest.mark.parametrize("case", FEW, ids=str)


def splatter(case, size):
    return lambda values, grid: splat(values, grid, size, *case.options, **case.keywords)


def draw(case, shape=samples.SMALL, dtype=torch.float64, grid_dtype=None, device="cpu"):
    """An image of the size that is splat to, the values, and the grid."""
    image, grid = samples.sample(case, shape, dtype, grid_dtype, device=device)
    return image, samples.grad_like(image, grid), grid


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "reversed"])
@pytest.mark.parametrize("grid_dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [samples.SMALL, *samples.SHAPES[1:3]], ids=str)
@ids
def test_plain_loops(case, shape, dtype, grid_dtype, layout, device):
    image, values, grid = draw(case, shape, dtype, grid_dtype, device)
    if image.shape[0] != values.shape[0]:
        image = image.expand(values.shape[0], *image.shape[1:])
    rearrange = {
        "contiguous": lambda tensor: tensor,
        "channels_last": samples.channels_last,
        "reversed": samples.reversed_dimensions,
    }[layout]
    result = splatter(case, image.shape[2:])(rearrange(values), grid)
    expected, _ = reference.grid_sample_backward(
        values, image, grid, *case.options, **case.keywords
    )
    assert (result.dtype, result.shape, result.device) == (dtype, image.shape, values.device)
    assert result.is_contiguous()
    samples.assert_close(result, expected, dtype)


@ids
def test_the_gradient_of_sampling(case, device):
    """To the bit, where no gradient of the grid is asked for."""
    image, values, grid = draw(case, dtype=torch.float32, device=device)
    expected, _ = agreement.backward(case, values, image, grid, [True, False])
    samples.assert_bitwise_equal(splatter(case, image.shape[2:])(values, grid), expected)


@ids
def test_the_adjoint_of_sampling(case, device):
    image, values, grid = draw(case, device=device)
    there = (grid_sample(image, grid, *case.options, **case.keywords) * values).sum()
    back = (image * splatter(case, image.shape[2:])(values, grid)).sum()
    samples.assert_close(back, there)


@pytest.mark.parametrize("N_grid", [1, 3])
@pytest.mark.parametrize("N_values", [1, 3])
@few
def test_batches_of_one(case, N_values, N_grid, device):
    shape = samples.Shape("batches", N=max(N_values, N_grid), C=2)
    _, values, grid = draw(case, shape, device=device)
    values, grid = values[:N_values].requires_grad_(), grid[:N_grid].requires_grad_()
    size = (3, 4, 5)[-case.dims :]
    N = max(N_values, N_grid)
    whole = [tensor.expand(N, *tensor.shape[1:]).contiguous() for tensor in (values, grid)]
    result, expected = splatter(case, size)(values, grid), splatter(case, size)(*whole)
    samples.assert_close(result, expected)
    weight = torch.randn_like(result)
    for one, other in zip(
        torch.autograd.grad(result, (values, grid), weight),
        torch.autograd.grad(expected, (values, grid), weight),
        strict=True,
    ):
        samples.assert_close(one, other)


@pytest.mark.parametrize("channels", [1, 3, 8])
@few
def test_derivatives(case, channels, device):
    shape = samples.Shape("tiny", N=1, C=channels, size=(2, 3, 4), out=(2, 2, 3))
    image, grid = samples.sample(case, shape, device=device)
    values = samples.grad_like(image, grid).requires_grad_()
    arguments = values, grid.requires_grad_()
    call = splatter(case, image.shape[2:])
    check = {"check_batched_grad": True, "fast_mode": channels > 1}
    assert torch.autograd.gradcheck(call, arguments, check_forward_ad=True, **check)
    assert torch.autograd.gradgradcheck(call, arguments, **check)


@few
def test_third_derivatives(case):
    """Of <splat, weight> they are those of <values, sampled weight>."""
    image, values, grid = draw(case, samples.Shape("tiny", N=1, C=2, out=(2, 2, 3)))
    weight = torch.randn_like(image)

    def third(function):
        leaf = grid.clone().requires_grad_()
        result = function(leaf)
        for power in (2, 3, 2):
            (slope,) = torch.autograd.grad(result, leaf, create_graph=True)
            result = (slope**power).sum()
        return result.detach()

    spread = third(lambda grid: (splatter(case, image.shape[2:])(values, grid) * weight).sum())
    options = case.options, case.keywords
    sampled = third(
        lambda grid: (grid_sample(weight, grid, *options[0], **options[1]) * values).sum()
    )
    samples.assert_close(spread, sampled, terms=100)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@few
def test_count(case, dtype, device):
    _, values, grid = draw(case, grid_dtype=dtype, device=device)
    size = (3, 4, 5)[-case.dims :]
    count = splat_count(grid, size, *case.options, **case.keywords)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert (count.dtype, count.shape) == (wide, (grid.shape[0], 1, *size))
    ones = torch.ones_like(values[:, :1], dtype=wide)
    samples.assert_bitwise_equal(count, splatter(case, size)(ones, grid))
    if case.padding_mode != "zeros":  # nothing is lost
        samples.assert_close(count.sum(), torch.tensor(float(ones.numel())).double(), dtype=wide)


def softmax_splat(frame, flow, importance):
    """By splat: Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, 2020."""
    weight = importance.exp()
    both = splat(torch.cat([frame * weight, weight], 1), displacement=flow)
    return both[:, :-1] / both[:, -1:].clamp(min=1e-7)


def test_softmax_splatting():
    N, C, H, W = 2, 3, 5, 6
    frame, importance = samples.randn(N, C, H, W), samples.randn(N, 1, H, W, seed=1)
    flow = 3 * samples.randn(N, 2, H, W, seed=2)
    top, bottom = torch.zeros(N, C, H, W).double(), torch.zeros(N, 1, H, W).double()
    for n, y, x in itertools.product(range(N), range(H), range(W)):
        to_x, to_y = x + flow[n, 0, y, x].item(), y + flow[n, 1, y, x].item()
        weight = importance[n, 0, y, x].exp()
        for row, column in itertools.product(
            (math.floor(to_y), math.floor(to_y) + 1), (math.floor(to_x), math.floor(to_x) + 1)
        ):
            if 0 <= row < H and 0 <= column < W:
                share = (1 - abs(to_x - column)) * (1 - abs(to_y - row)) * weight
                top[n, :, row, column] += share * frame[n, :, y, x]
                bottom[n, :, row, column] += share
    expected = top / bottom.clamp(min=1e-7)
    samples.assert_close(softmax_splat(frame, flow, importance), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@few
def test_hostile_coordinates(case, dtype, device):
    """Each is read as grid_sample reads it."""
    numbers = [math.nan, math.inf, -math.inf, 1e4, -1e4, 0.0, -1.0, 1.0, 1e30, -1e30]
    rows = torch.tensor([[x, numbers[-i], numbers[i // 2]] for i, x in enumerate(numbers)])
    grid = samples.in_a_row(rows[:, : case.dims], device, dtype)
    size = (3, 4, 5)[-case.dims :]
    values = samples.randn(1, 2, *grid.shape[1:-1], dtype=torch.float32, device=device)
    image = torch.zeros(1, 2, *size, device=device)
    expected, _ = reference.grid_sample_backward(
        values, image, grid, *case.options, **case.keywords
    )
    result = splatter(case, size)(values, grid)
    assert result.isfinite().all()
    samples.assert_close(result, expected, torch.float32)


def test_values_that_are_not_finite(device):
    """They reach the pixels under them, with weights of 0 as well, and no other."""
    values = torch.tensor([[[[math.inf, 1.0]]]], device=device)
    grid = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]], device=device)
    result = splat(values, grid, (3, 3), coordinates="pixel")
    assert result[0, 0].isfinite().tolist() == [
        [True] * 3,
        [True, False, False],
        [True, False, False],
    ]
    assert result[0, 0, 1, 1] == math.inf
    assert result[0, 0, 0, 0] == 1


@few
def test_empty(case, device):
    size = (3, 4, 5)[-case.dims :]
    for N, C, out in ((0, 2, 3), (2, 0, 3), (2, 2, 0)):
        values = torch.ones(N, C, *[out] * case.dims, device=device, requires_grad=True)
        grid = torch.zeros(N, *[out] * case.dims, case.dims, device=device, requires_grad=True)
        result = splatter(case, size)(values, grid)
        assert result.shape == (N, C, *size)
        assert not result.any()
        gradients = torch.autograd.grad(result.sum(), (values, grid))
        assert [g.shape for g in gradients] == [values.shape, grid.shape]


@pytest.mark.parametrize("units", ["pixel", "normalized"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("kind", ["displacement", "affine", "both"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_adjoint_of_warping(dims, kind, align_corners, units, device):
    size, out = (3, 4, 5)[-dims:], (4, 3, 6)[-dims:]
    image = samples.randn(2, 3, *size, device=device)
    values = samples.randn(2, 3, *out, device=device, seed=1)
    displacement = samples.randn(2, dims, *out, device=device, seed=2)
    affine = samples.randn(1, dims, dims + 1, device=device, seed=3)
    source = {"displacement": displacement, "affine": affine}
    source = {name: each for name, each in source.items() if kind in (name, "both")}
    source["units"] = units
    there = gridsample_ext.warp(image, size=out, align_corners=align_corners, **source)
    back = splat(values, size=size, align_corners=align_corners, **source)
    samples.assert_close((there * values).sum(), (image * back).sum(), terms=10)
    # A displacement's values go home by default.
    if kind == "displacement":
        assert splat(values, **source).shape == (2, 3, *out)


VALUES, GRID = torch.ones(2, 3, 5, 6), torch.zeros(2, 5, 6, 2)
BAD = {
    "values": ({"values": [1.0]}, TypeError, ["values", "Tensor", "list"]),
    "grid": ({"grid": [0.0]}, TypeError, ["grid", "Tensor", "list"]),
    "nothing": ({"grid": None}, ValueError, ["displacement", "affine", "None"]),
    "too_much": ({"displacement": VALUES[:, :2]}, ValueError, ["grid", "displacement", "both"]),
    "units_of_grid": ({"units": "pixel"}, ValueError, ["grid", "units"]),
    "units": ({"grid": None, "displacement": VALUES[:, :2], "units": "px"}, ValueError,
              ["units", "'px'", "'pixel'"]),
    "coordinates_of_none": ({"grid": None, "displacement": VALUES[:, :2], "coordinates": "pixel"},
                            ValueError, ["coordinates", "grid", "'pixel'", "units"]),
    "displacement": ({"grid": None, "displacement": VALUES}, RuntimeError,
                     ["displacement", "(N, 2, H_out, W_out)", "[2, 3, 5, 6]"]),
    "no_size": ({"size": None}, ValueError, ["size", "None", "(H, W)"]),
    "size_missing": ({"size": 4}, ValueError, ["size", "4", "(H, W)"]),
    "size_of_volume": ({"size": (2, 3, 4)}, RuntimeError,
                       ["values", "(2, 3, 4)", "D_out", "[2, 3, 5, 6]"]),
    "size_of_floats": ({"size": (2.5, 3)}, TypeError, ["size", "2.5"]),
    "size_zero": ({"size": (0, 3)}, ValueError, ["size", "(0, 3)"]),
    "sizes": ({"values": VALUES[..., :5]}, RuntimeError, ["values", "[2, 3, 5, 5]", "[2, 5, 6"]),
    "no_channels": ({"values": VALUES[:, 0]}, RuntimeError, ["values", "(N, C, H_out, W_out)"]),
    "batches": ({"grid": GRID.repeat(2, 1, 1, 1)}, RuntimeError, ["values", "[2, 3", "[4, 5"]),
    "integers": ({"values": VALUES.long()}, RuntimeError, ["values", "float32", "int64"]),
    "complex": ({"values": VALUES.cfloat()}, RuntimeError, ["values", "float32", "complex64"]),
    "grid_integers": ({"grid": GRID.long()}, RuntimeError, ["grid", "int64"]),
    "sparse": ({"values": VALUES.to_sparse()}, NotImplementedError, ["values", "strided"]),
    "devices": ({"grid": GRID.to("meta")}, RuntimeError, ["values", "grid", "meta", "cpu"]),
    "mode": ({"mode": "area"}, ValueError, ["mode", "'area'", "'nearest'"]),
    "padding": ({"padding_mode": "wrap"}, ValueError, ["padding_mode", "'wrap'", "'circular'"]),
    "paddings": ({"padding_mode": ("zeros",)}, ValueError, ["padding_mode", "2", "('zeros',)"]),
    "coordinates": ({"coordinates": "pixels"}, ValueError, ["coordinates", "'pixel'"]),
    "cubic": ({"cubic_coefficient": -0.5}, ValueError, ["cubic_coefficient", "bicubic"]),
    "align_corners": ({"align_corners": 1}, TypeError, ["align_corners", "bool"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    changes, kind, words = BAD[name]
    given = {"values": VALUES, "grid": GRID, "size": (4, 5), "align_corners": False} | changes
    with pytest.raises(kind, match=r"splat\(\)") as error:
        splat(**given)
    for word in words:
        assert word in str(error.value)
    of_count = set(given) - {"values"} <= set(inspect.signature(splat_count).parameters)
    if of_count and "values" not in changes and name not in ("devices", "batches", "nothing"):
        given.pop("values")
        with pytest.raises(kind, match=r"splat_count\(\)"):
            splat_count(**given)


def test_storage_freed(device):
    values = VALUES.to(device).clone()
    values.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="allocated"):
        splat(values, GRID.to(device), (4, 5), align_corners=False)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 2)])
@few
def test_vmap(case, in_dims, device):
    _, values, grid = draw(case, dtype=torch.float32, device=device)
    call = splatter(case, (3, 4, 5)[-case.dims :])
    stacked = [torch.stack([tensor, 0.9 * tensor, -tensor]) for tensor in (values, grid)]
    batched = [
        tensor[0] if d is None else tensor.movedim(0, d)
        for tensor, d in zip(stacked, in_dims, strict=True)
    ]
    rows = [
        [tensor[0]] * 3 if d is None else list(tensor)
        for tensor, d in zip(stacked, in_dims, strict=True)
    ]
    expected = torch.stack([call(*row) for row in zip(*rows, strict=True)])
    samples.assert_close(torch.vmap(call, in_dims)(*batched), expected.double(), terms=4)


@few
def test_compile_and_export(case, device):
    _, values, grid = draw(case, dtype=torch.float32, device=device)
    call = splatter(case, (3, 4, 5)[-case.dims :])
    leaves = [tensor.clone().requires_grad_() for tensor in (values, grid)]
    torch.compiler.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True, dynamic=True)
    results = []
    for function in (call, compiled):
        output = function(*leaves)
        results.append((output, *torch.autograd.grad(output.square().sum(), leaves)))
    for actual, expected in zip(*results[::-1], strict=True):
        samples.assert_close(actual, expected.detach().double())

    class Splatter(torch.nn.Module):
        def forward(self, values, grid):
            return call(values, grid)

    N = Dim("N")
    shapes = {"values": {0: N}, "grid": {0: N}}
    program = torch.export.export(Splatter(), (values, grid), dynamic_shapes=shapes)
    for n in (2, 3):
        some = [tensor[:1].repeat(n, *[1] * (case.dims + 1)) for tensor in (values, grid)]
        assert torch.equal(program.module()(*some), call(*some))


class SplatsLike(torch.nn.Module):
    """Into an image as large as another tensor, or of sizes that are known at run time."""

    def forward(self, values, grid, image):
        """One of each."""
        H, W = image.shape[2:]
        return splat(values, grid, image.shape[2:]), splat(values, grid, [H + 1, W])


def test_sizes_of_another_tensor():
    image, values, grid = draw(boundaries.Case(2, "bilinear", "zeros", False), dtype=torch.float32)
    model = SplatsLike()
    H, W = Dim("H"), Dim("W")
    shapes = {"values": None, "grid": None, "image": {2: H, 3: W}}
    program = torch.export.export(model, (values, grid, image), dynamic_shapes=shapes)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in ((3, 4), (7, 2), (1, 9)):
        other = torch.zeros(*image.shape[:2], *size)
        expected = model(values, grid, other)
        for function in (program.module(), compiled):
            for actual, wanted in zip(function(values, grid, other), expected, strict=True):
                assert torch.equal(actual, wanted)


def test_sizes_known_at_run_time():
    class Splatter(torch.nn.Module):
        def forward(self, values, grid, size):
            return splat(values, grid, size.tolist())

    size = torch.tensor([4, 5])
    program = torch.export.export(Splatter(), (VALUES, GRID, size))
    for size in ([4, 5], [2, 7]):
        expected = splat(VALUES, GRID, size)
        assert torch.equal(program.module()(VALUES, GRID, torch.tensor(size)), expected)


def test_without_data():
    result = splat(VALUES.to("meta"), GRID.to("meta"), (4, 5), align_corners=False)
    assert (result.shape, result.dtype, result.is_meta) == ((2, 3, 4, 5), torch.float32, True)


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@ids
def test_on_other_devices(case, dtype, monkeypatch):
    """Composed of tensor operations, the gradients as well."""
    _, values, grid = draw(case, dtype=dtype)
    call = splatter(case, (3, 4, 5)[-case.dims :])
    leaves = [values.requires_grad_(), grid.requires_grad_()]

    def results():
        output = call(*leaves)
        weight = torch.arange(output.numel()).reshape(output.shape).to(dtype) / output.numel()
        return output, *torch.autograd.grad(output, leaves, weight)

    expected = results()
    monkeypatch.setattr(functional, "why_not_ours", lambda device: "tests")
    functional._warn_fallback_once.cache_clear()
    with pytest.warns(UserWarning, match="nothing of its own for tests yet; tensor operations"):
        actual = results()
    functional._warn_fallback_once.cache_clear()
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        samples.assert_close(one, other.detach().double(), dtype, terms=4)


@pytest.mark.parametrize("device_type", ["cpu"])
def test_autocast_casts_nothing(device_type):
    with torch.autocast(device_type, torch.bfloat16):
        assert splat(VALUES, GRID, (4, 5), align_corners=False).dtype == torch.float32
        assert splat(VALUES.half(), GRID, (4, 5), align_corners=False).dtype == torch.float16


@pytest.mark.devices("cpu", "cuda")
def test_repeatable(device):
    """On the CPU with any number of threads; on CUDA where that is asked for."""
    values = samples.randn(2, 5, 70, 80, dtype=torch.float32, device=device)
    grid = 2.4 * samples.randn(2, 70, 80, 2, dtype=torch.float32, device=device)
    results = []
    torch.use_deterministic_algorithms(device != "cpu")
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(splat(values, grid, (40, 50), align_corners=False))
    finally:
        torch.use_deterministic_algorithms(False)
    for result in results:
        samples.assert_bitwise_equal(result, results[0])


class Logged(torch.Tensor):
    """Notes what it is given to."""

    seen = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_subclasses_see_the_call():
    Logged.seen.clear()
    splat(VALUES.as_subclass(Logged), GRID, (4, 5), align_corners=False)
    splat_count(GRID.as_subclass(Logged), (4, 5), align_corners=False)
    assert Logged.seen[0] is splat
    assert splat_count in Logged.seen


def check_every_placement(case, shape):
    _, values, grid = draw(case, shape)
    call = splatter(case, (3, 4, 5)[-case.dims :])
    weight = torch.randn(
        call(values, grid).shape, dtype=values.dtype, generator=samples.generator(9)
    )
    placements = itertools.product(["R", "P", *map(str, range(case.dims + 2))], ["R", "0", "1"])
    assert_same_placed(call, (values, grid), weight, placements)


@pytest.mark.parametrize("case", FEW[::4], ids=str)
def test_distributed_tensors(processes, case):  # noqa: F811
    processes.run(
        check_every_placement, case, samples.Shape("even", N=4, C=4, size=(3, 4, 5), out=(2, 4, 6))
    )


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.")  # deprecated by torch itself
def test_in_onnx_there_is_none():
    class Splatter(torch.nn.Module):
        def forward(self, values, grid):
            return splat(values, grid, (4, 5), align_corners=False)

    messages = pytest.importorskip("test_onnx").messages
    with pytest.raises(torch.onnx.OnnxExporterError) as caught:
        torch.onnx.export(Splatter().eval(), (VALUES, GRID), dynamo=True, verbose=False)
    assert "splat(): ONNX has no operator" in messages(caught.value)
    with pytest.raises(torch.onnx.OnnxExporterError, match=r"splat\(\): ONNX has no operator"):
        torch.onnx.export(Splatter().eval(), (VALUES, GRID), io.BytesIO(), dynamo=False)


def test_public():
    assert {"splat", "splat_count"} <= set(gridsample_ext.__all__)
