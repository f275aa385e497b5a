"""One accepted connection, from its first byte to its close (C: do_read, do_request and reply of epmd_srv.c).

Each connection has a greenlet: it reads until a packet is whole, answers it, and closes; a node's connection
then waits until the other end goes.  The greenlet is a raw one, and starts at once where the connection is
accepted: most requests have arrived by then, and are answered before it returns to the hub for the first
time.  Nothing supervises a raw greenlet, so `_run` catches every exception.  A greenlet that is done with a
connection serves another one later: CPython maps memory for each new greenlet and unmaps it at the end, which
took a fifth of the time of a look-up.

Invariants:
- a connection that waits and is not a node's is in `mapper.unregistered`; one that waits for a request or for
  a slow reader also has a deadline;
- however the greenlet ends, its node is unregistered first, and its socket is closed afterwards;
- `abort` is called from the hub only: called from a greenlet it would never return.
"""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable, Collection, Iterable
from struct import pack
from typing import Any, ClassVar

from gevent import sleep
from greenlet import getcurrent, greenlet

from .. import protocol
from ..protocol import Alive2Request, BareRequest, Port2Request, ProtocolError, StopRequest
from .mapper import Mapper
from .networks import Network, is_in, is_local, peer_name
from .registry import Node, NodeRefused

#: The requests that peers on other hosts may make too.
_FOR_ALL = frozenset((protocol.PORT2_REQ, protocol.NAMES_REQ))

#: How many greenlets without a connection are kept, of some 7 KB each.
_MOST_IDLE = 64

_READ, _WRITE = 1, 2
#: Passed to each call: to make the socket itself non-blocking takes another system call.
_NOW = _socket.MSG_DONTWAIT
#: The program that embeds this may let SIGPIPE end it, but not because a peer has gone.
_SEND_NOW = _NOW | _socket.MSG_NOSIGNAL
#: Errors that tell nothing about the other end; None is the number of Python's own time-out.  Taking one of
#: them for an end would give the name of a live node away.
_NO_NEWS = (None, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ENOBUFS)
_RESET_ON_CLOSE = pack("ii", 1, 0)  # struct linger: on, no seconds


class Aborted(Exception):
    """Thrown into a connection's greenlet to end it; the text is for the log."""


