"""The cases of the benchmark, and the grids that they name."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import cases
import derivatives
import report
import run
import run_cuda
import sets
from cases import Case

sys.path.pop()

ALL = list({member: None for name in sets.SETS for member in sets.SETS[name]()})
CASES = [member for member in ALL if isinstance(member, Case)]


def test_sets_are_of_a_manageable_size():
    assert len({member.name for member in ALL}) == len(ALL)
    assert len(sets.large()) <= 100
    assert len(sets.few_channels()) == 100
    assert len(sets.quick()) <= 40
    assert set(sets.quick()) < set(CASES)
    assert sets.compiled() < set(sets.large())
    assert sets.deterministic() < set(sets.large())
    for program in (run, run_cuda):
        names = [name for name in program.SETS if name in sets.SETS]
        assert set(sets.few_channels()) < set(sets.chosen(names))


def test_sets_cover_every_kind():
    for name, values in {
        "mode": set(cases.MODES),
        "padding_mode": {"zeros", "border", "reflection"},
        "grid": set(cases.GRIDS),
        "dtype": {torch.float64, torch.float32, torch.float16, torch.bfloat16},
        "grid_dtype": {None, torch.float32},
        "channels_last": {False, True},
        "align_corners": {False, True},
        "dims": {2, 3},
    }.items():
        assert {getattr(case, name) for case in CASES} == values
    assert {case.input[1] for case in sets.few_channels()} == {1, 2, 3}
    for name in report.SUMMED:
        assert report.names_of(name)


def test_names_are_parsed():
    for case in CASES:
        assert Case.parse(case.name) == case
    for member in (*sets.training_steps(), *derivatives.derivative_steps()):
        assert Case.parse(member.name) is None


def test_chosen_are_those_of_the_sets_and_of_the_name():
    assert sets.chosen(["survey", "volumes"], "nearest") == [
        case for case in sets.survey() if case.mode == "nearest"
    ]
    assert sets.chosen(["more"], more=lambda: [CASES[0]]) == [CASES[0]]
    assert not sets.chosen(["survey"], "nothing of the kind")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(9, 8), (5, 6, 7)], ids=str)
def test_one_pixel_is_one_set_of_taps(size, align_corners):
    case = Case((1, 2, *size), size, grid="one_pixel", align_corners=align_corners)
    input, grid, grad = case.tensors()
    for mode, taps in (("nearest", 1), ("bilinear", 2 ** len(size))):
        leaf = input.clone().requires_grad_()
        F.grid_sample(leaf, grid, mode, align_corners=align_corners).backward(grad)
        assert leaf.grad[0, 0].count_nonzero() == taps


@pytest.mark.parametrize("size", [(64, 48), (24, 32, 40)], ids=str)
def test_affine_grids_differ_by_image_and_leave_it_at_the_corners(size):
    _, grid, _ = Case((3, 1, *size), size, grid="affine").tensors()
    assert not torch.equal(grid[0], grid[1])
    outside = (grid.abs() > 1).any(-1).float().mean()
    assert 0.01 < outside < 0.5
    second = grid.diff(n=2, dim=1)  # an affine map's is 0, but for the steps off the lattice
    assert second.abs().max() < 5e-3


@pytest.mark.parametrize("size", [(64, 48), (32, 48, 64)], ids=str)
def test_flow_is_of_several_pixels_and_smooth(size):
    case = Case((2, 1, *size), size, grid="flow")
    drawn = {"generator": torch.Generator().manual_seed(0), "device": "cpu"}
    displacement = case.tensors()[1] - cases.identity(case, drawn)
    pixels = displacement * torch.tensor(size[::-1]) / 2
    assert 1 < pixels.std() < 8
    assert pixels.diff(dim=1).abs().max() < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_layouts(channels):
    for last in (False, True):
        case = Case((2, channels, 6, 5), (4, 3), channels_last=last)
        input, _, grad = case.tensors()
        assert (input.stride(1) == 1) == last
        assert (grad.stride(1) == 1) == last


def test_grid_of_its_own_type():
    case = Case((2, 3, 6, 5), (4, 3), dtype=torch.bfloat16, grid_dtype=torch.float32)
    assert [tensor.dtype for tensor in case.tensors()] == [
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
    ]


def test_bytes_moved():
    case = Case((2, 3, 9, 8), (7, 6), dtype=torch.float16, grid_dtype=torch.float32)
    image, samples = 2 * 3 * 9 * 8, 2 * 7 * 6
    forward = 2 * (image + samples * 3) + 4 * samples * 2
    backward = 2 * (2 * image + samples * 3) + 4 * samples * 2 * 2
    assert case.bytes_moved() == forward
    assert case.bytes_moved("backward") == backward
    assert case.bytes_moved("both") == forward + backward
