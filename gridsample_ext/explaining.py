"""What a call would do, without doing it: its path, threads and memory, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridsample_ext import _C, _compat, _fakes, _ops, _options, _pixels, functional
from gridsample_ext._options import Keywords
from gridsample_ext.saving import without_data


@dataclass(frozen=True)
class Explanation:
    """The plan of a call on the CPU.

    Its string is a line for each fact, to be read by people; programs read the fields.
    """

    #: The kernels that compute ``output``, or ``grad_input`` and ``grad_grid``; docs/call.md
    #: describes the paths.
    paths: dict[str, str]
    #: Why a result takes its path.
    reasons: dict[str, str]
    #: ``baseline``, ``avx2`` or ``avx512``; on aarch64 ``neon``.
    instruction_set: str
    #: How many threads share the work.
    threads: int
    #: Bytes that the call allocates beside its results, at most, by what they are for.
    scratch_bytes: dict[str, int]
    #: How channels, samples and parts of the image are dealt out to threads.
    split: dict[str, int]

    def __str__(self) -> str:
        split = [f"{count} {name}" for name, count in self.split.items() if count > 1]
        scratch = [f"{name} {_size(count)}" for name, count in self.scratch_bytes.items() if count]
        rows = [(name, f"{path}: {self.reasons[name]}") for name, path in self.paths.items()]
        rows += [
            ("instruction set", self.instruction_set),
            ("threads", str(self.threads)),
            ("split", ", ".join(split) or "none"),
            ("scratch memory", ", ".join(scratch) or "none"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _size(count: int) -> str:
    """How people write a number of bytes."""
    if count < 2**10:
        return f"{count} bytes"
    return f"{count / 2**10:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def explain(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    align_corners: bool = False,
    *,
    coordinates: str = "normalized",
    fill_value: float | None = None,
    outside_value: float | None = None,
    cubic_coefficient: float | None = None,
    backward: bool = False,
) -> Explanation:
    """Say what :func:`grid_sample` of these arguments does on the CPU, without sampling.

    Args:
        input: as :func:`grid_sample` takes it; so are all but the last.
        grid: its values are looked at only for ``backward``, and only in calls of 16,384 samples
            or more: whether samples that follow each other lie far apart decides about the path.
        mode: see :func:`grid_sample`.
        padding_mode: see :func:`grid_sample`.
        align_corners: see :func:`grid_sample`.
        coordinates: see :func:`grid_sample`.
        fill_value: see :func:`grid_sample`.
        outside_value: see :func:`grid_sample`.
        cubic_coefficient: see :func:`grid_sample`.
        backward: explain the backward pass in place of the forward pass: of those of ``input`` and
            ``grid`` that require a gradient, or of both if neither does.

    Returns:
        An :class:`Explanation` for the current number of threads. Tensors on the meta device are
        planned for as tensors on the CPU are, with samples in a smooth order.

    Raises:
        NotImplementedError: the tensors are on another device; its plans cannot be asked for.
        ValueError, TypeError, NotImplementedError, RuntimeError: what :func:`grid_sample` raises
            for these arguments.

    Example:
        >>> import torch, gridsample_ext
        >>> image, grid = torch.zeros(1, 16, 8, 8), torch.zeros(1, 8, 8, 2)
        >>> gridsample_ext.explain(image, grid).paths
        {'output': 'packed rows'}
        >>> gridsample_ext.explain(image, grid, backward=True).paths
        {'grad_input': 'one walk in packed rows', 'grad_grid': 'one walk in packed rows'}

    """
    keywords = Keywords(coordinates, fill_value, outside_value, cubic_coefficient)
    _validate(input, grid, mode, padding_mode, align_corners, keywords)
    if input.device.type not in ("cpu", "meta"):
        raise NotImplementedError(
            "explain(): expected tensors on the CPU or the meta device, whose plans can be asked "
            f"for, but got input with sizes {list(input.shape)} on {input.device}"
        )
    needs = input.requires_grad, grid.requires_grad
    wanted = needs if any(needs) else (True, True)
    if backward and input.dtype in _ops.INTEGERS:
        raise NotImplementedError(
            "explain(): expected input to be of a dtype that has gradients, for backward=True, but "
            f"got input with sizes {list(input.shape)} and dtype {input.dtype}"
        )
    options = _options.options_of(input, mode, padding_mode, align_corners, keywords, "explain")
    copies: dict[str, int] = {}
    if input.dtype not in _ops.DTYPES:
        input, copies = _pixels.image_for_kernels(_without_data(input), grid, mode, keywords)
    if backward and not (wanted[1] and mode != "nearest"):
        input = without_data(input)  # what the backward pass is given
    plan = plan_of(
        "backward" if backward else "forward",
        input,
        grid,
        options,
        wanted=wanted,
    )
    for name, count in copies.items():
        plan["scratch_bytes"][name] = plan["scratch_bytes"].get(name, 0) + count
    return Explanation(**plan)


def plan_of(
    op: str,
    input: Tensor,
    grid: Tensor,
    options: Sequence[Any],
    *,
    tangents: tuple[Tensor | None, Tensor | None] = (None, None),
    wanted: tuple[bool, bool] = (True, True),
    without: Sequence[str] = (),
) -> _C.Plan:
    """The plan of a direct call of an op, whose arguments are valid.

    ``op``: ``"forward"``, ``"backward"``, ``"jvp"`` or ``"double_backward"``. ``tangents``: the
    directions for ``input`` and ``grid`` of the last two. ``without``: scratch, by name, that there
    is no memory for.
    """
    return _C.explain(
        op,
        _facts(input),
        _facts(grid),
        *options,
        tangent_input=None if tangents[0] is None else _facts(tangents[0]),
        moves_grid=tangents[1] is not None,
        wanted=wanted,
        grid_address=grid.data_ptr() if op == "backward" and _has_data(grid) else 0,
        without=without,
    )


def _has_data(tensor: Tensor) -> bool:
    """Whether a tensor has numbers on the CPU that can be looked at here."""
    return (
        tensor.device.type == "cpu"
        and type(tensor) in (Tensor, torch.nn.Parameter)  # not a fake or another subclass
        and not _compat.in_func_transform()
    )


def _facts(tensor: Tensor) -> tuple[Sequence[int], Sequence[int], str, bool]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    channels_last = _fakes.memory_format(tensor) is not torch.contiguous_format
    return tuple(tensor.shape), tensor.stride(), dtype, channels_last


def _without_data(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _validate(
    input: Tensor,
    grid: Tensor,
    mode: str,
    padding_mode: str | Sequence[str],
    align_corners: bool,
    keywords: Keywords,
) -> None:
    """Raise what ``grid_sample`` raises: it is called on tensors without data.

    Where they cannot be made, it is called on the arguments themselves, which it refuses.
    """
    tensors = input, grid
    if all(isinstance(each, Tensor) and each.layout is torch.strided for each in tensors) and (
        input.device == grid.device
    ):
        input, grid = (_without_data(each) for each in tensors)
    functional.grid_sample(input, grid, mode, padding_mode, align_corners, **keywords._asdict())