class Connection:
    """A connection; `peer` is the other end's address as accept gave it (C: struct Connection)."""

    __slots__ = ("_events", "_greenlet", "_hung_up", "_is_node", "_mapper", "_peer", "_reader", "fd", "sock")

    def __init__(self, mapper: Mapper, sock: _socket.socket, peer: tuple[Any, ...]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._mapper = mapper
        self._events = mapper.events
        self._peer = peer
        self._hung_up = False
        self._is_node = False
        self._reader: Any = None
        self._greenlet: greenlet | None = None

    def __str__(self) -> str:
        """The other end, as the log names it."""
        return peer_name(self._peer)

    def is_local(self) -> bool:
        """Whether the other end is on this host (C: conn_open)."""
        try:
            return is_local(self._peer[0], self.sock.getsockname)
        except OSError:
            return False  # it has gone, and nothing is known of it

    def is_barred(self, allowed: Collection[Network]) -> bool:
        """Whether the other end is on another host, and in none of these networks."""
        return not is_in(self._peer[0], allowed) and not self.is_local()

    def refuse(self) -> None:
        """Close the connection instead of serving it."""
        self._events.barred(self)
        self.sock.close()

    def start(self) -> None:
        """Serve the connection; returns at its first wait.  For the hub only."""
        idle = self._mapper.idle_greenlets
        self._greenlet = idle.pop() if idle else greenlet(self._serve_one_by_one, self._mapper.hub)
        self._greenlet.switch(self)

    def abort(self, reason: str) -> None:
        """End the connection now, whatever it waits for.  For the hub only."""
        if self._greenlet is not None:
            self._greenlet.throw(Aborted(reason))

    def gone(self) -> bool:
        """Whether the other end has closed, or has sent what ends a registration."""
        try:
            self.sock.recv(1, _socket.MSG_PEEK | _NOW)
        except OSError as error:
            return error.errno not in _NO_NEWS
        return True

    def hang_up(self) -> None:
        """Let the other end see the close at once; the greenlet sees it too, and does the rest."""
        self.report_closing()
        self._hung_up = True
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end closed first

    def leave_to_parent(self, *, loop_is_ours: bool) -> None:
        """For a forked child: close its copy of the socket, of which the other end sees nothing."""
        if loop_is_ours:
            self._stop_reading()
        self.sock.close()

    def report_closing(self) -> None:
        """Report the close, once."""
        if not self._hung_up:
            self._events.closing(self)

    @staticmethod
    def _serve_one_by_one(connection: Connection) -> None:
        """What a greenlet does, from its first connection to its last."""
        mapper = connection._mapper
        while True:
            connection._run()
            if len(mapper.idle_greenlets) >= _MOST_IDLE:
                return
            mapper.idle_greenlets.append(getcurrent())
            connection = mapper.hub.switch()

    def _run(self) -> None:
        events = self._events
        try:
            events.connected(self)
            if self._mapper.settings.delay_accept:
                self._sleep(self._mapper.settings.delay_accept)
            packet = self._do_read()
            if packet is not None:
                self._do_request(packet)
        except ProtocolError as error:
            events.rejected(self, error)
        except Aborted as reason:
            events.aborted(str(reason))
        except Exception as error:  # noqa: BLE001 - nobody else would
            events.failed(error)
        finally:
            self.report_closing()
            self._mapper.unregistered.discard(self)
            self._stop_reading()
            self.sock.close()
            self._greenlet = None

    def _do_read(self) -> bytes | None:
        """The one packet of this connection; None if the other end closes before it is whole."""
        reader = protocol.PacketReader()
        events = self._events
        deadlines = self._mapper.deadlines
        try:
            while True:
                try:
                    data = self.sock.recv(reader.wanted, _NOW)
                except BlockingIOError:
                    deadlines.add(self)
                    self._mapper.unregistered.add(self)
                    self._wait_to_read()
                    continue
                except OSError as error:
                    events.read_failed(self, error)
                    return None
                if not data:
                    events.ended_early(self, reader.got)
                    return None
                events.received(reader.so_far, data)
                packet = reader.receive_data(data)
                if packet is not None:
                    events.completed()
                    return packet
        finally:
            deadlines.discard(self)

    # --- Requests ---

    def _do_request(self, packet: bytes) -> None:
        """The one place that decides who may make a request, and who answers it."""
        tag = packet[0]
        title = protocol.request_title(packet)
        allowed = tag in _FOR_ALL or self.is_local()
        self._events.requested(title, allowed=allowed)
        if not allowed:
            raise ProtocolError(f"{title} from non local address")
        if tag == protocol.STOP_REQ and not self._mapper.settings.relaxed:
            raise ProtocolError(f"Disallowed {title}, no relaxed_command_check")
        self._HANDLERS[tag](self, protocol.parse_request(packet))

    def _do_alive2(self, request: Alive2Request) -> None:
        try:
            node = self._mapper.node_reg(request, self)
        except NodeRefused as reason:
            self._events.rejected(self, reason)
            self._stay_refused(request)
        else:
            self._stay_registered(request, node)

    def _stay_registered(self, request: Alive2Request, node: Node) -> None:
        """The name lives as long as the connection."""
        self._is_node = True
        self._mapper.unregistered.discard(self)
        sent = False
        try:
            sent = self._reply(protocol.alive2_reply(request.highest, node.creation))
            if sent:
                self._events.replied("EPMD_ALIVE2_RESP", request.name, sent=True)
                self._wait_for_close()
        finally:
            self._mapper.node_unreg(node)
        if not sent:
            self._events.replied("EPMD_ALIVE2_RESP", request.name, sent=False)

    def _stay_refused(self, request: Alive2Request) -> None:
        """A refused node stays connected as long as it likes, or until its room is needed."""
        self._mapper.unregistered.renew(self)
        sent = self._reply(protocol.alive2_refusal(request.highest))
        self._events.replied("EPMD_ALIVE2_RESP", request.name, sent=sent)
        if sent:
            self._wait_for_close()
            self._events.unknown_closed(self)

    def _wait_for_close(self) -> None:
        """Wait for EOF, a reset, or any byte at all: each ends a node's connection."""
        while True:
            # A node stays: to try a read first would cost more than to wait.
            self._wait_to_read()
            try:
                data = self.sock.recv(protocol.MAX_PACKET, _NOW)
            except BlockingIOError:
                continue
            except OSError as error:
                self._events.node_failed(self, error)
            else:
                self._events.node_closed(self, data, hung_up=self._hung_up)
            return

    def _do_port2(self, request: Port2Request) -> None:
        node = self._mapper.registry.find(request.name)
        if node:
            reply, title = node.port2_reply, "EPMD_PORT2_RESP (ok)"
        else:
            reply, title = protocol.PORT2_NOT_FOUND, "EPMD_PORT2_RESP (error)"
        self._events.replied(title, request.name, sent=self._reply(reply))

    def _do_names(self, _request: BareRequest) -> None:
        lines = self._mapper.registry.names_lines()
        self._reply_listing(self._mapper.names_reply(), lines, "NAMES_RESP")

    def _do_dump(self, _request: BareRequest) -> None:
        lines = self._mapper.registry.dump_lines()
        reply = protocol.listing_reply(self._mapper.port, b"".join(lines))
        self._reply_listing(reply, lines, "DUMP_RESP")

    def _reply_listing(self, reply: bytes, lines: list[bytes], title: str) -> None:
        """`lines` are for the log: C writes the port and each line with a call of its own."""
        sent = self._reply(reply, lambda: [reply[: protocol.LISTING_PORT_SIZE], *lines])
        self._events.replied(title, sent=sent)

    def _do_kill(self, _request: BareRequest) -> None:
        mapper = self._mapper
        if not mapper.may_be_killed():
            self._events.kill_refused(self)
            self._reply_to_kill(protocol.KILL_NO)
            return
        # Whoever reads "OK" may start the next epmd at once: the port must be free by then.
        mapper.close_listeners()
        try:
            self._reply_to_kill(protocol.KILL_OK)
        finally:
            self._events.killed()
            self.hang_up()
            mapper.end("got EPMD_KILL_REQ")

    def _reply_to_kill(self, data: bytes) -> None:
        if not self._reply(data):
            self._events.kill_reply_failed(self)

    def _do_stop(self, request: StopRequest) -> None:
        stopped = self._mapper.node_stop(request.name)
        reply = protocol.STOPPED if stopped else protocol.NOEXIST
        self._events.replied(f"STOP_RESP {reply.decode()}", sent=self._reply(reply))

    _HANDLERS: ClassVar[dict[int, Callable[[Connection, Any], None]]] = {
        protocol.ALIVE2_REQ: _do_alive2,
        protocol.PORT2_REQ: _do_port2,
        protocol.NAMES_REQ: _do_names,
        protocol.DUMP_REQ: _do_dump,
        protocol.KILL_REQ: _do_kill,
        protocol.STOP_REQ: _do_stop,
    }

    # --- Replies ---

    def _reply(self, data: bytes, pieces: Callable[[], Iterable[bytes]] | None = None) -> bool:
        """Send a reply; whether that was possible.  `pieces` gives what C would write with a call each."""
        if self._mapper.settings.delay_write:
            self._sleep(self._mapper.settings.delay_write)
        try:
            self._send_all(data)
        except OSError as error:
            self._events.write_failed(self, error, data, pieces)
            return False
        self._events.written(data, pieces)
        return True

    def _send_all(self, data: bytes) -> None:
        """Send it; a reader that does not take it gets the packet timeout, and then a reset."""
        sent = self._send_some(data)
        if sent == len(data):
            return
        deadlines = self._mapper.deadlines
        deadlines.add(self)
        self._wait_unregistered()
        try:
            rest = memoryview(data)[sent:]
            while rest:
                self._wait_to_write()
                rest = rest[self._send_some(rest) :]
        except Aborted:
            # Otherwise the kernel keeps what is left, and goes on offering it.
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET_ON_CLOSE)
            raise
        finally:
            deadlines.discard(self)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data, _SEND_NOW)
        except BlockingIOError:
            return 0

    # --- Waits: each gives way to the hub ---

    def _wait_to_read(self) -> None:
        """Wait until there is something to read.

        The watcher stays for the next time: a node's connection waits for its request and then for its end,
        and to watch a descriptor anew costs two system calls.  So every other wait calls `_stop_reading`
        first."""
        if self._reader is None:
            self._reader = self._mapper.hub.loop.io(self.fd, _READ)
            self._reader.start(getcurrent().switch)
        self._mapper.hub.switch()

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader.close()
            self._reader = None

    def _wait_to_write(self) -> None:
        """Wait until there is room to write."""
        self._stop_reading()
        watcher = self._mapper.hub.loop.io(self.fd, _WRITE)
        watcher.start(getcurrent().switch)
        try:
            self._mapper.hub.switch()
        finally:
            watcher.stop()
            watcher.close()

    def _wait_unregistered(self) -> None:
        """While it waits, the connection may have to make room, unless it is a node's."""
        if not self._is_node:
            self._mapper.unregistered.renew(self)

    def _sleep(self, seconds: int) -> None:
        """Play a busy server for this connection; the others go on."""
        self._stop_reading()
        self._wait_unregistered()
        self._mapper.sleeping.add(self)
        try:
            sleep(seconds)
        finally:
            self._mapper.sleeping.discard(self)
