"""Keeps what slow readers have not read of their replies, and tells which of them to close.

No I/O. All readers of one listing share one object, so it counts once. A new listing is made whenever a node
comes or goes, and then each slow reader may hold another one: without a limit on the sum, a few hundred
readers would take hundreds of megabytes.

Invariants:
- `total` is the size of all objects that are kept here, each counted once;
- a reader that has an object to itself keeps less than twice what it has not read.

C has no counterpart: it writes a reply without returning to its loop.
"""

from __future__ import annotations

from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .registry import Peer

#: The most bytes of replies to keep.
MOST_UNSENT = 64 << 20
#: Closing a connection that waits for less frees nothing of note. The replies to nodes are smaller.
_WORTH_CLOSING = 4096


class Unsent:
    """The unread rest of each reply, the one that has made no progress for longest first."""

    def __init__(self) -> None:
        self.total = 0
        #: For each connection an object, and how much of it was sent.
        self._rests: OrderedDict[Peer, tuple[bytes, int]] = OrderedDict()
        #: How many connections share an object, by its id.
        self._shares: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many connections wait for their reader."""
        return len(self._rests)

    def put(self, connection: Peer, reply: bytes, sent: int) -> None:
        """Keep a reply of which only the first `sent` bytes were sent."""
        self.discard(connection)
        if id(reply) not in self._shares:
            self._shares[id(reply)] = 0
            self.total += len(reply)
        self._shares[id(reply)] += 1
        self._rests[connection] = reply, sent

    def rest(self, connection: Peer) -> memoryview:
        """Return what the connection has not sent yet."""
        reply, sent = self._rests[connection]
        return memoryview(reply)[sent:]

    def advance(self, connection: Peer, more: int) -> bool:
        """Note that the connection has sent `more` bytes, and return whether anything is left."""
        if more:
            reply, sent = self._rests[connection]
            sent += more
            if self._shares[id(reply)] == 1 and 2 * sent >= len(reply):
                reply, sent = reply[sent:], 0
            self.put(connection, reply, sent)
            if sent == len(reply):
                self.discard(connection)
        return connection in self._rests

    def discard(self, connection: Peer) -> None:
        """Forget the connection."""
        reply, _ = self._rests.pop(connection, (b"", 0))
        if id(reply) in self._shares:
            self._shares[id(reply)] -= 1
            if not self._shares[id(reply)]:
                del self._shares[id(reply)]
                self.total -= len(reply)

    def slowest(self, current: bytes) -> Any | None:
        """Return the connection to close if the total is too large, or None if that would not help.

        Closing one that reads the `current` listing would free nothing: the mapper keeps that object anyway.
        """
        for connection, (reply, _) in self._rests.items():
            if reply is not current and len(reply) >= _WORTH_CLOSING:
                return connection
        return None
