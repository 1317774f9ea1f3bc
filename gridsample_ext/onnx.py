"""Export to ONNX: a sampling becomes the standard operator ``GridSample``.

A model that calls :func:`gridsample_ext.grid_sample` needs nothing of this module:
``torch.onnx.export`` understands it under ``dynamo=True`` and under ``dynamo=False``. A program of
``torch.export.export`` holds the op already; :func:`translation_table` tells the exporter what that
is.

``GridSample`` knows less than the function. What it lacks is made of other operators, so that the
exported model computes what the function does: half types are sampled in float32 and rounded once
(``Cast``), input and grid get one type (``Cast``), and a batch of 1 is repeated (``Expand``).
Images need opset 16 and volumes opset 20; below that :class:`torch.onnx.OnnxExporterError` says so.
NaN coordinates, which are read as -1 here, have no defined result in ONNX.
"""

import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gridsample_ext import _fakes, _ops
from gridsample_ext._compat import constant_under_compile, default_onnx_opset, look_up
from gridsample_ext._composed import compute_type
from gridsample_ext._ops import Options

_PADDING_MODES = tuple(_ops.PADDING_MODES)
_MODES_FROM_16 = {number: _ops.name_of(_ops.MODES, number) for number in _ops.TORCH_MODES}
_MODES_FROM_20 = {_ops.BILINEAR: "linear", _ops.NEAREST: "nearest", _ops.BICUBIC: "cubic"}

# A fill value becomes a frame around the image, which border padding continues. Its width is even:
# nearest takes the even one of two pixels that are equally near.
_FRAME = 2

