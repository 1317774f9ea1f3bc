"""torch.library.opcheck: schemas, autograd, fake kernels and tracing agree with the kernels."""

import itertools

import pytest
import samples
import torch

import gridsample_ext  # noqa: F401  registers the ops

pytest.importorskip("expecttest")  # which opcheck imports

ops = torch.ops.gridsample_ext

CASES = [
    samples.Case(2, "bilinear", "zeros", False),
    samples.Case(2, "nearest", "border", True),
    samples.Case(3, "bilinear", "reflection", True),
    samples.Case(3, "bicubic", "zeros", False),
    samples.Case(2, "bspline", "reflection", False),
]
SAMPLES = {
    "contiguous": (samples.SMALL, torch.float32, "contiguous"),
    "channels_last": (samples.SMALL, torch.float64, "channels_last"),
    "half": (samples.SMALL, torch.float16, "contiguous"),
    "input_broadcast": (
        samples.Shape("input_broadcast", N_input=1, N_grid=2),
        torch.float32,
        "contiguous",
    ),
    "empty": (samples.Shape("empty", N=0), torch.float32, "contiguous"),
}


def make(case, name, device):
    shape, dtype, layout = SAMPLES[name]
    input, grid = samples.sample(case, shape, dtype, torch.float32, device=device)
    return samples.INPUT_LAYOUTS[layout](input), grid


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case, name, device):
    torch.library.opcheck(ops.grid_sample.default, (*make(case, name, device), *case.op_options))


# opcheck of PyTorch 2.15 reads .grad of tensors of its own that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("needs_grad", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_with_gradients(case, needs_grad, device):
    input, grid = make(case, "contiguous", device)
    arguments = input.requires_grad_(needs_grad[0]), grid.requires_grad_(needs_grad[1])
    torch.library.opcheck(ops.grid_sample.default, (*arguments, *case.op_options))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward(case, name, device):
    input, grid = make(case, name, device)
    arguments = samples.grad_like(input, grid), input, grid, *case.op_options, [True, True]
    torch.library.opcheck(ops.grid_sample_backward.default, arguments)


@pytest.mark.parametrize("output_mask", list(itertools.product((False, True), repeat=2)))
def test_backward_masks(output_mask, device):
    input, grid = make(CASES[0], "contiguous", device)
    arguments = samples.grad_like(input, grid), input, grid, *CASES[0].op_options, list(output_mask)
    torch.library.opcheck(ops.grid_sample_backward.default, arguments)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fake_results_have_the_real_strides(case, name, device):
    """On the meta device, where nothing is computed: shape, type and memory format."""
    input, grid = make(case, name, device)
    grad_output = samples.grad_like(input, grid)
    real = ops.grid_sample(input, grid, *case.op_options)
    fake = ops.grid_sample(input.to("meta"), grid.to("meta"), *case.op_options)
    reals = [
        real,
        *ops.grid_sample_backward(grad_output, input, grid, *case.op_options, [True, True]),
    ]
    metas = [tensor.to("meta") for tensor in (grad_output, input, grid)]
    fakes = [fake, *ops.grid_sample_backward(*metas, *case.op_options, [True, True])]
    for fake, real in zip(fakes, reals, strict=True):
        assert fake.device.type == "meta"
        assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)
