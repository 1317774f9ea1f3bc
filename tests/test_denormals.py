"""Subnormal numbers, with torch.set_flush_denormal(True) and without.

float16's are float32's ordinary numbers: they count, whatever happens to float32's subnormals. And
whatever happens to those, it is the same for any number of threads and for each layout.
"""

import functools
import itertools

import numpy as np
import pytest
import samples
import torch
from programs import errors_of, main

from gridsample_ext import _C

OPS = torch.ops.gridsample_ext
LAYOUTS = ("contiguous", "channels_last")
THREADS = (1, 2)


class Flushed:
    """While open, this thread takes subnormal numbers for 0, or does not."""

    def __init__(self, flush):
        self.flush = flush

    def __enter__(self):
        assert torch.set_flush_denormal(self.flush)

    def __exit__(self, *error):
        torch.set_flush_denormal(False)


def halves():
    """Every finite float16, by size: 63,488 of them."""
    magnitudes = np.arange(0x7C00, dtype=np.uint16)
    bits = np.concatenate([(magnitudes | 0x8000)[::-1], magnitudes])
    return torch.from_numpy(bits.view(np.float16))


def half_image(C, layout):
    """An image of 257 x 257 pixels for each channel, among them every float16, in other places."""
    values = halves().repeat(2)[: 257 * 257]
    image = torch.stack([values.roll(1009 * c) for c in range(C)]).view(1, C, 257, 257)
    return samples.INPUT_LAYOUTS[layout](image)


def pixel_centres(dtype=torch.float32):
    """With align_corners, without a rounding: multiples of 1/128."""
    return samples.identity_grid((257, 257), True, dtype)


def bits(tensor):
    return tensor.contiguous().view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def check_reading():
    """All float16 are read as what they are, in every way to read an image, and written again."""
    torch.set_num_threads(1)
    for C, layout, mode, flush in itertools.product(
        (1, 3, 4, 8, 19), LAYOUTS, (0, 1, 2), (False, True)
    ):
        if mode == 2 and flush:
            continue  # four weights, of which three are 0: only that it is the same, below
        image = half_image(C, layout)
        with Flushed(flush):
            output = OPS.grid_sample(image, pixel_centres(), mode, 1, True)
        assert torch.equal(output, image), (C, layout, mode, flush)


def check_rounding():
    """Half-way between neighbours: to the even one, subnormal or not."""
    torch.set_num_threads(1)
    for C, layout, flush in itertools.product((1, 3, 8, 19), LAYOUTS, (False, True)):
        image = half_image(C, layout)
        between = image.float()[..., :-1] / 2 + image.float()[..., 1:] / 2
        expected = between.numpy().astype(np.float16)
        grid = pixel_centres()[:, :, :-1].clone()
        grid[..., 0] += 1 / 256
        with Flushed(flush):
            output = OPS.grid_sample(image, grid, 0, 1, True)
        assert np.array_equal(output.numpy(), expected), (C, layout, flush)


def check_special():
    """Infinity and NaN, alone in their images; a NaN of any bits becomes one NaN or another."""
    torch.set_num_threads(1)
    special = torch.from_numpy(
        np.array([0x7C00, 0xFC00, 0x7C01, 0xFE00, 0x7FFF], np.uint16).view(np.float16)
    )
    for C, flush in itertools.product((1, 19), (False, True)):
        image = special.view(-1, 1, 1, 1).expand(-1, C, 1, 1)
        for input in (image.contiguous(), samples.channels_last(image)):
            with Flushed(flush):
                output = OPS.grid_sample(input, torch.zeros(5, 1, 33, 2), 0, 1, True)
            expected = image.float().expand(-1, C, 1, 33)
            torch.testing.assert_close(output.float(), expected, equal_nan=True, rtol=0, atol=0)


def all_results(case, input, grid, grad_output, tangents):
    options = case.op_options
    tensors = [OPS.grid_sample(input, grid, *options)]
    for mask in ([True, True], [True, False], [False, True]):
        tensors += OPS.grid_sample_backward(grad_output, input, grid, *options, mask)
    tensors += OPS.grid_sample_double_backward(
        *tangents, grad_output, input, grid, *options, [True, True]
    )
    tensors.append(OPS.grid_sample_jvp(input, grid, *tangents, *options))
    return [tensor for tensor in tensors if tensor is not None]


def drawn(shape, dtype, least, most, seed):
    """Numbers of all sizes between two powers of 2, of both signs."""
    generator = samples.generator(seed)
    exponents = torch.rand(shape, generator=generator, dtype=torch.float64) * (most - least) + least
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return (signs * 2**exponents).to(dtype)


