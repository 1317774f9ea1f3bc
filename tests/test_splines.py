"""spline_filter, and what it is for: mode bspline interpolates what it has filtered."""

import itertools
import sys

import numpy as np
import programs
import pytest
import samples
import torch
from test_distributed import (
    RANKS,
    distribute,
    mesh_of,
    parse,
    processes,  # noqa: F401  a fixture
)
from test_distributed import pytestmark as distributed_mark

import gridsample_ext
from gridsample_ext import _composed, functional, grid_sample, spline_filter

ops = torch.ops.gridsample_ext
PADDINGS = ("zeros", "border", "reflection", "circular")
HOW = list(itertools.product(PADDINGS, (False, True)))
# (padding_mode, align_corners) -> SciPy's mode
SCIPY = {
    ("reflection", True): "mirror",
    ("reflection", False): "reflect",
    ("circular", False): "grid-wrap",
    ("circular", True): "grid-wrap",
}
# SciPy's "reflect" is not exact for fewer than a dozen pixels.
SIZES = {2: (2, 3, 19, 40), 3: (1, 2, 12, 17, 23)}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 4e-6}


def number(padding):
    """Of one padding or of one for each axis, as the op takes it."""
    if isinstance(padding, str):
        return PADDINGS.index(padding)
    return 65536 + sum(PADDINGS.index(name) << (4 * axis) for axis, name in enumerate(padding))


def each_image(function, images):
    """Apply a function of arrays to each image and channel."""
    flat = images.flatten(0, 1).cpu().numpy()
    return torch.from_numpy(np.stack([function(image) for image in flat])).unflatten(
        0, images.shape[:2]
    )


def interpolation_matrix(size, padding, align_corners):
    """Row k: the weights that coefficients have at pixel k, (1, 4, 1) / 6."""
    matrix = np.zeros((size, size))
    for k, (step, weight) in itertools.product(range(size), ((-1, 1), (0, 4), (1, 1))):
        at = k + step
        if padding == "circular":
            at %= size
        elif padding == "border" or (padding == "reflection" and not align_corners):
            at = min(max(at, 0), size - 1)
        elif padding == "reflection":
            at = 0 if size == 1 else size - 1 - abs(size - 1 - abs(at))
        if 0 <= at < size:
            matrix[k, at] += weight / 6
    return matrix


def solved(image, paddings, align_corners, *, transposed=False):
    """What spline_filter is to give, by dense systems of equations."""
    result = image.double().cpu().numpy()
    for axis, padding in enumerate(paddings):
        dim = result.ndim - 1 - axis
        matrix = interpolation_matrix(result.shape[dim], padding, align_corners)
        lines = np.moveaxis(result, dim, 0)
        flat = np.linalg.solve(matrix.T if transposed else matrix, lines.reshape(len(matrix), -1))
        result = np.moveaxis(flat.reshape(lines.shape), 0, dim)
    return torch.from_numpy(np.ascontiguousarray(result))


def assert_near(actual, expected, tolerance=None):
    tolerance = tolerance or TOLERANCE[actual.dtype]
    assert actual.shape == expected.shape
    error = (actual.double().cpu() - expected).abs().max().item()
    assert error <= tolerance * max(1.0, expected.abs().max().item())


# --- What it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("how", SCIPY, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_coefficients_are_scipys(dims, how, dtype, device):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = samples.randn(*SIZES[dims], dtype=dtype)
    expected = each_image(
        lambda pixels: ndimage.spline_filter(pixels, 3, np.float64, SCIPY[how]), image
    )
    coefficients = spline_filter(image.to(device), *how)
    assert coefficients.dtype == dtype
    assert_near(coefficients, expected)


