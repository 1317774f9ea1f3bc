"""grid_sample composed of differentiable PyTorch operations, for float64.

Autograd differentiates it as often as one likes, in reverse and forward mode: the oracle for second
derivatives, of every case. Slopes where the function has a kink are left to chance: compare off the
lattice (samples.off_lattice), where there are none.
"""

import itertools

import torch


def _reflect(x, low, extent):
    if extent == 0:
        return x * 0
    distance = (x - low).abs()
    folds = (distance / extent).floor().detach()
    rest = distance - folds * extent
    return low + torch.where(folds % 2 == 0, rest, extent - rest)


def _pad(x, size, padding_mode, align_corners):
    if padding_mode == "circular":
        return x * 0 if size == 1 else x - (x / size).floor().detach() * size
    if padding_mode == "reflection":
        x = _reflect(x, 0.0, size - 1.0) if align_corners else _reflect(x, -0.5, float(size))
    if padding_mode != "zeros":
        x = x.clamp(0, size - 1)
    return x


def _cubic_weight(distance, A):
    """Of the kernel with the coefficient A; without one, of the B-spline."""
    d = distance.abs()
    if A is None:
        return ((2 - d).clamp(min=0) ** 3 - 4 * (1 - d).clamp(min=0) ** 3) / 6
    near = ((A + 2) * d - (A + 3)) * d * d + 1
    far = A * (d - 1) * (d - 2) ** 2
    return torch.where(d <= 1, near, far)


def _coordinates(values, size, align_corners, coordinates):
    if coordinates == "pixel":
        return values
    extent = size - 1.0 if align_corners else float(size)
    return ((values + 1) * extent - (0.0 if align_corners else 1.0)) / 2


def _axis_taps(x, size, mode, padding_mode, align_corners, A):
    """List the taps of one axis as (index, weight)."""
    if mode in ("bicubic", "bspline"):
        if padding_mode == "circular":
            x = _pad(x, size, padding_mode, align_corners)
        floor = x.floor().detach()
        positions = [floor + k for k in (-1, 0, 1, 2)]
        return [
            (_pad(p, size, padding_mode, align_corners).round().long(), _cubic_weight(x - p, A))
            for p in positions
        ]
    if mode == "nearest" and padding_mode == "circular":
        x = x.round()
    x = _pad(x, size, padding_mode, align_corners)
    if mode == "nearest":
        return [(x.round().long(), torch.ones_like(x))]
    first = x.floor().detach()
    second = _pad(first + 1, size, padding_mode, align_corners) if size > 1 else first * 0
    return [
        (first.long(), 1 - (x - first)),
        ((second if padding_mode == "circular" else first + 1).long(), x - first),
    ]


def grid_sample(
    input,
    grid,
    mode,
    padding_mode,
    align_corners,
    *,
    coordinates="normalized",
    fill_value=None,
    outside_value=None,
    cubic_coefficient=None,
):
    """Sample as gridsample_ext.grid_sample does, batches of one included."""
    N = grid.shape[0] if input.shape[0] == 1 else input.shape[0]
    input = input.expand(N, *input.shape[1:])
    grid = grid.expand(N, *grid.shape[1:])
    sizes = input.shape[:1:-1]  # x, y(, z)
    paddings = (padding_mode,) * len(sizes) if isinstance(padding_mode, str) else padding_mode
    A = -0.75 if cubic_coefficient is None else cubic_coefficient
    A = None if mode == "bspline" else A
    image = input.movedim(1, -1)  # (N, [D,] H, W, C)
    pixels = [
        _coordinates(grid[..., a], size, align_corners, coordinates) for a, size in enumerate(sizes)
    ]
    axes = [
        _axis_taps(u, size, mode, padding, align_corners, A)
        for u, size, padding in zip(pixels, sizes, paddings, strict=True)
    ]
    batch = torch.arange(N, device=grid.device).reshape(N, *[1] * len(sizes))
    out = 0
    for taps in itertools.product(*axes):
        inside = torch.ones_like(grid[..., 0], dtype=torch.bool)
        skipped = ~inside
        weight = torch.ones_like(grid[..., 0])
        where = []
        for (index, axis_weight), size, padding in zip(taps, sizes, paddings, strict=True):
            inside_axis = (index >= 0) & (index < size)
            inside = inside & inside_axis
            if padding != "zeros":
                skipped = skipped | ~inside_axis
            weight = weight * axis_weight
            where.insert(0, index.clamp(0, size - 1))
        weight = torch.where(skipped, 0, weight)[..., None]
        pixel = torch.where(inside[..., None], image[(batch, *where)], fill_value or 0.0)
        out = out + pixel * weight
    if outside_value is not None:
        for u, size in zip(pixels, sizes, strict=True):
            on_image = (u >= -0.5) & (u <= size - 0.5)
            out = torch.where(on_image[..., None], out, outside_value)
    return out.movedim(-1, 1)