SHAPES = [
    samples.Shape("one_channel", N=1, C=1, size=(5, 61, 67), out=(3, 91, 89)),
    samples.Shape("few_channels", N=2, C=3, size=(5, 21, 25), out=(3, 73, 51)),
    samples.Shape("packed", N=1, C=19, size=(5, 21, 25), out=(3, 43, 51)),
]


def check_flushing(dtype_name):
    """The same bits with flushing where nothing is subnormal in float32; and for all threads.

    Numbers around the least that are normal: float16's subnormal ones, and those of the other
    types that are subnormal themselves. As the grid is of the same type, its slopes and the
    coordinates are as they are.
    """
    dtype = getattr(torch, dtype_name)
    least, most = (-24, -13) if dtype == torch.float16 else (-149, -110)
    for case, shape, layout in itertools.product(
        [case for case in samples.CASES if case.padding_mode != "border" and case.align_corners],
        SHAPES,
        LAYOUTS,
    ):
        if case.dims == 3 and shape.name == "few_channels":
            continue
        input, grid = samples.sample(case, shape, dtype)
        grad_output = samples.grad_like(input, grid)
        grid[..., ::3, :] = drawn(grid[..., ::3, :].shape, dtype, -24, -13, 1)
        input = samples.INPUT_LAYOUTS[layout](drawn(input.shape, dtype, least, most, 2))
        small_grad = drawn(grad_output.shape, dtype, least, most, 3)
        tangents = drawn(input.shape, dtype, least, most, 4), samples.randn(*grid.shape).to(dtype)
        for grad in (grad_output, small_grad):
            results = {}
            for flush, threads in itertools.product((False, True), THREADS):
                torch.set_num_threads(threads)
                with Flushed(flush):
                    results[flush, threads] = all_results(case, input, grid, grad, tangents)
            for (flush, _), tensors in results.items():
                same_as = results[False if dtype == torch.float16 else flush, 1]
                for actual, expected in zip(tensors, same_as, strict=True):
                    assert torch.equal(bits(actual), bits(expected)), (case, shape, layout, flush)


def check_layouts(dtype_name):
    """Flushing or not, the output does not depend on the way through the pixels."""
    dtype = getattr(torch, dtype_name)
    least, most = (-24, -13) if dtype == torch.float16 else (-149, -110)
    for case, shape, flush in itertools.product(
        samples.cases(padding_mode="zeros", align_corners=False), SHAPES, (False, True)
    ):
        input, grid = samples.sample(case, shape, dtype)
        input = drawn(input.shape, dtype, least, most, 2)
        with Flushed(flush):
            planes, rows, strided = (
                OPS.grid_sample(samples.INPUT_LAYOUTS[layout](input), grid, *case.op_options)
                for layout in ("contiguous", "channels_last", "sliced")
            )
        assert torch.equal(planes, rows)  # a sum of nothing but zeros may be 0 or -0
        assert torch.equal(planes, strided)


def check_mixed():
    """A float64 grid: images of other types are read as float64, as this thread reads them."""
    case = samples.Case(2, "bilinear", "border", True)
    shape = samples.Shape("mixed", N=1, C=8, size=(5, 128, 128), out=(3, 128, 128))
    for dtype, flush in itertools.product((torch.bfloat16, torch.float32), (False, True)):
        input, grid = samples.sample(case, shape, dtype, torch.float64)
        input = drawn(input.shape, dtype, -149, -120, 2)
        grad_output = drawn((1, 8, 128, 128), dtype, -149, -120, 3)
        results = {}
        for threads in THREADS:
            torch.set_num_threads(threads)
            with Flushed(flush):
                results[threads] = [
                    OPS.grid_sample(input, grid, *case.op_options),
                    *OPS.grid_sample_backward(
                        grad_output, input, grid, *case.op_options, [True, True]
                    ),
                ]
        for tensors in results.values():
            for actual, expected in zip(tensors, results[1], strict=True):
                assert torch.equal(actual.double(), expected.double())


CHECKS = [
    ("check_reading",),
    ("check_rounding",),
    ("check_special",),
    ("check_mixed",),
    *[
        (check, dtype)
        for check in ("check_flushing", "check_layouts")
        for dtype in ("float16", "bfloat16", "float32")
    ],
]


def can_flush():
    supported = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    return supported


@functools.cache
def errors_at(level):
    return errors_of(__file__, CHECKS, GRIDSAMPLE_EXT_ISA=level, OMP_WAIT_POLICY="passive")


@pytest.mark.skipif(not can_flush(), reason="this CPU cannot flush")
@pytest.mark.parametrize("check", CHECKS, ids=" ".join)
@pytest.mark.parametrize("level", _C.build_info()["isa_supported"])
def test_subnormal_numbers(check, level):
    error = errors_at(level)[check]
    assert not error, error


if __name__ == "__main__":
    main(globals())