@pytest.mark.parametrize("how", SCIPY, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_samples_are_scipys(dims, how, device):
    """Inside the image and up to a width of it outside."""
    ndimage = pytest.importorskip("scipy.ndimage")
    image = samples.randn(*SIZES[dims])
    sizes = torch.tensor(image.shape[:1:-1])
    points = (3 * torch.rand(300, dims, dtype=torch.float64) - 1) * (sizes - 1)
    expected = each_image(
        lambda pixels: ndimage.map_coordinates(
            pixels, points.numpy().T[::-1], order=3, mode=SCIPY[how]
        ),
        image,
    )
    coefficients = spline_filter(image.to(device), *how)
    grid = samples.in_a_row(points, device)
    output = grid_sample(coefficients, grid, "bspline", *how, coordinates="pixel")
    assert_near(output.flatten(2), expected)


@pytest.mark.parametrize("how", [("zeros", "grid-constant"), ("border", "nearest")])
def test_samples_near_the_edge_against_scipys(how, device):
    """SciPy's coefficients go on outside the image there; what that changes decays inwards."""
    ndimage = pytest.importorskip("scipy.ndimage")
    padding, mode = how
    image = samples.randn(1, 1, 70, 1)
    u = torch.arange(0, 69.01, 0.125, dtype=torch.float64)
    expected = ndimage.map_coordinates(
        image[0, 0, :, 0].numpy(), u[None].numpy(), order=3, mode=mode
    )
    image = image.to(device)
    grid = samples.in_a_row(torch.stack([torch.zeros_like(u), u], -1), device)
    how = "bspline", ("border", padding), False
    output = (
        grid_sample(spline_filter(image, *how[1:]), grid, *how, coordinates="pixel").flatten().cpu()
    )
    error = (output - torch.from_numpy(expected)).abs()
    edge = torch.minimum(u, 69 - u)
    most = {"zeros": 0.05, "border": 0.08}[padding] * image.abs().max().item()
    assert (error <= most * (2 - 3**0.5) ** edge.floor() + 1e-12).all()
    assert error[edge < 1].max() > 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 3), (5, 1), (16, 17), (15, 33), (3, 2, 70)])
@pytest.mark.parametrize("how", HOW, ids=str)
def test_interpolates(how, size, device):
    """At every pixel, however few there are."""
    image = samples.randn(2, 2, *size, device=device)
    grid = samples.identity_grid(size, None, device=device)
    output = grid_sample(spline_filter(image, *how), grid, "bspline", *how, coordinates="pixel")
    samples.assert_close(output, image)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    "padding", [("circular", "zeros", "reflection"), ("zeros", "border", "circular")]
)
def test_interpolates_with_a_padding_for_each_axis(padding, align_corners, device):
    image = samples.randn(1, 2, 4, 5, 6, device=device)
    how = padding, align_corners
    grid = samples.identity_grid(image.shape[2:], None, device=device)
    output = grid_sample(spline_filter(image, *how), grid, "bspline", *how, coordinates="pixel")
    samples.assert_close(output, image)
    assert_near(spline_filter(image, *how), solved(image, *how))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 3), (15, 16), (17, 18), (31, 34), (2, 3, 90)])
@pytest.mark.parametrize("how", HOW, ids=str)
def test_solves_the_system(how, size, transposed, device):
    image = samples.randn(2, 3, *size)
    padding, align_corners = how
    expected = solved(image, (padding,) * len(size), align_corners, transposed=transposed)
    actual = ops.spline_filter(image.to(device), number(padding), align_corners, transposed)
    assert_near(actual, expected)
    composed = _composed.spline_filter(image, number(padding), align_corners, transposed)
    assert_near(composed, expected)


def test_lines_of_one_pixel_stay_the_same_bits(device):
    image = samples.randn(1, 3, 1, 1, dtype=torch.float32, device=device)
    for padding in PADDINGS[1:]:
        assert torch.equal(spline_filter(image, padding), image)


def test_constants_stay(device):
    """Weights add up to one. Padding with zeros is of an image in a frame of zeros."""
    image = torch.full((1, 1, 9, 50), 3.0, dtype=torch.float64, device=device)
    for padding in PADDINGS[1:]:
        samples.assert_close(spline_filter(image, padding), image)
    assert spline_filter(image)[0, 0, 0, 0] > 4


