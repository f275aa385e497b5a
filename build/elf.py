"""Reads and changes the dynamic section of ELF files, of either word size and byte order.

elf(5) has the structures; the fields that are read here have the same order in both word sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC = b"\x7fELF"
_PT_LOAD = 1
_PT_DYNAMIC = 2
_DT_NULL = 0
_DT_STRTAB = 5
_DT_RPATH = 15
_DT_RUNPATH = 29
#: Is for debuggers, and only in executables: the dynamic linker skips it in a library.
_DT_DEBUG = 21
_DT_VERNEED = 0x6FFFFFFE
_DT_VERNEEDNUM = 0x6FFFFFFF


def drop_search_path(content: bytearray) -> bool:
    """Remove DT_RPATH and DT_RUNPATH in place; says whether there was one.

    Anything that is no ELF file, or has no dynamic section, stays as it is."""
    entries = [at for at, tag in _dynamic(content) if tag in (_DT_RPATH, _DT_RUNPATH)]
    for at in entries:
        size = struct.calcsize(_word(content))
        content[at : at + size] = struct.pack(_word(content), _DT_DEBUG)
    return bool(entries)


def needed_versions(content: bytes) -> dict[str, set[str]]:
    """Return the symbol versions that the dynamic linker must find: {"libc.so.6": {"GLIBC_2.28", ...}, ...}

    Empty for what is no ELF file, is linked statically, or for a C library without symbol versions (musl)."""
    found: dict[str, set[str]] = {}
    entries = {tag: at for at, tag in _dynamic(content)}
    if _DT_VERNEED not in entries:
        return found
    word = _word(content)
    values = {
        tag: _read(content, word, entries[tag] + struct.calcsize(word))
        for tag in (_DT_VERNEED, _DT_VERNEEDNUM, _DT_STRTAB)
    }
    names = _offset(content, values[_DT_STRTAB])
    at = _offset(content, values[_DT_VERNEED])
    for _ in range(values[_DT_VERNEEDNUM]):
        _, count, library, first, following = struct.unpack_from(word[0] + "HHIII", content, at)
        versions = found.setdefault(_text(content, names + library), set())
        version = at + first
        for _ in range(count):
            _, _, _, name, step = struct.unpack_from(word[0] + "IHHII", content, version)
            versions.add(_text(content, names + name))
            version += step
        at += following
    return found


def _text(content: bytes, at: int) -> str:
    return bytes(content[at : content.index(b"\0", at)]).decode()


def _offset(content: bytes, address: int) -> int:
    """Where in the file that is which is loaded at this address."""
    for segment in _segments(content, _PT_LOAD):
        word = _word(content)
        at, virtual, size = (_read(content, word, segment + skipped) for skipped in _fields(word))
        if virtual <= address < virtual + size:
            return at + address - virtual
    raise ValueError(f"address {address:#x} is in no segment")


def _fields(word: str) -> tuple[int, int, int]:
    """Where a program header has the segment's place in the file, its address, and its size in the file."""
    return (8, 16, 32) if struct.calcsize(word) == 8 else (4, 8, 16)


def _word(content: bytes) -> str:
    """The format of an address or offset."""
    order = "<" if content[5] == 1 else ">"
    return order + ("Q" if content[4] == 2 else "I")


def _read(content: bytes, word: str, at: int) -> int:
    value: int
    (value,) = struct.unpack_from(word, content, at)
    return value


def _segments(content: bytes, kind: int) -> Iterator[int]:
    """Where each program header of this kind is."""
    if not content.startswith(_MAGIC):
        return
    word = _word(content)
    size, half = struct.calcsize(word), word[0] + "H"
    table = _read(content, word, 24 + size)
    entry_size, count = (_read(content, half, 30 + 3 * size + offset) for offset in (0, 2))
    for number in range(count):
        segment = table + number * entry_size
        if _read(content, word[0] + "I", segment) == kind:
            yield segment


def _dynamic(content: bytes) -> Iterator[tuple[int, int]]:
    """Where each entry of the dynamic section is, and its tag."""
    for segment in _segments(content, _PT_DYNAMIC):
        word = _word(content)
        size = struct.calcsize(word)
        at = _read(content, word, segment + _fields(word)[0])
        while (tag := _read(content, word, at)) != _DT_NULL:
            yield at, tag
            at += 2 * size
