"""Training steps and distributed tensors in two processes, compared with one process's results."""

import copy
import datetime
import functools
import itertools
import multiprocessing
import subprocess
import sys
import traceback

import pytest
import samples
import torch
import torch.nn.functional as F
from torch import distributed, nn

import gridsample_ext
from gridsample_ext.distributed import register_sharding_rules

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="PyTorch is built without gloo",
)

RANKS = 2
# Before, DTensor asked an op's first argument for the mesh.
MESH_OF_ANY_ARGUMENT = samples.TORCH_VERSION >= (2, 13)
SECONDS = 120  # for one task of the two processes, their start included
CASE = samples.Case(2, "bilinear", "reflection", False)


def serve(rank, store, pipe):
    """Do tasks in one of the processes, until told to stop."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=SECONDS / 2),
    )
    while (task := pipe.recv()) is not None:
        function, arguments = task
        torch.manual_seed(0)
        try:
            function(*arguments)
            pipe.send(None)
        except BaseException:
            pipe.send(traceback.format_exc())
    distributed.destroy_process_group()


class Processes:
    """Two processes with a process group; after a failure, two others."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.starts = 0

    def start(self):
        """Start two, which find each other by a file."""
        context = multiprocessing.get_context("spawn")
        self.starts += 1
        store = self.folder / f"store{self.starts}"
        pipes = [context.Pipe() for _ in range(RANKS)]
        self.pipes = [ours for ours, _ in pipes]
        self.processes = [
            context.Process(target=serve, args=(rank, store, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()

    def stop(self, kill=False):
        """End them, at the end of a task or at once."""
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            if kill:
                process.kill()
            else:
                pipe.send(None)
        for process in self.processes:
            process.join(SECONDS)
        self.processes = []

    def run(self, function, *arguments):
        """Call a function of this module in both, and fail if it fails in one."""
        if not self.processes:
            self.start()
        for pipe in self.pipes:
            pipe.send((function, arguments))
        failures = []
        for rank, pipe in enumerate(self.pipes):
            failure = pipe.recv() if pipe.poll(SECONDS) else "no answer"
            if failure is not None:
                failures.append(f"rank {rank}: {failure}")
                break  # the other may be waiting for it
        if failures:
            self.stop(kill=True)
            pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    processes = Processes(tmp_path_factory.mktemp("distributed"))
    yield processes
    if processes.processes:
        processes.stop()


class SpatialTransformer(nn.Module):
    """Turns and shifts images as their content says, and blends in a learnt one."""

    def __init__(self):
        super().__init__()
        self.localize = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6)
        )
        self.image = nn.Parameter(torch.randn(1, 3, 6, 6))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        """(N, 3, H, W) to (N, 2)."""
        theta = self.localize(x).view(-1, 2, 3) + torch.eye(2, 3, dtype=x.dtype)
        grid = F.affine_grid(theta, [x.shape[0], 3, 7, 9], align_corners=False)
        sampled = gridsample_ext.grid_sample(x, grid, align_corners=False)
        learnt = gridsample_ext.grid_sample(
            self.image, grid, "bicubic", "border", align_corners=False
        )
        return self.head((sampled * learnt).mean((2, 3)))


def train(model, batches, targets):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for batch, target in zip(batches, targets, strict=True):
        optimizer.zero_grad()
        F.mse_loss(model(batch), target).backward()
        optimizer.step()


def check_training(wrap):
    """Three steps on halves of the batches, compared with three on whole ones."""
    batches, targets = samples.randn(3, 4, 3, 8, 8), samples.randn(3, 4, 2, seed=1)
    alone = SpatialTransformer().double()
    start = copy.deepcopy(alone.state_dict())
    together = wrap(copy.deepcopy(alone))
    train(alone, batches, targets)
    mine = slice(distributed.get_rank() * 2, distributed.get_rank() * 2 + 2)
    train(together, batches[:, mine], targets[:, mine])
    # The names of DistributedDataParallel begin with "module.".
    trained = {name.removeprefix("module."): p for name, p in together.named_parameters()}
    for name, expected in alone.named_parameters():
        value = trained[name].detach()
        value = value.full_tensor() if hasattr(value, "full_tensor") else value
        assert not torch.allclose(start[name], expected), f"{name} was not trained"
        torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-11)


def data_parallel(model):
    return nn.parallel.DistributedDataParallel(model)


