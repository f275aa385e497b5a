"""Connects to the port that this process serves: a firewall may block it on loopback too.

Without this check, a daemon that nobody can ask would report success, and each node would wait for a time-out
of its own.

C has no counterpart.
"""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Iterable

from ..wire import NAMES_REQ, frame

#: How long to wait for each address, in seconds. The kernel of this host accepts a connection at once.
_PATIENCE = 1.0
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
#: Errors that do not mean that something blocks the port: this host lacks the address or the protocol.
_ABSENT = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def must_answer(hosts: Iterable[str], port: int) -> None:
    """Raise OSError if a port that listens on loopback can be reached at no loopback address.

    `hosts` are the addresses that it listens on. One address that can be reached is enough, because many
    hosts block IPv6.
    """
    problem = None
    for host in dict.fromkeys(_LOOPBACK_OF.get(host, host) for host in hosts):
        if not host.startswith("127.") and host != "::1":
            continue
        try:
            _connect(host, port)
        except OSError as error:
            if error.errno not in _ABSENT:
                problem = error
        else:
            return
    if problem is not None:
        reason = os.strerror(problem.errno) if problem.errno else "timed out"
        raise OSError(f"port {port} does not answer on loopback ({reason}): does a firewall block it?")


def _connect(host: str, port: int) -> None:
    """Connect and leave. Raises OSError.

    The kernel completes the connection, even if the server is made to look busy. Without a request, the
    server would log a complaint.
    """
    sock = _socket.socket(_socket.AF_INET6 if ":" in host else _socket.AF_INET, _socket.SOCK_STREAM)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect((host, port))
        sock.send(frame(bytes((NAMES_REQ,))), _socket.MSG_NOSIGNAL)
    finally:
        sock.close()
