"""Which node has which name: live nodes, the names of late ones, and their creations.

No I/O happens here.  Strategy: live nodes are a dict in the order of registration, remembered ones a dict
in the order in which they went, so that every question is answered without a search.  The text of
NAMES is kept until a node comes or goes.

Invariants:
- a name is live at most once, and never live and remembered at once;
- a count, once given to a name, is never given to it again while this registry lives, wherever
  the clock goes: a name that comes back gets the successor of its last count, and a name that
  was forgotten starts above every count that was forgotten, and above the second of the start.  The
  creation is the count, brought into 32 bits;
- `unregister` takes away the node that it is given, and never another one of the same name.

Source: node_reg2, node_unreg and node_unreg_sock of epmd_srv.c.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .. import protocol
from ..protocol import Alive2Request, Complaint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Holder(Protocol):
        """What keeps a node registered: its connection.  `fd` is the descriptor, for DUMP."""

        fd: int

        def gone(self) -> bool:
            """Whether the other end has closed, though its EOF was not read yet."""

        def hang_up(self) -> None:
            """Let the other end see the close at once."""

        def abort(self, reason: str) -> None:
            """End it now; `reason` is for the log."""

        def leave_to_parent(self, *, loop_is_ours: bool) -> None:
            """For a forked child: close its copy."""

        def report_closing(self) -> None:
            """Report its close."""


#: How many late names are remembered; when more are, a new name makes the oldest be forgotten.
REMEMBERED = 1000
REMEMBERED_WHEN_DEBUGGING = 5

#: The first creation of the 32-bit form: 1 to 3 look like the old form's.
_FIRST_CREATION = 4
_CREATIONS = 2**32 - _FIRST_CREATION


class NodeRefused(Complaint):
    """The node cannot be registered."""


class Node:
    """A registered node (C: struct enode).  `fd` is its connection's descriptor, for DUMP."""

    __slots__ = ("_names_line", "_port2_reply", "count", "fd", "holder", "request")

    def __init__(self, request: Alive2Request, count: int, holder: Holder) -> None:
        self.request = request
        self.count = count
        self.holder: Holder | None = holder
        self.fd = holder.fd
        # Made when first asked for: not every node is before it goes.
        self._port2_reply: bytes | None = None
        self._names_line: bytes | None = None

    @property
    def name(self) -> bytes:
        return self.request.name

    @property
    def port(self) -> int:
        return self.request.port

    @property
    def port2_reply(self) -> bytes:
        """The whole reply to a look-up of this node."""
        if self._port2_reply is None:
            self._port2_reply = protocol.port2_reply(self.request)
        return self._port2_reply

    @property
    def names_line(self) -> bytes:
        """What NAMES says of it."""
        if self._names_line is None:
            self._names_line = protocol.names_line(self.name, self.port)
        return self._names_line

    @property
    def creation(self) -> int:
        """Tells this registration of the name from every other one; 4 to 2**32 - 1."""
        return _FIRST_CREATION + (self.count - _FIRST_CREATION) % _CREATIONS


class Registry:
    """The nodes of one port mapper.

    `clock` gives seconds since the epoch, `remembered` is how many late names are kept,
    `limit` how many nodes may be live at once (None: any number).
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        remembered: int = REMEMBERED,
        limit: int | None = None,
    ) -> None:
        self._clock = clock
        self._remember = remembered
        self._limit = limit
        self._live: dict[bytes, Node] = {}
        self._late: dict[bytes, Node] = {}
        # One that was killed in this very second may have given away the number of the second.
        self._floor = max(_FIRST_CREATION, int(clock()) + 1)
        self._names: bytes = b""
        #: The lines of NAMES; made anew, not changed, when a node comes or goes, since a slow reply shows
        #: them later.
        self._lines: list[bytes] | None = None

    def __len__(self) -> int:
        """How many nodes are live."""
        return len(self._live)

    def find(self, name: bytes) -> Node | None:
        """The live node of this name."""
        return self._live.get(name)

    def live(self) -> Iterator[Node]:
        """The live nodes, newest registration first."""
        return reversed(self._live.values())

    def late(self) -> Iterator[Node]:
        """The remembered nodes, those that went first first."""
        return iter(self._late.values())

    def remembers(self, name: bytes) -> bool:
        """Whether the name belonged to a node that is gone."""
        return name in self._late

    def is_full(self) -> bool:
        """Whether a new name makes the oldest remembered one be forgotten."""
        return len(self._late) > self._remember

    def register(self, request: Alive2Request, holder: Holder) -> Node:
        """Give the name to the holder.  Raises NodeRefused where the request is not a node's, the name
        is taken by somebody who is still there, or there are too many nodes."""
        reason = request.refusal() or self._obstacle(request.name)
        if reason:
            raise NodeRefused(reason.kind, *reason.details)
        node = Node(request, self._next_count(request.name), holder)
        self._live[request.name] = node
        self._lines = None
        return node

    def unregister(self, node: Node) -> bool:
        """Take the node off the live ones and remember its name; False if it was off already."""
        if self._live.get(node.name) is not node:
            return False
        del self._live[node.name]
        node.holder = None
        self._late[node.name] = node
        self._lines = None
        return True

    def drop_gone(self) -> None:
        """Unregister every node whose other end has gone, noticed or not."""
        for node in list(self._live.values()):
            self._drop_if_gone(node)

    def names_text(self) -> bytes:
        """What NAMES lists."""
        self.names_lines()
        return self._names

    def names_lines(self) -> list[bytes]:
        """The lines of NAMES."""
        if self._lines is None:
            self._lines = [node.names_line for node in self.live()]
            self._names = b"".join(self._lines)
        return self._lines

    def dump_lines(self) -> list[bytes]:
        """The lines of DUMP."""
        active, unused = protocol.dump_active_line, protocol.dump_unused_line
        lines = [active(node.name, node.port, node.fd) for node in self.live()]
        return lines + [unused(node.name, node.port, node.fd) for node in self.late()]

    def _obstacle(self, name: bytes) -> Complaint | None:
        owner = self._live.get(name)
        # The node that had the name may have closed its connection a moment ago, and come back on
        # a new one that was served first.  C refuses it then.
        if owner is not None and not self._drop_if_gone(owner):
            return Complaint("node name already occupied %s", name)
        if self._limit is not None and len(self._live) >= self._limit:
            return Complaint("no descriptor is left for another node")
        return None

    def _drop_if_gone(self, node: Node) -> bool:
        return node.holder is not None and node.holder.gone() and self.unregister(node)

    def _next_count(self, name: bytes) -> int:
        late = self._late.pop(name, None)
        if late is not None:
            return late.count + 1
        if self.is_full():
            oldest = self._late.pop(next(iter(self._late)))
            self._floor = max(self._floor, oldest.count + 1)
        return max(int(self._clock()), self._floor)
