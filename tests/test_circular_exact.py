"""Circular padding is exact however far out: u and u + k S are the same sample, bit for bit."""

import itertools
import math
from fractions import Fraction

import agreement
import boundaries
import pytest
import reference
import samples
import torch

from gridsample_ext import grid_sample

DTYPES = (torch.float32, torch.float64)
MODES = ("bilinear", "bicubic", "nearest")
SIZES = [(3, 5, 7), (1, 6, 33), (2, 4, 640)]
CIRCULAR = boundaries.of_padding("circular")
# Of two float types in pixels: where halves, ones and twos are no longer held, and far beyond.
EDGES = {
    torch.float32: [22, 23, 24, 25, 30, 40, 60, 100, 127],
    torch.float64: [22, 23, 24, 50, 51, 52, 53, 54, 60, 300, 1023],
}


def results(case, input, grid):
    output = grid_sample(input, grid, *case.options, **case.keywords)
    grad_output = torch.ones_like(output)
    _, grad_grid = agreement.backward(case, grad_output, input, grid, [False, True])
    return output, grad_grid


def assert_same_samples(case, input, grid, other):
    """Bit for bit, in calls of many samples and of one kind of distance."""
    for actual, expected in zip(
        results(case, input, other), results(case, input, grid), strict=True
    ):
        samples.assert_bitwise_equal(actual, expected)


def pairs(size, dtype, places=60):
    """(u, u + k size) that the type holds both exactly, for k of all magnitudes; no ties."""
    draw = samples.generator(size)
    bits = torch.finfo(dtype).eps
    for exponent in range(0, int(-math.log2(bits)) + 3):
        for sign in (1, -1):
            k = sign * int(torch.randint(2**exponent, 2 ** (exponent + 1), (), generator=draw))
            # Multiples of what the type holds next to k size, in the image.
            step = 2.0 ** math.ceil(math.log2(size * (abs(k) + 1) * bits))
            u = torch.randint(0, max(int(size / step), 1), (places,), generator=draw) * step
            u = u.to(torch.float64)
            exact = [int(k) * size + x for x in u.tolist()]
            near, far = u.to(dtype), torch.tensor(exact, dtype=torch.float64).to(dtype)
            held = [
                float(a) == x and Fraction(float(b)) - Fraction(x) == k * size
                for a, b, x in zip(near, far, u.tolist(), strict=True)
            ]
            held = torch.tensor(held) & ((2 * near) % 2 != 1)
            if held.any():
                yield near[held], far[held]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_periodic(dims, dtype, mode, channels, layout, device):
    case = boundaries.Case(dims, mode, "circular", False, coordinates="pixel")
    for size in (1, 2, 3, 5, 7, 64, 640):
        near, far = (torch.cat(side) for side in zip(*pairs(size, dtype), strict=True))
        assert len(near) > 500
        input = samples.randn(1, channels, *[3] * (dims - 1), size, dtype=dtype, device=device)
        input = samples.INPUT_LAYOUTS[layout](input)
        rest = [torch.ones_like(near)] * (dims - 1)
        grids = [
            samples.in_a_row(torch.stack([side, *rest], -1), device, dtype) for side in (near, far)
        ]
        assert_same_samples(case, input, *grids)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_periodic_sample_by_sample(dtype, mode, device):
    """Calls of one sample each, whose distance decides for no other."""
    case = boundaries.Case(2, mode, "circular", True, coordinates="pixel")
    input = samples.randn(1, 2, 3, 7, dtype=dtype, device=device)
    for near, far in pairs(7, dtype, places=2):
        grids = [
            samples.in_a_row(torch.stack([side[0], torch.tensor(1.0)])[None], device, dtype)
            for side in (near, far)
        ]
        assert_same_samples(case, input, *grids)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", boundaries.of_padding("circular", coordinates="pixel"), ids=str)