def fully_sharded(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    fully_shard(model.localize, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@pytest.mark.parametrize("wrap", [data_parallel, fully_sharded])
def test_training(processes, wrap):
    processes.run(check_training, wrap)


@functools.cache
def mesh_of(*sizes):
    """One for the life of a process.

    PyTorch 2.13's torch.compile confuses equal ones (so, too, with its own ops).
    """
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", sizes)


def distribute(tensor, placement, mesh):
    """Place a tensor that all ranks have; a partial one as unequal parts of it."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if placement.is_partial():
        part = (0.25, 0.75)[distributed.get_rank()]
        return DTensor.from_local(tensor * part, mesh, [placement])
    return distribute_tensor(tensor, mesh, [placement])


def parse(placement):
    """From a short name: R, P, or a dimension that is split."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    return {"R": Replicate(), "P": Partial()}.get(placement) or Shard(int(placement))


def single_process(case, shape):
    """(input, grid, weight of the output in the loss), (output, gradients)."""
    input, grid = samples.sample(case, shape)
    weight = samples.grad_like(input, grid)
    leaves = [tensor.clone().requires_grad_() for tensor in (input, grid)]
    output = gridsample_ext.grid_sample(*leaves, *case.options)
    gradients = torch.autograd.grad((output * weight).sum(), leaves)
    return (input, grid, weight), (output.detach(), *gradients)


EVEN = samples.Shape("even", N=4, C=4, size=(3, 4, 5), out=(2, 4, 6))
UNEVEN = samples.Shape("uneven", N=3, C=5, size=(3, 4, 5), out=(3, 5, 3))
ONE_INPUT = samples.Shape("one_input", C=4, out=(2, 4, 6), N_input=1, N_grid=4)
ONE_GRID = samples.Shape("one_grid", C=4, out=(2, 4, 6), N_input=4, N_grid=1)
ONE_OF_EACH = samples.Shape("one_of_each", N=1, C=4, out=(2, 4, 6))

# (dims, sizes, input, grid) -> (output, grad_input, grad_grid)
WITHOUT_EXCHANGE = {
    (2, EVEN, "R", "R"): "R R R",
    (2, EVEN, "0", "0"): "0 0 0",
    (2, EVEN, "1", "R"): "1 1 P",
    (2, EVEN, "R", "1"): "2 P 1",
    (2, EVEN, "R", "2"): "3 P 2",
    (3, EVEN, "0", "0"): "0 0 0",
    (3, EVEN, "1", "R"): "1 1 P",
    (3, EVEN, "R", "1"): "2 P 1",
    (3, EVEN, "R", "2"): "3 P 2",
    (3, EVEN, "R", "3"): "4 P 3",
    (2, UNEVEN, "0", "0"): "0 0 0",
    (2, UNEVEN, "1", "R"): "1 1 P",
    (2, UNEVEN, "R", "2"): "3 P 2",
    (2, ONE_INPUT, "R", "0"): "0 P 0",
    (2, ONE_GRID, "0", "R"): "0 0 P",
    (2, ONE_INPUT, "1", "R"): "1 1 P",
    (2, ONE_OF_EACH, "1", "R"): "1 1 P",
}


def check_without_exchange(dims, shape, input, grid, results):
    from torch.distributed.tensor.debug import CommDebugMode

    case = samples.Case(dims, "bilinear", "reflection", False)
    mesh = mesh_of(RANKS)
    tensors, expected = single_process(case, shape)
    results = [parse(placement) for placement in results.split()]
    leaves = [
        distribute(tensor, parse(placement), mesh).requires_grad_()
        for tensor, placement in zip(tensors[:2], (input, grid), strict=True)
    ]
    grad_output = distribute(tensors[2], results[0], mesh)
    with CommDebugMode() as communication:
        output = gridsample_ext.grid_sample(*leaves, *case.options)
        gradients = torch.autograd.grad(output, leaves, grad_output)
    assert communication.get_total_counts() == 0
    for actual, placement, values in zip((output, *gradients), results, expected, strict=True):
        assert actual.placements == (placement,)
        samples.assert_close(actual.detach().full_tensor(), values)


@pytest.mark.parametrize("arguments", WITHOUT_EXCHANGE, ids=lambda a: "-".join(map(str, a)))
def test_dtensors_without_exchange(processes, arguments):
    processes.run(check_without_exchange, *arguments, WITHOUT_EXCHANGE[arguments])


def assert_same_placed(call, tensors, weight, placements):
    """Compare a call of tensors and its gradients, placed in each way, with one process's."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    output = call(*leaves)
    expected = output.detach(), *torch.autograd.grad(output, leaves, weight)
    mesh = mesh_of(RANKS)
    for names in placements:
        placed = [
            distribute(tensor, parse(name), mesh).requires_grad_()
            for tensor, name in zip(tensors, names, strict=True)
        ]
        output = call(*placed)
        (output * distribute(weight, parse("R"), mesh)).sum().backward()
        actual = output.detach(), *(leaf.grad for leaf in placed)
        for tensor, values in zip(actual, expected, strict=True):
            samples.assert_close(tensor.full_tensor(), values, terms=8)


def check_every_placement(case, shape, needs_grad):
    """Also those that have to be redistributed: split along an axis of the image, partial sums."""
    mesh = mesh_of(RANKS)
    tensors, expected = single_process(case, shape)
    placements = ["R", "P", *map(str, range(case.dims + 2))]
    for names in itertools.product(placements, placements):
        input, grid = (
            distribute(tensor, parse(name), mesh).requires_grad_(needed)
            for tensor, name, needed in zip(tensors[:2], names, needs_grad, strict=True)
        )
        output = gridsample_ext.grid_sample(input, grid, *case.options)
        (output * distribute(tensors[2], parse("R"), mesh)).sum().backward()
        actual = output.detach(), input.grad, grid.grad
        for tensor, values, wanted in zip(actual, expected, (True, *needs_grad), strict=True):
            assert (tensor is not None) == wanted, names
            if wanted:
                samples.assert_close(tensor.full_tensor(), values)


@pytest.mark.parametrize("needs_grad", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [EVEN, UNEVEN, ONE_INPUT, ONE_GRID, ONE_OF_EACH], ids=str)
def test_dtensors_in_every_placement(processes, shape, needs_grad):
    processes.run(check_every_placement, CASE, shape, needs_grad)


@pytest.mark.parametrize("case", samples.cases(padding_mode="border", align_corners=True), ids=str)
def test_dtensors_in_every_mode(processes, case):
    processes.run(check_every_placement, case, EVEN, (True, True))


def check_meshes():
    """Both dimensions of a mesh at once."""
    from torch.distributed.tensor import distribute_tensor

    tensors, expected = single_process(CASE, EVEN)
    for sizes in ((RANKS, 1), (1, RANKS)):
        mesh = mesh_of(*sizes)
        for names in itertools.product(["00", "1R", "R1", "R2", "RR"], repeat=2):
            leaves = [
                distribute_tensor(tensor, mesh, [parse(name[side]) for name in names])
                for side, tensor in enumerate(tensors[:2])
            ]
            output = gridsample_ext.grid_sample(
                *(leaf.requires_grad_() for leaf in leaves), *CASE.options
            )
            weight = distribute_tensor(tensors[2], mesh, [parse("R")] * 2)
            gradients = torch.autograd.grad((output * weight).sum(), leaves)
            for actual, values in zip((output.detach(), *gradients), expected, strict=True):
                samples.assert_close(actual.full_tensor(), values)


def test_dtensors_on_a_mesh_of_two_dimensions(processes):
    processes.run(check_meshes)


def check_ops():
    """Called directly, by position or by name, with every mask."""
    register_sharding_rules()
    mesh = mesh_of(RANKS)
    (input, grid, weight), expected = single_process(CASE, EVEN)
    for names in (("0", "0", "0"), ("1", "R", "1"), ("R", "1", "2"), ("R", "R", "P")):
        placed = [
            distribute(tensor, parse(name), mesh)
            for tensor, name in zip((input, grid, weight), names, strict=True)
        ]
        for mask in ([True, True], [True, False], [False, True], [False, False]):
            arguments = (placed[2], *placed[:2], *CASE.op_options, mask)
            for gradients in (
                gridsample_ext._ops.grid_sample_backward(*arguments),
                gridsample_ext._ops.grid_sample_backward(
                    *arguments[:6], output_mask=mask, deterministic=True
                ),
                gridsample_ext._ops.grid_sample_backward(
                    **dict(zip(("grad_output", "input", "grid"), arguments, strict=False)),
                    **dict(
                        zip(
                            ("interpolation_mode", "padding_mode", "align_corners", "output_mask"),
                            arguments[3:],
                            strict=True,
                        )
                    ),
                ),
            ):
                for gradient, wanted, values in zip(gradients, mask, expected[1:], strict=True):
                    assert (gradient is not None) == wanted
                    if wanted:
                        samples.assert_close(gradient.full_tensor(), values)


def test_ops_called_directly(processes):
    processes.run(check_ops)


def second_order(op, case, tensors, wanted):
    """Call an op of second order with the tensors of its schema, by name; None is left out."""
    return op(
        *(tensors.get(argument.name) for argument in op._schema.arguments[: len(tensors)]),
        *case.op_options,
        *wanted,
    )


def check_second_order(shape):
    """Each placement of the table, each optional tensor given or not."""
    register_sharding_rules()
    mesh = mesh_of(RANKS)
    input, grid = samples.sample(CASE, shape)
    like = {"input": input, "grid": grid, "output": samples.grad_like(input, grid)}
    for name, optional in (
        ("grid_sample_jvp", ("tangent_input", "tangent_grid")),
        ("grid_sample_double_backward", ("grad_grad_input", "grad_grad_grid")),
    ):
        op = getattr(torch.ops.gridsample_ext, name).default
        sharding = gridsample_ext.distributed._SHARDINGS[name]
        wanted = [[True, True]] if len(sharding.results) == 2 else []
        tensors = {
            argument: {"input": input, "grid": grid}.get(argument, torch.randn_like(like[role]))
            for argument, role in sharding.arguments.items()
        }
        for absent in ((), *((argument,) for argument in optional)):
            if not MESH_OF_ANY_ARGUMENT and op._schema.arguments[0].name in absent:
                continue
            given = tensors | dict.fromkeys(absent)
            expected = second_order(op, CASE, given, wanted)
            for placement in ("RRR", "000", "1R1", "R12", "R23", *sharding.linear_in):
                by_role = dict(zip(("input", "grid", "output"), placement, strict=False))
                placed = {
                    argument: distribute(
                        tensor,
                        parse(
                            by_role[sharding.arguments[argument]]
                            if isinstance(placement, str)
                            else "P"
                            if argument in placement
                            else "R"
                        ),
                        mesh,
                    )
                    for argument, tensor in given.items()
                    if tensor is not None
                }
                actual = second_order(op, CASE, given | placed, wanted)
                pairs = zip(actual, expected, strict=True) if wanted else [(actual, expected)]
                for result, values in pairs:
                    samples.assert_close(result.full_tensor(), values, terms=10)


@pytest.mark.skipif(
    not torch._C._dispatch_has_kernel_for_dispatch_key(
        "gridsample_ext::grid_sample_double_backward", "CPU"
    ),
    reason="the op of second order has no CPU kernel",
)
@pytest.mark.parametrize("shape", [EVEN, UNEVEN, ONE_INPUT, ONE_GRID], ids=str)
def test_second_order_ops(processes, shape):
    processes.run(check_second_order, shape)


def check_compiled():
    mesh = mesh_of(RANKS)
    tensors, expected = single_process(CASE, EVEN)
    leaves = [distribute(tensor, parse("0"), mesh).requires_grad_() for tensor in tensors[:2]]

    def sample(input, grid):
        return gridsample_ext.grid_sample(input, grid, *CASE.options)

    output = torch.compile(sample, backend="aot_eager", fullgraph=True)(*leaves)
    weight = distribute(tensors[2], parse("0"), mesh)
    gradients = torch.autograd.grad((output * weight).sum(), leaves)
    for actual, values in zip((output.detach(), *gradients), expected, strict=True):
        assert actual.placements == (parse("0"),)
        samples.assert_close(actual.full_tensor(), values)


def test_compiled_dtensors(processes):
    processes.run(check_compiled)


def check_patched():
    """By channels, which PyTorch's own rules do not know."""
    mesh = mesh_of(RANKS)
    tensors, expected = single_process(CASE, EVEN)
    input, grid = distribute(tensors[0], parse("1"), mesh), distribute(tensors[1], parse("R"), mesh)
    with gridsample_ext.patch(native=True):
        output = F.grid_sample(input, grid, *CASE.options)
    assert output.placements == (parse("1"),)
    samples.assert_close(output.full_tensor(), expected[0])


def test_patched_function(processes):
    processes.run(check_patched)


def check_refused():
    mesh = mesh_of(RANKS)
    input, grid, _ = single_process(CASE, EVEN)[0]
    with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor"):
        gridsample_ext.grid_sample(distribute(input, parse("0"), mesh), grid, *CASE.options)
    with pytest.raises(RuntimeError, match="same batch size"):
        gridsample_ext.grid_sample(
            distribute(input, parse("0"), mesh),
            distribute(grid[:3], parse("0"), mesh),
            *CASE.options,
        )


def test_what_is_refused(processes):
    processes.run(check_refused)


def test_distributed_tensors_are_not_imported():
    """Neither with the package, nor by a call with plain tensors or parameters."""
    program = """if True:
        import sys
        import torch
        before = set(sys.modules)
        import gridsample_ext
        input, grid = torch.nn.Parameter(torch.ones(1, 1, 2, 2)), torch.zeros(1, 1, 1, 2)
        gridsample_ext.grid_sample(input, grid, align_corners=False)
        with gridsample_ext.patch():
            torch.nn.functional.grid_sample(input, grid, align_corners=False)
        print(*(name for name in set(sys.modules) - before if "distributed.tensor" in name))
    """
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not output.strip()
