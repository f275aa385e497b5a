"""TCP ports: reserving them, asking whether an epmd answers there, and which sockets listen."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from support.patience import PATIENCE

# sock_diag(7).  /proc/net/tcp says the same, and takes 0.1 s where many connections have just ended.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_ALL, _DONE = 4, 20, 0x301, 3
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBxI")
_INODE = struct.Struct("=68xI")
_LISTENING = 1 << 10


class ReservedPort:
    """A TCP port of both families that nobody else gets while this is open."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        while not self._sockets:
            self._try()

    def _try(self) -> None:
        with contextlib.ExitStack() as opened:
            v4 = opened.enter_context(_reusable(socket.AF_INET))
            v4.bind(("127.0.0.1", 0))
            self.number: int = v4.getsockname()[1]
            v6 = opened.enter_context(_reusable(socket.AF_INET6))
            try:
                v6.bind(("::1", self.number))
                # A connection that has just ended may have the number at another address, and then nobody
                # could listen on every address.
                with _reusable(socket.AF_INET6) as everywhere:
                    everywhere.bind(("::", self.number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return  # another number, then
            self._sockets = [v4, v6]
            opened.pop_all()

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def _reusable(family: int) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    reserved = ReservedPort()
    try:
        yield reserved.number
    finally:
        reserved.close()


def answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as sock:
            sock.sendall(b"\0\1n")
            return len(sock.recv(4)) == 4
    except OSError:
        return False


def listening_inodes(port: int) -> set[int]:
    """The sockets that listen at the port over IPv4, by their numbers in /proc/PID/fd."""
    query = _QUERY.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _LISTENING) + struct.pack("!H46x", port)
    header = _HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_ALL, 0, 0)
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(header + query)
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                size, kind, *_ = _HEADER.unpack_from(answer)
                if kind != _SOCK_DIAG_BY_FAMILY:
                    assert kind == _DONE, "the kernel does not tell"
                    return found
                found.update(_INODE.unpack_from(answer, _HEADER.size))
                answer = answer[(size + 3) & ~3 :]
