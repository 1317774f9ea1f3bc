"""CPU results do not depend on the number of threads, nor on the run: bit for bit."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import samples
import torch

from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

THREADS = (2, 3, 7)  # compared with one
# In 2-D and in 3-D work for several threads, none of it a multiple of what they might share.
SHAPES = [
    samples.Shape("one_image_one_channel", N=1, C=1, size=(9, 61, 67), out=(2, 141, 189)),
    samples.Shape("one_image", N=1, C=37, size=(7, 33, 41), out=(3, 29, 47)),
    samples.Shape("images", N=5, C=3, size=(7, 21, 25), out=(3, 43, 31)),
    samples.Shape("blocks_of_channels", N=2, C=100, size=(5, 9, 11), out=(3, 17, 19)),
    samples.Shape("few_samples_many_channels", N=1, C=4099, size=(3, 5, 7), out=(1, 2, 5)),
    samples.Shape("many_samples_on_few_pixels", N=1, C=2, size=(1, 2, 3), out=(3, 96, 131)),
    samples.Shape("input_broadcast", C=5, size=(5, 17, 19), out=(3, 43, 29), N_input=1, N_grid=3),
    samples.Shape(
        "grid_broadcast_to_many", C=3, size=(2, 7, 9), out=(1, 9, 31), N_input=97, N_grid=1
    ),
    samples.Shape("grid_broadcast", C=5, size=(5, 17, 19), out=(3, 43, 29), N_input=3, N_grid=1),
]


def results(case, grad_output, input, grid):
    masks = ([True, True], [True, False], [False, True])
    gradients = [
        grid_sample_backward(grad_output, input, grid, *case.op_options, mask) for mask in masks
    ]
    return [grid_sample(input, grid, *case.options)] + [
        g for pair in gradients for g in pair if g is not None
    ]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "case", samples.cases(padding_mode="reflection", align_corners=False), ids=str
)
def test_bitwise_equal(case, shape, dtype, layout):
    input, grid = samples.sample(case, shape, dtype, torch.float32)
    input = samples.INPUT_LAYOUTS[layout](input)
    arguments = samples.grad_like(input, grid), input, grid
    torch.set_num_threads(1)
    expected = results(case, *arguments)
    for threads in THREADS:
        torch.set_num_threads(threads)
        for actual, values in zip(results(case, *arguments), expected, strict=True):
            samples.assert_bitwise_equal(actual, values)


@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
@pytest.mark.parametrize("C", [3, 16, 33])
def test_expanded_tensors(case, C):
    """A grid or an input that is expanded over the batch is not one of batch 1."""
    shape = samples.Shape("", C=C, size=(5, 16, 16), out=(5, 64, 64), N_input=1, N_grid=1)
    one_input, one_grid = samples.sample(case, shape, torch.float32, torch.float32)
    input, grid = (t.expand(2, *t.shape[1:]) for t in (one_input, one_grid))
    grad_output = samples.grad_like(input, grid)
    for tensors in ((input, grid), (one_input, grid), (input, one_grid)):
        torch.set_num_threads(1)
        expected = results(case, grad_output, *(t.contiguous() for t in tensors))
        for threads in (1, *THREADS):
            torch.set_num_threads(threads)
            for actual, values in zip(results(case, grad_output, *tensors), expected, strict=True):
                samples.assert_bitwise_equal(actual, values)


@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=True), ids=str)
def test_repeatable(case):
    torch.set_num_threads(3)
    input, grid = samples.sample(case, SHAPES[0], torch.float32)
    arguments = samples.grad_like(input, grid), input, grid
    expected = results(case, *arguments)
    for _ in range(3):
        for actual, values in zip(results(case, *arguments), expected, strict=True):
            samples.assert_bitwise_equal(actual, values)


def test_calls_from_several_threads():
    """Concurrent callers do not share scratch."""
    case = samples.Case(2, "bicubic", "border", False)
    input, grid = samples.sample(case, SHAPES[1], torch.float32)
    arguments = samples.grad_like(input, grid), input, grid
    expected = results(case, *arguments)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(lambda _: results(case, *arguments), range(12)):
            for tensor, values in zip(actual, expected, strict=True):
                samples.assert_bitwise_equal(tensor, values)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_sign_of_a_zero_gradient(layout):
    """A slope of -1 times a sum of 0 is -0, a sum that starts from 0 is not."""
    input = samples.INPUT_LAYOUTS[layout](torch.ones(1, 3, 8, 40))
    grid = torch.full((1, 64, 64, 2), 1.2)
    grad_output = torch.ones(1, 3, 64, 64)
    case = samples.Case(2, "bilinear", "reflection", False)
    expected = None
    for threads in (1, *THREADS):
        torch.set_num_threads(threads)
        actual = results(case, grad_output, input, grid)
        for gradient, values in zip(actual, expected or actual, strict=True):
            samples.assert_bitwise_equal(gradient, values)
        expected = actual
