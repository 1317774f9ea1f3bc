"""Output values, in float64, against torch's and the plain-loop reference's."""

import pytest
import reference
import samples
import torch
import torch.nn.functional as F

from gridsample_ext import grid_sample


@pytest.mark.all_combinations
@pytest.mark.parametrize("shape", samples.SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.TORCH_CASES, ids=str)
def test_matches_torch(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    N = max(input.shape[0], grid.shape[0])
    expected = F.grid_sample(
        input.expand(N, *input.shape[1:]), grid.expand(N, *grid.shape[1:]), *case.options
    )
    samples.assert_close(grid_sample(input, grid, *case.options), expected, dtype=torch.float64)


@pytest.mark.parametrize("shape", samples.SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_matches_reference(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    expected = reference.grid_sample(input, grid, *case.options)
    samples.assert_close(grid_sample(input, grid, *case.options), expected, dtype=torch.float64)


@pytest.mark.parametrize("case", samples.TORCH_CASES, ids=str)
def test_matches_torch_in_the_interior(case, device):
    """Enough samples for whole vectors and a remainder, on a path that needs no bounds checks."""
    shape = samples.Shape("interior", N=2, C=5, size=(5, 9, 11), out=(3, 7, 9))
    input, grid = samples.sample(case, shape, device=device, make_grid=samples.interior_grid)
    expected = F.grid_sample(input, grid, *case.options)
    samples.assert_close(grid_sample(input, grid, *case.options), expected, dtype=torch.float64)


@pytest.mark.parametrize("case", samples.INTERPOLATING, ids=str)
def test_identity_grid_returns_the_input(case, device):
    """At pixel centres these modes interpolate. Sizes for which the centres are exact in binary."""
    size = (5, 9, 17) if case.align_corners else (4, 8, 16)
    input = samples.randn(2, 3, *size[-case.dims :], device=device)
    grid = samples.identity_grid(input.shape[2:], case.align_corners, device=device).expand(
        2, *[-1] * (case.dims + 1)
    )
    assert torch.equal(grid_sample(input, grid, *case.options), input)


@pytest.mark.parametrize("case", samples.CASES, ids=str)
def test_constant_image_inside(case, device):
    """Weights sum to one."""
    input = torch.full((1, 2, *[6] * case.dims), 3.0, dtype=torch.float64, device=device)
    grid = samples.interior_grid(
        (1, *[5] * case.dims, case.dims), input.shape[2:], case.align_corners, device=device
    )
    output = grid_sample(input, grid, *case.options)
    samples.assert_close(output, torch.full_like(output, 3.0))


@pytest.mark.parametrize("align_corners", [False, True])
def test_zeros_padding_is_zero_far_outside(align_corners, device):
    for case in samples.cases(padding_mode="zeros", align_corners=align_corners):
        input, grid = samples.sample(case, device=device)
        assert grid_sample(input, grid + 100, *case.options).count_nonzero() == 0


@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(align_corners=False), ids=str)
def test_empty(case, shape, device):
    input, grid = samples.sample(case, shape, device=device)
    output = grid_sample(input, grid, *case.options)
    N = 0 if 0 in (input.shape[0], grid.shape[0]) else input.shape[0]
    assert output.shape == (N, input.shape[1], *grid.shape[1:-1])
    assert output.dtype == input.dtype


@pytest.mark.parametrize("case", samples.cases(align_corners=True), ids=str)
def test_broadcast_is_the_expanded_call(case, device):
    input, grid = samples.sample(case, samples.Shape("three", N=3), device=device)
    one_input, one_grid = input[:1], grid[:1]
    for broadcast, expanded in (
        ((one_input, grid), (one_input.repeat(3, *[1] * (case.dims + 1)), grid)),
        ((input, one_grid), (input, one_grid.repeat(3, *[1] * (case.dims + 1)))),
    ):
        samples.assert_close(
            grid_sample(*broadcast, *case.options), grid_sample(*expanded, *case.options)
        )


def test_arguments_are_not_modified(device):
    for case in samples.CASES:
        input, grid = samples.sample(case, device=device)
        before = input.clone(), grid.clone()
        grid_sample(input, grid, *case.options)
        assert torch.equal(input, before[0])
        assert torch.equal(grid, before[1])
