"""One accepted connection, from its first byte to its close (C: do_read, do_request, reply).

Strategy: each connection has a greenlet that reads until a packet is whole, answers it, and closes; for
a node it then waits for the other end to go.  The greenlet is a bare one, started at once where the
connection is accepted: most requests are here by then and are answered before it returns to the
hub for the first time.  Nobody looks after a bare greenlet, so `_run` catches everything.

Invariants:
- a connection that waits for a request or for a slow reader is in the table of deadlines, one that
  was refused is in the table of the refused, and one that is neither belongs to a node;
- whatever ends the greenlet, its node is unregistered, and then its socket is closed;
- `abort` is for the hub only: from a greenlet it would never come back.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from struct import pack
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from greenlet import getcurrent, greenlet

from . import protocol
from .log import shown
from .protocol import Alive2Request, BareRequest, Port2Request, ProtocolError, StopRequest
from .registry import Node, Refused

if TYPE_CHECKING:
    from .server import Mapper

#: The requests that peers on other hosts may make too.
_FOR_ALL = frozenset((protocol.PORT2_REQ, protocol.NAMES_REQ))

_READ, _WRITE = 1, 2
_RESET_ON_CLOSE = pack("ii", 1, 0)  # struct linger: on, no seconds


class Aborted(Exception):
    """Thrown into a connection's greenlet to end it; the text is for the log."""


def is_local(peer: str, own: str) -> bool:
    """Whether a peer at this address, connected to this address of ours, is on this host: over
    loopback, or from the very address that it connected to (C: conn_open)."""
    plain = peer.removeprefix("::ffff:")  # IPv4 on a dual-stack socket
    return peer in ("::1", own) or (":" not in plain and plain.startswith("127."))


