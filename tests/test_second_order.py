"""The ops that differentiate along a direction, against the differentiated composition.

grid_sample_jvp is the derivative of the output, grid_sample_double_backward that of both gradients.
"""

import itertools
import math

import composed
import pytest
import samples
import torch

grid_sample_jvp = torch.ops.gridsample_ext.grid_sample_jvp
grid_sample_double_backward = torch.ops.gridsample_ext.grid_sample_double_backward
grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

GIVEN = {"both": (True, True), "input_alone": (True, False), "grid_alone": (False, True)}
MASKS = ([True, True], [True, False], [False, True])
FEW_CASES = samples.cases(padding_mode="zeros", align_corners=False) + [
    samples.Case(dims, mode, padding_mode, align_corners)
    for dims, (mode, padding_mode, align_corners) in itertools.product(
        (2, 3), (("bilinear", "reflection", True), ("bicubic", "border", False))
    )
]
DIFFERENTIABLE = [case for case in FEW_CASES if case.mode != "nearest"]
# Every case on one shape, every shape with some cases; each direction by itself on the shapes that
# decide which way a call goes.
CALLS = [(case, samples.SMALL, given) for case in samples.CASES for given in GIVEN] + [
    (case, shape, given)
    for case in FEW_CASES
    for shape in samples.SHAPES[1:]
    for given in (GIVEN if "broadcast" in shape.name else ["both"])
]


def directions(input, grid, given="both", seed=5):
    """(of input, of grid), None where it is not given."""
    return [
        samples.randn(*tensor.shape, dtype=tensor.dtype, device=tensor.device, seed=seed + i)
        if wanted
        else None
        for i, (tensor, wanted) in enumerate(zip((input, grid), GIVEN[given], strict=True))
    ]


def in_float64(*tensors):
    return [None if tensor is None else tensor.detach().cpu().double() for tensor in tensors]


def expected_jvp(case, input, grid, directions):
    """The derivative of <output, w> by w, of its derivative along the directions."""
    input, grid, *directions = in_float64(input, grid, *directions)
    given = [tensor.requires_grad_() for tensor in (input, grid)]
    output = composed.grid_sample(*given, *case.options, **case.keywords)
    w = torch.zeros_like(output, requires_grad=True)
    gradients = torch.autograd.grad(
        output, given, w, create_graph=True, allow_unused=True, materialize_grads=True
    )
    along = sum(
        (gradient * direction).sum()
        for gradient, direction in zip(gradients, directions, strict=True)
        if direction is not None
    )
    if not along.requires_grad:
        return torch.zeros_like(output.detach())
    return torch.autograd.grad(along, w, allow_unused=True, materialize_grads=True)[0]


def expected_double_backward(case, directions, grad_output, input, grid):
    grad_output, input, grid, *directions = in_float64(grad_output, input, grid, *directions)
    leaves = [tensor.requires_grad_() for tensor in (input, grid)]
    output = composed.grid_sample(*leaves, *case.options, **case.keywords)
    gradients = torch.autograd.grad(
        output, leaves, grad_output, create_graph=True, allow_unused=True, materialize_grads=True
    )
    along = sum(
        (gradient * direction).sum()
        for gradient, direction in zip(gradients, directions, strict=True)
        if direction is not None
    )
    if not along.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(along, leaves, allow_unused=True, materialize_grads=True)


def slope_of(input):
    """The largest, and so the size of terms that a derivative by a coordinate adds up."""
    return max(1.0, max(input.shape[2:]) / 2)


def assert_jvp(case, input, grid, directions):
    actual = grid_sample_jvp(input, grid, *directions, *case.op_options, *case.later)
    expected = expected_jvp(case, input, grid, directions)
    samples.assert_close(actual, expected, input.dtype, terms=4 * slope_of(input))
    return actual