@pytest.mark.parametrize("padding", PADDINGS)
def test_second_derivatives_are_continuous(padding, device):
    """Which those of bicubic are not."""

    def second(mode, u):
        grid = samples.in_a_row(torch.tensor([[u, 2.0]], dtype=torch.float64), device)
        grid.requires_grad_()
        output = grid_sample(image, grid, mode, padding, False, coordinates="pixel").sum()
        (first,) = torch.autograd.grad(output, grid, create_graph=True)
        return torch.autograd.grad(first[..., 0].sum(), grid)[0][..., 0].item()

    image = samples.randn(1, 1, 5, 6, device=device)
    for pixel in (1, 2, 3):
        jumps = {
            mode: abs(second(mode, pixel - 1e-9) - second(mode, pixel + 1e-9))
            for mode in samples.CUBIC_MODES
        }
        assert jumps["bspline"] < 1e-6
        assert jumps["bicubic"] > 1e-2


@pytest.mark.parametrize("how", HOW, ids=str)
def test_halves_are_rounded_once(how, device):
    for dtype in (torch.float16, torch.bfloat16):
        image = samples.randn(2, 3, 9, 21, dtype=dtype, device=device)
        expected = spline_filter(image.float(), *how).to(dtype)
        assert torch.equal(spline_filter(image, *how), expected)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_numbers(dtype, device):
    real, imaginary = (samples.randn(2, 3, 9, 21, device=device, seed=seed) for seed in (0, 1))
    image = torch.complex(real, imaginary).to(dtype)
    for given in (image, image.conj(), image[:0]):
        output = spline_filter(given, "circular")
        assert output.dtype == dtype
        assert torch.equal(output.real, spline_filter(given.real, "circular"))
        assert torch.equal(output.imag, spline_filter(given.imag.contiguous(), "circular"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("how", HOW, ids=str)
def test_what_is_not_finite_spreads_over_its_image(how, value, device):
    image = samples.randn(2, 2, 5, 70, device=device)
    image[1, 0, 2, 11] = value
    output = spline_filter(image, *how)
    finite = output.isfinite().flatten(2)
    assert not finite[1, 0].any()
    assert finite[0].all()
    assert finite[1, 1].all()


# --- Layouts, threads, instruction sets ---------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("dims", [2, 3])
def test_layouts(dims, layout, dtype, device):
    """The same bits, laid out as results of grid_sample are."""
    image = samples.INPUT_LAYOUTS[layout](
        samples.randn(2, 3, *(4, 7, 65)[-dims:], dtype=dtype, device=device)
    )
    copy = image.clone(memory_format=torch.contiguous_format)
    output = spline_filter(image, "reflection", True)
    assert torch.equal(output, spline_filter(copy, "reflection", True))
    grid = samples.identity_grid(image.shape[2:], False, device=device)
    sampled = grid_sample(image, grid.expand(2, *grid.shape[1:]), align_corners=False)
    assert output.stride() == sampled.stride()
    assert torch.equal(image, copy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("how", HOW, ids=str)
def test_bits_do_not_depend_on_threads(how, dtype):
    image = samples.randn(2, 3, 70, 131, dtype=dtype)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results += [spline_filter(image, *how), spline_filter(image, *how)]
    # One image is the same whatever is beside it.
    results.append(torch.cat([spline_filter(part, *how) for part in image.split(1)]))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("how", HOW, ids=str)
def test_devices_give_the_same_bits(how, emulated_ops):
    image = samples.randn(2, 3, 40, 33, dtype=torch.float32)
    padding, align_corners = how
    arguments = image, number(padding), align_corners, True
    assert torch.equal(ops.spline_filter(*arguments), emulated_ops.spline_filter(*arguments))


def print_sum():
    image = torch.linspace(-1, 1, 2 * 37 * 70).sin().reshape(1, 2, 37, 70)
    for padding in PADDINGS:
        print(spline_filter(image, padding).view(torch.int32).long().cumsum(-1).sum().item())


def test_instruction_sets_give_the_same_bits():
    levels = gridsample_ext._C.build_info()["isa_supported"]
    printed = {programs.run(__file__, "print_sum", GRIDSAMPLE_EXT_ISA=level) for level in levels}
    assert len(printed) == 1
    assert len(printed.pop().split()) == len(PADDINGS)


def test_many_lines_and_long_ones(device):
    for shape in ((1, 1, 1, 5000), (1, 1, 5000, 1), (300, 2, 3, 2), (1, 200, 3, 2)):
        image = samples.randn(*shape)
        assert_near(spline_filter(image.to(device)), solved(image, ("zeros",) * 2, False))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (0, 0, 3, 4, 5)])
def test_empty(shape, device):
    image = torch.zeros(shape, device=device, requires_grad=True)
    output = spline_filter(image, "circular")
    assert output.shape == shape
    (gradient,) = torch.autograd.grad(output.sum(), image)
    assert gradient.shape == shape


# --- Derivatives --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 2), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("how", HOW, ids=str)
def test_derivatives(how, size, device):
    image = samples.randn(1, 2, *size, device=device).requires_grad_()

    def call(image):
        return spline_filter(image, *how)

    assert torch.autograd.gradcheck(
        call, image, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(call, image, check_fwd_over_rev=True)


@pytest.mark.parametrize("how", HOW, ids=str)
def test_derivatives_of_both(how, device):
    """Through the filter and the samples, by pixels and by grid."""
    image = samples.randn(1, 1, 4, 5, device=device).requires_grad_()
    grid = samples.wide_grid((1, 2, 3, 2), (4, 5), how[1], device=device).requires_grad_()

    def call(image, grid):
        return grid_sample(spline_filter(image, *how), grid, "bspline", *how)

    assert torch.autograd.gradcheck(call, (image, grid), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, (image, grid))


@pytest.mark.parametrize("how", HOW, ids=str)
def test_adjoint(how, device):
    image, other = (samples.randn(2, 2, 9, 40, seed=seed, device=device) for seed in (0, 1))
    options = number(how[0]), how[1]
    one = (ops.spline_filter(image, *options) * other).sum()
    two = (ops.spline_filter(other, *options, True) * image).sum()
    samples.assert_close(one, two, terms=100)


def test_complex_gradients(device):
    image = samples.randn(1, 1, 3, 4, device=device).to(torch.complex128) * (1 - 1j)
    assert torch.autograd.gradcheck(
        lambda image: spline_filter(image, "circular"), image.requires_grad_()
    )


def test_gradients_have_the_images_dtype(device):
    for dtype in samples.DTYPES:
        image = samples.randn(1, 1, 4, 5, dtype=dtype, device=device).requires_grad_()
        (gradient,) = torch.autograd.grad(spline_filter(image).sum(), image)
        assert gradient.dtype == dtype


@pytest.mark.parametrize("in_dim", [0, 1, 4, -1])
def test_vmap(in_dim, device):
    images = samples.randn(3, 2, 2, 4, 5, device=device)

    def call(image):
        return spline_filter(image, "reflection", True)

    expected = torch.stack([call(image) for image in images])
    batched = images.movedim(0, in_dim)
    assert torch.equal(torch.vmap(call, in_dim)(batched), expected)
    twice = torch.stack([images, -images])
    assert torch.equal(torch.vmap(torch.vmap(call))(twice), torch.stack([expected, -expected]))


def test_jacobians_by_both_modes(device):
    image = samples.randn(1, 1, 3, 4, device=device)

    def call(image):
        return spline_filter(image, ("reflection", "zeros"), True)

    forward, reverse = torch.func.jacfwd(call)(image), torch.func.jacrev(call)(image)
    samples.assert_close(forward, reverse)
    vector = samples.randn(12, seed=2, device=device)
    samples.assert_close(
        (reverse.reshape(12, 12) @ vector), call(vector.reshape(1, 1, 3, 4)).flatten()
    )


# --- Programs -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("needs_grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "spatial_transposed"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 4, 5), (0, 3, 4, 5)])
@pytest.mark.parametrize("padding", ["zeros", "reflection", ("circular", "border")])
def test_opcheck(padding, shape, layout, dtype, needs_grad, device):
    if not isinstance(padding, str):
        padding = (*padding, "zeros")[: len(shape) - 2]
    image = samples.INPUT_LAYOUTS[layout](samples.randn(*shape, dtype=dtype, device=device))
    torch.library.opcheck(
        ops.spline_filter.default,
        (image.requires_grad_(needs_grad), number(padding), True, not needs_grad),
    )


class Interpolator(torch.nn.Module):
    """Of pixels."""

    def forward(self, image, grid):  # noqa: D102
        coefficients = spline_filter(image, ("circular", "reflection"))
        return grid_sample(
            coefficients, grid, "bspline", ("circular", "reflection"), align_corners=False
        )


def drawn(*sizes, dtype=torch.float32):
    image = samples.randn(2, 3, *sizes, dtype=dtype)
    return image, samples.wide_grid((2, 5, 6, 2), sizes, False, dtype)


def test_compile():
    model = Interpolator()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in ((7, 9), (8, 5)):
        image, grid = drawn(*sizes)
        leaves = [image.requires_grad_(), grid.requires_grad_()]
        results = []
        for call in (compiled, model):
            output = call(*leaves)
            results.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
        assert all(map(torch.equal, *results))


def test_export_with_dynamic_sizes():
    Dim = torch.export.Dim
    sizes = {2: Dim("H", min=2), 3: Dim("W", min=2)}
    program = torch.export.export(Interpolator(), drawn(7, 9), dynamic_shapes=(sizes, {}))
    targets = {node.target for node in program.graph.nodes}
    assert ops.spline_filter.default in targets
    for arguments in (drawn(7, 9), drawn(4, 30)):
        assert torch.equal(program.module()(*arguments), Interpolator()(*arguments))


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")
def test_decomposition():
    program = torch.export.export(Interpolator(), drawn(7, 9))
    program = program.run_decompositions(gridsample_ext.decompositions())
    assert not any("gridsample_ext" in str(node.target) for node in program.graph.nodes)
    expected = Interpolator()(*drawn(7, 9)).double()
    samples.assert_close(program.module()(*drawn(7, 9)), expected, terms=8)


class Sampler(torch.nn.Module):
    """Of coefficients."""

    def forward(self, image, grid):  # noqa: D102
        return grid_sample(image, grid, "bspline", align_corners=False)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Interpolator(), "spline_filter(): ONNX has no operator"),
        (Sampler(), "GridSample has the modes 'bilinear', 'nearest' and 'bicubic'"),
    ],
)
def test_onnx_has_nothing_for_it(model, text):
    messages = pytest.importorskip("test_onnx").messages
    with pytest.raises(torch.onnx.OnnxExporterError) as caught:
        torch.onnx.export(model.eval(), drawn(4, 5), dynamo=True, verbose=False)
    assert text in messages(caught.value)


