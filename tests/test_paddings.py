"""A padding for each axis, circular padding, and the options beside them, on every path."""

import itertools

import agreement
import boundaries
import composed
import pytest
import reference
import samples
import torch

import gridsample_ext
from gridsample_ext import grid_sample

ops = torch.ops.gridsample_ext

CHANNELS = (1, 2, 3, 4, 8, 20)
LAYOUTS = ("contiguous", "channels_last", "sliced", "sliced_channels_last")
TYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.float64),
]
# So few samples that the reference can be asked; several vectors of them, and a remainder.
SIZES = {"small": ((5, 6, 7), (2, 3, 4)), "medium": ((5, 9, 8), (3, 9, 40))}
SIZES["few_samples"] = samples.FEW_SAMPLES.size, samples.FEW_SAMPLES.out


def shape_of(name, channels):
    size, out = SIZES[name]
    return samples.Shape(name, C=channels, size=size, out=out)


@pytest.mark.all_combinations
@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_matches_reference(case, device):
    agreement.assert_matches_reference(case, *samples.sample(case, device=device))


@pytest.mark.all_combinations
@pytest.mark.parametrize(("case", "shape"), boundaries.drawn(samples.SHAPES), ids=str)
def test_shapes(case, shape, device):
    agreement.assert_matches_reference(case, *samples.sample(case, shape, device=device))


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "name", "channels", "layout", "types"),
    boundaries.drawn(["small", "few_samples"], CHANNELS, LAYOUTS, TYPES),
    ids=str,
)
def test_types_and_layouts(case, name, channels, layout, types, device):
    input, grid = samples.sample(case, shape_of(name, channels), *types, device=device)
    agreement.assert_matches_reference(case, samples.INPUT_LAYOUTS[layout](input), grid)


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype"),
    boundaries.drawn(CHANNELS, LAYOUTS[:2], [torch.float32, torch.float64]),
    ids=str,
)
def test_vectors_of_samples(case, channels, layout, dtype, device):
    input, grid = samples.sample(case, shape_of("medium", channels), dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    exact = [tensor.detach().cpu().double().requires_grad_() for tensor in (input, grid)]
    expected = boundaries.sampler(case, composed.grid_sample)(*exact)
    gradients = torch.autograd.grad(
        expected, exact, grad_output.cpu().double(), allow_unused=True, materialize_grads=True
    )
    actual = grid_sample(input, grid, *case.options, **case.keywords)
    # A coordinate is rounded to a part of the axis' length, and so are weights; slopes multiply.
    samples.assert_close(actual, expected.detach(), terms=8)
    terms = 8, 4 * 9**2 * channels**0.5
    for mask in ([True, True], [True, False], [False, True]):
        results = agreement.backward(case, grad_output, input, grid, mask)
        for result, value, size, wanted in zip(results, gradients, terms, mask, strict=True):
            assert (result is not None) == wanted
            if wanted:
                samples.assert_close(result, value, terms=size)


def test_every_path_is_taken():
    """On the CPU, by the calls of the tests above."""
    taken = set()
    for name, channels, layout, (dtype, grid_dtype), case in itertools.product(
        SIZES, CHANNELS, LAYOUTS[:2], (TYPES[0], TYPES[-1]), boundaries.cases()[::6]
    ):
        input, grid = samples.sample(case, shape_of(name, channels), dtype, grid_dtype)
        input = samples.INPUT_LAYOUTS[layout](input)
        for backward in (False, True):
            explanation = gridsample_ext.explain(
                input, grid, *case.options, **case.keywords, backward=backward
            )
            taken |= set(explanation.paths.values())
    assert taken >= {
        *("in registers", "nearest planes", "nearest rows", "planes", "rows", "packed rows"),
        *("plain", "listed taps", "one walk in rows", "one walk in packed rows", "zero"),
        *("joint slabs in planes", "joint slabs in registers"),
    }


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "padding_mode", "dtype"),
    boundaries.drawn(boundaries.PADDINGS, [torch.float32, torch.float64]),
    ids=str,
)
def test_axes_that_agree_are_one_padding(case, padding_mode, dtype, device):
    """Bit for bit: by name, and by the op's number of three or two equal ones."""
    keywords = {key: value for key, value in case.keywords.items() if key != "fill_value"}
    if padding_mode == "zeros":
        keywords["fill_value"] = 1.5
    uniform = boundaries.Case(case.dims, case.mode, padding_mode, case.align_corners, **keywords)
    input, grid = samples.sample(uniform, dtype=dtype, device=device)
    grad_output = samples.grad_like(input, grid)
    expected = ops.grid_sample(input, grid, *uniform.op_options, *uniform.later)
    mode, number, corners = uniform.op_options
    each = 65536 + number * (0x111 if case.dims == 3 else 0x11)
    for result in (
        grid_sample(
            input, grid, mode=case.mode, padding_mode=(padding_mode,) * case.dims,
            align_corners=corners, **keywords,
        ),
        ops.grid_sample(input, grid, mode, each, corners, *uniform.later),
    ):  # fmt: skip
        samples.assert_bitwise_equal(result, expected)
    expected = agreement.backward(uniform, grad_output, input, grid)
    results = ops.grid_sample_backward(
        grad_output, input, grid, mode, each, corners, [True, True], False, *uniform.later
    )
    if device == "cpu":
        for result, gradient in zip(results, expected, strict=True):
            samples.assert_bitwise_equal(result, gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_defaults_change_nothing(case, dtype, device):
    """Bit for bit what the call without the keywords gives."""
    input, grid = samples.sample(case, dtype=dtype, device=device)
    grad_output = samples.grad_like(input, grid)
    expected = grid_sample(input, grid, *case.options)
    usual = False, 0.0, None, -0.75
    for result in (
        grid_sample(input, grid, *case.options, **boundaries.LATER),
        ops.grid_sample(input, grid, *case.op_options, *usual),
        ops.grid_sample(input, grid, *case.op_options),
    ):
        samples.assert_bitwise_equal(result, expected)
    gradients = [
        ops.grid_sample_backward(
            grad_output, input, grid, *case.op_options, [True, True], False, *later
        )
        for later in ((), usual)
    ]
    if device == "cpu":
        for result, gradient in zip(*gradients, strict=True):
            samples.assert_bitwise_equal(result, gradient)


@pytest.mark.parametrize(("case", "said"), [
    (boundaries.Case(2, "bilinear", "zeros", True, fill_value=0.0), {"fill_value": 0}),
    (boundaries.Case(2, "bicubic", "border", True, cubic_coefficient=-0.75), {}),
])  # fmt: skip
def test_defaults_that_are_said_change_nothing(case, said, device):
    input, grid = samples.sample(case, device=device)
    expected = grid_sample(input, grid, *case.options)
    actual = grid_sample(input, grid, *case.options, **case.keywords | said)
    samples.assert_bitwise_equal(actual, expected)


def test_order_of_axes(device):
    """x, y(, z): x is the last axis of the image."""
    image = torch.arange(24.0, device=device).reshape(1, 1, 2, 3, 4)
    names = "circular", "border", "zeros"
    points = torch.tensor([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 2.0], [-1.0, -1.0, 0.0]])
    output = grid_sample(
        image, samples.in_a_row(points, device, torch.float32), "nearest", names, False,
        coordinates="pixel",
    )  # fmt: skip
    assert output.flatten().tolist() == [0.0, 8.0, 0.0, 3.0]
    output = grid_sample(
        image[:, :, 0], samples.in_a_row(points[:, :2], device, torch.float32), "nearest",
        ("circular", "zeros"), False, coordinates="pixel",
    )  # fmt: skip
    assert output.flatten().tolist() == [0.0, 0.0, 0.0, 0.0]


