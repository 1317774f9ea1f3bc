"""Grid sampling in plain loops: batch, output position, taps, and NumPy for the channels.

The oracle for what torch.nn.functional.grid_sample cannot check: non-finite and huge coordinates,
half images, mixed types, batch broadcasting, 5-D bicubic. Slow, and short enough to check by eye.

Sampling is separable. Along an axis of length S a grid value x gives taps (i, w, dw): an index, its
weight w(x), and the derivative dw/dx. With T the tap tuples, one tap per axis, inside the image,

    output[c]                =  Σ_T  Π_a w_a                    input[c, i]
    ∂output[c]/∂input[c, i]  =       Π_a w_a
    ∂output[c]/∂grid_a       =  Σ_T  dw_a Π_{b≠a} w_b           input[c, i]

Coordinates are computed in the compute type, operation by operation, so that floors, folds and
clamps fall where the kernels' must; weights and sums are float64.
"""

import itertools
import math

import numpy as np
import torch

CUBIC_A = -0.75


def compute_dtype(*tensors):
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def unnormalize(x, size, align_corners):
    """Grid value -> (pixel coordinate, slope).

    [-1, 1] covers the image between pixel centres if align_corners, else between pixel edges.
    NaN is read as -1 and ±inf as the largest finite value; both are constant in x, hence slope 0.
    """
    real = type(x)
    largest = np.finfo(real).max
    length, border = (size - 1, 0) if align_corners else (size, 1)
    slope = length / 2 if np.isfinite(x) else 0.0
    x = real(-1) if np.isnan(x) else np.clip(x, -largest, largest)
    u = ((x + real(1)) * real(length) - real(border)) / real(2)
    return np.clip(u, -largest, largest), slope


def clip(u, size):
    """Clamp to [0, S-1]: constant, so slope 0, from the border pixels' centres outwards."""
    last = type(u)(size - 1)
    return min(max(u, type(u)(0)), last), float(0 < u < last)


def reflect(u, size, align_corners):
    """Mirror about the border pixels' centres if align_corners, else their outer edges; then clamp.

    The mirrored line is a triangle wave of period 2·span: ascending from low, then descending.
    A remainder is exact in floating point, however far out u lies.
    """
    real = type(u)
    low, span = (real(0), real(size - 1)) if align_corners else (real(-0.5), real(size))
    if span == 0:
        return real(0), 0.0
    position = np.fmod(abs(u - low), 2 * span)
    slope = -1.0 if u < low else 1.0
    if position >= span:
        position = span - (position - span)
        slope = -slope
    u, clip_slope = clip(position + low, size)
    return u, slope * clip_slope


def pad(u, size, padding_mode, align_corners):
    if padding_mode == "border":
        return clip(u, size)
    if padding_mode == "reflection":
        return reflect(u, size, align_corners)
    return u, 1.0


def cubic_weight(d):
    """Keys' convolution kernel with A = -0.75 and its derivative, at a distance d from the tap."""
    a, s, sign = CUBIC_A, abs(d), math.copysign(1.0, d)
    if s <= 1:
        return ((a + 2) * s - (a + 3)) * s * s + 1, sign * (3 * (a + 2) * s - 2 * (a + 3)) * s
    return a * (((s - 5) * s + 8) * s - 4), sign * a * ((3 * s - 10) * s + 8)


def axis_taps(x, size, mode, padding_mode, align_corners):
    """Grid value -> ([(index, weight, dweight/du)] inside the image, du/dx)."""
    u, slope = unnormalize(x, size, align_corners)
    real = type(u)
    if mode == "bicubic":  # the taps are padded, not the coordinate
        base = np.floor(u)
        t = float(u - base)
        taps = [
            (pad(base + real(k), size, padding_mode, align_corners)[0], *cubic_weight(t - k))
            for k in (-1, 0, 1, 2)
        ]
    else:
        u, pad_slope = pad(u, size, padding_mode, align_corners)
        slope *= pad_slope
        if mode == "nearest":
            taps, slope = [(np.rint(u), 1.0, 0.0)], 0.0
        else:
            base = np.floor(u)
            t = float(u - base)
            taps = [(base, 1 - t, -1.0), (base + real(1), t, 1.0)]
    return [(int(i), w, dw) for i, w, dw in taps if 0 <= int(i) < size], slope


def broadcast_batch(input, grid):
    return grid.shape[0] if input.shape[0] == 1 else input.shape[0]


def walk(input, grid, mode, padding_mode, align_corners):
    """Yield (n, n_input, n_grid, position, taps per axis, slope per axis) of every output position.

    The grid's last dimension is x, y(, z), the image's axes are (D, )H, W: hence the reversal.
    """
    sizes = input.shape[2:]
    for n in range(broadcast_batch(input, grid)):
        n_input, n_grid = min(n, input.shape[0] - 1), min(n, grid.shape[0] - 1)
        for position in np.ndindex(*grid.shape[1:-1]):
            point = grid[(n_grid, *position)][::-1]
            axes = [
                axis_taps(x, size, mode, padding_mode, align_corners)
                for x, size in zip(point, sizes, strict=True)
            ]
            yield (
                n,
                n_input,
                n_grid,
                position,
                [taps for taps, _ in axes],
                [slope for _, slope in axes],
            )


def to_numpy(input, grid):
    real = compute_dtype(input, grid)
    return input.detach().double().cpu().numpy(), grid.detach().to(real).cpu().numpy()


@np.errstate(all="ignore")
def grid_sample(input, grid, mode, padding_mode, align_corners):
    """Return the output, in float64."""
    input, grid = to_numpy(input, grid)
    output = np.zeros((broadcast_batch(input, grid), input.shape[1], *grid.shape[1:-1]))
    for n, n_input, _, position, taps, _ in walk(input, grid, mode, padding_mode, align_corners):
        for combination in itertools.product(*taps):
            index, weights, _ = zip(*combination, strict=True)
            output[(n, slice(None), *position)] += (
                math.prod(weights) * input[(n_input, slice(None), *index)]
            )
    return torch.from_numpy(output)


@np.errstate(all="ignore")
def grid_sample_backward(grad_output, input, grid, mode, padding_mode, align_corners):
    """Return (grad_input, grad_grid), in float64."""
    input, grid = to_numpy(input, grid)
    grad_output = grad_output.detach().double().cpu().numpy()
    grad_input, grad_grid = np.zeros(input.shape), np.zeros(grid.shape)
    for n, n_input, n_grid, position, taps, slopes in walk(
        input, grid, mode, padding_mode, align_corners
    ):
        grad = grad_output[(n, slice(None), *position)]
        for combination in itertools.product(*taps):
            index, weights, dweights = zip(*combination, strict=True)
            pixel = (n_input, slice(None), *index)
            grad_input[pixel] += math.prod(weights) * grad
            for axis, slope in enumerate(slopes):
                if slope == 0:  # a constant coordinate: not 0·inf, whatever the pixels
                    continue
                others = math.prod(weights[:axis]) * math.prod(weights[axis + 1 :])
                change = slope * dweights[axis] * others * (grad * input[pixel]).sum()
                grad_grid[(n_grid, *position, -1 - axis)] += change
    return torch.from_numpy(grad_input), torch.from_numpy(grad_grid)
