"""Steps of training that contain grid_sample, timed as a whole with the sampler passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from cases import off_the_lattice
from torch import Tensor

Sampler = Callable[..., Tensor]
Results = tuple[Tensor, ...]

LEVELS, RADIUS = 4, 4  # of a RAFT-like lookup: windows of 9x9


@dataclass(frozen=True)
class Step:
    """A function of a sampler and tensors; results are compared with float64 before it is timed."""

    name: str
    tensors: Callable[[], Results]
    run: Callable[..., Results]  # run(sampler, *tensors)
    # What the sampler's kernels compute in it, in the words of gridsample_ext._C.executed_paths.
    computed: tuple[str, ...]
    tolerance: float = 1e-3  # relative to the largest value of a result


def transformer_step(sampler: Sampler, images: Tensor, target: Tensor, theta: Tensor) -> Results:
    """A spatial transformer: affine_grid, sampling, a loss, and its gradient for ``theta``.

    Shapes: (N, C, H, W) twice, and (N, 2, 3).
    """
    theta = theta.detach().requires_grad_()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    loss = F.mse_loss(sampler(images, grid, align_corners=False), target)
    return loss.detach(), *torch.autograd.grad(loss, theta)


def registration_step(
    sampler: Sampler, moving: Tensor, fixed: Tensor, identity: Tensor, flow: Tensor
) -> Results:
    """One step of a registration: warp, mean squared error, its gradient for the flow field.

    Shapes: (N, C, *spatial) twice, and (N, *spatial, dims) twice, in normalised units.
    """
    flow = flow.detach().requires_grad_()
    warped = sampler(moving, identity + flow, padding_mode="border", align_corners=False)
    loss = F.mse_loss(warped, fixed)
    return loss.detach(), *torch.autograd.grad(loss, flow)


def raft_lookup(sampler: Sampler, points: Tensor, grad: Tensor, *pyramid: Tensor) -> Results:
    """Windows of correlations around every point's position, at each level, and back.

    Shapes: points (B, H, W, 2) in pixels, grad (B, LEVELS * 81, H, W), and each level of the
    pyramid (B * H * W, 1, H / 2^level, W / 2^level). As in RAFT, positions get no gradient.
    """
    batch, height, width = points.shape[:3]
    side = torch.arange(-RADIUS, RADIUS + 1, device=points.device, dtype=points.dtype)
    window = torch.stack(torch.meshgrid(side, side, indexing="ij")[::-1], -1)
    levels, found = [level.detach().requires_grad_() for level in pyramid], []
    for number, level in enumerate(levels):
        pixels = points.reshape(-1, 1, 1, 2) / 2**number + window
        scale = torch.tensor(level.shape[:1:-1], device=points.device, dtype=points.dtype) - 1
        windows = sampler(level, 2 * pixels / scale - 1, align_corners=True)
        found.append(windows.view(batch, height, width, -1))
    output = torch.cat(found, -1).permute(0, 3, 1, 2).contiguous()
    return output.detach(), *torch.autograd.grad(output, levels, grad)


def interpolated(channels: int, *size: int) -> Tensor:
    """Noise every 16 pixels, interpolated: (N, channels, *spatial), without jumps of its slope.

    Of white noise the gradients of a sample jump at each pixel, and could not be verified.
    """
    coarse = torch.randn(size[0], channels, *(max(2, length // 16) for length in size[1:]))
    mode = {2: "bilinear", 3: "trilinear"}[len(size) - 1]
    return F.interpolate(coarse, size[1:], mode=mode, align_corners=True)


def transformer_tensors(batch: int, channels: int, *spatial: int) -> Results:
    """Images, a target and a small affine map for each."""
    theta = torch.eye(2, 3) + 0.1 * torch.randn(batch, 2, 3)
    images, target = (interpolated(channels, batch, *spatial) for _ in range(2))
    return images, target, theta


def registration_tensors(batch: int, channels: int, *spatial: int) -> Results:
    """Two images, the identity and a displacement of some pixels that changes slowly."""
    dims = len(spatial)
    theta = torch.eye(dims, dims + 1).repeat(batch, 1, 1)
    identity = F.affine_grid(theta, [batch, channels, *spatial], align_corners=False)
    flow = interpolated(dims, batch, *spatial).movedim(1, -1) * (6 / spatial[-1])
    flow = off_the_lattice(identity + flow, spatial) - identity
    images = (interpolated(channels, batch, *spatial) for _ in range(2))
    return *images, identity, flow


def raft_tensors(batch: int, height: int, width: int) -> Results:
    """Positions that a flow of some pixels moved, a gradient, and the pyramid of correlations."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack((columns, rows), -1) + 3 * torch.randn(batch, height, width, 2)
    grad = torch.randn(batch, LEVELS * (2 * RADIUS + 1) ** 2, height, width)
    level = torch.randn(batch * height * width, 1, height, width)
    pyramid = [level]
    for _ in range(LEVELS - 1):
        pyramid.append(level := F.avg_pool2d(level, 2))
    return points, grad, *pyramid


def training_steps() -> list[Step]:
    """A spatial transformer, a registration loop's step and a lookup as RAFT has it."""
    steps = [
        Step(
            f"spatial transformer {'x'.join(map(str, size))}",
            partial(transformer_tensors, *size),
            transformer_step,
            ("output", "grad_grid"),
            # A float32 grid has samples on the other side of an image's edge than a float64 one,
            # and grad_grid jumps there.
            tolerance=1e-2,
        )
        for size in ((32, 1, 28, 28), (16, 3, 224, 224))
    ]
    steps += [
        Step(
            f"registration step {'x'.join(map(str, size))}",
            partial(registration_tensors, *size),
            registration_step,
            ("output", "grad_grid"),
        )
        for size in ((1, 1, 512, 512), (1, 1, 96, 96, 96))
    ]
    size = (1, 40, 56)  # an eighth of 320 x 448 pixels
    name = "RAFT-like lookup {}x{}x{}, 4 levels of 9x9".format(*size)
    computed = "output", "grad_input"
    return [*steps, Step(name, partial(raft_tensors, *size), raft_lookup, computed)]
