"""What compiled libraries offer and need."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TORCH_LIBRARIES = Path(torch.__file__).parent / "lib"

needs_binutils = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("nm") is None, reason="needs Linux and binutils"
)


def symbols(library, *options):
    """Names in the dynamic symbol table, without versions."""
    lines = subprocess.run(
        ["nm", "-D", *options, str(library)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines if " w " not in line}


def linked_libraries(library):
    """Paths of those that the loader finds by itself: of the C and C++ libraries."""
    lines = subprocess.run(
        ["ldd", str(library)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    words = [word for line in lines for word in line.split() if word.startswith("/")]
    return [word for word in words if not word.startswith(str(TORCH_LIBRARIES))]
