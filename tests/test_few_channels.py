"""Float32 images of few channels, whose taps stay in registers: exact numbers, of every tail."""

import pytest
import samples
import torch
import torch.nn.functional as F

from gridsample_ext import explain, grid_sample

# Of samples.exact_call.
SIZES = [(4, 8), (1, 2), (16, 2), (2, 64)]
OUTPUTS = [(1, 1), (1, 7), (5, 13), (3, 43), (16, 17)]  # of vectors: none whole, some, many


def exact_call(channels, size, out, layout, most=1.5):
    image, grid = samples.exact_call(3, channels, size, out, most)
    return samples.INPUT_LAYOUTS[layout](image), grid


def expected_output(image, grid, mode, padding_mode):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    return F.grid_sample(image.double(), grid.double(), **options).float()


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_exact(channels, layout, mode, padding_mode, device):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    for size in SIZES:
        for out in OUTPUTS:
            for most in (0.5, 1.5, 40):
                image, grid = exact_call(channels, size, out, layout, most)
                for name, laid_out in samples.GRID_LAYOUTS.items():
                    laid = laid_out(grid)
                    expected = expected_output(image, laid, mode, padding_mode)
                    output = grid_sample(image.to(device), laid_out(grid.to(device)), **options)
                    assert torch.equal(output.cpu(), expected), (size, out, most, name)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_exact_gradients(channels, padding_mode, device):
    """Of whole images and of parts of them, which several threads share."""
    options = {"padding_mode": padding_mode, "align_corners": False}
    for size in [*SIZES, (64, 32)]:
        for out in [*OUTPUTS, (64, 32)]:
            for most in (0.5, 1.5):
                image, grid = exact_call(channels, size, out, "contiguous", most)
                image, grid = image[:1], grid[:1]
                draw = torch.Generator().manual_seed(channels)
                grad = torch.randint(-8, 9, (1, channels, *out), generator=draw).float()
                exact = [tensor.double().requires_grad_() for tensor in (image, grid)]
                output = F.grid_sample(*exact, **options)
                expected = torch.autograd.grad(output, exact, grad.double())
                for threads in (1, 2, 3):
                    torch.set_num_threads(threads)  # set back after each test
                    ours = [tensor.to(device).requires_grad_() for tensor in (image, grid)]
                    output = grid_sample(*ours, **options)
                    actual = torch.autograd.grad(output, ours, grad.to(device))
                    for one, other in zip(actual, expected, strict=True):
                        assert torch.equal(one.cpu(), other.float()), (size, out, most, threads)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_values_that_are_no_numbers(mode, device):
    """Each in a vector of its own, beside samples inside; NaN reads as -1."""
    values = [float("nan"), float("inf"), -float("inf"), 1e30, -3e9, 1.0]
    for value in values:
        for axis in (0, 1):
            image, grid = exact_call(3, (4, 8), (7, 11), "contiguous", 0.5)
            grid[1, 3, 5, axis] = value
            output = grid_sample(image.to(device), grid.to(device), mode=mode, align_corners=False)
            grid[1, 3, 5, axis] = -1 if value != value else min(max(value, -64), 64)
            assert torch.equal(output.cpu(), expected_output(image, grid, mode, "zeros"))


def test_infinite_pixels_stay_where_they_are():
    """A tap outside adds nothing, not 0 times the pixel that was read in its place."""
    image = torch.full((1, 1, 4, 4), float("inf"))
    image[..., 1:3, 1:3] = 1
    grid = torch.tensor([[-3.0, 0.0], [0.0, 3.0], [0.0, 0.0], [2.0, 2.0]]).reshape(1, 1, 4, 2)
    output = grid_sample(image, grid, align_corners=False)
    assert output.flatten().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_taps_stay_in_registers(channels, layout):
    image, grid = exact_call(channels, (4, 8), (3, 3), layout)
    few_samples = explain(image, grid, align_corners=False)  # not enough to pack four planes
    assert "in registers" in str(few_samples)
    backward = str(explain(image, grid, align_corners=False, backward=True))
    one_thread = layout == "contiguous" and channels < 4
    assert ("joint slabs in registers" in backward) == (one_thread or channels == 1)
