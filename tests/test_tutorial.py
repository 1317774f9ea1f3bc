"""The two examples of a well-known tutorial, which re-implements grid_sample in four nested loops.

A 1x1x4x4 image of 0 ... 15 under a 2x2 grid, once in range and once with the point (-1.2, 1.3). The
expected values are worked out by hand: the image is v(y, x) = 4y + x, which bilinear interpolation
reproduces wherever all taps are inside.
"""

import pytest
import samples
import torch

from gridsample_ext import grid_sample

IN_RANGE = [[(-0.5, -0.5), (0.5, -0.5)], [(-0.25, 0.75), (0.9, 0.1)]]
OUT_OF_RANGE = [[(-0.5, -0.5), (0.5, -0.5)], [(-1.2, 1.3), (0.9, 0.1)]]


def run(points, dtype, align_corners, device):
    input = torch.arange(16, dtype=dtype, device=device).reshape(1, 1, 4, 4)
    grid = torch.tensor([points], dtype=dtype, device=device)
    return grid_sample(input, grid, "bilinear", "zeros", align_corners)


def assert_values(output, expected):
    samples.assert_close(output, torch.tensor(expected, dtype=torch.float64).reshape(1, 1, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_in_range_corners(dtype, device):
    """Corners to corners: x = 1.5 (grid + 1), and all taps are inside.

    (-0.5, -0.5)  -> (0.75, 0.75)    v = 3.75
    (0.5, -0.5)   -> (2.25, 0.75)    v = 5.25
    (-0.25, 0.75) -> (1.125, 2.625)  v = 11.625
    (0.9, 0.1)    -> (2.85, 1.65)    v = 9.45
    """
    assert_values(run(IN_RANGE, dtype, True, device), [3.75, 5.25, 11.625, 9.45])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_in_range_edges(dtype, device):
    """Edges to edges: x = 2 (grid + 1) - 0.5.

    (-0.5, -0.5)  -> (0.5, 0.5)  v = 2.5
    (0.5, -0.5)   -> (2.5, 0.5)  v = 4.5
    (-0.25, 0.75) -> (1, 3)      v = 13, a pixel of the last row
    (0.9, 0.1)    -> (3.3, 1.7)  0.7 (0.3·7 + 0.7·11) = 6.86: column 4, of weight 0.3, is outside
    """
    assert_values(run(IN_RANGE, dtype, False, device), [2.5, 4.5, 13.0, 6.86])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_out_of_range_corners(dtype, device):
    """One tap of four is inside.

    (-1.2, 1.3) -> (-0.3, 3.45)  0.55·0.7·v(3, 0) = 0.385·12 = 4.62: column -1 and row 4 are outside
    """
    assert_values(run(OUT_OF_RANGE, dtype, True, device), [3.75, 5.25, 4.62, 9.45])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_out_of_range_edges(dtype, device):
    """No tap is inside.

    (-1.2, 1.3) -> (-0.9, 4.1)  0: rows 4 and 5 are outside
    """
    assert_values(run(OUT_OF_RANGE, dtype, False, device), [2.5, 4.5, 0.0, 6.86])