def test_autocast_changes_nothing():
    image = samples.randn(1, 2, 4, 5, dtype=torch.float32)
    expected = spline_filter(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spline_filter(image), expected)
        assert spline_filter(image).dtype == torch.float32


def test_meta_device():
    image = torch.empty(2, 3, 4, 5, device="meta", dtype=torch.float16)
    image = image.to(memory_format=torch.channels_last)
    output = spline_filter(image, "border")
    assert (output.device.type, output.shape, output.dtype) == ("meta", image.shape, image.dtype)
    assert output.stride() == image.stride()


@pytest.mark.parametrize("how", HOW, ids=str)
def test_composed_where_there_are_no_kernels(how, monkeypatch):
    image = samples.randn(2, 3, 5, 6).requires_grad_()
    expected = spline_filter(image, *how)
    weight = samples.randn(*image.shape, seed=1)
    (gradient,) = torch.autograd.grad(expected, image, weight)
    monkeypatch.setattr(functional, "why_not_ours", lambda device: "tests")
    monkeypatch.setattr(functional, "warn_of_composing", lambda why: None)
    output = spline_filter(image, *how)
    samples.assert_close(output, expected.detach())
    samples.assert_close(torch.autograd.grad(output, image, weight)[0], gradient)
    with pytest.raises(RuntimeError, match=r"4-D .* \[2, 3\]"):
        spline_filter(image[..., 0, 0])


