"""Against other people's programs: SciPy, NumPy, OpenCV, and PyTorch on images padded by hand."""

import numpy as np
import pytest
import samples
import torch
import torch.nn.functional as F

from gridsample_ext import grid_sample

SIZE = (4, 5, 6)
ORDERS = {"nearest": 0, "bilinear": 1}
# Its mode -> ours: (padding, align_corners).
SCIPY = {
    "mirror": ("reflection", True),
    "reflect": ("reflection", False),
    "nearest": ("border", False),
    "grid-wrap": ("circular", False),
    "grid-constant": ("zeros", False),
}


def pixel_grid(dims, low=-2.5, high=3.5, dtype=torch.float64, count=300):
    """Sample coordinates from low to high, in lengths of the axes: (1, [1, ]1, count, dims)."""
    lengths = torch.tensor(SIZE[-dims:][::-1], dtype=torch.float64)
    r = torch.rand(count, dims, generator=samples.generator(2), dtype=torch.float64)
    u = samples.off_lattice(lengths * (low + (high - low) * r))
    return samples.in_a_row(u, dtype=dtype)


def by_scipy(input, grid, order, mode, cval=0.0):
    ndimage = pytest.importorskip("scipy.ndimage")
    dims = grid.shape[-1]
    places = grid.reshape(-1, dims).T.flip(0).numpy()  # in the order of the image's axes
    return torch.from_numpy(
        np.stack(
            [
                ndimage.map_coordinates(
                    channel.numpy(), places, order=order, mode=mode, cval=cval, prefilter=False
                )
                for channel in input[0]
            ]
        )
    ).reshape(1, input.shape[1], *grid.shape[1:-1])


@pytest.mark.all_combinations
@pytest.mark.parametrize("scipy_mode", SCIPY)
@pytest.mark.parametrize("mode", ORDERS)
@pytest.mark.parametrize("dims", [2, 3])
def test_scipy(dims, mode, scipy_mode, device):
    """SciPy's reflect goes on between the last pixel and its image, where ours is clamped."""
    input = samples.randn(1, 3, *SIZE[-dims:])
    grid = pixel_grid(dims)
    fill = 7.25 if scipy_mode == "grid-constant" else None
    expected = by_scipy(input, grid, ORDERS[mode], scipy_mode, fill or 0.0)
    output = grid_sample(
        input.to(device), grid.to(device), mode, *SCIPY[scipy_mode],
        coordinates="pixel", fill_value=fill,
    )  # fmt: skip
    samples.assert_close(output, expected)


@pytest.mark.parametrize("mode", ORDERS)
@pytest.mark.parametrize("dims", [2, 3])
def test_outside_value_is_where_scipy_has_no_nearest_pixel(dims, mode, device):
    input = samples.randn(1, 2, *SIZE[-dims:])
    grid = pixel_grid(dims, -0.3, 1.3)
    output = grid_sample(
        input.to(device), grid.to(device), mode, "border", False,
        coordinates="pixel", outside_value=-3.0,
    )  # fmt: skip
    on_image = by_scipy(torch.ones_like(input[:, :1]), grid, 0, "grid-constant") == 1
    assert 0 < on_image.sum() < on_image.numel()
    inside = by_scipy(input, grid, ORDERS[mode], "nearest")
    samples.assert_close(output, torch.where(on_image, inside, -3.0))


def padded_by_hand(input, margin, kinds):
    """By numpy.pad, each axis in its own way."""
    image = input.numpy()
    for axis, kind in zip(range(input.dim() - 1, 1, -1), kinds, strict=True):
        widths = [(0, 0)] * input.dim()
        widths[axis] = (margin, margin)
        image = np.pad(image, widths, mode=kind)
    return torch.from_numpy(np.ascontiguousarray(image))


# (padding, align_corners) -> how numpy.pad makes the pixels that taps outside read.
NUMPY = {
    ("circular", False): "wrap",
    ("circular", True): "wrap",
    ("border", False): "edge",
    ("reflection", True): "reflect",
    ("reflection", False): "symmetric",
    ("zeros", True): "constant",
}


