"""What is composed of tensor operations finds the pixels that kernels find, however far out."""

import boundaries
import pytest
import samples
import torch
from torch.export import Dim

import gridsample_ext
from gridsample_ext import _composed, _ops, functional, grid_sample

EVERY_PADDING = [
    case
    for padding_mode in _ops.PADDING_MODES
    for case in boundaries.of_padding(padding_mode, coordinates="pixel")
]
# Where a float32 has no fraction left, or no ones, and so on.
FAR = [sign * (2.0**k + more) for k in (22, 23, 24, 26, 32, 60, 100) for more in (0, 2, 512)
       for sign in (1, -1)]  # fmt: skip


def points(values, dims):
    """A row of points along x, and of others along the other axes."""
    rows = [values, *(values.roll(shift) for shift in range(1, dims))]
    return samples.in_a_row(torch.stack(rows, -1), dtype=values.dtype)


def assert_as_kernels(case, input, grid):
    options = _ops.Options(*case.op_options, *case.later)
    composed = _composed.grid_sample(input, grid, options)
    kernels = grid_sample(input, grid, *case.options, **case.keywords)
    samples.assert_close(composed, kernels.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [(3, 5, 7), (4, 6, 33), (2, 1, 640)], ids=str)
@pytest.mark.parametrize("case", EVERY_PADDING, ids=str)
def test_far_out(case, size, dtype):
    grid = points(torch.tensor(FAR, dtype=dtype), case.dims)
    assert_as_kernels(case, samples.randn(1, 2, *size[-case.dims :], dtype=dtype), grid)


@pytest.mark.parametrize("size", [2**24 + 1, 2**24 + 3, 2**24 + 4])
@pytest.mark.parametrize("case", [case for case in EVERY_PADDING if case.dims == 2], ids=str)
def test_sizes_that_float32_does_not_hold(case, size):
    ends = [size + step for step in (-3, -2, -1, 0, 1, 2, 5)]
    x = torch.tensor([*ends, -1.0, -2.0, 2.0**26 + 8])
    grid = samples.in_a_row(torch.stack([x, torch.zeros_like(x)], -1), dtype=torch.float32)
    assert_as_kernels(case, torch.arange(size, dtype=torch.float32).expand(1, 1, 1, size), grid)


def third_derivative(input, grid, **keywords):
    """By y, of a single sample."""
    grid = grid.clone().requires_grad_()
    result = grid_sample(input, grid, "bicubic", **keywords).sum()
    for _ in range(3):
        result = torch.autograd.grad(result, grid, create_graph=True)[0][..., 1].sum()
    return result.detach()


def test_third_derivatives_are_those_of_the_pixels_that_are_read():
    """Both coordinates are the same place: reflection loses nothing to the number of folds."""
    input = samples.randn(1, 1, 5, 5, dtype=torch.float32)
    near, far = (torch.tensor([[[[x, 1.25]]]]) for x in (3.0, 2.0**26))
    options = {"padding_mode": "reflection", "coordinates": "pixel"}
    wanted = third_derivative(input, near, **options)
    assert wanted != 0
    samples.assert_close(third_derivative(input, far, **options), wanted.double())


def test_the_default_dtype_does_not_matter():
    input = samples.randn(1, 1, 3, 1027, dtype=torch.float64)
    grid = torch.tensor([[[[0.123, -0.456]]]], dtype=torch.float64)
    wanted = third_derivative(input, grid, align_corners=False)
    try:
        torch.set_default_dtype(torch.bfloat16)
        assert torch.equal(third_derivative(input, grid, align_corners=False), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_gradients_of_nearest_are_zero_and_not_missing():
    image = samples.randn(1, 2, 4, 5).requires_grad_()
    grid = torch.tensor([[[[0.3, float("nan")], [1.2, -9.0]]]]).double().requires_grad_()
    options = _ops.Options(_ops.NEAREST, _ops.ZEROS, False, True)
    values = samples.randn(1, 2, 1, 2)
    for result in (
        _composed.grid_sample(image, grid, options),
        _composed.splat(values, image, grid, options),
    ):
        (gradient,) = torch.autograd.grad(result.sum(), grid)
        assert torch.equal(gradient, torch.zeros_like(grid))


CALLS = {
    "grid_sample": lambda image, grid: grid_sample(image, grid, "nearest", "circular", False),
    "sample_labels": lambda image, grid: gridsample_ext.sample_labels(
        image.long(), grid, align_corners=False
    ),
    "splat": lambda image, grid: gridsample_ext.splat(image, grid, (3, 3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_warning_is_of_the_line_that_calls(name, monkeypatch):
    monkeypatch.setattr(functional, "why_not_ours", lambda device: "tests")
    functional._warn_fallback_once.cache_clear()
    with pytest.warns(UserWarning, match="tensor operations are used there") as caught:
        CALLS[name](torch.ones(1, 1, 4, 5).to("meta"), torch.zeros(1, 4, 5, 2).to("meta"))
    functional._warn_fallback_once.cache_clear()
    assert [warning.filename for warning in caught] == [__file__]


def test_the_warning_of_labels_about_align_corners_is_of_the_line_that_calls():
    with pytest.warns(UserWarning, match="align_corners=False") as caught:
        gridsample_ext.sample_labels(torch.ones(1, 1, 4, 5).long(), torch.zeros(1, 4, 5, 2))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("padding_mode", ["circular", "border"])
def test_decomposed_programs_are_for_any_size(padding_mode):
    """Nothing is asked of sizes that are symbols."""

    class Sampler(torch.nn.Module):
        def forward(self, image, grid):
            return grid_sample(
                image, grid, padding_mode=padding_mode, coordinates="pixel", outside_value=7.0
            )

    H, W = Dim("H"), Dim("W")
    arguments = torch.rand(1, 1, 4, 5), torch.rand(1, 3, 3, 2)
    program = torch.export.export(Sampler(), arguments, dynamic_shapes=[{2: H, 3: W}, None])
    program = program.run_decompositions(gridsample_ext.decompositions())
    wide = torch.arange(2**24 + 4, dtype=torch.float32).expand(1, 1, 1, -1)
    for image in (torch.rand(1, 1, 7, 3), wide):
        expected = Sampler()(image, arguments[1])
        samples.assert_close(program.module()(image, arguments[1]), expected.double())
