"""Where every test draws its cases, tensors and tolerances from."""

import itertools
import math
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F

TORCH_VERSION = tuple(map(int, torch.__version__.split(".")[:2]))

MODES = ("bilinear", "nearest", "bicubic", "bspline")
CUBIC_MODES = MODES[2:]
PADDING_MODES = ("zeros", "border", "reflection")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Relative to the larger of 1 and the expected values. float64 and float32: thousands and dozens of
# roundings; the halves: the one rounding of the result, with a margin for sums next to a tie.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 4e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}

# No coordinate of a grid that is compared with another implementation comes closer than this to a
# pixel centre or edge, where values (nearest) and slopes jump.
BAND = 0.05


@dataclass(frozen=True)
class Case:
    """One way to call: the options, and the number of spatial dimensions."""

    dims: int
    mode: str
    padding_mode: str
    align_corners: bool

    def __str__(self):
        reach = "corners" if self.align_corners else "edges"
        return f"{self.dims}d-{self.mode}-{self.padding_mode}-{reach}"

    @property
    def options(self):
        """The arguments after (input, grid) of the public function."""
        return self.mode, self.padding_mode, self.align_corners

    @property
    def op_options(self):
        """The same, as the ops take them."""
        return MODES.index(self.mode), PADDING_MODES.index(self.padding_mode), self.align_corners

    # What boundaries.Case adds to: the public function's keywords, the ops' last arguments, what
    # normalize() is told, and what pairwise() combines.
    keywords = MappingProxyType({})
    later = ()

    @property
    def units(self):  # noqa: D102
        return self.align_corners

    @property
    def factors(self):  # noqa: D102
        return vars(self)


CASES = [
    Case(*options) for options in itertools.product((2, 3), MODES, PADDING_MODES, (False, True))
]


# Those that give a pixel at its centre.
INTERPOLATING = [case for case in CASES if case.mode != "bspline"]


def cases(**fixed):
    return [
        case for case in CASES if all(getattr(case, name) == value for name, value in fixed.items())
    ]


def factors(parameters):
    """Split the parameters of a test, by name, into what pairwise() combines: a case into its own.

    Values are told apart by their repr.
    """
    split = {}
    for name, value in parameters.items():
        split.update(value.factors if isinstance(value, Case) else {name: value})
    return {name: repr(value) for name, value in split.items()}


def pairwise(rows):
    """Choose rows that hold every pair of values that any row holds: a covering array.

    rows: a dict per row, from the names of factors to values. Returns the indices of the chosen
    rows in ascending order. Greedy: the first of the rows with the most pairs that are still
    missing, until none is; so rows in one order always give one choice. A product of four factors
    of 2, 3, 3 and 2 values, 36 rows, takes about ten.
    """
    # A value beside itself is a pair, so that rows of one factor are chosen, too.
    pairs = [set(itertools.combinations_with_replacement(row.items(), 2)) for row in rows]
    missing = set().union(*pairs)
    chosen = []
    while missing:
        chosen.append(max(range(len(rows)), key=lambda i: len(pairs[i] & missing)))
        missing -= pairs[chosen[-1]]
    return sorted(chosen)


def torch_supports(case):
    """Whether the installed torch has this case; bspline it has not, and 5-D bicubic came late."""
    try:
        F.grid_sample(
            torch.zeros(1, 1, *[2] * case.dims),
            torch.zeros(1, *[1] * case.dims, case.dims),
            *case.options,
        )
    except (RuntimeError, ValueError):
        return False
    return True


TORCH_CASES = [case for case in CASES if torch_supports(case)]


@dataclass(frozen=True)
class Shape:
    """Sizes for both numbers of dimensions: 2-D takes the last two of `size` and of `out`."""

    name: str
    N: int = 2
    C: int = 3
    size: tuple = (3, 4, 5)
    out: tuple = (2, 3, 4)
    N_input: int | None = None
    N_grid: int | None = None

    def __str__(self):
        return self.name

    def input_shape(self, dims):  # noqa: D102
        return (self.N if self.N_input is None else self.N_input, self.C, *self.size[-dims:])

    def grid_shape(self, dims):  # noqa: D102
        return (self.N if self.N_grid is None else self.N_grid, *self.out[-dims:], dims)


