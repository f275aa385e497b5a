"""The daemon's one process: sockets, connections, nodes (C: run() and do_accept() of epmd_srv.c).

A gevent StreamServer a listening socket accepts; each connection is a greenlet of its own
(`connection`); one Mapper, what C calls EpmdVars, holds what they share.
"""

from __future__ import annotations

import _socket
import errno
import os
import resource
import select
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any

from gevent import get_hub, sleep
from gevent.event import Event
from gevent.server import StreamServer

from . import bundle, ending, plain, processes
from . import registry as nodes
from .connection import Connection
from .log import Log, shown
from .options import Options
from .protocol import Alive2Request, listing_reply
from .registry import Node, Registry

#: Descriptors that nodes may not take, so that there is always room for somebody who asks: ours
#: (standard, listening, the loop's) and some for connections.  Of few, half, but no fewer than it takes.
_SPARE_DESCRIPTORS = 64
_LEAST_SPARE_DESCRIPTORS = 16
#: How long to accept nobody where there is nothing to close, and to close nobody after a stop, in seconds.
_PAUSE = 0.1
#: How many connections that are not a node's may wait at once, of some 7 KB each: a host's memory ends before
#: its descriptors do.
_MOST_GUESTS = 4096
#: A timer that comes so many seconds late says that the process was stopped, or its host.
_STOPPED = 1.0
#: A level at which a log says nothing.
_SILENT = -1
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Deadlines:
    """The connections that must be done in time, in the order in which their time ends.

    All get the same time, so that order is the order of `add`, and one timer for the first of them
    is enough.  Nothing runs while nobody waits.
    """

    def __init__(self, loop: Any, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._table: OrderedDict[Connection, float] = OrderedDict()
        self._timer: Any = None
        self._was_stopped = False

    def add(self, connection: Connection) -> None:
        """Abort the connection when its time is over; a second call does not prolong it."""
        if connection not in self._table:
            self._table[connection] = time.monotonic() + self._seconds
            if self._timer is None:
                self._start_timer(self._seconds)

    def discard(self, connection: Connection) -> None:
        self._table.pop(connection, None)

    def stop(self) -> None:
        """Let nobody's time end any more."""
        self._stop_timer()

    def _start_timer(self, seconds: float) -> None:
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._sweep)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _sweep(self) -> None:
        self._stop_timer()
        now = time.monotonic()
        while self._table:
            connection, deadline = next(iter(self._table.items()))
            if deadline > now:
                self._start_timer(deadline - now)
                break
            if now - deadline > _STOPPED and not self._was_stopped:
                # The loop calls timers first: what came in time will have been read when this one comes.
                self._was_stopped = True
                self._start_timer(_PAUSE)
                return
            del self._table[connection]
            connection.abort("closing because timed out on receive")
        self._was_stopped = False


class Guests(OrderedDict[Connection, None]):
    """The connections that wait and are not a node's, the one that has been of no use for longest first."""

    def add(self, connection: Connection) -> None:
        """It is of no use from now on; one that is here already keeps its place."""
        self.setdefault(connection)

    def renew(self, connection: Connection) -> None:
        """It has been of use until now: it has made its request."""
        self[connection] = None
        self.move_to_end(connection)

    def discard(self, connection: Connection) -> None:
        self.pop(connection, None)

    def oldest(self) -> Connection | None:
        return next(iter(self), None)


