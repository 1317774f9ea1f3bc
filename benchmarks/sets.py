"""The sets of cases, by name: one list for the CPU and for CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from cases import MODES, Case
from steps import Step, training_steps

Size = tuple[tuple[int, ...], tuple[int, ...]]  # of the input and of the output

KINDS = (
    ("bilinear", "zeros"),
    ("bilinear", "border"),
    ("bilinear", "reflection"),
    ("nearest", "zeros"),
    ("bicubic", "zeros"),
)
HALVES = (torch.bfloat16, torch.float16)


def square(*input: int) -> Size:
    """An output of the input's sizes."""
    return input, input[2:]


IMAGES = (
    square(1, 3, 512, 512),
    square(8, 64, 64, 64),
    square(1, 64, 256, 256),
    ((4, 256, 32, 32), (30, 30)),
    square(1, 1, 1024, 1024),
)
VOLUMES = (
    square(1, 1, 96, 96, 96),
    square(2, 8, 48, 48, 48),
    square(1, 32, 32, 32, 32),
)
# Those also run in other types. Half-precision images stay below 32,768 pixels, beyond which stock
# kernels on the CPU read out of bounds (PyTorch 2.13).
TYPED = (IMAGES[1], IMAGES[3], VOLUMES[2])
# Batches of grey and colour images, and such.
FEW_CHANNELS = (
    square(8, 1, 512, 512),
    square(16, 3, 224, 224),
    square(32, 1, 28, 28),
    square(64, 3, 32, 32),
    square(4, 2, 256, 256),
)
# Regions of interest, and points.
REGIONS = (
    ((2048, 16, 16, 16), (7, 7)),
    ((512, 64, 16, 16), (7, 7)),
    ((128, 256, 14, 14), (7, 7)),
    ((512, 16, 28, 28), (14, 14)),
    ((32, 256, 28, 28), (14, 14)),
)
POINTS = (
    ((16384, 16, 8, 8), (1, 1)),
    ((256, 3, 32, 32), (1, 10)),
    ((1024, 64, 16, 16), (1, 10)),
    ((64, 32, 64, 64), (1, 1000)),
)


def in_both_layouts(*size: tuple[int, ...], **options: Any) -> list[Case]:
    """The case contiguous and channels-last."""
    return [Case(*size, channels_last=last, **options) for last in (False, True)]


def crossed(sizes: tuple[Size, ...], kinds: Any, grids: tuple[str, ...]) -> list[Case]:
    """Sizes x modes and paddings x layouts x grids."""
    return [
        Case(*size, mode, padding, grid, channels_last=last)
        for size in sizes
        for mode, padding in kinds
        for last in (False, True)
        for grid in grids
    ]


def survey() -> list[Case]:
    """Few channels and many, images and volumes, of which few are batches."""
    return crossed(IMAGES + VOLUMES, KINDS, ("smooth", "random"))


def few_channels() -> list[Case]:
    """Batches of images of one to three channels."""
    return crossed(FEW_CHANNELS, KINDS, ("smooth", "affine"))


def few_samples() -> list[Case]:
    """Many images, and few samples of each."""
    kinds = [(mode, "zeros") for mode in MODES]
    volumes = in_both_layouts((256, 8, 16, 16, 16), (1, 1, 10), grid="random")
    return crossed(REGIONS, kinds, ("affine",)) + crossed(POINTS, kinds, ("random",)) + volumes


def transforms() -> list[Case]:
    """The survey's images under affine maps and smooth flow."""
    return crossed(IMAGES, KINDS[:1], ("affine", "flow"))


def volumes() -> list[Case]:
    """The survey's volumes, and the same under affine maps and smooth flow."""
    cases = [case for case in survey() if case.dims == 3]
    return cases + crossed(VOLUMES, KINDS[:1], ("affine", "flow"))


def types() -> list[Case]:
    """Halves and float64, for input and grid."""
    return [
        case
        for size in TYPED
        for dtype in (*HALVES, torch.float64)
        for grid in ("smooth", "random")
        for case in in_both_layouts(*size, grid=grid, dtype=dtype)
    ]


def mixed_types() -> list[Case]:
    """Features of a half type and a float32 grid."""
    sizes = (IMAGES[1], IMAGES[3], FEW_CHANNELS[1], VOLUMES[2])
    return [
        case
        for size in sizes
        for dtype in HALVES
        for case in in_both_layouts(*size, grid="affine", dtype=dtype, grid_dtype=torch.float32)
    ]


