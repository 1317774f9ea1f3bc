"""The CUDA kernel for gradients of three channels: when it is chosen, and what it computes."""

import functools
import itertools

import pytest
import reference
import samples
import torch

grid_sample_backward = torch.ops.gridsample_ext.grid_sample_backward

pytestmark = pytest.mark.devices("emulated-cuda", "cuda")
emulated_only = pytest.mark.devices("emulated-cuda")

CASES = [case for case in samples.CASES if case.dims == 2 or case.mode not in samples.CUBIC_MODES]
SHAPES = [
    samples.Shape("several_images", N=2, size=(3, 9, 10), out=(2, 23, 31)),
    samples.Shape("one_image", N=1, size=(3, 9, 10), out=(2, 37, 41)),
    samples.Shape("one_pixel", N=2, size=(1, 1, 1), out=(2, 23, 31)),
    samples.Shape("input_broadcast", size=(3, 9, 10), out=(2, 23, 31), N_input=1, N_grid=2),
    samples.Shape("grid_broadcast", size=(3, 9, 10), out=(2, 23, 31), N_input=2, N_grid=1),
]
LAYOUTS = {"contiguous": torch.Tensor.contiguous, "channels_last": samples.channels_last}
MASKS = [[True, True], [True, False]]
# By their major compute capability: whether devices add vectors.
CAPABILITIES = {"vectors": "9", "no_vectors": "8"}


def mixed_grid(shape, sizes, align_corners, dtype, device):
    """Half of the samples inside, so that warps are; the others anywhere, and some not numbers."""
    grid = samples.wide_grid(shape, sizes, align_corners, dtype)
    inside = samples.interior_grid(shape, sizes, align_corners, dtype)
    half = shape[-2] * shape[-3] // 2
    flat = grid.flatten(1, -2)
    flat[:, :half] = inside.flatten(1, -2)[:, :half]
    flat[:, -1] = float("nan")
    return grid.to(device)


def draw(case, shape, layout, device, dtype=torch.float32, make_grid=mixed_grid):
    input, grid = samples.sample(
        case, shape, dtype, torch.float32, device=device, make_grid=make_grid
    )
    grad_output = samples.grad_like(input, grid)
    return LAYOUTS[layout](grad_output), LAYOUTS[layout](input), grid


@pytest.fixture
def few_multiprocessors(monkeypatch):
    """So that small calls are worth another pass."""
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", "1")


@pytest.mark.usefixtures("few_multiprocessors")
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(case, shape, layout, capability, device, monkeypatch):
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_CAPABILITY", CAPABILITIES[capability])
    arguments = draw(case, shape, layout, device)
    expected = reference.grid_sample_backward(*arguments, *case.options)
    # Hundreds of samples meet on a pixel.
    sizes = reference.grid_sample_backward(arguments[0].abs(), *arguments[1:], *case.options)[0]
    for mask in MASKS:
        grad_input, grad_grid = grid_sample_backward(*arguments, *case.op_options, mask)
        samples.assert_close(grad_input, expected[0], terms=sizes.abs().max().item())
        assert grad_input.stride() == torch.empty_like(arguments[1]).stride()
        if mask[1]:
            samples.assert_close(grad_grid, expected[1], terms=30)


@pytest.mark.usefixtures("few_multiprocessors")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_samples_on_one_pixel(case, layout, device):
    """Lanes of a warp are combined."""

    def one_place(shape, sizes, align_corners, dtype, device):
        place = samples.interior_grid((1, case.dims), sizes, align_corners, dtype)
        return place.expand(shape).contiguous().to(device)

    arguments = draw(case, SHAPES[0], layout, device, make_grid=one_place)
    expected = reference.grid_sample_backward(*arguments, *case.options)
    sizes = reference.grid_sample_backward(arguments[0].abs(), *arguments[1:], *case.options)[0]
    grad_input, grad_grid = grid_sample_backward(*arguments, *case.op_options, [True, True])
    samples.assert_close(grad_input, expected[0], terms=sizes.abs().max().item())
    samples.assert_close(grad_grid, expected[1], terms=30)


