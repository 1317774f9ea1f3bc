"""Cases of what lies outside the image: a padding for each axis, values, coordinates in pixels."""

import functools
import itertools
import random
from dataclasses import dataclass

import samples
import torch

PADDINGS = (*samples.PADDING_MODES, "circular")
LATER = {"coordinates": "normalized"} | dict.fromkeys(
    ("fill_value", "outside_value", "cubic_coefficient")
)


@dataclass(frozen=True)
class Case(samples.Case):
    """padding_mode: one for all axes, or one for each, x, y(, z); then the keywords."""

    coordinates: str = "normalized"
    fill_value: float | None = None
    outside_value: float | None = None
    cubic_coefficient: float | None = None

    def __str__(self):
        padding = self.padding_mode
        padding = padding if isinstance(padding, str) else "/".join(padding)
        said = [f"{self.dims}d", self.mode, padding, "corners" if self.align_corners else "edges"]
        said += [f"{name[:4]}={self.keywords[name]}" for name in self.keywords]
        return "-".join(said)

    @property
    def paddings(self):
        """Of each axis."""
        padding = self.padding_mode
        return (padding,) * self.dims if isinstance(padding, str) else padding

    @property
    def op_options(self):
        """As the ops take them, which number a padding for each axis: csrc/schemas.h."""
        numbers = [PADDINGS.index(padding) for padding in self.paddings]
        shifted = 65536 + sum(number << (4 * axis) for axis, number in enumerate(numbers))
        padding = numbers[0] if len(set(numbers)) == 1 else shifted
        return samples.MODES.index(self.mode), padding, self.align_corners

    @property
    def keywords(self):
        """Those that are not left at their defaults."""
        return {name: getattr(self, name) for name in LATER if getattr(self, name) != LATER[name]}

    @property
    def later(self):
        """The ops' last arguments."""
        cubic = -0.75 if self.cubic_coefficient is None else self.cubic_coefficient
        return self.coordinates == "pixel", self.fill_value or 0.0, self.outside_value, cubic

    @property
    def units(self):
        """What samples.normalize is told."""
        return None if self.coordinates == "pixel" else self.align_corners

    @property
    def factors(self):
        """With each axis by itself."""
        axes = {f"padding_{axis}": name for axis, name in zip("xyz", self.paddings, strict=False)}
        return {name: value for name, value in vars(self).items() if name != "padding_mode"} | axes


def _every(dims, mode):
    for paddings, align_corners, coordinates, fill, outside, cubic in itertools.product(
        itertools.product(PADDINGS, repeat=dims),
        (False, True),
        ("normalized", "pixel"),
        (None, 2.5),
        (None, -1.5),
        (None, -0.5) if mode == "bicubic" else (None,),
    ):
        if fill is None or "zeros" in paddings:
            yield Case(dims, mode, paddings, align_corners, coordinates, fill, outside, cubic)


@functools.cache
def cases(dims=None, mode=None):
    """Every pair of options, in every number of dimensions and mode; or in those that are named."""
    chosen = []
    for of_dims, of_mode in itertools.product((2, 3), samples.MODES):
        if dims in (None, of_dims) and mode in (None, of_mode):
            rows = list(_every(of_dims, of_mode))
            chosen += [rows[i] for i in samples.pairwise([row.factors for row in rows])]
    return tuple(chosen)


def drawn(*others, of=None):
    """The cases, each with a value of every other list, drawn at random."""
    draw = random.Random(0)
    return [(case, *map(draw.choice, others)) for case in of or cases()]


def of_padding(padding_mode, **keywords):
    """A case of every number of dimensions, mode and align_corners."""
    return [
        Case(*options, **keywords)
        for options in itertools.product((2, 3), samples.MODES, (padding_mode,), (False, True))
    ]


def smooth(of=None):
    """Those with derivatives by the grid."""
    return [case for case in of or cases() if case.mode != "nearest"]


def sampler(case, function):
    """A function of (input, grid)."""
    return lambda *tensors: function(*tensors, *case.options, **case.keywords)


def points(values, case, device="cpu", dtype=torch.float64):
    """A grid of every combination of values along the axes."""
    rows = torch.tensor(list(itertools.product(values, repeat=case.dims)), dtype=torch.float64)
    return samples.in_a_row(rows, device, dtype)
