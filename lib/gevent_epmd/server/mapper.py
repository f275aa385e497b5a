"""What the connections of one port mapper share, and its start and end (C: EpmdVars, and run() of
epmd_srv.c).

Acceptors hand connections over; each connection is served by a greenlet of its own.  Nothing here knows the
type of either: both are closed through the few methods that they have in common.

Invariants:
- `end` and `stop` may be called in any state, and any number of times;
- at most MOST_UNREGISTERED connections wait that are not a node's.
"""

from __future__ import annotations

import resource
from functools import partial
from operator import attrgetter

from gevent import get_hub
from gevent.event import Event

from ..protocol import Alive2Request, listing_reply
from .events import Events
from .registry import REMEMBERED, REMEMBERED_WHEN_DEBUGGING, Node, Registry
from .settings import Settings
from .timers import Deadlines, IdleExit, Unregistered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .events import Peer
    from .registry import Holder

    class Listener(Protocol):
        """What accepts connections."""

        def start(self) -> None:
            """Accept connections from here on."""

        def shut_down(self) -> None:
            """Stop, and free the port."""

        def leave_to_parent(self, *, loop_is_ours: bool) -> None:
            """For a forked child: close its copy of the socket."""


#: Connections that are not a node's, at most: the memory of a container ends before its descriptors do.
MOST_UNREGISTERED = 4096

#: Descriptors that nodes may not take: the process's own and some for those who ask.  Of few, half.
_SPARE_DESCRIPTORS = 64
_LEAST_SPARE_DESCRIPTORS = 16


class Mapper:
    """What all connections share: settings, events, nodes, timers.  `port` is the one that listings tell."""

    def __init__(self, settings: Settings, port: int, events: Events) -> None:
        self.settings = settings
        self.port = port
        self.events = events
        self.hub = get_hub()
        self.finished = Event()
        self.registry = Registry(
            remembered=REMEMBERED_WHEN_DEBUGGING if settings.debug else REMEMBERED, limit=_most_nodes()
        )
        self.deadlines = Deadlines(self.hub.loop, settings.packet_timeout)
        self.unregistered = Unregistered()
        #: Those that play busy: a node's may have lost its name meanwhile.
        self.sleeping: set[Holder] = set()
        #: Greenlets that have no connection to serve; see `connection`.
        self.idle_greenlets: list[Any] = []
        self._listed = b""
        self._names_reply = b""
        #: What accepts connections once it starts.
        self.listeners: list[Listener] = []
        self._idle_exit: IdleExit | None = None
        if settings.idle_exit:
            reason = f"no node for {settings.idle_exit} seconds"
            self._idle_exit = IdleExit(self.hub.loop, settings.idle_exit, partial(self.end, reason))

    def start(self) -> None:
        """Accept connections from here on."""
        for listener in self.listeners:
            listener.start()
        self._look_whether_idle()

    def end(self, reason: str) -> None:
        """End without being asked to by a peer."""
        self.events.ending(reason)
        self.close_listeners()
        self.finished.set()

    def close_listeners(self) -> None:
        """Free the port."""
        for listener in self.listeners:
            listener.shut_down()

    def stop(self) -> None:
        """Close all that is open.  For the hub only."""
        self.close_listeners()
        for connection in self._connections():
            # Where a forked process has the socket too, a close tells the other end nothing.
            connection.hang_up()
            connection.abort("the mapper ends")
        self._stop_timers()
        while self.idle_greenlets:
            self.idle_greenlets.pop().throw()

    def leave_to_parent(self, *, loop_is_ours: bool) -> None:
        """For a forked child: close the copies of its parent's sockets, so that its peers see nothing of it.
        The loop of another thread must be left as it is: the child has no such thread."""
        self.events.silence()
        for connection in self._connections():
            connection.leave_to_parent(loop_is_ours=loop_is_ours)
        for listener in self.listeners:
            listener.leave_to_parent(loop_is_ours=loop_is_ours)
        if loop_is_ours:
            self._stop_timers()

    def _stop_timers(self) -> None:
        self.deadlines.stop()
        if self._idle_exit:
            self._idle_exit.stop()
            self._idle_exit = None

    def report_end(self) -> None:
        """Let the log show what is still open when the process ends: C closes one after the other."""
        for connection in sorted(self._connections(), key=attrgetter("fd")):
            connection.report_closing()

    def _connections(self) -> set[Holder]:
        holders = {node.holder for node in self.registry.live() if node.holder is not None}
        return holders.union(self.unregistered, self.sleeping)

    def make_room(self) -> bool:
        """Close the connection that has been of no use for longest, never a node's; False if there is
        none."""
        oldest = self.unregistered.oldest()
        if oldest is None:
            return False
        oldest.abort("closing to make room")
        return True

    def keep_bounded(self, newcomer: Peer) -> None:
        """Make room where more connections wait that are not a node's than may; to be called for each
        newcomer."""
        # Not before it was served, since a connection that is answered at once takes nobody's place.
        if len(self.unregistered) > MOST_UNREGISTERED:
            self.events.crowded(newcomer, MOST_UNREGISTERED)
            self.make_room()

    def node_reg(self, request: Alive2Request, holder: Holder) -> Node:
        """Register a node.  Raises NodeRefused."""
        former = self.registry.find(request.name)
        known = former is not None or self.registry.remembers(request.name)
        new = not known and not self.registry.is_full()
        node = self.registry.register(request, holder)
        self.events.registered(node, self.registry, former=former, known=known, new=new)
        self._look_whether_idle()
        return node

    def node_unreg(self, node: Node) -> bool:
        """Unregister a node; False if it was unregistered already."""
        unregistered = self.registry.unregister(node)
        if unregistered:
            self.events.unregistered(node, self.registry)
        self._look_whether_idle()
        return unregistered

    def node_stop(self, name: bytes) -> bool:
        """Unregister the node of this name by force; False if there is none."""
        node = self.registry.find(name)
        if node is None:
            return False
        holder = node.holder
        self.node_unreg(node)
        if holder is not None:
            holder.hang_up()
        self.events.stopped()
        return True

    def names_reply(self) -> bytes:
        """The reply to NAMES: one object for all who ask until a node comes or goes, since slow readers keep
        it."""
        text = self.registry.names_text()
        if text is not self._listed or not self._names_reply:
            self._listed = text
            self._names_reply = listing_reply(self.port, text)
        return self._names_reply

    def may_be_killed(self) -> bool:
        """Whether KILL ends the mapper: with relaxed checking always, otherwise while no node is live."""
        if not self.settings.relaxed:
            # A node that has just ended must not stand in the way because its EOF was not read yet.
            self.registry.drop_gone()
        return self.settings.relaxed or len(self.registry) == 0

    def _look_whether_idle(self) -> None:
        if self._idle_exit:
            self._idle_exit.look(len(self.registry))


def raise_descriptor_limit() -> None:
    """Use as many descriptors as the host allows: a node takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # the system allows less than it says; what there is must do


def _most_nodes() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    return max(1, soft - min(_SPARE_DESCRIPTORS, max(_LEAST_SPARE_DESCRIPTORS, soft // 2)))
