"""fill_value and outside_value: which samples they touch, and which they leave alone."""

import itertools
import math

import agreement
import boundaries
import pytest
import samples
import torch

from gridsample_ext import _composed, _ops, grid_sample

FILLED = [case for case in boundaries.cases() if case.fill_value is not None]
EXCLUDING = [case for case in boundaries.cases() if case.outside_value is not None]
CHANNELS = (1, 2, 3, 4, 8, 20)
LAYOUTS = ("contiguous", "channels_last")


def changed(case, **changes):
    return boundaries.Case(**vars(case) | changes)


def draw(case, channels, layout, dtype, device):
    shape = samples.Shape("drawn", C=channels, size=(3, 4, 5), out=(2, 3, 20))
    input, grid = samples.sample(case, shape, dtype, device=device)
    return samples.INPUT_LAYOUTS[layout](input), grid


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype"),
    boundaries.drawn(CHANNELS, LAYOUTS, [torch.float32, torch.float64], of=FILLED),
    ids=str,
)
def test_fill_is_what_the_difference_from_it_gives(case, channels, layout, dtype, device):
    """Sampling (input - fill) between zeros and adding fill, in exact numbers; gradients, too."""
    case = changed(case, outside_value=None)
    input, grid = draw(case, channels, layout, dtype, device)
    grad_output = samples.grad_like(input, grid)
    between_zeros = changed(case, fill_value=None)
    exact = [tensor.double() for tensor in (grad_output, input - case.fill_value, grid)]
    actual = grid_sample(input, grid, *case.options, **case.keywords)
    difference = boundaries.sampler(between_zeros, grid_sample)(*exact[1:])
    samples.assert_close(actual, difference + case.fill_value, terms=8)
    actual = agreement.backward(case, grad_output, input, grid)
    expected = agreement.backward(between_zeros, *exact)
    for result, value in zip(actual, expected, strict=True):
        samples.assert_close(result, value, terms=32 * channels)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.all_combinations
@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("case", boundaries.of_padding("zeros", coordinates="pixel"), ids=str)
def test_infinite_fill_touches_only_samples_that_read_it(case, channels, value, device):
    input = samples.randn(1, channels, *[9] * case.dims, device=device)
    rows = torch.tensor([[4.3], [-7.0], [0.3], [8.3], [6.5]]).expand(-1, case.dims)
    grid = samples.in_a_row(rows, device)
    case = changed(case, fill_value=value)
    plain = grid_sample(input, grid, *case.options, coordinates="pixel")
    output = grid_sample(input, grid, *case.options, **case.keywords)
    reads = {"nearest": [1], "bilinear": [1, 3]}.get(case.mode, [1, 2, 3])
    alone = [i for i in range(5) if i not in reads]
    samples.assert_bitwise_equal(output[..., alone].contiguous(), plain[..., alone].contiguous())
    whole = torch.full_like(output[..., 1], value)
    assert torch.allclose(output[..., 1], whole, rtol=0, atol=0, equal_nan=True)
    assert not output[..., reads].isfinite().any()
    grad_input, grad_grid = agreement.backward(case, torch.ones_like(output), input, grid)
    assert grad_input.isfinite().all()
    assert grad_grid[..., [*alone, 1], :].isfinite().all()
    assert grad_grid[..., 1, :].eq(0).all()


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype", "value"),
    boundaries.drawn(
        CHANNELS, LAYOUTS, samples.DTYPES, [math.inf, math.nan, -1.5, 0.0], of=EXCLUDING
    ),
    ids=str,
)
def test_outside_value_leaves_other_samples_alone(case, channels, layout, dtype, value, device):
    """Bit for bit; those it replaces have it exactly, and gradients of exactly 0."""
    case = changed(case, outside_value=value)
    without = changed(case, outside_value=None)
    pixels = changed(case, coordinates="pixel")
    input, grid = draw(pixels, channels, layout, dtype, device)
    if case.coordinates == "normalized":
        inside = (grid.double() >= -0.5) & (grid.double() <= sizes_of(input) - 0.5)
        grid = samples.normalize(grid.double().cpu(), input.shape[2:], case.align_corners)
        grid = grid.to(device, torch.float64)
    else:
        inside = (grid >= -0.5) & (grid <= sizes_of(input) - 0.5)
    inside = inside.all(-1)
    assert 0 < inside.sum() < inside.numel()
    output = grid_sample(input, grid, *case.options, **case.keywords)
    plain = grid_sample(input, grid, *case.options, **without.keywords)
    expected = torch.where(inside[:, None], plain, torch.tensor(value, dtype=plain.dtype))
    assert torch.equal(output.nan_to_num(7), expected.nan_to_num(7))
    grad_output = samples.grad_like(input, grid)
    spoilt = torch.where(inside[:, None], grad_output, math.inf)
    gradients = agreement.backward(case, spoilt, input, grid)
    expected = agreement.backward(
        without, torch.where(inside[:, None], grad_output, 0), input, grid
    )
    samples.assert_close(gradients[0], expected[0].double())
    assert gradients[1][~inside].eq(0).all()
    assert torch.equal(gradients[1][inside], expected[1][inside])