# Numbers of TensorProto.DataType.
_ONNX_TYPES = {torch.float32: 1, torch.float16: 10, torch.float64: 11, torch.bfloat16: 16}


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What ``torch.onnx.export`` has to know to export programs that hold the op itself.

    Those are the programs of ``torch.export.export``, and models that call
    ``torch.ops.gridsample_ext.grid_sample``. Models that call :func:`gridsample_ext.grid_sample` do
    without, and so does the TorchScript exporter (``dynamo=False``).

    Returns:
        A ``custom_translation_table``, a new dictionary that may be added to.

    Example:
        >>> import torch, gridsample_ext
        >>> class Sampler(torch.nn.Module):
        ...     def forward(self, image, grid):
        ...         return gridsample_ext.grid_sample(image, grid, align_corners=False)
        >>> arguments = torch.rand(1, 3, 8, 8), torch.rand(1, 5, 5, 2)
        >>> program = torch.export.export(Sampler(), arguments)
        >>> onnx_program = torch.onnx.export(
        ...     program,
        ...     custom_translation_table=gridsample_ext.onnx.translation_table(),
        ...     verbose=False,
        ... )
        >>> [node.op_type for node in onnx_program.model_proto.graph.node]
        ['GridSample']

    """
    return {_ops.grid_sample: _translate}


@constant_under_compile  # left to itself torch.compile would answer no
def is_exporting() -> bool:
    """Whether ``torch.onnx.export`` is what traces.

    It may trace with torch.compile, where torch.export's other way fails.
    """
    return torch.onnx.is_in_onnx_export()


@constant_under_compile
def _requested_opset() -> int:
    """The ``opset_version`` of the ``torch.onnx.export`` that is running.

    Neither exporter tells it to the code that it traces, nor to a translation, so it is read where
    it was given: among the arguments of that call.
    """
    code = inspect.unwrap(torch.onnx.export).__code__
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code is not code:
        frame = frame.f_back
    requested: int | None = frame.f_locals.get("opset_version")
    if frame.f_code is code and requested is not None:
        return requested
    return default_onnx_opset()


def _check_opset(opset: int, rank: int | None) -> None:
    if opset < 16:
        raise torch.onnx.OnnxExporterError(
            "grid_sample(): ONNX has the operator GridSample from opset 16 on, but got "
            f"opset_version={opset}; export with opset_version=16 or later"
        )
    if opset < 20 and rank == 5:
        raise torch.onnx.OnnxExporterError(
            "grid_sample(): ONNX samples volumes from opset 20 on, but got a 5-D input and "
            f"opset_version={opset}; export with opset_version=20 or later"
        )


def _check_options(options: Options, dtype: torch.dtype, dims: int) -> None:
    """Refuse what ``GridSample`` and a few operators around it cannot say."""
    if dtype not in _ONNX_TYPES:
        raise torch.onnx.OnnxExporterError(
            "grid_sample(): expected input to be of a floating-point dtype to be exported to ONNX, "
            f"but got {dtype}; convert it"
        )
    usual = Options(*options.first)
    for keyword, is_good in (
        ("interpolation_mode", options.interpolation_mode in _ops.TORCH_MODES),
        ("padding_mode", options.padding_mode in _ops.TORCH_PADDING_MODES),
        ("fill_value", math.isfinite(options.fill_value)),
        ("outside_value", options.outside_value is None),
        ("cubic_coefficient", options.cubic_coefficient == usual.cubic_coefficient),
    ):
        if not is_good:
            given = getattr(options, keyword)
            if keyword == "padding_mode":
                given = options.padding_name(dims)
            if keyword == "interpolation_mode":
                keyword, given = "mode", _ops.name_of(_ops.MODES, options.interpolation_mode)
            raise torch.onnx.OnnxExporterError(
                "grid_sample(): ONNX's GridSample has the modes 'bilinear', 'nearest' and "
                "'bicubic', one padding for all axes ('zeros', 'border' or 'reflection'), a finite "
                f"fill value and the cubic coefficient -0.75, but got {keyword}={given!r}"
            )


def _normalizing_corners(options: Options) -> bool:
    """``align_corners`` for ``GridSample``, of a grid that is made of pixel coordinates.

    It matters only to reflection; elsewhere False is as good, and right for a single pixel, too.
    """
    if not options.pixel_coordinates:
        return options.align_corners
    return options.align_corners and options.padding_mode == _ops.REFLECTION


def grid_sample_for_export(input: Tensor, grid: Tensor, options: Options) -> Tensor:
    """The op in terms that the exporter of ``dynamo=True`` knows, while it traces a model."""
    _check_opset(_requested_opset(), input.dim())
    dtype = input.dtype
    _check_options(options, dtype, input.dim() - 2)
    shape = _fakes.output_shape(input, grid, options)
    input, grid = _fakes.with_one_batch_size(input, grid, shape[0])
    common_type = compute_type(dtype, grid.dtype)
    input, grid = input.to(common_type), grid.to(common_type)
    align_corners = _normalizing_corners(options)
    padding_mode, frame = options.padding_mode, 0
    if options.fill_value != 0:
        padding_mode, frame = _ops.BORDER, _FRAME
        input = F.pad(input, [frame, frame] * (input.dim() - 2), value=options.fill_value)
    # What -1 to 1 spans. Axis by axis: sizes that are symbols stay so.
    spans = [size - 1 if align_corners else size for size in input.shape[:1:-1]]
    axes = list(zip(grid.unbind(-1), spans, strict=True))
    if options.pixel_coordinates:
        shift = 2 * frame + (0 if align_corners else 1)
        grid = torch.stack([(2 * u + shift) / max(span, 1) - 1 for u, span in axes], -1)
    elif frame:
        grid = torch.stack([x * ((span - 2 * frame) / span) for x, span in axes], -1)
    if input.dim() == 4:
        # The exporter's own translation, whatever opset it targets.
        output = torch.grid_sampler(
            input, grid, options.interpolation_mode, padding_mode, align_corners
        )
    else:
        # torch.grid_sampler has no 5-D bicubic before 2.15.
        output = torch.onnx.ops.symbolic(
            "GridSample",
            (input, grid),
            {
                "mode": _MODES_FROM_20[options.interpolation_mode],
                "padding_mode": _PADDING_MODES[padding_mode],
                "align_corners": int(align_corners),
            },
            dtype=common_type,
            shape=shape,
            version=20,
        )
    return output.to(dtype)


def _nodes(
    call: Callable[..., Any],
    sides: list[Any],
    dtypes: list[torch.dtype],
    batches: list[Any],
    options: Options,
    opset: int,
    rank: int | None,
) -> Any:
    """The op as ONNX operators, for an exporter that has met it in a graph.

    Args:
        call: makes a node of the name of an operator, its inputs and its attributes; a tensor among
            these is PyTorch's.
        sides: the values of input and grid; two in each of the next lists, too.
        dtypes: what they hold.
        batches: their sizes in the first dimension, as far as these are known.
        options: the arguments of the op after input and grid.
        opset: the one that is exported to.
        rank: the number of dimensions of input, if known.

    """
    _check_opset(opset, rank)
    _check_options(options, dtypes[0], 2 if rank is None else rank - 2)
    common_type = compute_type(*dtypes)
    to_common = {"to": _ONNX_TYPES[common_type]}
    sides = list(sides)
    for side, other in ((0, 1), (1, 0)):
        if batches[side] == 1 and batches[other] != 1 and rank is not None:
            batch = call("Shape", sides[other], start=0, end=1)
            ones = call("Constant", value_ints=[1] * (rank - 1))
            sides[side] = call("Expand", sides[side], call("Concat", batch, ones, axis=0))
            break
    for side, dtype in enumerate(dtypes):
        if dtype != common_type:
            sides[side] = call("Cast", sides[side], **to_common)

    def number(value: float) -> Any:
        return call("Constant", value=torch.tensor(value, dtype=common_type))

    align_corners = _normalizing_corners(options)
    image, grid = sides
    padding_mode, frame = options.padding_mode, 0
    if options.pixel_coordinates or options.fill_value != 0:
        if rank is None:
            raise torch.onnx.OnnxExporterError(
                "grid_sample(): to export coordinates='pixel' or a fill_value, the number of "
                "input's dimensions has to be known"
            )
        if options.fill_value != 0:
            padding_mode, frame = _ops.BORDER, _FRAME
            widths = call("Constant", value_ints=[0, 0, *[frame] * (rank - 2)] * 2)
            image = call("Pad", image, widths, number(options.fill_value))
        # What -1 to 1 spans.
        backwards = call("Constant", value_ints=list(range(rank - 1, 1, -1)))
        span = call("Cast", call("Gather", call("Shape", image), backwards, axis=0), **to_common)
        if align_corners:
            span = call("Max", call("Sub", span, number(1.0)), number(1.0))
        if options.pixel_coordinates:
            shift = 2 * frame + (0 if align_corners else 1)
            grid = call("Add", call("Mul", grid, number(2.0)), number(float(shift)))
            grid = call("Sub", call("Div", grid, span), number(1.0))
        else:
            inner = call("Sub", span, number(2.0 * frame))
            grid = call("Mul", grid, call("Div", inner, span))
    output = call(
        "GridSample",
        image,
        grid,
        mode=(_MODES_FROM_16 if opset < 20 else _MODES_FROM_20)[options.interpolation_mode],
        padding_mode=_PADDING_MODES[padding_mode],
        align_corners=int(align_corners),
    )
    return output if dtypes[0] == common_type else call("Cast", output, to=_ONNX_TYPES[dtypes[0]])


def _translate(input: Any, grid: Any, *options: Any) -> Any:
    """For the exporter of ``dynamo=True``; values are onnxscript's."""
    import onnx_ir
    from onnxscript import opset18, opset20

    opset = _requested_opset()
    torch_types = {number: dtype for dtype, number in _ONNX_TYPES.items()}

    def call(name: str, *inputs: Any, **attributes: Any) -> Any:
        # Other operators are left to the exporter, whose own are of opset 18.
        operators = opset20 if name == "GridSample" and opset >= 20 else opset18
        if "value" in attributes:
            of_torch = attributes["value"]
            kind = onnx_ir.DataType(_ONNX_TYPES[of_torch.dtype])
            attributes["value"] = onnx_ir.tensor(of_torch.item(), dtype=kind)
        return getattr(operators, name)(*inputs, **attributes)

    return _nodes(
        call,
        [input, grid],
        [torch_types[int(side.dtype)] for side in (input, grid)],
        [side.shape[0] for side in (input, grid)],
        Options(*options),
        opset,
        len(input.shape),
    )