def assert_double_backward(
    case, directions, grad_output, input, grid, mask=(True, True), deterministic=False
):
    actual = grid_sample_double_backward(
        *directions, grad_output, input, grid, *case.op_options, mask, deterministic, *case.later
    )
    expected = expected_double_backward(case, directions, grad_output, input, grid)
    terms = (slope_of(input), slope_of(input) ** 2 * math.sqrt(input.shape[1]))
    for gradient, values, tensor, wanted, size in zip(
        actual, expected, (input, grid), mask, terms, strict=True
    ):
        if not wanted:
            assert gradient is None
            continue
        assert gradient.shape == tensor.shape
        samples.assert_close(gradient, values, tensor.dtype, terms=4 * size)
    return actual


@pytest.mark.parametrize(("case", "shape", "given"), CALLS, ids=str)
def test_jvp(case, shape, given, device):
    input, grid = samples.sample(case, shape, device=device)
    assert_jvp(case, input, grid, directions(input, grid, given))


@pytest.mark.parametrize(("case", "shape", "given"), CALLS, ids=str)
def test_double_backward(case, shape, given, device):
    input, grid = samples.sample(case, shape, device=device)
    grad_output = samples.grad_like(input, grid)
    assert_double_backward(case, directions(input, grid, given), grad_output, input, grid)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("case", FEW_CASES, ids=str)
