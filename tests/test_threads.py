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
    samples.Shape("images_of_few_samples", N=700, C=3, size=(3, 4, 5), out=(1, 2, 5)),
    samples.Shape("input_broadcast", C=5, size=(5, 17, 19), out=(3, 43, 29), N_input=1, N_grid=3),
    samples.Shape(
        "grid_broadcast_to_many", C=3, size=(2, 7, 9), out=(1, 9, 31), N_input=97, N_grid=1
    ),
    samples.Shape("grid_broadcast", C=5, size=(5, 17, 19), out=(3, 43, 29), N_input=3, N_grid=1),
]
FEW_SAMPLES_DTYPES = [
    (torch.float32, torch.float64),
    (torch.float16, torch.float64),
    (torch.float32, torch.float32),
]


def gradients(case, grad_output, input, grid):
    masks = ([True, True], [True, False], [False, True])
    pairs = [
        grid_sample_backward(grad_output, input, grid, *case.op_options, mask) for mask in masks
    ]
    return [g for pair in pairs for g in pair if g is not None]


def results(case, grad_output, input, grid):
    return [grid_sample(input, grid, *case.options), *gradients(case, grad_output, input, grid)]


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


# Enough samples, in no order, and images large enough for the backward pass to take notice.
SCATTERED = [
    samples.Shape("one_channel", N=1, C=1, size=(37, 131, 130), out=(2, 131, 140)),
    samples.Shape("few_channels", N=2, C=3, size=(32, 60, 70), out=(2, 131, 140)),
    samples.Shape("channels", N=1, C=9, size=(32, 40, 90), out=(2, 131, 140)),
    samples.Shape("large", N=1, C=3, size=(1, 300, 740), out=(2, 131, 140)),
    samples.Shape(
        "input_broadcast", C=2, size=(32, 50, 40), out=(2, 131, 140), N_input=1, N_grid=2
    ),
    samples.Shape("grid_broadcast", C=2, size=(32, 50, 40), out=(2, 131, 140), N_input=2, N_grid=1),
]


def gradients_by_parts(case, grad_output, input, grid):
    """In float64, from calls with too few samples for it to matter how they lie."""
    parts = [
        grid_sample_backward(grad, input.double(), points, *case.op_options, [True, True])
        for grad, points in zip(
            grad_output.double().split(10, -1), grid.double().split(10, -2), strict=True
        )
    ]
    return sum(part[0] for part in parts), torch.cat([part[1] for part in parts], -2)


def assert_scattered_gradients(case, input, grid, grad_output):
    expected = gradients_by_parts(case, grad_output, input, grid)
    torch.set_num_threads(1)
    first = gradients(case, grad_output, input, grid)
    # A coordinate is rounded to a part of the axis' length, and so are weights; slopes multiply.
    longest = max(input.shape[2:])
    samples.assert_close(first[0], expected[0], terms=longest)
    samples.assert_close(first[1], expected[1], terms=4 * longest**2)
    for threads in (1, *THREADS):
        torch.set_num_threads(threads)
        each = gradients(case, grad_output, input, grid)
        for actual, values in zip(each, (*first[:2], *first[:2]), strict=True):
            samples.assert_bitwise_equal(actual, values)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SCATTERED, ids=str)
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_scattered_samples(case, shape, dtype, layout):
    """Threads pick the samples that reach their part of the image; the gradients come in turn."""
    input, grid = samples.sample(case, shape, dtype)
    input = samples.INPUT_LAYOUTS[layout](input)
    assert_scattered_gradients(case, input, grid, samples.grad_like(input, grid))


def test_the_order_of_scattered_samples():
    """As of four channels always, they are added in it; fewer channels of smooth grids are not."""
    input, scattered = samples.sample(
        samples.CASES[0], samples.Shape("", 1, 4, (40, 50), (131, 140))
    )
    magnified = samples.identity_grid((131, 140), False)
    grad_output = samples.grad_like(input, scattered).float()
    for grid, in_order in ((scattered, True), (magnified, False)):
        few, more = (
            grid_sample_backward(
                grad_output[:, :C], input[:, :C].float(), grid.float(), 0, 0, False, [True, False]
            )[0]
            for C in (3, 4)
        )
        assert torch.equal(few, more[:, :3]) == in_order


@pytest.mark.parametrize("layout", ["spatial_transposed", "expanded_width", "sliced"])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=True), ids=str)
def test_scattered_samples_of_any_layout(case, layout):
    input, grid = samples.sample(case, SCATTERED[1], torch.float32)
    grad_output = samples.INPUT_LAYOUTS[layout](samples.grad_like(input, grid))
    assert_scattered_gradients(case, input, samples.sliced(grid), grad_output)


@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=False), ids=str)
def test_some_samples_scattered(case):
    """Far-out, non-finite and clustered ones among them."""
    input, grid = samples.sample(case, SCATTERED[1], torch.float32)
    grid[:, :, 5:9] = 0.01
    grid[:, :, 20:30] *= 1e6
    grid[..., 40, 0] = float("nan")
    grid[..., 41, 0] = float("inf")
    assert_scattered_gradients(case, input, grid, samples.grad_like(input, grid))


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


@pytest.mark.parametrize("dtypes", FEW_SAMPLES_DTYPES, ids=str)
@pytest.mark.parametrize(
    "case", samples.cases(padding_mode="reflection", align_corners=False), ids=str
)
def test_few_samples_of_a_large_image(case, dtypes):
    """Work enough for two threads, and too little to copy the image; many share their pixels."""
    taps = samples.TAPS_PER_AXIS[case.mode] ** case.dims
    size = {2: (720, 720), 3: (72, 80, 90)}[case.dims]
    shape = (1, *[1] * (case.dims - 1), 33_000 // (3 * taps + 4), case.dims)
    input = samples.randn(1, 3, *size, dtype=dtypes[0])
    grid = samples.wide_grid(shape, size, case.align_corners, dtypes[1]) * 0.05
    grad_output = samples.grad_like(input, grid)
    along = samples.randn(*input.shape, dtype=dtypes[0]), samples.randn(*shape, dtype=dtypes[1])

    def results(threads):
        torch.set_num_threads(threads)
        return [
            grid_sample(input, grid, *case.options),
            *gradients(case, grad_output, input, grid),
            torch.ops.gridsample_ext.grid_sample_jvp(input, grid, *along, *case.op_options),
            *torch.ops.gridsample_ext.grid_sample_double_backward(
                *along, grad_output, input, grid, *case.op_options, [True, True]
            ),
        ]

    expected = results(1)
    for actual, values in zip(results(2), expected, strict=True):
        samples.assert_bitwise_equal(actual, values)
