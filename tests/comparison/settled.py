"""When a server has done all that it was given to do: the barrier of the scenes that read its log.

A request of the barrier's own would be in the log, so this looks from outside: what was sent over loopback
has arrived, and the process sleeps.  A busy host delivers late, but what one processor has sent it
delivers in that order: so whoever sends stays on one.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time

from support.forms import PATIENCE, state, wait_until

#: How long it must be seen asleep, and how often.
_CALM = 0.002
_LOOKS = 4
_AT_REST = ("S", "Z", "")

# sock_diag(7).  /proc/net/tcp says the same, and takes 0.1 s where many connections have just ended.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_ALL, _DONE = 4, 20, 0x301, 3
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBxI")
_INODE = struct.Struct("=68xI")
_LISTENING = 1 << 10


def stay_on_one_processor() -> None:
    """For the calling thread; to be called before it sends what `settle` is to wait for."""
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


def settle(pid: int) -> None:
    """Returns when this server's process waits for something new, or has ended."""
    _arrive()
    wait_until(lambda: _sleeps(pid), f"process {pid} to have nothing to do")


def _arrive() -> None:
    """What comes back has been sent last."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"here", sock.getsockname())
        sock.recv(4)


def _sleeps(pid: int) -> bool:
    for _ in range(_LOOKS):
        if state(pid) not in _AT_REST:
            return False
        time.sleep(_CALM)
    return True


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
