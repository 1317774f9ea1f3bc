"""The ops of warp: against grid_sample's at the composed grid, whichever path they take."""

import functools
import itertools
import random

import pytest
import samples
import torch
from test_distributed import assert_same_placed, processes  # noqa: F401  a fixture
from test_distributed import pytestmark as distributed_mark

from gridsample_ext import _sources, warp
from gridsample_ext._ops import Options

ops = torch.ops.gridsample_ext

SIZES = {2: (9, 11), 3: (4, 5, 6)}
MODES = {"bilinear": 0, "nearest": 1, "bicubic": 2}


def options(dims, mode=0, units="pixel", align_corners=False, **keywords):
    """A padding for each axis: circular, zeros and, of volumes, border."""
    padding = 65536 + 3 + 16 * 0 + (256 * 1 if dims == 3 else 0)
    return Options(mode, padding, align_corners, units == "pixel", **keywords)


def draw(dims, kind="both", dtype=torch.float32, *, N=2, C=3, size=None, device="cpu"):
    size = size or SIZES[dims]
    input = samples.randn(N, C, *size, dtype=dtype, device=device)
    displacement = samples.randn(N, dims, *size, seed=1, dtype=dtype, device=device)
    affine = torch.eye(dims, dims + 1, dtype=dtype, device=device)
    affine = affine + 0.1 * samples.randn(N, dims, dims + 1, seed=2, dtype=dtype, device=device)
    source = _sources.Source(
        displacement if kind != "affine" else None,
        affine if kind != "displacement" else None,
        "pixel",
        1,
    )
    return input, *source.checked({"input": input}, size, size, "warp")


def compare(input, displacement, affine, call, output_mask=(True, True, True)):
    """Output and gradients, in float64 but for the roundings of the results."""
    of = input.shape[2:]
    grid = _sources.compose(input.dtype, displacement, affine, of, call)
    output = ops.warp(input, displacement, affine, *call)
    samples.assert_bitwise_equal(output, ops.grid_sample(input, grid, *call))
    grad_output = samples.randn(*output.shape, seed=3).to(output)
    first, later = call[:3], call[3:]
    gradients = ops.warp_backward(
        grad_output, input, displacement, affine, *first, output_mask, False, *later
    )
    grad_input, grad_grid = ops.grid_sample_backward(
        grad_output, input, grid, *first, [True, True], False, *later
    )
    expected = grad_input, *_sources.gradients(grad_grid.double(), displacement, affine, of, call)
    for actual, wanted, other in zip(gradients, output_mask, expected, strict=True):
        assert (actual is not None) == (wanted and other is not None)
        if actual is not None:
            scale = max(1.0, other.abs().max().item() if other.numel() else 1.0)
            # What is summed in the grid's type may come out in a finer one.
            coarse = max(actual.dtype, grid.dtype, key=lambda dtype: torch.finfo(dtype).eps)
            samples.assert_close((actual / scale).to(coarse), other.double() / scale, terms=64)