def test_where_the_type_holds_no_fractions(case, dtype, size, device):
    """Next to powers of two, and at the largest numbers."""
    values = [
        sign * math.nextafter(2.0**exponent, end) if dtype == torch.float64
        else sign * (2.0**exponent + (end and math.copysign(2.0 ** (exponent - 24), end)))
        for exponent in EDGES[dtype]
        for sign, end in itertools.product((1, -1), (0.0, math.inf, -math.inf))
        if math.isfinite(end) or dtype == torch.float64
    ] + [sign * torch.finfo(dtype).max for sign in (1, -1)]  # fmt: skip
    rows = torch.tensor([[x, values[-i], values[i // 2]] for i, x in enumerate(values)])
    rows = rows.double()[:, : case.dims]
    input = samples.randn(1, 2, *size[-case.dims :], dtype=dtype, device=device)
    agreement.assert_matches_reference(case, input, samples.in_a_row(rows, device, dtype))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CIRCULAR, ids=str)
def test_far_out(case, dtype, size, device):
    """At many powers of ten, in sizes where an inexact remainder goes astray."""
    values = [sign * 1.2345678 * 10.0**k for k in range(0, 39, 3) for sign in (1, -1)]
    rows = [[x, values[-i], values[i // 2]][: case.dims] for i, x in enumerate(values)]
    grid = samples.in_a_row(torch.tensor(rows), device, dtype)
    input = samples.randn(1, 2, *size[-case.dims :], dtype=dtype, device=device)
    agreement.assert_matches_reference(case, input, grid)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CIRCULAR, ids=str)
def test_depends_on_no_other_sample(case, dtype, size, layout, device):
    """How samples are reduced may be decided for several of them: by the one farthest out."""
    size = size[-case.dims :]
    input = samples.randn(1, 3, *size, dtype=dtype, device=device)
    input = samples.INPUT_LAYOUTS[layout](input)
    once = 5.9 * torch.rand(60, case.dims, generator=samples.generator(4)).double() - 2.95
    ends = torch.tensor([-3.0, -1.0, 1.0, 3.0], dtype=dtype)
    beside = [torch.nextafter(ends, torch.tensor(end, dtype=dtype)) for end in (-9.0, 9.0)]
    once[:12] = torch.cat([ends, *beside]).double()[:, None]
    found = []
    for value in (0.0, 3.5, -5.5, 1e3, 1e8, -1e30):
        rows = torch.cat([once, torch.full((1, case.dims), value, dtype=torch.float64)])
        output, grad_grid = results(case, input, samples.in_a_row(rows, device, dtype))
        found.append((output[..., :60].contiguous(), grad_grid[..., :60, :].contiguous()))
    for output, grad_grid in found[1:]:
        samples.assert_bitwise_equal(output, found[0][0])
        samples.assert_bitwise_equal(grad_grid, found[0][1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CIRCULAR, ids=str)
def test_a_little_before_the_first_pixel(case, dtype, device):
    """A remainder that is rounded to the period stands for 0."""
    tiny = torch.finfo(dtype).tiny
    case = boundaries.Case(**vars(case) | {"coordinates": "pixel"})
    rows = torch.tensor([-tiny, -tiny / 4, tiny / 4, -1e-12, -0.0]).double()
    grid = samples.in_a_row(rows[:, None].expand(-1, case.dims), device, dtype)
    for size in (1, 2, 3, 7):
        input = samples.randn(1, 2, *[size] * case.dims, dtype=dtype, device=device)
        agreement.assert_matches_reference(case, input, grid)


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("case", CIRCULAR, ids=str)
def test_one_pixel(case, channels, device):
    """Is everywhere, and nothing changes along such an axis."""
    input = samples.randn(1, channels, *[1] * case.dims, device=device)
    grid = boundaries.points([-7.3, -1.0, 0.0, 0.4, 1e30, math.nan, math.inf], case, device)
    output, grad_grid = results(case, input, grid)
    samples.assert_close(output, input.reshape(1, channels, *[1] * case.dims).expand_as(output))
    assert grad_grid.eq(0).all()


def test_nearest_rounds_half_to_even_then_reduces():
    image = torch.arange(5.0).reshape(1, 1, 1, 5)
    x = torch.tensor([-0.5, 0.5, 1.5, 4.5, 5.5, -1.5, 9.5, 1e7 + 0.5])
    grid = torch.stack([x, torch.zeros(8)], -1)[None, None]
    output = grid_sample(image, grid, "nearest", "circular", coordinates="pixel")
    expected = [float(int(v) % 5) for v in x.round().tolist()]
    assert output.flatten().tolist() == expected
    assert output[0, 0, 0, 3] == 4.0
    assert torch.equal(
        output, reference.grid_sample(image, grid, "nearest", "circular", False, "pixel").float()
    )
