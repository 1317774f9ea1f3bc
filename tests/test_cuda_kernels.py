"""What only the CUDA kernels have: ways through the channels, determinism, the device's limits.

On the host emulation and, where there is one, on a GPU.
"""

import itertools

import pytest
import reference
import samples
import torch
from agreement import assert_matches_reference

import gridsample_ext
from gridsample_ext import grid_sample

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

pytestmark = pytest.mark.devices("emulated-cuda", "cuda")
cuda_only = pytest.mark.devices("cuda")


# Channels in rows: lanes 1 to 32, several turns, idle lanes; and what is no whole vector.
ROW_CHANNELS = (4, 8, 12, 20, 48, 96, 136, 264, 6, 33)


def arguments_of(case, shape, dtype=torch.float32, device="cpu", layout=samples.channels_last):
    input, grid = samples.sample(case, shape, dtype, torch.float32, device=device)
    grad_output = samples.grad_like(input, grid)
    return layout(grad_output), layout(input), grid


@pytest.mark.parametrize("C", ROW_CHANNELS)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_rows_of_channels(case, dtype, C, device):
    shape = samples.Shape("rows", N=2, C=C, size=(2, 3, 4), out=(1, 2, 9))
    input, grid = samples.sample(case, shape, dtype, device=device)
    assert_matches_reference(case, samples.channels_last(input), grid)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize(
    "case", samples.cases(padding_mode="reflection", align_corners=False), ids=str
)
def test_grids_of_any_strides(case, dtype, layout, device):
    """Rows of a wider grid: samples do not follow each other at one stride."""
    shape = samples.Shape("rows", N=2, C=8, size=(2, 3, 4), out=(2, 3, 5))
    input, grid = samples.sample(case, shape, dtype, device=device)
    grid = torch.cat([grid, grid], -2)[..., : grid.shape[-2], :]
    assert_matches_reference(case, samples.INPUT_LAYOUTS[layout](input), grid)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
def test_nearest_copies(dtype, layout, device):
    """The sign of zero, too."""
    values = torch.tensor([-0.0, 0.0, 1.5, -2.0, float("inf"), float("-inf")])
    input = values.to(device, dtype).expand(2, 8, 3, 6).contiguous()
    theta = torch.eye(2, 3, device=device).expand(2, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, input.shape, align_corners=False)
    output = grid_sample(samples.INPUT_LAYOUTS[layout](input), grid, "nearest", "zeros", False)
    samples.assert_bitwise_equal(output.contiguous(), input)


@pytest.mark.parametrize("multiprocessors", ["1", "132"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "shape",
    [
        samples.Shape("few_samples_many_channels", N=1, C=260, size=(2, 3, 4), out=(1, 1, 3)),
        samples.Shape("several_tiles", N=2, C=4, size=(3, 5, 7), out=(3, 9, 31)),
        samples.Shape("grid_broadcast", C=12, size=(2, 3, 4), out=(1, 3, 5), N_input=5, N_grid=1),
        samples.Shape("input_broadcast", C=12, size=(2, 3, 4), out=(1, 3, 5), N_input=1, N_grid=5),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "case", samples.cases(padding_mode="reflection", align_corners=True), ids=str
)
def test_any_number_of_multiprocessors(case, shape, layout, multiprocessors, device, monkeypatch):
    """It decides how samples and channels are spread; a GPU has the number it has."""
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", multiprocessors)
    input, grid = samples.sample(case, shape, torch.float32, device=device)
    assert_matches_reference(case, samples.INPUT_LAYOUTS[layout](input), grid)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=False), ids=str)
def test_grad_output_in_another_layout(case, layout, device):
    shape = samples.Shape("rows", N=2, C=8, size=(2, 3, 4), out=(1, 3, 5))
    input, grid = samples.sample(case, shape, torch.float32, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    dense = samples.grad_like(input, grid)
    expected = reference.grid_sample_backward(dense, input, grid, *case.options)
    for other in samples.INPUT_LAYOUTS.values():
        grad_output = other(dense)
        if not torch.equal(grad_output, dense):
            continue
        actual = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True])
        samples.assert_gradients_close(actual, expected, input, grid)