def compare_random_calls(seed, device, calls, sizes, channels):
    """Of all layouts and types. ``sizes``: an axis has at most one of these, by dimensions."""
    draws = random.Random(seed)
    for _ in range(calls):
        dims = draws.choice([2, 2, 3])
        most = draws.choice(sizes[dims])
        size, out = ([draws.randint(1, most) for _ in range(dims)] for _ in "io")
        N = draws.choice([1, 2, 5])
        C = draws.choice(channels)
        dtype = draws.choice([torch.float32, torch.float32, torch.float64, torch.float16])
        moved_dtype = draws.choice([torch.float32, dtype, torch.bfloat16])
        made = {"device": device, "dtype": moved_dtype}
        input = samples.randn(draws.choice([1, N]), C, *size, dtype=dtype, device=device)
        if draws.random() < 0.4:
            input = samples.INPUT_LAYOUTS["channels_last"](input)
        displacement = affine = None
        if (kind := draws.choice(["displacement", "affine", "both"])) != "affine":
            displacement = samples.randn(draws.choice([1, N]), dims, *out, seed=1, **made)
            if draws.random() < 0.5:
                displacement = displacement.movedim(1, -1).contiguous().movedim(-1, 1)
        if kind != "displacement":
            affine = torch.eye(dims, dims + 1, **made) + 0.2 * samples.randn(
                draws.choice([1, N]), dims, dims + 1, seed=2, **made
            )
        mode = draws.choice([0, 1, 2, 3])
        units = draws.choice(["pixel", "normalized"])
        padding = draws.choice([0, 1, 2, 3])
        keywords = {"fill_value": 1.5} if padding == 0 and draws.random() < 0.3 else {}
        if draws.random() < 0.2:
            keywords["outside_value"] = 2.5
        call = Options(mode, padding, draws.random() < 0.5, units == "pixel", **keywords)
        source = _sources.Source(displacement, affine, units, 1)
        given = source.checked({"input": input}, tuple(size), tuple(out), "warp")
        mask = tuple(draws.random() < 0.7 for _ in range(3))
        compare(input, *given, call, mask)


@pytest.mark.devices("cpu", "cuda")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_random_calls(seed, threads, device):
    """Of few and many channels and samples, and so of all paths."""
    torch.set_num_threads(threads)
    sizes = {2: [5, 12, 60], 3: [3, 6, 14]}
    compare_random_calls(seed, device, 12, sizes, [1, 2, 3, 4, 5, 17, 70])


@pytest.mark.parametrize("seed", range(8))
def test_random_small_calls(seed, device):
    compare_random_calls(seed, device, 4, {2: [5, 12], 3: [3, 6]}, [1, 2, 3, 4, 8])


# opcheck of PyTorch 2.14 reads .grad of tensors of its own that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("kind", ["displacement", "affine", "both"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dims", [2, 3])
def test_opcheck(dims, mode, kind, device):
    pytest.importorskip("expecttest")
    tensors = draw(dims, kind, device=device)
    call = options(dims, MODES[mode])
    leaves = [each if each is None else each.clone().requires_grad_() for each in tensors]
    torch.library.opcheck(ops.warp.default, (*leaves, *call))
    grad_output = samples.randn(*ops.warp(*tensors, *call).shape, seed=3).to(tensors[0])
    ends = *call[:3], [True, True, True], False, *call[3:]
    torch.library.opcheck(ops.warp_backward.default, (grad_output, *tensors, *ends))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("kind", ["displacement", "both"])
def test_fake_gradients_have_the_real_strides(kind, interleaved, device):
    input, displacement, affine = draw(2, kind, device=device)
    if interleaved:
        displacement = displacement.contiguous()
    grad_output = samples.randn(2, 3, *SIZES[2], dtype=torch.float32, device=device)
    tensors = grad_output, input, displacement, affine
    ends = *options(2)[:3], [True, True, True], False, *options(2)[3:]
    real = ops.warp_backward(*tensors, *ends)
    metas = [each if each is None else each.to("meta") for each in tensors]
    fake = ops.warp_backward(*metas, *ends)
    for one, other in zip(real, fake, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one.shape, one.stride(), one.dtype) == (
                other.shape,
                other.stride(),
                other.dtype,
            )


@pytest.mark.parametrize("mask", [(True, True, True), (False, True, True), (False, False, True)])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("batches", [(2, 2), (16, 1)])
@pytest.mark.parametrize("C", [1, 2, 3, 40, 130])
@pytest.mark.parametrize("dims", [2, 3])
def test_threads_change_no_bits(dims, C, batches, layout, mask):
    size = {2: (20, 100), 3: (6, 12, 30)}[dims]
    input, displacement, affine = draw(dims, C=C, size=size, N=batches[0])
    input = samples.INPUT_LAYOUTS[layout](input)
    displacement, affine = displacement[: batches[1]], affine[: batches[1]]
    grad_output = samples.randn(batches[0], C, *size, dtype=torch.float32, seed=3)
    ends = *options(dims)[:3], list(mask), False, *options(dims)[3:]
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        output = ops.warp(input, displacement, affine, *options(dims))
        gradients = ops.warp_backward(grad_output, input, displacement, affine, *ends)
        results.append((output, *gradients))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                samples.assert_bitwise_equal(one, other)


