"""Complex images: real and imaginary part each by itself, and their gradients."""

import boundaries
import pytest
import samples
import torch

import gridsample_ext
from gridsample_ext import grid_sample

DTYPES = (torch.complex64, torch.complex128)
CASES = list(boundaries.cases())
CHANNELS = (1, 2, 3, 5, 16)
LAYOUTS = [name for name in samples.INPUT_LAYOUTS if name != "sliced"]
VALUED = [
    boundaries.Case(2, "bilinear", "zeros", False),
    boundaries.Case(2, "bilinear", "zeros", True, "pixel", 2.5, -1.5),
    boundaries.Case(2, "bicubic", ("zeros", "circular"), False, "normalized", 2.5, None, -0.5),
    boundaries.Case(3, "bilinear", "border", False, outside_value=0.0),
    boundaries.Case(3, "bicubic", "reflection", True, outside_value=-1.5),
    boundaries.Case(2, "nearest", "zeros", False, fill_value=2.5),
]


def draw(case, shape=samples.SMALL, dtype=torch.complex128, device="cpu", grid_dtype=None):
    real_type = dtype.to_real()
    real, grid = samples.sample(case, shape, real_type, grid_dtype or real_type, device)
    imaginary = samples.randn(*real.shape, dtype=real_type, device=device, seed=9)
    return torch.complex(real, imaginary), grid


def part_by_part(case, input, grid):
    """Values outside are real."""
    imaginary = dict(case.keywords)
    if case.outside_value is not None:
        imaginary["outside_value"] = 0.0
    imaginary.pop("fill_value", None)
    return torch.complex(
        grid_sample(input.real, grid, *case.options, **case.keywords),
        grid_sample(input.imag, grid, *case.options, **imaginary),
    )


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype", "grid_dtype"),
    boundaries.drawn(CHANNELS, LAYOUTS, DTYPES, samples.DTYPES, of=CASES),
    ids=str,
)
def test_parts(case, channels, layout, dtype, grid_dtype, device):
    shape = samples.Shape("drawn", C=channels, size=(3, 4, 5), out=(2, 3, 11))
    input, grid = draw(case, shape, dtype, device, grid_dtype)
    input = samples.INPUT_LAYOUTS[layout](input)
    output = grid_sample(input, grid, *case.options, **case.keywords)
    expected = part_by_part(case, input, grid)
    assert output.dtype == dtype
    samples.assert_close(output.real.contiguous(), expected.real.double(), terms=8)
    samples.assert_close(output.imag.contiguous(), expected.imag.double(), terms=8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", VALUED, ids=str)
def test_layout_is_the_image_s(case, dtype, device):
    """Channels-last as an image of floats gives it, and contiguous from any other."""
    input, grid = draw(case, dtype=dtype, device=device)
    for layout in ("contiguous", "channels_last"):
        image = samples.INPUT_LAYOUTS[layout](input)
        of_floats = grid_sample(
            samples.INPUT_LAYOUTS[layout](input.real.clone()), grid, *case.options, **case.keywords
        )
        output = grid_sample(image, grid, *case.options, **case.keywords)
        assert output.stride() == of_floats.stride()
        assert not output.is_conj()


@pytest.mark.parametrize("case", VALUED, ids=str)
def test_conjugates(case, device):
    """Views that are marked, of the whole and of a part, and gradients through them."""
    input, grid = draw(case, device=device)
    for view in (input.conj(), input.conj()[..., ::2], input.mT.conj().mT):
        assert view.is_conj()
        output = grid_sample(view, grid, *case.options, **case.keywords)
        expected = grid_sample(view.resolve_conj(), grid, *case.options, **case.keywords)
        samples.assert_close(torch.view_as_real(output), torch.view_as_real(expected))
    input.requires_grad_()

    def gradient(conjugate):
        output = grid_sample(conjugate(input), grid, *case.options, **case.keywords)
        weight = torch.complex(torch.ones_like(output.real), output.imag.detach().cos())
        return torch.autograd.grad(output, input, weight)[0].resolve_conj()

    actual, expected = gradient(torch.conj), gradient(lambda x: x.conj().resolve_conj())
    samples.assert_close(torch.view_as_real(actual), torch.view_as_real(expected))


@pytest.mark.parametrize("case", VALUED, ids=str)
def test_gradcheck(case, device):
    input, grid = draw(case, samples.TINY, device=device)
    leaves = input.requires_grad_(), grid.requires_grad_(case.mode != "nearest")
    call = boundaries.sampler(case, grid_sample)
    assert torch.autograd.gradcheck(call, leaves, check_forward_ad=True)
    if case.mode != "nearest":
        assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", VALUED, ids=str)
def test_gradients(case, dtype, device):
    """Of a complex loss' parts: that of the image complex, that of the grid real."""
    input, grid = draw(case, dtype=dtype, device=device)
    leaves = input.requires_grad_(), grid.requires_grad_()
    results = []
    for output in (
        grid_sample(*leaves, *case.options, **case.keywords), part_by_part(case, *leaves)
    ):  # fmt: skip
        weight = torch.complex(output.real.detach().cos(), output.imag.detach().sin())
        results.append(torch.autograd.grad(output, leaves, weight))
    for actual, expected, leaf in zip(*results, leaves, strict=True):
        assert (actual.dtype, actual.shape) == (leaf.dtype, leaf.shape)
        actual, expected = (
            torch.view_as_real(each.resolve_conj()) if each.is_complex() else each
            for each in (actual, expected)
        )
        samples.assert_close(actual, expected.double(), terms=32)


def test_values_outside_are_real(device):
    image = torch.full((1, 1, 3, 3), 1 + 1j, device=device)
    rows = torch.tensor([[-0.5, 1.0], [-9.0, 1.0], [1.0, 1.0], [-0.6, 1.0]])
    grid = samples.in_a_row(rows, device, torch.float32)
    output = grid_sample(image, grid, coordinates="pixel", fill_value=3.0)
    assert output.flatten()[:3].tolist() == [2 + 0.5j, 3, 1 + 1j]
    output = grid_sample(image, grid, coordinates="pixel", fill_value=3.0, outside_value=7.0)
    assert output.flatten().tolist() == [2 + 0.5j, 7, 1 + 1j, 7]
    for name in ("fill_value", "outside_value"):
        with pytest.raises(TypeError, match=name):
            grid_sample(image, grid, coordinates="pixel", **{name: 1j})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
def test_empty_ones(shape, dtype, device):
    for case in VALUED[:2]:
        input = torch.zeros(shape.input_shape(2), dtype=dtype, device=device)
        grid = torch.zeros(shape.grid_shape(2), device=device)
        leaves = input.requires_grad_(), grid.requires_grad_()
        like = grid_sample(input.real, grid, *case.options, **case.keywords)
        output = grid_sample(*leaves, *case.options, **case.keywords)
        assert (output.dtype, output.shape) == (dtype, like.shape)
        gradients = torch.autograd.grad(output.real.sum(), leaves)
        assert [each.shape for each in gradients] == [input.shape, grid.shape]


@pytest.mark.parametrize("shape", samples.SMALL_SHAPES, ids=str)
@pytest.mark.parametrize("case", VALUED, ids=str)
def test_batches_of_one(case, shape, device):
    input, grid = draw(case, shape, device=device)
    output = grid_sample(input, grid, *case.options, **case.keywords)
    expected = part_by_part(case, input, grid)
    samples.assert_close(torch.view_as_real(output), torch.view_as_real(expected))


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (2, -2)], ids=str)
@pytest.mark.parametrize("case", VALUED, ids=str)
def test_vmap(case, in_dims, device):
    sides = draw(case, device=device)
    batched = [
        side if dim is None else torch.stack([side, side.cos(), side * 0.9], dim)
        for side, dim in zip(sides, in_dims, strict=True)
    ]
    call = boundaries.sampler(case, grid_sample)
    output = torch.vmap(call, in_dims)(*batched)
    for b in range(3):
        each = [s if d is None else s.select(d, b) for s, d in zip(batched, in_dims, strict=True)]
        expected = torch.view_as_real(call(*each))
        samples.assert_close(torch.view_as_real(output[b].contiguous()), expected, terms=8)


