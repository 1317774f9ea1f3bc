"""Many images of few samples, which the CPU takes together in groups: exact numbers, any layout."""

import pytest
import samples
import torch
import torch.nn.functional as F

from gridsample_ext import explain, grid_sample

# Of samples.exact_call.
SIZES = [(4, 8), (1, 2), (4, 2, 8)]
OUTPUTS = {2: [(1, 1), (1, 5), (7, 7)], 3: [(1, 1, 1), (1, 2, 5)]}
MODES = {2: ("bilinear", "nearest", "bicubic"), 3: ("bilinear", "nearest")}
NOTHING = {"rtol": 0, "atol": 0}
IMAGES = 70  # of few samples in one group, or in some, of which the last has fewer


def calls(channels, layout, device):
    """Image, grid, mode and a name, of all sizes."""
    for size in SIZES:
        for out in OUTPUTS[len(size)]:
            image, grid = samples.exact_call(IMAGES, channels, size, out)
            image, grid = samples.INPUT_LAYOUTS[layout](image.to(device)), grid.to(device)
            for mode in MODES[len(size)]:
                yield image, grid, mode, f"{size} {out} {mode}"


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 16])
def test_exact(channels, layout, padding_mode, device):
    options = {"padding_mode": padding_mode, "align_corners": False}
    for image, grid, mode, name in calls(channels, layout, device):
        for of_grid, laid_out in samples.GRID_LAYOUTS.items():
            exact = image.cpu().double(), laid_out(grid.cpu()).double()
            expected = F.grid_sample(*exact, mode=mode, **options)
            output = grid_sample(image, laid_out(grid), mode=mode, **options)
            # The weights of bicubic are no small whole numbers.
            near = {"rtol": 0, "atol": 1e-4} if mode == "bicubic" else NOTHING
            torch.testing.assert_close(
                output.cpu().double(), expected, msg=f"{name} {of_grid}", **near
            )


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("layout", samples.INPUT_LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 16])
def test_exact_gradients(channels, layout, padding_mode, device):
    options = {"padding_mode": padding_mode, "align_corners": False}
    for image, grid, mode, name in calls(channels, layout, device):
        exact = [tensor.cpu().double().requires_grad_() for tensor in (image, grid)]
        output = F.grid_sample(*exact, mode=mode, **options)
        grad = torch.randint(-8, 9, output.shape).float()
        expected = torch.autograd.grad(output, exact, grad.double())
        for wanted in ([0, 1], [0], [1]):
            ours = [image.detach(), grid.detach()]
            leaves = [ours[n].requires_grad_() for n in wanted]
            output = grid_sample(*ours, mode=mode, **options)
            found = torch.autograd.grad(output, leaves, grad.to(device))
            near = {"rtol": 1e-5, "atol": 2e-3} if mode == "bicubic" else NOTHING
            for n, gradient in zip(wanted, found, strict=True):
                torch.testing.assert_close(
                    gradient.cpu().double(), expected[n], msg=f"{name} {wanted}", **near
                )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_same_bits_as_one_by_one(channels, dtype, device):
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(IMAGES, channels, 5, 6, generator=draw).to(device, dtype)
    grid = (torch.rand(IMAGES, 2, 3, 2, generator=draw) * 3 - 1.5).to(device, dtype)
    for mode in ("bilinear", "nearest", "bicubic"):
        options = {"mode": mode, "padding_mode": "reflection", "align_corners": True}
        together = grid_sample(image, grid, **options)
        one_by_one = [
            grid_sample(image[n : n + 1], grid[n : n + 1], **options) for n in range(IMAGES)
        ]
        assert torch.equal(together, torch.cat(one_by_one)), mode


def test_images_are_taken_together():
    image, grid = torch.randn(64, 8, 4, 4), torch.rand(64, 1, 5, 2)
    assert explain(image, grid).split["images in a group"] == 51  # 256 samples fill a tile
    assert explain(image, grid, backward=True).split["images in a group"] == 51
    # Samples enough, or channels in planes that are apart: each image by itself.
    assert explain(image, torch.rand(64, 1, 200, 2)).split["images in a group"] == 1
    assert explain(image, torch.rand(64, 1, 50, 2)).split["images in a group"] == 1
    # Offsets of a group have 32 bits.
    far = torch.empty(64, 1, 1, device="meta").as_strided((64, 8, 4, 4), (1 << 29, 16, 4, 1))
    assert explain(far, grid.to("meta")).split["images in a group"] == 4
    wide = torch.empty(1, device="meta").as_strided((256, 1, 1000, 100), (100000, 1, 2143196, 1))
    few = torch.empty(256, 1, 1, 2, device="meta")
    assert explain(wide, few).split["images in a group"] == 1
    assert explain(wide, few, backward=True).split["images in a group"] == 1
    # A gradient that is added up over the images.
    shared = torch.rand(1, 1, 5, 2)
    assert explain(image, shared).split["images in a group"] == 51
    assert explain(image, shared, backward=True).split["images in a group"] == 1
