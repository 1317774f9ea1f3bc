"""Differentiation of the registered ops.

``grid_sample`` has two derivatives, ``grid_sample_backward`` and ``grid_sample_jvp``; theirs are
made of ``grid_sample_double_backward`` and of each other (csrc/schemas.h says what each computes).
With U, V tangents of input and grid, and J the Jacobian of the output:

=============================  ================================  =================================
op                             reverse: gradients by             forward: along its arguments'
                                                                 tangents
=============================  ================================  =================================
sample(input, grid)            input, grid: backward             jvp along (U, V)
backward(g, input, grid)       g: jvp along the gradients'       backward of g's tangent,
= J^T g                        gradients;                        + double_backward along (U, V)
                               input, grid: double_backward
jvp(input, grid, U, V)         U, V: backward;                   none
= J (U, V)                     input, grid: double_backward
double_backward(U, V, g, ...)  none                              none
=============================  ================================  =================================

Each has an ``autograd.Function`` in the form that ``torch.func`` can transform, which is what the
op's autograd key runs: so ops that are called directly are differentiable, too. :class:`GridSample`
is the first of them in the form that costs an eager call a third of that.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad

from gridsample_ext import _batching, _ops
from gridsample_ext.saving import without_data

_NEAREST = 1  # of interpolation_mode
_Gradients = tuple[Tensor | None, ...]


def _deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()


class GridSample(torch.autograd.Function):
    """``grid_sample`` with gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        grid: Tensor,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
    ) -> Tensor:
        """Sample ``input`` at ``grid``; see :func:`gridsample_ext.grid_sample`."""
        # The gradient of input does not depend on its values; that of grid is 0 in nearest mode.
        needs_values = ctx.needs_input_grad[1] and interpolation_mode != _NEAREST
        # In the order of F.grid_sample: a checkpoint may run it again in place of this, or this in
        # place of it, if gridsample_ext.patch() has begun or ended meanwhile.
        ctx.save_for_backward(grid, input if needs_values else without_data(input))
        ctx.options = (interpolation_mode, padding_mode, align_corners)
        return without_autograd(input, grid, interpolation_mode, padding_mode, align_corners)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> _Gradients:
        """Gradients of input and grid: those that are needed, and no others."""
        grid, input = ctx.saved_tensors
        arguments = (
            grad_output,
            input,
            grid,
            *ctx.options,
            ctx.needs_input_grad[:2],
            _deterministic(),
        )
        if torch.is_grad_enabled() or _in_transform():
            grad_input, grad_grid = backward(*arguments)
        else:
            with torch._C._AutoDispatchBelowAutograd():
                grad_input, grad_grid = _ops.grid_sample_backward(*arguments)
        return grad_input, grad_grid, None, None, None