@pytest.mark.all_combinations
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("dims", "mode"), [(2, "bilinear"), (3, "bilinear"), (2, "bicubic")])
def test_torch_on_images_padded_by_numpy(dims, mode, align_corners, device):
    """Every padding beside every other, and the gradients of torch's kernels, too."""
    # With border and bilinear the coordinate is clamped, and its gradient there is 0.
    names = [padding for padding, corners in NUMPY if corners == align_corners]
    margin = 14
    for shift in range(len(names)):
        paddings = [names[(shift + axis * (1 + shift % 2)) % len(names)] for axis in range(dims)]
        kinds = [NUMPY[padding, align_corners] for padding in paddings]
        input = samples.randn(1, 2, *SIZE[-dims:], seed=shift)
        grid = pixel_grid(dims, -1.2, 2.2)
        large = padded_by_hand(input, margin, kinds).requires_grad_()
        there = samples.normalize(grid + margin, large.shape[2:], align_corners).requires_grad_()
        expected = F.grid_sample(large, there, mode, "zeros", align_corners)
        leaves = [tensor.to(device).requires_grad_() for tensor in (input, grid)]
        output = grid_sample(*leaves, mode, tuple(paddings), align_corners, coordinates="pixel")
        on_image = (grid > -0.5) & (grid < torch.tensor(SIZE[-dims:][::-1]) - 0.5)
        # Beyond the outer pixels' centres only bicubic reflects what lies between edges.
        same = torch.ones_like(on_image)
        if mode == "bilinear" and not align_corners:
            reflected = torch.tensor([padding == "reflection" for padding in paddings])
            same = on_image | ~reflected
        same = same.all(-1)
        here = same.flatten()
        samples.assert_close(output.detach()[..., here], expected.detach()[..., here], terms=4)
        weight = samples.grad_like(input, grid).to(device) * same[:, None].to(device)
        gradients = torch.autograd.grad(output, leaves, weight)
        theirs = torch.autograd.grad(expected, (large, there), weight.cpu())
        folded = torch.zeros_like(input)
        index = padded_by_hand(torch.arange(input.numel()).reshape(input.shape), margin, kinds)
        counted = padded_by_hand(torch.ones_like(input), margin, kinds)
        folded.view(-1).index_add_(0, index.flatten(), (theirs[0] * counted).flatten())
        samples.assert_close(gradients[0], folded, terms=8)
        scale = 2 / (torch.tensor(large.shape[:1:-1]).double() - (1 if align_corners else 0))
        samples.assert_close(gradients[1], theirs[1] * scale, terms=32)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_opencv_s_wrap(mode):
    """Before 5.0 its weights are of 5 bits: places are multiples of 1/32."""
    cv2 = pytest.importorskip("cv2")
    interpolation = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[mode]
    image = samples.randn(1, 1, 9, 12, dtype=torch.float32)
    places = torch.randint(-100, 500, (1, 20, 30, 2), generator=samples.generator(4)) / 32
    x, y = (places[0, ..., axis].float().numpy() for axis in (0, 1))
    expected = cv2.remap(image[0, 0].numpy(), x, y, interpolation, borderMode=cv2.BORDER_WRAP)
    output = grid_sample(image, places.float(), mode, "circular", coordinates="pixel")
    samples.assert_close(output[0, 0], torch.from_numpy(expected).double(), terms=4)


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_opencv_s_borders_of_whole_panoramas(padding_mode):
    """BORDER_CONSTANT with a value is fill_value."""
    cv2 = pytest.importorskip("cv2")
    border = {"zeros": cv2.BORDER_CONSTANT, "circular": cv2.BORDER_WRAP}[padding_mode]
    fill = 3.0 if padding_mode == "zeros" else None
    image = samples.randn(1, 1, 9, 12, dtype=torch.float32)
    places = torch.randint(-100, 400, (1, 20, 30, 2), generator=samples.generator(4)) / 32
    x, y = (places[0, ..., axis].float().numpy() for axis in (0, 1))
    expected = cv2.remap(
        image[0, 0].numpy(), x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=fill or 0.0
    )
    output = grid_sample(
        image, places.float(), "bilinear", padding_mode, coordinates="pixel", fill_value=fill
    )
    samples.assert_close(output[0, 0], torch.from_numpy(expected).double(), terms=4)


@pytest.mark.parametrize("coefficient", [-0.5, -0.75, -1.0, 0.0])
def test_cubic_coefficient_by_interpolate(coefficient, device):
    """PIL's filter, which F.interpolate has with antialias, is the kernel with -0.5."""
    image = samples.randn(1, 1, 6, 7, dtype=torch.float32)
    grid = samples.identity_grid((13, 15), None)
    lengths = torch.tensor([15.0, 13.0]), torch.tensor([7.0, 6.0])
    grid = (grid + 0.5) * (lengths[1] / lengths[0]) - 0.5
    output = grid_sample(
        image.to(device), grid.to(device), "bicubic", "border", coordinates="pixel",
        cubic_coefficient=coefficient,
    )  # fmt: skip
    for antialias, theirs in ((False, -0.75), (True, -0.5)):
        expected = F.interpolate(image, (13, 15), mode="bicubic", antialias=antialias)
        inner = (..., slice(4, 9), slice(5, 10))  # PIL's leaves taps outside out
        same = torch.allclose(output.cpu()[inner], expected[inner], atol=1e-5)
        assert same == (coefficient == theirs)


@pytest.mark.parametrize("coefficient", [-0.5, -0.6, -0.75, -1.0, 0.0])
def test_catmull_rom_has_quadratics_and_all_have_lines(coefficient, device):
    """What each coefficient reproduces: every one the sum of weights, -0.5 polynomials."""
    x = torch.arange(9.0, dtype=torch.float64, device=device)
    u = samples.off_lattice(1 + 5.9 * torch.rand(50, generator=samples.generator(1)).double())
    grid = torch.stack([u, torch.full_like(u, 1.0)], -1).to(device)[None, None]
    for power, exact in ((0, True), (1, coefficient == -0.5), (2, coefficient == -0.5)):
        image = (x**power).expand(1, 1, 3, 9)
        output = grid_sample(
            image, grid, "bicubic", "border", coordinates="pixel", cubic_coefficient=coefficient
        )
        assert torch.allclose(output[0, 0, 0], u.to(device) ** power, atol=1e-9) == exact
