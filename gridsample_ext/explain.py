"""``python -m gridsample_ext.explain``: the plan of a call of given sizes, without running it."""

import argparse
import math
import re
import sys

import torch
from torch import Tensor

from gridsample_ext import explaining

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MOST = 2**59  # elements of a tensor: of 16 bytes they fill the address space
_DTYPES = (*_FLOATS, "uint8", "int16", "complex64", "complex128")


def _sizes(text: str) -> list[int]:
    """Of a tensor: ``8x3x224x224``."""
    if not re.fullmatch(r"\d+(x\d+){3,4}", text):
        raise argparse.ArgumentTypeError(
            f"expected four or five sizes, such as 8x3x224x224, but got {text!r}"
        )
    sizes = [int(size) for size in text.split("x")]
    if math.prod(sizes) >= _MOST:
        raise argparse.ArgumentTypeError(f"expected less than 2^59 elements, but got {text!r}")
    return sizes


def _threads(text: str) -> int:
    """A number of threads."""
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"expected at least 1, below 2^31, but got {text!r}")
    return int(text)


def _tensor(sizes: list[int], dtype: str, channels_last: bool = False) -> Tensor:
    """A tensor without data."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = formats[len(sizes)] if channels_last else torch.contiguous_format
    return torch.empty(sizes, dtype=getattr(torch, dtype), device="meta", memory_format=layout)


def main(argv: list[str] | None = None) -> None:
    """Print the plan of the forward pass, and of the backward pass if it is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m gridsample_ext.explain",
        description="Say which kernels a call of grid_sample takes on the CPU, and why.",
    )
    parser.add_argument("input", type=_sizes, help="sizes of the image, such as 8x3x224x224")
    parser.add_argument("grid", type=_sizes, help="sizes of the grid, such as 8x224x224x2")
    parser.add_argument("--mode", default="bilinear")
    parser.add_argument("--padding-mode", default="zeros", help="one, or border,zeros")
    parser.add_argument("--align-corners", action="store_true")
    parser.add_argument("--coordinates", default="normalized")
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="of the image")
    parser.add_argument("--grid-dtype", choices=_FLOATS, default="float32")
    parser.add_argument("--channels-last", action="store_true", help="the layout of the image")
    parser.add_argument("--threads", type=_threads, help="in place of PyTorch's number of threads")
    parser.add_argument("--backward", action="store_true", help="explain the backward pass, too")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    input = _tensor(arguments.input, arguments.dtype, arguments.channels_last)
    grid = _tensor(arguments.grid, arguments.grid_dtype)
    paddings = arguments.padding_mode.split(",")
    passes = ("forward", "backward") if arguments.backward else ("forward",)
    try:
        plans = {
            each: explaining.explain(
                input,
                grid,
                arguments.mode,
                paddings[0] if len(paddings) == 1 else paddings,
                arguments.align_corners,
                coordinates=arguments.coordinates,
                backward=each == "backward",
            )
            for each in passes
        }
    except (ValueError, TypeError, RuntimeError) as error:
        parser.error(str(error))
    print("\n\n".join(f"{name} pass\n{plan}" for name, plan in plans.items()))


if __name__ == "__main__":
    main()
else:
    # The package's function has the name of this command, and whoever imports the name gets it.
    sys.modules[__name__] = explaining.explain  # type: ignore[assignment]
