"""sample_labels: what one-hot encoding, sampling and argmax give."""

import itertools
from dataclasses import replace

import boundaries
import pytest
import samples
import torch
from test_integers import DTYPES, LAYOUTS, SIGNED

from gridsample_ext import grid_sample, sample_labels

CASES = list(boundaries.cases())
CHANNELS = (1, 2, 3, 5)
GRID_DTYPES = (torch.float32, torch.float64, torch.float16)
LARGE = samples.Shape("large", C=1, size=(9, 20, 30), out=(5, 16, 31))
NEAR_TIE = 1e-4


def labels_of(dtype):
    """A few that are not in a row, the ends of the type among them."""
    if dtype == torch.bool:
        return torch.tensor([False, True])
    ends = torch.iinfo(dtype)
    some = [ends.min, ends.max, 7, ends.max - 1, ends.max // 2 + 2]
    return torch.tensor([*some, -3] if dtype in SIGNED else some, dtype=dtype)


def draw(case, shape, dtype, grid_dtype=torch.float64, device="cpu", seed=4):
    labels = labels_of(dtype)
    which = torch.randint(
        0, len(labels), shape.input_shape(case.dims), generator=samples.generator(seed)
    )
    _, grid = samples.sample(case, shape, grid_dtype, device=device)
    image = labels[which] if dtype.itemsize == 1 or dtype in SIGNED else pick(labels, which)
    return image.to(device), grid


def pick(labels, which):
    """Index a tensor of a type that few operations take."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return labels.view(kinds[labels.itemsize])[which].view(labels.dtype)


def label_values(case, dtype):
    """fill_value and outside_value, labels of the image and others."""
    others = {"fill_value": 7, "outside_value": -5 if dtype in SIGNED else 9}
    if dtype == torch.bool:
        others = {"fill_value": 1, "outside_value": 1}
    given = {name: others[name] for name in others if getattr(case, name) is not None}
    rest = {name: value for name, value in case.keywords.items() if name not in others}
    return rest | given


def numbers(tensor):
    """As Python's, which hold every label."""
    return tensor.cpu().flatten().tolist()


def one_hot(case, labels, grid, keywords):
    """(the labels, whether the two greatest weights are close), in float64."""
    fill, outside = keywords.get("fill_value"), keywords.get("outside_value")
    rest = {name: value for name, value in keywords.items() if not name.endswith("_value")}
    values = numbers(labels)
    known = sorted({*values} | ({fill} if fill is not None else set()))
    where = torch.tensor([known.index(value) for value in values]).reshape(labels.shape)
    weights = []
    for number, label in enumerate(known):
        plane = (where == number).double()
        filled = {"fill_value": 1.0} if label == fill else {}
        weights.append(grid_sample(plane, grid.cpu().double(), *case.options, **rest, **filled))
    weights = torch.stack(weights)
    most, winner = weights.max(0)
    winner = torch.where(most > 0, winner, -1)
    # Argmax of ties, and of sums that round differently, is left to other tests.
    ranked = torch.cat([weights, torch.zeros_like(weights[:1])]).sort(0).values
    close = ranked[-1] - ranked[-2] < NEAR_TIE
    close &= ~((most == 0) & (weights == 0).all(0))
    results = [known[i] if i >= 0 else fill or 0 for i in winner.flatten().tolist()]
    if outside is not None:
        image = torch.zeros(1, 1, *labels.shape[2:], dtype=torch.float64)
        marks = {"coordinates": case.coordinates, "outside_value": 1.0}
        off = grid_sample(image, grid.cpu().double(), *case.options, **marks) != 0
        off = off.expand_as(winner)
        close &= ~off
        results = [outside if o else r for o, r in zip(off.flatten(), results, strict=True)]
    return results, close.flatten().tolist()


def assert_as_one_hot(case, labels, grid, keywords, most_close=0.1):
    output = sample_labels(labels, grid, *case.options, **keywords)
    assert output.dtype == labels.dtype
    assert not output.requires_grad
    expected, close = one_hot(case, labels, grid, keywords)
    assert sum(close) <= most_close * len(close)
    wrong = [
        (i, a, e)
        for i, (a, e, near) in enumerate(zip(numbers(output), expected, close, strict=True))
        if a != e and not near
    ]
    assert not wrong
    return output


@pytest.mark.all_combinations
@pytest.mark.parametrize(
    ("case", "channels", "layout", "dtype", "grid_dtype"),
    boundaries.drawn(CHANNELS, LAYOUTS, DTYPES, GRID_DTYPES, of=CASES),
    ids=str,
)
def test_one_hot(case, channels, layout, dtype, grid_dtype, device):
    shape = samples.Shape("drawn", C=channels, size=(4, 6, 7), out=(2, 5, 9))
    labels, grid = draw(case, shape, dtype, grid_dtype, device)
    labels = samples.INPUT_LAYOUTS[layout](labels)
    output = assert_as_one_hot(case, labels, grid, label_values(case, dtype), 0.2)
    like = samples.INPUT_LAYOUTS[layout](torch.zeros(labels.shape))
    assert output.stride() == grid_sample(like, grid.cpu(), align_corners=False).stride()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.uint64], ids=str)
