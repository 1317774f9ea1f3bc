"""What F.grid_sample and gridsample_ext can do, tried: the table in docs/guide/drop_in.md.

    python docs/support_table.py --try       tries every feature with the installed PyTorch, and
                                             writes docs/support/<PyTorch's version>.json
    python docs/support_table.py --write     writes the table of these files into the page

Every cell is tried in a process of its own, because some of them end it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).parent
PAGE = HERE / "guide" / "drop_in.md"
BEGIN, END = "<!-- support: begin -->", "<!-- support: end -->"
sys.path.append(str(HERE.parent / "tests"))
import composed  # noqa: E402
import samples  # noqa: E402

Sample = Callable[..., Tensor]
Feature = Callable[[Sample], bool | str]
FEATURES: dict[str, Feature] = {}


def feature(label: str) -> Callable[[Feature], Feature]:
    """A row of the table. It returns the cell's text, or whether it is a yes; an error is a no."""

    def register(function: Feature) -> Feature:
        FEATURES[label] = function
        return function

    return register


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-6) -> bool:
    """Whether values agree, relative to the largest."""
    scale = max(expected.abs().max().item(), 1.0)
    return ours.shape == expected.shape and (ours - expected).abs().max().item() < tolerance * scale


def agrees(sample: Sample, dims: int, modes: tuple[str, ...], derivatives: int = 0) -> bool:
    """Whether values, or gradients, or theirs, are those of the composed operation."""
    for case in samples.CASES:
        if case.dims != dims or case.mode not in modes:
            continue
        leaves = [tensor.requires_grad_() for tensor in samples.sample(case)]
        results = []
        for function in (sample, composed.grid_sample):
            tensors = [function(*leaves, *case.options)]
            for _ in range(derivatives):
                loss = sum(tensor.square().sum() for tensor in tensors)
                tensors = list(
                    torch.autograd.grad(
                        loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True
                    )
                )
            results.append(tensors)
        if not all(map(close, *results)):
            return False
    return True


TORCH_MODES = ("bilinear", "nearest", "bicubic")
CASE = samples.Case(2, "bilinear", "zeros", False)
VOLUME = samples.Case(3, "bilinear", "border", True)


@feature("4-D bilinear, nearest, bicubic; zeros, border, reflection; `align_corners`")
def _(sample: Sample) -> bool:
    return agrees(sample, 2, TORCH_MODES)


@feature("5-D bilinear (trilinear), nearest")
def _(sample: Sample) -> bool:
    return agrees(sample, 3, ("bilinear", "nearest"))


@feature("5-D bicubic (tricubic)")
def _(sample: Sample) -> bool:
    return agrees(sample, 3, ("bicubic",))


@feature("circular padding; a padding for each axis")
def _(sample: Sample) -> bool:
    image = samples.randn(1, 2, 5, 8)
    grid = samples.identity_grid((5, 8), False)
    grid[..., 0] += 2 * 3 / 8  # three pixels to the right
    padded = torch.cat([image, image], -1)
    expected = padded[..., 3:11]
    return all(
        close(sample(image, grid, padding_mode=padding, align_corners=False), expected)
        for padding in ("circular", ("circular", "border"))
    )


@feature("a grid of pixel coordinates")
def _(sample: Sample) -> bool:
    image = samples.randn(1, 2, 5, 8)
    grid = samples.normalize(samples.identity_grid((5, 8), None) + 0.25, (5, 8), None)
    expected = composed.grid_sample(
        image, samples.normalize(grid, (5, 8), False), "bilinear", "zeros", False
    )
    return close(sample(image, grid, coordinates="pixel"), expected)


@feature("values outside the image other than 0")
def _(sample: Sample) -> bool:
    image, grid = samples.sample(CASE)
    options = CASE.options
    filled = composed.grid_sample(image - 3, grid, *options) + 3
    return close(sample(image, grid, *options, fill_value=3.0), filled) and bool(
        sample(image, grid + 9, *options, outside_value=7.0).eq(7).all()
    )


@feature("the Catmull-Rom spline and other cubic kernels")
def _(sample: Sample) -> bool:
    square = torch.arange(6.0, dtype=torch.float64).square().expand(1, 1, 6, 6)
    grid = samples.normalize(torch.tensor([[[[2.5, 2.5]]]], dtype=torch.float64), (6, 6), False)
    output = sample(square, grid, "bicubic", align_corners=False, cubic_coefficient=-0.5)
    return close(output, output.new_full((1, 1, 1, 1), 6.25))


@feature("cubic B-splines")
def _(sample: Sample) -> bool:
    return agrees(sample, 2, ("bspline",)) and agrees(sample, 3, ("bspline",))


