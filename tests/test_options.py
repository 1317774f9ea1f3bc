"""Good and bad values of the keywords, and calls by every spelling of them."""

import decimal
import fractions
import inspect
import math
import re

import boundaries
import numpy as np
import pytest
import samples
import torch

import gridsample_ext
from gridsample_ext import _ops, grid_sample

ops = torch.ops.gridsample_ext
INPUT, GRID = torch.rand(2, 3, 4, 5), torch.rand(2, 6, 7, 2) * 3 - 1.5
VOLUME, VOLUME_GRID = torch.rand(2, 3, 4, 5, 6), torch.rand(2, 6, 7, 8, 3) * 3 - 1.5

# The keywords, the type of the error, and what its message has to name.
BAD = {
    "padding_unknown": (
        {"padding_mode": "wrap"},
        ValueError,
        ["padding_mode", "'wrap'", "'zeros'"],
    ),
    "padding_of_axis_unknown": (
        {"padding_mode": ("zeros", "wrap")},
        ValueError,
        ["padding_mode", "'wrap'", "'border'", "'circular'"],
    ),
    "padding_of_axis_no_name": ({"padding_mode": ("zeros", 3)}, ValueError, ["padding_mode", "3"]),
    "padding_of_axis_unhashable": (
        {"padding_mode": ("zeros", ["zeros"])},
        ValueError,
        ["padding_mode"],
    ),
    "padding_of_axis_none": ({"padding_mode": (None, "zeros")}, ValueError, ["None"]),
    "padding_number": ({"padding_mode": 3}, ValueError, ["padding_mode", "3", "'circular'"]),
    "padding_set": ({"padding_mode": {"zeros", "border"}}, ValueError, ["padding_mode"]),
    "one_padding": ({"padding_mode": ("zeros",)}, ValueError, ["padding_mode", "2", "('zeros',)"]),
    "no_padding": ({"padding_mode": ()}, ValueError, ["padding_mode", "2", "()"]),
    "three_paddings": (
        {"padding_mode": ("zeros", "border", "zeros")},
        ValueError,
        ["padding_mode", "2", "x, y", "('zeros', 'border', 'zeros')", "[2, 3, 4, 5]"],
    ),
    "coordinates_unknown": (
        {"coordinates": "pixels"},
        ValueError,
        ["coordinates", "'pixels'", "'normalized'", "'pixel'"],
    ),
    "coordinates_none": ({"coordinates": None}, ValueError, ["coordinates", "None"]),
    "coordinates_bool": ({"coordinates": True}, ValueError, ["coordinates", "True"]),
    "coordinates_unhashable": ({"coordinates": []}, ValueError, ["coordinates", "[]"]),
    "fill_text": ({"fill_value": "1"}, TypeError, ["fill_value", "float", "str"]),
    "fill_bool": ({"fill_value": True}, TypeError, ["fill_value", "float", "bool"]),
    "fill_complex": ({"fill_value": 1j}, TypeError, ["fill_value", "float", "complex"]),
    "fill_tensor": ({"fill_value": INPUT}, TypeError, ["fill_value", "float", "Tensor"]),
    "fill_of_channels": ({"fill_value": (1.0, 2.0)}, TypeError, ["fill_value", "tuple"]),
    "fill_without_zeros": (
        {"fill_value": 1.0, "padding_mode": "border"},
        ValueError,
        ["fill_value", "1.0", "zeros", "'border'"],
    ),
    "zero_fill_without_zeros": (
        {"fill_value": 0, "padding_mode": ("circular", "border")},
        ValueError,
        ["fill_value", "0", "zeros", "('circular', 'border')"],
    ),
    "outside_text": ({"outside_value": "nan"}, TypeError, ["outside_value", "float", "str"]),
    "outside_bool": ({"outside_value": False}, TypeError, ["outside_value", "float", "bool"]),
    "outside_tensor": ({"outside_value": GRID}, TypeError, ["outside_value", "Tensor"]),
    "cubic_too_low": (
        {"cubic_coefficient": -1.01, "mode": "bicubic"},
        ValueError,
        ["cubic_coefficient", "-1.01", "[-1, 0]"],
    ),
    "cubic_too_high": (
        {"cubic_coefficient": 0.5, "mode": "bicubic"},
        ValueError,
        ["cubic_coefficient", "0.5", "[-1, 0]"],
    ),
    "cubic_nan": (
        {"cubic_coefficient": float("nan"), "mode": "bicubic"},
        ValueError,
        ["cubic_coefficient", "nan", "[-1, 0]"],
    ),
    "cubic_text": (
        {"cubic_coefficient": "catmull-rom", "mode": "bicubic"},
        TypeError,
        ["cubic_coefficient", "str"],
    ),
    "cubic_bool": ({"cubic_coefficient": False, "mode": "bicubic"}, TypeError, ["bool"]),
    "cubic_with_bilinear": (
        {"cubic_coefficient": -0.5},
        ValueError,
        ["cubic_coefficient", "-0.5", "bicubic", "'bilinear'"],
    ),
    "fill_not_held": ({"fill_value": 2**53 + 1}, ValueError, ["fill_value", str(2**53 + 1)]),
    "fill_overflows": (
        {"fill_value": fractions.Fraction(10**400)},
        ValueError,
        ["fill_value", "float64"],
    ),
    "usual_cubic_with_nearest": (
        {"cubic_coefficient": -0.75, "mode": "nearest"},
        ValueError,
        ["cubic_coefficient", "-0.75", "bicubic"],
    ),
}


