"""Exported to ONNX, a model holds the standard GridSample and computes what it did."""

import io
import itertools

import pytest
import samples
import torch
import torch.nn.functional as F

import gridsample_ext
from gridsample_ext import grid_sample

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = [
    # The older exporter says at each call that it is the older one, and of what it is made.
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
    # The newer one uses what PyTorch has deprecated.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]

HAS_TORCHSCRIPT = hasattr(torch.onnx, "register_custom_op_symbolic")
NAMES = {
    16: {"bilinear": "bilinear", "nearest": "nearest", "bicubic": "bicubic"},
    20: {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"},
}


class Sampler(torch.nn.Module):
    """Samples once per case, as users do, or by a direct call of the op."""

    def __init__(self, cases, raw=False):
        super().__init__()
        self.cases, self.raw = cases, raw

    def forward(self, input, *grids):
        """One output per case; the last grid serves cases with align_corners."""
        if self.raw:
            op = torch.ops.gridsample_ext.grid_sample
            return tuple(
                op(input, grids[-case.align_corners], *case.op_options) for case in self.cases
            )
        return tuple(
            grid_sample(input, grids[-case.align_corners], *case.options) for case in self.cases
        )


def dynamic_shapes(dynamic):
    """As torch.export takes it for the signature of Sampler."""
    return dynamic and (dynamic[0], tuple(dynamic[1:]))


def by_dynamo(model, args, opset, dynamic=None):
    return torch.onnx.export(
        model,
        args,
        opset_version=opset,
        dynamic_shapes=dynamic_shapes(dynamic),
        dynamo=True,
        verbose=False,
    ).model_proto


def by_program(model, args, opset, dynamic=None):
    """By way of torch.export, after which the model is a graph of ops."""
    program = torch.export.export(model, args, dynamic_shapes=dynamic_shapes(dynamic))
    targets = {node.target for node in program.graph.nodes}
    assert torch.ops.gridsample_ext.grid_sample.default in targets
    return torch.onnx.export(
        program,
        opset_version=opset,
        dynamo=True,
        verbose=False,
        custom_translation_table=gridsample_ext.onnx.translation_table(),
    ).model_proto


def by_torchscript(model, args, opset, dynamic=None):
    names = [f"argument{i}" for i in range(len(args))]
    file = io.BytesIO()
    torch.onnx.export(
        model,
        args,
        file,
        opset_version=opset,
        input_names=names,
        dynamic_axes=dynamic
        and {
            name: {axis: dim.__name__ for axis, dim in axes.items()}
            for name, axes in zip(names, dynamic, strict=True)
        },
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())


needs_torchscript = pytest.mark.skipif(
    not HAS_TORCHSCRIPT, reason="this PyTorch has no TorchScript exporter"
)
EXPORTERS = [
    pytest.param(by_dynamo, id="dynamo"),
    pytest.param(by_program, id="program"),
    pytest.param(by_torchscript, id="torchscript", marks=needs_torchscript),
]
OPSETS = {2: (16, 18, 20, 22), 3: (20, 22)}
LAST_OPSET = {"dynamo": 22, "program": 22, "torchscript": 20}  # GridSample's last change, or theirs


def nodes(proto, op_type=None):
    """Nodes of a type, or all, as (type, {attribute: value})."""
    return [
        (node.op_type, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
        for node in proto.graph.node
        if op_type in (None, node.op_type)
    ]


def types(proto):
    return [op_type for op_type, _ in nodes(proto) if op_type != "Constant"]


def expected_nodes(cases, opset):
    names = NAMES[16 if opset < 20 else 20]
    return [
        (
            "GridSample",
            {
                "mode": names[case.mode].encode(),
                "padding_mode": case.padding_mode.encode(),
                "align_corners": int(case.align_corners),
            },
        )
        for case in cases
    ]


def check(proto, opset):
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", opset)]


def feeds(proto, tensors):
    names = [entry.name for entry in proto.graph.input]
    return {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}


def run(proto, *tensors):
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [torch.from_numpy(result) for result in session.run(None, feeds(proto, tensors))]


def assert_same(results, expected):
    for result, value in zip(results, expected, strict=True):
        assert (result.dtype, result.shape) == (value.dtype, value.shape)
        samples.assert_close(result, value.double())


def draw(dims, shape=samples.SMALL, dtype=torch.float32, grid_dtype=None):
    """Draw an input, and grids without and with align_corners, off the lattice of pixels."""
    sides = [
        samples.sample(samples.Case(dims, "bilinear", "zeros", reach), shape, dtype, grid_dtype)
        for reach in (False, True)
    ]
    return sides[0][0], sides[0][1], sides[1][1]


@pytest.mark.parametrize(
    ("export", "dims", "opset"),
    [
        pytest.param(
            *export.values, dims, opset, id=f"{export.id}-{dims}d-{opset}", marks=export.marks
        )
        for export in EXPORTERS
        for dims, opsets in OPSETS.items()
        for opset in opsets
        if opset <= LAST_OPSET[export.id]
    ],
)
def test_every_case(export, dims, opset):
    # ONNX Runtime samples no volume by cubic; see the next test.
    cases = [
        case
        for case in samples.cases(dims=dims)
        if case.mode != "bspline" and (dims, case.mode) != (3, "bicubic")
    ]
    model, tensors = Sampler(cases).eval(), draw(dims)
    proto = export(model, tensors, opset)
    check(proto, opset)
    assert nodes(proto) == expected_nodes(cases, opset)
    assert_same(run(proto, *tensors), model(*tensors))


@pytest.mark.parametrize("export", EXPORTERS)
def test_volume_by_cubic(export):
    """Legal in ONNX, though ONNX Runtime has no kernel ("Only support ... Cubic mode in 4-D")."""
    cases = samples.cases(dims=3, mode="bicubic")
    model, tensors = Sampler(cases).eval(), draw(3)
    proto = export(model, tensors, 20)
    check(proto, 20)
    assert nodes(proto) == expected_nodes(cases, 20)
    results = onnx.reference.ReferenceEvaluator(proto).run(None, feeds(proto, tensors))
    for case, result, expected in zip(cases, results, model(*tensors), strict=True):
        assert result.shape == expected.shape
        # With border padding the reference clamps the coordinate before it takes the taps, in 2-D,
        # too, where ONNX Runtime, like PyTorch, clamps the taps.
        if case.padding_mode != "border":
            samples.assert_close(torch.from_numpy(result), expected.double())


BROADCASTS = {
    "input": samples.Shape("input_broadcast", N_input=1, N_grid=3),
    "grid": samples.Shape("grid_broadcast", N_input=3, N_grid=1),
}


@pytest.mark.parametrize("side", BROADCASTS)
@pytest.mark.parametrize("export", EXPORTERS)
def test_batch_of_one_is_expanded(export, side):
    cases = samples.cases(dims=2, mode="bilinear", padding_mode="border")
    model, tensors = Sampler(cases).eval(), draw(2, BROADCASTS[side])
    proto = export(model, tensors, 16)
    check(proto, 16)
    assert "Expand" in types(proto)
    assert_same(run(proto, *tensors), model(*tensors))


TYPES = list(itertools.product(samples.DTYPES, repeat=2))


class AllTypes(torch.nn.Module):
    """Samples in every pair of types, between float64 in and out: NumPy has no bfloat16."""

    def forward(self, input, grid):
        """One output per pair."""
        outputs = [
            grid_sample(input.to(dtype), grid.to(grid_dtype), "bicubic", "reflection", False)
            for dtype, grid_dtype in TYPES
        ]
        assert [output.dtype for output in outputs] == [dtype for dtype, _ in TYPES]
        return [output.double() for output in outputs]


@pytest.mark.parametrize("export", EXPORTERS)
def test_types_are_cast(export):
    """By the rules of docs/semantics.md: float32 inside, or float64 where one side is."""
    model, tensors = AllTypes().eval(), draw(2, dtype=torch.float64)[:2]
    proto = export(model, tensors, 20)
    check(proto, 20)
    values = {
        entry.name: entry for entry in onnx.shape_inference.infer_shapes(proto).graph.value_info
    }
    values |= {entry.name: entry for entry in proto.graph.input}
    sampled = [
        [values[name].type.tensor_type.elem_type for name in node.input]
        for node in proto.graph.node
        if node.op_type == "GridSample"
    ]
    double, single = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
    assert sampled == [[double if torch.float64 in pair else single] * 2 for pair in TYPES]
    for (dtype, _), result, expected in zip(
        TYPES, run(proto, *tensors), model(*tensors), strict=True
    ):
        samples.assert_close(result.to(dtype), expected)


# Of two axes of one name, the exporter says that it uses one.
@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")
@pytest.mark.parametrize("export", EXPORTERS)
def test_dynamic_axes(export):
    """One model for batches and sizes of all kinds."""
    cases = samples.cases(dims=2, padding_mode="zeros", align_corners=False)
    cases = [case for case in cases if case.mode != "bspline"]
    model, tensors = Sampler(cases).eval(), draw(2)[:2]
    N, H, W, H_out, W_out = map(torch.export.Dim, ("N", "H", "W", "H_out", "W_out"))
    dynamic = [{0: N, 2: H, 3: W}, {0: N, 1: H_out, 2: W_out}]
    proto = export(model, tensors, 20, dynamic)
    check(proto, 20)
    assert types(proto) == ["GridSample"] * len(cases)
    for shape in (samples.SMALL, samples.Shape("other", N=5, size=(7, 9), out=(1, 11))):
        others = draw(2, shape)[:2]
        assert_same(run(proto, *others), model(*others))


@pytest.mark.parametrize("export", EXPORTERS)
def test_dynamic_batch_beside_a_batch_of_one(export):
    cases = samples.cases(dims=2, mode="nearest", padding_mode="zeros", align_corners=False)
    model, tensors = Sampler(cases).eval(), draw(2, BROADCASTS["grid"])[:2]
    dynamic = [{0: torch.export.Dim("N")}, {}]
    proto = export(model, tensors, 20, dynamic)
    for batch in (3, 1, 6):
        others = draw(2, samples.Shape("other", N_input=batch, N_grid=1))[:2]
        assert_same(run(proto, *others), model(*others))


class Transformer(torch.nn.Module):
    """A spatial transformer network: it looks at an image, and moves it."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 4, 3)
        self.theta = torch.nn.Linear(4, 6)

    def forward(self, image):
        """Transform affinely, by what is seen."""
        features = self.features(image).relu().mean((2, 3))
        theta = self.theta(features).reshape(-1, 2, 3)
        grid = F.affine_grid(theta, image.shape, align_corners=False)
        return grid_sample(image, grid, "bilinear", "border", align_corners=False)


# F.affine_grid compares sizes, which the older exporter turns into constants.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("export", EXPORTERS)
def test_network(export):
    model, image = Transformer().eval(), samples.randn(2, 3, 9, 11, dtype=torch.float32)
    proto = export(model, (image,), 20)
    onnx.checker.check_model(proto, full_check=True)
    assert types(proto).count("GridSample") == 1
    assert_same(run(proto, image), [model(image).detach()])


def test_direct_call_of_the_op():
    """In a model, where only torch.export sees it."""
    cases = samples.cases(dims=2, mode="bilinear", padding_mode="zeros")
    tensors = draw(2)
    model = Sampler(cases, raw=True).eval()
    proto = torch.onnx.export(
        model,
        tensors,
        dynamo=True,
        verbose=False,
        custom_translation_table=gridsample_ext.onnx.translation_table(),
    ).model_proto
    assert types(proto) == ["GridSample"] * len(cases)
    assert_same(run(proto, *tensors), model(*tensors))


@needs_torchscript
def test_direct_call_of_the_op_in_torchscript():
    cases = samples.cases(dims=2, mode="bilinear", padding_mode="zeros")
    tensors = draw(2)
    model = Sampler(cases, raw=True).eval()
    proto = by_torchscript(model, tensors, 16)
    assert types(proto) == ["GridSample"] * len(cases)
    assert_same(run(proto, *tensors), model(*tensors))


@pytest.mark.skipif(
    samples.TORCH_VERSION < (2, 13),
    reason="an older exporter gives up when tracing has failed the first way",
)
def test_strict_tracing():
    """The exporter falls back to tracing by torch.compile's means, where ours must be seen, too."""

    class OnlyStrict(torch.nn.Module):
        """Refuses to be traced in the other way."""

        def forward(self, input, grid):
            """Sample."""
            if not torch.compiler.is_dynamo_compiling() and torch.compiler.is_compiling():
                raise RuntimeError("not like this")
            return grid_sample(input, grid, align_corners=True)

    tensors = draw(2)[::2]
    proto = by_dynamo(OnlyStrict().eval(), tensors, 20)
    assert types(proto) == ["GridSample"]
    assert_same(run(proto, *tensors), [OnlyStrict()(*tensors)])


def messages(error):
    """What an error and those that led to it say."""
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(said)


@pytest.mark.filterwarnings("ignore:Exporting to ONNX opset version:UserWarning")
@pytest.mark.parametrize(
    ("dims", "opset", "expected"),
    [
        (2, 15, "GridSample from opset 16 on, but got opset_version=15"),
        (3, 16, "volumes from opset 20 on, but got a 5-D input and opset_version=16"),
    ],
)
@pytest.mark.parametrize("export", EXPORTERS)
def test_opset_without_the_operator(export, dims, opset, expected):
    model = Sampler(samples.cases(dims=dims)[:1]).eval()
    with pytest.raises(torch.onnx.OnnxExporterError) as caught:
        export(model, draw(dims), opset)
    assert expected in messages(caught.value)


def test_default_opset():
    """A volume, so that opset 20 is needed; nothing says which opset it shall be."""
    model, tensors = Sampler(samples.cases(dims=3, mode="bilinear")).eval(), draw(3)
    proto = torch.onnx.export(model, tensors, dynamo=True, verbose=False).model_proto
    assert_same(run(proto, *tensors), model(*tensors))


def test_nothing_stays_behind():
    """After an export, even one that failed, models are traced to our op again."""
    model, tensors = Sampler(samples.cases(dims=3)[:1]).eval(), draw(3)
    with pytest.raises(torch.onnx.OnnxExporterError):
        by_dynamo(model, tensors, 16)
    program = torch.export.export(model, tensors)
    targets = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert targets == {torch.ops.gridsample_ext.grid_sample.default}
