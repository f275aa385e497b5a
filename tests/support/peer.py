"""A client of the wire, for tests: plain blocking sockets, every wait bounded."""

from __future__ import annotations

import errno
import select
import socket
import struct

from gevent_epmd.protocol import Alive2Request, Port2Request
from gevent_epmd.wire import frame
from support.forms import Server
from support.patience import PATIENCE, wait_until

RESET = struct.pack("ii", 1, 0)


def node(name: str | bytes, port: int = 4711, highest: int = 6, extra: bytes = b"") -> Alive2Request:
    raw = name.encode() if isinstance(name, str) else name
    return Alive2Request(port, 77, 0, highest, 5, raw, extra)


class Peer:
    """One connection to an epmd."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, source: str = "", narrow: bool = False) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if narrow:
            # Small segments and a small window: over loopback a megabyte would find room otherwise.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        try:
            if source:
                self.sock.bind((source, 0))
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer where the other end closes first."""
        got = b""
        while len(got) < size and (more := self._recv(size - len(got))):
            got += more
        return got

    def read_all(self) -> bytes:
        """All that comes until the other end closes, in peace or by a reset."""
        return self.read(1 << 30)

    def is_open(self) -> bool:
        """Whether the other end has neither sent nor closed.  Ask after a `barrier`."""
        poll = select.poll()  # select(2) knows 1,024 descriptors
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def was_reset(self) -> bool:
        """Whether the other end has reset it, which one who does not read only hears of like this.  Closes
        it then: the socket says so once."""
        if self.sock.fileno() >= 0:
            if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != errno.ECONNRESET:
                return False
            self.close()
        return True

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def _recv(self, size: int) -> bytes:
        try:
            return self.sock.recv(min(size, 1 << 16))
        except ConnectionError:
            return b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def begun(port: int) -> Peer:
    """A connection with the first byte of a request, which the server accepts at once.  The kernel keeps back
    one that has sent nothing, for a second."""
    peer = Peer(port)
    peer.send(b"\0")
    return peer


def ask(port: int, packet: bytes, host: str = "127.0.0.1", source: str = "") -> bytes:
    """The whole reply to one request."""
    with Peer(port, host, source=source) as peer:
        peer.send(frame(packet))
        return peer.read_all()


def names(port: int) -> list[str]:
    """The lines of NAMES, without their common beginning, newest first."""
    lines = ask(port, b"n")[4:].decode().splitlines()
    return [line.removeprefix("name ") for line in lines]


def barrier(port: int) -> None:
    """Returns when the server has seen all that was sent before.

    One answer is not enough: a turn of its loop may accept several before it looks at those who are
    connected, and it may do the one or the other first."""
    from gevent_epmd.server.acceptor import AT_ONCE  # with gevent, for which only this waits

    # A look-up costs the same, however many nodes there are.
    for _ in range(2 * AT_ONCE + 1):
        assert ask(port, b"znobody") == b"w\1"


def lives(server: Server) -> bool:
    """Whether the server outlives what was sent before, once it has seen it."""
    try:
        barrier(server.port)
    except (AssertionError, OSError):
        wait_until(lambda: server.ended() is not None, "the server to answer or to end")
        return False
    return True


def register(port: int, request: Alive2Request) -> tuple[Peer, int]:
    """A peer that holds this node, and the node's creation."""
    peer = Peer(port)
    try:
        reply = try_to_register(peer, request)
        assert reply[1:2] == b"\0", f"refused: {request}"
    except BaseException:
        peer.close()
        raise
    return peer, int.from_bytes(reply[2:], "big")


def try_to_register(peer: Peer, request: Alive2Request) -> bytes:
    peer.send(frame(request.packet()))
    return peer.read(6 if request.highest >= 6 else 4)


def look_up(port: int, name: str) -> bytes:
    return ask(port, Port2Request(name.encode()).packet())


def long_nodes(count: int) -> list:
    return [node(f"{number:04}" + "n" * 251) for number in range(count)]


def slow_reader(port: int) -> Peer:
    """Somebody who asks for NAMES, reads the beginning, and stops."""
    peer = Peer(port, narrow=True)
    peer.send(frame(b"n"))
    assert len(peer.read(4)) == 4
    return peer


def scenes_of_trouble(port: int) -> None:
    """What makes an epmd say or do what it does not do every day."""
    kept, _ = register(port, node("ж\n\u2028"))
    for packet in (b"?", b"z", b"z\xff", b"d", b"sfoo", b"k", b"n" * 3000, node("foo\0").packet()):
        ask(port, packet)
    for data in (b"", b"\0", b"\0\0", b"\xff\xff", b"\0\x04zfo"):
        for end in ("close", "reset"):
            peer = Peer(port)
            peer.send(data)
            getattr(peer, end)()
    refused = Peer(port)
    refused.send(frame(node("ж\n\u2028").packet()))
    refused.read(6)
    idle = [begun(port) for _ in range(300)]
    barrier(port)
    assert kept.is_open()
    for peer in (kept, refused, *idle):
        peer.close()