THREADED = [
    samples.Shape("one_channel", N=1, C=1, size=(9, 61, 67), out=(2, 141, 189)),
    samples.Shape("blocks_of_channels", N=2, C=37, size=(5, 9, 11), out=(3, 17, 19)),
    samples.Shape("grid_broadcast", C=3, size=(2, 7, 9), out=(1, 9, 31), N_input=97, N_grid=1),
]


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "shape", "layout"), boundaries.drawn(THREADED, LAYOUTS[:2]), ids=str
)
def test_threads_change_nothing(case, shape, layout):
    input, grid = samples.sample(case, shape, torch.float32)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(
            [
                grid_sample(input, grid, *case.options, **case.keywords),
                *agreement.backward(case, grad_output, input, grid),
            ]
        )
    for one, two in zip(*results, strict=True):
        samples.assert_bitwise_equal(one, two)


@pytest.mark.parametrize("case", boundaries.cases(), ids=str)
def test_gradient_for_input_is_the_adjoint(case, device):
    """<grad_output, sample(input) - sample(0)> = <grad_input, input>."""
    input, grid = samples.sample(case, shape_of("medium", 3), device=device)
    grad_output = samples.grad_like(input, grid)
    call = boundaries.sampler(case, grid_sample)
    moved = call(input, grid) - call(torch.zeros_like(input), grid)
    grad_input, _ = agreement.backward(case, grad_output, input, grid, [True, False])
    samples.assert_close((grad_input * input).sum(), (grad_output * moved).sum(), terms=100)


@pytest.mark.parametrize("case", boundaries.of_padding("circular", coordinates="pixel"), ids=str)
def test_circular_samples_of_an_image_that_is_rolled(case, device):
    """Rolling the image by a pixel and moving the grid by one are the same."""
    input, grid = samples.sample(case, device=device)
    call = boundaries.sampler(case, grid_sample)
    rolled = input.roll([1] * case.dims, list(range(2, 2 + case.dims)))
    samples.assert_close(call(rolled, grid + 1), call(input, grid))


@pytest.mark.parametrize("case", boundaries.of_padding("circular"), ids=str)
def test_circular_at_the_seam(case, device):
    """Between the last pixel and the first, both count."""
    input = samples.randn(1, 2, *(3, 4, 5)[-case.dims :], device=device)
    halves = torch.tensor([[-0.5] * case.dims, [-0.25] * case.dims], dtype=torch.float64)
    grid = samples.normalize(halves, input.shape[2:], case.align_corners)
    grid = samples.in_a_row(grid, device)
    output = grid_sample(input, grid, *case.options)
    expected = reference.grid_sample(input, grid, *case.options)
    samples.assert_close(output, expected)
    if case.mode == "bilinear":
        ends = torch.stack(
            [input[(..., *corner)] for corner in itertools.product((0, -1), repeat=case.dims)]
        )
        samples.assert_close(output.flatten(2)[..., 0], ends.mean(0))