def test_subclasses_are_asked():
    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), keywords=None):
            return function, arguments, keywords

    image = samples.randn(1, 1, 2, 3).as_subclass(Logged)
    function, arguments, keywords = spline_filter(image, "border")
    assert function is spline_filter
    assert arguments == (image,)
    assert keywords == {"padding_mode": "border", "align_corners": False}


def check_placements():
    from torch.distributed.tensor.debug import CommDebugMode

    mesh = mesh_of(RANKS)
    image = samples.randn(4, 2, 5, 6)
    weight = samples.randn(4, 2, 5, 6, seed=1)
    leaf = image.clone().requires_grad_()
    output = spline_filter(leaf, "reflection", True)
    expected = output.detach(), torch.autograd.grad(output, leaf, weight)[0]
    for name in ("R", "P", "0", "1", "2", "3"):
        placed = distribute(image, parse(name), mesh).requires_grad_()
        with CommDebugMode() as communication:
            output = spline_filter(placed, "reflection", True)
        assert (communication.get_total_counts() == 0) == (name in "RP01")
        (output * distribute(weight, parse("R"), mesh)).sum().backward()
        for actual, values in zip((output.detach(), placed.grad), expected, strict=True):
            samples.assert_close(actual.full_tensor(), values)


@distributed_mark
def test_dtensors(processes):  # noqa: F811
    processes.run(check_placements)


