"""Under autocast: results in the type of input, sums in float32, training with scaled losses."""

import pytest
import samples
import torch
import torch.nn.functional as F

from gridsample_ext import grid_sample

CASE = samples.Case(2, "bilinear", "zeros", False)
AUTOCAST_DTYPES = [torch.bfloat16, torch.float16]


def call(*arguments):
    return grid_sample(*arguments, *CASE.options)


@pytest.mark.parametrize("autocast_dtype", AUTOCAST_DTYPES, ids=str)
@pytest.mark.parametrize("grid_dtype", samples.DTYPES, ids=str)
@pytest.mark.parametrize("dtype", samples.DTYPES, ids=str)
def test_changes_nothing(dtype, grid_dtype, autocast_dtype, device):
    """For all pairs of types, as F.grid_sample refuses them: output and gradients, to the bit."""
    input, grid = samples.sample(CASE, dtype=dtype, grid_dtype=grid_dtype, device=device)
    expected = call(input.requires_grad_(), grid.requires_grad_())
    expected.sum(dtype=torch.float32).backward()
    gradients = input.grad, grid.grad
    input.grad = grid.grad = None
    with torch.autocast(device, dtype=autocast_dtype):
        output = call(input, grid)
        output.sum(dtype=torch.float32).backward()
    samples.assert_bitwise_equal(output.detach(), expected.detach())
    assert (output.dtype, input.grad.dtype, grid.grad.dtype) == (dtype, dtype, grid_dtype)
    for actual, gradient in zip((input.grad, grid.grad), gradients, strict=True):
        samples.assert_close(actual, gradient.double())  # on a GPU the order of sums changes


@pytest.mark.parametrize("dtype", AUTOCAST_DTYPES, ids=str)
@pytest.mark.parametrize("case", samples.cases(padding_mode="reflection"), ids=str)
def test_float32_inside(case, dtype, device):
    """What is rounded to the half type is the float32 result, once, and nothing before it."""
    input, grid = samples.sample(case, dtype=dtype, grid_dtype=torch.float32, device=device)
    with torch.autocast(device, dtype=dtype):
        output = grid_sample(input, grid, *case.options)
    expected = grid_sample(input.float(), grid, *case.options)
    samples.assert_bitwise_equal(output, expected.to(dtype))


@pytest.mark.devices("cpu", "cuda")
def test_pytorch_s_type(device):
    """The documented difference: F.grid_sample's is float32 on the CPU, elsewhere the widest."""
    input, grid = samples.sample(CASE, dtype=torch.bfloat16, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        theirs = F.grid_sample(input, grid, *CASE.options)
        ours = call(input, grid)
    assert theirs.dtype == (torch.float32 if device == "cpu" else torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    samples.assert_bitwise_equal(ours, call(input.float(), grid.float()).bfloat16())
    samples.assert_close(ours, theirs.double())


class Aligner(torch.nn.Module):
    """Features of an image, moved by a flow that is learned, and read out."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.flow = torch.nn.Parameter(0.05 * samples.randn(1, 6, 8, 2, dtype=torch.float32))
        self.register_buffer("grid", samples.identity_grid((6, 8), False, torch.float32))
        self.readout = torch.nn.Conv2d(8, 1, 1)

    def forward(self, image):
        """One channel of 6 by 8 pixels."""
        features = self.features(image).relu()
        # Positions stay float32: a bfloat16 has 8 bits, not enough for pixels of a large image.
        grid = self.grid + self.flow
        moved = grid_sample(features, grid, "bilinear", "border", align_corners=False)
        assert grid.dtype == torch.float32
        assert moved.dtype == features.dtype == torch.get_autocast_dtype(image.device.type)
        return self.readout(moved)


def training(device):
    torch.manual_seed(0)
    model = Aligner().to(device)
    image = samples.randn(2, 3, 12, 16, dtype=torch.float32, device=device)
    target = samples.randn(2, 1, 6, 8, dtype=torch.float32, device=device, seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(dtype):
        with torch.autocast(device, dtype=dtype):
            output = model(image)
            assert output.dtype == dtype
            return F.mse_loss(output.float(), target)

    return model, optimizer, loss


def copies(tensors):
    return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize("dtype", AUTOCAST_DTYPES, ids=str)
def test_training_step_with_a_scaled_loss(dtype, device):
    """Scaling by a power of 2 is exact: after unscale_ the gradients are those of the loss."""
    model, optimizer, loss = training(device)
    parameters = list(model.parameters())
    before = copies(parameters)
    expected = torch.autograd.grad(loss(dtype), parameters)

    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    scaler.scale(loss(dtype)).backward()
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * 2**10, rtol=1e-2, atol=1e-1)
    scaler.unscale_(optimizer)
    assert all(gradient.abs().max() > 0 for gradient in expected)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad.dtype == torch.float32
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-2, atol=1e-4)
    gradients = copies(parameter.grad for parameter in parameters)
    scaler.step(optimizer)
    scaler.update()
    for parameter, old, gradient in zip(parameters, before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.1 * gradient)
    assert scaler.get_scale() == 2**10


def test_overflow_skips_the_step(device):
    """A scale that float16 gradients do not bear: no step, half the scale, then it goes on."""
    model, optimizer, loss = training(device)
    parameters = list(model.parameters())
    before = copies(parameters)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**30, backoff_factor=2.0**-20)

    scaler.scale(loss(torch.float16)).backward()
    assert not model.flow.grad.isfinite().all()  # it came through grid_sample
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert all(map(torch.equal, parameters, before))
    assert scaler.get_scale() == 2**10

    optimizer.zero_grad()
    scaler.scale(loss(torch.float16)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not any(map(torch.equal, parameters, before))
    assert all(parameter.isfinite().all() for parameter in parameters)


@pytest.mark.parametrize("dtype", AUTOCAST_DTYPES, ids=str)
def test_training_lowers_the_loss(dtype, device):
    _, optimizer, loss = training(device)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        value = loss(dtype)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("dtype", AUTOCAST_DTYPES, ids=str)
def test_compiled(dtype, device):
    torch.compiler.reset()
    input, grid = samples.sample(CASE, dtype=dtype, grid_dtype=torch.float32, device=device)

    def model(input, grid):
        with torch.autocast(device, dtype=dtype):
            return call(input, grid)

    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    samples.assert_bitwise_equal(compiled(input, grid), model(input, grid))