@pytest.mark.devices("cpu", "cuda")
def test_gradient_of_the_map_is_a_sum_in_float64(device):
    """Of as many samples as there are to add, not of a rounded grid's gradients."""
    size = (1000, 10000)
    input = samples.randn(1, 1, 40, 50, dtype=torch.float32, device=device)
    zero = torch.zeros((), device=device).expand(1, *size, 2)
    affine = torch.tensor([[[0.9, 0.1, 0.01], [-0.1, 0.8, 0.02]]], device=device)
    call = Options(0, 1, False, False)
    grad_output = samples.randn(1, 1, *size, dtype=torch.float32, seed=1, device=device)
    ends = *call[:3], [False, True, True], False, *call[3:]
    _, by_sample, by_map = ops.warp_backward(grad_output, input, zero, affine, *ends)
    places = _sources._places_of(zero, input.shape[2:], call, torch.float32)
    terms = [by_sample.double() * place.unsqueeze(-1) for place in places] + [by_sample.double()]
    expected = torch.stack([term.sum((1, 2)) for term in terms], -1)
    assert ((by_map - expected).abs() <= 1e-6 * expected.abs() + 1e-9).all()


@pytest.mark.parametrize("in_dims", list(itertools.product((None, 0, 1), repeat=3))[1:])
@pytest.mark.parametrize("batches", [(2, 2, 2), (1, 2, 1), (2, 1, 1), (1, 1, 2)])
def test_vmap(in_dims, batches, device):
    tensors = [
        samples.randn(batches[0], 2, 4, 5, dtype=torch.float32, device=device),
        samples.randn(batches[1], 2, 3, 6, seed=1, dtype=torch.float32, device=device),
        torch.eye(2, 3, device=device)
        + 0.1 * samples.randn(batches[2], 2, 3, seed=2, dtype=torch.float32, device=device),
    ]
    weight = samples.randn(2, 2, 3, 6, seed=3, dtype=torch.float32, device=device)

    def results(*given):
        call = functools.partial(warp, padding_mode="border")
        output, pullback = torch.func.vjp(call, *given)
        return output, *pullback(weight[: output.shape[0]])

    stacked = [torch.stack([each, 0.5 * each, -each]) for each in tensors]
    batched = [
        each[0] if dim is None else each.movedim(0, dim)
        for each, dim in zip(stacked, in_dims, strict=True)
    ]
    rows = zip(
        *(
            [each[0]] * 3 if dim is None else each
            for each, dim in zip(stacked, in_dims, strict=True)
        ),
        strict=True,
    )
    expected = [torch.stack(each) for each in zip(*(results(*row) for row in rows), strict=True)]
    for actual, of_rows in zip(torch.vmap(results, in_dims)(*batched), expected, strict=True):
        samples.assert_close(actual, of_rows.double(), terms=40)