# --- Errors -------------------------------------------------------------------------------------

IMAGE = torch.zeros(2, 3, 4, 5)
BAD = {
    "kind": ({"image": [1.0]}, TypeError, ["image", "Tensor", "list"]),
    "integers": ({"image": IMAGE.int()}, NotImplementedError,
                 ["image", "[2, 3, 4, 5]", "int32", "convert"]),
    "sparse": ({"image": IMAGE.to_sparse()}, NotImplementedError,
               ["image", "[2, 3, 4, 5]", "strided"]),
    "dims": ({"image": IMAGE[0]}, RuntimeError, ["image", "4-D", "5-D", "[3, 4, 5]"]),
    "no_pixels": ({"image": IMAGE[..., :0]}, RuntimeError, ["image", "empty", "[2, 3, 4, 0]"]),
    "padding": ({"padding_mode": "mirror"}, ValueError, ["padding_mode", "'mirror'", "'circular'"]),
    "paddings": ({"padding_mode": ("zeros",) * 3}, ValueError,
                 ["padding_mode", "2", "x, y", "[2, 3, 4, 5]"]),
    "one_of_paddings": ({"padding_mode": ("zeros", "edge")}, ValueError, ["padding_mode", "edge"]),
    "align_corners": ({"align_corners": None}, TypeError, ["align_corners", "bool"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    changes, kind, words = BAD[name]
    with pytest.raises(kind) as caught:
        spline_filter(**({"image": IMAGE} | changes))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((IMAGE[0], 0, False), ["4-D", "[3, 4, 5]"]),
        ((IMAGE[..., :0], 0, False), ["image", "[2, 3, 4, 0]"]),
        ((IMAGE, 4, False), ["padding_mode", "3 (circular)", "4"]),
        ((IMAGE, 65536 + 4, False), ["padding_mode", "65540"]),
        ((IMAGE, 65536 + 256, False), ["padding_mode", "65792"]),
        ((IMAGE.long(), 0, False), ["image", "float32"]),
    ],
)
def test_errors_of_the_op(arguments, words, device):
    image, *rest = arguments
    for given in (image.to(device), image.to("meta")):
        with pytest.raises(RuntimeError) as caught:
            ops.spline_filter(given, *rest)
        for word in words:
            assert word in str(caught.value)


def test_cubic_coefficient_is_an_error():
    grid = torch.zeros(2, 4, 5, 2)
    with pytest.raises(ValueError, match=r"cubic_coefficient.*mode='bicubic'.*mode='bspline'"):
        grid_sample(IMAGE, grid, "bspline", align_corners=False, cubic_coefficient=-0.5)


def test_storage_freed(device):
    image = IMAGE.to(device).clone()
    image.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="allocated"):
        spline_filter(image)


if __name__ == "__main__" and len(sys.argv) > 1:
    programs.main(globals())