def sizes_of(input):
    return torch.tensor(input.shape[:1:-1], device=input.device, dtype=torch.float64)


def test_where_outside_begins(device):
    """At half a pixel from the outer centres, which is inside; on one axis it is enough."""
    image = torch.arange(1.0, 13.0, device=device).reshape(1, 1, 3, 4)
    ulp = 2.0**-20
    for mode, padding_mode in itertools.product(samples.MODES, boundaries.PADDINGS):
        rows = torch.tensor([
            [-0.5, 1.0], [3.5, 1.0], [1.0, -0.5], [1.0, 2.5], [math.nan, 1.0],
            [-0.5 - ulp, 1.0], [3.5 + ulp, 1.0], [1.0, -0.5 - ulp], [1.0, 2.5 + ulp],
            [math.inf, 1.0], [-math.inf, math.nan], [1e30, 1.0], [1.0, -1e30],
        ])  # fmt: skip
        for align_corners in (False, True):
            output = grid_sample(
                image, samples.in_a_row(rows, device, torch.float32), mode, padding_mode,
                align_corners, coordinates="pixel", outside_value=-77.0,
            )  # fmt: skip
            assert output.flatten().eq(-77).tolist() == [False] * 5 + [True] * 8


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("case", boundaries.of_padding("border", outside_value=9.0), ids=str)
def test_normalized_coordinates_end_where_pixels_do(case, size, device):
    """Half a pixel beyond the outer centres: -1 and 1 with edges, farther out with corners."""
    input = torch.zeros(1, 1, *[size] * case.dims, device=device)
    end = 1.0 if not case.align_corners else size / max(size - 1, 1)
    values = torch.tensor([-end * 1.01, -end * 0.99, end * 0.99, end * 1.01])
    rows = torch.zeros(4, case.dims)
    rows[:, 0] = values
    output = grid_sample(
        input, samples.in_a_row(rows, device, torch.float32), *case.options, **case.keywords
    )
    one_pixel = case.align_corners and size == 1  # every coordinate is 0
    expected = [0, 0, 0, 0] if one_pixel else [9, 0, 0, 9]
    assert output.flatten().tolist() == expected


def test_fill_is_read_on_axes_padded_with_zeros_only(device):
    """A tap that is outside on another axis too is no fill: it is none at all."""
    image = torch.ones(1, 1, 3, 4, device=device)
    rows = torch.tensor([[-0.5, 1.0], [-0.5, 2.0], [-0.5, 7.0], [3.0, 1.0], [-9.0, -9.0]])
    grid = samples.in_a_row(rows, device, torch.float32)
    for other in boundaries.PADDINGS[1:]:
        output = grid_sample(
            image, grid, padding_mode=("zeros", other), align_corners=False, coordinates="pixel",
            fill_value=3.0,
        )  # fmt: skip
        assert output.flatten().tolist() == [2.0, 2.0, 2.0, 1.0, 3.0]
        output = grid_sample(
            image, grid.flip(-1), padding_mode=(other, "zeros"), align_corners=False,
            coordinates="pixel", fill_value=3.0,
        )  # fmt: skip
        assert output.flatten().tolist() == [2.0, 2.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("case", boundaries.of_padding("zeros"), ids=str)
def test_samples_without_a_tap_are_the_fill_exactly(case, channels, layout, dtype, device):
    """As rounded to the image's type."""
    case = changed(case, fill_value=0.1)
    input, grid = draw(case, channels, layout, dtype, device)
    output = grid_sample(input, grid + 100, *case.options, **case.keywords)
    assert output.eq(torch.tensor(0.1, dtype=dtype)).all()


@pytest.mark.parametrize("case", boundaries.cases()[::5], ids=str)
def test_batches_of_one_and_empty_ones(case, device):
    for shape in [*samples.SMALL_SHAPES, *samples.EMPTY_SHAPES]:
        input, grid = samples.sample(case, shape, device=device)
        output = grid_sample(input, grid, *case.options, **case.keywords)
        grad_output = samples.grad_like(input, grid)
        gradients = agreement.backward(case, grad_output, input, grid)
        assert [g.shape for g in gradients] == [input.shape, grid.shape]
        if 0 in output.shape:
            assert all(g.eq(0).all() for g in gradients)


def test_an_infinite_fill_leaves_composed_gradients_alone():
    """Where every tap is inside."""
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    grid = torch.full((1, 1, 1, 2), 0.1, dtype=torch.float64, requires_grad=True)
    options = _ops.Options(0, 0, False, fill_value=math.inf)
    (gradient,) = torch.autograd.grad(_composed.grid_sample(image, grid, options).sum(), grid)
    assert gradient.isfinite().all()
