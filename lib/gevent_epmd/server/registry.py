"""Records which node has which name: live nodes, remembered names of former nodes, and their creations.

No I/O. Live nodes are a dict in the order of registration, remembered ones a dict in the order in which they
were unregistered, so no lookup searches. The reply to NAMES is kept until a node comes or goes.

Invariants:
- a name is live at most once, and never live and remembered at once;
- a name never gets the same count twice from the same registry, even if the clock is set back: a remembered
  name gets the successor of its last count, and a name that was forgotten starts above every count that was
  forgotten, and above the second of the start. The creation is the count, mapped to 32 bits;
- `unregister` removes the node that it is given, never another node of the same name.

C's counterpart: node_reg2, node_unreg and node_unreg_sock of epmd_srv.c.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .. import protocol, wire
from ..protocol import Alive2Request, BareRequest, Complaint, Port2Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Peer(Protocol):
        """A `connection.Connection`, as the modules that it imports see it. str() gives ADDRESS:PORT."""

        fd: int

        def is_local(self) -> bool: ...
        def gone(self) -> bool: ...
        def hang_up(self) -> None: ...
        def abort(self, reason: str) -> None: ...
        def close_without_hub(self, *, in_child: bool, loop_is_ours: bool) -> None: ...


#: How many former names to remember. Beyond this, a new name makes the registry forget the oldest one.
REMEMBERED = 1000
REMEMBERED_WHEN_DEBUGGING = 5

#: The name of the memory file in which an epmd records its greatest creation, for one that takes its place.
CREATIONS_NAME = "epmd-creations"
#: The size of the greatest reply to keep, in bytes. The buffer of every new socket has room for it.
_MOST_KEPT = 2048

#: The first creation in the 32-bit form. 1 to 3 would look like the old form.
_FIRST_CREATION = 4
_CREATIONS = 2**32 - _FIRST_CREATION


class NodeRefused(Complaint):
    """The node cannot be registered."""


class Node:
    """A registered node (C: struct enode). `fd` is the descriptor of its connection, for DUMP.

    `is_back` is whether a former node of this name was remembered.
    """

    __slots__ = ("count", "fd", "holder", "is_back", "name", "names_line", "port", "request")

    def __init__(
        self, request: Alive2Request, count: int, holder: Peer | None, fd: int, *, is_back: bool = False
    ) -> None:
        self.request = request
        self.name = request.name
        self.port = request.port
        self.count = count
        self.holder = holder
        self.fd = fd
        self.is_back = is_back
        self.names_line = protocol.names_line(request.name, request.port)

    @property
    def creation(self) -> int:
        """Distinguishes this registration of the name from all others: 4 to 2**32 - 1."""
        return _FIRST_CREATION + (self.count - _FIRST_CREATION) % _CREATIONS


class Registry:
    """The nodes of one port mapper.

    `clock` returns seconds since the epoch. `remembered` is how many former names to remember. `limit` is how
    many nodes may be live at once (None: no limit). `record` is called with each count that is greater than
    all before. `port` is that of the epmd, for NAMES and DUMP.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        remembered: int = REMEMBERED,
        limit: int | None = None,
        record: Callable[[int], object] | None = None,
        port: int = wire.DEFAULT_PORT,
    ) -> None:
        self._port = port
        self._clock = clock
        self._most_remembered = remembered
        self.limit = limit
        self._record = record
        self._greatest = 0
        self._live: dict[bytes, Node] = {}
        self._remembered: dict[bytes, Node] = {}
        # An epmd that was killed within this second may have assigned the second itself as a creation.
        self._floor = max(_FIRST_CREATION, int(clock()) + 1)
        self._names_reply: bytes | None = None
        #: Replies to look-ups and NAMES, by the bytes of the request. See `keep_reply`.
        self.replies: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        """Return how many nodes are live."""
        return len(self._live)

    def find(self, name: bytes) -> Node | None:
        """Return the live node of this name, or None."""
        return self._live.get(name)

    def live(self) -> Iterator[Node]:
        """Iterate over the live nodes, newest registration first."""
        return reversed(self._live.values())

    def remembered(self) -> Iterator[Node]:
        """Iterate over the remembered nodes, in the order in which they were unregistered."""
        return iter(self._remembered.values())

    def register(self, request: Alive2Request, holder: Peer) -> Node:
        """Register the holder under the name, and return the node. Raises NodeRefused."""
        if reason := request.refusal():
            raise NodeRefused(reason.kind, *reason.details)
        if request.name in self._live:
            raise NodeRefused("node name already occupied %s", request.name)
        if self.limit is not None and len(self._live) >= self.limit:
            raise NodeRefused("no descriptor is left for another node")
        former = self._remembered.pop(request.name, None)
        count = former.count + 1 if former is not None else self._count_of_new_name()
        if count > self._greatest:
            self._note_greatest(count)
        node = Node(request, count, holder, holder.fd, is_back=former is not None)
        self._live[request.name] = node
        self._changed()
        return node

    def unregister(self, node: Node) -> bool:
        """Remove a live node and remember its name. Returns False if the node is not live."""
        if self._live.get(node.name) is not node:
            return False
        del self._live[node.name]
        node.holder = None
        self._remembered[node.name] = node
        self._changed()
        return True

    def follow(self, greatest: int) -> None:
        """Assign only creations above this count, which is the greatest of the epmd before this one."""
        self._floor = max(self._floor, greatest + 1)
        # The epmd after this one must know it too, even if no node registers meanwhile.
        self._note_greatest(greatest)

    def _note_greatest(self, count: int) -> None:
        self._greatest = count
        if self._record is not None:
            self._record(count)

    def remember(self, request: Alive2Request, fd: int) -> None:
        """Remember a name that the epmd before this one remembered. `fd` is for DUMP."""
        self._remembered[request.name] = Node(request, self._floor, None, fd)

    def names_reply(self) -> bytes:
        """Return the reply to NAMES: one object until a node comes or goes, because slow readers keep it."""
        if self._names_reply is None:
            self._names_reply = protocol.listing_reply(self._port, [node.names_line for node in self.live()])
        return self._names_reply

    def keep_reply(self, request: Port2Request | BareRequest, reply: bytes) -> None:
        """Keep a short reply in `replies` until a node comes or goes. Until then, the request has no other.

        At most one is kept for each live node, and one for NAMES: only that of a request in its usual form.
        """
        if len(reply) <= _MOST_KEPT:
            self.replies[wire.frame(request.packet())] = reply

    def dump_reply(self) -> bytes:
        """Return the reply to DUMP."""
        lines = [protocol.DUMP_ACTIVE % (node.name, node.port, node.fd) for node in self.live()]
        lines += [protocol.DUMP_UNUSED % (node.name, node.port, node.fd) for node in self.remembered()]
        return protocol.listing_reply(self._port, lines)

    def _changed(self) -> None:
        self._names_reply = None
        self.replies.clear()

    def _count_of_new_name(self) -> int:
        if len(self._remembered) > self._most_remembered:
            oldest = self._remembered.pop(next(iter(self._remembered)))
            self._floor = max(self._floor, oldest.count + 1)
        return max(int(self._clock()), self._floor)