INSIDE_SHAPES = [
    samples.Shape("a_sample_a_thread", N=2, size=(6, 9, 10), out=(2, 40, 33)),
    samples.Shape("channels_shared", N=1, size=(6, 9, 10), out=(1, 8, 64)),
    samples.Shape("grid_broadcast", size=(6, 9, 10), out=(1, 8, 9), N_input=3, N_grid=1),
]


def mostly_inside(shape, sizes, align_corners, dtype, device):
    """All samples of the first half of each image, and most of the others; these may be NaN."""
    grid = samples.interior_grid(shape, sizes, align_corners, dtype)
    samples_of = grid.flatten(1, -2)
    samples_of[:, samples_of.shape[1] // 2 + 3 :: 50] = 1.02
    samples_of[:, -7, 0] = float("nan")
    return grid.to(device)


@pytest.mark.parametrize("shape", INSIDE_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(
    "case", [case for case in samples.CASES if case.mode not in samples.CUBIC_MODES], ids=str
)
def test_gradients_of_samples_inside(case, dtype, shape, device, monkeypatch):
    """Warps whose taps are all inside the image, and others: channels alone and by fours."""
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", "1")
    for C in (1, 3, 4, 11):
        input, grid = samples.sample(
            case,
            samples.Shape(**{**vars(shape), "C": C}),
            dtype,
            torch.float32,
            device=device,
            make_grid=mostly_inside,
        )
        grad_output = samples.grad_like(input, grid)
        arguments = grad_output, input, grid, *case.op_options
        both = grid_sample_backward(*arguments, [True, True])
        expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
        samples.assert_gradients_close(both, expected, input, grid)
        alone = (
            grid_sample_backward(*arguments, [True, False])[0],
            grid_sample_backward(*arguments, [False, True])[1],
        )
        samples.assert_gradients_close(alone, expected, input, grid)


LAYOUT_PAIRS = [
    pair for pair in itertools.product(samples.INPUT_LAYOUTS, repeat=2) if "contiguous" in pair
]


@pytest.mark.parametrize("layouts", LAYOUT_PAIRS, ids="-".join)
@pytest.mark.parametrize(
    "case", samples.cases(mode="bilinear", padding_mode="zeros", align_corners=False), ids=str
)
def test_large_images_are_summed_in_rows(case, layouts, device, monkeypatch):
    """Whatever the layouts of grad_output and input: values and layouts of results are right."""
    check_large_images(case, torch.float32, layouts, device, monkeypatch)


@pytest.mark.parametrize("C", [8, 20])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=True), ids=str)
def test_large_images_of_any_type(case, dtype, C, device, monkeypatch):
    check_large_images(case, dtype, ("contiguous", "contiguous"), device, monkeypatch, C)


def check_large_images(case, dtype, layouts, device, monkeypatch, C=8):
    """Beside sums in integers, and grad_grid alone: neither takes images to another layout."""
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", "1")
    # Planes of 90 pixels are no whole vectors, those of 108 are. On a GPU as much as keeps it busy,
    # without thousands of terms for a pixel.
    size, out = (5, 9, 10 if C == 8 else 12), (1, 18, 30)
    if device != "cpu":
        size, out = (5, 90, 100), (4, 160, 240)
    shape = samples.Shape("large", N=2, C=C, size=size, out=out)
    input, grid = samples.sample(case, shape, dtype, torch.float32, device=device)
    grad_output = samples.INPUT_LAYOUTS[layouts[0]](samples.grad_like(input, grid))
    input = samples.INPUT_LAYOUTS[layouts[1]](input)
    arguments = grad_output, input, grid, *case.op_options
    expected, _ = grid_sample_backward(*arguments, [True, False], True)
    _, expected_grid = grid_sample_backward(*arguments, [False, True])
    grad_input, grad_grid = grid_sample_backward(*arguments, [True, True])
    alone, _ = grid_sample_backward(*arguments, [True, False])
    # The error of a sum grows with its terms, and in the corners of an image thousands meet.
    sizes, _ = grid_sample_backward(
        grad_output.abs(), input, grid, *case.op_options, [True, False], True
    )
    bound = samples.TOLERANCES[dtype] * (sizes.double().abs() + max(out) / 10)
    for actual in (grad_input, alone):
        assert actual.dtype == dtype
        assert actual.stride() == expected.stride()
        error = (actual.double() - expected.double()).abs()
        assert bool((error <= bound).all()), ((error - bound).max().item(), error.max().item())
    samples.assert_close(grad_grid, expected_grid.double(), terms=10 * C)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_deterministic_values(case, dtype, layout, device):
    for shape in (samples.SMALL, samples.Shape("broadcast", C=5, N_input=1, N_grid=3)):
        grad_output, input, grid = arguments_of(
            case, shape, dtype, device, samples.INPUT_LAYOUTS[layout]
        )
        expected = reference.grid_sample_backward(grad_output, input, grid, *case.options)
        actual = grid_sample_backward(
            grad_output, input, grid, *case.op_options, [True, True], True
        )
        samples.assert_gradients_close(actual, expected, input, grid)
        assert (
            actual[0].stride()
            == grid_sample(
                input, input.new_zeros(input.shape[0], *input.shape[2:], case.dims), *case.options
            ).stride()
        )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-4, 1e4, 1e30, 1e300])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=True), ids=str)
