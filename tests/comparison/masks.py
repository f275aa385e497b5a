"""What may differ between two runs of the same program, and so is masked before two are compared:
creations' values, descriptor numbers, times, port numbers; nothing else.  And what differs on purpose
in every complaint: only ours says whose it is. And at the debug levels 2 and 3 the time, which only C logs.

The same goes for the bytes of a hex dump: where its rows are well formed, they are read back into bytes,
masked, and written on one line; where they are not, they stay as they are, and differ.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from support.differences import in_new_words, is_listed

_TIME = re.compile(r"\b\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\b")
_SECONDS = re.compile(r"(?m)^.*\btime in seconds: \d+\r?\n")
assert is_listed("the time in the log of `-d -d -d`")
_DESCRIPTOR = re.compile(r"\b(fd = |file descriptor |ALIVE socket )\d+")
_CREATION = re.compile(r"('[^']*:|\"[^\"]*#)\d+(['\"])")

#: The end of a complaint, before how many more there were like it.
_PEER = re.compile(
    r" from (?:\d+(?:\.\d+){3}|\[[^\]\s]+\]):\d+(?=(?: \(and \d+ more like this\))?\r?(?:\n|$))"
)
assert is_listed("an error message about a peer")

_DUMP = re.compile(r"(: got )(\d+)( bytes\r\n)((?:\*{5} (?:[0-9a-f]{8}  |\.{6}).*\r\n)+)")
_MASKED_DUMP = re.compile(r"epmd: TIME: got (\d+) bytes\r\n\*{5} (b(['\"]).*\3)\r\n")
_MORE = "***** ......and more\r\n"
_DUMPED = 1024


def masked(text: str, port: int) -> str:
    """The text without its times, descriptors, creations, and the mapper's own port."""
    text = _DUMP.sub(lambda dump: _masked_dump(dump, port), text)
    text = without_peers(text)
    text = _SECONDS.sub("", text)
    text = _TIME.sub("TIME", text)
    text = _DESCRIPTOR.sub(r"\1FD", text)
    text = _CREATION.sub(r"\1CREATION\2", text)
    return re.sub(rf"\b{port}\b", "PORT", text)


def in_any_order(text: str) -> str:
    """A masked log without the order of its lines, and as if all that was read and written had been read and
    written at once. This is how the log of `-d -d` and of `-d -d -d` is compared."""
    dumps = [(int(size), ast.literal_eval(data)) for size, data, _ in _MASKED_DUMP.findall(text)]
    lines = sorted(_MASKED_DUMP.sub("", text).splitlines(keepends=True), key=in_new_words)
    if dumps:
        lines.append(f"got {sum(size for size, _ in dumps)} bytes {b''.join(data for _, data in dumps)!r}\n")
    return "".join(lines)


assert is_listed("the order of the log of `-d -d` and `-d -d -d`")


def without_peers(log: str) -> str:
    """The log as C words it: without the peers that complaints are about."""
    return _PEER.sub("", log)


def _masked_dump(dump: re.Match[str], port: int) -> str:
    start, count, end, rows = dump.groups()
    data = b"".join(bytes.fromhex(row[16:66]) for row in rows.splitlines() if not row.endswith("more"))
    size = int(count)
    if len(data) != min(size, _DUMPED) or "".join(_rows(data, more=size > _DUMPED)) != rows:
        return dump.group()
    shown = _masked_bytes(data, port)
    return f"{start}{size - len(data) + len(shown)}{end}***** {shown!r}\r\n"


def _masked_bytes(data: bytes, port: int) -> bytes:
    own = port.to_bytes(4, "big")
    if data.startswith(own):
        return b"PORT" + _masked_bytes(data[len(own) :], port)
    if re.fullmatch(rb"v\0.{4}|y\0.{2}", data, re.DOTALL):
        return data[:2] + b"CREATION"
    return re.sub(rb"\b(fd = )\d+", rb"\1FD", data)


def _rows(data: bytes, *, more: bool) -> Iterator[str]:
    """The dump as it must look, written from scratch."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        columns = "".join(f" {' ' if at == 8 else ''}{byte:02x}" for at, byte in enumerate(row))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"***** {start:08x} {columns:<50} |{text}|\r\n"
    if more:
        yield _MORE