class IdleExit:
    """Ends the mapper when no node has been registered for so many seconds."""

    def __init__(self, loop: Any, seconds: float, end: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._end = end
        self._timer: Any = None

    def look(self, nodes: int) -> None:
        """To be told how many nodes are live, at the start and whenever that changes."""
        if nodes:
            self.stop()
        elif self._timer is None:
            # A new one each time: a timer that is stopped and started again runs for what was left of it.
            self._timer = self._loop.timer(self._seconds)
            # The loop's clock stands still while its callbacks run, so that the timer would be early.
            self._timer.start(self._end, update=True)

    def stop(self) -> None:
        """Stop counting until the next `look`."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None


class _ListeningSocket(_socket.socket):
    """What a StreamServer takes for a socket, whatever the program that we are embedded in has made of
    socket.socket."""

    accept = _socket.socket._accept  # type: ignore[attr-defined]


class Listener(StreamServer):
    """Accepts on one listening socket, as fast as connections come and for as long as there is room."""

    def __init__(self, mapper: Mapper, sock: _socket.socket) -> None:
        own = _ListeningSocket(sock.family, sock.type, sock.proto, sock.detach())
        own.setblocking(False)  # it has the program's default time-out until then
        super().__init__(own, handle=mapper.do_accept)
        self._mapper = mapper
        self._family = self.family
        self._poll = plain.poll()
        self._poll.register(self.socket, select.POLLIN)

    #: How many to accept before those who are connected are looked at again.  gevent's 100 is no
    #: faster here, and lets a few who come again and again keep the others waiting.
    max_accept = 4

    def do_read(self) -> tuple[_socket.socket, tuple[Any, ...]] | None:
        while not self.closed and self._somebody_waits():
            try:
                descriptor, peer = self.socket._accept()
            except BlockingIOError:
                break
            except OSError as error:
                if not self._may_try_again(error):
                    break
            else:
                # With all four arguments: asked for one alone, it costs three system calls.
                sock = _socket.socket(self._family, _socket.SOCK_STREAM, 0, descriptor)
                if sock.gettimeout() is not None:
                    # The default of the program that we are embedded in: with a time-out even a call that
                    # must not wait does.  Not done to all, since it is a system call.
                    sock.settimeout(None)
                return sock, peer
        return None

    def shut_down(self) -> None:
        """End the listening of all who have this socket, processes that were forked among them."""
        if not self.closed:
            try:
                self.socket.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # it does not listen any more

    def leave_to_parent(self, *, loop_is_ours: bool) -> None:
        """For a forked child: close its copy of the socket."""
        if loop_is_ours:
            self.close()
        elif not self.closed:
            self.socket.close()

    def do_handle(self, *args: Any) -> None:
        self._handle(*args)

    def _may_try_again(self, error: OSError) -> bool:
        if error.errno not in _NO_ROOM:
            # The other end has gone before it was accepted, or the network has a trouble of its own.
            self._mapper.log.complain("error in accept: %s", error.strerror)
            return False
        self._mapper.log.complain("no room for a connection: %s", error.strerror)
        if self._mapper.make_room():
            return True
        self._pause()
        return False

    def _somebody_waits(self) -> bool:
        """To ask is cheap.  An accept in vain makes a socket and a file first, and takes ten times as long;
        and where no descriptor is free Linux says so, even if nobody waits for one."""
        return bool(self._poll.poll(0))

    def _pause(self) -> None:
        """Without this the loop would come back at once, for as long as somebody waits."""
        self.stop_accepting()
        self._timer = self.loop.timer(_PAUSE)
        self._timer.start(self._start_accepting_if_started)


class Mapper:
    """What all connections share: options, log, nodes, and who waits for what."""

    def __init__(self, options: Options, sockets: Iterable[_socket.socket], log: Log) -> None:
        self.options = options
        self.log = log
        self.hub = get_hub()
        self.finished = Event()
        self.registry = Registry(
            remembered=nodes.REMEMBERED_WHEN_DEBUGGING if options.debug else nodes.REMEMBERED,
            limit=_most_nodes(),
        )
        self.deadlines = Deadlines(self.hub.loop, options.packet_timeout)
        self.guests = Guests()
        #: Greenlets that have no connection to serve; see `connection`.
        self.idle: list[Any] = []
        self._listed = b""
        self._names_reply = b""
        self._sleeping: set[Connection] = set()
        self._listeners = [Listener(self, sock) for sock in sockets]
        self.port: int = self._listeners[0].address[1]
        self._idle_exit: IdleExit | None = None
        if options.idle_exit:
            reason = f"no node for {options.idle_exit} seconds"
            self._idle_exit = IdleExit(self.hub.loop, options.idle_exit, partial(self.end, reason))

    def start(self) -> None:
        for listener in self._listeners:
            listener.start()
        self._look_whether_idle()

    def stop(self) -> None:
        """Close all that is open, at most once.  For the hub only."""
        self.close_listeners()
        for connection in self._connections():
            # A process that was forked may have the socket too, and then a close tells the other end nothing.
            connection.hang_up()
            connection.abort("the mapper ends")
        self.deadlines.stop()
        while self.idle:
            self.idle.pop().throw()
        if self._idle_exit:
            self._idle_exit.stop()
            self._idle_exit = None

    def log_end(self) -> None:
        """C closes what is still open one after the other."""
        if self.log.level >= 2:
            for connection in sorted(self._connections(), key=attrgetter("fd")):
                connection.log_closing()

    def _connections(self) -> list[Connection]:
        holders = [node.holder for node in self.registry.live()]
        known = {*self.guests, *self._sleeping, *holders}
        return [connection for connection in known if isinstance(connection, Connection)]

    def close_listeners(self) -> None:
        for listener in self._listeners:
            if not self.options.systemd:  # whose sockets are for the next epmd too
                listener.shut_down()
            listener.close()

    def leave_to_parent(self, *, loop_is_ours: bool) -> None:
        """For a forked child: let go of what it has got of its parent's, so that its peers see nothing of it.
        The loop of another thread, which has no such thread in the child, must be left as it is."""
        self.log.level = _SILENT
        for connection in self._connections():
            connection.leave_to_parent(loop_is_ours=loop_is_ours)
        for listener in self._listeners:
            listener.leave_to_parent(loop_is_ours=loop_is_ours)
        if loop_is_ours:
            self.deadlines.stop()
            if self._idle_exit:
                self._idle_exit.stop()
                self._idle_exit = None

    def do_accept(self, sock: _socket.socket, peer: tuple[Any, ...]) -> None:
        connection = Connection(self, sock, peer)
        if self.options.allow is not None and connection.is_barred(self.options.allow):
            connection.bar()
            return
        connection.start()
        # Whoever is answered at once takes nobody's place.
        if len(self.guests) > _MOST_GUESTS:
            connection.complain("more than %s connections without a node", _MOST_GUESTS)
            self.make_room()

    def make_room(self) -> bool:
        """Close the connection that has been of no use for longest, never a node's; False if there
        is none."""
        oldest = self.guests.oldest()
        if oldest is None:
            return False
        oldest.abort("closing to make room")
        return True

    def sleep(self, connection: Connection, seconds: int) -> None:
        """Play a busy server for this connection; the others go on."""
        self._sleeping.add(connection)
        try:
            sleep(seconds)
        finally:
            self._sleeping.discard(connection)

    def end(self, reason: str) -> None:
        """End without being asked to by a peer."""
        self.log.say(0, f"{reason} - terminates normal")
        self.close_listeners()
        self.finished.set()

    def _look_whether_idle(self) -> None:
        if self._idle_exit:
            self._idle_exit.look(len(self.registry))

    def node_reg(self, request: Alive2Request, connection: Connection) -> Node:
        """Raises registry.Refused."""
        owner = self.registry.find(request.name)
        known = owner is not None or self.registry.remembers(request.name)
        replaces = self.registry.is_full()
        node = self.registry.register(request, connection, connection.fd)
        if self.log.level:
            if owner is not None:
                self._log_node("unregistering", owner)
            if not known and not replaces:
                self.log.seconds()
            if known:
                self.log.tty(1, f"reusing slot with same name '{shown(request.name)}'")
            self._log_node("registering", node)
            versions = f"highvsn {request.highest} lowvsn {request.lowest}"
            self.log.tty(1, f"type {request.node_type} proto {request.protocol} {versions}")
            self._log_tables()
        self._look_whether_idle()
        return node

    def node_unreg(self, node: Node) -> bool:
        """False if the node was unregistered already."""
        unregistered = self.registry.unregister(node)
        if unregistered:
            self._log_node("unregistering", node)
            self._log_tables()
        self._look_whether_idle()
        return unregistered

    def node_stop(self, name: bytes) -> bool:
        """Unregister the node of this name by force; False if there is none."""
        node = self.registry.find(name)
        if node is None:
            return False
        holder = node.holder
        self.node_unreg(node)
        if isinstance(holder, Connection):
            holder.hang_up()
        self.log.tty(1, "epmd connection stopped")
        return True

    def names_reply(self) -> bytes:
        """One and the same for all who ask until a node comes or goes: those who do not read it keep it."""
        text = self.registry.names_text()
        if text is not self._listed or not self._names_reply:
            self._listed = text
            self._names_reply = listing_reply(self.port, text)
        return self._names_reply

    def may_be_killed(self) -> bool:
        if not self.options.relaxed:
            # A node that has just ended must not stand in the way because nobody has noticed.
            self.registry.drop_gone()
        return self.options.relaxed or len(self.registry) == 0

    def _log_node(self, event: str, node: Node) -> None:
        if self.log.level:
            self.log.tty(1, f"{event} '{shown(node.name)}:{node.creation}', port {node.port}")

    def _log_tables(self) -> None:
        if self.log.level >= 3:
            live, late = self.registry.live(), self.registry.late()
            self.log.tables(
                ((shown(node.name), node.creation, node.port, node.fd) for node in live),
                ((shown(node.name), node.creation) for node in late),
            )


def raise_descriptor_limit() -> None:
    """As many descriptors as the host allows: a node takes one."""
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


def run(
    options: Options,
    sockets: Iterable[_socket.socket],
    log: Log,
    ready: Callable[[int], None] = lambda _port: None,
    leave: Callable[[], None] | None = None,
) -> None:
    """Serve the listening sockets until somebody sends KILL; `ready` is called with the port once
    requests are answered, and `leave`, if there is something to do, before something else ends it."""
    bundle.load_everything()
    mapper = Mapper(options, sockets, log)
    mapper.start()
    ending.watch_signals(mapper.hub.loop, leave)
    if os.getpid() == 1:
        processes.reap_orphans(mapper.hub.loop)
    for pid in options.pid_exit:
        processes.when_gone(mapper.hub.loop, pid, partial(mapper.end, f"process {pid} has ended"))
    if bundle.is_bundled():
        bundle.settle(has_launcher=not options.daemon, leave=leave)
    log.tty(2, "entering the main select() loop")
    ready(mapper.port)
    mapper.finished.wait()
    mapper.log_end()
