"""What explain() says, and that it is what runs: by name, for every path of every op."""

import importlib
import itertools
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import samples
import torch
from test_threads import SCATTERED
from test_threads import SHAPES as FOR_THREADS
from torch._subclasses import FakeTensorMode

import gridsample_ext
from gridsample_ext import _C
from gridsample_ext.explaining import plan_of

OPS = torch.ops.gridsample_ext
# The module of the command, which an import does not give.
explain_command = SimpleNamespace(
    **runpy.run_path(str(Path(gridsample_ext.__file__).parent / "explain.py"), run_name="command")
)
MASKS = ([True, True], [True, False], [False, True])
LAYOUTS = ("contiguous", "channels_last", "sliced_channels_last")
DTYPES = (
    (torch.float32, torch.float32),
    (torch.float16, torch.float32),
    (torch.float32, torch.float64),
)
# What the tests of forward and backward passes draw from, and what those of threads add.
SHAPES = [*samples.SHAPES, *samples.FEW_SAMPLES_SHAPES, *samples.EMPTY_SHAPES[:2]]
LARGER = [*FOR_THREADS, *SCATTERED]


def calls(case, input, grid):
    """Every op, each with what plan_of() asks for: (call, op, what else it is given)."""
    grad_output = samples.grad_like(input, grid)
    tangent_input = samples.randn(*input.shape, dtype=input.dtype, seed=5)
    tangent_grid = samples.randn(*grid.shape, dtype=grid.dtype, seed=6)
    other_type = tangent_input.to(torch.float64)
    arguments = input, grid, *case.op_options
    yield lambda: OPS.grid_sample(*arguments), "forward", {}
    for mask in MASKS:
        yield (
            lambda mask=mask: OPS.grid_sample_backward(grad_output, *arguments, mask),
            "backward",
            {"wanted": mask},
        )
    for directions in (
        (tangent_input, tangent_grid),
        (None, tangent_grid),
        (tangent_input, None),
        (other_type, None),
    ):
        yield (
            lambda directions=directions: OPS.grid_sample_jvp(
                input, grid, *directions, *case.op_options
            ),
            "jvp",
            {"tangents": directions},
        )
        for mask in MASKS:
            yield (
                lambda mask=mask, directions=directions: OPS.grid_sample_double_backward(
                    *directions, grad_output, *arguments, mask
                ),
                "double_backward",
                {"tangents": directions, "wanted": mask},
            )


def assert_explained(case, input, grid, seen):
    """Each op takes the paths that its plan names; they are added to `seen`."""
    for call, op, given in calls(case, input, grid):
        call()
        taken = _C.executed_paths()
        planned = plan_of(op, input, grid, case.op_options, **given)["paths"]
        assert planned == {result: taken[result] for result in planned}, (op, given.get("wanted"))
        for result, path in planned.items():
            seen.setdefault(result, set()).add(path)


@pytest.fixture(scope="module")
def seen():
    """The paths that the samples take, by result; the plan names each beforehand."""
    paths = {}
    cases = samples.cases(padding_mode="zeros", align_corners=False)
    for case, shape, layout in itertools.product(cases, SHAPES, LAYOUTS):
        for input_dtype, grid_dtype in DTYPES:
            torch.set_num_threads(1)
            input, grid = samples.sample(case, shape, input_dtype, grid_dtype)
            assert_explained(case, samples.INPUT_LAYOUTS[layout](input), grid, paths)
    for case, shape, layout in itertools.product(cases[:3], LARGER, LAYOUTS[:2]):
        for threads in (1, 7):
            torch.set_num_threads(threads)
            input, grid = samples.sample(case, shape, torch.float32)
            assert_explained(case, samples.INPUT_LAYOUTS[layout](input), grid, paths)
    return paths


def facts_of_huge_images(paths):
    """Plans alone for 2^32 pixels: gradients of that size are for machines with much memory."""
    image = torch.empty(1, 1, 2, 1 << 31, device="meta")
    grid = torch.empty(1, 1, 1, 2, device="meta")
    for op in ("forward", "backward", "jvp", "double_backward"):
        plan = plan_of(op, image, grid, (0, 0, False), tangents=(image, grid))
        for result, path in plan["paths"].items():
            assert path == "plain"
            paths.setdefault(result, set()).add(path)


@pytest.mark.parametrize("result", _C.all_paths())
def test_every_path_is_taken(result, seen):
    """All that the enums list, and nothing else."""
    taken = {name: set(paths) for name, paths in seen.items()}
    facts_of_huge_images(taken)
    assert taken[result] == set(_C.all_paths()[result])


def image_and_grid(C=16, size=8):
    return torch.zeros(1, C, size, size), torch.zeros(1, size, size, 2)