SMALL = Shape("small")
SHAPES = [
    SMALL,
    Shape("one_image_one_channel", N=1, C=1, size=(5, 7, 3), out=(1, 5, 17)),
    Shape("odd_channels", N=1, C=19, size=(2, 5, 3), out=(2, 1, 3)),
    # Packed into rows of channels: in blocks, and whole (csrc/cpu/plan/split.h).
    Shape("blocks_of_channels", N=1, C=67, size=(2, 5, 3), out=(2, 4, 5)),
    Shape("whole_images", N=5, C=37, size=(2, 3, 5), out=(2, 3, 19)),
    Shape("size_1_width", size=(3, 4, 1)),
    Shape("size_1_height", size=(3, 1, 4)),
    Shape("size_1_depth", size=(1, 3, 4)),
    Shape("size_1_everywhere", size=(1, 1, 1)),
    Shape("one_sample", out=(1, 1, 1)),
    Shape("input_broadcast", N_input=1, N_grid=3),
    Shape("grid_broadcast", N_input=3, N_grid=1),
    Shape("grid_broadcast_blocks", C=19, size=(2, 5, 3), out=(2, 4, 5), N_input=3, N_grid=1),
]
# So few samples that the CPU takes their pixels one by one where it would have to copy the image
# first (has_few_samples, csrc/cpu/plan/split.h).
FEW_SAMPLES = Shape("few_samples", size=(4, 60, 70), out=(1, 1, 2))
FEW_SAMPLES_SHAPES = [
    FEW_SAMPLES,
    Shape("few_samples_one_channel", N=1, C=1, size=(4, 60, 70), out=(1, 1, 2)),
    Shape("few_samples_one_image", size=(4, 60, 70), out=(1, 1, 2), N_input=1, N_grid=2),
    Shape("few_samples_one_grid", size=(4, 60, 70), out=(1, 1, 2), N_input=3, N_grid=1),
    Shape("few_samples_many_channels", N=1, C=35, size=(4, 20, 30), out=(1, 1, 2)),
]
# For finite differences and derivatives of several orders.
TINY = Shape("tiny", N=1, C=2, size=(2, 3, 4), out=(1, 2, 3))
TINY_BATCH = Shape("tiny", N=2, C=2, size=(2, 3, 4), out=(2, 1, 2))
SMALL_SHAPES = [SMALL, *(shape for shape in SHAPES if "broadcast" in shape.name)]
# Many samples on few pixels, so that the order of additions matters, and the orders in which the
# emulation of CUDA runs threads: seeds, the first of them twice.
CROWDED = Shape("crowded", N=1, C=8, size=(1, 2, 3), out=(2, 17, 31))
SEEDS = ("1", "2", "3")
SEEDS_AND_FIRST = (*SEEDS, *SEEDS[:1])
EMPTY_SHAPES = [
    Shape("no_images", N=0),
    Shape("no_images_one_grid", N_input=0, N_grid=1),
    Shape("no_grids_one_image", N_input=1, N_grid=0),
    Shape("no_images_many_samples", N=0, size=(32, 40, 40), out=(2, 131, 140)),
    Shape("one_image_no_grids", size=(32, 40, 40), out=(2, 131, 140), N_input=1, N_grid=0),
    Shape("no_channels", C=0),
    Shape("no_width_out", out=(2, 3, 0)),
    Shape("no_height_out", out=(2, 0, 3)),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, dtype=torch.float64, device="cpu", seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(device, dtype)


def normalize(coordinates, sizes, align_corners):
    """Turn pixel coordinates, last dimension x, y(, z), into grid values.

    With align_corners an axis of size 1 has only the coordinate 0, whatever the grid value. None in
    its place: the grid holds pixel coordinates.
    """
    if align_corners is None:
        return coordinates
    sizes = torch.tensor(sizes[::-1], dtype=torch.float64)
    if align_corners:
        return torch.where(sizes == 1, coordinates, 2 * coordinates / (sizes - 1).clamp(min=1) - 1)
    return (2 * coordinates + 1) / sizes - 1


def off_lattice(coordinates):
    """Squeeze coordinates out of the bands around multiples of 1/2.

    [k, k + 1/2] -> [k + BAND, k + 1/2 - BAND]
    """
    cell = (2 * coordinates).floor()
    return (cell + 2 * BAND + (1 - 4 * BAND) * (2 * coordinates - cell)) / 2


def interior_grid(shape, sizes, align_corners, dtype=torch.float64, device="cpu", seed=1):
    """All four cubic taps of every axis inside, for axes of 4 or more; off the lattice."""
    inner = torch.tensor([max(size - 3, 0) for size in sizes[::-1]], dtype=torch.float64)
    u = 1 + inner * torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    return normalize(off_lattice(u), sizes, align_corners).to(device, dtype)


def wide_grid(shape, sizes, align_corners, dtype=torch.float64, device="cpu", seed=1):
    """From two image widths before the image to two behind, half of it inside; off the lattice."""
    lengths = torch.tensor(sizes[::-1], dtype=torch.float64)
    r = 2 * torch.rand(shape, generator=generator(seed), dtype=torch.float64) - 1
    scale = torch.where(torch.rand(shape, generator=generator(seed + 1)) < 0.5, 0.5, 2.5)
    u = lengths * (0.5 + r * scale)
    return normalize(off_lattice(u), sizes, align_corners).to(device, dtype)


def in_a_row(points, device="cpu", dtype=torch.float64):
    """Make a grid of one image, (1, [1, ]1, n, dims), of n points, (n, dims)."""
    dims = points.shape[-1]
    return points.reshape(1, *[1] * (dims - 1), -1, dims).to(device, dtype)


def identity_grid(sizes, align_corners, dtype=torch.float64, device="cpu"):
    """One sample at every pixel centre, shape (1, ...sizes, dims)."""
    axes = torch.meshgrid(
        *[torch.arange(size, dtype=torch.float64) for size in sizes], indexing="ij"
    )
    return normalize(torch.stack(axes[::-1], -1), sizes, align_corners)[None].to(device, dtype)


def sample(
    case, shape=SMALL, dtype=torch.float64, grid_dtype=None, device="cpu", make_grid=wide_grid
):
    """(input, grid) for a case."""
    input_shape, grid_shape = shape.input_shape(case.dims), shape.grid_shape(case.dims)
    input = randn(*input_shape, dtype=dtype, device=device)
    grid = make_grid(grid_shape, input_shape[2:], case.units, grid_dtype or dtype, device)
    return input, grid


def grad_like(input, grid, seed=3):
    """Draw a gradient for the output of (input, grid)."""
    N = grid.shape[0] if input.shape[0] == 1 else input.shape[0]
    return randn(
        N, input.shape[1], *grid.shape[1:-1], dtype=input.dtype, device=input.device, seed=seed
    )


TAPS_PER_AXIS = {"nearest": 1, "bilinear": 2} | dict.fromkeys(CUBIC_MODES, 4)
TAPS = {"nearest": slice(4, 5), "bilinear": slice(4, 6)} | dict.fromkeys(CUBIC_MODES, slice(3, 7))


def amid_infinity(case, device, seed=0):
    """(input, grid) of one sample at 4.3 along each axis; pixels without a tap are infinite."""
    input = torch.full((1, 2, *[9] * case.dims), math.inf, dtype=torch.float64, device=device)
    footprint = (slice(None), slice(None), *[TAPS[case.mode]] * case.dims)
    input[footprint] = randn(*input[footprint].shape, device=device, seed=seed)
    u = torch.full((1, case.dims), 4.3, dtype=torch.float64)
    return input, in_a_row(normalize(u, input.shape[2:], case.units), device)


def few_to_many(case):
    """(sizes of an image, numbers of samples), with up to twice as many taps as it has pixels."""
    taps = TAPS_PER_AXIS[case.mode] ** case.dims
    size = (16, 17, 18) if case.dims == 3 else (36, 60)
    as_many = math.prod(size) // taps
    return size, [max(as_many * i // 64, 1) for i in (1, 3, 5, 15, 17, 31, 33, 63, 65, 127, 129)]


def channels_last(tensor):
    """Put the channels innermost in memory, even where is_contiguous() cannot tell."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def sliced(tensor):
    """Take every second element, in every dimension, of a tensor with NaN in between."""
    larger = tensor.new_full([2 * size + 1 for size in tensor.shape], float("nan"))
    view = larger[tuple(slice(1, None, 2) for _ in tensor.shape)]
    return view.copy_(tensor)


def reversed_dimensions(tensor):
    """Put the first dimension innermost in memory."""
    order = range(tensor.dim() - 1, -1, -1)
    return tensor.permute(*order).contiguous().permute(*order)


def expanded(tensor):
    """Repeat the first column of an image by stride 0."""
    return tensor[..., :1].expand_as(tensor)


INPUT_LAYOUTS = {
    "contiguous": torch.Tensor.contiguous,
    "channels_last": channels_last,
    "sliced": sliced,
    "sliced_channels_last": lambda tensor: channels_last(torch.cat([tensor, tensor], -1))[..., ::2],
    "every_second_channel_last": lambda tensor: channels_last(torch.cat([tensor, tensor], 1))[
        :, ::2
    ],
    "reversed_dimensions": reversed_dimensions,
    "spatial_transposed": lambda tensor: tensor.transpose(-1, -2).contiguous().transpose(-1, -2),
    "expanded_width": expanded,
    "expanded_channels": lambda tensor: tensor[:, :1].expand_as(tensor),
    "expanded_batch": lambda tensor: tensor[:1].expand_as(tensor),
}
GRID_LAYOUTS = {
    "contiguous": torch.Tensor.contiguous,
    "sliced": sliced,
    "coordinates_first": lambda grid: grid.movedim(-1, 1).contiguous().movedim(1, -1),
    "reversed_dimensions": reversed_dimensions,
    "expanded_width": lambda grid: grid[..., :1, :].expand_as(grid),
    "expanded_batch": lambda grid: grid[:1].expand_as(grid),
}


def exact_call(N, C, size, out, most=1.5):
    """Numbers of which float32 rounds nothing, where pixels of an axis are a power of two.

    The image has small whole numbers, the grid multiples of 1/64 up to `most`.
    """
    draw = torch.Generator().manual_seed(C)
    image = torch.randint(-8, 9, (N, C, *size), generator=draw).float()
    ends = int(64 * most)
    shape = (N, *out, len(size))
    return image, torch.randint(-ends, ends + 1, shape, generator=draw) / 64


def assert_close(actual, expected, dtype=None, terms=1.0):
    """Compare a result in its own type with float64 values, by the table above.

    terms: the size of the terms that were added up, where a sum may come out far smaller.
    """
    assert actual.dtype == (dtype or actual.dtype)
    expected = expected.to(actual.device)
    finite = expected[expected.isfinite()].abs()
    scale = max(terms, finite.max().item() if finite.numel() else 0.0)
    tolerance = TOLERANCES[actual.dtype]
    torch.testing.assert_close(
        actual.double(), expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True
    )


def assert_gradients_close(actual, expected, input, grid):
    """Compare (grad_input, grad_grid) with float64 values.

    grad_grid adds C terms of S/2, which cancel where padding repeats one pixel under all taps.
    """
    assert [gradient.shape for gradient in actual] == [input.shape, grid.shape]
    terms = max(input.shape[2:]) / 2 * math.sqrt(input.shape[1])
    assert_close(actual[0], expected[0], input.dtype)
    assert_close(actual[1], expected[1], grid.dtype, max(terms, 1.0))


def assert_bitwise_equal(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[
        actual.element_size()
    ]
    assert torch.equal(actual.contiguous().view(integer), expected.contiguous().view(integer))
