"""Serves one accepted connection for the mapper, from its first byte to its close.

A request that was answered before gets the same reply from `serve`, as long as no node has come or gone. Each
other connection has a raw greenlet that reads a packet, replies and closes. After a registration, accepted or
refused, it waits until the peer closes. It starts at once, because most requests have arrived when the
connection is accepted, and serves another one later: creating a greenlet takes a fifth of a look-up.

A connection is closed in one place, `_run`, when its greenlet ends. The greenlet ends
- by itself, after a reply or an error;
- when the peer closes, or after `hang_up`, which closes towards the peer and may be called from anywhere;
- by `abort`, which is called from the hub only: called from a greenlet it would never return.
Without a hub nothing of this can happen, and `close_without_hub` closes the socket. `serve` closes what needs
no greenlet: a peer that `-allow` excludes, and one whose request it has answered.

Invariants:
- a connection that waits without a registered node is in `mapper.unregistered`; one that waits for a request
  or for a slow reader also has a deadline;
- however the greenlet ends, its node is unregistered first, and its socket is closed afterwards;
- `serve` sends only what a `Connection` has decided: no other code decides what a request gets;
- `_run` catches every exception, because nothing supervises a raw greenlet.

C's counterpart: do_read, do_request and reply of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable, Collection
from struct import pack

from gevent import sleep
from greenlet import getcurrent, greenlet

from .. import protocol, wire
from ..protocol import Alive2Request, BareRequest, Port2Request, ProtocolError, RequestDenied, StopRequest
from .mapper import Mapper
from .networks import Network, is_in, is_local, peer_name
from .registry import Node, NodeRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

#: The requests that peers on other hosts may make as well.
_FOR_ALL = frozenset((wire.PORT2_REQ, wire.NAMES_REQ))

#: How many greenlets to keep without a connection. Each takes about 7 KB.
_MOST_IDLE = 64

_READ, _WRITE = 1, 2
#: Passed to each call, because making the socket itself non-blocking takes another system call.
_NOW = _socket.MSG_DONTWAIT
#: Without MSG_NOSIGNAL, a peer that closed could kill an embedding program that does not ignore SIGPIPE.
#: macOS does not have it, and there a program must ignore the signal, as Python does.
_SEND_NOW: int = _NOW | getattr(_socket, "MSG_NOSIGNAL", 0)
#: Errors that do not mean that the peer has gone. Treating one as EOF would free the name of a live node.
#: None is the errno of Python's own timeout.
_TRANSIENT = (None, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ENOBUFS)
#: The kernel probes a peer after 60 s of silence, and drops it after four probes without an answer, 15 s
#: apart.
_KEEPALIVE = (
    (_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1),
    # macOS has another name for it.
    (_socket.IPPROTO_TCP, getattr(_socket, "TCP_KEEPIDLE", getattr(_socket, "TCP_KEEPALIVE", 0x10)), 60),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPINTVL, 15),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPCNT, 4),
)
_RESET_ON_CLOSE = pack("ii", 1, 0)  # struct linger: on, 0 seconds

#: How many bytes to read first: the greatest request.
_MOST = wire.HEADER + protocol.MAX_PACKET
#: The size of a request without arguments.
_BARE = wire.HEADER + 1


def serve(mapper: Mapper, sock: _socket.socket, peer: tuple[Any, ...]) -> None:
    """Serve an accepted connection. Returns at its first wait. Call from the hub only.

    If the request has arrived, and the registry has kept the reply that a `Connection` gave to the same
    bytes, this sends it: without greenlet and parser, which take a third of the CPU time of a look-up.
    """
    if mapper.may_ask is not None and Connection(mapper, sock, peer).is_barred(mapper.may_ask):
        sock.close()
        return
    first: bytes | OSError | None = None
    sent = 0
    if mapper.is_undisturbed:
        try:
            first = sock.recv(_MOST, _NOW)
            reply = mapper.registry.replies.get(first)
            if reply is not None:
                sent = sock.send(reply, _SEND_NOW)
                if sent == len(reply):
                    if len(first) > _BARE:
                        mapper.looked_up += 1
                    else:
                        mapper.listed += 1
                    sock.close()
                    return
        except BlockingIOError:
            pass  # there is no request yet, or no memory for the reply
        except OSError as error:
            first = first or error  # if sending failed, the connection sends again, and reports the error
    connection = Connection(mapper, sock, peer, first, sent)
    connection.start()
    mapper.keep_bounded(connection)


class Aborted(Exception):
    """Thrown into a connection's greenlet to end it. The text is for the log."""


