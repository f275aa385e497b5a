"""The licences of everything in this program, for `epmd --licences`.

build/licences.py collects them into one file for the executables. In the folder form the file is next to the
libraries. In the one-file form it is appended to the modules, with the libraries that only a server needs,
and is read from there without being unpacked. From source, the licences are collected from the installed
packages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

from .. import is_frozen, is_one_file

#: The name of the file in the executables.
FILE = "licences.txt"
#: The packages that gevent_epmd needs from source, by their names in package indexes.
PACKAGES = ("gevent-epmd", "docopt-ng", "gevent", "greenlet", "zope.event", "zope.interface")
_LINE = "=" * 72
#: What the names of licence files begin with.
_LICENCES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")


class Part(NamedTuple):
    """A component of the program.

    `licence` is an SPDX expression or, if there is none, what the author wrote instead. `texts` has the
    licence texts and notices.
    """

    name: str
    version: str
    licence: str
    texts: tuple[str, ...]


def text() -> str:
    """Return all licences. Raises OSError, and ImportError if the one-file executable no longer exists."""
    if is_one_file():
        from zipimport import zipimporter

        return zipimporter(sys.executable).get_data(FILE).decode()
    if is_frozen():
        return _read(os.path.join(sys._MEIPASS, FILE))  # type: ignore[attr-defined]
    from importlib.metadata import PackageNotFoundError

    parts = [of_python()]
    for name in PACKAGES:
        try:
            parts.append(of_package(name))
        except PackageNotFoundError:
            pass  # a newer release may not need it, and a checkout may not be installed
    return page(parts)


def page(parts: Iterable[Part]) -> str:
    """Return the licences of the parts as one text, each below a heading."""
    pages = []
    for part in parts:
        heading = f"{_LINE}\n{part.name} {part.version}: {part.licence}\n{_LINE}\n"
        texts = "\n\n".join(text.strip("\n") for text in part.texts)
        pages.append(f"{heading}\n{texts}\n")
    return "\n".join(pages)


def of_package(name: str) -> Part:
    """Return the licence of an installed package. Raises importlib.metadata.PackageNotFoundError."""
    from importlib.metadata import distribution

    package = distribution(name)
    said = package.metadata.json
    licence = str(said.get("license_expression") or said.get("license") or "see below").splitlines()[0]
    # Not all packages list these files in their metadata.
    texts = [
        file.read_text(encoding="utf-8")
        for file in sorted(package.files or ())
        if file.parts[0].endswith(".dist-info") and file.name.startswith(_LICENCES)
    ]
    return Part(name, package.version, licence, tuple(texts))


def of_python() -> Part:
    """Return the licence of this Python. Each distribution keeps the text in a different place."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    library = os.path.dirname(os.__file__)
    packages = (f"libpython{version}-minimal", f"python{version}")
    debian = [f"/usr/share/doc/{package}/copyright" for package in packages]
    paths = [f"{library}/LICENSE.txt", *debian, f"{os.path.dirname(library)}/LICENSE.txt"]
    found = [path for path in paths if os.path.exists(path)][:1]
    return Part("Python", sys.version.split()[0], "PSF-2.0", tuple(map(_read, found)))


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