@pytest.mark.usefixtures("few_multiprocessors")
@pytest.mark.parametrize("seed", samples.SEEDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_order_of_threads_does_not_matter(case, layout, seed, device, monkeypatch):
    arguments = draw(case, SHAPES[0], layout, device)
    call = functools.partial(
        grid_sample_backward, *arguments, *case.op_options, [True, case.mode != "nearest"]
    )
    grad_input, grad_grid = call()
    monkeypatch.setenv("GRIDSAMPLE_EMULATION_SHUFFLE", seed)
    shuffled = call()
    samples.assert_close(shuffled[0], grad_input.double(), terms=100)
    if grad_grid is not None:
        samples.assert_bitwise_equal(shuffled[1], grad_grid)


@emulated_only
@pytest.mark.usefixtures("few_multiprocessors")
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_chosen(case, layout, capability, device, launched, monkeypatch):
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_CAPABILITY", CAPABILITIES[capability])
    arguments = draw(case, SHAPES[0], layout, device)
    for mask in MASKS:
        launched()
        grid_sample_backward(*arguments, *case.op_options, mask)
        if capability == "vectors":
            assert launched() == {"backward_three_channels", "drop_padding"}
        elif layout == "channels_last":
            assert launched() == {"backward_three_channels"}
        else:
            assert launched() == {"backward_planes"}


@emulated_only
def test_is_chosen_by_numbers_of_samples_and_pixels(device, launched, monkeypatch):
    case = samples.Case(2, "nearest", "zeros", False)

    def kernels(layout, N, size, out):
        shape = samples.Shape("any", N=N, size=(1, *size), out=(1, *out))
        arguments = draw(case, shape, layout, device)
        launched()
        grid_sample_backward(*arguments, *case.op_options, [True, False])
        return launched() - {"drop_padding"}

    apart, planes = {"backward_three_channels"}, {"backward_planes"}
    for multiprocessors, expected in (("1", apart), ("2", planes)):
        monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", multiprocessors)
        assert kernels("channels_last", 2, (9, 10), (30, 30)) == expected
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", "1")
    assert kernels("channels_last", 2, (40, 40), (30, 30)) == apart
    assert kernels("channels_last", 2, (40, 50), (30, 30)) == planes
    assert kernels("contiguous", 2, (15, 19), (30, 30)) == apart
    assert kernels("contiguous", 2, (15, 20), (30, 30)) == planes


REFUSED = {
    "two_channels": (lambda t: t[:, :2].contiguous(), lambda t: t, "backward_planes"),
    "half": (lambda t: t.half(), lambda t: t, "backward_planes"),
    "double": (lambda t: t.double(), lambda t: t, "backward_planes"),
    "double_grid": (lambda t: t, lambda t: t.double(), "backward_planes"),
    "sliced_input": (samples.sliced, lambda t: t, "backward_planes"),
    "sliced_grid": (lambda t: t, samples.sliced, "backward_planes"),
}


@emulated_only
@pytest.mark.usefixtures("few_multiprocessors")
@pytest.mark.parametrize("name", REFUSED)
def test_is_not_chosen_for(name, device, launched):
    case = CASES[0]
    change_image, change_grid, kernel = REFUSED[name]
    grad_output, input, grid = draw(case, SHAPES[0], "contiguous", device)
    arguments = change_image(grad_output), change_image(input), change_grid(grid)
    launched()
    grid_sample_backward(*arguments, *case.op_options, [True, True])
    assert launched() == {kernel}


@emulated_only
@pytest.mark.usefixtures("few_multiprocessors")
def test_is_not_chosen_for_sums_in_order_and_second_derivatives(device, launched):
    case = CASES[0]
    arguments = draw(case, SHAPES[0], "contiguous", device)
    launched()
    grid_sample_backward(*arguments, *case.op_options, [True, False], True)
    assert launched() == {"largest", "fixed_point", "finish"}
    directions = torch.randn_like(arguments[1]), torch.randn_like(arguments[2])
    torch.ops.gridsample_ext.grid_sample_double_backward(
        *directions, *arguments, *case.op_options, [True, True]
    )
    assert launched() == {"double_backward"}


@pytest.mark.usefixtures("few_multiprocessors")
@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, repeat=2)), ids="-".join)
def test_grad_output_in_another_layout(layouts, device):
    case = CASES[0]
    arguments = draw(case, SHAPES[0], layouts[0], device)
    other = LAYOUTS[layouts[1]](arguments[0])
    expected = grid_sample_backward(*arguments, *case.op_options, [True, True])
    actual = grid_sample_backward(other, *arguments[1:], *case.op_options, [True, True])
    samples.assert_close(actual[0], expected[0].double(), terms=100)
    samples.assert_bitwise_equal(actual[1], expected[1])
