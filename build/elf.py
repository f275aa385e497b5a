"""Reads and changes the dynamic section of ELF files, of either word size and byte order.

elf(5) has the structures; the fields that are read here have the same order in both word sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC = b"\x7fELF"
_PT_DYNAMIC = 2
_DT_NULL = 0
_DT_RPATH = 15
_DT_RUNPATH = 29
#: Is for debuggers, and only in executables: the dynamic linker skips it in a library.
_DT_DEBUG = 21


def drop_search_path(content: bytearray) -> bool:
    """Remove DT_RPATH and DT_RUNPATH in place; says whether there was one.

    Anything that is no ELF file, or has no dynamic section, stays as it is."""
    entries = [at for at, tag in _dynamic(content) if tag in (_DT_RPATH, _DT_RUNPATH)]
    for at in entries:
        size = struct.calcsize(_word(content))
        content[at : at + size] = struct.pack(_word(content), _DT_DEBUG)
    return bool(entries)


def _word(content: bytearray) -> str:
    """The format of an address or offset."""
    order = "<" if content[5] == 1 else ">"
    return order + ("Q" if content[4] == 2 else "I")


def _read(content: bytearray, word: str, at: int) -> int:
    value: int
    (value,) = struct.unpack_from(word, content, at)
    return value


def _dynamic(content: bytearray) -> Iterator[tuple[int, int]]:
    """Where each entry of the dynamic section is, and its tag."""
    if not content.startswith(_MAGIC):
        return
    word = _word(content)
    size, half = struct.calcsize(word), word[0] + "H"
    table = _read(content, word, 24 + size)
    entry_size, count = (_read(content, half, 30 + 3 * size + offset) for offset in (0, 2))
    for number in range(count):
        segment = table + number * entry_size
        if _read(content, word[0] + "I", segment) != _PT_DYNAMIC:
            continue
        at = _read(content, word, segment + (8 if size == 8 else 4))
        while (tag := _read(content, word, at)) != _DT_NULL:
            yield at, tag
            at += 2 * size