def test_deterministic_gradients_of_any_size(case, scale, device):
    """The unit of the fixed-point sums follows the largest gradient."""
    input, grid = samples.sample(case, device=device)
    grad_output = samples.grad_like(input, grid)
    plain, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False], True)
    scaled, _ = grid_sample_backward(
        grad_output * scale, input, grid, *case.op_options, [True, False], True
    )
    samples.assert_close(scaled / scale, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=False), ids=str)
def test_deterministic_non_finite_gradients(case, dtype, device):
    """Infinities and NaN reach the pixels that they reach without it, and no others."""
    input, grid = samples.sample(
        case, samples.Shape("many", N=1, C=7, size=(2, 3, 5), out=(2, 3, 7)), dtype, device=device
    )
    grad_output = samples.grad_like(input, grid)
    for place, value in ((3, float("inf")), (90, float("-inf")), (200, float("nan"))):
        grad_output.view(-1)[place % grad_output.numel()] = value
    plain, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False])
    exact, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False], True)
    assert not plain.isfinite().all()
    samples.assert_close(exact, plain.double())


@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_deterministic_images_of_different_scales(case, device):
    """Each image has a unit of its own."""
    shape = samples.Shape("two", N=2, C=3, size=(2, 3, 5), out=(2, 3, 7))
    input, grid = samples.sample(case, shape, torch.float32, device=device)
    grad_output = samples.grad_like(input, grid)
    grad_output[1] *= 2.0**-70
    plain, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False])
    exact, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False], True)
    for image, scale in ((0, 1.0), (1, 2.0**70)):
        samples.assert_close(exact[image] * scale, plain[image].double() * scale)


def test_deterministic_sums_of_many_equal_parts(device):
    """1,024 samples with 64 taps each, all on one pixel, with the same rest after rounding."""
    case = samples.Case(3, "bicubic", "border", False)
    point = [0.26623705983842716, -0.8873710224930327, -0.7664216673624198]
    grid = torch.tensor(point, dtype=torch.float64, device=device).expand(1, 1, 1, 1024, 3)
    input = torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64, device=device)
    grad_output = torch.ones(1, 1, 1, 1, 1024, dtype=torch.float64, device=device)
    exact, _ = grid_sample_backward(grad_output, input, grid, *case.op_options, [True, False], True)
    assert abs(exact.item() / 1024 - 1) < 4e-15


def test_deterministic_gradients_beyond_float32(device):
    """A float64 gradient for float32 images that is infinite in float32 leaves the others alone."""
    input = torch.zeros(1, 1, 2, 2, device=device)
    grid = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], device=device).reshape(1, 1, 2, 2)
    grad_output = torch.tensor([1e300, 1.0], dtype=torch.float64, device=device).reshape(1, 1, 1, 2)
    exact, _ = grid_sample_backward(grad_output, input, grid, 1, 0, True, [True, False], True)
    assert exact.flatten().tolist() == [float("inf"), 0, 0, 1]


