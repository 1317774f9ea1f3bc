"""How the ops work on distributed tensors (``torch.distributed.tensor.DTensor``).

:func:`gridsample_ext.grid_sample` takes DTensors as it takes tensors, backward included. Along each
dimension of the device mesh it computes where the data is if they are placed in one of these ways,
and exchanges nothing:

===========  ===================  ==================  =============  ==========================
split        input                grid                output         gradients
===========  ===================  ==================  =============  ==========================
batch        Shard(0)             Shard(0)            Shard(0)       Shard(0)
..., one     Replicate, batch 1   Shard(0)            Shard(0)       of input Partial
..., other   Shard(0)             Replicate, batch 1  Shard(0)       of grid Partial
channels     Shard(1)             Replicate           Shard(1)       Shard(1); of grid Partial
samples      Replicate            Shard(1 + axis)     Shard(2 + ..)  of input Partial; Shard(1 + ..)
linearity    Partial              Replicate           Partial        as of a replicated input
nothing      Replicate            Replicate           Replicate      Replicate
===========  ===================  ==================  =============  ==========================

Everything else is redistributed to the cheapest of them first: a sample may lie anywhere in an
image, so an ``input`` split along its own axes has to be exchanged.

DistributedDataParallel and FSDP compute on plain tensors and need nothing of this.
"""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class _Sharding:
    """What the arguments and results of an op stand for.

    ``"input"``: sizes as of input, (N, C, ...); ``"grid"``: as of grid, (N, ...out, dims);
    ``"output"``: as of output, (N, C, ...out).
    """

    arguments: dict[str, str]  # the tensors among them
    results: tuple[str, ...]
    linear_in: tuple[tuple[str, ...], ...]  # arguments in which the op is linear, together


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


def prepare_for(*kinds: type) -> None:
    """Register the rules if one of the classes of a call's tensors needs them."""
    if any(map(is_dtensor_type, kinds)):
        register_sharding_rules()


# torch.compile calls it and does not trace it, as torch.compiler.assume_constant_result would.
prepare_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _acceptable(
    op: torch._ops.OpOverload, sharding: _Sharding, *values: Any
) -> Sequence[tuple[list[Any], list[Any]]]:
    """The placements of (results, arguments) along one dimension of the mesh, as DTensor asks."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    given: dict[str, Any] = {
        argument.name: value
        for argument, value in zip(op._schema.arguments, values, strict=False)
        if argument.name in sharding.arguments and value is not None
    }
    batch = {role: given[role].shape[0] for role in ("input", "grid")}
    replicate = dict.fromkeys(("input", "grid", "output"), Replicate())

    # By role, the placements of arguments; of results they are the same, except that a sum over
    # what is split leaves partial sums where arguments are replicated.
    splits = [
        {
            "input": Replicate() if batch["input"] < batch["grid"] else Shard(0),
            "grid": Replicate() if batch["grid"] < batch["input"] else Shard(0),
            "output": Shard(0),
        },
        {"input": Shard(1), "grid": Replicate(), "output": Shard(1)},
        *(
            {"input": Replicate(), "grid": Shard(1 + axis), "output": Shard(2 + axis)}
            for axis in range(given["input"].ndim - 2)
        ),
    ]

    def placements(
        arguments: dict[str, Any], results: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        return list(results), [arguments.get(argument.name) for argument in op._schema.arguments]

    acceptable = [
        placements(
            {name: replicate[sharding.arguments[name]] for name in given},
            [replicate[role] for role in sharding.results],
        )
    ]
    for split in splits:
        acceptable.append(
            placements(
                {name: split[sharding.arguments[name]] for name in given},
                [
                    Partial() if split[role] == Replicate() else split[role]
                    for role in sharding.results
                ],
            )
        )
    for names in sharding.linear_in:
        if all(name in given for name in names):
            acceptable.append(
                placements(
                    {name: Partial() if name in names else Replicate() for name in given},
                    [Partial() for _ in sharding.results],
                )
            )
    return acceptable
