"""Differentiation of the registered ops.

``grid_sample`` has two derivatives, ``grid_sample_backward`` and ``grid_sample_jvp``; theirs are
made of ``grid_sample_double_backward`` and of each other (csrc/schemas.h says what each computes).
What lies beyond is composed of tensor operations (``_composed.py``), which autograd differentiates
to any order. With U, V tangents of input and grid, and J the Jacobian of the output:

=============================  ================================  =================================
op                             reverse: gradients by             forward: along its arguments'
                                                                 tangents
=============================  ================================  =================================
grid_sample(input, grid)       input, grid: backward             jvp along (U, V)
backward(g, input, grid)       g: jvp along the gradients'       backward of g's tangent,
= J^T g                        gradients;                        + double_backward along (U, V)
                               input, grid: double_backward
jvp(input, grid, U, V)         U, V: backward;                   jvp along U's, V's tangents,
= J (U, V)                     input, grid: double_backward      + composed
double_backward(U, V, g, ...)  U, V: double_backward;            double_backward along U's, V's
                               g, input, grid: composed          tangents and of g's, + composed
spline_filter(image)           image: spline_filter, transposed  spline_filter of the tangent
=============================  ================================  =================================

``warp`` has one derivative of its own, ``warp_backward``. Its other derivatives are those of
``grid_sample`` at the composed grid (``_sources.py``), to which the tangents and gradients of
displacement and affine map are carried over.

``double_backward`` is its own derivative along (U, V) because it is linear in them and symmetric:
second derivatives commute.

Each op has an ``autograd.Function``, which the op's autograd key runs at each level of
``torch.func`` as PyTorch's own ops record at each level. So an op may be called directly, traced,
compiled, or transformed. :class:`GridSample` and :class:`Warp` are the Functions of ``grid_sample``
and ``warp`` in an older form, which torch.func cannot transform, which costs an eager call less,
and which does not keep an image whose values no gradient depends on.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload

from gridsample_ext import _batching, _compat, _composed, _fakes, _ops, _sources
from gridsample_ext._ops import Options, put_together, take_apart
from gridsample_ext.saving import without_data

_Gradients = tuple[Tensor | None, ...]
_NO_GRADIENTS: _Gradients = (None,) * len(Options._fields)  # by the options
_Result = TypeVar("_Result")


def _deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()


def below_autograd(op: Callable[..., _Result], *arguments: Any) -> _Result:
    """The op alone: nothing is recorded, and no time is spent on finding that out."""
    try:
        with _compat.below_autograd():
            return op(*arguments)
    except RuntimeError as error:
        _ops.raise_out_of_memory(error)
        raise


bare_grid_sample: Callable[..., Tensor] = _compat.bare(_ops.grid_sample)
bare_warp: Callable[..., Tensor] = _compat.bare(_ops.warp)
_bare_backward: Callable[..., tuple[Tensor, Tensor]] = _compat.bare(_ops.grid_sample_backward)
_bare_warp_backward: Callable[..., tuple[Tensor, ...]] = _compat.bare(_ops.warp_backward)


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
        *later: Any,
    ) -> Tensor:
        """Sample ``input`` at ``grid``; see :func:`gridsample_ext.grid_sample`."""
        needs = ctx.needs_input_grad[:2]
        # The gradient of input does not depend on its values; that of grid is 0 in nearest mode.
        values = input if needs[1] and interpolation_mode != _ops.NEAREST else without_data(input)
        # In the order of F.grid_sample: a checkpoint may run it again in place of this, or this in
        # place of it, if gridsample_ext.patch() has begun or ended meanwhile.
        ctx.save_for_backward(grid, values)
        ctx.options = interpolation_mode, padding_mode, align_corners, needs
        ctx.later = later
        return below_autograd(
            bare_grid_sample, input, grid, interpolation_mode, padding_mode, align_corners, *later
        )

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> _Gradients:
        """Gradients of input and grid: those that are needed, and no others."""
        grid, input = ctx.saved_tensors
        arguments = grad_output, input, grid, *ctx.options, _deterministic(), *ctx.later
        if torch.is_grad_enabled() or _compat.in_dual_level() or _compat.in_func_transform():
            grad_input, grad_grid = _ops.grid_sample_backward(*arguments)
        else:
            grad_input, grad_grid = below_autograd(_bare_backward, *arguments)
        return grad_input, grad_grid, None, None, None, *[None] * len(ctx.later)


class Warp(torch.autograd.Function):
    """``warp`` with gradients."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, displacement: Tensor, affine: Tensor | None, *options: Any
    ) -> Tensor:
        """Sample ``input`` at displaced places; the arguments are those of the op."""
        ctx.options, needs = Options(*options), ctx.needs_input_grad[:3]
        ctx.needs = needs
        depends = any(needs[1:]) and ctx.options.interpolation_mode != _ops.NEAREST
        ctx.save_for_backward(displacement, affine, input if depends else without_data(input))
        return below_autograd(bare_warp, input, displacement, affine, *options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> _Gradients:
        """Gradients of input, displacement and affine map: those that are needed, and no others."""
        displacement, affine, input = ctx.saved_tensors
        ends = put_together(ctx.options, ctx.needs, _deterministic())
        arguments = grad_output, input, displacement, affine, *ends
        if torch.is_grad_enabled() or _compat.in_dual_level() or _compat.in_func_transform():
            gradients = _ops.warp_backward(*arguments)
        else:
            gradients = below_autograd(_bare_warp_backward, *arguments)
        return *gradients, *_NO_GRADIENTS


#: The apply of these, where no transform of torch.func is at work.
record_grid_sample: Callable[..., Tensor] = _compat.bare_apply(GridSample)
record_warp: Callable[..., Tensor] = _compat.bare_apply(Warp)


def _within_function(op: OpOverload[..., Any], *arguments: Any) -> Any:
    """What the forward pass of a Function does: the op, one level of torch.func down."""
    if _compat.in_func_transform():
        with _compat.lower_levels_record():
            return below_autograd(op, *arguments)
    return below_autograd(op, *arguments)


def _tangent_rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Have a Function's jvp compute one level of torch.func down.

    PyTorch calls it with forward mode off, which would stop the levels below as well.
    """

    @functools.wraps(rule)
    def wrapped(*arguments: Any) -> Any:
        if not _compat.in_func_transform():
            return rule(*arguments)
        with _compat.lower_levels_record(), _compat.below_autograd():
            return rule(*arguments)

    return wrapped


def _any(*tensors: Tensor | None) -> bool:
    return any(tensor is not None for tensor in tensors)


def _sum(*terms: Tensor | None) -> Tensor | None:
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.grid_sample, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        input, grid, *options = inputs
        ctx.options = Options(*options)
        ctx.save_for_backward(grid, input)  # as GridSample does
        ctx.save_for_forward(grid, input)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> _Gradients:
        if grad_output is None:
            return None, None, *_NO_GRADIENTS
        grid, input = ctx.saved_tensors
        ends = put_together(ctx.options, ctx.needs_input_grad[:2], _deterministic())
        grad_input, grad_grid = _ops.grid_sample_backward(grad_output, input, grid, *ends)
        return grad_input, grad_grid, *_NO_GRADIENTS

    @staticmethod
    @_tangent_rule
    def jvp(ctx: Any, input_t: Tensor | None, grid_t: Tensor | None, *_: None) -> Tensor | None:
        grid, input = ctx.saved_tensors
        if not (_any(input_t, grid_t) and input.is_floating_point()):
            return None
        tangent: Tensor = _ops.grid_sample_jvp(input, grid, input_t, grid_t, *ctx.options)
        return tangent


def _differentiate_backward(
    gradients: _Gradients,
    grad_output: Tensor,
    input: Tensor,
    grid: Tensor,
    needs: Sequence[bool],
    options: Options,
    deterministic: bool,
) -> _Gradients:
    """The gradients of grid_sample_backward by its tensors, as far as they are needed.

    ``gradients``: those of its results, grad_input and grad_grid, as far as there are any.
    """
    grad_grad_output = grad_input = grad_grid = None
    if not _any(*gradients):
        return None, None, None
    if needs[0]:
        if gradients[1] is None:  # linear in the first
            grad_grad_output = _ops.grid_sample(gradients[0], grid, *options.of_directions)
        else:
            grad_grad_output = _ops.grid_sample_jvp(input, grid, *gradients, *options)
        grad_grad_output = grad_grad_output.to(grad_output.dtype)
    # Only grad_grid depends on input's values, and in nearest mode that does not either.
    depends = gradients[1] is not None and options.interpolation_mode != _ops.NEAREST
    mask = needs[1] and depends, needs[2]
    if any(mask):
        ends = put_together(options, mask, deterministic)
        grad_input, grad_grid = _ops.grid_sample_double_backward(
            *gradients, grad_output, input, grid, *ends
        )
    return grad_grad_output, grad_input, grad_grid


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.grid_sample_backward, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        grad_output, input, grid, *rest = inputs
        ctx.options, ctx.output_mask, ctx.deterministic = take_apart(rest)
        ctx.save_for_backward(grad_output, input, grid)
        ctx.save_for_forward(grad_output, input, grid)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> _Gradients:
        grad_output, input, grid = ctx.saved_tensors
        results = _differentiate_backward(
            gradients,
            grad_output,
            input,
            grid,
            ctx.needs_input_grad,
            ctx.options,
            ctx.deterministic,
        )
        return *results, None, None, *_NO_GRADIENTS

    @staticmethod
    @_tangent_rule
    def jvp(
        ctx: Any, grad_t: Tensor | None, input_t: Tensor | None, grid_t: Tensor | None, *_: None
    ) -> _Gradients:
        grad_output, input, grid = ctx.saved_tensors
        ends = put_together(ctx.options, ctx.output_mask, ctx.deterministic)
        tangents: _Gradients = None, None
        if grad_t is not None:
            tangents = _ops.grid_sample_backward(grad_t, input, grid, *ends)
        if _any(input_t, grid_t):
            curved = _ops.grid_sample_double_backward(
                input_t, grid_t, grad_output, input, grid, *ends
            )
            tangents = tuple(_sum(*pair) for pair in zip(tangents, curved, strict=True))
        return tangents


class _Jvp(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.grid_sample_jvp, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        tensors, ctx.options = inputs[:4], Options(*inputs[4:])
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> _Gradients:
        input, grid, tangent_input, tangent_grid = ctx.saved_tensors
        gradients: list[Tensor | None] = [None] * 4
        if grad_output is not None:
            needs = ctx.needs_input_grad
            if any(needs[:2]):
                ends = put_together(ctx.options, needs[:2], _deterministic())
                gradients[:2] = _ops.grid_sample_double_backward(
                    tangent_input, tangent_grid, grad_output, input, grid, *ends
                )
            if any(needs[2:4]):
                ends = put_together(ctx.options, needs[2:4], _deterministic())
                gradients[2:] = _ops.grid_sample_backward(grad_output, input, grid, *ends)
        return *gradients, *_NO_GRADIENTS

    @staticmethod
    @_tangent_rule
    def jvp(
        ctx: Any,
        input_t: Tensor | None,
        grid_t: Tensor | None,
        tangent_input_t: Tensor | None,
        tangent_grid_t: Tensor | None,
        *_: None,
    ) -> Tensor | None:
        input, grid, tangent_input, tangent_grid = ctx.saved_tensors
        moved = curved = None
        if _any(tangent_input_t, tangent_grid_t):
            moved = _ops.grid_sample_jvp(input, grid, tangent_input_t, tangent_grid_t, *ctx.options)
        if _any(input_t, grid_t):
            # Linear in grad_output, whose value therefore does not matter.
            anything = input.new_zeros(_fakes.output_shape(input, grid, ctx.options))
            curved = _composed.triple_backward(
                (tangent_input, tangent_grid),
                (input_t, grid_t),
                anything,
                input,
                grid,
                ctx.options,
                output_mask=(True, False, False),
            )[0]
        return _sum(moved, curved)


class _DoubleBackward(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.grid_sample_double_backward, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        tensors, rest = inputs[:5], inputs[5:]
        ctx.options, ctx.output_mask, ctx.deterministic = take_apart(rest)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> _Gradients:
        U, V, grad_output, input, grid = ctx.saved_tensors
        results: list[Tensor | None] = [None] * 5
        if _any(*gradients):
            needs = ctx.needs_input_grad
            if any(needs[:2]):
                ends = put_together(ctx.options, needs[:2], ctx.deterministic)
                results[:2] = _ops.grid_sample_double_backward(
                    *gradients, grad_output, input, grid, *ends
                )
            if any(needs[2:5]):
                results[2:] = _composed.triple_backward(
                    (U, V),
                    (gradients[0], gradients[1]),
                    grad_output,
                    input,
                    grid,
                    ctx.options,
                    output_mask=needs[2:5],
                )
        return *results, None, None, *_NO_GRADIENTS

    @staticmethod
    @_tangent_rule
    def jvp(
        ctx: Any,
        grad_grad_input_t: Tensor | None,
        grad_grad_grid_t: Tensor | None,
        grad_t: Tensor | None,
        input_t: Tensor | None,
        grid_t: Tensor | None,
        *_: None,
    ) -> _Gradients:
        U, V, grad_output, input, grid = ctx.saved_tensors
        ends = put_together(ctx.options, ctx.output_mask, ctx.deterministic)
        terms: list[_Gradients] = []
        if _any(grad_grad_input_t, grad_grad_grid_t):
            terms.append(
                _ops.grid_sample_double_backward(
                    grad_grad_input_t, grad_grad_grid_t, grad_output, input, grid, *ends
                )
            )
        if grad_t is not None:
            terms.append(_ops.grid_sample_double_backward(U, V, grad_t, input, grid, *ends))
        if _any(input_t, grid_t):
            curved = _composed.triple_backward(
                (U, V),
                (input_t, grid_t),
                grad_output,
                input,
                grid,
                ctx.options,
                output_mask=(False, *ctx.output_mask),
            )
            terms.append(curved[1:])
        if not terms:
            return None, None
        return tuple(_sum(*parts) for parts in zip(*terms, strict=True))


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.warp, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        input, displacement, affine, *options = inputs
        ctx.options = Options(*options)
        ctx.save_for_backward(displacement, affine, input)
        ctx.save_for_forward(displacement, affine, input)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> _Gradients:
        if grad_output is None:
            return None, None, None, *_NO_GRADIENTS
        displacement, affine, input = ctx.saved_tensors
        ends = put_together(ctx.options, ctx.needs_input_grad[:3], _deterministic())
        gradients = _ops.warp_backward(grad_output, input, displacement, affine, *ends)
        return *gradients, *_NO_GRADIENTS

    @staticmethod
    @_tangent_rule
    def jvp(
        ctx: Any,
        input_t: Tensor | None,
        displacement_t: Tensor | None,
        affine_t: Tensor | None,
        *_: None,
    ) -> Tensor | None:
        displacement, affine, input = ctx.saved_tensors
        if not (_any(input_t, displacement_t, affine_t) and input.is_floating_point()):
            return None
        at = _WarpGrid(input, displacement, affine, ctx.options)
        direction = at.direction(displacement_t, affine_t)
        tangent: Tensor = _ops.grid_sample_jvp(input, at.grid, input_t, direction, *ctx.options)
        return tangent


class _WarpBackward(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.warp_backward, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        tensors, rest = inputs[:4], inputs[4:]
        ctx.options, ctx.output_mask, ctx.deterministic = take_apart(rest)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> _Gradients:
        if not _any(*gradients):
            return *[None] * 6, *_NO_GRADIENTS
        grad_output, input, displacement, affine = ctx.saved_tensors
        at = _WarpGrid(input, displacement, affine, ctx.options)
        needs = ctx.needs_input_grad
        grad_grad_output, grad_input, grad_grid = _differentiate_backward(
            (gradients[0], at.direction(*gradients[1:])),
            grad_output,
            input,
            at.grid,
            (*needs[:2], needs[2] or needs[3]),
            ctx.options,
            ctx.deterministic,
        )
        of_source = at.gradients(grad_grid, needs[2], needs[3])
        return grad_grad_output, grad_input, *of_source, None, None, *_NO_GRADIENTS

    @staticmethod
    @_tangent_rule
    def jvp(
        ctx: Any,
        grad_t: Tensor | None,
        input_t: Tensor | None,
        displacement_t: Tensor | None,
        affine_t: Tensor | None,
        *_: None,
    ) -> _Gradients:
        grad_output, input, displacement, affine = ctx.saved_tensors
        mask = ctx.output_mask
        tangents: _Gradients = None, None, None
        if grad_t is not None:
            ends = put_together(ctx.options, mask, ctx.deterministic)
            tangents = _ops.warp_backward(grad_t, input, displacement, affine, *ends)
        if _any(input_t, displacement_t, affine_t):
            at = _WarpGrid(input, displacement, affine, ctx.options)
            direction = at.direction(displacement_t, affine_t)
            ends = put_together(ctx.options, (mask[0], mask[1] or mask[2]), ctx.deterministic)
            grad_input, grad_grid = _ops.grid_sample_double_backward(
                input_t, direction, grad_output, input, at.grid, *ends
            )
            curved = grad_input, *at.gradients(grad_grid, mask[1], mask[2])
            tangents = tuple(_sum(*pair) for pair in zip(tangents, curved, strict=True))
        return tangents


class _WarpGrid:
    """The grid that a warp stands for, composed, and what its derivatives are carried over by."""

    def __init__(
        self, input: Tensor, displacement: Tensor, affine: Tensor | None, options: Options
    ) -> None:
        self._displacement, self._affine = displacement, affine
        self._of = input.shape[2:], options
        self.grid = _sources.compose(input.dtype, displacement, affine, *self._of)

    def direction(self, displacement_t: Tensor | None, affine_t: Tensor | None) -> Tensor | None:
        """The direction in which tangents of displacement and affine map move it."""
        return _sources.direction(self.grid, displacement_t, affine_t, *self._of)

    def gradients(
        self, grad_grid: Tensor | None, wants_displacement: bool, wants_affine: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Those of displacement and affine map."""
        return _sources.gradients(
            grad_grid,
            self._displacement if wants_displacement else None,
            self._affine if wants_affine else None,
            *self._of,
        )


class _SplineFilter(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _within_function(_ops.spline_filter, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, *ctx.options, ctx.transposed = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> _Gradients:
        if gradient is not None:
            gradient = _ops.spline_filter(gradient, *ctx.options, not ctx.transposed)
        return gradient, None, None, None

    @staticmethod
    @_tangent_rule
    def jvp(ctx: Any, image_t: Tensor | None, *_: None) -> Tensor | None:
        if image_t is not None:
            image_t = _ops.spline_filter(image_t, *ctx.options, ctx.transposed)
        return image_t


def _autograd_kernel(
    op: OpOverload[..., Any], function: type[torch.autograd.Function]
) -> Callable[..., Any]:
    """What the op does at the dispatcher's autograd key."""
    names = [parameter.name for parameter in op._schema.arguments]
    defaults = tuple(parameter.default_value for parameter in op._schema.arguments)

    def kernel(*arguments: Any, **named: Any) -> Any:
        in_func = _compat.in_func_transform()
        if not (
            in_func
            or (torch.is_grad_enabled() and _requires_grad(arguments))
            or _compat.in_dual_level()
        ):
            return below_autograd(functools.partial(op, **named) if named else op, *arguments)
        # The dispatcher leaves out what has its default, and names what follows.
        given = len(arguments)
        rest = zip(names[given:], defaults[given:], strict=True)
        arguments += tuple(named.get(name, default) for name, default in rest)
        if in_func:
            return _compat.apply_at_this_level(function, *arguments)
        return function.apply(*arguments)

    return kernel


def _requires_grad(arguments: Sequence[Any]) -> bool:
    return any(isinstance(value, Tensor) and value.requires_grad for value in arguments)


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
    (_ops.warp, _Warp, _batching.warp, (_ops.warp,)),
    (_ops.warp_backward, _WarpBackward, _batching.warp_backward, (_ops.warp_backward,)),
    (_ops.spline_filter, _SplineFilter, _batching.spline_filter, (_ops.spline_filter,)),
):
    _name = _op._schema.name
    _library.impl(
        _name.removeprefix("gridsample_ext::"), _autograd_kernel(_op, _function), "Autograd"
    )
    torch.library.register_vmap(_name, functools.partial(_rule, *_parts), lib=_library)
# Without gradients, and with the rule of grid_sample: its results are as many.
torch.library.register_vmap(
    _ops.sample_labels._schema.name,
    functools.partial(_batching.sample, _ops.sample_labels),
    lib=_library,
)