def small_calls() -> list[Case]:
    """Where a call costs more than the work."""
    return [
        Case(*square(1, 3, 16, 16)),
        Case(*square(1, 3, 64, 64), grid="affine"),
        Case((1, 64, 32, 32), (1, 10), grid="random"),
    ]


def sizes() -> list[Case]:
    """Square images of 16 channels, from small to large."""
    return [
        Case(*square(1, 16, side, side), channels_last=last)
        for last in (False, True)
        for side in (16, 32, 64, 128, 256, 512)
    ]


def quick() -> list[Case]:
    """A cross-section that takes less than a minute."""
    survey = crossed(
        (IMAGES[0], IMAGES[1], IMAGES[3]), [(mode, "zeros") for mode in MODES], ("smooth",)
    )
    survey += crossed(VOLUMES[2:], KINDS[:1], ("smooth",))
    few = [case for case in few_channels() if case.grid == "affine" and case.mode != "bicubic"]
    return survey + few[4:12] + few_samples()[:4] + mixed_types()[:2]


# Sizes that fill a large GPU.
LARGE_IMAGES = (
    square(8, 3, 1024, 1024),
    square(8, 64, 256, 256),
    ((32, 256, 32, 32), (30, 30)),
    square(1, 1, 4096, 4096),
    square(1, 64, 1024, 1024),
)
LARGE_VOLUMES = (
    square(1, 1, 256, 256, 256),
    square(2, 8, 128, 128, 128),
    square(1, 32, 128, 128, 128),
)


def large() -> list[Case]:
    """What fills a large GPU, the most telling first."""
    few, many, features, one_channel, _ = LARGE_IMAGES
    volume = LARGE_VOLUMES[1]
    sizes = LARGE_IMAGES + LARGE_VOLUMES

    def in_layouts(*size: tuple[int, ...], **options: Any) -> list[Case]:
        return in_both_layouts(*size, **options)[: min(size[0][1], 2)]

    cases = [Case(*square(1, 3, 64, 64))]
    for grid in ("smooth", "random"):
        for size in sizes:
            cases += in_layouts(*size, grid=grid)
    for size in (few, many, one_channel, volume):
        cases += in_layouts(*size, grid="one_pixel")
    for size in (many, features, volume):
        for dtype in (torch.float16, torch.bfloat16):
            cases += in_layouts(*size, dtype=dtype)
    for size in (*LARGE_IMAGES, volume):
        cases += in_layouts(*size, mode="bicubic")
    for size in sizes:
        cases += in_layouts(*size, mode="nearest")
    for padding_mode in ("border", "reflection"):
        cases += in_layouts(*many, padding_mode=padding_mode)
        cases.append(Case(*volume, padding_mode=padding_mode))
    # Bilinear images with zeros and align_corners: PyTorch takes cuDNN's kernels for them alone.
    cases += [Case(*size, align_corners=True) for size in LARGE_IMAGES]
    cases += [
        Case(*few, grid="random", align_corners=True),
        Case(*many, grid="random", align_corners=True),
        Case(*many, channels_last=True, align_corners=True),
        Case(*many, dtype=torch.float16, align_corners=True),
    ]
    return cases


def compiled() -> set[Case]:
    """The large cases that torch.compile is tried on: it takes seconds for each."""
    few, many = LARGE_IMAGES[:2]
    return {
        Case(*few),
        Case(*many),
        Case(*many, channels_last=True),
        Case(*many, mode="bicubic"),
        Case(*many, dtype=torch.float16),
        Case(*LARGE_VOLUMES[1]),
    }


def deterministic() -> set[Case]:
    """Those whose backward pass is also timed under torch.use_deterministic_algorithms."""
    few, many = LARGE_IMAGES[:2]
    both = in_both_layouts(*many) + in_both_layouts(*LARGE_VOLUMES[1])
    return {Case(*few), *both, Case(*many, grid="random"), Case(*many, grid="one_pixel")}


Member = Case | Step
SETS: dict[str, Callable[[], Sequence[Member]]] = {
    "large": large,
    "few-channels": few_channels,
    "few-samples": few_samples,
    "small-calls": small_calls,
    "training-steps": training_steps,
    "mixed-types": mixed_types,
    "transforms": transforms,
    "volumes": volumes,
    "survey": survey,
    "types": types,
    "sizes": sizes,
    "quick": quick,
}


def chosen(
    names: list[str], only: str = "", **more: Callable[[], Sequence[Member]]
) -> list[Member]:
    """What is in some sets, of these or of ``more``, and has ``only`` in its name, each once."""
    sets = SETS | more
    members = {member.name: member for name in names for member in sets[name]()}
    return [member for name, member in members.items() if only in name]