@pytest.mark.parametrize("shape", [*samples.SHAPES, samples.FEW_SAMPLES], ids=str)
@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_shape(dims, mode, shape, dtype, device):
    case = boundaries.Case(dims, mode, "zeros", False)
    labels, grid = draw(case, replace(shape, C=min(shape.C, 3)), dtype, device=device)
    assert_as_one_hot(case, labels, grid, {}, 0.5)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.uint16], ids=str)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_three_hundred_labels(mode, dtype, device):
    case = boundaries.Case(2, mode, "border", False)
    which = torch.randint(0, 300, LARGE.input_shape(2), generator=samples.generator())
    labels = (which * 7 - (1000 if dtype in SIGNED else 0)).to(device, dtype)
    _, grid = samples.sample(case, LARGE, torch.float32, device=device)
    assert_as_one_hot(case, labels, grid, {})


@pytest.mark.parametrize("grid_dtype", GRID_DTYPES[:2], ids=str)
@pytest.mark.parametrize("paddings", list(itertools.product(boundaries.PADDINGS, repeat=2)))
@pytest.mark.parametrize("fill", [None, 7, 12])
@pytest.mark.parametrize("mode", samples.MODES)
def test_paddings_of_each_axis(mode, fill, paddings, grid_dtype, device):
    case = boundaries.Case(2, mode, paddings, False)
    labels, grid = draw(case, LARGE, torch.int64, grid_dtype, device)
    keywords = {} if fill is None or "zeros" not in paddings else {"fill_value": fill}
    assert_as_one_hot(case, labels, grid, keywords, 0.2)


def row(device, *values, dtype=torch.int64):
    return torch.tensor(values, dtype=dtype, device=device).reshape(1, 1, 1, -1)


def at(device, *positions):
    """Pixel coordinates along one row."""
    points = torch.tensor([[float(x), 0.0] for x in positions])
    return samples.in_a_row(points, device, torch.float32)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_are_won_by_the_smaller(dtype, mode, device):
    """Halfway between two pixels, on either side."""
    known = sorted(numbers(labels_of(dtype)))
    for low, high in itertools.combinations(known, 2):
        for pair in ((low, high), (high, low)):
            # Four of each, so that the outer taps of a cubic are of the same two labels.
            labels = row(device, *[pair[0]] * 4, *[pair[1]] * 4, dtype=dtype)
            output = sample_labels(labels, at(device, 3.5, 3.25, 3.75), mode, coordinates="pixel")
            assert numbers(output) == [low, *pair]


def test_ties_of_several(device):
    """Of four labels, with fill and without; of three, two of which are one."""
    labels = torch.tensor([[[[9, -4], [3, 5]]]], device=device)
    middle = samples.in_a_row(torch.tensor([[0.5, 0.5]]), device, torch.float32)
    assert sample_labels(labels, middle, coordinates="pixel").item() == -4
    labels[0, 0, 1, 1] = 9
    assert sample_labels(labels, middle, coordinates="pixel").item() == 9
    corner = samples.in_a_row(torch.tensor([[-0.5, -0.5]]), device, torch.float32)
    for fill, expected in ((None, 9), (8, 8), (10, 10)):
        output = sample_labels(labels, corner, coordinates="pixel", fill_value=fill)
        assert output.item() == expected
    edge = samples.in_a_row(torch.tensor([[-0.5, 0.0]]), device, torch.float32)
    for fill, expected in ((None, 9), (8, 8), (10, 9), (-10, -10)):
        output = sample_labels(labels, edge, coordinates="pixel", fill_value=fill)
        assert output.item() == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", samples.MODES)
