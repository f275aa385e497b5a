"""Makes a mapper go on with the nodes and connections of another process, whose sockets this process has."""

from __future__ import annotations

import _socket
from typing import Any, NamedTuple

from ..protocol import Alive2Request
from .connection import Connection
from .mapper import Mapper
from .registry import Node


class Inheritance(NamedTuple):
    """What another process has left: connected sockets, and what it knew.

    `nodes` are registrations with their connections, the oldest first. `unread` are connections whose request
    nobody has read. `answered` are connections of refused nodes, which stay open until the peer closes.
    `remembered` are names of former nodes, with the descriptors for DUMP. `creation` is
    its greatest creation, or 0.
    """

    nodes: list[tuple[Alive2Request, _socket.socket]]
    unread: list[_socket.socket]
    answered: list[_socket.socket]
    remembered: list[tuple[Alive2Request, int]]
    creation: int


class _Answered(Connection):
    """The connection of a node that has its answer: it is registered as `node`, or was refused."""

    __slots__ = ("node",)
    node: Node | None

    def _serve(self) -> None:
        if self.node is None:
            self._stay_refused(None)
        else:
            self._stay_registered(self.node, None)


def inherit(mapper: Mapper, left: Inheritance) -> None:
    """Register the nodes in the mapper, and continue with all connections once its event loop runs.

    Raises NodeRefused if the mapper cannot have so many nodes.
    """
    mapper.registry.follow(left.creation)
    for former, fd in left.remembered:
        mapper.registry.remember(former, fd)
    later = mapper.hub.loop.run_callback
    refused = [(None, sock) for sock in left.answered]
    for request, sock in [*left.nodes, *refused]:
        connection = _Answered(mapper, sock, _peer(sock))
        connection.node = mapper.node_reg(request, connection) if request else None
        later(connection.start)
    for sock in left.unread:
        later(mapper.listeners[0].serve_socket, sock, _peer(sock))


def _peer(sock: _socket.socket) -> tuple[Any, ...]:
    try:
        peer: tuple[Any, ...] = sock.getpeername()
    except OSError:
        return ("", 0)  # it has disconnected
    return peer
