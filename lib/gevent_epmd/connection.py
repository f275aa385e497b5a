"""One accepted connection, from its first byte to its close (C: do_read, do_request, reply).

Strategy: each connection has a greenlet that reads until a packet is whole, answers it, and closes; for
a node it then waits for the other end to go.  The greenlet is a bare one, started at once where the
connection is accepted: most requests are here by then and are answered before it returns to the
hub for the first time.  Nobody looks after a bare greenlet, so `_run` catches everything.  A greenlet
that is done with a connection stays for the next one: CPython maps memory for each new one and unmaps it
in the end, which took a fifth of the time of a look-up.

Invariants:
- a connection that waits and is not a node's is among the guests; one that waits for a request or for a slow
  reader is in the table of deadlines too, and one that plays busy among the sleeping;
- whatever ends the greenlet, its node is unregistered, and then its socket is closed;
- `abort` is for the hub only: from a greenlet it would never come back.
"""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable, Iterable, Sequence
from struct import pack
from typing import TYPE_CHECKING, Any, ClassVar

from greenlet import getcurrent, greenlet

from . import protocol
from .log import shown
from .networks import Network, is_in, plain_host
from .protocol import Alive2Request, BareRequest, Port2Request, ProtocolError, StopRequest
from .registry import Node, Refused

if TYPE_CHECKING:
    from .server import Mapper

#: The requests that peers on other hosts may make too.
_FOR_ALL = frozenset((protocol.PORT2_REQ, protocol.NAMES_REQ))

#: How many greenlets without a connection are kept, of some 7 KB each.
_MOST_IDLE = 64

_READ, _WRITE = 1, 2
#: With each call, since a connection's socket is one that blocks: to change that is a system call more.
_NOW = _socket.MSG_DONTWAIT
#: A program that we are embedded in may want to die of SIGPIPE, but not because a peer has gone.
_SEND_NOW = _NOW | _socket.MSG_NOSIGNAL
#: Errors that say nothing of the other end.  None is a time-out's of Python's, or a signal handler's own: to
#: take one for an end gives the name of a live node away.
_NO_NEWS = (None, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ENOBUFS)
_RESET_ON_CLOSE = pack("ii", 1, 0)  # struct linger: on, no seconds


class Aborted(Exception):
    """Thrown into a connection's greenlet to end it; the text is for the log."""


def is_local(peer: str, own: Callable[[], tuple[Any, ...]]) -> bool:
    """Whether a peer at this address is on this host: over loopback, or from the very address that it
    connected to (C: conn_open), which `own` gives as getsockname does where it matters."""
    plain = plain_host(peer)
    loopback = peer == "::1" or (":" not in plain and plain.startswith("127."))
    return loopback or peer == own()[0]


