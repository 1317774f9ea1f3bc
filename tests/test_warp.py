"""warp: against plain loops, affine_grid, and what users compose today."""

import itertools
import math

import boundaries
import numpy as np
import pytest
import reference
import samples
import torch
import torch.nn.functional as F
from torch.export import Dim

import gridsample_ext
from gridsample_ext import grid_sample, warp

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")

UNITS = ("pixel", "normalized")
# Sizes of the input and of the output.
SHAPES = {
    "same": ((3, 4, 5), (3, 4, 5)),
    "larger": ((3, 4, 5), (4, 7, 6)),
    "smaller": ((4, 7, 6), (2, 3, 4)),
    "one_pixel": ((3, 4, 5), (1, 1, 1)),
    "of_one_pixel": ((1, 1, 1), (2, 3, 4)),
}
KINDS = ("displacement", "affine", "both")
CASES = [
    boundaries.Case(dims, mode, padding_mode, align_corners)
    for dims, mode, padding_mode, align_corners in itertools.product(
        (2, 3), samples.MODES, boundaries.PADDINGS, (False, True)
    )
] + [
    boundaries.Case(2, "bilinear", ("circular", "zeros"), False, fill_value=2.5, outside_value=-1),
    boundaries.Case(3, "bicubic", ("zeros", "border", "circular"), True, cubic_coefficient=-0.5),
]  # fmt: skip
FEW = CASES[2::7]


def draw(
    case,
    shape="same",
    kind="both",
    dtype=torch.float64,
    source_dtype=None,
    N=(2, 2, 2),
    device="cpu",
):
    """Input, displacement and affine, in units of pixels; no coordinate near a pixel's centre."""
    size, out = (sizes[-case.dims :] for sizes in SHAPES[shape])
    source_dtype = source_dtype or dtype
    input = samples.randn(N[0], 3, *size, dtype=dtype, device=device)
    displacement = 1.7 * samples.randn(N[1], case.dims, *out, seed=1, device=device)
    affine = torch.eye(case.dims, case.dims + 1, dtype=torch.float64, device=device)
    affine = affine + 0.15 * samples.randn(N[2], case.dims, case.dims + 1, seed=2, device=device)
    return (
        input,
        displacement.to(source_dtype) if kind != "affine" else None,
        affine.to(source_dtype) if kind != "displacement" else None,
    )


def place(i, n, of, units, align_corners):
    """Where pixel i of n lies along an axis of `of` pixels: of the same extent."""
    if align_corners:
        from_center = 0.0 if n == 1 else i / (n - 1) * 2 - 1
        pixel = (from_center + 1) / 2 * (of - 1)
    else:
        from_center = (i + 0.5) / n * 2 - 1
        pixel = (from_center + 1) / 2 * of - 0.5
    return pixel if units == "pixel" else from_center


def grid_of(input, displacement, affine, size, units, align_corners):
    """By plain loops, in float64."""
    dims = input.dim() - 2
    given = [each for each in (input, displacement, affine) if each is not None]
    N = max(each.shape[0] for each in given)
    grid = np.zeros((N, *size, dims))
    for n, *position in np.ndindex(N, *size):
        q = [
            place(i, out, of, units, align_corners)
            for i, out, of in zip(position, size, input.shape[2:], strict=True)
        ][::-1]
        for a in range(dims):
            p = q[a]
            if affine is not None:
                row = affine[min(n, affine.shape[0] - 1), a].double()
                p = sum(row[b].item() * q[b] for b in range(dims)) + row[dims].item()
            if displacement is not None:
                p += displacement[(min(n, displacement.shape[0] - 1), a, *position)].item()
            grid[(n, *position, a)] = p
    return torch.from_numpy(grid).to(input.device)


def assert_as_composed(case, input, displacement, affine, units, out, tolerance_of=None, **how):
    output = warp(
        input, displacement, affine, units=units, mode=case.mode, padding_mode=case.padding_mode,
        align_corners=case.align_corners, **case.keywords, **how,
    )  # fmt: skip
    grid = grid_of(input, displacement, affine, out, units, case.align_corners)
    expected = grid_sample(input.double(), grid, *case.options, coordinates=units, **case.keywords)
    assert output.dtype == input.dtype
    samples.assert_close(output, expected, tolerance_of or input.dtype, terms=40)
    return output


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain_loops(case, shape, kind, units, device):
    input, displacement, affine = draw(case, shape, kind, device=device)
    out = SHAPES[shape][1][-case.dims :]
    size = out if displacement is None else None
    assert_as_composed(case, input, displacement, affine, units, out, size=size)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", ["same", "larger", "smaller"])
