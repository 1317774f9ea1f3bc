"""Any strides are read as they are; the memory format of results follows input's."""

import pytest
import samples
import torch
from agreement import assert_same_results

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

SHAPE = samples.Shape("layout", N=2, C=19, size=(3, 4, 6), out=(3, 4, 5))
LAYOUT_CASES = [
    samples.Case(dims, mode, "zeros", False) for dims in (2, 3) for mode in samples.MODES
]
LAYOUT_DTYPES = (torch.float16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", LAYOUT_DTYPES, ids=str)
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_input(case, layout, dtype, device):
    input, grid = samples.sample(case, SHAPE, dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    grad_output = samples.grad_like(input, grid)
    assert_same_results(
        case, (grad_output, input, grid), (grad_output, input.clone().contiguous(), grid)
    )


@pytest.mark.parametrize("dtype", LAYOUT_DTYPES, ids=str)
@pytest.mark.parametrize("layout", samples.GRID_LAYOUTS)
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_grid(case, layout, dtype, device):
    input, grid = samples.sample(case, SHAPE, dtype, device=device)
    grid = samples.GRID_LAYOUTS[layout](grid)
    grad_output = samples.grad_like(input, grid)
    assert_same_results(
        case, (grad_output, input, grid), (grad_output, input, grid.clone().contiguous())
    )


@pytest.mark.parametrize("input_layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_grad_output(case, layout, input_layout, device):
    input, grid = samples.sample(case, SHAPE, device=device)
    input = samples.INPUT_LAYOUTS[input_layout](input)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid))
    assert_same_results(
        case,
        (grad_output, input, grid),
        (grad_output.clone().contiguous(), input.contiguous(), grid),
    )


@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_everything_strided(case, device):
    input, grid = samples.sample(case, SHAPE, device=device)
    plain = samples.grad_like(input, grid), input, grid
    assert_same_results(case, tuple(map(samples.sliced, plain)), plain)


@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_negated_view(case, device):
    """A view that PyTorch negates when it is read."""
    input, grid = samples.sample(case, SHAPE, device=device)
    negated = torch.complex(torch.zeros_like(input), -input).conj().imag
    assert negated.is_neg()
    samples.assert_close(
        grid_sample(negated, grid, *case.options), grid_sample(input, grid, *case.options)
    )


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_edges_in_vectors_and_one_by_one(case, dtype, device):
    """Where x is innermost taps are read by the row, at the edges too; else each for itself."""
    for W in range(1, 8):
        shape = samples.Shape("edges", C=2, size=(3, 5, W), out=(2, 5, 13))
        input, grid = samples.sample(case, shape, dtype, device=device)
        input[0, 0, ..., -1, -1] = torch.inf
        images = input, samples.INPUT_LAYOUTS["spatial_transposed"](input)
        outputs = [grid_sample(image, grid, *case.options) for image in images]
        samples.assert_bitwise_equal(*outputs)
        grad_output = samples.grad_like(input, grid)
        gradients = [
            grid_sample_backward(grad_output, image, grid, *case.op_options, [False, True])[1]
            for image in images
        ]
        samples.assert_bitwise_equal(*gradients)


@pytest.mark.parametrize("dtype", LAYOUT_DTYPES, ids=str)
@pytest.mark.parametrize("C", [1, 2, 3, 4, 5, 19])
@pytest.mark.parametrize("case", samples.cases(), ids=str)
def test_few_channels_beside_infinity(case, C, dtype, device):
    """Rows of three may be read with the number behind them, which must not count."""
    shape = samples.Shape("few", N=2, C=C, size=(3, 6, 21), out=(2, 9, 15))
    input, grid = samples.sample(case, shape, dtype, device=device)
    # Many samples between columns 13 and 14, none beyond.
    farthest = 2 * 13.75 / 20 - 1 if case.align_corners else (2 * 13.75 + 1) / 21 - 1
    grid[..., 0] = (grid[..., 0] + 0.2).clamp(-0.5, farthest)
    input[..., 16 if case.mode in samples.CUBIC_MODES else 15 :] = torch.inf
    grad_output = samples.grad_like(input, grid)
    infinite = torch.full_like(input[:, :1], torch.inf)
    for image in (
        samples.channels_last(input),
        samples.channels_last(torch.cat([input, infinite], 1))[:, :C],
    ):
        assert_same_results(case, (grad_output, image, grid), (grad_output, input, grid))
        output = grid_sample(image, grid, *case.options)
        gradients = grid_sample_backward(grad_output, image, grid, *case.op_options, [True, True])
        assert all(bool(result.isfinite().all()) for result in (output, *gradients))


def channels_last_format(dims):
    return {2: torch.channels_last, 3: torch.channels_last_3d}[dims]


def output_and_grad_input(case, input, grid):
    output = grid_sample(input, grid, *case.options)
    grad_output = samples.grad_like(input, grid)
    return output, grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False])[
        0
    ]


@pytest.mark.parametrize("layout", ["channels_last", "sliced_channels_last"])
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_channels_last_is_kept(case, layout, device):
    input, grid = samples.sample(case, SHAPE, device=device)
    for result in output_and_grad_input(case, samples.INPUT_LAYOUTS[layout](input), grid):
        assert result.is_contiguous(memory_format=channels_last_format(case.dims))
        assert not result.is_contiguous()


@pytest.mark.parametrize(
    "layout", ["contiguous", "sliced", "reversed_dimensions", "spatial_transposed"]
)
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_other_layouts_become_contiguous(case, layout, device):
    input, grid = samples.sample(case, SHAPE, device=device)
    for result in output_and_grad_input(case, samples.INPUT_LAYOUTS[layout](input), grid):
        assert result.is_contiguous()


@pytest.mark.parametrize(
    "shape",
    [samples.Shape("one_channel", C=1), samples.Shape("one_pixel", size=(1, 1, 1))],
    ids=str,
)
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_ambiguous_layouts_become_contiguous(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    assert input.is_contiguous()
    assert input.is_contiguous(memory_format=channels_last_format(case.dims))
    for result in output_and_grad_input(case, samples.channels_last(input), grid):
        assert result.is_contiguous()


@pytest.mark.parametrize("layout", samples.GRID_LAYOUTS)
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_grad_grid_is_contiguous(case, layout, device):
    input, grid = samples.sample(case, SHAPE, device=device)
    grad_output = samples.grad_like(input, grid)
    grid = samples.GRID_LAYOUTS[layout](grid)
    _, grad_grid = grid_sample_backward(grad_output, input, grid, *case.op_options, [False, True])
    assert grad_grid.is_contiguous()