def test_output_mask(case, mask, given, device):
    for shape in (samples.SMALL, samples.Shape("grid_broadcast", N_input=3, N_grid=1)):
        input, grid = samples.sample(case, shape, device=device)
        grad_output = samples.grad_like(input, grid)
        assert_double_backward(case, directions(input, grid, given), grad_output, input, grid, mask)
    nothing = grid_sample_double_backward(
        *directions(input, grid, given), grad_output, input, grid, *case.op_options, [False, False]
    )
    assert nothing == (None, None)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("grid_dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_dtypes(case, dtype, grid_dtype, layout, device):
    input, grid = samples.sample(case, dtype=dtype, grid_dtype=grid_dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    along = directions(input, grid)
    assert_jvp(case, input, grid, along)
    assert_double_backward(case, along, grad_output, input, grid)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize(
    ("case", "shape"),
    [(case, samples.FEW_SAMPLES) for case in samples.CASES]
    + [*itertools.product(FEW_CASES, samples.FEW_SAMPLES_SHAPES[1:])],
    ids=str,
)
def test_few_samples(case, shape, given, device):
    input, grid = samples.sample(case, shape, torch.float32, torch.float64, device=device)
    along = directions(input, grid, given)
    grad_output = samples.grad_like(input, grid)
    assert_jvp(case, input, grid, along)
    for mask in MASKS:
        assert_double_backward(case, along, grad_output, input, grid, mask)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("grid_dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_dtypes_of_few_samples(case, dtype, grid_dtype, layout, device):
    shape = samples.Shape("few", C=16, size=(8, 14, 20), out=(1, 1, 1))
    input, grid = samples.sample(case, shape, dtype, grid_dtype, device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    for other in (dtype, torch.float64):
        along = [direction.to(other) for direction in directions(input, grid)]
        assert_jvp(case, input, grid, along)
        assert_double_backward(case, along, grad_output, input, grid)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_layouts_of_few_samples(case, layout, device):
    input, grid = samples.sample(case, samples.FEW_SAMPLES, device=device)
    plain = samples.grad_like(input, grid)
    changed = samples.INPUT_LAYOUTS[layout](input)
    of_input, of_grid = directions(input, grid)
    dense = torch.ops.gridsample_ext.grid_sample(changed, grid, *case.op_options)
    for arguments in (
        (changed, of_input, plain),
        (input, samples.INPUT_LAYOUTS[layout](of_input), plain),
        (changed, samples.INPUT_LAYOUTS[layout](of_input), samples.INPUT_LAYOUTS[layout](plain)),
    ):
        image, of_image, grad_output = arguments
        along = of_image, of_grid
        output = assert_jvp(case, image, grid, along)
        assert image is input or output.stride() == dense.stride()
        assert_double_backward(case, along, grad_output, image, grid)


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_from_few_samples_to_many(case, dtype, device):
    """Samples more or less change nothing for the others, however the call is computed."""
    size, counts = samples.few_to_many(case)
    input = samples.randn(1, 5, *size, dtype=dtype, device=device)
    shape = (1, *[1] * (case.dims - 1), counts[-1], case.dims)
    grid = samples.wide_grid(shape, size, case.align_corners, torch.float32, device)
    grad_output = samples.grad_like(input, grid)
    of_input, of_grid = directions(input, grid)
    everything = of_input, of_grid, grad_output, input, grid
    output = grid_sample_jvp(input, grid, of_input, of_grid, *case.op_options)
    _, grad_grid = grid_sample_double_backward(*everything, *case.op_options, [False, True])
    for n in counts:
        few, of_few = grid[..., :n, :], of_grid[..., :n, :]
        actual = grid_sample_jvp(input, few, of_input, of_few, *case.op_options)
        samples.assert_bitwise_equal(actual + 0, output[..., :n] + 0)
        actual = grid_sample_double_backward(
            of_input, of_few, grad_output[..., :n], input, few, *case.op_options, [True, True]
        )
        # The others add 0 to pixels.
        masked = torch.where(torch.arange(counts[-1], device=device) < n, grad_output, 0)
        expected, _ = grid_sample_double_backward(
            of_input, of_grid, masked, input, grid, *case.op_options, [True, False]
        )
        samples.assert_bitwise_equal(actual[0] + 0, expected + 0)
        terms = 4 * slope_of(input) ** 2
        samples.assert_close(actual[1], grad_grid[..., :n, :].double(), terms=terms)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize(("dtype", "other"), [*itertools.permutations(samples.DTYPES, 2)], ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_directions_of_another_dtype(case, dtype, other, given, device):
    """The results have the types of input and grid, whatever comes along with them."""
    input, grid = samples.sample(case, dtype=dtype, grid_dtype=torch.float32, device=device)
    grad_output = samples.grad_like(input, grid)
    along = [None if d is None else d.to(other) for d in directions(input, grid, given)]
    assert_jvp(case, input, grid, along)
    assert_double_backward(case, along, grad_output, input, grid)
    assert_double_backward(case, along, grad_output.to(other), input, grid)


@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_layouts_of_input(case, layout, device):
    shape = samples.Shape("layout", N=2, C=19, size=(3, 4, 6), out=(2, 3, 5))
    input, grid = samples.sample(case, shape, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    dense = torch.ops.gridsample_ext.grid_sample(input, grid, *case.op_options)
    grad_output = samples.grad_like(input, grid)
    for given in GIVEN:
        along = directions(input, grid, given)
        assert assert_jvp(case, input, grid, along).stride() == dense.stride()
        actual = assert_double_backward(case, along, grad_output, input, grid)
        plain = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
        assert [g.stride() for g in actual] == [g.stride() for g in plain]


@pytest.mark.parametrize("input_layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_layouts_of_what_comes_along(case, layout, input_layout, device):
    shape = samples.Shape("layout", N=2, C=8, size=(3, 4, 6), out=(2, 3, 5))
    input, grid = samples.sample(case, shape, device=device)
    input = samples.INPUT_LAYOUTS[input_layout](input)
    dense = torch.ops.gridsample_ext.grid_sample(input, grid, *case.op_options)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid))
    of_input, of_grid = directions(input, grid)
    of_input = samples.INPUT_LAYOUTS[layout](of_input)
    for along in ((of_input, of_grid), (of_input, None)):
        assert assert_jvp(case, input, grid, along).stride() == dense.stride()
        assert_double_backward(case, along, grad_output, input, grid)


@pytest.mark.parametrize("layout", samples.GRID_LAYOUTS)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_layouts_of_grid(case, layout, device):
    input, grid = samples.sample(case, device=device)
    grad_output = samples.grad_like(input, grid)
    of_input, of_grid = directions(input, grid)
    change = samples.GRID_LAYOUTS[layout]
    for arguments in ((change(grid), of_grid), (grid, change(of_grid)), (change(grid),) * 2):
        along = of_input, arguments[1]
        assert_jvp(case, input, arguments[0], along)
        _, grad_grid = assert_double_backward(case, along, grad_output, input, arguments[0])
        assert grad_grid.is_contiguous()


@pytest.mark.parametrize("C", [4, 8, 20, 33, 136, 264])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_numbers_of_channels(case, layout, C, device):
    shape = samples.Shape("channels", N=2, C=C, size=(2, 3, 4), out=(1, 2, 9))
    input, grid = samples.sample(case, shape, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    along = directions(input, grid)
    assert_jvp(case, input, grid, along)
    assert_double_backward(case, along, samples.grad_like(input, grid), input, grid)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("case", FEW_CASES, ids=str)
def test_empty(case, shape, given, device):
    input, grid = samples.sample(case, shape, device=device)
    along = directions(input, grid, given)
    grad_output = samples.grad_like(input, grid)
    output = grid_sample_jvp(input, grid, *along, *case.op_options)
    assert output.shape == grad_output.shape
    for deterministic in (False, True):
        gradients = grid_sample_double_backward(
            *along, grad_output, input, grid, *case.op_options, [True, True], deterministic
        )
        for gradient, tensor in zip(gradients, (input, grid), strict=True):
            assert torch.equal(gradient, torch.zeros_like(tensor))


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_deterministic_values(case, layout, dtype, device):
    for shape in (samples.SMALL, samples.Shape("broadcast", C=9, N_input=1, N_grid=3)):
        input, grid = samples.sample(case, shape, dtype, device=device)
        input = samples.INPUT_LAYOUTS[layout](input)
        grad_output = samples.grad_like(input, grid)
        for given in GIVEN:
            along = directions(input, grid, given)
            assert_double_backward(case, along, grad_output, input, grid, deterministic=True)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("of_direction", [False, True])
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_deterministic_gradients_of_any_size(case, of_direction, scale, device):
    input, grid = samples.sample(case, device=device)
    grad_output = samples.grad_like(input, grid)
    _, of_grid = directions(input, grid)

    def grad_input(scale):
        scales = (scale, 1.0) if of_direction else (1.0, scale)
        return grid_sample_double_backward(
            None,
            of_grid * scales[0],
            grad_output * scales[1],
            input,
            grid,
            *case.op_options,
            [True, False],
            True,
        )[0]

    plain = grad_input(1.0)
    assert plain.count_nonzero() > 0
    samples.assert_close(grad_input(scale) / scale, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_deterministic_products_out_of_range(case, dtype, device):
    """Of a gradient and a direction whose product overflows or vanishes, beside ordinary ones."""
    input, grid = samples.sample(case, dtype=dtype, device=device, make_grid=samples.interior_grid)
    grad_output = samples.grad_like(input, grid)
    _, of_grid = directions(input, grid)
    tiny, huge = (1e-30, 1e30) if dtype == torch.float32 else (1e-290, 1e290)
    for scale in (tiny, huge):
        scaled, expected = (
            grid_sample_double_backward(
                None,
                of_grid * scale,
                grad_output * scale,
                input,
                grid,
                *case.op_options,
                [True, False],
                deterministic,
            )[0]
            for deterministic in (True, False)
        )
        assert torch.equal(scaled.isnan(), expected.isnan())
        finite = expected.isfinite()
        assert torch.equal(scaled[finite], expected[finite])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_bitwise_repeatable(case, dtype, layout, device, monkeypatch):
    """In whatever order threads run; without the flag, all but grad_input."""
    input, grid = samples.sample(case, samples.CROWDED, dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid))
    along = directions(input, grid)
    results = []
    for seed in samples.SEEDS_AND_FIRST:
        monkeypatch.setenv("GRIDSAMPLE_EMULATION_SHUFFLE", seed)
        arguments = *along, grad_output, input, grid, *case.op_options, [True, True]
        _, grad_grid = grid_sample_double_backward(*arguments)
        results.append(
            (
                grid_sample_jvp(input, grid, *along, *case.op_options),
                grad_grid,
                *grid_sample_double_backward(*arguments, True),
            )
        )
    for others in results[1:]:
        for actual, expected in zip(others, results[0], strict=True):
            samples.assert_bitwise_equal(actual, expected)


@pytest.mark.devices("emulated-cuda", "cuda")
@pytest.mark.parametrize("multiprocessors", ["1", "132"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "shape",
    [
        samples.Shape("few_samples_many_channels", N=1, C=260, size=(2, 3, 4), out=(1, 1, 3)),
        samples.Shape("many_samples", N=2, C=4, size=(3, 5, 7), out=(3, 9, 31)),
        samples.Shape("grid_broadcast", C=12, size=(2, 3, 4), out=(1, 3, 5), N_input=5, N_grid=1),
        samples.Shape("one_channel", C=1, size=(2, 3, 4), out=(1, 3, 5), N_input=5, N_grid=1),
        samples.Shape("input_broadcast", C=12, size=(2, 3, 4), out=(1, 3, 5), N_input=1, N_grid=5),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_any_number_of_multiprocessors(case, shape, layout, multiprocessors, device, monkeypatch):
    """It decides how samples and channels are spread; a GPU has the number it has."""
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", multiprocessors)
    input, grid = samples.sample(case, shape, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    along = directions(input, grid)
    assert_jvp(case, input, grid, along)
    for mask in MASKS:
        assert_double_backward(case, along, grad_output, input, grid, mask)


# By dimensions; in the larger, samples are few: see samples.FEW_SAMPLES.
HOSTILE_SIZES = ({2: 3, 3: 3}, {2: 40, 3: 17})
HOSTILE = (math.nan, math.inf, -math.inf, 1e30, -1e30, 70000.3)


def hostile_grid(values, dims, device, dtype=torch.float32):
    rows = torch.tensor(values, dtype=torch.float64)[:, None].expand(-1, dims)
    return samples.in_a_row(rows, device, dtype)


def non_finite_directions(input, grid):
    for value in (1.0, math.inf, math.nan):
        yield torch.full_like(input, 1.0), torch.full_like(grid, value)


@pytest.mark.parametrize("sizes", HOSTILE_SIZES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_non_finite_coordinates_do_not_move(case, layout, sizes, device):
    """Exactly, whatever pixels, gradients and directions are."""
    grid = hostile_grid((math.nan, math.inf, -math.inf), case.dims, device)
    plain = samples.randn(1, 8, *[sizes[case.dims]] * case.dims, dtype=torch.float32, device=device)
    tangent = torch.ops.gridsample_ext.grid_sample(torch.ones_like(plain), grid, *case.op_options)
    for pixel in (1.0, math.inf, math.nan):
        input = samples.INPUT_LAYOUTS[layout](plain * pixel)
        for along in non_finite_directions(input, grid):
            output = grid_sample_jvp(input, grid, *along, *case.op_options)
            samples.assert_close(output, tangent.double())
            output = grid_sample_jvp(input, grid, None, along[1], *case.op_options)
            assert torch.equal(output, torch.zeros_like(output))
            grad_output = torch.full_like(output, pixel)
            for deterministic in (False, True):
                gradients = grid_sample_double_backward(
                    *along, grad_output, input, grid, *case.op_options, [True, True], deterministic
                )
                for gradient in gradients:
                    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("sizes", HOSTILE_SIZES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("value", [1.0, math.inf, math.nan])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros"), ids=str)
def test_samples_without_taps(case, value, layout, sizes, device):
    """No tap inside, nothing at all: not an infinity times a sum of nothing."""
    grid = hostile_grid((-50.0, 7.0), case.dims, device)
    input = torch.full((1, 8, *[sizes[case.dims]] * case.dims), value, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    along = torch.full_like(input, value), torch.full_like(grid, value)
    output = grid_sample_jvp(input, grid, *along, *case.op_options)
    assert torch.equal(output, torch.zeros_like(output))
    gradients = grid_sample_double_backward(
        *along, torch.full_like(output, value), input, grid, *case.op_options, [True, True]
    )
    for gradient in gradients:
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_huge_coordinates(case, device):
    """Never a crash; whatever is not finite stays within its sample."""
    grid = torch.cat(
        [hostile_grid(HOSTILE, case.dims, device), hostile_grid((0.3,), case.dims, device)], -2
    )
    input = samples.randn(1, 3, *[4] * case.dims, dtype=torch.float32, device=device)
    along = directions(input, grid)
    grad_output = samples.grad_like(input, grid)
    output = grid_sample_jvp(input, grid, *along, *case.op_options)
    _, grad_grid = grid_sample_double_backward(
        *along, grad_output, input, grid, *case.op_options, [True, True]
    )
    alone = [grid[..., -1:, :], along[0], along[1][..., -1:, :]]
    samples.assert_close(
        output[..., -1:],
        grid_sample_jvp(input, *alone, *case.op_options).double(),
    )
    _, expected = grid_sample_double_backward(
        *alone[1:], grad_output[..., -1:], input, alone[0], *case.op_options, [False, True]
    )
    samples.assert_close(grad_grid[..., -1:, :], expected.double())
    assert output.isfinite().all()
    assert grad_grid[..., :3, :].count_nonzero() == 0


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_infinite_pixels_outside_the_footprint(case, device):
    """One sample inside an image that is infinite wherever the sample has no tap."""
    input, grid = samples.amid_infinity(case, device)
    of_input, _ = samples.amid_infinity(case, device, seed=1)
    along = of_input, samples.randn(*grid.shape, device=device)
    assert_jvp(case, input, grid, along)
    output = grid_sample_jvp(input, grid, *along, *case.op_options)
    assert output.isfinite().all()
    gradients = grid_sample_double_backward(
        *along, torch.ones_like(output), input, grid, *case.op_options, [True, True]
    )
    assert all(gradient.isfinite().all() for gradient in gradients)
    finite = [tensor.nan_to_num(posinf=0.0) for tensor in (input, of_input)]
    expected = expected_double_backward(
        case, (finite[1], along[1]), torch.ones_like(output), finite[0], grid
    )
    for gradient, values in zip(gradients, expected, strict=True):
        samples.assert_close(gradient, values, terms=100)


@pytest.mark.parametrize("size", [4, 20])
@pytest.mark.parametrize(
    "case", [c for c in samples.cases(mode="bilinear") if c.padding_mode == "border"], ids=str
)
def test_clamped_coordinates_do_not_move(case, size, device):
    """Slopes of 0 are exactly that along each axis: infinite components of a direction as well."""
    input = samples.randn(1, 2, *[size] * case.dims, dtype=torch.float32, device=device)
    grid = hostile_grid((1.5,), case.dims, device)
    grid[..., 1:] = 0.1
    of_grid = torch.ones_like(grid)
    of_grid[..., 0] = math.inf
    still = torch.where(of_grid == 1, of_grid, 0)
    grad_output = torch.ones(1, 2, *[1] * case.dims, device=device)
    samples.assert_bitwise_equal(
        grid_sample_jvp(input, grid, None, of_grid, *case.op_options),
        grid_sample_jvp(input, grid, None, still, *case.op_options),
    )
    for deterministic in (False, True):
        actual, expected = (
            grid_sample_double_backward(
                input, v, grad_output, input, grid, *case.op_options, [True, True], deterministic
            )
            for v in (of_grid, still)
        )
        assert actual[0].isfinite().all()
        for gradient, values in zip(actual, expected, strict=True):
            samples.assert_bitwise_equal(gradient, values)
        assert actual[1][..., 0].item() == 0


INPUT = torch.zeros(2, 3, 4, 5)
GRID = torch.zeros(2, 6, 7, 2)
GRAD_OUTPUT = torch.zeros(2, 3, 6, 7)


def call_jvp(of_input, of_grid, device):
    return grid_sample_jvp(INPUT.to(device), GRID.to(device), of_input, of_grid, 0, 0, False)


def call_double_backward(of_input, of_grid, device, grad_output=GRAD_OUTPUT, mask=(True, True)):
    return grid_sample_double_backward(
        of_input,
        of_grid,
        grad_output.to(device),
        INPUT.to(device),
        GRID.to(device),
        0,
        0,
        False,
        mask,
    )


CALLS = {
    "jvp": (call_jvp, "tangent"),
    "double_backward": (call_double_backward, "grad_grad"),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_direction(call, device):
    call, prefix = CALLS[call]
    with pytest.raises(RuntimeError, match=rf"{prefix}_input or {prefix}_grid.*None"):
        call(None, None, device)


@pytest.mark.parametrize("side", ["input", "grid"])
@pytest.mark.parametrize("call", CALLS)
def test_wrong_directions(call, side, device):
    call, prefix = CALLS[call]
    good = {"input": INPUT, "grid": GRID}[side].to(device)
    for wrong in (
        good[:1],
        good[..., :1],
        good[0],
        good[None],
        good.to(torch.int32),
        good.to("meta"),
    ):
        of = [None, None]
        of[side == "grid"] = wrong
        with pytest.raises(RuntimeError, match=rf"\b{prefix}_{side}\b"):
            call(*of, device)


def test_wrong_grad_output_and_mask(device):
    of_input, of_grid = INPUT.to(device), GRID.to(device)
    with pytest.raises(RuntimeError, match=r"\bgrad_output\b"):
        call_double_backward(of_input, of_grid, device, grad_output=GRAD_OUTPUT[..., :1])
    with pytest.raises(RuntimeError, match=r"\boutput_mask\b"):
        call_double_backward(of_input, of_grid, device, mask=(True,))


@pytest.mark.devices("cpu")  # on CUDA sums are nested: infinity times rows without a pixel
@pytest.mark.parametrize("size", [4, 40])
@pytest.mark.parametrize("C", [1, 3, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_taps_outside_under_an_infinite_direction(dtype, C, size, device):
    """One tap inside: an infinite derivative, not the NaN of infinity times a pixel that is not."""
    input = torch.rand(1, C, size, size, dtype=dtype).to(device) + 1
    grid = torch.full((1, 1, 1, 2), -1 - 0.2 / size, dtype=dtype, device=device)
    along = None, torch.tensor([[[[math.inf, 0.0]]]], dtype=dtype, device=device)
    output = grid_sample_jvp(input, grid, *along, 0, 0, False)
    assert output.isinf().all()
    _, grad_grid = grid_sample_double_backward(
        *along, torch.ones_like(output), input, grid, 0, 0, False, [False, True]
    )
    assert grad_grid[..., 1].isinf().all()


@pytest.mark.parametrize(
    ("dtype", "other"), [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=str
)
def test_no_direction_is_a_direction_of_zero(dtype, other, device):
    """In whatever type the other one is: input and grid decide what is computed in."""
    case = samples.Case(2, "bilinear", "border", False)
    input = samples.randn(1, 3, 9, 11, dtype=dtype, device=device)
    grid = samples.identity_grid((9, 11), False, dtype=torch.float32, device=device)
    of_input = samples.randn(*input.shape, dtype=other, device=device, seed=5)
    grad_output = samples.grad_like(input, grid)
    rest = grad_output, input, grid, *case.op_options, [False, True]
    _, without = grid_sample_double_backward(of_input, None, *rest)
    _, with_zeros = grid_sample_double_backward(of_input, torch.zeros_like(grid), *rest)
    samples.assert_close(without, with_zeros.double(), terms=100)