class Connection:
    """`peer` is the other end's address as accept gave it (C: struct Connection)."""

    __slots__ = ("_greenlet", "_hung_up", "_is_node", "_mapper", "_peer", "_reader", "fd", "sock")

    def __init__(self, mapper: Mapper, sock: _socket.socket, peer: tuple[Any, ...]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._mapper = mapper
        self._peer = peer
        self._hung_up = False
        self._is_node = False
        self._reader: Any = None
        self._greenlet: greenlet | None = None

    def is_barred(self, allowed: Iterable[Network]) -> bool:
        """Whether the peer is of another host and of none of these networks."""
        return not is_in(self._peer[0], allowed) and not self._local()

    def bar(self) -> None:
        """End the connection before it is served."""
        self.complain("closing a connection that is not allowed")
        self.sock.close()

    def start(self) -> None:
        """Serve the connection; gives control back at its first wait.  For the hub only."""
        idle = self._mapper.idle
        self._greenlet = idle.pop() if idle else greenlet(self._serve_one_by_one, self._mapper.hub)
        self._greenlet.switch(self)

    def abort(self, reason: str) -> None:
        """End the connection now, whatever it waits for.  For the hub only."""
        if self._greenlet is not None:
            self._greenlet.throw(Aborted(reason))

    def complain(self, kind: str, *details: object) -> None:
        """Log what the peer did, in C's words where it has some, and then who it is."""
        # Of many complaints few are logged, and only those need to say who.
        self._mapper.log.complain(f"{kind} from %s", *details, self)

    def __str__(self) -> str:
        """The peer's address and port, for the log."""
        host, port = plain_host(self._peer[0]), self._peer[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def gone(self) -> bool:
        """Whether the other end has closed, or has sent what ends a registration."""
        try:
            self.sock.recv(1, _socket.MSG_PEEK | _NOW)
        except OSError as error:
            return error.errno not in _NO_NEWS
        return True

    def hang_up(self) -> None:
        """Let the other end see the close at once; the greenlet sees it too, and does the rest."""
        self.log_closing()
        self._hung_up = True
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster

    def leave_to_parent(self, *, loop_is_ours: bool) -> None:
        """For a forked child: close its copy of the socket, of which the other end sees nothing."""
        if loop_is_ours:
            self._stop_reading()
        self.sock.close()

    def log_closing(self) -> None:
        if not self._hung_up:
            self._mapper.log.tty(2, f"closing connection on file descriptor {self.fd}")

    @staticmethod
    def _serve_one_by_one(connection: Connection) -> None:
        """What a greenlet does, from its first connection to its last."""
        mapper = connection._mapper
        while True:
            connection._run()
            if len(mapper.idle) >= _MOST_IDLE:
                return
            mapper.idle.append(getcurrent())
            connection = mapper.hub.switch()

    def _run(self) -> None:
        mapper = self._mapper
        try:
            if mapper.log.level >= 2:
                self._log_opening()
            if mapper.options.delay_accept:
                self._sleep(mapper.options.delay_accept)
            packet = self._do_read()
            if packet is not None:
                self._do_request(packet)
        except ProtocolError as error:
            self.complain(error.kind, *error.details)
        except Aborted as reason:
            mapper.log.seconds()
            mapper.log.tty(1, str(reason))
        except Exception as error:  # noqa: BLE001 - nobody else would
            mapper.log.failed(error)
        finally:
            if mapper.log.level >= 2:
                self.log_closing()
            mapper.guests.discard(self)
            self._stop_reading()
            self.sock.close()
            self._greenlet = None

    def _do_read(self) -> bytes | None:
        """The one packet of this connection; None if the other end closes before it is whole."""
        reader = protocol.PacketReader()
        deadlines = self._mapper.deadlines
        log = self._mapper.log
        try:
            while True:
                try:
                    data = self.sock.recv(reader.wanted, _NOW)
                except BlockingIOError:
                    deadlines.add(self)
                    self._mapper.guests.add(self)
                    self._wait_to_read()
                    continue
                except OSError as error:
                    self._log_read(b"")
                    self.complain("error in read: %s", error.strerror)
                    return None
                if log.level:
                    # Of a packet in pieces C shows the beginning each time, not the piece.
                    self._log_read((reader.so_far + data)[: len(data)])
                if not data:
                    self.complain("got partial packet only on file descriptor %s (%s)", self.fd, reader.got)
                    return None
                packet = reader.receive_data(data)
                if packet is not None:
                    log.seconds()
                    return packet
        finally:
            deadlines.discard(self)

    def _do_request(self, packet: bytes) -> None:
        """The one place that decides who may make a request, and who answers it."""
        title = protocol.request_title(packet)
        allowed = self._may_ask(packet[0])
        if self._mapper.log.level and (allowed or packet[0] != protocol.KILL_REQ):
            self._mapper.log.say(1, f"** got {title}")
        if not allowed:
            raise ProtocolError(f"{title} from non local address")
        if packet[0] == protocol.STOP_REQ and not self._mapper.options.relaxed:
            raise ProtocolError("Disallowed EPMD_STOP_REQ, no relaxed_command_check")
        self._HANDLERS[packet[0]](self, protocol.parse_request(packet))

    def _may_ask(self, tag: int) -> bool:
        """Everything is for peers on this host, some is for those on others too."""
        return tag in _FOR_ALL or self._local()

    def _do_alive2(self, request: Alive2Request) -> None:
        try:
            node = self._mapper.node_reg(request, self)
        except Refused as reason:
            self.complain(reason.kind, *reason.details)
            self._stay_refused(request)
        else:
            self._stay_registered(request, node)

    def _stay_refused(self, request: Alive2Request) -> None:
        """A refused node stays connected as long as it likes, or until its room is needed."""
        self._mapper.guests.renew(self)
        sent = self._reply(protocol.alive2_refusal(request.highest))
        self._log_reply("EPMD_ALIVE2_RESP", request.name, sent=sent)
        if sent:
            self._wait_for_close()
            self._mapper.log.tty(1, f"trying to unregister node with unknown file descriptor {self.fd}")

    def _stay_registered(self, request: Alive2Request, node: Node) -> None:
        """The name lives as long as the connection."""
        self._is_node = True
        self._mapper.guests.discard(self)
        try:
            sent = self._reply(protocol.alive2_reply(request.highest, node.creation))
            if sent:
                self._log_reply("EPMD_ALIVE2_RESP", request.name, sent=True)
                self._wait_for_close()
        finally:
            self._mapper.node_unreg(node)
        if not sent:
            self._log_reply("EPMD_ALIVE2_RESP", request.name, sent=False)

    def _wait_for_close(self) -> None:
        """Wait for EOF, a reset, or any byte at all: each ends a node's connection."""
        log = self._mapper.log
        while True:
            # A node stays: to look whether it has gone already would cost more than to wait.
            self._wait_to_read()
            try:
                data = self.sock.recv(protocol.MAX_PACKET, _NOW)
            except BlockingIOError:
                continue
            except OSError as error:
                log.seconds()
                log.tty(1, f"error on ALIVE socket {self.fd} (-1; errno=0x{error.errno:x})")
                return
            if not self._hung_up:
                log.seconds()
            if data:
                log.tty(1, f"got more than expected on ALIVE socket {self.fd} ({len(data)})")
                log.packet(data)
            return

    def _do_port2(self, request: Port2Request) -> None:
        node = self._mapper.registry.find(request.name)
        reply, result = (node.port2_reply, "ok") if node else (protocol.PORT2_NOT_FOUND, "error")
        sent = self._reply(reply)
        if self._mapper.log.level:
            self._log_reply(f"EPMD_PORT2_RESP ({result})", request.name, sent=sent)

    def _do_names(self, _request: BareRequest) -> None:
        mapper = self._mapper
        lines = mapper.registry.names_lines() if mapper.log.level >= 2 else ()
        self._reply_listing(mapper.names_reply(), lines, "NAMES_RESP")

    def _do_dump(self, _request: BareRequest) -> None:
        lines = self._mapper.registry.dump_lines()
        self._reply_listing(protocol.listing_reply(self._mapper.port, b"".join(lines)), lines, "DUMP_RESP")

    def _reply_listing(self, reply: bytes, lines: Iterable[bytes], what: str) -> None:
        """The lines are for the log, which shows them one by one, as C writes them."""
        sent = self._reply(reply, (reply[: protocol.LISTING_PORT_SIZE], *lines))
        self._log_reply(what, sent=sent)

    def _do_kill(self, _request: BareRequest) -> None:
        mapper = self._mapper
        if not mapper.may_be_killed():
            self.complain("Disallowed EPMD_KILL_REQ, live nodes")
            self._reply_to_kill(protocol.KILL_NO)
            return
        # Whoever reads "OK" may start the next epmd at once: the port must be free by then.
        mapper.close_listeners()
        try:
            self._reply_to_kill(protocol.KILL_OK)
        finally:
            mapper.log.tty(1, "epmd killed")
            self.hang_up()
            mapper.log.say(0, "got EPMD_KILL_REQ - terminates normal")
            mapper.finished.set()

    def _reply_to_kill(self, data: bytes) -> None:
        if not self._reply(data):
            self.complain("failed to send reply to EPMD_KILL_REQ")

    def _do_stop(self, request: StopRequest) -> None:
        stopped = self._mapper.node_stop(request.name)
        reply = protocol.STOPPED if stopped else protocol.NOEXIST
        sent = self._reply(reply)
        self._log_reply(f"STOP_RESP {reply.decode()}", sent=sent)

    _HANDLERS: ClassVar[dict[int, Callable[[Connection, Any], None]]] = {
        protocol.ALIVE2_REQ: _do_alive2,
        protocol.PORT2_REQ: _do_port2,
        protocol.NAMES_REQ: _do_names,
        protocol.DUMP_REQ: _do_dump,
        protocol.KILL_REQ: _do_kill,
        protocol.STOP_REQ: _do_stop,
    }

    def _local(self) -> bool:
        try:
            return is_local(self._peer[0], self.sock.getsockname)
        except OSError:
            return False  # it is gone: nothing is known of it

    def _reply(self, data: bytes, pieces: Sequence[bytes] = ()) -> bool:
        """Whether it could be sent.  `pieces` is how the log shows it, where that is not at once."""
        if self._mapper.options.delay_write:
            self._sleep(self._mapper.options.delay_write)
        log = self._mapper.log
        sent = True
        try:
            self._send_all(data)
        except OSError as error:
            sent = False
            self.complain("error in write, errno=%s: %s", error.errno, error.strerror)
            pieces = pieces[:1]
        if log.level:
            for piece in pieces or (data,):
                log.packet(piece)
        return sent

    def _log_read(self, data: bytes) -> None:
        log = self._mapper.log
        log.seconds()
        if data:
            log.packet(data)

    def _log_reply(self, what: str, name: bytes | None = None, *, sent: bool) -> None:
        if not self._mapper.log.level:
            return
        of_node = "" if name is None else f' for "{shown(name)}"'
        # C marks a failure only where it names the node.
        mark = "** " if sent or of_node else ""
        self._mapper.log.tty(1, f"{mark}{'sent' if sent else 'failed to send'} {what}{of_node}")

    def _log_opening(self) -> None:
        log = self._mapper.log
        log.tty(2, f"{'Local' if self._local() else 'Non-local'} peer connected")
        log.seconds()
        log.tty(2, f"opening connection on file descriptor {self.fd}")

    def _send_all(self, data: bytes) -> None:
        """Send it; a reader who does not take it gets the packet timeout, and then a reset."""
        sent = self._send_some(data)
        if sent == len(data):
            return
        deadlines = self._mapper.deadlines
        deadlines.add(self)
        self._wait_as_guest()
        try:
            rest = memoryview(data)[sent:]
            while rest:
                self._wait_to_write()
                rest = rest[self._send_some(rest) :]
        except Aborted:
            # Without this the kernel keeps what is left and goes on offering it.
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET_ON_CLOSE)
            raise
        finally:
            deadlines.discard(self)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data, _SEND_NOW)
        except BlockingIOError:
            return 0

    def _wait_to_read(self) -> None:
        """Give way until there is something to read.

        The watcher stays for the next time: a node's connection waits once for its request and then for its
        end, and to look at a descriptor anew costs two system calls.  So nobody else may be waited for
        without `_stop_reading`."""
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
        """Give way until there is room to write."""
        self._stop_reading()
        watcher = self._mapper.hub.loop.io(self.fd, _WRITE)
        watcher.start(getcurrent().switch)
        try:
            self._mapper.hub.switch()
        finally:
            watcher.stop()
            watcher.close()

    def _wait_as_guest(self) -> None:
        if not self._is_node:
            self._mapper.guests.renew(self)

    def _sleep(self, seconds: int) -> None:
        self._stop_reading()
        self._wait_as_guest()
        self._mapper.sleep(self, seconds)