class Connection:
    """`peer` is the other end's address as accept gave it (C: struct Connection)."""

    __slots__ = ("_greenlet", "_mapper", "_peer", "fd", "sock")

    def __init__(self, mapper: Mapper, sock: _socket.socket, peer: tuple[Any, ...]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._mapper = mapper
        self._peer = peer
        self._greenlet = greenlet(self._run, mapper.hub)

    def start(self) -> None:
        """Serve the connection; gives control back at its first wait.  For the hub only."""
        self._greenlet.switch()

    def abort(self, reason: str) -> None:
        """End the connection now, whatever it waits for.  For the hub only."""
        if not self._greenlet.dead:
            self._greenlet.throw(Aborted(reason))

    def gone(self) -> bool:
        """Whether the other end has closed, or has sent what ends a registration."""
        try:
            self.sock.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def hang_up(self) -> None:
        """Let the other end see the close at once; the greenlet sees it too, and does the rest."""
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster

    def _run(self) -> None:
        mapper = self._mapper
        try:
            if mapper.log.level >= 2:
                mapper.log.tty(2, f"{'Local' if self._local() else 'Non-local'} peer connected")
                mapper.log.tty(2, f"opening connection on file descriptor {self.fd}")
            if mapper.options.delay_accept:
                gevent.sleep(mapper.options.delay_accept)
            packet = self._do_read()
            if packet is not None:
                self._do_request(packet)
        except ProtocolError as error:
            mapper.log.complain(error.kind, error.detail)
        except Aborted as reason:
            mapper.log.tty(1, str(reason))
        except OSError as error:
            mapper.log.complain("connection failed:", error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - nobody else would
            mapper.log.complain("internal error:", repr(error))
        finally:
            mapper.log.tty(2, f"closing connection on file descriptor {self.fd}")
            self.sock.close()

    def _do_read(self) -> bytes | None:
        """The one packet of this connection; None if the other end closes before it is whole."""
        reader = protocol.PacketReader()
        deadlines = self._mapper.deadlines
        try:
            while True:
                try:
                    data = self.sock.recv(reader.wanted)
                except BlockingIOError:
                    deadlines.add(self)
                    self._wait(_READ)
                    continue
                if not data:
                    where = f"on file descriptor {self.fd} ({reader.got})"
                    self._mapper.log.complain("got partial packet only", where)
                    return None
                self._mapper.log.packet(data)
                packet = reader.receive_data(data)
                if packet is not None:
                    return packet
        finally:
            deadlines.discard(self)

    def _do_request(self, packet: bytes) -> None:
        """The one place that decides who may make a request, and who answers it."""
        title = protocol.request_title(packet)
        if self._mapper.log.level:
            self._mapper.log.say(1, f"** got {title}")
        if packet[0] not in _FOR_ALL and not self._local():
            raise ProtocolError(f"{title} from non local address")
        self._HANDLERS[packet[0]](self, protocol.parse_request(packet))

    def _do_alive2(self, request: Alive2Request) -> None:
        try:
            node = self._mapper.node_reg(request, self)
        except Refused as reason:
            self._mapper.log.complain(str(reason), shown(request.name))
            self._stay_refused(request)
        else:
            self._stay_registered(request, node)

    def _stay_refused(self, request: Alive2Request) -> None:
        self._mapper.add_refused(self)
        try:
            self._reply(protocol.alive2_refusal(request.highest), "ALIVE2_RESP", request.name)
            self._wait_for_close()
        finally:
            self._mapper.discard_refused(self)

    def _stay_registered(self, request: Alive2Request, node: Node) -> None:
        """The name lives as long as the connection."""
        try:
            reply = protocol.alive2_reply(request.highest, node.creation)
            self._reply(reply, "ALIVE2_RESP", request.name)
            self._wait_for_close()
        finally:
            self._mapper.node_unreg(node)

    def _wait_for_close(self) -> None:
        """Wait for EOF, a reset, or any byte at all: each ends a node's connection."""
        while True:
            try:
                data = self.sock.recv(protocol.MAX_PACKET)
            except BlockingIOError:
                self._wait(_READ)
                continue
            except OSError as error:
                self._mapper.log.tty(1, f"error on ALIVE socket {self.fd} ({error.strerror})")
                return
            if data:
                log = self._mapper.log
                log.tty(1, f"got more than expected on ALIVE socket {self.fd} ({len(data)})")
                log.packet(data)
            return

    def _do_port2(self, request: Port2Request) -> None:
        node = self._mapper.registry.find(request.name)
        if node is None:
            self._reply(protocol.PORT2_NOT_FOUND, "PORT2_RESP (error)", request.name)
        else:
            self._reply(node.port2_reply, "PORT2_RESP (ok)", request.name)

    def _do_names(self, _request: BareRequest) -> None:
        text = self._mapper.registry.names_text()
        self._reply(protocol.listing_reply(self._mapper.port, text), "NAMES_RESP")

    def _do_dump(self, _request: BareRequest) -> None:
        text = self._mapper.registry.dump_text()
        self._reply(protocol.listing_reply(self._mapper.port, text), "DUMP_RESP")

    def _do_kill(self, _request: BareRequest) -> None:
        mapper = self._mapper
        if not mapper.may_be_killed():
            mapper.log.complain("Disallowed KILL_REQ, live nodes")
            self._reply(protocol.KILL_NO)
            return
        # Whoever reads "OK" may start the next epmd at once: the port must be free by then.
        mapper.close_listeners()
        try:
            self._reply(protocol.KILL_OK)
        finally:
            mapper.log.say(0, "got KILL_REQ - terminates normal")
            mapper.finished.set()

    def _do_stop(self, request: StopRequest) -> None:
        if not self._mapper.options.relaxed:
            raise ProtocolError("Disallowed STOP_REQ, no relaxed_command_check")
        stopped = self._mapper.node_stop(request.name)
        reply = protocol.STOPPED if stopped else protocol.NOEXIST
        self._reply(reply, f"STOP_RESP {reply.decode()}")

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
            return is_local(self._peer[0], self.sock.getsockname()[0])
        except OSError:
            return False  # it is gone: nothing is known of it

    def _reply(self, data: bytes, what: str = "", name: bytes | None = None) -> None:
        if self._mapper.options.delay_write:
            gevent.sleep(self._mapper.options.delay_write)
        self._send_all(data)
        log = self._mapper.log
        if log.level:
            log.packet(data)
            if what:
                log.tty(1, f"** sent {what}" + (f' for "{shown(name)}"' if name is not None else ""))

    def _send_all(self, data: bytes) -> None:
        """Send it; a reader who does not take it gets the packet timeout, and then a reset."""
        sent = self._send_some(data)
        if sent == len(data):
            return
        deadlines = self._mapper.deadlines
        deadlines.add(self)
        try:
            rest = memoryview(data)[sent:]
            while rest:
                self._wait(_WRITE)
                rest = rest[self._send_some(rest) :]
        except Aborted:
            # Without this the kernel keeps what is left and goes on offering it.
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET_ON_CLOSE)
            raise
        finally:
            deadlines.discard(self)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def _wait(self, event: int) -> None:
        """Give way until the socket can be read (1) or written (2)."""
        watcher = self._mapper.hub.loop.io(self.fd, event)
        watcher.start(getcurrent().switch)
        try:
            self._mapper.hub.switch()
        finally:
            watcher.stop()
            watcher.close()