@feature("complex images")
def _(sample: Sample) -> bool:
    image, grid = samples.sample(CASE)
    output = sample(torch.complex(image, 2 * image), grid, *CASE.options)
    expected = composed.grid_sample(image, grid, *CASE.options)
    return close(output.real, expected) and close(output.imag, 2 * expected)


@feature("images of integers and bools in mode nearest, of uint8 and int16 in all")
def _(sample: Sample) -> bool:
    image, grid = samples.sample(CASE)
    image = (40 * image).round().abs().clamp(max=255)
    for mode, dtypes in (
        ("nearest", (torch.uint8, torch.int64, torch.bool)),
        ("bilinear", (torch.uint8, torch.int16)),
    ):
        for dtype in dtypes:
            pixels = image.to(dtype)
            expected = composed.grid_sample(pixels.double(), grid, mode, *CASE.options[1:])
            output = sample(pixels, grid, mode, *CASE.options[1:])
            if output.dtype != dtype or not close(output.double(), expected.round()):
                return False
    return True


@feature("float16, bfloat16 images of more than 32,767 pixels, on the CPU")
def _(sample: Sample) -> bool | str:
    image = samples.randn(1, 1, 300, 300, dtype=torch.float32)
    grid = samples.interior_grid((1, 30, 30, 2), (300, 300), False, torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        half, halves = image.to(dtype), grid.to(dtype)
        exact = F.grid_sample(half.float(), halves.float(), align_corners=False)
        if not close(sample(half, halves, align_corners=False).float(), exact, 0.3):
            return "wrong"
    return True


@feature("`grid` of another dtype than `input`")
def _(sample: Sample) -> bool:
    input, grid = samples.sample(CASE)
    expected = composed.grid_sample(input, grid, *CASE.options)
    return close(sample(input.float(), grid, *CASE.options).double(), expected, 1e-5)


@feature("batch of 1 on one side, without a copy")
def _(sample: Sample) -> bool:
    for shape in samples.SHAPES:
        if "broadcast" in shape.name:
            input, grid = samples.sample(CASE, shape)
            expected = composed.grid_sample(input, grid, *CASE.options)
            if not close(sample(input, grid, *CASE.options), expected):
                return False
    return True


@feature("layout of the output for a channels-last `input`")
def _(sample: Sample) -> str:
    input, grid = samples.sample(CASE)
    input = input.contiguous(memory_format=torch.channels_last)
    output = sample(input, grid, *CASE.options)
    last = output.is_contiguous(memory_format=torch.channels_last)
    return "channels-last" if last else "contiguous"


@feature("result independent of the number of threads, to the bit")
def _(sample: Sample) -> bool:
    input = samples.randn(1, 2, 64, 64, dtype=torch.float32).requires_grad_()
    grid = samples.interior_grid((1, 200, 200, 2), (64, 64), False, torch.float32).requires_grad_()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        output = sample(input, grid, align_corners=False)
        results.append((output, *torch.autograd.grad(output.square().sum(), (input, grid))))
    return all(
        torch.equal(a, b) for other in results[1:] for a, b in zip(other, results[0], strict=True)
    )


@feature("NaN coordinates, in both passes")
def _(sample: Sample) -> bool:
    for case in samples.CASES:
        input, grid = samples.sample(case)
        grid[0] = math.nan
        leaves = input.requires_grad_(), grid.requires_grad_()
        try:
            output = sample(*leaves, *case.options)
        except RuntimeError:
            continue  # 5-D bicubic before PyTorch 2.15
        expected = composed.grid_sample(input, grid.nan_to_num(-1.0), *case.options)
        gradients = torch.autograd.grad(output.sum(), leaves)
        if not close(output, expected) or not all(g.isfinite().all() for g in gradients):
            return False
        if gradients[1][0].count_nonzero():
            return False
    return True


@feature("type of the output under CPU autocast, of a bfloat16 `input`")
def _(sample: Sample) -> str:
    input, grid = samples.sample(CASE, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return str(sample(input, grid, *CASE.options).dtype).removeprefix("torch.")


@feature("gradients of `input` and `grid`")
def _(sample: Sample) -> bool:
    return agrees(sample, 2, TORCH_MODES, 1) and agrees(sample, 3, ("bilinear", "nearest"), 1)


@feature("kept for the backward pass if only `input` needs a gradient")
def _(sample: Sample) -> str:
    input = torch.rand(1, 4, 128, 128, requires_grad=True)
    grid = torch.rand(1, 128, 128, 2)
    sizes = {input.shape: "`input`", grid.shape: "`grid`"}
    kept = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().nbytes() > 64:
            kept.append(sizes[tensor.shape])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sample(input, grid, align_corners=False)
    return ", ".join(sorted(kept, reverse=True))


@feature("second derivatives, 4-D and 5-D bilinear, 4-D bicubic")
def _(sample: Sample) -> bool:
    return agrees(sample, 2, TORCH_MODES, 2) and agrees(sample, 3, ("bilinear",), 2)


@feature("second derivatives, 5-D bicubic")
def _(sample: Sample) -> bool:
    return agrees(sample, 3, ("bicubic",), 2)


@feature("third derivatives, 4-D and 5-D bilinear, 4-D bicubic")
def _(sample: Sample) -> bool:
    return agrees(sample, 2, TORCH_MODES, 3) and agrees(sample, 3, ("bilinear",), 3)


@feature("`torch.autograd.functional.hvp`")
def _(sample: Sample) -> bool:
    inputs = samples.sample(CASE)
    ours, expected = (
        torch.autograd.functional.hvp(loss_of(f), inputs, tuple(t.cos() for t in inputs))[1]
        for f in (sample, composed.grid_sample)
    )
    return all(map(close, ours, expected))


@feature("forward mode")
def _(sample: Sample) -> bool:
    for case in (CASE, VOLUME):
        inputs = samples.sample(case)
        tangents = tuple(tensor.cos() for tensor in inputs)
        ours, expected = (
            torch.func.jvp(lambda *a, f=f: f(*a, *case.options), inputs, tangents)[1]  # noqa: B023
            for f in (sample, composed.grid_sample)
        )
        if not close(ours, expected):
            return False
    return True


def loss_of(sample: Sample) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of input and grid with second derivatives."""
    return lambda input, grid: sample(input, grid, *CASE.options).sin().sum()


def transformed(sample: Sample, transform: Callable[..., Callable[..., object]]) -> bool:
    """Whether a transform of torch.func gives what it gives of the composed operation."""
    torch._C._functorch._set_vmap_fallback_enabled(False)  # a loop is not support
    inputs = samples.sample(CASE, samples.Shape("tiny", N=2, C=2, size=(2, 3, 4), out=(2, 1, 2)))
    ours, expected = (
        torch.utils._pytree.tree_leaves(transform(loss_of(f))(*inputs))
        for f in (sample, composed.grid_sample)
    )
    return all(map(close, ours, expected))


@feature("forward over reverse mode: `torch.func.hessian`")
def _(sample: Sample) -> bool:
    return transformed(sample, lambda f: torch.func.hessian(f, (0, 1)))


@feature("forward over forward mode: `torch.func.jvp` of `jvp`")
def _(sample: Sample) -> bool:
    def along(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *a: torch.func.jvp(f, a, tuple(t.cos() for t in a))[1]

    return transformed(sample, lambda f: along(along(f)))


@feature("`torch.func.grad`, `vjp`, `jacrev`")
def _(sample: Sample) -> bool:
    return transformed(sample, lambda f: torch.func.jacrev(f, (0, 1)))


@feature("`torch.vmap` of the call and of its gradients, without a loop")
def _(sample: Sample) -> bool:
    def transform(f: Callable[..., Tensor]) -> Callable[..., object]:
        gradients = torch.vmap(torch.func.grad(f, (0, 1)), in_dims=(0, 1))
        return lambda input, grid: gradients(
            torch.stack([input, input * 2]), torch.stack([grid, grid * 0.9], 1)
        )

    return transformed(sample, transform)


@feature("`torch.compile`, forward and backward, in one graph")
def _(sample: Sample) -> bool:
    leaves = [tensor.requires_grad_() for tensor in samples.sample(CASE)]
    function = loss_of(sample)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    ours, eager = (torch.autograd.grad(f(*leaves), leaves) for f in (compiled, function))
    return all(map(close, ours, eager))


class Module(torch.nn.Module):
    """For exporters."""

    def __init__(self, sample: Sample, case: samples.Case) -> None:
        super().__init__()
        self.sample, self.options = sample, case.options

    def forward(self, input: Tensor, grid: Tensor) -> Tensor:
        """Sample."""
        return self.sample(input, grid, *self.options)


@feature("`torch.func` inside `torch.compile`: `vmap` of `grad`, `hessian`")
def _(sample: Sample) -> bool:
    def compiled(transform: Callable[..., Callable[..., object]]) -> Callable[..., object]:
        return lambda f: torch.compile(transform(f), backend="aot_eager", fullgraph=True)

    def gradients(f: Callable[..., Tensor]) -> Callable[..., object]:
        each = torch.vmap(torch.func.grad(f, (0, 1)))
        return lambda *a: each(*(torch.stack([t, t * 0.9]) for t in a))

    return transformed(sample, compiled(gradients)) and transformed(
        sample, compiled(lambda f: torch.func.hessian(f, (0, 1)))
    )


@feature("`torch.func.functionalize`")
def _(sample: Sample) -> bool:
    return transformed(sample, lambda f: torch.func.functionalize(torch.func.grad(f, (0, 1))))


@feature("`torch.export`, saved and loaded")
def _(sample: Sample) -> bool:
    inputs = samples.sample(CASE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.pt2")
        torch.export.save(torch.export.export(Module(sample, CASE), inputs), path)
        return close(torch.export.load(path).module()(*inputs), sample(*inputs, *CASE.options))


def onnx_nodes(sample: Sample, case: samples.Case) -> list[str]:
    """The kinds of nodes of an exported model that passes the checker of ONNX."""
    import onnx

    inputs = samples.sample(case, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Module(sample, case), inputs, dynamo=True, opset_version=20, verbose=False
        )
    onnx.checker.check_model(program.model_proto, full_check=True)
    return [node.op_type for node in program.model_proto.graph.node]


@feature("ONNX: a `GridSample` node, 4-D and 5-D")
def _(sample: Sample) -> bool:
    return all(
        onnx_nodes(sample, samples.Case(dims, mode, "border", False)) == ["GridSample"]
        for dims, mode in ((2, "bilinear"), (2, "nearest"), (2, "bicubic"), (3, "bilinear"))
    )


@feature("ONNX: 5-D bicubic")
def _(sample: Sample) -> bool:
    return onnx_nodes(sample, samples.Case(3, "bicubic", "border", False)) == ["GridSample"]


@feature("`torch.jit.script`")
def _(sample: Sample) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(sample)
    return True


@feature("quantised images (quint8)")
def _(sample: Sample) -> bool:
    image = torch.quantize_per_tensor(torch.rand(1, 2, 4, 4), 0.1, 0, torch.quint8)
    return sample(image, torch.zeros(1, 2, 2, 2), align_corners=False).is_quantized


def implementation(name: str) -> Sample:
    """The function called ``name`` in the table."""
    if name == "F.grid_sample":
        return F.grid_sample
    import gridsample_ext

    return gridsample_ext.grid_sample


IMPLEMENTATIONS = ("F.grid_sample", "gridsample_ext")


def try_cell(label: str, name: str) -> str:
    """The text of one cell."""
    try:
        result = FEATURES[label](implementation(name))
    except Exception:
        return "no"
    return result if isinstance(result, str) else "yes" if result else "no"


def try_in_a_process(label: str, name: str) -> str:
    """The same; a crash is a cell as well."""
    command = [sys.executable, __file__, "--cell", label, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1] if done.returncode == 0 else "crash"


def try_all() -> dict[str, dict[str, str]]:
    """Every cell of this PyTorch: label -> implementation -> text."""
    from tqdm import tqdm

    cells = [(label, name) for label in FEATURES for name in IMPLEMENTATIONS]
    with ThreadPoolExecutor(2) as pool:
        tries = pool.map(lambda cell: try_in_a_process(*cell), cells)
        texts = list(tqdm(tries, total=len(cells), disable=None, unit="cell"))
    results: dict[str, dict[str, str]] = {label: {} for label in FEATURES}
    for (label, name), text in zip(cells, texts, strict=True):
        results[label][name] = text
    return results


def table() -> str:
    """Of all files in docs/support, oldest PyTorch first."""
    files = sorted(
        (HERE / "support").glob("*.json"), key=lambda path: [*map(int, path.stem.split("."))]
    )
    columns = {path.stem: json.loads(path.read_text()) for path in files}
    head = [f"PyTorch {version}" for version in columns]
    lines = ["| | " + " | ".join([*head, "gridsample_ext"]) + " |", "|---" * (len(head) + 2) + "|"]
    for label in FEATURES:
        ours = {version: cells[label]["gridsample_ext"] for version, cells in columns.items()}
        own = [cells[label]["F.grid_sample"] for cells in columns.values()]
        text = next(iter(ours.values()))
        if len(set(ours.values())) > 1:
            text = ", ".join(f"{cell} on {version}" for version, cell in ours.items())
        lines.append("| " + " | ".join([label, *own, text]) + " |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The text of the page with the table in its place."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--try", action="store_true", dest="tries")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--cell", nargs=2, metavar=("LABEL", "IMPLEMENTATION"))
    arguments = parser.parse_args()
    if arguments.cell:
        print(try_cell(*arguments.cell))
    if arguments.tries:
        version = ".".join(torch.__version__.split("+")[0].split(".")[:2])
        path = HERE / "support" / f"{version}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(try_all(), indent=1, ensure_ascii=False) + "\n")
    if arguments.write:
        PAGE.write_text(with_table(PAGE.read_text()))


if __name__ == "__main__":
    main()
