"""Every wrong call is a clear error that names the argument, and its shape if that is at fault."""

import itertools
import re

import pytest
import samples
import torch

import gridsample_ext
from gridsample_ext import grid_sample

ops = torch.ops.gridsample_ext

INPUT = torch.zeros(2, 3, 4, 5)
GRID = torch.zeros(2, 6, 7, 2)
GRAD_OUTPUT = torch.zeros(2, 3, 6, 7)
VOLUME = torch.zeros(2, 3, 4, 5, 6)
VOLUME_GRID = torch.zeros(2, 6, 7, 8, 3)

# (input, grid, the argument at fault); the message must name it, and print its sizes
WRONG_SHAPES = {
    "input_of_rank_0": (INPUT.sum(), GRID, "input"),
    "input_of_rank_3": (INPUT[0], GRID, "input"),
    "input_of_rank_6": (VOLUME[None], VOLUME_GRID, "input"),
    "grid_of_rank_0": (INPUT, GRID.sum(), "grid"),
    "grid_of_rank_3": (INPUT, GRID[0], "grid"),
    "grid_of_rank_5_for_image": (INPUT, VOLUME_GRID, "grid"),
    "grid_of_rank_4_for_volume": (VOLUME, GRID, "grid"),
    "three_coordinates_for_image": (INPUT, torch.zeros(2, 6, 7, 3), "grid"),
    "two_coordinates_for_volume": (VOLUME, torch.zeros(2, 6, 7, 8, 2), "grid"),
    "no_coordinates": (INPUT, torch.zeros(2, 6, 7, 0), "grid"),
    "batches_of_2_and_3": (INPUT, torch.zeros(3, 6, 7, 2), "grid"),
    "batches_of_2_and_0": (INPUT, torch.zeros(0, 6, 7, 2), "grid"),
    "input_without_height": (INPUT[:, :, :0], GRID, "input"),
    "input_without_width": (INPUT[..., :0], GRID, "input"),
    "input_without_depth": (VOLUME[:, :, :0], VOLUME_GRID, "input"),
    "empty_input_without_width": (INPUT[:0, :, :, :0], GRID[:0], "input"),
}


def printed_sizes(tensor):
    return re.escape(str(list(tensor.shape)))


def assert_names(error, argument, tensor):
    message = str(error.value)
    assert re.search(rf"\b{argument}\b", message)
    assert re.search(printed_sizes(tensor), message)


def forward_op(input, grid, mode=0, padding_mode=0, align_corners=False):
    return ops.grid_sample(input, grid, mode, padding_mode, align_corners)


def backward_op(input, grid, mode=0, padding_mode=0, align_corners=False, grad_output=None):
    if grad_output is None:
        grad_output = GRAD_OUTPUT.to(input.device, input.dtype)
    return ops.grid_sample_backward(
        grad_output, input, grid, mode, padding_mode, align_corners, [True, True]
    )


def public(input, grid):
    return grid_sample(input, grid, align_corners=False)


@pytest.mark.parametrize("call", [public, forward_op, backward_op])
@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_shapes(name, call, device):
    input, grid, argument = WRONG_SHAPES[name]
    with pytest.raises(RuntimeError) as error:
        call(input.to(device), grid.to(device))
    assert_names(error, argument, {"input": input, "grid": grid}[argument])


@pytest.mark.parametrize("call", [public, forward_op])
@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_shapes_on_the_meta_device(name, call):
    """Tracing sees the same errors as running."""
    input, grid, argument = WRONG_SHAPES[name]
    with pytest.raises(RuntimeError) as error:
        call(input.to("meta"), grid.to("meta"))
    assert_names(error, argument, {"input": input, "grid": grid}[argument])


