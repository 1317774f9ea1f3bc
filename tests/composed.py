"""grid_sample composed of differentiable PyTorch operations, for float64.

Autograd differentiates it as often as one likes, in reverse and forward mode: the oracle for second
derivatives, of every case. Slopes where the function has a kink are left to chance: compare off the
lattice (samples.off_lattice), where there are none.
"""

import itertools

import torch

A = -0.75  # of the cubic kernel


def _reflect(x, low, extent):
    if extent == 0:
        return x * 0
    distance = (x - low).abs()
    folds = (distance / extent).floor().detach()
    rest = distance - folds * extent
    return low + torch.where(folds % 2 == 0, rest, extent - rest)


def _pad(x, size, padding_mode, align_corners):
    if padding_mode == "reflection":
        x = _reflect(x, 0.0, size - 1.0) if align_corners else _reflect(x, -0.5, float(size))
    if padding_mode != "zeros":
        x = x.clamp(0, size - 1)
    return x


def _cubic_weight(distance):
    d = distance.abs()
    near = ((A + 2) * d - (A + 3)) * d * d + 1
    far = A * (d - 1) * (d - 2) ** 2
    return torch.where(d <= 1, near, far)


def _axis_taps(values, size, mode, padding_mode, align_corners):
    """List the taps of one axis as (index, weight)."""
    extent = size - 1.0 if align_corners else float(size)
    x = ((values + 1) * extent - (0.0 if align_corners else 1.0)) / 2
    if mode == "bicubic":
        floor = x.floor().detach()
        positions = [floor + k for k in (-1, 0, 1, 2)]
        return [
            (_pad(p, size, padding_mode, align_corners).round().long(), _cubic_weight(x - p))
            for p in positions
        ]
    x = _pad(x, size, padding_mode, align_corners)
    if mode == "nearest":
        return [(x.round().long(), torch.ones_like(x))]
    floor = x.floor().detach()
    return [(floor.long(), 1 - (x - floor)), (floor.long() + 1, x - floor)]


def grid_sample(input, grid, mode, padding_mode, align_corners):
    """Sample as gridsample_ext.grid_sample does, batches of one included."""
    N = grid.shape[0] if input.shape[0] == 1 else input.shape[0]
    input = input.expand(N, *input.shape[1:])
    grid = grid.expand(N, *grid.shape[1:])
    sizes = input.shape[2:]
    image = input.movedim(1, -1)  # (N, [D,] H, W, C)
    axes = [
        _axis_taps(grid[..., a], sizes[-1 - a], mode, padding_mode, align_corners)
        for a in range(len(sizes))
    ]
    batch = torch.arange(N, device=grid.device).reshape(N, *[1] * len(sizes))
    out = 0
    for taps in itertools.product(*axes):
        inside = torch.ones_like(grid[..., 0], dtype=torch.bool)
        weight = torch.ones_like(grid[..., 0])
        where = []
        for (index, axis_weight), size in zip(taps, sizes[::-1], strict=True):
            inside = inside & (index >= 0) & (index < size)
            weight = weight * axis_weight
            where.insert(0, index.clamp(0, size - 1))
        pixel = image[(batch, *where)]
        out = out + torch.where(inside[..., None], pixel * weight[..., None], 0)
    return out.movedim(-1, 1)
