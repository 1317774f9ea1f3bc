"""What ONNX's GridSample can be made to say of the options; the rest is an error that names it."""

import itertools

import boundaries
import pytest
import samples
import torch

pytest.importorskip("onnxruntime")
from test_onnx import (
    EXPORTERS,
    assert_same,
    by_dynamo,
    by_program,
    check,
    messages,
    pytestmark,  # noqa: F401  warnings of the exporters
    run,
    types,
)

from gridsample_ext import grid_sample

GOOD = [
    boundaries.Case(2, mode, padding_mode, align_corners, coordinates, fill)
    for mode, padding_mode, align_corners, coordinates, fill in itertools.product(
        ("bilinear", "nearest", "bicubic"),
        samples.PADDING_MODES,
        (False, True),
        ("normalized", "pixel"),
        (None, 2.5),
    )
    if (coordinates, fill) != ("normalized", None)
    and (fill is None or padding_mode == "zeros")
    and (mode != "nearest" or not align_corners)
]
VOLUMES = [
    boundaries.Case(3, mode, padding_mode, align_corners, "pixel", fill)
    for mode, (padding_mode, fill), align_corners in itertools.product(
        ("bilinear", "nearest"), (("zeros", 2.5), ("border", None), ("reflection", None)),
        (False, True),
    )
]  # fmt: skip
BAD = {
    "padding_mode": [
        boundaries.Case(2, "bilinear", "circular", False),
        boundaries.Case(2, "bilinear", ("zeros", "border"), False),
    ],
    "fill_value": [boundaries.Case(2, "bilinear", "zeros", False, fill_value=float("inf"))],
    "outside_value": [boundaries.Case(2, "bilinear", "zeros", False, outside_value=0.0)],
    "cubic_coefficient": [boundaries.Case(2, "bicubic", "zeros", False, cubic_coefficient=-0.5)],
}


class Sampler(torch.nn.Module):
    """Samples once per case: by the last grid where the grid holds pixels."""

    def __init__(self, cases):
        super().__init__()
        self.cases = cases

    def forward(self, input, *grids):
        """One output per case; grids: with edges, with corners, and of pixels, which is last."""
        of_units = {None: grids[-1], False: grids[0], True: grids[-2:][0]}
        return tuple(
            grid_sample(input, of_units[case.units], *case.options, **case.keywords)
            for case in self.cases
        )


def draw(dims, shape=samples.SMALL, dtype=torch.float32):
    cases = [
        boundaries.Case(dims, "bilinear", "zeros", corners, coordinates)
        for corners, coordinates in (
            (False, "normalized"),
            (True, "normalized"),
            (True, "pixel"),
        )
    ]
    drawn = [samples.sample(case, shape, dtype) for case in cases]
    return drawn[0][0], *(grid for _, grid in drawn)


@pytest.mark.parametrize("export", EXPORTERS)
def test_images(export):
    model, tensors = Sampler(GOOD).eval(), draw(2)
    proto = export(model, tensors, 20)
    check(proto, 20)
    assert_same(run(proto, *tensors), model(*tensors))


@pytest.mark.parametrize("export", EXPORTERS)
def test_volumes(export):
    model, tensors = Sampler(VOLUMES).eval(), draw(3)[::3]
    proto = export(model, tensors, 20)
    check(proto, 20)
    assert_same(run(proto, *tensors), model(*tensors))


# Of one pixel there is no unit of its length with align_corners.
ONE_WIDE = samples.Shape("one_wide", size=(3, 4, 1))
ONE_IMAGE = samples.Shape("one_image", N_input=1, N_grid=3)


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("shape", "dtype"), [(ONE_WIDE, torch.float16), (ONE_IMAGE, torch.float64)], ids=str
)
@pytest.mark.parametrize("export", EXPORTERS)
def test_shapes_and_types(export, dtype, shape):
    cases = [case for case in GOOD if case.mode == "bilinear" and case.coordinates == "pixel"]
    model, tensors = Sampler(cases).eval(), draw(2, shape, dtype)[::3]
    proto = export(model, tensors, 20)
    check(proto, 20)
    assert_same(run(proto, *tensors), model(*tensors))


@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")
@pytest.mark.parametrize("export", EXPORTERS)
def test_dynamic_axes(export):
    """Sizes that are read while the model runs."""
    cases = [case for case in GOOD if case.mode == "bilinear"]
    model, tensors = Sampler(cases).eval(), draw(2)
    N, H, W, H_out, W_out = map(torch.export.Dim, ("N", "H", "W", "H_out", "W_out"))
    dynamic = [{0: N, 2: H, 3: W}, *[{0: N, 1: H_out, 2: W_out}] * 3]
    proto = export(model, tensors, 20, dynamic)
    for shape in (samples.SMALL, samples.Shape("other", N=5, size=(7, 9), out=(6, 11))):
        others = draw(2, shape)
        assert_same(run(proto, *others), model(*others))


@pytest.mark.all_combinations
@pytest.mark.parametrize("keyword", BAD)
@pytest.mark.parametrize("export", EXPORTERS[::2])
def test_what_onnx_cannot_say(export, keyword):
    for case in BAD[keyword]:
        model = Sampler([case]).eval()
        with pytest.raises(torch.onnx.OnnxExporterError) as caught:
            export(model, draw(2), 20)
        assert keyword in messages(caught.value)


def test_values_that_are_said_to_be_the_usual_ones():
    cases = [
        boundaries.Case(2, "bicubic", "border", False, cubic_coefficient=-0.75),
        boundaries.Case(2, "bilinear", ("border", "border"), False),
        boundaries.Case(2, "bilinear", "zeros", False, fill_value=0.0),
    ]
    model, tensors = Sampler(cases).eval(), draw(2)
    for export in (by_dynamo, by_program):
        proto = export(model, tensors, 20)
        assert types(proto) == ["GridSample"] * 3
        assert_same(run(proto, *tensors), model(*tensors))


# Each in a type of image, and of grid, that holds it.
FILLS = [
    (torch.float64, 0.1),
    (torch.float64, 16777217.0),
    (torch.float64, 1e300),
    (torch.float32, 1e9),
    (torch.float32, -3e38),
]


@pytest.mark.parametrize(("dtype", "fill_value"), FILLS, ids=str)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("export", EXPORTERS)
def test_fills_are_as_they_were_given(export, mode, dtype, fill_value):
    """And leave samples alone that have no pixel outside."""
    cases = [
        boundaries.Case(2, mode, "zeros", corners, coordinates, fill_value)
        for corners, coordinates in ((False, "normalized"), (True, "normalized"), (True, "pixel"))
    ]
    model = Sampler(cases).eval()
    image = samples.randn(1, 2, 6, 5, dtype=dtype)
    pixels = torch.tensor([[[[1.25, 2.25], [2.75, 3.75], [-9.0, 2.0], [3.0, 1e4]]]], dtype=dtype)
    size = torch.tensor([5.0, 6.0], dtype=dtype)
    edges, corners = (2 * pixels + 1) / size - 1, 2 * pixels / (size - 1) - 1
    proto = export(model, (image, edges, corners, pixels), 20)
    assert_same(run(proto, image, edges, corners, pixels), model(image, edges, corners, pixels))


@pytest.mark.parametrize("export", EXPORTERS[::2])
def test_paddings_are_named(export):
    for case, name in zip(BAD["padding_mode"], ("'circular'", "('zeros', 'border')"), strict=True):
        with pytest.raises(torch.onnx.OnnxExporterError) as caught:
            export(Sampler([case]).eval(), draw(2), 20)
        assert f"padding_mode={name}" in messages(caught.value)