@pytest.mark.parametrize("case", VALUED[:3], ids=str)
def test_programs(case):
    """torch.compile with gradients, torch.export and the meta device."""
    input, grid = draw(case)
    call = boundaries.sampler(case, grid_sample)
    torch.compiler.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    leaves = input.clone().requires_grad_(), grid.clone().requires_grad_()
    results = []
    for function in (compiled, call):
        output = function(*leaves)
        loss = (output.real + 2 * output.imag).square().sum()
        results.append([output.detach(), *torch.autograd.grad(loss, leaves)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)

    class Sampler(torch.nn.Module):
        def forward(self, input, grid):
            return call(input, grid)

    exported = torch.export.export(Sampler(), (input, grid)).module()
    assert torch.equal(exported(input, grid), results[1][0])
    on_meta = call(input.to("meta"), grid.to("meta"))
    assert (on_meta.dtype, on_meta.shape) == (input.dtype, results[1][0].shape)


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (3, 4, 5), (1, 1, 0, 5), (1,) * 6], ids=str)
def test_wrong_sizes(shape, device):
    """The errors of real images."""
    input = torch.zeros(shape, dtype=torch.complex64, device=device)
    grid = torch.zeros(1, 2, 2, 2, device=device)
    with pytest.raises(RuntimeError, match=r"expected (input|grid) to"):
        grid_sample(input, grid, align_corners=False)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_complex_numbers_are_refused(device):
    input = torch.zeros(1, 1, 3, 3, dtype=torch.complex64, device=device).to(torch.complex32)
    with pytest.raises(NotImplementedError, match=r"complex64.*\[1, 1, 3, 3\].*complex32"):
        grid_sample(input, torch.zeros(1, 2, 2, 2, device=device), align_corners=False)
    with pytest.raises(NotImplementedError, match="complex64"):
        gridsample_ext.explain(input, torch.zeros(1, 2, 2, 2, device=device))


@pytest.mark.filterwarnings("ignore:.torch.jit.")  # deprecated by torch itself
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.uint8, torch.int16], ids=str)
def test_traced(dtype):
    """By torch.jit.trace."""
    image, grid = (9 * torch.rand(1, 2, 4, 5)).to(dtype), torch.rand(1, 3, 6, 2)

    def call(image, grid):
        return grid_sample(image, grid, align_corners=False)

    traced = torch.jit.trace(call, (image, grid))
    assert torch.equal(traced(image, 0.9 * grid), call(image, 0.9 * grid))
