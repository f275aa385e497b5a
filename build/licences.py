"""What the executables are made of, by whom, and under which licences.

The spec calls `components` with all that it puts into them, and ships the licences as one file.  What nobody
here knows is a component "unknown", without a licence; the tests do not let it pass.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gevent_epmd.program.executable import licences
from gevent_epmd.program.executable.licences import Part

ROOT = Path(__file__).parents[1]
TEXTS = ROOT / "build" / "licence-texts"
UNKNOWN = "unknown"
OURS, PYTHON, PYINSTALLER = "gevent-epmd", "Python", "pyinstaller"
#: What a compiler links into what it compiles.
GCC, LLVM = "GCC runtime", "LLVM runtime"
PACKAGES = ("docopt-ng", "gevent", "greenlet", PYINSTALLER)

#: Who made a shared library, by the beginning of its name.
LIBRARIES = {
    "libpython": PYTHON,
    "libz": "zlib",
    "libexpat": "expat",
    "libffi": "libffi",
    "libzstd": "zstd",
    "libstdc++": GCC,
    "libgcc_s": GCC,
}
#: What is inside another one's file, by the name of that in the bundle.
INSIDE = {
    "gevent/libev/corecext": "libev",
    "greenlet/_greenlet": GCC,
}
#: A licence as an SPDX expression, and its texts in TEXTS, of what is no Python package.
KNOWN = {
    "zlib": ("Zlib", ["zlib"]),
    "expat": ("MIT", ["expat"]),
    # _ctypes needs libffi, unless libpython holds both; libpython of Debian's Python 3.15 needs libzstd.
    "libffi": ("MIT", ["libffi"]),
    "zstd": ("(BSD-3-Clause OR GPL-2.0-only) AND MIT", ["zstd"]),
    GCC: ("GPL-3.0-or-later WITH GCC-exception-3.1", ["gcc-exception", "gpl-3.0"]),
    LLVM: ("Apache-2.0 WITH LLVM-exception", ["llvm"]),
    "libev": ("BSD-2-Clause OR GPL-2.0-or-later", ["libev"]),
}
#: Where the version is to be found in the file itself; libffi has it from 3.5 on.
VERSIONS = {
    "zlib": rb"inflate (\d[\d.]+\d) Copyright",
    "expat": rb"expat_(\d+\.\d+\.\d+)",
    "libffi": rb"(?<![\w.])(3\.\d+\.\d+)\0",  # numbers may be in front of it
    "zstd": rb"\0(1\.\d+\.\d+)\0",
}


class Entry(NamedTuple):
    """A module or a file of the executables, and where it comes from."""

    name: str
    path: str


class Component(NamedTuple):
    """Who made them, and the names and the origins of what is theirs."""

    part: Part
    entries: list[Entry]


def components(entries: Iterable[Entry]) -> list[Component]:
    """All of them, sorted by name, each with its entries; one that is inside another one's file has none."""
    owned: dict[str, list[Entry]] = {}
    owner = _Owners()
    outer: dict[str, str] = {}
    for entry in sorted(set(entries)):
        owned.setdefault(owner.of(entry), []).append(entry)
        for inner in _inside(entry):
            owned.setdefault(inner, [])
            outer.setdefault(inner, entry.path)
    # The file in which the version is to be looked for.
    origin = {name: theirs[0].path if theirs else outer[name] for name, theirs in owned.items()}
    return [Component(_part(name, origin[name]), owned[name]) for name in sorted(owned, key=str.lower)]


class _Owners:
    """Who made a file, by its path."""

    def __init__(self) -> None:
        self._files = {path: name for name in PACKAGES for path in _files(distribution(name))}
        self._python = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}

    def of(self, entry: Entry) -> str:
        path = os.path.realpath(entry.path)
        if path in self._files:
            return self._files[path]
        if path.startswith(f"{ROOT}/") and not path.startswith((f"{ROOT}/.venv/", f"{ROOT}/.scratch/")):
            return OURS
        if any(path.startswith(f"{folder}/") for folder in self._python) and "/site-packages/" not in path:
            return PYTHON
        library = re.match(r"[a-z_+]+(?=[\d.-])", os.path.basename(path))
        return LIBRARIES.get(library[0] if library else "", UNKNOWN)


