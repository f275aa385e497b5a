"""What an epmd answers -> typed values: the other way round of `protocol`, for who asks.

A module of its own, since the interactive calls pass texts on as they are, and every start of a node
would pay for it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .protocol import ALIVE2_REQ, ALIVE2_X_RESP, PORT2_RESP, Alive2Request, ProtocolError

ALIVE2_X_RESP_SIZE = 6


class NamedPort(NamedTuple):
    """A line of NAMES."""

    name: str
    port: int


class DumpedNode(NamedTuple):
    """A line of DUMP; `fd` is the descriptor of the node's connection in the epmd."""

    name: str
    port: int
    fd: int


class Dump(NamedTuple):
    """All of DUMP: the live nodes, newest first, and those that have gone."""

    active: list[DumpedNode]
    unused: list[DumpedNode]


def parse_names(text: bytes) -> list[NamedPort]:
    """The text of NAMES; what is no line of it is passed over."""
    # A name may hold the end of a line, but then no beginning of one comes after it.
    found = re.finditer(rb"name (.*?) at port (\d+)\n(?=name |\Z)", text, re.DOTALL)
    return [NamedPort(_text(name), int(port)) for name, port in (match.groups() for match in found)]


def parse_dump(text: bytes) -> Dump:
    """The text of DUMP; what is no line of it is passed over."""

    def nodes(kind: bytes) -> list[DumpedNode]:
        line = kind + rb" <(.*)>,? (?:at port|port =) (\d+), fd = (\d+) ?\n"
        found = filter(None, (re.fullmatch(line, part, re.DOTALL) for part in text.split(b"\0")))
        return [DumpedNode(_text(match[1]), int(match[2]), int(match[3])) for match in found]

    return Dump(nodes(b"active name    "), nodes(b"old/unused name"))


def parse_port2_reply(reply: bytes) -> Alive2Request | None:
    """What the node has registered with, or None if there is no such node.  Raises ProtocolError."""
    if reply[:1] != bytes((PORT2_RESP,)) or len(reply) < 2:
        raise ProtocolError("no PORT2_RESP")
    if reply[1]:
        return None
    return Alive2Request.parse(bytes((ALIVE2_REQ,)) + reply[2:])


def parse_alive2_reply(reply: bytes) -> int | None:
    """The creation in the 32-bit form of the reply, or None if the node was refused.  Raises
    ProtocolError."""
    if reply[:1] != bytes((ALIVE2_X_RESP,)) or len(reply) < ALIVE2_X_RESP_SIZE:
        raise ProtocolError("no ALIVE2_X_RESP")
    creation = int.from_bytes(reply[2:ALIVE2_X_RESP_SIZE], "big")
    return creation if reply[1] == 0 else None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