def _torchscript_symbolic(g: Any, input: Any, grid: Any, *options: Any) -> Any:
    """For the exporter of ``dynamo=False``; values are TorchScript's."""
    from torch.onnx import JitScalarType  # type: ignore[attr-defined]

    get_const, get_size, get_rank = (
        look_up(f"torch.onnx.symbolic_helper.{name}")
        for name in ("_get_const", "_get_tensor_dim_size", "_get_tensor_rank")
    )

    def call(name: str, *inputs: Any, **attributes: Any) -> Any:
        if name == "Constant":  # only tensors there
            (values,) = attributes.values()
            return g.op(name, value_t=torch.as_tensor(values))
        # The name of an attribute ends in its kind: _s for strings, _i for integers.
        return g.op(
            name,
            *inputs,
            **{
                f"{key}_{'s' if isinstance(value, str) else 'i'}": value
                for key, value in attributes.items()
            },
        )

    kinds = "iibbfff"
    assert len(kinds) == len(Options._fields)
    values: list[Any] = [
        None if _is_none(option) else get_const(option, kind, name)
        for option, kind, name in zip(options, kinds, Options._fields, strict=False)
    ]
    return _nodes(
        call,
        [input, grid],
        [JitScalarType.from_value(side).dtype() for side in (input, grid)],
        [get_size(side, 0) for side in (input, grid)],
        Options(*values),
        g.opset,
        get_rank(input),
    )


def _is_none(value: Any) -> bool:
    """Whether a value of TorchScript's is the constant None."""
    return bool(value.node().mustBeNone())


def _register_torchscript_symbolic() -> None:
    """Tell the TorchScript exporter, as long as PyTorch has one."""
    register = getattr(torch.onnx, "register_custom_op_symbolic", None)
    if register is not None:
        # From the oldest opset: one below 16 gets an error of ours and not one about custom ops.
        register("gridsample_ext::grid_sample", _torchscript_symbolic, 9)


_register_torchscript_symbolic()
