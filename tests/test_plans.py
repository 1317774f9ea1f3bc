"""Plans of plain numbers: where they turn from path to path, and what memory they ask for.

No tensor is made, so sizes may be those of any machine.
"""

import math
import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import gridsample_ext
from gridsample_ext import _C

SOURCES = Path(gridsample_ext.__file__).parents[1] / "csrc"
BILINEAR, NEAREST, BICUBIC = range(3)
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
MEBI = 1 << 20
SCRATCH = ("packed blocks", "shared packed block", "partial sums", "slab ranges", "listed taps")
OPS = ("forward", "backward", "jvp", "double_backward")


@dataclass(frozen=True)
class Call:
    """A call on dense tensors: sizes of the image, spatial sizes of the output."""

    input: tuple[int, ...]
    out: tuple[int, ...]
    mode: int = BILINEAR
    N_grid: int | None = None
    dtype: str = "float32"
    grid_dtype: str = "float32"
    channels_last: bool = False

    @property
    def batch(self):
        """Of the output."""
        grids = self.input[0] if self.N_grid is None else self.N_grid
        return grids if self.input[0] == 1 else self.input[0]

    @property
    def dims(self):
        """2 for images, 3 for volumes."""
        return len(self.out)

    @property
    def taps(self):
        """Of all samples."""
        return self.batch * math.prod(self.out) * (2, 1, 4)[self.mode] ** self.dims

    @property
    def compute_size(self):
        """Bytes of the type that is computed in."""
        return 8 if "float64" in (self.dtype, self.grid_dtype) else 4

    def plan(self, op="forward", **options):
        """What the library plans; other options are those of _C.explain."""
        C = self.input[1]
        order = [0, *range(2, self.dims + 2), 1] if self.channels_last else range(self.dims + 2)
        strides, stride = [0] * (self.dims + 2), 1
        for d in reversed(list(order)):
            strides[d] = stride
            stride *= self.input[d]
        image = self.input, strides, self.dtype, self.channels_last and C > 1
        grid = (self.input[0] if self.N_grid is None else self.N_grid, *self.out, self.dims)
        if op in ("jvp", "double_backward"):
            options = {"tangent_input": image, "moves_grid": True, **options}
        return _C.explain(
            op, image, (grid, grid, self.grid_dtype, False), self.mode, 0, False, **options
        )

    def path(self, op="forward", result="output", **options):
        """The path of one result."""
        return self.plan(op, **options)["paths"][result]


def random_calls(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        dims = draw.choice((2, 3))
        most = 3000 if dims == 2 else 300
        size = [int(most ** draw.random()) for _ in range(dims)]
        out = [int(most ** draw.random()) for _ in range(dims)]
        N = draw.choice((1, 1, 2, 5, 40))
        dtype, grid_dtype = draw.choice(list(SIZES)), draw.choice(list(SIZES))
        yield Call(
            (draw.choice((1, N)), int(600 ** draw.random()), *size),
            tuple(out),
            draw.choice((BILINEAR, NEAREST, BICUBIC)),
            N_grid=draw.choice((1, N)) if N == 1 else N,
            dtype=dtype,
            grid_dtype=draw.choice((dtype, grid_dtype)),
            channels_last=draw.random() < 0.4,
        )


def test_compiled_without_pytorch():
    """Plans need the C++ library and nothing else."""
    compiler = os.environ.get("CXX", "").split() or ["c++"]
    for source in sorted((SOURCES / "cpu/plan").glob("*.cpp")):
        command = [*compiler, "-std=c++20", "-fsyntax-only", f"-I{SOURCES}", str(source)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr


def test_unknown_op():
    with pytest.raises(ValueError, match="'sideways'"):
        Call((1, 1, 2, 2), (2, 2)).plan("sideways")


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (Call((1, 16, 64, 64), (64, 32)), "packed rows"),
        (Call((1, 16, 64, 64), (64, 31)), "planes"),  # too few samples
        (Call((9, 4, 64, 64), (64, 64)), "packed rows"),
        (Call((9, 3, 64, 64), (64, 64)), "in registers"),  # too few channels to pack
        (Call((1, 4, 64, 64), (64, 64), NEAREST), "in registers"),
        (Call((1, 5, 64, 64), (64, 64), NEAREST), "nearest planes"),
        (Call((1, 3, 64, 64), (64, 64), BICUBIC), "planes"),
        (Call((1, 3, 64, 64), (64, 64), dtype="float16"), "planes"),
        (Call((1, 3, 64, 64), (64, 64), dtype="float64"), "planes"),
        (Call((1, 3, 8, 8, 8), (8, 8, 8)), "planes"),
        (Call((1, 3, 64, 1), (64, 64)), "planes"),  # no two pixels side by side
        (Call((1, 3, 64, 1), (64, 64), NEAREST), "in registers"),
        (Call((1, 16, 64, 64), (64, 64), NEAREST), "nearest planes"),
        (Call((1, 15, 64, 64), (64, 64)), "planes"),  # not four channels in a quarter of 15
        (Call((1, 64, 1449, 1449), (1449, 1449)), "planes"),  # not four channels in 32 MiB
        (Call((1, 64, 1448, 1448), (1448, 1448)), "packed rows"),
        (Call((1, 5, 64, 64), (1, 1), channels_last=True), "rows"),
        (Call((1, 3, 64, 64), (1, 1), channels_last=True), "in registers"),
        (Call((1, 3, 64, 64), (1, 1), NEAREST, channels_last=True), "nearest rows"),
        (Call((1, 2, 64, 64), (1, 1), channels_last=True), "in registers"),
        (Call((1, 1, 64, 64), (1, 1), channels_last=True), "in registers"),
        (Call((1, 1, 1, (1 << 29) - 129), (1, 1)), "in registers"),  # two rows beyond fit 32 bits
        (Call((1, 1, 1, (1 << 29) - 128), (1, 1)), "plain"),
        (Call((0, 4, 64, 64), (64, 64)), "empty"),
        (Call((1, 4, 64, 64), (0, 64)), "empty"),
    ],
    ids=str,
)
def test_forward(call, path):
    assert call.path(threads=1) == path


