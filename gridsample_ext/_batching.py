"""How the ops treat one more batch dimension (``torch.vmap``): fold it into one they have.

An image has no dimension in common with a grid but N, which both have. So B images sampled at one
grid are an image of B * C channels; one image sampled at B grids is sampled at one grid of B times
the samples; and B images sampled at a grid each are a batch of B * N. Nothing is repeated but what
is small or has to be: a batched tensor of the same kind as an unbatched one; and, of a warp, whose
samples depend on their places, an unbatched image of N > 1.

A rule gets the ops it is made of, then what ``torch.library.register_vmap`` says: the batch size
in ``info`` and for each argument the dimension of its batch or None. All results come with the
batch in front.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gridsample_ext._ops import Options, put_together, take_apart

_Dim = int | None
_Op = Callable[..., Any]
_Result = tuple[Any, Any]


def _unflatten(tensor: Tensor, dim: int, sizes: tuple[int, int]) -> Tensor:
    return tensor.unflatten(dim, sizes)  # type: ignore[no-any-return]


class _Fold:
    """Folds B calls into one, and their results out of it.

    ``image`` and ``grid`` are shapes without the batch, ``images`` and ``grids`` say which of them
    are batched.
    """

    def __init__(
        self, B: int, image: torch.Size, grid: torch.Size, *, images: bool, grids: bool
    ) -> None:
        self.B = B
        self.N_image, self.C = image[:2]
        self.N_grid, self.first = grid[:2]
        # Folded, N of the one and N of the other may seem to fit. They are checked before.
        if self.N_image != self.N_grid and 1 not in (self.N_image, self.N_grid):
            raise RuntimeError(
                "gridsample_ext: expected input and grid to have the same batch size, or one of "
                f"them a batch of 1, but got input with sizes {list(image)} and grid with sizes "
                f"{list(grid)}, within vmap over {B}"
            )
        if not grids:
            self.kind = "channels"
        elif not images:
            self.kind = "samples"
        elif self.N_image == self.N_grid:
            self.kind = "batch"
        else:
            # The side with N > 1 folds N away, so that the other need not be repeated N times.
            self.kind = "batch, samples" if self.N_image == 1 else "batch, channels"

    def image(self, image: Tensor) -> Tensor:
        """(B, N, C, ...), or (N, C, ...) where images are not batched."""
        if self.kind == "channels":
            return image.movedim(0, 1).flatten(1, 2)
        if self.kind == "samples":
            return image
        return image.flatten(1, 2) if self.kind == "batch, channels" else image.flatten(0, 1)

    def grid(self, grid: Tensor) -> Tensor:
        """(B, N, H, W, 2), or (N, H, W, 2) where grids are not batched."""
        if self.kind == "channels":
            return grid
        if self.kind == "samples":
            return grid.movedim(0, 1).flatten(1, 2)
        return grid.flatten(1, 2) if self.kind == "batch, samples" else grid.flatten(0, 1)

    def output(self, output: Tensor) -> Tensor:
        """(B, N, C, H, W)."""
        if self.kind == "channels":
            return output.movedim(0, 1).flatten(1, 2)
        if self.kind == "samples":
            return output.movedim(0, 2).flatten(2, 3)
        if self.kind == "batch":
            return output.flatten(0, 1)
        if self.kind == "batch, channels":
            return output.flatten(1, 2)
        return output.movedim(1, 2).flatten(2, 3)

    def images_of(self, image: Tensor) -> Tensor:
        """What ``image`` made, back."""
        if self.kind == "channels":
            return _unflatten(image, 1, (self.B, self.C)).movedim(1, 0)
        if self.kind == "batch, channels":
            return _unflatten(image, 1, (self.N_image, self.C))
        return _unflatten(image, 0, (self.B, self.N_image))

    def grids_of(self, grid: Tensor) -> Tensor:
        """What ``grid`` made, back."""
        if self.kind == "samples":
            return _unflatten(grid, 1, (self.B, self.first)).movedim(1, 0)
        if self.kind == "batch, samples":
            return _unflatten(grid, 1, (self.N_grid, self.first))
        return _unflatten(grid, 0, (self.B, self.N_grid))

    def outputs_of(self, output: Tensor) -> Tensor:
        """What ``output`` made, back."""
        if self.kind == "channels":
            return _unflatten(output, 1, (self.B, self.C)).movedim(1, 0)
        if self.kind == "samples":
            return _unflatten(output, 2, (self.B, self.first)).movedim(2, 0)
        if self.kind == "batch":
            return _unflatten(output, 0, (self.B, self.N_image))
        if self.kind == "batch, channels":
            return _unflatten(output, 1, (self.N_image, self.C))
        return _unflatten(output, 2, (self.N_grid, self.first)).movedim(2, 1)


def _in_front(tensor: Tensor, dim: _Dim, B: int) -> Tensor:
    """With the batch in front, repeated where there is none."""
    if dim is None:
        return tensor.expand(B, *tensor.shape)
    return tensor.movedim(dim, 0)


def _shape(tensor: Tensor, dim: _Dim) -> torch.Size:
    """Without the batch."""
    if dim is None:
        return tensor.shape
    dim %= tensor.dim()
    return tensor.shape[:dim] + tensor.shape[dim + 1 :]


def _blank(like: Tensor, shape: torch.Size) -> Tensor:
    """In place of an image of which only the sizes matter: no memory."""
    return like.new_zeros(()).expand(shape)


def _check_companions(**companions: tuple[Tensor | None, _Dim, Tensor, _Dim]) -> None:
    """As csrc/checks.h, which sees them one by one: name -> (it, its batch, of whom, its batch)."""
    names = " or ".join(companions)
    if all(companion is None for companion, *_ in companions.values()):
        raise RuntimeError(f"gridsample_ext: expected {names} to be a tensor, but both are None")
    for name, (companion, dim, of, of_dim) in companions.items():
        if companion is not None and _shape(companion, dim) != _shape(of, of_dim):
            of_name = "input" if name.endswith("input") else "grid"
            raise RuntimeError(
                f"gridsample_ext: expected {name} to have the sizes of {of_name}, but got {name} "
                f"with sizes {list(_shape(companion, dim))} and {of_name} with sizes "
                f"{list(_shape(of, of_dim))}"
            )


def sample(
    sample_op: _Op, info: Any, in_dims: Any, input: Tensor, grid: Tensor, *options: Any
) -> _Result:
    """The rule of grid_sample."""
    B = info.batch_size
    input_dim, grid_dim = in_dims[:2]
    fold = _Fold(
        B,
        _shape(input, input_dim),
        _shape(grid, grid_dim),
        images=input_dim is not None,
        grids=grid_dim is not None,
    )
    if input_dim is not None:
        input = _in_front(input, input_dim, B)
    if grid_dim is not None:
        grid = _in_front(grid, grid_dim, B)
    output = sample_op(fold.image(input), fold.grid(grid), *options)
    return fold.outputs_of(output), 0


def spline_filter(op: _Op, info: Any, in_dims: Any, image: Tensor, *options: Any) -> _Result:
    """The rule of spline_filter, which takes images one by one."""
    B = info.batch_size
    image = _in_front(image, in_dims[0], B)
    coefficients = op(image.flatten(0, 1), *options)
    return _unflatten(coefficients, 0, (B, image.shape[1])), 0


def _batched_grad_input(
    B: int,
    call: Callable[[Tensor, Tensor, list[Tensor]], Tensor],
    grad_output: tuple[Tensor, _Dim],
    input: tuple[Tensor, _Dim],
    grids: list[tuple[Tensor, _Dim]],
) -> Tensor:
    """grad_input by ``call(grad_output, input, grids)``, of whose input only the sizes matter."""
    image = _shape(*input)
    any_grid = any(dim is not None for _, dim in grids)
    fold = _Fold(B, image, _shape(*grids[0]), images=True, grids=any_grid)
    folded = [fold.grid(_in_front(*grid, B)) if any_grid else grid[0] for grid in grids]
    blank = _blank(input[0], fold.image(_blank(input[0], torch.Size((B, *image)))).shape)
    return fold.images_of(call(fold.output(_in_front(*grad_output, B)), blank, folded))


def _batched_grad_grid(
    B: int,
    call: Callable[[Tensor, Tensor, list[Tensor]], Tensor],
    grad_output: tuple[Tensor, _Dim],
    input: tuple[Tensor, _Dim],
    grids: list[tuple[Tensor, _Dim]],
) -> Tensor:
    """grad_grid by ``call(grad_output, input, grids)``; grids are repeated where need be."""
    images = input[1] is not None
    fold = _Fold(B, _shape(*input), _shape(*grids[0]), images=images, grids=True)
    image = fold.image(_in_front(*input, B) if images else input[0])
    folded = [fold.grid(_in_front(*grid, B)) for grid in grids]
    return fold.grids_of(call(fold.output(_in_front(*grad_output, B)), image, folded))


def backward(backward_op: _Op, info: Any, in_dims: Any, *arguments: Any) -> _Result:
    """The rule of grid_sample_backward."""
    options, output_mask, deterministic = take_apart(arguments[3:])
    grad_output, input, grid = zip(arguments[:3], in_dims[:3], strict=True)

    def call(index: int) -> Callable[[Tensor, Tensor, list[Tensor]], Tensor]:
        ends = put_together(options, [index == 0, index == 1], deterministic)
        return lambda grad_output, input, grids: backward_op(grad_output, input, *grids, *ends)[
            index
        ]

    B = info.batch_size
    grad_input = grad_grid = None
    if output_mask[0]:
        grad_input = _batched_grad_input(B, call(0), grad_output, input, [grid])
    if output_mask[1]:
        grad_grid = _batched_grad_grid(B, call(1), grad_output, input, [grid])
    return _with_dims(grad_input, grad_grid)


def _with_dims(*results: Tensor | None) -> _Result:
    return results, tuple(None if result is None else 0 for result in results)


def jvp(sample_op: _Op, jvp_op: _Op, info: Any, in_dims: Any, *arguments: Any) -> _Result:
    """The rule of grid_sample_jvp: the parts of both tangents, each folded its own way."""
    input, grid, tangent_input, tangent_grid, *options = arguments
    input_dim, grid_dim, tangent_input_dim, tangent_grid_dim = in_dims[:4]
    B = info.batch_size
    _check_companions(
        tangent_input=(tangent_input, tangent_input_dim, input, input_dim),
        tangent_grid=(tangent_grid, tangent_grid_dim, grid, grid_dim),
    )
    result = None
    if tangent_input is not None:
        # The output is linear in input.
        dims = tangent_input_dim, grid_dim
        of_tangent = Options(*options).of_directions
        if dims == (None, None):
            output = sample_op(tangent_input, grid, *of_tangent)
            result = output.expand(B, *output.shape).clone()  # may be written to
        else:
            result, _ = sample(sample_op, info, dims, tangent_input, grid, *of_tangent)
        result = result.to(input.dtype)
    if tangent_grid is not None:
        grids = [(grid, grid_dim), (tangent_grid, tangent_grid_dim)]
        images, any_grid = input_dim is not None, (grid_dim, tangent_grid_dim) != (None, None)
        fold = _Fold(B, _shape(input, input_dim), _shape(*grids[0]), images=images, grids=any_grid)
        folded = [fold.grid(_in_front(*each, B)) if any_grid else each[0] for each in grids]
        if images or any_grid:
            image = fold.image(_in_front(input, input_dim, B) if images else input)
            moved = fold.outputs_of(jvp_op(image, folded[0], None, folded[1], *options))
        else:
            moved = jvp_op(input, grid, None, tangent_grid, *options)
        result = moved if result is None else result + moved
    return result, 0


def double_backward(
    backward_op: _Op, double_backward_op: _Op, info: Any, in_dims: Any, *arguments: Any
) -> _Result:
    """The rule of grid_sample_double_backward, whose parts are linear in the tangents."""
    options, output_mask, deterministic = take_apart(arguments[5:])
    tangent_input, tangent_grid, grad_output, input, grid = zip(
        arguments[:5], in_dims[:5], strict=True
    )
    B = info.batch_size
    _check_companions(
        grad_grad_input=(*tangent_input, *input), grad_grad_grid=(*tangent_grid, *grid)
    )

    def along_grid(index: int) -> Callable[[Tensor, Tensor, list[Tensor]], Tensor]:
        ends = put_together(options, [index == 0, index == 1], deterministic)
        return lambda grad_output, input, grids: double_backward_op(
            None, grids[1], grad_output, input, grids[0], *ends
        )[index]

    def by_grid(grad_output: Tensor, image: Tensor, grids: list[Tensor]) -> Tensor:
        ends = put_together(options.of_directions, [False, True], deterministic)
        grad_grid: Tensor = backward_op(grad_output, image, *grids, *ends)[1]
        return grad_grid

    grad_input = grad_grid = None
    if output_mask[0]:
        if tangent_grid[0] is None:
            grad_input = input[0].new_zeros((B, *_shape(*input)))
        else:
            grad_input = _batched_grad_input(
                B, along_grid(0), grad_output, input, [grid, tangent_grid]
            )
    if output_mask[1]:
        if tangent_input[0] is not None:
            grad_grid = _batched_grad_grid(B, by_grid, grad_output, tangent_input, [grid])
        if tangent_grid[0] is not None:
            moved = _batched_grad_grid(B, along_grid(1), grad_output, input, [grid, tangent_grid])
            grad_grid = moved if grad_grid is None else grad_grid + moved
    return _with_dims(grad_input, grad_grid)


def _one_batch(
    B: int, tensors: list[tuple[Tensor | None, _Dim]], *, shares: bool
) -> tuple[int, list[Tensor | None]]:
    """Tensors of a warp, N or 1 in front of each, with B and N folded into one dimension.

    ``shares``: a tensor with neither stays as it is; others are repeated. Returns N, too.
    """
    counts = {_shape(tensor, dim)[0] for tensor, dim in tensors if tensor is not None} - {1}
    if len(counts) > 1:
        sizes = ", ".join(
            str(list(_shape(tensor, dim))) for tensor, dim in tensors if tensor is not None
        )
        raise RuntimeError(
            "gridsample_ext: expected the tensors of a warp to have the same batch size, or a "
            f"batch of 1, but got sizes {sizes}, within vmap over {B}"
        )
    N = counts.pop() if counts else 1

    def folded(tensor: Tensor | None, dim: _Dim) -> Tensor | None:
        if tensor is None or (shares and dim is None and tensor.shape[0] == 1):
            return tensor
        in_front = _in_front(tensor, dim, B)
        return in_front.expand(B, N, *in_front.shape[2:]).flatten(0, 1)

    return N, [folded(tensor, dim) for tensor, dim in tensors]


def warp(warp_op: _Op, info: Any, in_dims: Any, *arguments: Any) -> _Result:
    """The rule of warp."""
    tensors = list(zip(arguments[:3], in_dims[:3], strict=True))
    N, (input, displacement, affine) = _one_batch(info.batch_size, tensors, shares=True)
    assert displacement is not None
    if affine is not None and displacement.shape[0] == 1:
        displacement = displacement.expand(affine.shape[0], *displacement.shape[1:])
    output = warp_op(input, displacement, affine, *arguments[3:])
    return _unflatten(output, 0, (info.batch_size, N)), 0


def warp_backward(backward_op: _Op, info: Any, in_dims: Any, *arguments: Any) -> _Result:
    """The rule of warp_backward."""
    tensors = list(zip(arguments[:4], in_dims[:4], strict=True))
    N, folded = _one_batch(info.batch_size, tensors, shares=False)

    def result_of(gradient: Tensor | None, of: tuple[Tensor, _Dim]) -> Tensor | None:
        if gradient is None:
            return None
        gradient = _unflatten(gradient, 0, (info.batch_size, N))
        return gradient.sum(1, keepdim=True) if _shape(*of)[0] == 1 != N else gradient

    gradients = backward_op(*folded, *arguments[4:])
    results = [result_of(*pair) for pair in zip(gradients, tensors[1:], strict=True)]
    return _with_dims(*results)