def test_deterministic_zero_gradients(device):
    case = samples.CASES[0]
    input, grid = samples.sample(case, device=device)
    grad_output = torch.zeros_like(samples.grad_like(input, grid))
    for gradient in grid_sample_backward(
        grad_output, input, grid, *case.op_options, [True, True], True
    ):
        assert gradient.count_nonzero() == 0


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("dims", [2, 3])
def test_bitwise_repeatable(dims, mode, dtype, layout, device, monkeypatch, deterministic):
    """Through autograd, in whatever order the threads run."""
    case = samples.Case(dims, mode, "reflection", False)
    grad_output, input, grid = arguments_of(
        case, samples.CROWDED, dtype, device, samples.INPUT_LAYOUTS[layout]
    )
    results = []
    for seed in samples.SEEDS_AND_FIRST:
        monkeypatch.setenv("GRIDSAMPLE_EMULATION_SHUFFLE", seed)
        leaves = input.clone().requires_grad_(), grid.clone().requires_grad_()
        output = grid_sample(*leaves, *case.options)
        results.append((output.detach(), *torch.autograd.grad(output, leaves, grad_output)))
    for others in results[1:]:
        for actual, expected in zip(others, results[0], strict=True):
            samples.assert_bitwise_equal(actual, expected)


@pytest.mark.parametrize("seed", samples.SEEDS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", samples.cases(align_corners=False, padding_mode="border"), ids=str)
def test_order_of_threads_does_not_matter(case, layout, seed, device, monkeypatch):
    """Output and grad_grid bit by bit, grad_input but for rounding: a race would show."""
    arguments = arguments_of(
        case, samples.CROWDED, torch.float32, device, samples.INPUT_LAYOUTS[layout]
    )

    def results():
        return [
            grid_sample(*arguments[1:], *case.options),
            *grid_sample_backward(*arguments, *case.op_options, [True, True]),
        ]

    expected = results()
    monkeypatch.setenv("GRIDSAMPLE_EMULATION_SHUFFLE", seed)
    output, grad_input, grad_grid = results()
    samples.assert_bitwise_equal(output, expected[0])
    samples.assert_close(grad_input, expected[1].double())
    samples.assert_bitwise_equal(grad_grid, expected[2])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("grids", [1, 70000])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=True), ids=str)
def test_more_images_than_blocks_along_an_axis(case, grids, layout, device):
    """More than the 65,535 of y and z."""
    input = samples.INPUT_LAYOUTS[layout](
        samples.randn(70000, 4, *[2] * case.dims, dtype=torch.float32, device=device)
    )
    grid = samples.wide_grid(
        (grids, *[1] * case.dims, case.dims), input.shape[2:], True, torch.float32, device
    )
    output = grid_sample(input, grid, *case.options)
    last = slice(-3, None)
    expected = reference.grid_sample(input[last], grid[last], *case.options)
    samples.assert_close(output[last], expected)
    grad_output = samples.grad_like(input, grid)
    mask = [True, grids > 1]
    gradients = grid_sample_backward(grad_output, input, grid, *case.op_options, mask)
    expected = reference.grid_sample_backward(
        grad_output[last], input[last], grid[last], *case.options
    )
    samples.assert_close(gradients[0][last], expected[0])
    if grids > 1:
        samples.assert_close(gradients[1][last], expected[1], terms=4)


@pytest.fixture
def cuda_side(request):
    """The ops with CUDA kernels and the device of their tensors; the CPU keeps its own."""
    if request.param == "emulated-cuda":
        return request.getfixturevalue("emulated_ops"), "cpu"
    return torch.ops.gridsample_ext, "cuda"


@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_agrees_with_the_cpu(case, layout, dtype, cuda_side):
    """Coordinates are the same bits, so nearest is, and the rest but for the order of sums."""
    ops, device = cuda_side
    shape = samples.Shape("agreement", N=2, C=8, size=(4, 5, 6), out=(2, 3, 7))
    arguments = arguments_of(case, shape, dtype, layout=samples.INPUT_LAYOUTS[layout])

    def results(ops, grad_output, input, grid):
        return [
            ops.grid_sample(input, grid, *case.op_options),
            *ops.grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True]),
        ]

    expected = results(torch.ops.gridsample_ext, *arguments)
    actual = results(ops, *(tensor.to(device) for tensor in arguments))
    for result, values in zip(actual, expected, strict=True):
        assert result.stride() == values.stride()
    actual = [tensor.cpu() for tensor in actual]
    if case.mode == "nearest":
        samples.assert_bitwise_equal(actual[0], expected[0])
    samples.assert_close(actual[0], expected[0].double())
    samples.assert_gradients_close(
        actual[1:], [values.double() for values in expected[1:]], *arguments[1:]
    )