class Connection:
    """A connection (C: Connection of epmd_int.h). `peer` is the other end's address as returned by accept.

    `first` is what a first attempt to read gave. `sent` is how many bytes of the reply were sent.
    """

    __slots__ = ("_first", "_greenlet", "_is_node", "_mapper", "_peer", "_reader", "_sent", "fd", "sock")

    def __init__(
        self,
        mapper: Mapper,
        sock: _socket.socket,
        peer: tuple[Any, ...],
        first: bytes | OSError | None = None,
        sent: int = 0,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._mapper = mapper
        self._peer = peer
        self._first = first
        self._sent = sent
        self._is_node = False
        self._reader: Any = None
        self._greenlet: greenlet | None = None

    def __str__(self) -> str:
        """Return the peer's address as the log shows it."""
        return peer_name(self._peer)

    def is_local(self) -> bool:
        """Return whether the peer is on this host (C: conn_open), and is not a proxy for others."""
        if is_in(self._peer[0], self._mapper.settings.not_local):
            return False
        try:
            return is_local(self._peer[0], self.sock.getsockname)
        except OSError:
            return False  # the peer has disconnected

    def is_barred(self, allowed: Collection[Network]) -> bool:
        """Return whether the peer is on another host and in none of these networks. If so, log it."""
        if is_in(self._peer[0], allowed) or self.is_local():
            return False
        self._mapper.events.barred(self)
        return True

    def start(self) -> None:
        """Serve the connection. Returns at its first wait. Call from the hub only."""
        idle_exit = self._mapper.idle_exit
        if idle_exit is not None and self.is_local():
            idle_exit.renew()
        idle = self._mapper.idle_greenlets
        self._greenlet = idle.pop() if idle else greenlet(self._serve_one_by_one, self._mapper.hub)
        self._greenlet.switch(self)

    def abort(self, reason: str) -> None:
        """End the connection now, whatever it waits for. Call from the hub only."""
        if self._greenlet is not None:
            self._greenlet.throw(Aborted(reason))

    def gone(self) -> bool:
        """Return whether the peer has closed, or has sent a byte, which ends a registration as well."""
        try:
            self.sock.recv(1, _socket.MSG_PEEK | _NOW)
        except OSError as error:
            return error.errno not in _TRANSIENT
        return True

    def hang_up(self) -> None:
        """Close towards the peer at once. The greenlet sees EOF, and cleans up."""
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the peer closed first

    def close_without_hub(self, *, in_child: bool, loop_is_ours: bool) -> None:
        """Close the socket after the hub was destroyed. In a forked child, the peer does not notice."""
        if not in_child:
            self.hang_up()
        if loop_is_ours:
            self._stop_reading()
        self.sock.close()

    @staticmethod
    def _serve_one_by_one(connection: Connection) -> None:
        """The body of a greenlet, from its first connection to its last."""
        mapper = connection._mapper
        while True:
            connection._run()
            if len(mapper.idle_greenlets) >= _MOST_IDLE:
                return
            mapper.idle_greenlets.append(getcurrent())
            connection = mapper.hub.switch()

    def _run(self) -> None:
        events = self._mapper.events
        try:
            self._serve()
        except ProtocolError as error:
            events.rejected(self, error)
        except Aborted as reason:
            events.aborted(str(reason))
        except Exception as error:  # noqa: BLE001 - nothing supervises the greenlet
            events.log.failed(error)
        finally:
            events.closing(self)
            self._mapper.unregistered.discard(self)
            self._stop_reading()
            self.sock.close()
            self._greenlet = None

    def _serve(self) -> None:
        self._mapper.events.connected(self)
        if self._mapper.settings.delay_accept:
            self._sleep(self._mapper.settings.delay_accept)
        packet = self._do_read()
        if packet is not None:
            self._do_request(packet)

    def _do_read(self) -> bytes | None:
        """Return the one packet of this connection, or None if the connection ends before."""
        packets = protocol.PacketReader()
        deadlines = self._mapper.deadlines
        try:
            while True:
                try:
                    data = self._receive(packets.wanted)
                except BlockingIOError:
                    deadlines.add(self)
                    self._mapper.unregistered.add(self)
                    self._wait_to_read()
                    continue
                except OSError as error:
                    self._mapper.events.read_failed(self, error)
                    return None
                if not data:
                    self._mapper.events.ended_early(self, packets.got)
                    return None
                self._mapper.events.packet(data)
                packet = packets.receive_data(data)
                if packet is not None:
                    return packet
        finally:
            deadlines.discard(self)

    def _receive(self, most: int) -> bytes:
        first, self._first = self._first, None
        if first is None:
            return self.sock.recv(most, _NOW)
        if isinstance(first, OSError):
            raise first
        return first

    # --- Requests ---

    def _do_request(self, packet: bytes) -> None:
        """Answer a request. This is the only place that decides who may make which request.

        `serve` has closed before whom `-allow` shuts out, and KILL also depends on the nodes.
        """
        tag = packet[0]
        title, parse = protocol.request_kind(packet)
        allowed = tag in _FOR_ALL or self.is_local()
        if tag == wire.ALIVE2_REQ and not allowed:
            allowed = is_in(self._peer[0], self._mapper.settings.allow_register)
        self._mapper.events.counts.requests[tag] += 1
        self._mapper.events.requested(title, allowed=allowed)
        if not allowed:
            raise RequestDenied(f"{title} from non local address")
        if tag == wire.STOP_REQ and not self._mapper.settings.relaxed:
            raise RequestDenied(f"Disallowed {title}, no relaxed_command_check")
        self._HANDLERS[tag](self, parse(packet))

    def _do_alive2(self, request: Alive2Request) -> None:
        try:
            node = self._mapper.node_reg(request, self)
        except NodeRefused as reason:
            self._mapper.events.rejected(self, reason)
            self._stay_refused(request)
        else:
            self._stay_registered(node, protocol.alive2_reply(request.highest, node.creation))

    def _stay_registered(self, node: Node, reply: bytes | None) -> None:
        """Keep the name registered as long as the connection lasts.

        `reply` is None if another process has accepted the connection and answered the node.
        """
        self._is_node = True
        self._mapper.unregistered.discard(self)
        try:
            self._enable_keepalive()
            is_answered = reply is None or self._reply(reply)
            if is_answered:
                if reply is not None:
                    self._mapper.events.replied("EPMD_ALIVE2_RESP", node.name, sent=True)
                    if self._mapper.store is not None:
                        self._mapper.store.put(node)
                self._wait_for_close()
        finally:
            self._mapper.node_unreg(node)
            if self._mapper.store is not None and self._mapper.store.drop(node):
                self.hang_up()  # else the peer would not see the end: the store has a duplicate of the socket
        if not is_answered:
            self._mapper.events.replied("EPMD_ALIVE2_RESP", node.name, sent=False)

    def _enable_keepalive(self) -> None:
        """Enable TCP keep-alive for a node on another host, which may lose its power or network."""
        if not self._mapper.settings.allow_register or self.is_local():
            return
        for level, option, value in _KEEPALIVE:
            self.sock.setsockopt(level, option, value)

    def _stay_refused(self, request: Alive2Request | None) -> None:
        """Keep a refused node's connection open until the peer closes, or the mapper needs its room.

        `request` is None if another process has answered it.
        """
        self._mapper.unregistered.renew(self)
        if request is not None:
            sent = self._reply(protocol.alive2_refusal(request.highest))
            self._mapper.events.replied("EPMD_ALIVE2_RESP", request.name, sent=sent)
            if not sent:
                return
        self._wait_for_close()
        self._mapper.events.unknown_closed(self)

    def _wait_for_close(self) -> None:
        """Wait for EOF, a reset, or any byte. Each of them ends a node's connection."""
        while True:
            # A node stays connected, so trying to read first would cost more than waiting.
            self._wait_to_read()
            try:
                data = self.sock.recv(protocol.MAX_PACKET, _NOW)
            except BlockingIOError:
                continue
            except OSError as error:
                self._mapper.events.node_failed(self, error)
            else:
                self._mapper.events.node_closed(self, data)
            return

    def _do_port2(self, request: Port2Request) -> None:
        node = self._mapper.registry.find(request.name)
        if node:
            reply, title = protocol.port2_reply(node.request), "EPMD_PORT2_RESP (ok)"
            # Only what everybody may ask is kept: `serve` sends it without `_do_request`.
            self._mapper.registry.keep_reply(request, reply)
        else:
            reply, title = protocol.PORT2_NOT_FOUND, "EPMD_PORT2_RESP (error)"
        self._mapper.events.replied(title, request.name, sent=self._reply(reply))

    # The reply of a listing is in no variable here: a variable would keep all of it until a slow reader has
    # read the rest.

    def _do_names(self, request: BareRequest) -> None:
        self._mapper.registry.keep_reply(request, self._mapper.registry.names_reply())
        self._mapper.events.replied("NAMES_RESP", sent=self._reply(self._mapper.registry.names_reply()))

    def _do_dump(self, _request: BareRequest) -> None:
        self._mapper.events.replied("DUMP_RESP", sent=self._reply(self._mapper.registry.dump_reply()))

    def _do_kill(self, _request: BareRequest) -> None:
        mapper = self._mapper
        if not mapper.may_be_killed():
            mapper.events.rejected(self, RequestDenied("Disallowed EPMD_KILL_REQ, live nodes"))
            self._reply_to_kill(wire.KILL_NO)
            return
        # A caller that reads "OK" may start the next epmd at once, so the port must be free by then.
        mapper.close_listeners()
        try:
            self._reply_to_kill(wire.KILL_OK)
        finally:
            mapper.events.killed()
            self.hang_up()
            mapper.end("got EPMD_KILL_REQ")

    def _reply_to_kill(self, data: bytes) -> None:
        if not self._reply(data):
            self._mapper.events.kill_reply_failed(self)

    def _do_stop(self, request: StopRequest) -> None:
        stopped = self._mapper.node_stop(request.name)
        reply = wire.STOPPED if stopped else wire.NOEXIST
        self._mapper.events.replied(f"STOP_RESP {reply.decode()}", sent=self._reply(reply))

    _HANDLERS: ClassVar[dict[int, Callable[[Connection, Any], None]]] = {
        wire.ALIVE2_REQ: _do_alive2,
        wire.PORT2_REQ: _do_port2,
        wire.NAMES_REQ: _do_names,
        wire.DUMP_REQ: _do_dump,
        wire.KILL_REQ: _do_kill,
        wire.STOP_REQ: _do_stop,
    }

    # --- Replies ---

    def _reply(self, data: bytes) -> bool:
        """Send a reply, and return whether that succeeded."""
        self._mapper.events.packet(data)
        if self._mapper.settings.delay_write:
            self._mapper.keep_unsent(self, data, 0)
            self._sleep(self._mapper.settings.delay_write)
        try:
            sent = self._sent or self._send_some(data)
            if sent < len(data):
                self._mapper.keep_unsent(self, data, sent)
                data = b""  # or else this variable would keep all of it
                self._send_rest()
        except OSError as error:
            self._mapper.events.write_failed(self, error)
            return False
        return True

    def _send_rest(self) -> None:
        """Send what is left of a reply. A peer that is too slow, or the slowest of too many, gets a reset."""
        unsent, deadlines = self._mapper.unsent, self._mapper.deadlines
        deadlines.add(self)
        self._wait_unregistered()
        try:
            self._wait_to_write()
            while unsent.advance(self, self._send_some(unsent.rest(self))):
                self._wait_to_write()
        except Aborted:
            # Without this, the kernel keeps the unsent data and continues to offer it to the peer.
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET_ON_CLOSE)
            raise
        finally:
            deadlines.discard(self)
            unsent.discard(self)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data, _SEND_NOW)
        except BlockingIOError:
            return 0

    # --- Waits: each switches to the hub ---

    def _wait_to_read(self) -> None:
        """Wait until there is something to read.

        The watcher stays active for the next call, because watching a descriptor anew costs two system calls.
        Therefore every other wait calls `_stop_reading` first.
        """
        if self._reader is None:
            self._reader = self._mapper.hub.loop.io(self.fd, _READ)
            self._reader.start(getcurrent().switch)
        self._mapper.hub.switch()

    def _stop_reading(self) -> None:
        if self._reader is not None:
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
            watcher.close()

    def _wait_unregistered(self) -> None:
        """Let the connection be closed to make room while it waits, unless it has a registered node."""
        if not self._is_node:
            self._mapper.unregistered.renew(self)

    def _sleep(self, seconds: int) -> None:
        """Simulate a busy server for this connection only."""
        self._stop_reading()
        self._wait_unregistered()
        self._mapper.sleeping.add(self)
        try:
            sleep(seconds)
        finally:
            self._mapper.sleeping.discard(self)
            self._mapper.unsent.discard(self)
