"""When a server has done all that it was given to do: the barrier of the scenes that read its log.

A request of the barrier's own would be in the log, so this looks from outside: nothing waits in a socket
of the server's port to be accepted or read, and the process sleeps.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from forms import wait_until

#: How long it must look idle, and how often: a packet or a wake-up may be on its way for a moment.
_CALM = 0.002
_LOOKS = 3
_AT_REST = ("S", "Z", "")

# sock_diag(7).  /proc/net/tcp says the same, and takes 0.1 s where many connections have just ended.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_ALL, _DONE = 4, 20, 0x301, 3
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBxI")
_SOCKET = struct.Struct("=xB54xI8xI")
_ESTABLISHED, _CLOSE_WAIT, _LISTEN = 1, 8, 10
_STATES = 1 << _ESTABLISHED | 1 << _CLOSE_WAIT | 1 << _LISTEN


def settle(pid: int, port: int) -> None:
    """Returns when the process that serves the port waits for something new, or has ended."""
    wait_until(lambda: _calm(pid, port), f"process {pid} to have nothing to do")


def _calm(pid: int, port: int) -> bool:
    for _ in range(_LOOKS):
        if _state(pid) not in _AT_REST:
            return False
        time.sleep(_CALM)
    return not _something_waits(port) and _state(pid) in _AT_REST


def _state(pid: int) -> str:
    """The letter of the process's state; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def _something_waits(port: int) -> bool:
    """Over IPv4.  The end of a connection waits, too, until the server has closed its own."""
    return any(waiting or state == _CLOSE_WAIT for state, waiting, _ in _sockets(port))


def listening_inodes(port: int) -> set[int]:
    """The sockets that listen at the port over IPv4, by their numbers in /proc/PID/fd."""
    return {inode for state, _, inode in _sockets(port) if state == _LISTEN}


def _sockets(port: int) -> Iterator[tuple[int, int, int]]:
    """What is bound there: state, bytes to read (where it listens, connections to accept), and inode."""
    query = _QUERY.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _STATES) + struct.pack("!H46x", port)
    header = _HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_ALL, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(header + query)
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                size, kind, *_ = _HEADER.unpack_from(answer)
                if kind != _SOCK_DIAG_BY_FAMILY:
                    assert kind == _DONE, "the kernel does not tell"
                    return
                yield _SOCKET.unpack_from(answer, _HEADER.size)
                answer = answer[(size + 3) & ~3 :]