@pytest.mark.parametrize("dims", [2, 3])
def test_affine_grid(dims, shape, align_corners, device):
    """The spatial transformer that PyTorch has."""
    size, out = (sizes[-dims:] for sizes in SHAPES[shape])
    input = samples.randn(2, 3, *size, device=device)
    theta = samples.randn(2, dims, dims + 1, seed=1, device=device)
    output = warp(input, affine=theta, units="normalized", size=out, align_corners=align_corners)
    grid = F.affine_grid(theta, (2, 3, *out), align_corners=align_corners)
    expected = F.grid_sample(input, grid, align_corners=align_corners)
    samples.assert_close(output, expected, terms=10)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", ["same", "larger", "smaller"])
def test_another_size_covers_the_same_extent(shape, align_corners):
    """As resizing does."""
    size, out = (sizes[-2:] for sizes in SHAPES[shape])
    input = samples.randn(1, 2, *size)
    affine = torch.eye(2, 3, dtype=torch.float64)[None]
    for mode in ("bilinear", "bicubic"):
        output = warp(
            input, affine=affine, size=out, mode=mode, padding_mode="border",
            align_corners=align_corners,
        )  # fmt: skip
        expected = F.interpolate(input, out, mode=mode, align_corners=align_corners)
        samples.assert_close(output, expected, terms=10)


def test_optical_flow():
    """What users write: a mesh, the flow, and division by the size."""
    frame, flow = samples.randn(2, 3, 9, 11), 3 * samples.randn(2, 2, 9, 11, seed=1)
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    grid = torch.stack([2 * x / 10 - 1, 2 * y / 8 - 1], -1)
    expected = F.grid_sample(frame, grid, padding_mode="border", align_corners=True)
    samples.assert_close(warp(frame, flow, padding_mode="border"), expected, terms=10)


@pytest.mark.parametrize("dim", [-1, "last"])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_coordinates_last(case, dim, device):
    input, displacement, _ = (t if t is None else t.to(device) for t in draw(case))
    expected = warp(input, displacement)
    last = displacement.movedim(1, -1).contiguous()
    dim = case.dims + 1 if dim == "last" else dim
    samples.assert_bitwise_equal(warp(input, last, displacement_dim=dim), expected)


