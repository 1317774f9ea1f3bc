"""Other implementations of grid sampling, behind one small interface.

Each is used when it is installed (``pip install --no-build-isolation -e '.[bench]'``), for the
cases it supports. All but PyTorch's own give the forward pass only, and get channels-first tensors,
the layout they know.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Case
from torch import Tensor

Forward = Callable[[], Any]


class Peer(ABC):
    """One implementation. A case is prepared once, then called many times."""

    name = ""
    # What has to be importable.
    modules: tuple[str, ...] = ()
    # How far its results may be from the exact ones, relative to the largest; None: by dtype.
    tolerance: float | None = None

    def installed(self) -> bool:
        """Whether it can be imported."""
        return all(importlib.util.find_spec(module) for module in self.modules)

    @abstractmethod
    def supports(self, case: Case) -> bool:
        """Whether it computes this case as torch.nn.functional.grid_sample does."""

    @abstractmethod
    def prepare(self, case: Case, input: Tensor, grid: Tensor, threads: int) -> Forward:
        """The call to be timed. Its result is a tensor or an array."""

    @staticmethod
    def to_tensor(case: Case, result: Any) -> Tensor:
        """The result as (N, C, *spatial)."""
        return result if isinstance(result, Tensor) else torch.from_numpy(np.asarray(result))


class Compiled(Peer):
    """torch.compile of F.grid_sample: it generates a kernel for each case.

    Compiling takes seconds a case, so only the plain ones are tried.
    """

    name = "torch.compile"

    def supports(self, case: Case) -> bool:
        plain = case.mode == "bilinear" and case.padding_mode == "zeros"
        return plain and case.grid == "smooth" and case.dtype == torch.float32

    def prepare(self, case: Case, input: Tensor, grid: Tensor, threads: int) -> Forward:
        torch.compiler.reset()  # it generates code for the number of threads it finds
        compiled = torch.compile(F.grid_sample, dynamic=False)
        options = case.options
        compiled(input, grid, **options)
        return lambda: compiled(input, grid, **options)


class OnnxRuntime(Peer):
    """The GridSample operator of opset 20 in ONNX Runtime, on the CPU."""

    name = "ONNX Runtime"
    modules = ("onnx", "onnxruntime")

    def supports(self, case: Case) -> bool:
        return case.dtype == torch.float32 and not (case.mode == "bicubic" and case.dims == 3)

    def prepare(self, case: Case, input: Tensor, grid: Tensor, threads: int) -> Forward:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper

        node = helper.make_node(
            "GridSample",
            ["input", "grid"],
            ["output"],
            mode={"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}[case.mode],
            padding_mode=case.padding_mode,
            align_corners=0,
        )

        def value(name: str, rank: int) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)

        graph = helper.make_graph(
            [node],
            "grid_sample",
            [value("input", input.dim()), value("grid", grid.dim())],
            [value("output", input.dim())],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=onnx.IR_VERSION_2023_5_5
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait in a loop would take the cores from whoever's turn is next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feeds = {"input": input.contiguous().numpy(), "grid": grid.contiguous().numpy()}
        return lambda: session.run(None, feeds)[0]


class OpenVino(Peer):
    """GridSample-9 in OpenVINO, on the CPU."""

    name = "OpenVINO"
    modules = ("openvino",)

    def supports(self, case: Case) -> bool:
        return case.dims == 2 and case.dtype == torch.float32

    def prepare(self, case: Case, input: Tensor, grid: Tensor, threads: int) -> Forward:
        import openvino
        from openvino import opset9

        image = opset9.parameter(list(input.shape), np.float32)
        points = opset9.parameter(list(grid.shape), np.float32)
        node = opset9.grid_sample(
            image,
            points,
            {"align_corners": False, "mode": case.mode, "padding_mode": case.padding_mode},
        )
        model = openvino.Model([node], [image, points])
        compiled = openvino.Core().compile_model(
            model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        )
        request = compiled.create_infer_request()
        feeds = [input.contiguous().numpy(), grid.contiguous().numpy()]
        return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)[0]


class OpenCv(Peer):
    """cv2.remap: one image of up to four channels, channels innermost; 1/32 pixel steps before 5.0.

    Its maps, coordinates in pixels, are made beforehand.
    """

    name = "OpenCV remap"
    modules = ("cv2",)
    tolerance = 0.1

    def supports(self, case: Case) -> bool:
        return (
            case.dims == 2
            and case.dtype == torch.float32
            and case.input[0] == 1
            and case.input[1] <= 4
            and case.mode == "bilinear"
            and case.padding_mode == "zeros"
        )

    def prepare(self, case: Case, input: Tensor, grid: Tensor, threads: int) -> Forward:
        import cv2

        cv2.setNumThreads(threads)
        image = input[0].permute(1, 2, 0).contiguous().numpy()
        size = torch.tensor(input.shape[:1:-1])
        pixels = ((grid[0] + 1) * size - 1) / 2
        x, y = (pixels[..., a].contiguous().numpy() for a in range(2))
        return lambda: cv2.remap(
            image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )

    @staticmethod
    def to_tensor(case: Case, result: Any) -> Tensor:
        rows = torch.from_numpy(result).reshape(*case.output, case.input[1])
        return rows.permute(2, 0, 1)[None]


def installed_peers() -> list[Peer]:
    """Those that can be used here."""
    peers = [Compiled(), OnnxRuntime(), OpenVino(), OpenCv()]
    return [peer for peer in peers if peer.installed()]
