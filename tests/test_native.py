"""The kernels without PyTorch's library, against plain loops in C++: tests/native/.

The only place where those of aarch64 run on a machine of another kind: cross-compiled, by qemu.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "native"))
import build_native


def run(machine, *arguments, **environment):
    command = [*build_native.emulator(machine), str(build_native.build(machine)), *arguments]
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("GRIDSAMPLE_EXT_")}
    result = subprocess.run(command, capture_output=True, text=True, env=kept | environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.mark.compiles
@pytest.mark.parametrize("machine", sorted(build_native.MACHINES))
def test_kernels_agree_with_plain_loops(machine):
    reason = build_native.why_not(machine)
    if reason is not None:
        pytest.skip(f"{machine}: {reason}")
    names = run(machine, "--list")
    assert names[0] == {"x86_64": "baseline", "aarch64": "neon"}[machine]
    for name in names:
        for gathers in "01" if name.startswith("avx") else "0":
            lines = run(machine, GRIDSAMPLE_EXT_ISA=name, GRIDSAMPLE_EXT_GATHERS=gathers)
            types = [line.split(":")[0] for line in lines]
            assert types == [f"{name}, {t}" for t in ("float", "double", "float16", "bfloat16")]
            compared = [int(line.split(": ")[1].split()[0]) for line in lines]
            assert min(compared[:2]) > 5000


def test_aarch64_has_fused_vectors():
    reason = build_native.why_not("aarch64")
    if reason is not None:
        pytest.skip(f"aarch64: {reason}")
    folder = build_native.build("aarch64").parent
    cross = build_native.host_machine() != "aarch64"
    objdump = "aarch64-linux-gnu-objdump" if cross else "objdump"
    for compute_type, lanes in (("float", "4s"), ("double", "2d")):
        for kernel in ("forward", "backward", "second_order"):
            (compiled,) = folder.glob(f"*_{kernel}_neon_{compute_type}.o")
            code = subprocess.check_output([objdump, "-d", compiled], text=True)
            fused = sum("\tfmla\t" in line and f".{lanes}" in line for line in code.splitlines())
            assert fused > 100, (kernel, compute_type, fused)
            # Rounding calls no function.
            assert not any(f"<{name}>" in code for name in ("rint", "floor", "rintf", "floorf"))
