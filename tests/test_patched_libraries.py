"""kornia, MONAI and torchvision under gridsample_ext.patch(), where they are installed.

Whatever they compute with F.grid_sample has patched the values, dtypes, layouts and gradients, and
raises the errors, that it has unpatched.
"""

import contextlib

import pytest
import samples
import torch
from test_patch_exact import outcome, traits
from torch.utils._pytree import tree_leaves

import gridsample_ext

CALLS = {}


def library(name):
    """Register a function that gives the calls of a library: name -> (function, arguments)."""

    def register(function):
        CALLS[name] = function
        return function

    return register


def images(*shape, dtype=torch.float32, seed=0):
    return samples.randn(*shape, dtype=dtype, seed=seed)


@library("torchvision")
def torchvision_calls(torchvision):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as T

    image = images(2, 3, 17, 23)
    displacement = images(1, 17, 23, 2, seed=1) / 9
    points = [[0, 0], [22, 0], [22, 16], [0, 16]], [[1, 2], [20, 1], [21, 15], [2, 14]]
    calls = {}
    for mode in ("BILINEAR", "NEAREST"):
        how = InterpolationMode[mode]
        calls |= {
            f"rotate_{mode}": lambda x, how=how: T.rotate(x, 21.0, how, fill=0.5),
            f"affine_{mode}": lambda x, how=how: T.affine(
                x, 9.0, [2, -3], 1.1, [4.0, 3.0], how, fill=[0.1, 0.2, 0.3]
            ),
            f"perspective_{mode}": lambda x, how=how: T.perspective(x, *points, how),
            f"elastic_{mode}": lambda x, how=how: T.elastic(x, displacement, how),
        }
    flow = torchvision.models.optical_flow.raft_small().eval()
    for name, call in list(calls.items()):
        yield name, call, (image,)
        yield f"{name}_uint8", call, ((image * 255).to(torch.uint8),)
        yield f"{name}_float64", call, (image.double(),)
    yield (
        "raft",
        lambda a, b: flow(a, b, num_flow_updates=2)[-1],
        (
            images(1, 3, 128, 128).tanh(),
            images(1, 3, 128, 128, seed=1).tanh(),
        ),
    )


@library("kornia")
def kornia_calls(kornia):
    geometry = kornia.geometry
    image = images(2, 3, 17, 23)
    affine = torch.eye(2, 3)[None].repeat(2, 1, 1) + images(2, 2, 3, seed=1) / 20
    perspective = torch.eye(3)[None].repeat(2, 1, 1) + images(2, 3, 3, seed=1) / 200
    maps = images(2, 17, 23, seed=2) * 8 + 9, images(2, 17, 23, seed=3) * 8 + 9
    noise = images(2, 2, 17, 23, seed=4).tanh()
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            yield (
                f"warp_affine_{mode}_{padding}",
                lambda x, m, mode=mode, padding=padding: geometry.warp_affine(
                    x, m, (19, 21), mode=mode, padding_mode=padding
                ),
                (image, affine),
            )
    yield (
        "warp_perspective",
        lambda x, m: geometry.warp_perspective(x, m, (9, 11)),
        (
            image,
            perspective,
        ),
    )
    yield "remap", lambda x, *m: geometry.remap(x, *m, align_corners=True), (image, *maps)
    yield "rotate", lambda x, a: geometry.rotate(x, a), (image, torch.tensor([20.0, -70.0]))
    yield "elastic", lambda x, n: geometry.transform.elastic_transform2d(x, n), (image, noise)
    yield "wrong_batch", lambda x, *m: geometry.remap(x, *m), (image, *(m[:1, :, :3] for m in maps))
    yield (
        "warp_affine3d",
        lambda x, m: geometry.warp_affine3d(x, m, (5, 6, 7)),
        (images(1, 2, 5, 6, 7), torch.eye(3, 4)[None] + images(1, 3, 4, seed=1) / 30),
    )

    def augmented(x):
        torch.manual_seed(0)
        return kornia.augmentation.AugmentationSequential(
            kornia.augmentation.RandomAffine(30.0, p=1.0),
            kornia.augmentation.RandomPerspective(0.3, p=1.0),
            kornia.augmentation.RandomThinPlateSpline(p=1.0),
        )(x)

    yield "augmentation", augmented, (image,)


