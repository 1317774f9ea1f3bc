"""The host emulation of CUDA (tests/cuda_emulation), against models of what CUDA specifies."""

import concurrent.futures
import ctypes
import fractions
import os
import pathlib
import random
import shlex
import subprocess

import numpy as np
import pytest
import torch

FOLDER = pathlib.Path(__file__).parent / "cuda_emulation"
INVALID_VALUE, INVALID_CONFIGURATION = 1, 9
WORDS = {
    "int": np.int32,
    "unsigned": np.uint32,
    "long": np.int64,
    "unsigned long": np.uint64,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
SEEDS = (None, 1, 2, 3)


COMPILER = shlex.split(os.environ.get("CXX", "c++"))
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
BUILDS = {
    "library": ("self_test.cu", "-shared", "-fPIC"),
    "sanitized": ("bounds.cu", *SANITIZE),
    "ucontext": ("bounds.cu", "-DGRIDSAMPLE_EMULATION_UCONTEXT"),
}


class Arguments(ctypes.Structure):
    """What every kernel of self_test.cu takes."""

    _fields_ = [
        ("inputs", ctypes.c_void_p * 5),
        ("out", ctypes.c_void_p),
        ("n", ctypes.c_int),
    ]


class Emulation:
    """The compiled self_test.cu."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))
        self.library.error_string.restype = ctypes.c_char_p
        self.library.set_bytes.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

    def launch(self, kernel, grid, block, inputs=(), out=None, shared_bytes=0, n=0):
        """Return cudaLaunchKernel's error code; raise what it throws."""
        extents = [(ctypes.c_uint * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
        arguments = Arguments(n=n)
        for i, array in enumerate(inputs):
            arguments.inputs[i] = array.ctypes.data
        arguments.out = None if out is None else out.ctypes.data
        message = ctypes.create_string_buffer(1000)
        code = self.library.launch(
            kernel.encode(), *extents, ctypes.c_size_t(shared_bytes), arguments, message, 1000
        )
        if code < 0:
            raise RuntimeError(message.value.decode())
        return code

    def run(self, kernel, grid, block, *arguments, **options):
        """Launch what must succeed; return `out`."""
        out = options["out"]
        assert self.launch(kernel, grid, block, *arguments, **options) == 0
        return out


pytestmark = pytest.mark.compiles


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Start all compilers; what is returned waits for one and tells where its result lies."""
    folder = tmp_path_factory.mktemp("emulation")
    flags = ["-std=c++20", "-O1", "-DGRIDSAMPLE_CUDA_EMULATION", "-I", FOLDER / "include"]

    def build(name):
        source, *options = BUILDS[name]
        sources = ["-x", "c++", FOLDER / source, FOLDER / "emulation.cpp"]
        command = [*COMPILER, *flags, *options, *sources, "-o", folder / name]
        compiled = subprocess.run(command, capture_output=True, text=True)
        assert compiled.returncode == 0, compiled.stderr
        return folder / name

    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = {name: pool.submit(build, name) for name in BUILDS}
        yield lambda name: results[name].result()


@pytest.fixture(scope="module")
def emulation(builds):
    return Emulation(builds("library"))


@pytest.fixture(params=SEEDS, ids=lambda seed: "ascending" if seed is None else f"seed{seed}")
def order(request, monkeypatch):
    """Every order of threads."""
    set_order(monkeypatch, request.param)
    return request.param


def set_order(monkeypatch, seed):
    if seed is None:
        monkeypatch.delenv("GRIDSAMPLE_EMULATION_SHUFFLE", raising=False)
    else:
        monkeypatch.setenv("GRIDSAMPLE_EMULATION_SHUFFLE", str(seed))


def reverse(emulation, kernel="reverse"):
    """Three blocks of 256 reversed, each on its own; what was found and what is right."""
    values = np.arange(3 * 256, dtype=np.int32)
    out = np.zeros_like(values)
    emulation.run(kernel, (3,), (256,), [values], out=out, shared_bytes=1024)
    return out, values.reshape(3, 256)[:, ::-1].reshape(-1)


# ---- Threads, barriers, shared memory


@pytest.mark.parametrize(
    ("grid", "block"),
    [((1,), (1,)), ((3,), (33,)), ((2, 3), (5, 4)), ((2, 1, 3), (4, 2, 8)), ((1, 2), (32, 32))],
)
def test_indices(emulation, order, grid, block):
    grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
    expected = [
        [tx, ty, tz, bx, by, bz, *block, *grid]
        for bz, by, bx in np.ndindex(*grid[::-1])
        for tz, ty, tx in np.ndindex(*block[::-1])
    ]
    out = np.zeros((len(expected), 12), dtype=np.uint32)
    emulation.run("indices", grid, block, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2, 64, 1024])
def test_sums_over_blocks(emulation, order, threads):
    values = np.random.default_rng(0).integers(-(2**50), 2**50, (5, threads))
    out = np.zeros(5, dtype=np.int64)
    emulation.run("sums", (5,), (threads,), [values], out=out, shared_bytes=threads * 8)
    np.testing.assert_array_equal(out, values.sum(1))


def test_reversal(emulation, order):
    np.testing.assert_array_equal(*reverse(emulation))


def test_a_missing_barrier_shows(emulation, monkeypatch):
    found = set()
    for seed in SEEDS:
        set_order(monkeypatch, seed)
        out, expected = reverse(emulation, "reverse_without_barrier")
        assert (out != expected).any()
        found.add(out.tobytes())
    assert len(found) == len(SEEDS)


def test_each_block_gets_fresh_shared_memory(emulation, order):
    out = np.zeros(4 * 100, dtype=np.uint8)
    emulation.run("fresh_shared_memory", (4,), (100,), out=out, shared_bytes=100)
    assert (out == 0xFF).all()


def tickets(emulation):
    return emulation.run("tickets", (8,), (64,), out=np.zeros(1 + 8 * 64, dtype=np.int32))[1:]


def test_order_is_ascending(emulation, monkeypatch):
    set_order(monkeypatch, None)
    np.testing.assert_array_equal(tickets(emulation), np.arange(8 * 64))


def test_order_is_shuffled(emulation, monkeypatch):
    """Blocks and threads, for each launch anew; again the same for the same seed."""

    def two_launches():
        return [tickets(emulation), tickets(emulation)]

    set_order(monkeypatch, 1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first, second = pool.submit(two_launches).result()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        again = pool.submit(two_launches).result()
    set_order(monkeypatch, 2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(two_launches).result()
    np.testing.assert_array_equal(again, [first, second])
    assert len({run.tobytes() for run in (first, second, *other)}) == 4

    blocks = first.reshape(8, 64) // 64
    assert (blocks == blocks[:, :1]).all()  # one after another
    assert (np.diff(blocks[:, 0]) < 0).any()
    np.testing.assert_array_equal(np.sort(first), np.arange(8 * 64))
    assert all((np.diff(row) < 0).any() for row in first.reshape(8, 64))


def test_host_threads_do_not_meet(emulation, order):
    def repeat(_):
        for _ in range(20):
            np.testing.assert_array_equal(*reverse(emulation))
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(4)))


# ---- Warp operations

SHUFFLES = ("shfl", "up", "down", "xor")
OPERATIONS = (*SHUFFLES, "ballot", "any", "all", "match", "syncwarp")


def source_lane(operation, lane, operand, width):
    """Whose value a shuffle hands to `lane`; its own where the other is out of reach."""
    begin = lane // width * width
    match operation:
        case "shfl":
            return begin + operand % width
        case "up":
            return lane - operand if lane - operand >= begin else lane
        case "down":
            return lane + operand if lane + operand < begin + width else lane
        case "xor":  # earlier segments can be read, later ones not
            return lane ^ operand if lane ^ operand < begin + width else lane


def warp_model(operation, lane, lanes, values, operands, width):
    """The result in `lane`, as bytes; `lanes` take part."""
    if operation in SHUFFLES:
        source = source_lane(operation, lane, int(operands[lane]), width)
        return values[source].tobytes() if source in lanes else b"\xff" * values.itemsize
    predicates = {i: bool(operands[i]) for i in lanes}
    match operation:
        case "any":
            result = any(predicates.values())
        case "all":
            result = all(predicates.values())
        case "ballot":
            result = sum(1 << i for i in lanes if predicates[i])
        case "match":
            result = sum(1 << i for i in lanes if values[i].tobytes() == values[lane].tobytes())
        case "syncwarp":
            result = 0
    return int(result).to_bytes(4, "little")


def random_values(rng, dtype, shape):
    """All bits at random, but with repetitions."""
    few = rng.integers(0, 2**64, 6, dtype=np.uint64, endpoint=False)
    bits = np.where(
        rng.random(shape) < 0.5,
        rng.choice(few, shape),
        rng.integers(0, 2**64, shape, dtype=np.uint64, endpoint=False),
    )
    size = np.dtype(dtype).itemsize
    return bits.astype(f"u{size}").view(dtype)


@pytest.mark.parametrize("word", WORDS)
def test_warp_operations(emulation, order, word):
    """Steps in which each warp falls anew into groups, each with an operation of its own.

    Groups do not wait for one another, so that lanes of a warp are at different steps.
    """
    rng = np.random.default_rng(0)
    steps, warps = 60, 3
    values = random_values(rng, WORDS[word], (steps, warps, 32))
    operations = np.zeros((steps, warps, 32), dtype=np.int32)
    masks = np.zeros((steps, warps, 32), dtype=np.uint32)
    operands = np.zeros((steps, warps, 32), dtype=np.int32)
    widths = np.full((steps, warps, 32), 32, dtype=np.int32)
    expected = np.zeros((steps, warps, 32), dtype=np.uint64)
    for at in np.ndindex(steps, warps):
        groups = rng.integers(0, rng.integers(1, 5), 32)
        for group in range(groups.max() + 1):
            lanes = np.flatnonzero(groups == group).tolist()
            if not lanes or (group > 0 and rng.random() < 0.3):
                continue  # these sit out
            operation = int(rng.integers(len(OPERATIONS)))
            operations[at][lanes] = operation
            masks[at][lanes] = sum(1 << lane for lane in lanes)
            widths[at][lanes] = width = 2 ** int(rng.integers(6))
            # Votes see all, none and some predicates.
            operands[at][lanes] = rng.integers(0, 32, len(lanes)) * rng.choice([0, 1, 1])
            if rng.random() < 0.3:
                operands[at][lanes] = rng.integers(1, 32)
            for lane in lanes:
                model = OPERATIONS[operation], lane, lanes, values[at], operands[at], width
                result = warp_model(*model)
                expected[at][lane] = int.from_bytes(result, "little")
    out = np.zeros_like(expected)
    inputs = [operations, masks, operands, widths, values]
    emulation.run(f"warp_steps<{word}>", (2,), (8, 4, warps), inputs, out=out, n=steps)
    np.testing.assert_array_equal(out, expected)


# ---- Atomics and bits


@pytest.mark.parametrize("word", ["int", "unsigned", "unsigned long long", "float", "double"])
def test_atomic_add(emulation, order, word):
    dtype = WORDS[word]
    values = np.random.default_rng(0).integers(0, 2**11, 2 * 100).astype(dtype)
    if dtype in (np.int32, np.uint32):
        values[:4] = 2**30  # wraps
    out = emulation.run(f"add<{word}>", (2,), (100,), [values], out=np.ones(1, dtype))
    assert out[0] == values.sum(dtype=dtype) + dtype(1)


@pytest.mark.parametrize("width", [2, 4])
def test_atomic_add_of_vectors(emulation, order, width):
    values = np.random.default_rng(0).integers(0, 2**11, (2 * 100, width)).astype(np.float32)
    memory = np.zeros(8, dtype=np.float32)
    begin = -memory.ctypes.data % 16 // 4
    out = memory[begin : begin + width]
    emulation.run(f"add<float{width}>", (2,), (100,), [values], out=out)
    np.testing.assert_array_equal(out, values.sum(0))


@pytest.mark.parametrize("word", ["int", "unsigned", "unsigned long long"])
def test_atomic_max(emulation, order, word):
    values = random_values(np.random.default_rng(0), WORDS[word], 2 * 100)
    out = emulation.run(f"greatest<{word}>", (2,), (100,), [values], out=values[:1].copy())
    assert out[0] == values.max()


@pytest.mark.parametrize("word", ["unsigned", "unsigned long long"])
def test_atomic_or(emulation, order, word):
    values = random_values(np.random.default_rng(0), WORDS[word], 3)
    out = emulation.run(f"bitwise_or<{word}>", (3,), (1,), [values], out=np.zeros(1, WORDS[word]))
    assert out[0] == np.bitwise_or.reduce(values)


def test_bits(emulation):
    def first(x):
        return (x & -x).bit_length()

    generator = random.Random(0)
    values = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    values += [generator.getrandbits(64) >> generator.randrange(64) for _ in range(58)]
    low = [x % 2**32 for x in values]
    expected = [
        *([x.bit_count() for x in xs] for xs in (low, values)),
        *([first(x) for x in xs] for xs in (low, values)),
        [32 - x.bit_length() for x in low],
        [64 - x.bit_length() for x in values],
        *[[1] * 64] * 3,
    ]
    out = np.zeros((64, 9), dtype=np.int32)
    emulation.run("bits", (1,), (64,), [np.array(values, dtype=np.uint64)], out=out)
    np.testing.assert_array_equal(out.T, expected)


def test_min_and_max(emulation):
    out = emulation.run("extrema", (1,), (1,), out=np.zeros(7))
    assert out.tolist() == [-1, 3, 3, 3, 2, 1, 1.25]


def test_addition_that_rounds_down(emulation):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(256) * 2.0 ** rng.integers(-30, 30, 256)).astype(np.float32)
    y = (rng.standard_normal(256) * 2.0 ** rng.integers(-3, 3, 256)).astype(np.float32)
    y[:64] = 12582912
    found = emulation.run("add_rounding_down", (1,), (256,), [x, y], out=np.zeros(256, np.float32))
    for a, b, sum in zip(x, y, found, strict=True):
        exact = fractions.Fraction(float(a)) + fractions.Fraction(float(b))
        assert float(sum) <= exact < float(np.nextafter(sum, np.float32(np.inf)))
    nearest = x[:64] + y[:64]
    assert (found[:64] != nearest).any()


def test_hints_for_caches(emulation, order):
    values = np.arange(64, dtype=np.int32)
    out = emulation.run("stream", (2,), (32,), [values], out=np.zeros_like(values))
    np.testing.assert_array_equal(out, values)


# ---- 16-bit floating point

KINDS = {"half": torch.float16, "bfloat16": torch.bfloat16}
ALL_PATTERNS = np.arange(2**16, dtype=np.uint16)


def to_float(emulation, kind, patterns):
    out = np.zeros(patterns.size, dtype=np.float32)
    return emulation.run(f"{kind}_to_float", (patterns.size // 256,), (256,), [patterns], out=out)


def from_float(emulation, kind, values):
    out = np.zeros(values.size, dtype=np.uint16)
    return emulation.run(f"float_to_{kind}", (values.size // 256,), (256,), [values], out=out)


def torch_pattern(values, kind):
    rounded = torch.from_numpy(values).to(KINDS[kind])
    return rounded.view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("kind", KINDS)
def test_every_16_bit_pattern(emulation, kind):
    found = to_float(emulation, kind, ALL_PATTERNS)
    expected = torch.from_numpy(ALL_PATTERNS.view(np.int16)).view(KINDS[kind]).float().numpy()
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(found[numbers].view(np.uint32), expected[numbers].view(np.uint32))
    assert np.isnan(found[~numbers]).all()
    back = from_float(emulation, kind, found)
    np.testing.assert_array_equal(back[numbers], ALL_PATTERNS[numbers])
    assert (back[~numbers] == 0x7FFF).all()


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_to_16_bits(emulation, kind):
    """Of random patterns, of random numbers about 1, and of every tie with its neighbours."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**32, 2**17, dtype=np.uint32, endpoint=False).view(np.float32)
    numbers = rng.standard_normal(2**17).astype(np.float32)
    # Neighbours have an exact mean in float32. The first pattern past them stands for infinity.
    steps = to_float(emulation, kind, ALL_PATTERNS[: 2**15])
    steps = steps[np.isfinite(steps)].astype(np.float64)
    steps = np.append(steps, 2 * steps[-1] - steps[-2])
    ties = ((steps[1:] + steps[:-1]) / 2).astype(np.float32)
    ties = np.concatenate([ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.inf)])
    values = np.concatenate([patterns, numbers, ties, -ties]).astype(np.float32)
    values = np.resize(values, -(-values.size // 256) * 256)

    found = from_float(emulation, kind, values)
    expected = torch_pattern(values, kind)
    nan = np.isnan(values)
    np.testing.assert_array_equal(found[~nan], expected[~nan])
    assert (found[nan] == 0x7FFF).all()


# ---- Mistakes

MISTAKES = {
    "barrier_after_end": r"deadlock: thread \(0, 0, 0\) waits at __syncthreads \(self_test.cu:\d+\)"
    r", but thread \(5, 0, 0\) has ended",
    "barrier_for_half": r"deadlock: .* __syncthreads .*, but thread \(32, 0, 0\) has ended",
    "two_barriers": r"__syncthreads at self_test.cu:\d+ while others wait at self_test.cu:\d+",
    "barrier_against_shuffle": r"deadlock: .* waits at __shfl_sync .*, but thread \(3, 0, 0\) "
    "waits at __syncthreads",
    "lane_has_ended": r"deadlock: .* __shfl_sync of 4 bytes with mask 0xffffffff, but "
    r"thread \(9, 0, 0\) has ended",
    "caller_not_in_mask": r"__ballot_sync by lane 0, which is not in its mask 0xfffffffe",
    "different_masks": r"__any_sync .* mask 0x\w{8}, but thread .* __any_sync .* mask 0x\w{8}",
    "different_operations": r"waits at (__shfl_xor_sync .*__shfl_down|__shfl_down.*__shfl_xor)",
    "different_types": r"waits at __shfl_sync of (4.* 8|8.* 4) bytes",
    "bad_width": r"__shfl_sync with width 12",
    "misaligned_load": r"misaligned access: 0x\w+ is no multiple of 16",
    "misaligned_float": r"misaligned access: 0x\w+ is no multiple of 4",
    "misaligned_float2_atomic": r"misaligned access: 0x\w+ is no multiple of 8",
    "misaligned_float4_atomic": r"misaligned access: 0x\w+ is no multiple of 16",
    "vector_atomic_in_shared_memory": r"atomicAdd of a vector in shared memory",
    "exception": r"thread \(40, 0, 0\): thrown by a kernel",
    "exception_of_no_class": r"an exception that is no std::exception",
    "launch_in_kernel": r"a launch inside a kernel",
}


def aligned_zeros():
    memory = np.zeros(16, dtype=np.float32)
    begin = -memory.ctypes.data % 16 // 4
    return memory[begin : begin + 12]


@pytest.mark.parametrize("kernel", MISTAKES)
def test_mistakes_are_reported_and_the_next_launch_works(emulation, order, kernel):
    options = {"out": aligned_zeros(), "shared_bytes": 64}
    for _ in range(2):
        where = r"CUDA emulation: block \(1, 0, 0\), (?=thread \(\d+, 0, 0\): ).*"
        with pytest.raises(RuntimeError, match=where + MISTAKES[kernel]):
            emulation.launch(kernel, (2,), (64,), **options)
        np.testing.assert_array_equal(*reverse(emulation))


def test_a_mask_beyond_the_block_is_reported(emulation, order):
    with pytest.raises(RuntimeError, match=r"__syncwarp .* mask names lanes beyond the end"):
        emulation.launch("mask_beyond_block", (2,), (40,))
    assert emulation.launch("mask_beyond_block", (2,), (64,)) == 0


def test_exceptions_unwind_the_kernel(emulation, monkeypatch):
    set_order(monkeypatch, None)
    count = np.zeros(1, dtype=np.int32)
    with pytest.raises(RuntimeError, match="thrown by a kernel"):
        emulation.launch("exception", (2,), (64,), out=count)
    assert count[0] == 1  # of the threads that wait nothing is unwound


# ---- The host's side


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes", "error"),
    [
        ((0,), (1,), 0, INVALID_CONFIGURATION),
        ((1, 0), (1,), 0, INVALID_CONFIGURATION),
        ((2**31,), (1,), 0, INVALID_CONFIGURATION),
        ((1, 65536), (1,), 0, INVALID_CONFIGURATION),
        ((1, 1, 65536), (1,), 0, INVALID_CONFIGURATION),
        ((1,), (0,), 0, INVALID_CONFIGURATION),
        ((1,), (1025,), 0, INVALID_CONFIGURATION),
        ((1,), (2**16, 2**16), 0, INVALID_CONFIGURATION),
        ((1,), (32, 33), 0, INVALID_CONFIGURATION),
        ((1,), (1, 1, 65), 0, INVALID_CONFIGURATION),
        ((1,), (1,), 49153, INVALID_VALUE),
    ],
)
def test_launches_beyond_the_limits(emulation, grid, block, shared_bytes, error):
    library = emulation.library
    out = np.zeros(1, dtype=np.int32)
    assert emulation.launch("tickets", grid, block, out=out, shared_bytes=shared_bytes) == error
    assert out[0] == 0  # not run
    assert library.peek_at_last_error() == error
    assert library.get_last_error() == error
    assert library.get_last_error() == 0
    assert b"invalid" in library.error_string(error)


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes"),
    [
        ((1, 65535), (1,), 0),
        ((1, 1, 65535), (1,), 0),
        ((100000,), (1,), 0),
        ((1,), (1024,), 49152),
        ((1,), (1, 1, 64), 0),
    ],
)
def test_launches_at_the_limits(emulation, order, grid, block, shared_bytes):
    threads = int(np.prod(grid) * np.prod(block))
    out = np.zeros(1 + threads, dtype=np.int32)
    emulation.run("tickets", grid, block, out=out, shared_bytes=shared_bytes)
    assert out[0] == threads
    np.testing.assert_array_equal(np.sort(out[1:]), np.arange(threads))


def test_device(emulation, monkeypatch):
    attribute = emulation.library.attribute
    multiprocessors, shared_bytes, major, minor = 16, 8, 75, 76
    monkeypatch.delenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", raising=False)
    assert attribute(multiprocessors) == 4
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS", "132")
    assert attribute(multiprocessors) == 132
    monkeypatch.setenv("GRIDSAMPLE_EMULATED_CAPABILITY", "8")
    assert attribute(major) == 8
    monkeypatch.delenv("GRIDSAMPLE_EMULATED_CAPABILITY")
    assert [attribute(which) for which in (shared_bytes, major, minor)] == [49152, 9, 0]


def test_memset(emulation):
    values = np.ones(3, dtype=np.uint32)
    assert emulation.library.set_bytes(values.ctypes.data, 0x12, 8) == 0
    assert values.tolist() == [0x12121212, 0x12121212, 1]


# ---- Programs of their own


@pytest.fixture
def run_program(builds):
    """Run one build of bounds.cu."""

    def run(build, *arguments, seed):
        environment = {**os.environ, "GRIDSAMPLE_EMULATION_SHUFFLE": seed}
        for name in ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS"):
            environment.pop(name, None)
        command = [builds(build), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


@pytest.fixture(scope="module")
def _sanitizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text("int main() {}\n")
    command = [*COMPILER, *SANITIZE, folder / "probe.cpp", "-o", folder / "probe"]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("the compiler has no AddressSanitizer")


@pytest.mark.parametrize("seed", ["", "1"])
def test_another_switch_of_stacks(run_program, seed):
    """The one for processors other than x86-64."""
    result = run_program("ucontext", seed=seed)
    assert result.returncode == 0, result.stderr
    assert "deadlock" in result.stdout
    assert "sum 6048" in result.stdout


@pytest.mark.usefixtures("_sanitizers")
@pytest.mark.parametrize("seed", ["", "1"])
def test_sanitizers_pass_what_is_right(run_program, seed):
    result = run_program("sanitized", seed=seed)
    assert (result.returncode, result.stderr) == (0, "")
    assert "deadlock" in result.stdout
    assert "sum 6048" in result.stdout


@pytest.mark.usefixtures("_sanitizers")
@pytest.mark.parametrize("seed", ["", "1"])
def test_sanitizers_see_an_overrun_of_shared_memory(run_program, seed):
    result = run_program("sanitized", "overrun", seed=seed)
    assert result.returncode != 0
    assert "sum 6048" in result.stdout
    assert "heap-buffer-overflow" in result.stderr