@pytest.mark.parametrize("function", [grid_sample, gridsample_ext.explain])
@pytest.mark.parametrize("name", BAD)
def test_bad_values(name, function):
    """Each names the keyword, the value, and what is good."""
    keywords, kind, words = BAD[name]
    with pytest.raises(kind) as error:
        function(INPUT, GRID, align_corners=False, **keywords)
    for word in words:
        assert word in str(error.value)
    with pytest.raises(kind):
        function(INPUT.to("meta"), GRID.to("meta"), align_corners=False, **keywords)


@pytest.mark.parametrize("paddings", [("zeros", "border"), ("zeros",) * 4], ids=len)
def test_paddings_of_volumes(paddings):
    with pytest.raises(ValueError, match="padding_mode") as error:
        grid_sample(VOLUME, VOLUME_GRID, padding_mode=paddings, align_corners=False)
    for word in ("3 entries", "x, y, z", repr(paddings), "[2, 3, 4, 5, 6]"):
        assert word in str(error.value)


@pytest.mark.parametrize("keywords", [
    {"padding_mode": ("zeros", "border")}, {"coordinates": "pixel"}, {"fill_value": 1.0},
    {"outside_value": 1.0}, {"cubic_coefficient": -0.5, "mode": "bicubic"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("wrong", [None, [[1.0]], torch.zeros(3), torch.zeros(2, 3, 4)], ids=type)
def test_wrong_tensors_beside_good_keywords(wrong, keywords):
    """What is wrong is said as without them."""
    kind = RuntimeError if isinstance(wrong, torch.Tensor) else TypeError
    with pytest.raises(kind, match=r"\binput\b"):
        grid_sample(wrong, GRID, align_corners=False, **keywords)
    with pytest.raises(kind, match=r"\bgrid\b"):
        grid_sample(INPUT, wrong, align_corners=False, **keywords)


def test_later_ones_are_keywords_only():
    with pytest.raises(TypeError):
        grid_sample(INPUT, GRID, "bilinear", "zeros", False, "pixel")
    parameters = inspect.signature(grid_sample).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert defaults == boundaries.LATER
    of_explain = inspect.signature(gridsample_ext.explain).parameters
    assert {name: of_explain[name].default for name in defaults} == defaults


def test_lists_are_tuples(device):
    expected = grid_sample(
        INPUT.to(device), GRID.to(device), "bilinear", ("circular", "border"), False
    )
    actual = grid_sample(
        INPUT.to(device), GRID.to(device), "bilinear", ["circular", "border"], False
    )
    samples.assert_bitwise_equal(actual, expected)


@pytest.mark.parametrize(
    "number",
    [2, np.float32(2), np.int64(2), fractions.Fraction(4, 2)],
    ids=lambda number: type(number).__name__,
)
def test_every_real_number_is_good(number, device):
    arguments = INPUT.to(device), GRID.to(device), "bilinear", "zeros", False
    for name in ("fill_value", "outside_value"):
        expected = grid_sample(*arguments, **{name: 2.0})
        samples.assert_bitwise_equal(grid_sample(*arguments, **{name: number}), expected)
    with pytest.raises(TypeError, match="fill_value"):
        grid_sample(*arguments, fill_value=decimal.Decimal(2))


@pytest.mark.parametrize("name", ["fill_value", "outside_value"])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.uint8, torch.complex64])
def test_values_outside_are_numbers_of_the_compute_type(kind, name, device):
    """A finite one beyond it would become infinite, and NaN under a weight of 0."""
    most = torch.finfo(torch.float32).max
    given = [most, -most, math.inf, -math.inf, math.nan]
    input, grid = INPUT.to(device).to(kind), GRID.to(device)
    for value in given:
        grid_sample(input, grid, align_corners=False, **{name: value})
    for value in (1e39, -1e39, 2**200):
        for each in (input, input.to("meta")):
            with pytest.raises(RuntimeError, match=f"{name}.*float32, which"):
                grid_sample(each, grid.to(each.device), align_corners=False, **{name: value})
        output = grid_sample(input, grid.double(), align_corners=False, **{name: value})
        assert output.dtype == kind


@pytest.mark.parametrize("end", [-1, -1.0, 0, 0.0, -0.0])
def test_ends_of_the_cubic_coefficient(end, device):
    case = boundaries.Case(2, "bicubic", "border", False, cubic_coefficient=end)
    input, grid = samples.sample(case, device=device)
    assert grid_sample(input, grid, *case.options, cubic_coefficient=end).isfinite().all()


# Of the ops: (the number of the padding, the later arguments, what the message says).
BAD_NUMBERS = {
    "fill_without_zeros": (1, (False, 1.0, None, -0.75), "fill_value"),
    "fill_without_zeros_on_any_axis": (65536 + 1 + 16 * 3, (False, 1.0, None, -0.75), "fill_value"),
    "cubic_too_low": (0, (False, 0.0, None, -1.5), "cubic_coefficient"),
    "cubic_too_high": (0, (False, 0.0, None, 0.5), "cubic_coefficient"),
    "cubic_nan": (0, (False, 0.0, None, float("nan")), "cubic_coefficient"),
    "padding_of_x": (65536 + 4, (), "padding_mode"),
    "padding_of_y": (65536 + 16 * 5, (), "padding_mode"),
    "padding_of_z": (65536 + 256 * 4, (), "padding_mode"),
    "padding_of_a_fourth_axis": (65536 + 4096, (), "padding_mode"),
}


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_bad_numbers_for_the_ops(name, on_meta, device):
    number, later, word = BAD_NUMBERS[name]
    device = "meta" if on_meta else device
    input, grid = INPUT.to(device), GRID.to(device)
    grad_output = torch.zeros(2, 3, 6, 7, device=device)
    for call in (
        lambda: ops.grid_sample(input, grid, 2, number, False, *later),
        lambda: ops.grid_sample_backward(
            grad_output, input, grid, 2, number, False, [True, True], False, *later
        ),
        lambda: ops.grid_sample_jvp(input, grid, input, grid, 2, number, False, *later),
        lambda: ops.grid_sample_double_backward(
            input, grid, grad_output, input, grid, 2, number, False, [True, True], False, *later
        ),
    ):
        with pytest.raises(RuntimeError, match=rf"\b{word}\b"):
            call()


def test_volumes_need_a_padding_for_z_and_images_ignore_none(device):
    """fill_value with zeros on z alone is good for volumes, and not for images."""
    number, later = 65536 + 1 + 16 + 0 * 256, (False, 1.0, None, -0.75)
    volume = VOLUME.to(device), VOLUME_GRID.to(device)
    expected = grid_sample(*volume, padding_mode=("border", "border", "zeros"),
                           align_corners=False, fill_value=1.0)  # fmt: skip
    samples.assert_bitwise_equal(ops.grid_sample(*volume, 0, number, False, *later), expected)
    with pytest.raises(RuntimeError, match="fill_value"):
        ops.grid_sample(INPUT.to(device), GRID.to(device), 0, number, False, *later)


def test_an_error_leaves_the_next_call_alone(device):
    input, grid = INPUT.to(device), GRID.to(device)
    expected = grid_sample(input, grid, align_corners=False)
    for keywords, kind, _ in BAD.values():
        with pytest.raises(kind):
            grid_sample(input, grid, align_corners=False, **keywords)
    samples.assert_bitwise_equal(grid_sample(input, grid, align_corners=False), expected)


def test_documented():
    """Every keyword and padding stands in the docstring."""
    for word in (*boundaries.LATER, *boundaries.PADDINGS):
        assert re.search(rf"\b{word}\b", grid_sample.__doc__)


class Logged(torch.Tensor):
    """Tells of the calls that it is given to."""

    calls = ()

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.calls = (*cls.calls, (function, kwargs or {}))
        return super().__torch_function__(function, types, args, kwargs or {})


def test_subclasses_of_tensors_see_the_keywords():
    keywords = {"coordinates": "pixel", "fill_value": 1.0, "outside_value": 2.0}
    expected = grid_sample(INPUT, GRID, align_corners=False, **keywords)
    output = grid_sample(INPUT.as_subclass(Logged), GRID, align_corners=False, **keywords)
    _, seen = next(call for call in Logged.calls if call[0] is grid_sample)
    assert {name: seen[name] for name in keywords} == keywords
    assert torch.equal(output.as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize("number", [3, 65536 + 1, 65536 + 3 * 0x11])
def test_patched_calls_are_of_pytorch_s_numbers_alone(number, monkeypatch):
    """A number that is ours and not PyTorch's goes to PyTorch's kernels, as if not patched.

    What these make of it is not defined, so it is not the results that are looked at.
    """
    taken = []
    for name in ("grid_sample", "grid_sample_backward"):
        op = getattr(_ops, name)
        monkeypatch.setattr(_ops, name, lambda *a, op=op: taken.append(a) or op(*a))
    grad_output = torch.zeros(2, 3, 6, 7)
    with gridsample_ext.patch():
        torch.grid_sampler(INPUT, GRID, 0, 0, False)
        assert len(taken) == 1
        torch.grid_sampler(INPUT, GRID, 0, number, False)
        torch.ops.aten.grid_sampler_2d(INPUT, GRID, 0, number, False)
        torch.ops.aten.grid_sampler_2d_backward(
            grad_output, INPUT, GRID, 0, number, False, [True, True]
        )
        assert len(taken) == 1
        with pytest.raises(ValueError, match="padding_mode"):
            torch.nn.functional.grid_sample(INPUT, GRID, padding_mode="circular")
