"""Out variants of the ops: ``torch.ops.gridsample_ext.grid_sample.out`` and the like.

Each computes what its op does and copies it into tensors that it is given, for exporters that plan
memory (ExecuTorch). Importing this module registers them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from gridsample_ext import _ops


def _out_variant(op: OpOverload[..., Any]) -> tuple[str, Callable[..., Any]]:
    """The schema and the kernel of an op that writes to tensors that it is given."""
    count = len(op._schema.returns)
    names = ["out"] if count == 1 else [f"out{i}" for i in range(count)]
    outs = [f"Tensor({letter}!)" for letter in "abc"[:count]]
    written = ", ".join(f"{kind} {name}" for kind, name in zip(outs, names, strict=True))
    returned = outs[0] if count == 1 else f"({', '.join(outs)})"
    head, _, _ = str(op._schema).partition(") -> ")
    name, _, parameters = head.removeprefix("gridsample_ext::").partition("(")

    def kernel(*arguments: Any, **named: Any) -> Any:
        given = [named.pop(name) for name in names]
        tensors = [value for value in (*arguments, *given) if isinstance(value, Tensor)]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            raise RuntimeError(
                f"gridsample_ext: {name}.out(): functions with out=... arguments don't support "
                "automatic differentiation, but one of the arguments requires grad"
            )
        results = op(*arguments, **named)
        for out, result in zip(given, (results,) if count == 1 else results, strict=True):
            if result is not None:
                if not torch.can_cast(result.dtype, out.dtype):
                    raise RuntimeError(
                        f"gridsample_ext: {name}.out(): expected out to have a dtype that "
                        f"{result.dtype} can be cast to, but got out with sizes {list(out.shape)} "
                        f"and dtype {out.dtype}"
                    )
                if out.shape != result.shape:
                    out.resize_(result.shape)
                out.copy_(result)
        return given[0] if count == 1 else tuple(given)

    return f"{name}.out({parameters}, *, {written}) -> {returned}", kernel


_library = torch.library.Library("gridsample_ext", "FRAGMENT")
for _op in _ops.OPS:
    _schema, _kernel = _out_variant(_op)
    _library.define(_schema)
    _library.impl(_schema.partition("(")[0], _kernel, "CompositeExplicitAutograd")