@pytest.mark.parametrize("kind", ["displacement", "affine", "both"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_third_derivatives(mode, kind):
    tensors = draw(2, kind, torch.float64, C=1, size=(3, 4))
    chosen = [i for i, each in enumerate(tensors) if each is not None and i != 1]
    if kind != "affine":
        chosen.append(1)
    given = [tensors[i] for i in chosen]

    def third(*some):
        filled = list(tensors)
        for i, each in zip(chosen, some, strict=True):
            filled[i] = each
        output = ops.warp(*filled, *options(2, MODES[mode]))
        first = torch.autograd.grad(output.square().sum(), some, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), some, create_graph=True)

    leaves = [each.clone().requires_grad_() for each in given]
    assert torch.autograd.gradcheck(third, leaves, fast_mode=True)


def test_hessian():
    """Forward over reverse, by torch.func."""
    input, displacement, affine = draw(2, "both", torch.float64, N=1, C=1, size=(3, 4))
    call = options(2, MODES["bicubic"])

    def loss(theta):
        return ops.warp(input, displacement, theta, *call).square().sum()

    hessian = torch.func.hessian(loss)(affine)
    reverse = torch.autograd.functional.hessian(loss, affine)
    samples.assert_close(hessian, reverse)


def check_every_placement(kind):
    input, displacement, affine = draw(2, kind, torch.float64, N=4, C=4)
    given = [input, displacement if kind != "affine" else None, affine]
    present = [each for each in given if each is not None]

    def call(*some):
        some = iter(some)
        tensors = [each if each is None else next(some) for each in given]
        return warp(*tensors, displacement_dim=-1, padding_mode="border")

    weight = samples.randn(*call(*present).shape, seed=4)
    placements = itertools.product(["R", "0", "1", "2"], *[["R", "0", "1"]] * (len(present) - 1))
    assert_same_placed(call, present, weight, placements)


@distributed_mark
@pytest.mark.parametrize("kind", ["displacement", "affine", "both"])
def test_distributed_tensors(processes, kind):  # noqa: F811
    processes.run(check_every_placement, kind)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_decompositions(mode):
    from gridsample_ext import decompositions

    class Warper(torch.nn.Module):
        def forward(self, input, displacement, affine):
            return warp(input, displacement, affine, mode=mode, padding_mode="border")

    tensors = [each.movedim(-1, 1) if i == 1 else each for i, each in enumerate(draw(2))]
    program = torch.export.export(Warper(), tuple(tensors))
    assert any("gridsample_ext.warp" in str(node.target) for node in program.graph.nodes)
    decomposed = program.run_decompositions(decompositions())
    assert not any("gridsample_ext.warp" in str(node.target) for node in decomposed.graph.nodes)
    samples.assert_close(decomposed.module()(*tensors), Warper()(*tensors).double(), terms=8)


ERRORS = {
    "sizes": (lambda i, d, a: (i, d[..., :1], a), r"displacement to have size 2 in its last"),
    "dims": (lambda i, d, a: (i, d[0], a), "displacement to have as many dimensions"),
    "batch": (lambda i, d, a: (i, d[:1].expand(3, -1, -1, -1), a), "displacement"),
    "affine": (lambda i, d, a: (i, d, a[:, :, :2]), r"affine to be \(N, 2, 3\)"),
    "maps": (lambda i, d, a: (i, d, a[:1].expand(3, -1, -1)), "affine to have the batch size"),
    "dtype": (lambda i, d, a: (i, d, a.int()), "affine to have dtype"),
}


@pytest.mark.parametrize("fake", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, fake):
    change, message = ERRORS[name]
    tensors = change(*draw(2))
    if fake:
        tensors = [each.to("meta") for each in tensors]
    with pytest.raises(RuntimeError, match=message):
        ops.warp(*tensors, *options(2))


def saved_bytes(call):
    """What the graph of a call keeps, in bytes."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        call()
    return sum(t.untyped_storage().nbytes() for t in kept)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_is_kept_only_where_a_gradient_needs_it(mode):
    image = torch.rand(1, 64, 32, 32, requires_grad=True)
    flow = torch.rand(1, 2, 32, 32)
    of_image = image.numel() * 4
    assert saved_bytes(lambda: warp(image, flow, mode=mode)) < of_image
    flow.requires_grad_()
    kept = saved_bytes(lambda: warp(image, flow, mode=mode))
    assert kept < of_image if mode == "nearest" else kept >= of_image
