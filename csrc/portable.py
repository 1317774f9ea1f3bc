"""Makes libraries run on machines of manylinux_2_28, whatever newer machine builds them.

A library needs each symbol in the version that the linker took, which is the newest. A machine
without that version does not load the library. Two things are done about it:

-   glibc keeps old versions of its functions for old programs: ``pthread_create`` has the versions
    GLIBC_2.34 and, on x86-64, GLIBC_2.2.5. ``old_glibc`` makes libraries that offer only the old
    ones, to link with before glibc itself. What the two versions do is alike.
-   Symbols without an old version are defined in csrc/portable.cpp.

Machines of manylinux_2_28 have glibc 2.28, and the libstdc++ of GCC 8.
"""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

PLATFORM = "manylinux_2_28"
#: The newest version there of each family of versions, as auditwheel has them.
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11)}

SOURCE = Path(__file__).with_name("portable.cpp")


def _symbols(library: str | Path, which: str) -> list[tuple[str, str, str, tuple[int, ...]]]:
    """Of the symbols that have a version: kind (nm's letter), name, family and version."""
    lines = subprocess.run(
        ["nm", "-D", which, "--with-symbol-versions", str(library)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    found = (re.search(r" (\w) ([^@ ]+)@@?([A-Z]+)_([\d.]+)$", line) for line in lines)
    return [
        (kind, name, family, tuple(map(int, version.split("."))))
        for kind, name, family, version in (match.groups() for match in found if match)
    ]


def needed_symbols(library: Path) -> dict[str, dict[tuple[int, ...], list[str]]]:
    """The symbols that a library needs, by family of versions (GLIBC, GLIBCXX, ...) and version."""
    needed: dict[str, dict[tuple[int, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for _, name, family, version in _symbols(library, "--undefined-only"):
        needed[family][version].append(name)
    return needed


def newest_versions(library: Path) -> str:
    """The newest version of each family that a library needs: "GLIBC 2.14, GLIBCXX 3.4.21"."""
    needed = needed_symbols(library)
    return ", ".join(
        f"{family} {_text(max(needed[family]))}" for family in NEWEST if family in needed
    )


def too_new(library: Path) -> list[str]:
    """The symbols that a library needs and PLATFORM has not: "pow of GLIBC 2.29"."""
    return [
        f"{name} of {family} {_text(version)}"
        for family, symbols in needed_symbols(library).items()
        for version, names in symbols.items()
        for name in names
        if family in NEWEST and version > NEWEST[family]
    ]


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def old_glibc(folder: Path, compiler: list[str]) -> list[str]:
    """Libraries to link with, made in a folder: glibc's functions in versions that PLATFORM has.

    Only functions that have a newer version, too, are among them. At run time the libraries are not
    needed: they have the names of glibc's own.
    """
    if sys.platform != "linux" or shutil.which("nm") is None:
        return []
    made = []
    for name in ("libc.so.6", "libm.so.6"):
        command = [*compiler, f"-print-file-name={name}"]
        library = Path(subprocess.run(command, capture_output=True, text=True).stdout.strip())
        functions = _functions_with_old_versions(library) if library.is_absolute() else {}
        if functions:
            made.append(str(_make_library(folder / "old_glibc" / name, functions, compiler)))
    return made


def _functions_with_old_versions(library: Path) -> dict[str, tuple[int, ...]]:
    """For functions whose newest version PLATFORM has not, the newest that it has."""
    versions: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for kind, name, family, version in _symbols(library, "--defined-only"):
        if family == "GLIBC" and kind in "TWi":  # text, weak text, chosen when it is loaded
            versions[name].add(version)
    return {
        name: max(version for version in known if version <= NEWEST["GLIBC"])
        for name, known in sorted(versions.items())
        if max(known) > NEWEST["GLIBC"] >= min(known)
    }


def _make_library(
    library: Path, functions: dict[str, tuple[int, ...]], compiler: list[str]
) -> Path:
    """A shared library of empty functions, each in its version."""
    lines = ['.section .note.GNU-stack, "", %progbits', ".text"]
    for index, (name, version) in enumerate(functions.items()):
        label = f"gridsample_{index}"
        lines += [f".globl {label}", f".type {label}, %function", f"{label}:"]
        lines += [f".symver {label}, {name}@@GLIBC_{_text(version)}"]
    source, versions = library.with_suffix(".s"), library.with_suffix(".versions")
    text = "\n".join(lines) + "\n"
    if library.exists() and source.exists() and source.read_text() == text:
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    versions.write_text(
        "\n".join(
            f"GLIBC_{_text(version)} {{ local: gridsample_*; }};"
            for version in sorted(set(functions.values()))
        )
    )
    options = ["-shared", "-nostdlib", f"-Wl,-soname,{library.name}"]
    options += [f"-Wl,--version-script={versions}", "-x", "assembler", str(source)]
    subprocess.run([*compiler, *options, "-o", str(library)], check=True)
    return library