def _files(package: Distribution) -> Iterator[str]:
    return (os.path.realpath(package.locate_file(file)) for file in package.files or ())


def _inside(entry: Entry) -> Iterator[str]:
    name = re.split(r"\.cpython-|\.so\.", entry.name)[0].rpartition("lib-dynload/")[2]
    if name in INSIDE and not (INSIDE[name] == GCC and _needs(entry.path, "libstdc++")):
        yield LLVM if INSIDE[name] == GCC and b"clang" in _compiler("--version") else INSIDE[name]
    # Linked statically, as in the Python of scripts/portable.
    if re.match(r"libpython\d|zlib$", name) and re.search(VERSIONS["zlib"], Path(entry.path).read_bytes()):
        yield "zlib"
    if name == "_ctypes" and entry.path.endswith(".so") and not _needs(entry.path, "libffi"):
        yield "libffi"


def _compiler(option: str) -> bytes:
    return subprocess.check_output(["c++", option])


def _needs(path: str, library: str) -> bool:
    return library.encode() in subprocess.check_output(["readelf", "-d", path])


def _part(name: str, path: str) -> Part:
    if name == PYTHON:
        python = licences.of_python()
        # Python's licence file does not have those of the code by others that is in its interpreter.
        names = ["python-incorporated"]
        if (
            find_spec("encodings").origin == "frozen"
        ):  # that of scripts/portable; its licence asks for this summary
            names.append("python-changes")
        return python._replace(texts=(*python.texts, *_texts(*names)))
    if name == PYINSTALLER:
        return licences.of_package(name)._replace(licence="GPL-2.0-or-later WITH Bootloader-exception")
    if name == OURS or name in PACKAGES:
        return licences.of_package(name)
    licence, texts = KNOWN.get(name, ("NOASSERTION", []))
    return Part(name, _version(name, path), licence, _texts(*texts))


def _texts(*names: str) -> tuple[str, ...]:
    return tuple((TEXTS / f"{name}.txt").read_text(encoding="utf-8") for name in names)


def _version(name: str, path: str) -> str:
    if name == "libev":
        from gevent.libev import corecext

        return corecext.get_version().removeprefix("libev-")
    if name == LLVM:
        found = re.search(rb"clang version (\d+\.\d+\.\d+)", _compiler("--version"))
        return found[1].decode() if found else UNKNOWN
    if name == GCC and not re.search(r"\.so\.[\d.]+$", path):  # it is inside another one's file
        return _compiler("-dumpfullversion").decode().strip()
    found = re.search(VERSIONS.get(name, b"$^"), Path(path).read_bytes())
    return found[1].decode() if found else _packaged_version(path)


def _packaged_version(path: str) -> str:
    """The version of a library that Debian's package manager has installed; "unknown" for any other one."""
    real = os.path.realpath(path)
    # The package may name the folder that /lib was before it became a link to /usr/lib.
    package, _, _ = _dpkg_query("-S", real, real.removeprefix("/usr")).partition(": ")
    version = re.match(r"\d+(\.\d+)+", _dpkg_query("-W", "-f", "${source:Upstream-Version}", package))
    return version[0] if version else UNKNOWN


def _dpkg_query(*arguments: str) -> str:
    try:
        return subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def write(found: Iterable[Component], folder: Path) -> Path:
    """What `epmd --licences` prints into a file of this folder, and all that is known into components.json,
    for build/sbom.py.  Gives the path of the first."""
    found = list(found)
    path = folder / licences.FILE
    path.write_text(licences.page(component.part for component in found), encoding="utf-8")
    records = [
        {"name": part.name, "version": part.version, "licence": part.licence, "entries": dict(entries)}
        for part, entries in found
    ]
    (folder / "components.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    return path