def without_autograd(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """The op alone: nothing is recorded, and no time is spent on finding that out."""
    with torch._C._AutoDispatchBelowAutograd():
        return _ops.grid_sample(  # type: ignore[no-any-return]
            input, grid, interpolation_mode, padding_mode, align_corners
        )


def _below_autograd(op: OpOverload[..., Any], *arguments: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return op(*arguments)


def _any(*tensors: Tensor | None) -> bool:
    return any(tensor is not None for tensor in tensors)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd(_ops.grid_sample, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        input, grid, *options = inputs
        ctx.options = options
        ctx.save_for_backward(grid, input)  # as GridSample does
        ctx.save_for_forward(grid, input)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> _Gradients:
        if grad_output is None:
            return None, None, None, None, None
        grid, input = ctx.saved_tensors
        grad_input, grad_grid = backward(
            grad_output, input, grid, *ctx.options, ctx.needs_input_grad[:2], _deterministic()
        )
        return grad_input, grad_grid, None, None, None

    @staticmethod
    def jvp(ctx: Any, input_t: Tensor | None, grid_t: Tensor | None, *_: None) -> Tensor | None:
        if not _any(input_t, grid_t):
            return None
        grid, input = ctx.saved_tensors
        tangent: Tensor = jvp(input, grid, input_t, grid_t, *ctx.options)
        return tangent

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _batching.sample(sample, info, in_dims, *arguments)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd(_ops.grid_sample_backward, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        grad_output, input, grid, *options, output_mask, deterministic = inputs
        ctx.options, ctx.output_mask, ctx.deterministic = options, output_mask, deterministic
        ctx.save_for_backward(grad_output, input, grid)
        ctx.save_for_forward(grad_output, input, grid)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> _Gradients:
        # Of grad_input and grad_grid, as far as there are any.
        grad_output, input, grid = ctx.saved_tensors
        grad_grad_output = grad_input = grad_grid = None
        if _any(*gradients):
            if ctx.needs_input_grad[0]:
                grad_grad_output = jvp(input, grid, *gradients, *ctx.options)
                grad_grad_output = grad_grad_output.to(grad_output.dtype)
            # Only grad_grid depends on input's values, and in nearest mode that does not either.
            depends = gradients[1] is not None and ctx.options[0] != _NEAREST
            needs = ctx.needs_input_grad[1] and depends, ctx.needs_input_grad[2]
            if any(needs):
                grad_input, grad_grid = double_backward(
                    *gradients, grad_output, input, grid, *ctx.options, needs, ctx.deterministic
                )
        return grad_grad_output, grad_input, grad_grid, None, None, None, None, None

    @staticmethod
    def jvp(
        ctx: Any, grad_t: Tensor | None, input_t: Tensor | None, grid_t: Tensor | None, *_: None
    ) -> tuple[Tensor | None, Tensor | None]:
        grad_output, input, grid = ctx.saved_tensors
        ends = *ctx.options, ctx.output_mask, ctx.deterministic
        tangents: tuple[Tensor | None, Tensor | None] = None, None
        if grad_t is not None:
            tangents = backward(grad_t, input, grid, *ends)
        if _any(input_t, grid_t):
            curved = double_backward(input_t, grid_t, grad_output, input, grid, *ends)
            tangents = _sum(tangents[0], curved[0]), _sum(tangents[1], curved[1])
        return tangents

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _batching.backward(backward, info, in_dims, *arguments)


class _Jvp(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd(_ops.grid_sample_jvp, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, mode, padding_mode, align_corners = inputs
        ctx.options = mode, padding_mode, align_corners
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> _Gradients:
        input, grid, tangent_input, tangent_grid = ctx.saved_tensors
        gradients: list[Tensor | None] = [None] * 4
        if grad_output is not None:
            needs = ctx.needs_input_grad
            if any(needs[:2]):
                gradients[:2] = double_backward(
                    tangent_input,
                    tangent_grid,
                    grad_output,
                    input,
                    grid,
                    *ctx.options,
                    needs[:2],
                    _deterministic(),
                )
            if any(needs[2:4]):
                gradients[2:] = backward(
                    grad_output, input, grid, *ctx.options, needs[2:4], _deterministic()
                )
        return *gradients, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(
            "gridsample_ext: forward mode over forward mode is not implemented for grid_sample; "
            "for second derivatives use forward over reverse mode (torch.func.hessian, or "
            "torch.func.jacfwd of torch.func.jacrev)"
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _batching.jvp(sample, jvp, info, in_dims, *arguments)


def _no_third_derivative() -> None:
    raise NotImplementedError(
        "gridsample_ext: third derivatives of grid_sample are not implemented; its second ones "
        "are. (A backward pass through forward mode is one while the dual level is open.)"
    )


class _DoubleBackward(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd(_ops.grid_sample_double_backward, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        _no_third_derivative()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        _no_third_derivative()

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _batching.double_backward(backward, double_backward, info, in_dims, *arguments)


def _requires_grad(arguments: Sequence[Any]) -> bool:
    return any(isinstance(value, Tensor) and value.requires_grad for value in arguments)


def _in_transform() -> bool:
    """Whether tensors may be those of forward mode or of ``torch.func``."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _apply(
    function: type[torch.autograd.Function], op: OpOverload[..., Any], *arguments: Any
) -> Any:
    """Differentiate an op by its own autograd key, but for ``torch.func``, which comes before."""
    if torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    return op(*arguments)


def sample(*arguments: Any) -> Tensor:
    """``grid_sample`` that can be differentiated and transformed."""
    return _apply(_Sample, _ops.grid_sample, *arguments)  # type: ignore[no-any-return]


def backward(*arguments: Any) -> tuple[Tensor | None, Tensor | None]:
    """``grid_sample_backward``, likewise."""
    return _apply(_Backward, _ops.grid_sample_backward, *arguments)  # type: ignore[no-any-return]


def jvp(*arguments: Any) -> Tensor:
    """``grid_sample_jvp``, likewise."""
    return _apply(_Jvp, _ops.grid_sample_jvp, *arguments)  # type: ignore[no-any-return]


def double_backward(*arguments: Any) -> tuple[Tensor | None, Tensor | None]:
    """``grid_sample_double_backward``, likewise."""
    return _apply(_DoubleBackward, _ops.grid_sample_double_backward, *arguments)  # type: ignore[no-any-return]


def _autograd_kernel(
    op: OpOverload[..., Any], function: type[torch.autograd.Function]
) -> Callable[..., Any]:
    """What the op does at the dispatcher's autograd key.

    ``torch.func`` arrives here in the middle of a transform, with no way for a Function to take
    part in it: ``Function.apply`` has to be called before.
    """
    parameters = len(op._schema.arguments)
    defaults = {"deterministic": False}

    def kernel(*arguments: Any, **named: Any) -> Any:
        if len(arguments) < parameters:  # the dispatcher leaves out what has its default
            arguments = (*arguments, *(defaults | named).values())
        if torch._C._are_functorch_transforms_active():
            raise RuntimeError(
                f"gridsample_ext: torch.func cannot differentiate torch.ops.{op}, called "
                "directly; call gridsample_ext.grid_sample, which it can"
            )
        needs_grad = torch.is_grad_enabled() and _requires_grad(arguments)
        if needs_grad or forward_ad._current_level >= 0:
            return function.apply(*arguments)
        return _below_autograd(op, *arguments)

    return kernel


_library = torch.library.Library("gridsample_ext", "IMPL")
for _op, _function, _rule, _parts in (
    (_ops.grid_sample, _Sample, _batching.sample, (_ops.grid_sample,)),
    (_ops.grid_sample_backward, _Backward, _batching.backward, (_ops.grid_sample_backward,)),
    (_ops.grid_sample_jvp, _Jvp, _batching.jvp, (_ops.grid_sample, _ops.grid_sample_jvp)),
    (
        _ops.grid_sample_double_backward,
        _DoubleBackward,
        _batching.double_backward,
        (_ops.grid_sample_backward, _ops.grid_sample_double_backward),
    ),
):
    _name = _op._schema.name
    _library.impl(
        _name.removeprefix("gridsample_ext::"), _autograd_kernel(_op, _function), "Autograd"
    )
    torch.library.register_vmap(_name, functools.partial(_rule, *_parts), lib=_library)