@library("monai")
def monai_calls(monai):
    from monai.networks.blocks import Warp
    from monai.networks.layers import AffineTransform
    from monai.transforms import Affine, Rand3DElastic, Resample

    plane, volume = images(2, 3, 9, 11), images(1, 2, 7, 8, 9)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            yield (
                f"warp_{mode}_{padding}",
                lambda x, d, mode=mode, padding=padding: Warp(mode, padding)(x, d),
                (plane, images(2, 2, 9, 11, seed=1)),
            )
    yield (
        "warp_volume",
        lambda x, d: Warp("bilinear", "border")(x, d),
        (
            volume,
            images(1, 3, 7, 8, 9, seed=1),
        ),
    )
    yield (
        "affine_layer",
        lambda x, m: AffineTransform((6, 7), align_corners=False)(x, m),
        (
            plane,
            torch.eye(3)[None] + images(2, 3, 3, seed=1) / 30,
        ),
    )
    yield "affine", lambda x: Affine(rotate_params=0.3, padding_mode="border")(x)[0], (plane[0],)
    yield (
        "resample",
        lambda x, g: Resample(mode="bilinear", padding_mode="reflection")(x, g),
        (volume[0], images(4, 5, 6, 7, seed=2)),
    )
    elastic = Rand3DElastic((2.0, 3.0), (1.0, 2.0), prob=1.0, padding_mode="zeros")
    yield "elastic", lambda x: elastic.set_random_state(0)(x), (volume[0],)


def differentiable(tensor):
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point()


def results_of(function, arguments):
    leaves = [t.detach().clone().requires_grad_(differentiable(t)) for t in arguments]
    outputs = [t for t in tree_leaves(function(*leaves)) if isinstance(t, torch.Tensor)]
    wanted = [t for t in leaves if t.requires_grad]
    loss = sum(t.double().square().sum() for t in outputs if t.requires_grad)
    gradients = []
    if isinstance(loss, torch.Tensor) and wanted:
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [t for t in (*outputs, *gradients) if t is not None]


SETTINGS = {
    "float32": lambda t: t,
    "float64": lambda t: t.double() if differentiable(t) else t,
    "bfloat16": lambda t: t.bfloat16() if differentiable(t) else t,
    "channels_last": lambda t: t.contiguous(
        memory_format={4: torch.channels_last, 5: torch.channels_last_3d}.get(
            t.dim(), torch.contiguous_format
        )
    ),
    "autocast": lambda t: t,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CALLS)
def test_same_with_and_without_the_patch(name, setting):
    module = pytest.importorskip(name)
    if name == "torchvision":
        pytest.importorskip("torchvision.transforms.v2")
    tried = 0
    for label, function, arguments in CALLS[name](module):
        converted = [SETTINGS[setting](argument) for argument in arguments]
        manager = (
            torch.autocast("cpu", dtype=torch.bfloat16)
            if setting == "autocast"
            else contextlib.nullcontext()
        )
        with manager:
            expected = outcome(results_of, function, converted)
            with gridsample_ext.patch():
                actual = outcome(results_of, function, converted)
        if isinstance(expected, tuple):
            assert actual == expected, label
            continue
        tried += 1
        assert isinstance(actual, list), (label, actual)
        for ours, theirs in zip(actual, expected, strict=True):
            assert traits(ours) == traits(theirs), label
            assert type(ours) is type(theirs)
            if setting == "bfloat16" or (label, setting) == ("raft", "autocast"):
                continue  # of which PyTorch rounds the coordinates; which rounds between samplings
            scale = max(1.0, float(theirs.detach().double().abs().max()))
            difference = (ours.detach().double() - theirs.detach().double()).abs()
            assert float(difference.max()) <= 1e-3 * scale, label
    assert tried >= 3
