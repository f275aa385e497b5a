"""Parses an epmd's replies into typed values, for the client: the opposite direction of `protocol`.

A separate module, because the interactive calls print replies as they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..conventions import MOST_DIGITS
from ..protocol import Alive2Request, ProtocolError
from ..wire import ALIVE2_REQ, PORT2_RESP

_BEGINNING = b"name "
#: A name may contain the text of a line's end, but then what follows is not the beginning of a line.
_END_OF_LINE = re.compile(rb" at port ([0-9]+)\n(?=name |\Z)")
_DUMPED = re.compile(
    rb"(?:\A|(?<=\0))(?:(active name    )|old/unused name) <([^\0]*)>,?"
    rb" (?:at port|port =) ([0-9]{1,%d}), fd = ([0-9]{1,%d}) ?\n(?=\0|\Z)" % (MOST_DIGITS, MOST_DIGITS)
)


class NamedPort(NamedTuple):
    """A line of NAMES."""

    name: str
    port: int


class NodeInfo(NamedTuple):
    """What a node has registered, as a look-up finds it.

    `port` is where it listens for other nodes. `node_type` is HIDDEN_NODE or NORMAL_NODE. `protocol` is 0 for
    TCP. `highest` and `lowest` are the distribution versions that the node supports.
    """

    name: str
    port: int
    node_type: int
    protocol: int
    highest: int
    lowest: int
    extra: bytes


class DumpedNode(NamedTuple):
    """A line of DUMP. `fd` is the descriptor of the node's connection in the epmd."""

    name: str
    port: int
    fd: int


class Dump(NamedTuple):
    """The contents of DUMP: the live nodes, newest first, and the former ones."""

    active: list[DumpedNode]
    unused: list[DumpedNode]


def parse_names(text: bytes) -> list[NamedPort]:
    """Parse the text of NAMES. Anything that is not a line of NAMES is skipped."""
    found = []
    start = looked_at = 0
    # The end of each line first: the other order takes 7 s for 40 KB of beginnings without an end.
    for end in _END_OF_LINE.finditer(text):
        begin = text.find(_BEGINNING, max(start, looked_at), end.start())
        if begin < 0:
            # The rest may contain part of a beginning.
            looked_at = end.start() - len(_BEGINNING) + 1
            continue
        if len(end[1]) <= MOST_DIGITS:
            found.append(NamedPort(text_of(text[begin + len(_BEGINNING) : end.start()]), int(end[1])))
        start = end.end()
    return found


def parse_dump(text: bytes) -> Dump:
    """Parse the text of DUMP. Anything that is not a line of DUMP is skipped."""
    dump = Dump([], [])
    for line in _DUMPED.finditer(text):
        nodes = dump.active if line[1] else dump.unused
        nodes.append(DumpedNode(text_of(line[2]), int(line[3]), int(line[4])))
    return dump


def registration_of(reply: bytes) -> Alive2Request | None:
    """Return the request by which the node of a look-up was registered, or None if there is no such node.

    Raises ProtocolError.
    """
    if reply[:1] != bytes((PORT2_RESP,)) or len(reply) < 2:
        raise ProtocolError("not a PORT2_RESP")
    if reply[1]:
        return None
    return Alive2Request.parse(bytes((ALIVE2_REQ,)) + reply[2:])


def text_of(name: bytes) -> str:
    """Return a name from the wire. A byte that is not UTF-8 becomes a lone surrogate."""
    return name.decode("utf-8", "surrogateescape")
