"""How the ops work on distributed tensors (``torch.distributed.tensor.DTensor``).

:func:`gridsample_ext.grid_sample` takes DTensors as it takes tensors, backward included. Along each
dimension of the device mesh it computes where the data is if they are placed in one of these ways,
and exchanges nothing:

===============  ==================  ==================  ===============  =========================
split            input               grid                output           gradients
===============  ==================  ==================  ===============  =========================
batch            Shard(0)            Shard(0)            Shard(0)         Shard(0)
batch, 1 image   Replicate, batch 1  Shard(0)            Shard(0)         of input Partial
batch, 1 grid    Shard(0)            Replicate, batch 1  Shard(0)         of grid Partial
channels         Shard(1)            Replicate           Shard(1)         Shard(1); of grid Partial
samples, axis a  Replicate           Shard(1 + a)        Shard(2 + a)     of input Partial
linearity        Partial             Replicate           Partial          as of a replicated input
nothing          Replicate           Replicate           Replicate        Replicate
===============  ==================  ==================  ===============  =========================

A gradient that the last column does not name is placed as its tensor is.

``spline_filter`` takes an image that is split along its batch or its channels, or Partial.

Everything else is redistributed to the cheapest of them first: a sample may lie anywhere in an
image, so an ``input`` split along its own axes has to be exchanged.

PyTorch before 2.13 takes the mesh from an op's first argument, so a second backward pass in which
none of the gradients came by way of ``input`` is an error there.

A warp is split by batch or by channels, as with a grid of its displacement's sizes, but not by
samples: where a sample lies depends on its place in the whole output. An affine map of batch 1 is
replicated, and its gradient is Partial.

DistributedDataParallel and FSDP compute on plain tensors and need nothing of this.
"""

import functools
import sys
from dataclasses import dataclass
from typing import Any

import torch

from gridsample_ext._compat import constant_under_compile


@dataclass(frozen=True)
class _Sharding:
    """What the arguments and results of an op stand for.

    ``"input"``: sizes as of input, (N, C, ...); ``"grid"``: as of grid, (N, ...out, dims);
    ``"output"``: as of output, (N, C, ...out); ``"affine"``: (N, dims, dims + 1); ``"image"``:
    (N, C, ...), filtered by itself.
    """

    arguments: dict[str, str]  # the tensors among them
    results: tuple[str, ...]
    # Arguments in which the op is linear, together.
    linear_in: tuple[tuple[str, ...], ...] = ()
    splits_samples: bool = True


_SHARDINGS = {
    "grid_sample": _Sharding({"input": "input", "grid": "grid"}, ("output",), (("input",),)),
    "grid_sample_backward": _Sharding(
        {"grad_output": "output", "input": "input", "grid": "grid"},
        ("input", "grid"),
        (("grad_output",),),
    ),
    "grid_sample_jvp": _Sharding(
        {"input": "input", "grid": "grid", "tangent_input": "input", "tangent_grid": "grid"},
        ("output",),
        (("tangent_input", "tangent_grid"), ("input", "tangent_input")),
    ),
    "grid_sample_double_backward": _Sharding(
        {
            "grad_grad_input": "input",
            "grad_grad_grid": "grid",
            "grad_output": "output",
            "input": "input",
            "grid": "grid",
        },
        ("input", "grid"),
        (("grad_output",), ("grad_grad_input", "grad_grad_grid")),
    ),
    "sample_labels": _Sharding({"labels": "input", "grid": "grid"}, ("output",)),
    # A sample's coordinates depend on where it is in the whole output.
    "warp": _Sharding(
        {"input": "input", "displacement": "grid", "affine": "affine"},
        ("output",),
        (("input",),),
        splits_samples=False,
    ),
    "warp_backward": _Sharding(
        {
            "grad_output": "output",
            "input": "input",
            "displacement": "grid",
            "affine": "affine",
        },
        ("input", "grid", "affine"),
        (("grad_output",),),
        splits_samples=False,
    ),
    "spline_filter": _Sharding({"image": "image"}, ("image",), (("image",),)),
}


