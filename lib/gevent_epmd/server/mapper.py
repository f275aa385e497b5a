"""What the connections of one port mapper share, with its start and shutdown.

Acceptors hand over connections, and each connection runs in its own greenlet. This module knows the type of
neither: it closes both through the methods that they have in common.

Invariants:
- `end` and `stop` may be called in any state, and any number of times;
- at most MOST_UNREGISTERED connections wait without a registered node;
- at most MOST_UNSENT bytes of replies wait for their readers after each turn of the event loop.

C's counterpart: EpmdVars, and run() of epmd_srv.c.
"""

from __future__ import annotations

import os
import resource
import sys
from functools import partial

from gevent import get_hub
from gevent.event import Event

from ..protocol import Alive2Request
from .events import TO_MAKE_ROOM, TOO_MUCH_UNREAD, Events
from .registry import CREATIONS_NAME, REMEMBERED, REMEMBERED_WHEN_DEBUGGING, Node, Registry
from .settings import Settings
from .timers import Deadlines, IdleExit, Unregistered
from .unsent import MOST_UNSENT, Unsent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, Protocol

    from .registry import Peer

    class Listener(Protocol):
        """An `acceptor.Acceptor`."""

        def start(self) -> None: ...
        def is_pending(self) -> bool: ...
        def serve_socket(self, sock: _socket.socket, peer: tuple[Any, ...]) -> None: ...
        def take_back(self, peer: tuple[Any, ...]) -> None: ...
        def shut_down(self, *, in_child: bool = False, loop_is_ours: bool = True) -> None: ...

    class Store(Protocol):
        """The `Store` of `program.process.store`, which keeps nodes for the epmd after this one."""

        def put(self, node: Node) -> None: ...
        def drop(self, node: Node) -> bool: ...


#: The most connections without a registered node. A container runs out of memory before descriptors.
MOST_UNREGISTERED = 4096

#: Descriptors that nodes may not take, with two listening sockets. The process itself has 7 to 10 open; the
#: others are for peers that ask, for files and for the log. With a very low limit, half of it.
_SPARE_DESCRIPTORS = 24
_LEAST_SPARE_DESCRIPTORS = 16