def test_threads_without_blocks_enough_share_samples():
    """Four packed blocks: worth it for fewer than eight threads."""
    call = Call((1, 16, 256, 256), (256, 256))
    assert call.plan(threads=1)["split"]["channels of a packed block"] == 4
    assert call.path(threads=7) == "packed rows"
    assert call.path(threads=8) == "planes"


@pytest.mark.parametrize("op", ["forward", "backward"])
def test_few_samples_of_another_type(op):
    """A sample of three channels costs 240 of an image's values; with a list of taps 640."""
    result, least = ("output", 240) if op == "forward" else ("grad_input", 640)
    plain = "plain" if op == "forward" else "listed taps"
    for samples, few in ((10, True), (11, False)):
        size = (1, 3, 1, least * 10 // 3 + 1)
        call = Call(size, (1, samples), dtype="float32", grid_dtype="float64")
        assert (call.path(op, result, threads=1) == plain) == few


def test_work_for_a_thread():
    """16,384 triples of sample, channel and tap, with 4 for the taps of a sample."""
    for samples, threads in ((16384 * 3 // 8 - 1, 2), (16384 * 3 // 8, 3)):
        call = Call((1, 1, 64, 64), (1, samples))
        assert call.plan("backward", threads=64)["threads"] == threads


def test_scattered_samples():
    """Two and a half mebibytes are at hand; beyond, both gradients are not computed together."""
    for width, at_hand in ((640, True), (641, False)):
        call = Call((1, 1, 1024, width), (1024, 1024))
        paths = call.plan("backward", threads=1, scattered=True)["paths"]
        assert (paths["grad_input"] == "joint slabs in planes") == at_hand
        assert call.path("backward", "grad_input", threads=1) == "joint slabs in registers"
    paths = call.plan("backward", threads=2, scattered=True)["paths"]
    assert paths == {"grad_input": "planes, picked samples", "grad_grid": "planes"}
    rows = Call((1, 8, 1024, 641), (1024, 1024), channels_last=True)
    assert rows.path("backward", "grad_input", threads=1, scattered=True) == "one walk in rows"


@pytest.mark.parametrize("op", OPS)
def test_any_number_of_threads(op):
    """The split is never finer than what is split, nor are there more threads than asked for."""
    for call in random_calls(150, seed=OPS.index(op)):
        for threads in range(1, 65):
            plan = call.plan(op, threads=threads)
            assert 1 <= plan["threads"] <= threads
            split = plan["split"]
            assert split.get("slabs", 1) <= max(call.input[2:])
            for blocks in ("channel blocks", "groups of channels"):
                assert split.get(blocks, 1) <= max(1, call.input[1])
            for result, path in plan["paths"].items():
                assert path in _C.all_paths()[result]
                assert plan["reasons"][result] or path == "not wanted"


def way(path):
    """How grad_grid sums over channels: the ways may differ in the last bits."""
    if path in ("planes", "joint slabs in planes", "joint slabs in registers"):
        return "planes"
    if path in ("rows", "one walk in rows", "joint slabs in rows"):
        return "rows"
    return "packed rows" if path == "one walk in packed rows" else path


def test_bits_do_not_depend_on_the_number_of_threads():
    """The shapes alone decide how grad_grid sums, and what takes plain kernels."""
    for call in random_calls(300, seed=7):
        ways = {
            way(call.path("backward", "grad_grid", threads=threads, wanted=wanted))
            for threads in (1, 2, 3, 7, 16, 64)
            for wanted in ((True, True), (False, True))
        }
        assert len(ways) == 1, call


def budget(call, image_size):
    """Of a thread, for packed blocks: docs/architecture.md, "Memory"."""
    return min(32 * MEBI, math.prod(call.input) * image_size // 4)


def image_bytes(call):
    return math.prod(call.input) * call.compute_size


def check_backward(call, threads, plan):
    scratch = plan["scratch_bytes"]
    partial = scratch.get("partial sums", 0)
    in_one_walk = any(path.startswith("one walk") for path in plan["paths"].values())
    if in_one_walk:
        assert partial <= threads * budget(call, call.compute_size)
    elif partial:
        grids = call.batch if call.N_grid is None else call.N_grid
        assert grids * -(-math.prod(call.out) // 256) < 4 * threads
        assert partial <= threads * 768 * 1024 * call.compute_size // 4
    assert scratch.get("shared packed block", 0) <= budget(call, call.compute_size)
    copies = scratch.get("copies of images", 0)
    assert copies in (0, image_bytes(call))
    if SIZES[call.dtype] == call.compute_size or plan["paths"]["grad_grid"] in ("plain", "zero"):
        assert copies == 0
    sums = 0 if SIZES[call.dtype] == call.compute_size else image_bytes(call)
    if SIZES[call.grid_dtype] != call.compute_size:
        grids = call.input[0] if call.N_grid is None else call.N_grid
        sums += grids * math.prod(call.out) * call.dims * call.compute_size
    assert scratch.get("copies of results", 0) <= sums


@pytest.mark.parametrize("op", OPS)
def test_memory(op):
    """No plan asks for more than docs/architecture.md, "Memory", says."""
    for call in random_calls(1500, seed=10 + OPS.index(op)):
        for threads in (1, 3, 64):
            plan = call.plan(op, threads=threads)
            scratch = plan["scratch_bytes"]
            assert scratch.get("packed blocks", 0) <= threads * budget(call, call.compute_size)
            tiles = call.batch * -(-math.prod(call.out) // 256)
            assert scratch.get("slab ranges", 0) == (
                16 * tiles if plan["split"].get("slabs", 1) > 1 else 0
            )
            assert scratch.get("listed taps", 0) == (
                32 * call.taps if "listed taps" in plan["paths"].values() else 0
            )
            if op == "backward":
                check_backward(call, threads, plan)
            elif op == "forward":
                copies = scratch.get("copies of images", 0), scratch.get("copies of results", 0)
                widens = call.mode != NEAREST  # which copies elements of any type
                wide = widens and call.dtype != "float64" and call.compute_size == 8
                values = call.batch * call.input[1] * math.prod(call.out)
                assert copies == ((image_bytes(call), 8 * values) if wide else (0, 0)) or (
                    plan["paths"]["output"] == "plain" and copies == (0, 0)
                )
            else:  # copies as rows of input, of its tangent and of grad_input
                assert scratch.get("copies of images", 0) <= 2 * image_bytes(call)
                assert scratch.get("copies of results", 0) <= image_bytes(call)


@pytest.mark.parametrize("op", OPS)
def test_few_samples_take_no_memory_for_the_image(op):
    """docs/semantics.md, "Layout": ten samples of images of any size, type and layout."""
    for call in random_calls(1500, seed=20 + OPS.index(op)):
        ten = Call(
            (1, *call.input[1:]), (1,) * (call.dims - 1) + (10,), call.mode, None, call.dtype,
            call.grid_dtype, call.channels_last,
        )  # fmt: skip
        if math.prod(ten.input) < 32_000 * ten.taps * ten.input[1]:
            continue
        scratch = ten.plan(op, threads=4)["scratch_bytes"]
        assert "copies of images" not in scratch
        partial = scratch.pop("partial sums", 0)
        assert partial <= 4 * 768 * 1024 * ten.compute_size // 4
        assert sum(scratch.values()) <= 64 * ten.taps * ten.input[1], (ten, scratch)


@pytest.mark.parametrize("op", ["forward", "backward", "double_backward"])
def test_without_scratch(op):
    """Whatever cannot be allocated, another path needs none of it, and has a name and a reason."""
    for call in random_calls(600, seed=30 + OPS.index(op)):
        plan = call.plan(op, threads=5)
        missing = [name for name in SCRATCH if name in plan["scratch_bytes"]]
        tried = []
        while missing:
            tried += missing
            plan = call.plan(op, threads=5, without=tried)
            assert not set(tried) & plan["scratch_bytes"].keys()
            assert all(plan["reasons"].values())
            missing = [name for name in SCRATCH if name in plan["scratch_bytes"]]


def test_a_call_that_has_to_do_without_memory():
    call = Call((1, 16, 512, 512), (400, 400))
    assert call.path(threads=2) == "packed rows"
    plan = call.plan(threads=2, without=["packed blocks"])
    assert plan["paths"] == {"output": "planes"}
    assert plan["reasons"] == {"output": "no memory to pack the image"}
    without = ["packed blocks"]
    backward = {"grad_input": "planes", "grad_grid": "packed rows"}
    assert call.plan("backward", threads=2, without=without)["paths"] == backward
    without = ["packed blocks", "shared packed block"]
    backward = {"grad_input": "planes", "grad_grid": "planes"}
    assert call.plan("backward", threads=2, without=without)["paths"] == backward