@functools.cache
def register_sharding_rules() -> None:
    """Tell DTensor about the ops.

    :func:`gridsample_ext.grid_sample` does this when it meets its first DTensor. Only code that
    calls ``torch.ops.gridsample_ext.*`` with DTensors directly has to call it, once. It is not done
    at import, because it imports ``torch.distributed.tensor``, most of a second's work.

    Example:
        >>> import gridsample_ext.distributed
        >>> gridsample_ext.distributed.register_sharding_rules()

    """
    from torch.distributed.tensor.experimental import register_sharding

    for name, sharding in _SHARDINGS.items():
        op = getattr(torch.ops.gridsample_ext, name).default
        register_sharding(op)(functools.partial(_acceptable, op, sharding))


def is_dtensor_type(kind: type) -> bool:
    """Whether a class is DTensor or derived from it."""
    # Whoever has a DTensor has imported it.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and issubclass(kind, module.DTensor)


@constant_under_compile
def prepare_for(*kinds: type) -> None:
    """Register the rules if one of the classes of a call's tensors needs them."""
    if any(map(is_dtensor_type, kinds)):
        register_sharding_rules()


def _acceptable(
    op: torch._ops.OpOverload, sharding: _Sharding, *values: Any, **named_values: Any
) -> list[tuple[list[Any], list[Any]]]:
    """The placements of (results, arguments) along one dimension of the mesh, as DTensor asks."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    names = [argument.name for argument in op._schema.arguments]
    values_by_name = dict(zip(names, values, strict=False)) | named_values
    roles = {
        name: role
        for name, role in sharding.arguments.items()
        if values_by_name.get(name) is not None
    }
    acceptable: list[tuple[list[Any], list[Any]]] = []

    wanted = values_by_name.get("output_mask") or [True] * len(sharding.results)

    def accept(results: list[Any], arguments: dict[str, Any]) -> None:
        placed = [result if want else None for result, want in zip(results, wanted, strict=True)]
        acceptable.append((placed, [arguments.get(name) for name in names]))

    accept([Replicate() for _ in sharding.results], {name: Replicate() for name in roles})
    if "image" in roles:
        splits: list[dict[str, Any]] = [{"image": Shard(0)}, {"image": Shard(1)}]
    else:
        sizes = {role: values_by_name[name].shape for name, role in roles.items()}
        splits = _splits(sizes, sharding.splits_samples)
    for split in splits:
        # A result of a replicated argument's kind is summed over what is split.
        results = [split[role] for role in sharding.results]
        accept(
            [Partial() if result == Replicate() else result for result in results],
            {name: split[role] for name, role in roles.items()},
        )
    # Values that samples have without regard to input would be added up with the parts of it.
    adds_values = values_by_name.get("fill_value", 0.0) != 0 or (
        values_by_name.get("outside_value") is not None
    )
    for linear in sharding.linear_in:
        if adds_values and "input" in linear:
            continue
        if all(name in roles for name in linear):
            accept(
                [Partial() for _ in sharding.results],
                {name: Partial() if name in linear else Replicate() for name in roles},
            )
    return acceptable


def _splits(sizes: dict[str, Any], splits_samples: bool) -> list[dict[str, Any]]:
    """The ways to split what a call is made of, by what it stands for, of such sizes."""
    from torch.distributed.tensor import Replicate, Shard

    N_input, N_grid = sizes["input"][0], sizes["grid"][0]
    one_grid = N_grid == 1 != N_input
    one_map = one_grid or ("affine" in sizes and sizes["affine"][0] == 1)
    splits: list[dict[str, Any]] = [
        {
            "input": Replicate() if N_input == 1 != N_grid else Shard(0),
            "grid": Replicate() if one_grid else Shard(0),
            "output": Shard(0),
            "affine": Replicate() if one_map else Shard(0),
        },
        {"input": Shard(1), "grid": Replicate(), "output": Shard(1), "affine": Replicate()},
    ]
    if splits_samples:
        splits += [
            {"input": Replicate(), "grid": Shard(1 + axis), "output": Shard(2 + axis)}
            for axis in range(len(sizes["input"]) - 2)
        ]
    return splits
