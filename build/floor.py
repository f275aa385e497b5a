"""Which C library the executables in a folder need: floor.py FOLDER [--at-most VERSION]

FOLDER has both forms, epmd and gevent-epmd. Prints where they run, in one line. With --at-most, status 1 and
what is to blame if they need a newer glibc than that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import elf

#: {distribution: {release: its glibc}}, of those that are supported, or were lately.
DISTRIBUTIONS = {
    "Debian": {"10": "2.28", "11": "2.31", "12": "2.36", "13": "2.41"},
    "Ubuntu": {"18.04": "2.27", "20.04": "2.31", "22.04": "2.35", "24.04": "2.39", "26.04": "2.43"},
    "RHEL, Alma and Rocky": {"8": "2.28", "9": "2.34", "10": "2.39"},
    "Fedora": {"29": "2.28", "32": "2.31", "35": "2.34", "36": "2.35", "37": "2.36", "42": "2.41"},
    "Amazon Linux": {"2": "2.26", "2023": "2.34"},
    "openSUSE Leap": {"15.3": "2.31", "15.6": "2.38", "16.0": "2.40"},
}  # fmt: skip
_GLIBC = "GLIBC_"
_MUSL = b"libc.musl-"
_BEGINNING = b"\x7fELF"


def parsed(version: str) -> tuple[int, ...]:
    """2.28 -> (2, 28)"""
    return tuple(map(int, version.split(".")))


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of the ELF files in a folder, or of those that a file has inside.

    The one-file executable is a launcher with all libraries behind it, uncompressed, so that each begins
    somewhere in the file."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file() and not inner.is_symlink():
                yield from files(inner)
        return
    content = path.read_bytes()
    at = content.find(_BEGINNING)
    while at >= 0:
        yield (path.name if at == 0 else f"{path.name}, at byte {at}"), content[at:]
        at = content.find(_BEGINNING, at + 1)


def floors(path: Path) -> dict[str, str]:
    """Return {file: the newest version of glibc's symbols that it needs}, without those that need none."""
    found = {}
    for name, content in files(path):
        versions = {
            version.removeprefix(_GLIBC)
            for of_library in elf.needed_versions(content).values()
            for version in of_library
            if version.startswith(_GLIBC) and version.removeprefix(_GLIBC)[0].isdigit()
        }
        if versions:
            found[name] = max(versions, key=parsed)
    return found


def needs_musl(path: Path) -> bool:
    return any(_MUSL in content for _, content in files(path))


def distributions(floor: str) -> list[str]:
    """Return the first release of each distribution that has this glibc, as "Debian 12"."""
    found = []
    for name, releases in DISTRIBUTIONS.items():
        enough = [release for release, version in releases.items() if parsed(version) >= parsed(floor)]
        if enough:
            found.append(f"{name} {enough[0]}")
    return found


def description(floor: str) -> str:
    known = distributions(floor)
    if not known:
        return f"needs glibc {floor} or newer"
    return f"needs glibc {floor}: {', '.join(known)}, or newer"


def main() -> None:
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--at-most", metavar="VERSION")
    options = arguments.parse_args()
    found = floors(options.folder)
    if not found:
        print("needs musl 1.2" if needs_musl(options.folder) else "needs no C library of the system")
        return
    floor = max(found.values(), key=parsed)
    print(description(floor))
    most = parsed(options.at_most or floor)
    blamed = [f"{name} needs {version}" for name, version in found.items() if parsed(version) > most]
    if blamed:
        sys.exit(f"more than glibc {options.at_most}: {'; '.join(blamed)}")


if __name__ == "__main__":
    main()