@pytest.mark.parametrize("source_dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_types(case, dtype, source_dtype, device):
    input, displacement, affine = draw(case, dtype=dtype, source_dtype=source_dtype, device=device)
    if case.mode == "nearest":
        pytest.skip("a coordinate rounded otherwise is another pixel")
    wide = torch.float64 in (dtype, source_dtype)
    tolerance_of = torch.float32 if dtype == torch.float64 and not wide else dtype
    assert_as_composed(
        case, input, displacement, affine, "pixel", displacement.shape[2:], tolerance_of
    )


def test_a_half_displacement_of_a_large_image_is_exact():
    """To its own rounding: a float16 grid of 4096 pixels would be a pixel or two off."""
    width = 4096
    ramp = torch.arange(width, dtype=torch.float32).expand(1, 1, 2, width)
    flow = torch.zeros(1, 2, 2, width, dtype=torch.float16)
    flow[:, 0] = torch.rand(2, width, generator=samples.generator(1)) * 3
    output = warp(ramp, flow, padding_mode="border")
    expected = (torch.arange(width) + flow[:, 0].double()).clamp(max=width - 1)
    assert (output[:, 0] - expected).abs().max() <= 2**-11  # of float32, near 4096


@pytest.mark.parametrize("batches", list(itertools.product((1, 2), repeat=3)))
@pytest.mark.parametrize("case", FEW[:2], ids=str)
def test_batches_of_one(case, batches, device):
    tensors = draw(case, N=batches, device=device)
    N = max(batches)
    whole = [each.expand(N, *each.shape[1:]) for each in tensors]
    output = warp(*tensors, padding_mode=case.padding_mode)
    samples.assert_close(output, warp(*whole, padding_mode=case.padding_mode))


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [case for case in FEW if case.mode != "nearest"], ids=str)
def test_derivatives(case, kind, units, device):
    tensors = draw(case, "same", kind, device=device)
    leaves = [each if each is None else each.clone().requires_grad_() for each in tensors]
    given = [each for each in leaves if each is not None]

    def call(*some):
        some = list(some)
        filled = [each if each is None else some.pop(0) for each in leaves]
        return warp(
            *filled, units=units, mode=case.mode, padding_mode=case.padding_mode,
            align_corners=case.align_corners, **case.keywords,
        )  # fmt: skip

    assert torch.autograd.gradcheck(call, given, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


def test_gradient_of_the_map_of_many_samples():
    """A sum over all samples, as exact as float64's."""
    input = samples.randn(1, 1, 64, 64, dtype=torch.float32)
    theta = torch.tensor([[[1.0, 0.1, 0.0], [-0.1, 1.0, 0.0]]], requires_grad=True)
    wide = theta.detach().double().requires_grad_()
    gradients = []
    for image, map_ in ((input, theta), (input.double(), wide)):
        output = warp(image, affine=map_, units="normalized", size=(1000, 1000))
        gradients.append(torch.autograd.grad(output.square().sum(), map_)[0].double())
    assert (gradients[0] - gradients[1]).norm() <= 1e-4 * gradients[1].norm()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_hostile_displacements(case, value, device):
    input, displacement, _ = draw(case, dtype=torch.float32, device=device)
    displacement[:, 0] = value
    output = warp(
        input, displacement, mode=case.mode, padding_mode=case.padding_mode,
        align_corners=case.align_corners, **case.keywords,
    )  # fmt: skip
    grid = grid_of(
        input, displacement, None, displacement.shape[2:], "pixel", case.align_corners
    ).float()
    expected = reference.grid_sample(
        input, grid, *case.options, coordinates="pixel", **case.keywords
    )
    samples.assert_close(output, expected, torch.float32, terms=4)


def test_integers_and_complex_numbers():
    labels = torch.randint(0, 250, (1, 1, 4, 5), dtype=torch.uint8)
    flow = torch.zeros(1, 2, 4, 5)
    assert torch.equal(warp(labels, flow, mode="nearest"), labels)
    assert torch.equal(warp(labels, flow), labels)
    image = torch.randn(1, 2, 4, 5, dtype=torch.complex64)
    assert torch.equal(warp(image, flow), image)


IMAGE, FLOW, THETA = torch.ones(2, 3, 5, 6), torch.zeros(2, 2, 5, 6), torch.zeros(2, 2, 3)
BAD = {
    "neither": ({"displacement": None}, ValueError, ["displacement", "affine", "None"]),
    "input": ({"input": [1]}, TypeError, ["input", "Tensor", "list"]),
    "displacement": ({"displacement": 1.0}, TypeError, ["displacement", "Tensor", "float"]),
    "affine": ({"affine": [[1.0]]}, TypeError, ["affine", "Tensor", "list"]),
    "integers": ({"displacement": FLOW.long()}, RuntimeError, ["displacement", "int64"]),
    "affine_integers": ({"affine": THETA.int()}, RuntimeError, ["affine", "int32"]),
    "flow_last": ({"displacement": FLOW.movedim(1, -1)}, RuntimeError,
                  ["displacement", "(N, 2, H_out, W_out)", "[2, 5, 6, 2]"]),
    "flow_first": ({"displacement_dim": -1}, RuntimeError,
                   ["displacement", "(N, H_out, W_out, 2)", "[2, 2, 5, 6]"]),
    "flow_of_volume": ({"displacement": torch.zeros(2, 3, 4, 5, 6)}, RuntimeError,
                       ["displacement", "[2, 3, 4, 5, 6]", "[2, 3, 5, 6]"]),
    "dim": ({"displacement_dim": 2}, ValueError, ["displacement_dim", "2"]),
    "dim_float": ({"displacement_dim": 1.0}, ValueError, ["displacement_dim", "1.0"]),
    "dtype": ({"input": IMAGE.long()}, NotImplementedError, ["input", "int64", "'bilinear'"]),
    "size": ({"size": (5, 7)}, RuntimeError, ["size", "(5, 7)", "[2, 2, 5, 6]"]),
    "size_of_volume": ({"displacement": None, "affine": THETA, "size": (5, 6, 7)}, ValueError,
                       ["size", "(5, 6, 7)", "[2, 3, 5, 6]"]),
    "size_int": ({"size": 5}, ValueError, ["size", "5"]),
    "rows_of_map": ({"affine": torch.zeros(2, 3, 3)}, RuntimeError,
                    ["affine", "(N, 2, 3)", "[2, 3, 3]"]),
    "map_without_batch": ({"affine": THETA[0]}, RuntimeError, ["affine", "[2, 3]"]),
    "batches": ({"affine": torch.zeros(3, 2, 3)}, RuntimeError,
                ["input, displacement and affine", "batch", "[2, 2, 5, 6]", "[3, 2, 3]"]),
    "devices": ({"displacement": FLOW.to("meta")}, RuntimeError, ["displacement", "meta", "cpu"]),
    "sparse": ({"displacement": FLOW.to_sparse()}, NotImplementedError,
               ["displacement", "strided"]),
    "units": ({"units": "pixels"}, ValueError, ["units", "'pixels'", "'pixel'", "'normalized'"]),
    "mode": ({"mode": "area"}, ValueError, ["mode", "'area'"]),
    "padding": ({"padding_mode": "wrap"}, ValueError, ["padding_mode", "'wrap'"]),
    "align_corners": ({"align_corners": None}, TypeError, ["align_corners", "bool", "NoneType"]),
    "fill": ({"fill_value": 1.0, "padding_mode": "border"}, ValueError, ["fill_value", "'zeros'"]),
    "rank": ({"input": IMAGE[0]}, RuntimeError, ["input", "[3, 5, 6]", "(N, C, H, W)"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    changes, kind, words = BAD[name]
    given = {"input": IMAGE, "displacement": FLOW} | changes
    with pytest.raises(kind, match=r"warp\(\)") as error:
        warp(**given)
    for word in words:
        assert word in str(error.value)


def test_programs():
    """Compiled, exported and vmapped, for other sizes too."""
    call = lambda image, flow, theta: warp(image, flow, theta, padding_mode="border")  # noqa: E731
    tensors = samples.randn(2, 3, 5, 6), samples.randn(2, 2, 5, 6), samples.randn(2, 2, 3)
    tensors = [each.float() for each in tensors]
    torch.compiler.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True, dynamic=True)
    others = torch.randn(3, 3, 7, 9), torch.randn(3, 2, 7, 9), torch.randn(3, 2, 3)
    for given in (tensors, others):
        leaves = [each.clone().requires_grad_() for each in given]
        results = [function(*leaves) for function in (compiled, call)]
        samples.assert_close(results[0], results[1].detach().double())
        gradients = [torch.autograd.grad(r.square().sum(), leaves) for r in results]
        for actual, expected in zip(*gradients, strict=True):
            samples.assert_close(actual, expected.double(), terms=100)

    class Warper(torch.nn.Module):
        def forward(self, image, flow, theta):
            return call(image, flow, theta)

    N = Dim("N", min=2)
    program = torch.export.export(Warper(), tuple(tensors), dynamic_shapes=[{0: N}] * 3)
    doubled = [torch.cat([each, each]) for each in tensors]
    assert torch.equal(program.module()(*doubled), call(*doubled))

    stacked = [torch.stack([each, 0.5 * each]) for each in tensors]
    expected = torch.stack([call(*row) for row in zip(*stacked, strict=True)])
    samples.assert_close(torch.vmap(call)(*stacked), expected.double())
    assert call(*[each.to("meta") for each in tensors]).shape == (2, 3, 5, 6)


@pytest.mark.parametrize("units", UNITS)
def test_onnx(units):
    onnx = pytest.importorskip("test_onnx")

    class Warper(torch.nn.Module):
        def forward(self, image, flow, theta):
            return warp(image, flow, theta, units=units, padding_mode="border")

    tensors = torch.randn(2, 3, 5, 6), 0.3 * torch.randn(2, 2, 5, 6), torch.randn(2, 2, 3)
    proto = onnx.by_dynamo(Warper().eval(), tensors, 20)
    (output,) = onnx.run(proto, *tensors)
    samples.assert_close(output, Warper()(*tensors).double(), terms=40)


def test_public():
    assert "warp" in gridsample_ext.__all__


@pytest.mark.parametrize("how", ["displacement", "affine", "splat"])
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_a_batch_that_data_decide(how):
    image, flow = samples.randn(7, 4, 5, 6).float(), samples.randn(7, 2, 5, 6).float()
    theta = torch.eye(2, 3) + 0.1 * samples.randn(7, 2, 3).float()
    chosen = torch.tensor([1, 0, 1, 0, 1, 0, 0]).bool()

    def call(chosen):
        i = chosen.nonzero()[:, 0]
        if how == "splat":
            return gridsample_ext.splat(image[i], displacement=flow[i])
        return warp(image[i], flow[i]) if how == "displacement" else warp(image[i], affine=theta[i])

    torch.compiler.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    samples.assert_close(compiled(chosen), call(chosen).double())


def test_autocast_casts_nothing():
    image, flow = torch.rand(1, 1, 4, 5), torch.rand(1, 2, 4, 5)
    expected = warp(image, flow)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(warp(image, flow), expected)
        assert warp(image.half(), flow).dtype == torch.float16


def test_sizes_of_numpy():
    image, theta = torch.rand(1, 1, 4, 5), torch.eye(2, 3)[None]
    sizes = np.int64(3), np.int64(4)
    assert torch.equal(
        warp(image, affine=theta, size=sizes), warp(image, affine=theta, size=(3, 4))
    )