def test_explanation():
    explanation = gridsample_ext.explain(*image_and_grid())
    assert explanation.paths == {"output": "packed rows"}
    assert explanation.reasons.keys() == explanation.paths.keys()
    assert explanation.instruction_set in _C.build_info()["isa_supported"]
    assert explanation.threads == 1
    assert explanation.scratch_bytes == {"packed blocks": 4 * 64 * 4}
    text = str(explanation)
    assert text.splitlines() == [
        f"output           packed rows: {explanation.reasons['output']}",
        f"instruction set  {explanation.instruction_set}",
        "threads          1",
        "split            4 channels of a packed block",
        "scratch memory   packed blocks 1.0 KiB",
    ]


def test_explanation_without_scratch():
    text = str(gridsample_ext.explain(*image_and_grid(C=1)))
    assert text.endswith("scratch memory   none")


def test_command(capsys):
    """It prints the plans of the function."""
    image, grid = torch.zeros(2, 16, 64, 48), torch.zeros(2, 64, 48, 2, dtype=torch.float64)
    image = image.to(memory_format=torch.channels_last)
    options = {"padding_mode": ("circular", "border"), "align_corners": True}
    command = ["2x16x64x48", "2x64x48x2", "--padding-mode", "circular,border", "--align-corners"]
    command += ["--channels-last", "--grid-dtype", "float64", "--backward"]
    explain_command.main(command)
    forward, backward = capsys.readouterr().out.rstrip().split("\n\n")
    assert forward == f"forward pass\n{gridsample_ext.explain(image, grid, **options)}"
    plan = gridsample_ext.explain(image, grid, **options, backward=True)
    assert backward == f"backward pass\n{plan}"
    assert "\ngrad_grid " in backward


def test_command_with_threads(capsys):
    threads = torch.get_num_threads()
    try:
        explain_command.main(["1x3x512x512", "1x512x512x2", "--threads", "3"])
    finally:
        torch.set_num_threads(threads)
    assert "\nthreads          3\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("3x512 1x5x5x2", "expected four or five sizes, such as 8x3x224x224, but got '3x512'"),
        ("1x3x8x8 1x5x5x3", "expected grid to have size 2 in its last dimension"),
        ("1x3x8x8 1x5x5x2 --mode cubic", "mode"),
        ("1x3x8x8 1x5x5x2 --threads 0", "expected at least 1, below 2^31, but got '0'"),
        ("1x3x8x8 1x5x5x2 --threads 999999999999", "expected at least 1, below 2^31"),
        (
            "1x9999999999999999999999x1x1 1x5x5x2",
            "argument input: expected less than 2^59 elements",
        ),
        ("1x3x8x8 99999999x99999999x99999999x2", "argument grid: expected less than 2^59 elements"),
        ("1x3x8x8 1x5x5x2 --dtype int16 --backward", "a dtype that has gradients"),
    ],
)
def test_wrong_command(command, message, capsys):
    with pytest.raises(SystemExit) as raised:
        explain_command.main(command.split())
    assert raised.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_importing_the_command_gives_the_function():
    """The package's function and the command have one name."""
    assert importlib.import_module("gridsample_ext.explain") is gridsample_ext.explain
    assert callable(gridsample_ext.explain)


@pytest.mark.parametrize("mode", samples.MODES)
def test_backward_explains_what_autograd_asks_for(mode):
    """Gradients that are required, or both; in the layout of what autograd keeps of `input`."""
    for needs in itertools.product((False, True), repeat=2):
        input, grid = image_and_grid(C=3, size=96)
        input.requires_grad_(needs[0])
        grid.requires_grad_(needs[1])
        paths = gridsample_ext.explain(input, grid, mode, backward=True).paths
        if not any(needs):
            assert "not wanted" not in paths.values()
            continue
        gridsample_ext.grid_sample(input, grid, mode, align_corners=False).sum().backward()
        assert paths == {result: _C.executed_paths()[result] for result in paths}
        assert [path != "not wanted" for path in paths.values()] == list(needs)


def test_threads_are_pytorch_s():
    input, grid = image_and_grid(C=16, size=128)
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        assert gridsample_ext.explain(input, grid).threads == threads


def test_float64_has_the_instruction_set_of_its_kernels():
    input, grid = image_and_grid()
    level = _C.build_info()["isa"]
    assert gridsample_ext.explain(input, grid).instruction_set == level
    wide = gridsample_ext.explain(input.double(), grid.double()).instruction_set
    assert wide == min(level, "avx2") if level != "baseline" else wide == "baseline"


def test_meta_tensors_are_planned_for_without_data():
    input, grid = image_and_grid()
    expected = gridsample_ext.explain(input, grid, backward=True)
    assert gridsample_ext.explain(input.to("meta"), grid.to("meta"), backward=True) == expected
    huge = torch.empty(1, 64, 1 << 14, 1 << 14, device="meta")
    sparse = torch.empty(1, 16, 16, 2, device="meta")
    assert gridsample_ext.explain(huge, sparse).scratch_bytes == {}


