"""``grid_sample`` and its third derivatives, made of PyTorch's tensor operations.

They serve where there is no kernel. Autograd differentiates what is composed here to any further
order, and ``torch.func`` transforms it. It means what the kernels mean (docs/semantics.md), at a
multiple of their time and memory.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gridsample_ext._compat import known_true
from gridsample_ext._ops import (
    BILINEAR,
    BSPLINE,
    CIRCULAR,
    CUBIC_MODES,
    NEAREST,
    REFLECTION,
    ZEROS,
    Options,
)

_Pair = tuple[Tensor | None, Tensor | None]


def compute_type(*dtypes: torch.dtype) -> torch.dtype:
    """What coordinates and sums are computed in; docs/semantics.md."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _held(whole: int, dtype: torch.dtype, *, above: bool = False) -> int:
    """The largest number of a type that is not above a whole one; or the least not below it."""
    digits = 53 if dtype == torch.float64 else 24
    if not known_true(whole > 2**digits):
        return whole
    step = 1 << (int(whole).bit_length() - digits)
    steps = -(-int(whole) // step) if above else int(whole) // step
    return steps * step


class _Tap(NamedTuple):
    """A tap of one axis, for every sample."""

    position: Tensor  # whole pixels, outside the image too
    weights: tuple[Tensor, Tensor, Tensor, Tensor]  # w and its first three derivatives


class _Axis(NamedTuple):
    taps: list[_Tap]
    slope: Tensor  # of the coordinate by the grid value
    on_image: Tensor  # whether the coordinate lies on a pixel
    is_filled: bool  # taps outside read the fill value


def _reflect(u: Tensor, slope: Tensor, size: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    low, extent = (0.0, size - 1) if align_corners else (-0.5, size)
    if extent == 0:
        return torch.zeros_like(u), torch.zeros_like(slope)
    rest = (u - low).abs().remainder(2 * extent)
    turned = rest >= extent
    slope = torch.where(turned != (u < low), -slope, slope)
    return low + torch.where(turned, extent - (rest - extent), rest), slope


def _wrap(u: Tensor, slope: Tensor, size: int) -> tuple[Tensor, Tensor]:
    if size == 1:
        return torch.zeros_like(u), torch.zeros_like(slope)
    period = _held(size, u.dtype, above=True)
    rest = u.remainder(period)
    return torch.where(rest < period, rest, 0), slope


def _pad(
    u: Tensor, slope: Tensor, size: int, padding: int, align_corners: bool
) -> tuple[Tensor, Tensor]:
    if padding == CIRCULAR:
        return _wrap(u, slope, size)
    if padding == REFLECTION:
        u, slope = _reflect(u, slope, size, align_corners)
    if padding != ZEROS:
        last = _held(size - 1, u.dtype)
        slope = torch.where((u > 0) & (u < last), slope, 0)
        u = u.clamp(0, last)
    return u, slope


def _cubic_weights(t: Tensor, options: Options) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    A = options.cubic_coefficient
    is_spline = options.interpolation_mode == BSPLINE
    s = 1 - t
    one = torch.ones_like(t)

    def far(t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if is_spline:
            return s * s * s / 6, -s * s / 2, s, -one
        return A * t * s * s, A * s * (1 - 3 * t), A * (6 * t - 4), 6 * A * one

    def near(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if is_spline:
            return (0.5 * t - 1) * t * t + 2 / 3, (1.5 * t - 2) * t, 3 * t - 2, 3 * one
        return (
            ((A + 2) * t - (A + 3)) * t * t + 1,
            (3 * (A + 2) * t - 2 * (A + 3)) * t,
            6 * (A + 2) * t - 2 * (A + 3),
            6 * (A + 2) * one,
        )

    def mirrored(weights: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w, first, second, third = weights
        return w, -first, second, -third

    return [far(t, s), near(t), mirrored(near(s)), mirrored(far(s, t))]


def coordinates(values: Tensor, size: int, options: Options) -> tuple[Tensor, Tensor]:
    """Pixel coordinates along an axis of ``size`` pixels, and their slopes, without derivatives."""
    limits = torch.finfo(values.dtype)
    x = values.detach()
    if options.pixel_coordinates:
        scale = 1.0
        u = x.nan_to_num(0.0 if options.align_corners else -0.5, limits.max, limits.min)
    else:
        # The kernels' order of operations, for their bits.
        scale = (size - 1 if options.align_corners else size) / 2
        finite = x.nan_to_num(-1.0, limits.max, limits.min)
        u = (finite + 1) * scale - (0.0 if options.align_corners else 0.5)
        u = u.clamp(limits.min, limits.max)
    return u, x.isfinite().to(x.dtype) * scale


def _is_on_image(u: Tensor, size: int) -> Tensor:
    """Whether pixel coordinates lie on a pixel of an axis."""
    return (u >= -0.5) & (u - _held(size - 1, u.dtype) <= 0.5)


def _axis(values: Tensor, size: int, padding: int, options: Options) -> _Axis:
    mode, align_corners = options.interpolation_mode, options.align_corners
    x = values.detach()
    u, slope = coordinates(values, size, options)
    on_image = _is_on_image(u, size)
    is_filled = padding == ZEROS
    if mode == NEAREST:
        if padding == CIRCULAR:
            u = u.round()
        u, _ = _pad(u, slope, size, padding, align_corners)
        # The weight does not change with the coordinate: its derivative is 0, but not missing.
        one, zero = torch.where(torch.ones_like(on_image), 1, values), torch.zeros_like(u)
        return _Axis([_Tap(u.round(), (one, zero, zero, zero))], zero, on_image, is_filled)
    if mode not in CUBIC_MODES or padding == CIRCULAR:
        u, slope = _pad(u, slope, size, padding, align_corners)
    floor = u.floor()
    # The derivative of the coordinate is the slope, and exactly 0 where that is.
    t = torch.where(slope != 0, u - floor + slope * (values - x), u - floor)
    if mode == BILINEAR:
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        next_one = floor + 1
        if padding == CIRCULAR:
            last = _held(size - 1, u.dtype)
            floor, next_one = (torch.where(at > last, 0, at) for at in (floor, next_one))
        taps = [_Tap(floor, (1 - t, -one, zero, zero)), _Tap(next_one, (t, one, zero, zero))]
        return _Axis(taps, slope, on_image, is_filled)
    # Far outside reflection may leave a fraction.
    positions = [
        _pad(floor + k, slope, size, padding, align_corners)[0].floor() for k in (-1, 0, 1, 2)
    ]
    weights = _cubic_weights(t, options)
    taps = [_Tap(*each) for each in zip(positions, weights, strict=True)]
    return _Axis(taps, slope, on_image, is_filled)


class _Jet(NamedTuple):
    """A weight w, its derivatives along two directions, and the second one along both."""

    w: Tensor
    one: Tensor
    two: Tensor
    both: Tensor

    def times(self, other: "_Jet") -> "_Jet":
        """Apply the product rule."""
        return _Jet(
            self.w * other.w,
            self.one * other.w + self.w * other.one,
            self.two * other.w + self.w * other.two,
            self.both * other.w + self.one * other.two + self.two * other.one + self.w * other.both,
        )


def _product(jets: list[_Jet]) -> _Jet:
    result = jets[0]
    for jet in jets[1:]:
        result = result.times(jet)
    return result


class _Samples:
    """What is composed for every sample: its taps, and how their pixels are found."""

    def __init__(self, input: Tensor, grid: Tensor, options: Options) -> None:
        self.dtype = compute_type(input.dtype, grid.dtype)
        self.sizes = input.shape[:1:-1]  # x, y(, z)
        self.options = options
        positions = grid.to(self.dtype)
        self.like = positions[..., 0]
        paddings = options.paddings(len(self.sizes))
        self.axes = [
            _axis(positions[..., a], size, padding, options)
            for a, (size, padding) in enumerate(zip(self.sizes, paddings, strict=True))
        ]
        self.N = grid.shape[0] if input.shape[0] == 1 else input.shape[0]
        # Broadcast against (N, [D_out,] H_out, W_out).
        images = torch.arange(input.shape[0], device=grid.device)
        self.batch = images.reshape(-1, *[1] * len(self.sizes))
        # Samples without a tap inside have one value, and no derivatives.
        self.alive = torch.ones_like(self.like, dtype=torch.bool)
        self.on_image = self.alive
        for axis, size in zip(self.axes, self.sizes, strict=True):
            inside = [_is_inside(tap, size) for tap in axis.taps]
            self.alive = self.alive & torch.stack(inside).any(0)
            if options.outside_value is not None:
                self.on_image = self.on_image & axis.on_image
        self.alive = self.alive & self.on_image

    def pixels_last(self, image: Tensor) -> Tensor:
        """(N, [D,] H, W, C), in the compute type."""
        return image.to(self.dtype).movedim(1, -1)

    def taps(self) -> Iterator[tuple[tuple[_Tap, ...], Tensor, Tensor, tuple[Tensor, ...]]]:
        """Each combination of taps, (x, y(, z)).

        With it come where it is inside, where it reads the fill value, and the index of its pixel.
        """
        # In the order of the kernels: x within y within z.
        for reversed_taps in itertools.product(*(axis.taps for axis in reversed(self.axes))):
            taps = reversed_taps[::-1]
            inside = self.alive
            filled = self.alive if self.options.fill_value != 0 else torch.zeros_like(self.alive)
            where: list[Tensor] = []
            for tap, axis, size in zip(taps, self.axes, self.sizes, strict=True):
                inside_axis = _is_inside(tap, size)
                inside = inside & inside_axis
                if not axis.is_filled:
                    filled = filled & inside_axis
                where.insert(0, tap.position.clamp(0, _held(size - 1, self.dtype)).long())
            filled = filled & ~inside
            yield taps, inside[..., None], filled[..., None], (self.batch, *where)


def on_image(positions: Tensor, sizes: Sequence[int], options: Options) -> Tensor:
    """Whether samples lie on a pixel of an image of ``sizes``, x, y(, z)."""
    result = torch.ones_like(positions[..., 0], dtype=torch.bool)
    for a, size in enumerate(sizes):
        result = result & _is_on_image(coordinates(positions[..., a], size, options)[0], size)
    return result


def sample_labels(
    labels: Tensor,
    grid: Tensor,
    options: Options,
    fill_value: int | None,
    outside_value: int | None,
) -> Tensor:
    """Sample as the op does. ``options.fill_value`` is 0 if taps outside count for no label."""
    samples = _Samples(labels, grid, options)
    dtype = labels.dtype
    if dtype in (torch.uint16, torch.uint32, torch.uint64):  # which PyTorch does not compare
        turned = 2**63 if dtype == torch.uint64 else 0
        labels = labels.view(torch.int64) ^ -turned if turned else labels.long()
        fill_value = (fill_value or 0) - turned
        outside_value = None if outside_value is None else outside_value - turned
        result = sample_labels(labels, grid, options, fill_value, outside_value)
        return (result ^ -turned).view(dtype) if turned else result.to(dtype)
    image = labels.movedim(1, -1)
    fill = image.new_full((), fill_value or 0)
    votes: list[tuple[Tensor, Tensor]] = []
    for taps, inside, filled, index in samples.taps():
        weight = torch.where(inside | filled, _weight(taps), 0)
        votes.append((torch.where(inside, image[index], fill), weight))
    best = fill.expand(samples.N, *grid.shape[1:-1], labels.shape[1])
    most = torch.zeros_like(best, dtype=samples.dtype)
    for label, _ in votes:
        total = sum(torch.where(label == other, weight, 0) for other, weight in votes)
        wins = (total > most) | ((total == most) & (most > 0) & (label < best))
        best, most = torch.where(wins, label, best), torch.where(wins, total, most)
    if outside_value is not None:
        best = torch.where(samples.on_image[..., None], best, image.new_full((), outside_value))
    return best.movedim(-1, 1).contiguous()


def _weight(taps: Sequence[_Tap]) -> Tensor:
    """Of a combination of taps, for all channels: (N, [D_out,] H_out, W_out, 1)."""
    product = taps[0].weights[0]
    for tap in taps[1:]:
        product = product * tap.weights[0]
    return product[..., None]


def _is_inside(tap: _Tap, size: int) -> Tensor:
    return (tap.position >= 0) & (tap.position <= _held(size - 1, tap.position.dtype))


def grid_sample(input: Tensor, grid: Tensor, options: Options) -> Tensor:
    """Sample as the op does, batches of 1 included."""
    samples = _Samples(input, grid, options)
    if options.interpolation_mode == NEAREST:
        return _copy_nearest(samples, input)
    image = samples.pixels_last(input)
    output = image.new_zeros((samples.N, *grid.shape[1:-1], input.shape[1]))
    for taps, inside, filled, index in samples.taps():
        weight = _weight(taps)
        # Selected before and after: an infinite pixel outside reaches neither result nor gradient.
        pixel = torch.where(inside, image[index], 0)
        output = output + torch.where(inside, pixel * weight, 0)
        if options.fill_value != 0:
            fill = torch.where(filled, weight.new_full((), options.fill_value), 0)
            output = output + torch.where(filled, fill * weight, 0)
    if options.fill_value != 0:
        output = torch.where(samples.alive[..., None], output, options.fill_value)
    if options.outside_value is not None:
        output = torch.where(samples.on_image[..., None], output, options.outside_value)
    return output.movedim(-1, 1).to(input.dtype).clone(memory_format=torch.contiguous_format)


def splat(values: Tensor, image: Tensor, grid: Tensor, options: Options) -> Tensor:
    """Add ``values``, whose batch is whole, into zeros of the sizes of ``image``."""
    samples = _Samples(image, grid, options)
    added_to = torch.zeros_like(samples.pixels_last(image))
    rows = samples.pixels_last(values)
    for taps, inside, _, index in samples.taps():
        added = torch.where(inside, rows * _weight(taps), 0)
        added_to = added_to.index_put(index, added, accumulate=True)
    return added_to.movedim(-1, 1).to(values.dtype).clone(memory_format=torch.contiguous_format)


def spline_filter(
    image: Tensor, padding_mode: int, align_corners: bool, transposed: bool
) -> Tensor:
    """Filter as the op does, by the inverse matrix of each axis: of more than O(pixels)."""
    dtype = compute_type(image.dtype)
    options = Options(BSPLINE, padding_mode, align_corners)
    result = image.to(dtype)
    for a, padding in enumerate(options.paddings(image.dim() - 2)):
        axis = image.dim() - 1 - a
        size = image.shape[axis]
        # In float64, which not every device has.
        pixels = torch.arange(size, dtype=torch.float64)
        matrix = torch.zeros((size, size), dtype=torch.float64)
        for k, weight in ((-1, 1 / 6), (0, 2 / 3), (1, 1 / 6)):
            taps, _ = _pad(pixels + k, torch.ones_like(pixels), size, padding, align_corners)
            matrix = matrix + weight * (taps[:, None] == pixels).to(pixels.dtype)
        inverse = torch.linalg.inv(matrix if transposed else matrix.mT).to(image.device, dtype)
        result = (result.movedim(axis, -1) @ inverse).movedim(-1, axis)
    return result.to(image.dtype).clone(memory_format=torch.contiguous_format)


def _copy_nearest(samples: _Samples, input: Tensor) -> Tensor:
    """Pixels as they are, of any dtype."""
    options = samples.options
    ((taps, inside, _, index),) = samples.taps()
    image = input.movedim(1, -1)
    output = torch.where(inside, image[index], image.new_full((), options.fill_value))
    if input.is_floating_point():  # the gradient by the grid is 0, but not missing
        output = torch.where(torch.ones_like(inside), output, _weight(taps).to(input.dtype))
    if options.outside_value is not None:
        outside = image.new_full((), options.outside_value)
        output = torch.where(samples.on_image[..., None], output, outside)
    return output.movedim(-1, 1).clone(memory_format=torch.contiguous_format)


def _steps(axes: list[_Axis], direction: Tensor | None, like: Tensor) -> list[Tensor]:
    """How fast the coordinates of each axis move along a direction for the grid."""
    if direction is None:
        return [torch.zeros_like(like)] * len(axes)
    direction = direction.to(like.dtype)
    return [
        torch.where(axis.slope != 0, axis.slope * direction[..., a], 0)
        for a, axis in enumerate(axes)
    ]


def triple_backward(
    along: _Pair,
    and_along: _Pair,
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    options: Options,
    *,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients by grad_output, input and grid of ``<and_along, double_backward(along, ...)>``.

    A gradient that ``output_mask`` does not ask for is None.

    Both directions are (U, V), of input and of grid; None stands for zero. With W the weight of a
    tap, W_i its derivative along V_i and W_12 that along both, they are the gradients of

        sum over samples, channels and taps of grad_output * (W_12 input + W_1 U_2 + W_2 U_1)

    Because derivatives commute, the first is the second derivative of the output along both
    directions, and the others are the derivative of ``double_backward(along, ...)`` along
    ``and_along``.
    """
    samples = _Samples(input, grid, options)
    axes = samples.axes
    images = [
        None if image is None else samples.pixels_last(image)
        for image in (input, along[0], and_along[0])
    ]
    g = samples.pixels_last(grad_output)
    one, two = (_steps(axes, direction[1], samples.like) for direction in (along, and_along))
    # Every term has a slope as a factor: where none is other than 0, all is exactly 0.
    moving = torch.zeros_like(samples.like, dtype=torch.bool)
    for axis in axes:
        moving = moving | (axis.slope != 0)
    fills = options.fill_value != 0

    def jet(a: int, tap: _Tap, order: int) -> _Jet:
        """Of the weight or, of order 1, of its derivative."""
        w, first, second = tap.weights[order : order + 3]
        return _Jet(w, one[a] * first, two[a] * first, one[a] * two[a] * second)

    def weighted(jet: _Jet, pixels: list[Tensor | None], inside: Tensor) -> Tensor:
        factors = jet.both, jet.two, jet.one
        terms = [
            pixel * factor[..., None]
            for pixel, factor in zip(pixels, factors, strict=True)
            if pixel is not None
        ]
        return torch.where(inside, sum(terms[1:], terms[0]), 0)

    by_output = torch.zeros_like(g)
    by_image = torch.zeros_like(samples.pixels_last(input))
    by_axis = [torch.zeros_like(g[..., 0]) for _ in axes]
    for taps, seen, filled, index in samples.taps():
        inside = seen & moving[..., None]
        # Selected before and after the product: an infinite pixel outside reaches no derivative.
        pixels = [None if of is None else torch.where(inside, of[index], 0) for of in images]
        read = inside
        if fills and pixels[0] is not None:
            filled = filled & moving[..., None]
            pixels[0] = torch.where(filled, options.fill_value, pixels[0])
            read = inside | filled
        jets = [jet(a, tap, 0) for a, tap in enumerate(taps)]
        whole = _product(jets)
        if output_mask[0]:
            by_output = by_output + weighted(whole, pixels, read)
        if output_mask[1]:
            added = torch.where(inside, g * whole.both[..., None], 0)
            by_image = by_image.index_put(index, added, accumulate=True)
        for d, tap in enumerate(taps if output_mask[2] else ()):
            derived = _product([*jets[:d], jet(d, tap, 1), *jets[d + 1 :]])
            by_axis[d] = by_axis[d] + (g * weighted(derived, pixels, read)).sum(-1)
    by_grid = torch.stack(
        [
            torch.where(axis.slope != 0, axis.slope * gradient, 0)
            for axis, gradient in zip(axes, by_axis, strict=True)
        ],
        -1,
    )
    if grid.shape[0] != samples.N:
        by_grid = by_grid.sum(0, keepdim=True)
    return (
        by_output.movedim(-1, 1).to(grad_output.dtype) if output_mask[0] else None,
        by_image.movedim(-1, 1).to(input.dtype) if output_mask[1] else None,
        by_grid.to(grid.dtype) if output_mask[2] else None,
    )
