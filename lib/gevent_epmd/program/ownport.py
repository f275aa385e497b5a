"""Connects to the port that this process serves: a firewall may block it on loopback too.

Without this check, a daemon that nobody can ask would report success, and each node would wait for a time-out
of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from ..server.listeners import LOOPBACK_OF_ANY, connected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Errors that do not mean that something blocks the port: this host lacks the address or the protocol.
_ABSENT = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def must_answer(hosts: Sequence[str], port: int, take_back: Callable[[int, tuple[Any, ...]], None]) -> None:
    """Raise OSError if a port that listens on loopback can be reached at no loopback address.

    `hosts` are the addresses that it listens on. One address that can be reached is enough, because many
    hosts block IPv6. `take_back` is called with its number and the address of this end of the connection,
    which is to leave no trace in the log.
    """
    problem = None
    for number, listening in enumerate(hosts):
        host = LOOPBACK_OF_ANY.get(listening, listening)
        if not host.startswith("127.") and host != "::1":
            continue
        try:
            sock = connected(host, port)
            try:
                # A listening socket of `acceptor` holds back a connection that has sent nothing.
                sock.send(b"\0")
                take_back(number, sock.getsockname())
            finally:
                sock.close()
        except OSError as error:
            if error.errno not in _ABSENT:
                problem = error
        else:
            return
    if problem is not None:
        reason = os.strerror(problem.errno) if problem.errno else "timed out"
        raise OSError(f"port {port} does not answer on loopback ({reason}): does a firewall block it?")