def test_fallback_says_why_and_how_to_build(monkeypatch):
    monkeypatch.setattr(
        gridsample_ext._ops, "cuda_problem", lambda device: "no kernels; build them"
    )
    why = gridsample_ext.functional.why_not_ours(torch.device("cuda", 0))
    assert "CUDA" in why
    assert "no kernels" in why
    monkeypatch.setattr(gridsample_ext._ops, "cuda_problem", lambda device: None)
    assert gridsample_ext.functional.why_not_ours(torch.device("cuda", 0)) is None


@cuda_only
def test_streams(device):
    """On the current stream, in order with what is queued there, and on no other."""
    case = samples.CASES[0]
    input, grid = samples.sample(case, dtype=torch.float32, device=device)
    expected = grid_sample(input, grid, *case.options)
    assert torch.equal(input * 1, input)  # loads the kernels, which does wait
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        delayed = input * 1
        output = grid_sample(delayed, grid, *case.options)
        assert not stream.query(), "the call waited for the device"
    stream.synchronize()
    samples.assert_bitwise_equal(output, expected)


@cuda_only
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", samples.cases(padding_mode="zeros", align_corners=False), ids=str)
def test_graphs(case, layout, deterministic, device):
    arguments = arguments_of(
        case, samples.CROWDED, torch.float16, device, samples.INPUT_LAYOUTS[layout]
    )

    def results():
        return [
            grid_sample(*arguments[1:], *case.options),
            *grid_sample_backward(*arguments, *case.op_options, [True, True], deterministic),
        ]

    results()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = results()
    arguments[1].copy_(torch.randn_like(arguments[1]))
    graph.replay()
    graph.replay()
    for actual, expected in zip(recorded, results(), strict=True):
        samples.assert_close(actual, expected.double())


@cuda_only
def test_deterministic_twenty_times(device):
    for case in samples.cases(padding_mode="zeros", align_corners=False):
        shape = samples.Shape("crowded", N=2, C=16, size=(3, 9, 9), out=(16, 64, 64))
        arguments = arguments_of(case, shape, torch.float32, device)
        results = [
            grid_sample_backward(*arguments, *case.op_options, [True, True], True)
            for _ in range(20)
        ]
        for gradients in results[1:]:
            for actual, expected in zip(gradients, results[0], strict=True):
                samples.assert_bitwise_equal(actual, expected)


@cuda_only
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_more_than_31_bits_of_elements(mode, layout, device):
    """A dense image of 2^31 elements and more; compared where the last of them are."""
    free, _ = torch.cuda.mem_get_info()
    if free < 60 * 2**30:
        pytest.skip(f"needs 60 GiB of device memory, but {free / 2**30:.0f} are free")
    shape = (1, 8, 17000, 16384)
    memory_format = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    input = torch.zeros(shape, dtype=torch.float16, device=device).to(
        memory_format=memory_format[layout]
    )
    corner = torch.randn(1, 8, 40, 50, device=device).half()
    input[..., -40:, -50:] = corner
    u = torch.rand(1, 64, 64, 2, device=device, dtype=torch.float64) * torch.tensor(
        [30.0, 20.0], device=device, dtype=torch.float64
    ) + torch.tensor([shape[3] - 40.0, shape[2] - 30.0], device=device, dtype=torch.float64)
    grid = samples.normalize(u.cpu(), shape[2:], False).to(device)
    moved = u - torch.tensor([shape[3] - 50.0, shape[2] - 40.0], device=device).double()
    small = samples.normalize(moved.cpu(), corner.shape[2:], False).to(device)
    options = mode, "zeros", False
    output = grid_sample(input, grid, *options)
    samples.assert_close(output, grid_sample(corner, small, *options).double())
    op_options = samples.MODES.index(mode), 0, False
    grad_input, _ = grid_sample_backward(output, input, grid, *op_options, [True, False])
    expected, _ = grid_sample_backward(output, corner, small, *op_options, [True, False])
    samples.assert_close(grad_input[..., -40:, -50:], expected.double())


@cuda_only
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_device_of_the_tensors(device):
    case = samples.CASES[0]
    with torch.cuda.device(0):
        input, grid = samples.sample(case, dtype=torch.float32, device="cuda:1")
        output = grid_sample(input, grid, *case.options)
        assert output.device == input.device
        assert torch.cuda.current_device() == 0
    samples.assert_close(output, grid_sample(input.cpu(), grid.cpu(), *case.options).double())