@pytest.mark.parametrize(
    "shape",
    [(), (2, 3, 6), (2, 3, 6, 8), (2, 3, 7, 6), (1, 3, 6, 7), (2, 1, 6, 7), (2, 3, 6, 7, 1), (0,)],
    ids=str,
)
def test_shape_of_grad_output(shape, device):
    grad_output = torch.zeros(shape, device=device)
    with pytest.raises(RuntimeError) as error:
        backward_op(INPUT.to(device), GRID.to(device), grad_output=grad_output)
    assert_names(error, "grad_output", grad_output)


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_dtype_of_grad_output(dtype, on_meta, device):
    device = "meta" if on_meta else device
    with pytest.raises(RuntimeError, match=r"\bgrad_output\b"):
        backward_op(INPUT.to(device), GRID.to(device), grad_output=GRAD_OUTPUT.to(device, dtype))


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize("value", [-1, 4, 2**16 + 4, 2**17, 2**31, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("name", ["interpolation_mode", "padding_mode"])
@pytest.mark.parametrize("call", [forward_op, backward_op])
def test_unknown_enums(call, name, value, on_meta, device):
    device = "meta" if on_meta else device
    options = (value, 0) if name == "interpolation_mode" else (0, value)
    with pytest.raises(RuntimeError, match=rf"\b{name}\b.*{value}"):
        call(INPUT.to(device), GRID.to(device), *options)


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize("mask", [[], [True], [True] * 3], ids=len)
def test_length_of_output_mask(mask, on_meta, device):
    device = "meta" if on_meta else device
    tensors = (tensor.to(device) for tensor in (GRAD_OUTPUT, INPUT, GRID))
    with pytest.raises(RuntimeError):
        ops.grid_sample_backward(*tensors, 0, 0, False, mask)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        *itertools.product(
            (public, forward_op, backward_op),
            (torch.int8, torch.int32, torch.int64, torch.bool, torch.float8_e5m2),
        ),
        # The public function composes these.
        *itertools.product((forward_op, backward_op), (torch.uint8, torch.complex64)),
        (public, torch.float8_e4m3fn),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_dtype_of_input(call, dtype, device):
    expected = NotImplementedError if call is public else RuntimeError
    with pytest.raises(expected, match=r"\binput\b"):
        call(INPUT.to(device).to(dtype), GRID.to(device))


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("call", [public, forward_op, backward_op])
def test_dtype_of_grid(call, dtype, on_meta, device):
    device = "meta" if on_meta else device
    with pytest.raises(RuntimeError, match=r"\bgrid\b"):
        call(INPUT.to(device), GRID.to(device).to(dtype))


@pytest.mark.parametrize("call", [public, forward_op, backward_op])
def test_devices_differ(call, device):
    for input, grid in ((INPUT.to(device), GRID.to("meta")), (INPUT.to("meta"), GRID.to(device))):
        with pytest.raises(RuntimeError, match=r"device|meta"):
            call(input, grid)


def test_device_of_grad_output(device):
    with pytest.raises(RuntimeError, match=r"device|meta"):
        backward_op(INPUT.to(device), GRID.to(device), grad_output=GRAD_OUTPUT.to("meta"))


@pytest.mark.parametrize("call", [public, forward_op, backward_op])
def test_sparse_tensors(call, device):
    input, grid = INPUT.to(device), GRID.to(device)
    for arguments in ((input.to_sparse(), grid), (input, grid.to_sparse())):
        with pytest.raises(RuntimeError):
            call(*arguments)


@pytest.mark.parametrize("mode", ["linear", "Bilinear", "", None, 0])
def test_unknown_mode(mode):
    with pytest.raises(ValueError, match="mode"):
        grid_sample(INPUT, GRID, mode=mode, align_corners=False)


@pytest.mark.parametrize("padding_mode", ["zero", "wrap", "", None, 0])
def test_unknown_padding_mode(padding_mode):
    with pytest.raises(ValueError, match="padding_mode"):
        grid_sample(INPUT, GRID, padding_mode=padding_mode, align_corners=False)


@pytest.mark.parametrize("value", [None, 1.0, [[1.0]], "input"], ids=str)
def test_not_a_tensor(value):
    with pytest.raises(TypeError, match=r"\binput\b"):
        grid_sample(value, GRID, align_corners=False)
    with pytest.raises(TypeError, match=r"\bgrid\b"):
        grid_sample(INPUT, value, align_corners=False)


@pytest.mark.parametrize("value", [0, 1, 1.0, "yes"])
def test_align_corners_is_a_bool(value):
    with pytest.raises(TypeError, match="align_corners"):
        grid_sample(INPUT, GRID, align_corners=value)


def test_unknown_keyword():
    with pytest.raises(TypeError):
        grid_sample(INPUT, GRID, padding="zeros")


def test_an_error_leaves_the_next_call_alone(device):
    case = samples.Case(2, "bilinear", "zeros", False)
    input, grid = samples.sample(case, device=device)
    expected = grid_sample(input, grid, *case.options)
    with pytest.raises(RuntimeError):
        grid_sample(input, grid[..., :1], *case.options)
    assert torch.equal(grid_sample(input, grid, *case.options), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.complex64], ids=str)
def test_storage_freed_of_images_that_are_converted(dtype, device):
    """PyTorch's own conversion crashes."""
    image = INPUT.to(device).to(dtype, copy=True)
    image.untyped_storage().resize_(8)
    with pytest.raises(RuntimeError, match=r"input.*allocated.*\["):
        grid_sample(image, GRID.to(device), align_corners=False)


@pytest.mark.parametrize("bytes_left", [0, 64])
@pytest.mark.parametrize("argument", ["grad_output", "input", "grid"])
def test_storage_freed_behind_the_tensor(argument, bytes_left, device):
    """As sharded training does between steps; torch's own function raises or crashes."""
    tensors = {
        "grad_output": GRAD_OUTPUT.to(device).clone(),
        "input": INPUT.to(device).clone(),
        "grid": GRID.to(device).clone(),
    }
    tensors[argument].untyped_storage().resize_(bytes_left)
    with pytest.raises(RuntimeError, match=rf"\b{argument}\b.*allocated.*\["):
        ops.grid_sample_backward(*tensors.values(), 0, 0, False, [True, True])
    if argument != "grad_output":
        with pytest.raises(RuntimeError, match=rf"\b{argument}\b.*allocated.*\["):
            grid_sample(tensors["input"], tensors["grid"], align_corners=False)


def test_result_too_large_to_allocate(device):
    """The kernels say which; in place of their error Python raises PyTorch's."""
    grid = torch.zeros(1, 1, 1, 2, device=device).expand(1, 2**20, 2**23, 2)
    input = torch.zeros(1, 4, 1, 1, device=device)
    with (
        gridsample_ext._compat.below_autograd(),
        pytest.raises(RuntimeError, match=rf"\[1, 4, {2**20}, {2**23}\] of float32 on {device}"),
    ):
        torch.ops.gridsample_ext.grid_sample(input, grid, 0, 0, False)
    with pytest.raises(RuntimeError) as expected:
        torch.empty(1, 4, 2**20, 2**23, device=device)
    with pytest.raises(type(expected.value)) as actual:
        grid_sample(input, grid, align_corners=False)
    assert device != "cpu" or str(actual.value) == str(expected.value)


@pytest.mark.parametrize("side", ["input", "grid"])
def test_sparse_tensors_are_named(side, device):
    tensors = {"input": INPUT.to(device), "grid": GRID.to(device)}
    tensors[side] = tensors[side].to_sparse()
    with pytest.raises(NotImplementedError, match=rf"\b{side}\b.*\[") as error:
        grid_sample(**tensors, align_corners=False)
    assert_names(error, side, tensors[side])