class Mapper:
    """What all connections share: settings, events, nodes, timers. NAMES and DUMP report `port`."""

    def __init__(self, settings: Settings, port: int, events: Events) -> None:
        self.let_in(settings)
        self.port = port
        self.events = events
        #: Whether a request that succeeds is neither logged, nor delayed, nor a reason to stay.
        self.is_undisturbed = not (
            settings.debug or settings.delay_accept or settings.delay_write or settings.idle_exit
        )
        #: The look-ups and the requests for NAMES that `connection.serve` has answered. They are not in
        #: `events.counts`, which would not be in the processor's cache.
        self.looked_up = self.listed = 0
        self.hub = get_hub()
        self.loop = self.hub.loop
        self.finished = Event()
        #: Why `end` was called, for whoever has waited for the mapper to serve.
        self.end_reason = "a request"
        self.record = Record()
        most_remembered = REMEMBERED_WHEN_DEBUGGING if settings.debug else REMEMBERED
        self.registry = Registry(remembered=most_remembered, record=self.record, port=port)
        self.deadlines = Deadlines(self.loop, settings.packet_timeout)
        self.unregistered = Unregistered()
        #: What keeps the nodes for the epmd after this one, if there is such a thing.
        self.store: Store | None = None
        #: What slow readers have not read yet.
        self.unsent = Unsent()
        #: The connections that simulate a busy server. A node among them may be unregistered already.
        self.sleeping: set[Peer] = set()
        #: Greenlets without a connection to serve; see `connection`.
        self.idle_greenlets: list[Any] = []
        #: The acceptors, which the caller adds before `start`.
        self.listeners: list[Listener] = []
        self.idle_exit: IdleExit | None = None
        if settings.idle_exit:
            reason = f"no node for {settings.idle_exit} second{'s' if settings.idle_exit > 1 else ''}"
            self.idle_exit = IdleExit(
                self.loop,
                settings.idle_exit,
                partial(self.end, reason),
                lambda: any(listener.is_pending() for listener in self.listeners),
            )

    def start(self) -> None:
        """Start accepting connections."""
        self.events.log.count_in(self.loop)
        self.registry.limit = _most_nodes(len(self.listeners))
        for listener in self.listeners:
            listener.start()
        self._look_whether_idle()

    def end(self, reason: str) -> None:
        """Shut down. `reason` is for the log."""
        self.end_reason = reason
        self.store = None  # what it keeps is for the epmd after this one
        self.events.ending(reason)
        self.close_listeners()
        self.finished.set()

    def close_listeners(self) -> None:
        """Free the port."""
        for listener in self.listeners:
            listener.shut_down()

    def stop(self) -> None:
        """Close everything. Call from the hub only."""
        self.close_listeners()
        for connection in self._connections():
            # If a forked process has the socket too, closing it does not tell the peer anything.
            connection.hang_up()
            connection.abort("the mapper ends")
        self._stop_timers()
        while self.idle_greenlets:
            self.idle_greenlets.pop().throw()
        self.record.close()

    def close_without_hub(self, *, in_child: bool, loop_is_ours: bool) -> None:
        """Close everything after the hub was destroyed; in a forked child, without the peers noticing.

        The event loop of another thread, or one that was destroyed, is left as it is.
        """
        self.events.log.silence()
        for connection in self._connections():
            connection.close_without_hub(in_child=in_child, loop_is_ours=loop_is_ours)
        for listener in self.listeners:
            listener.shut_down(in_child=in_child, loop_is_ours=loop_is_ours)
        if loop_is_ours:
            self._stop_timers()

    def _stop_timers(self) -> None:
        self.events.log.finish()
        self.deadlines.stop()
        if self.idle_exit:
            self.idle_exit.stop()
            self.idle_exit = None

    def _connections(self) -> set[Peer]:
        holders = {node.holder for node in self.registry.live() if node.holder is not None}
        return holders.union(self.unregistered, self.sleeping)

    def make_room(self) -> bool:
        """Close the longest unused connection without a registered node. Returns False if there is none."""
        oldest = self.unregistered.oldest()
        if oldest is None:
            return False
        oldest.abort(TO_MAKE_ROOM)
        return True

    def keep_bounded(self, newcomer: Peer) -> None:
        """Make room if too many connections wait without a registered node."""
        # After the newcomer was served, because a connection that gets its reply at once takes no room.
        if len(self.unregistered) > MOST_UNREGISTERED:
            self.events.crowded(newcomer, MOST_UNREGISTERED)
            self.make_room()

    def keep_unsent(self, connection: Peer, reply: bytes, sent: int) -> None:
        """Keep a reply in `unsent` whose peer has only taken the first `sent` bytes."""
        self.unsent.put(connection, reply, sent)
        if self.unsent.total > MOST_UNSENT:
            # Not here, because connections may be aborted in the hub only.
            self.loop.run_callback(self._bound_unsent)

    def _bound_unsent(self) -> None:
        """Close the slowest readers until the replies that wait are few enough."""
        while self.unsent.total > MOST_UNSENT:
            slowest = self.unsent.slowest(self.registry.names_reply())
            if slowest is None:
                return
            self.events.unread(slowest, MOST_UNSENT)
            self.unsent.discard(slowest)
            slowest.abort(TOO_MUCH_UNREAD)

    def node_reg(self, request: Alive2Request, holder: Peer) -> Node:
        """Register a node. Raises NodeRefused."""
        # C refuses a node that has just closed its connection, and registers again.
        if owner := self.registry.find(request.name):
            self._unreg_if_gone(owner)
        node = self.registry.register(request, holder)
        self.events.registered(node, self.registry)
        self._look_whether_idle()
        return node

    def node_unreg(self, node: Node) -> None:
        """Unregister a node, unless that was done already."""
        if self.registry.unregister(node):
            self.events.unregistered(node, self.registry)
        self._look_whether_idle()

    def node_stop(self, name: bytes) -> bool:
        """Unregister the node of this name by force. Returns False if there is none."""
        node = self.registry.find(name)
        if node is None:
            return False
        holder = node.holder
        self.node_unreg(node)
        if holder is not None:
            holder.hang_up()
        self.events.stopped()
        return True

    def let_in(self, settings: Settings) -> None:
        """From now on, decide by these settings who may ask and register. Connections that are open stay."""
        self.settings = settings
        #: The networks whose hosts may connect, or None for all. A node that registers must be able to look
        #: up others.
        self.may_ask = None if settings.allow is None else settings.allow + settings.allow_register

    def may_be_killed(self) -> bool:
        """Return whether KILL ends the mapper: with relaxed checking, or without live nodes."""
        if not self.settings.relaxed:
            # A node that has just ended must not prevent the shutdown because its EOF has not been read yet.
            for node in list(self.registry.live()):
                self._unreg_if_gone(node)
        return self.settings.relaxed or len(self.registry) == 0

    def _unreg_if_gone(self, node: Node) -> None:
        """Unregister a node whose peer has closed, even if its EOF has not been read yet."""
        if node.holder is not None and node.holder.gone():
            self.node_unreg(node)

    def _look_whether_idle(self) -> None:
        if self.idle_exit:
            self.idle_exit.look(len(self.registry))


class Record:
    """Records the greatest creation where an epmd that takes this one's place finds it: in a memory file."""

    def __init__(self) -> None:
        #: The file, or -1. Made now, so that the number of descriptors does not grow later.
        self.descriptor = -1
        if sys.platform == "linux":
            try:
                self.descriptor = os.memfd_create(CREATIONS_NAME)
            except OSError:
                pass  # no descriptor is left, or the kernel forbids it

    def __call__(self, creation: int) -> None:
        try:
            os.pwrite(self.descriptor, creation.to_bytes(8, "big"), 0)
        except OSError:
            pass  # there is no file: a clock that runs makes creations unique too

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _most_nodes(listeners: int) -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    spare = _SPARE_DESCRIPTORS + max(listeners - 2, 0)
    return max(1, soft - min(spare, max(_LEAST_SPARE_DESCRIPTORS, soft // 2)))