def test_nothing_is_sampled():
    """No kernel of the op runs: the last call's path stays what it was."""
    input, grid = image_and_grid(C=3)
    gridsample_ext.grid_sample(input, grid, "nearest", align_corners=False)
    before = _C.executed_paths()
    gridsample_ext.explain(input, grid, "bicubic")
    gridsample_ext.explain(input, grid, "bicubic", backward=True)
    assert _C.executed_paths() == before


@pytest.mark.parametrize(
    "arguments",
    [
        lambda input, grid: (input, grid, "cubic"),
        lambda input, grid: (input, grid, "bilinear", "wrap"),
        lambda input, grid: (input, grid, "bilinear", "zeros", 1),
        lambda input, grid: (input, 3),
        lambda input, grid: (input.int(), grid),
        lambda input, grid: (input, grid.int()),
        lambda input, grid: (input, grid[..., :1]),
        lambda input, grid: (input, grid.to("meta")),
        lambda input, grid: (input.to_sparse(), grid),
        lambda input, grid: (input[:, :, :0], grid),
    ],
)
def test_arguments_are_those_of_grid_sample(arguments):
    arguments = arguments(*image_and_grid())
    if len(arguments) < 5:
        arguments = (*arguments, *("bilinear", "zeros", False)[len(arguments) - 2 :])
    with pytest.raises(Exception) as expected:  # noqa: PT011
        gridsample_ext.grid_sample(*arguments)
    with pytest.raises(type(expected.value)) as actual:
        gridsample_ext.explain(*arguments)
    if type(expected.value) is not RuntimeError:  # the ops' texts name the device
        assert str(actual.value) == str(expected.value)


def test_other_devices_are_refused():
    with FakeTensorMode():
        input, grid = (torch.empty(1, 1, 2, 2, device="cuda") for _ in range(2))
        with pytest.raises(NotImplementedError, match="on cuda:0"):
            gridsample_ext.explain(input, grid)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_repeated_image_is_copied_once(dtype):
    image = torch.randn(1, 3, 64, 64).to(dtype).expand(8, -1, -1, -1)
    grid = torch.rand(8, 48, 48, 2) * 2 - 1
    explained = gridsample_ext.explain(image, grid, align_corners=False, backward=True)
    assert explained.scratch_bytes["copies of images"] == image[0].numel() * 4
    backward = torch.ops.gridsample_ext.grid_sample_backward
    arguments = grid, 0, 0, False, [True, True]
    grad_output = torch.randn(8, 3, 48, 48).to(dtype)
    for repeated, apart in zip(
        backward(grad_output, image, *arguments),
        backward(grad_output, image.contiguous(), *arguments),
        strict=True,
    ):
        assert torch.equal(repeated, apart)


def test_inside_vmap():
    """Where a grid has no data of its own to look at."""
    image, grids = torch.rand(2, 1, 3, 4, 4), torch.rand(2, 1, 5, 5, 2)
    seen = []

    def sample(image, grid):
        for backward in (False, True):
            seen.append(gridsample_ext.explain(image, grid, align_corners=False, backward=backward))
        return gridsample_ext.grid_sample(image, grid, align_corners=False)

    torch.vmap(sample)(image, grids)
    assert [set(explained.paths) for explained in seen] == [{"output"}, {"grad_input", "grad_grid"}]


def test_images_of_other_dtypes():
    """What kernels are called with for them, and the copies beside it."""
    image, grid = image_and_grid(C=8, size=40)
    image = image.float()
    floats = gridsample_ext.explain(image, grid)
    bytes_ = gridsample_ext.explain(image.to(torch.uint8), grid)
    assert (bytes_.paths, bytes_.split) == (floats.paths, floats.split)
    numbers = image.numel() * 4
    copies = {"copies of images": numbers, "copies of results": numbers}
    assert bytes_.scratch_bytes == floats.scratch_bytes | copies
    parts = gridsample_ext.explain(image.to(torch.complex64), grid)
    twice = gridsample_ext.explain(image.repeat(1, 2, 1, 1), grid)
    assert (parts.paths, parts.split) == (twice.paths, twice.split)
    copies = {"copies of images": 2 * numbers, "copies of results": 2 * numbers}
    assert parts.scratch_bytes == twice.scratch_bytes | copies
    apart = gridsample_ext.explain(image.to(torch.complex64), grid, fill_value=1.0)
    assert apart.paths == floats.paths
    assert apart.scratch_bytes == floats.scratch_bytes | {"copies of results": 2 * numbers}
    copied = gridsample_ext.explain(image.to(torch.uint8), grid, "nearest")
    assert "copies of images" not in copied.scratch_bytes
    for mode in ("nearest", "bilinear"):
        with pytest.raises(NotImplementedError, match=r"input.*gradients.*uint8"):
            gridsample_ext.explain(image.to(torch.uint8), grid, mode, backward=True)