def test_samples_without_a_weight(mode, dtype, device):
    """The fill label, or 0; with an outside label that."""
    most = min(int(numbers(labels_of(dtype))[1]), 2**63 - 1)
    labels = row(device, most, most, dtype=dtype)
    grid = at(device, 40, -40)
    for keywords, expected in (
        ({}, 0),
        ({"fill_value": most}, most),
        ({"outside_value": most}, most),
        ({"fill_value": most, "outside_value": 0}, 0),
        ({"outside_value": 1}, 1),
    ):
        output = sample_labels(labels, grid, mode, coordinates="pixel", **keywords)
        assert numbers(output) == [expected] * 2


def test_weights_below_zero_win_nothing(device):
    """A cubic sample whose one pixel counts less than nothing."""
    labels = row(device, 5, 5)
    output = sample_labels(labels, at(device, -1.5, -0.5), "bicubic", coordinates="pixel")
    assert numbers(output) == [0, 5]
    filled = {"coordinates": "pixel", "fill_value": 3}
    assert numbers(sample_labels(labels, at(device, -1.5), "bicubic", **filled)) == [3]


@pytest.mark.parametrize("mode", samples.MODES)
def test_circular_seam(mode, device):
    """Past the last pixel comes the first."""
    labels = row(device, -7, -7, 4, 300)
    call = {"padding_mode": ("circular", "border"), "coordinates": "pixel"}
    output = sample_labels(labels, at(device, 3.2, 3.8, -0.2, -0.8, 7.2, 4.0), mode, **call)
    assert numbers(output) == [300, -7, -7, 300, 300, -7]
    assert numbers(sample_labels(labels, at(device, 3.5), "bilinear", **call)) == [-7]


def test_fill_counts_beside_pixels(device):
    labels = row(device, 2, 2)
    grid = at(device, -0.25, -0.75, 1.25, 1.75)
    call = {"coordinates": "pixel"}
    assert numbers(sample_labels(labels, grid, **call)) == [2] * 4
    assert numbers(sample_labels(labels, grid, **call, fill_value=-1)) == [2, -1, 2, -1]
    # The same label outside and inside adds up.
    labels = row(device, 6, 5, 6)
    points = torch.tensor([[0.75, -0.45], [1.0, -0.45], [1.0, -0.55]])
    grid = samples.in_a_row(points, device, torch.float32)
    assert numbers(sample_labels(labels, grid, **call, fill_value=6)) == [6, 5, 6]


@pytest.mark.parametrize("shape", samples.EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.int64], ids=str)
def test_empty_ones(dtype, shape, device):
    labels = torch.zeros(shape.input_shape(2), dtype=dtype, device=device)
    grid = torch.zeros(shape.grid_shape(2), device=device)
    output = sample_labels(labels, grid, align_corners=False)
    expected = grid_sample(labels.float(), grid, align_corners=False)
    assert (output.dtype, output.shape) == (dtype, expected.shape)


@pytest.mark.parametrize("grid_dtype", GRID_DTYPES[:2], ids=str)
@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_coordinates_that_are_no_numbers(case, grid_dtype, device):
    """As grid_sample reads them, in the same type."""
    values = [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 0.3]
    grid = boundaries.points(values, case, device, grid_dtype)
    labels, _ = draw(case, samples.Shape("one", N=1, C=2, size=(4, 6, 7)), torch.int64)
    labels = labels.clamp(-3, 7).to(device)
    keywords = {"coordinates": case.coordinates}
    output = sample_labels(labels, grid, *case.options, **keywords)
    planes = torch.cat([(labels == label).to(grid_dtype) for label in range(-3, 8)], 1)
    weights = grid_sample(planes, grid, *case.options, **keywords).unflatten(1, (11, 2))
    most, winner = weights.max(1)
    second = weights.sort(1).values[:, -2]
    expected = torch.where(most > 0, winner - 3, 0)
    close = (most - second < NEAR_TIE) & (most != 0)
    assert torch.equal(torch.where(close, 0, output), torch.where(close, 0, expected))


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_threads(case, device):
    labels, grid = draw(case, LARGE, torch.int32, torch.float32, device)
    outputs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        keywords = label_values(case, torch.int32)
        outputs.append(sample_labels(labels, grid, *case.options, **keywords))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("case", boundaries.cases(mode="nearest"), ids=str)
def test_nearest_copies(case, device):
    """As grid_sample does, whatever the label."""
    labels, grid = draw(case, samples.SMALL, torch.int32, torch.float32, device)
    keywords = label_values(case, torch.int32)
    output = sample_labels(labels, grid, *case.options, **keywords)
    assert torch.equal(output, grid_sample(labels, grid, *case.options, **keywords))
