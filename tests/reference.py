"""Grid sampling in plain loops: batch, output position, taps, and NumPy for the channels.

The oracle for what torch.nn.functional.grid_sample cannot check: non-finite and huge coordinates,
half images, mixed types, batch broadcasting, 5-D bicubic, B-splines. Slow, and short enough to
check by eye.

Sampling is separable. Along an axis of length S a grid value x gives taps (i, w, dw): an index, its
weight w(x), and the derivative dw/dx. With T the tap tuples, one tap per axis, inside the image,

    output[c]                =  Σ_T  Π_a w_a                    input[c, i]
    ∂output[c]/∂input[c, i]  =       Π_a w_a
    ∂output[c]/∂grid_a       =  Σ_T  dw_a Π_{b≠a} w_b           input[c, i]

A tap outside on an axis padded with zeros reads the fill value, as if it were a pixel; without a
fill value, and on other axes, where it has the weight 0, it is skipped. A sample that has no tap
inside, or that the outside value excludes, has that value and no gradients.

Coordinates are computed in the compute type, operation by operation, so that floors, folds and
clamps fall where the kernels' must; weights and sums are float64.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch


class Options(NamedTuple):
    """What follows (input, grid); padding_mode: one for all axes, or one for each, x, y(, z)."""

    mode: str
    padding_mode: str | tuple
    align_corners: bool
    coordinates: str = "normalized"
    fill_value: float | None = None
    outside_value: float | None = None
    cubic_coefficient: float | None = None


class Axis(NamedTuple):
    """Of one sample."""

    taps: list  # (index, weight, dweight/du); the index is None where the fill value is read
    slope: float  # du/dx
    has_tap_inside: bool
    is_on_image: bool


def compute_dtype(*tensors):
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def unnormalize(x, size, options):
    """Grid value -> (pixel coordinate, slope).

    [-1, 1] covers the image between pixel centres if align_corners, else between pixel edges.
    NaN is read as -1 and ±inf as the largest finite value; both are constant in x, hence slope 0.
    Pixel coordinates are what they are, but that NaN is read as what -1 gives otherwise.
    """
    real = type(x)
    largest = np.finfo(real).max
    length, border = (size - 1, 0) if options.align_corners else (size, 1)
    is_nan, is_finite = np.isnan(x), np.isfinite(x)
    if options.coordinates == "pixel":
        u, slope = real(-border / 2) if is_nan else x, 1.0
    else:
        x = real(-1) if is_nan else np.clip(x, -largest, largest)
        # Halved before the product, which overflows farther out for it: docs/semantics.md.
        u, slope = (x + real(1)) * real(length / 2) - real(border / 2), length / 2
    return np.clip(u, -largest, largest), slope if is_finite else 0.0


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


def wrap(u, size):
    """Reduce modulo S, exactly and then rounded once: to S itself, a little below 0, which is 0."""
    rest = np.fmod(u, type(u)(size))
    if rest < 0:
        rest += type(u)(size)
    return (rest, 1.0) if rest < size and size > 1 else (type(u)(0), float(size > 1))


def pad(u, size, padding_mode, align_corners):
    if padding_mode == "border":
        return clip(u, size)
    if padding_mode == "reflection":
        return reflect(u, size, align_corners)
    if padding_mode == "circular":
        return wrap(u, size)
    return u, 1.0


def cubic_weight(d, options):
    """Keys' convolution kernel or the B-spline, and its derivative, at a distance d from the tap.

    The B-spline is ((2 - s)_+^3 - 4 (1 - s)_+^3) / 6.
    """
    s, sign = abs(d), math.copysign(1.0, d)
    if options.mode == "bspline":
        outer, inner = max(2 - s, 0.0), max(1 - s, 0.0)
        return (outer**3 - 4 * inner**3) / 6, sign * (4 * inner**2 - outer**2) / 2
    a = -0.75 if options.cubic_coefficient is None else options.cubic_coefficient
    if s <= 1:
        return ((a + 2) * s - (a + 3)) * s * s + 1, sign * (3 * (a + 2) * s - 2 * (a + 3)) * s
    return a * (((s - 5) * s + 8) * s - 4), sign * a * ((3 * s - 10) * s + 8)


def axis_of(x, size, padding_mode, options):
    """What a grid value comes to along an axis."""
    mode, align_corners = options.mode, options.align_corners
    circular = padding_mode == "circular"
    u, slope = unnormalize(x, size, options)
    real = type(u)
    is_on_image = bool(real(-0.5) <= u <= real(size - 0.5))
    cubic = mode in ("bicubic", "bspline")
    if mode == "nearest":
        u = pad(np.rint(u) if circular else u, size, padding_mode, align_corners)[0]
        taps, slope = [(np.rint(u), 1.0, 0.0)], 0.0
    elif cubic and not circular:  # the taps are padded, not the coordinate
        base = np.floor(u)
        t = float(u - base)
        taps = [
            (
                pad(base + real(k), size, padding_mode, align_corners)[0],
                *cubic_weight(t - k, options),
            )
            for k in (-1, 0, 1, 2)
        ]
    else:
        u, pad_slope = pad(u, size, padding_mode, align_corners)
        slope *= pad_slope
        base = np.floor(u)
        t = float(u - base)
        if cubic:
            taps = [(base + real(k), *cubic_weight(t - k, options)) for k in (-1, 0, 1, 2)]
        else:
            taps = [(base, 1 - t, -1.0), (base + real(1), t, 1.0)]
        if circular:
            taps = [(i % size, w, dw) for i, w, dw in taps]
    taps = [(int(i), w, dw) for i, w, dw in taps]
    inside = [tap for tap in taps if 0 <= tap[0] < size]
    if padding_mode == "zeros" and options.fill_value:
        taps = [tap if tap in inside else (None, *tap[1:]) for tap in taps]
    else:
        taps = inside
    return Axis(taps, slope, bool(inside), is_on_image)


def broadcast_batch(input, grid):
    return grid.shape[0] if input.shape[0] == 1 else input.shape[0]


def walk(input, grid, options):
    """Yield (n, n_input, n_grid, position, axes) of every output position.

    The grid's last dimension is x, y(, z), the image's axes are (D, )H, W: hence the reversal.
    """
    sizes = input.shape[2:]
    paddings = options.padding_mode
    if isinstance(paddings, str):
        paddings = (paddings,) * len(sizes)
    for n in range(broadcast_batch(input, grid)):
        n_input, n_grid = min(n, input.shape[0] - 1), min(n, grid.shape[0] - 1)
        for position in np.ndindex(*grid.shape[1:-1]):
            point = grid[(n_grid, *position)][::-1]
            axes = [
                axis_of(x, size, padding, options)
                for x, size, padding in zip(point, sizes, paddings[::-1], strict=True)
            ]
            yield n, n_input, n_grid, position, axes


def value_without_taps(axes, options):
    """What a sample is whose pixels do not matter, or None if they do."""
    if options.outside_value is not None and not all(axis.is_on_image for axis in axes):
        return options.outside_value
    if not all(axis.has_tap_inside for axis in axes):
        return options.fill_value or 0.0
    return None


def pixel_of(input, n, index, options):
    """The channels that a tap reads."""
    if None in index:
        return np.full(input.shape[1], options.fill_value)
    return input[(n, slice(None), *index)]


def to_numpy(input, grid):
    real = compute_dtype(input, grid)
    return input.detach().double().cpu().numpy(), grid.detach().to(real).cpu().numpy()


@np.errstate(all="ignore")
def grid_sample(input, grid, *arguments, **later):
    """Return the output, in float64."""
    options = Options(*arguments, **later)
    input, grid = to_numpy(input, grid)
    output = np.zeros((broadcast_batch(input, grid), input.shape[1], *grid.shape[1:-1]))
    for n, n_input, _, position, axes in walk(input, grid, options):
        sample = output[(n, slice(None), *position)]
        value = value_without_taps(axes, options)
        if value is not None:
            sample[:] = value
            continue
        for combination in itertools.product(*(axis.taps for axis in axes)):
            index, weights, _ = zip(*combination, strict=True)
            sample += math.prod(weights) * pixel_of(input, n_input, index, options)
    return torch.from_numpy(output)


@np.errstate(all="ignore")
def grid_sample_backward(grad_output, input, grid, *arguments, **later):
    """Return (grad_input, grad_grid), in float64."""
    options = Options(*arguments, **later)
    input, grid = to_numpy(input, grid)
    grad_output = grad_output.detach().double().cpu().numpy()
    grad_input, grad_grid = np.zeros(input.shape), np.zeros(grid.shape)
    for n, n_input, n_grid, position, axes in walk(input, grid, options):
        if value_without_taps(axes, options) is not None:
            continue
        grad = grad_output[(n, slice(None), *position)]
        for combination in itertools.product(*(axis.taps for axis in axes)):
            index, weights, dweights = zip(*combination, strict=True)
            if None not in index:
                grad_input[(n_input, slice(None), *index)] += math.prod(weights) * grad
            pixel = pixel_of(input, n_input, index, options)
            for a, axis in enumerate(axes):
                if axis.slope == 0:  # a constant coordinate: not 0·inf, whatever the pixels
                    continue
                others = math.prod(weights[:a]) * math.prod(weights[a + 1 :])
                change = axis.slope * dweights[a] * others * (grad * pixel).sum()
                grad_grid[(n_grid, *position, -1 - a)] += change
    return torch.from_numpy(grad_input), torch.from_numpy(grad_grid)
