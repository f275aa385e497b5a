"""Opens the listening sockets, and finds out who holds a port that is in use: an epmd or another program.

Invariant: the client is imported only after a port turned out to be in use. Each start of a node after the
first one comes here.

C's counterpart: the EADDRINUSE case in run() of epmd_srv.c, which exits with status 0 whichever program holds
the port.
"""

from __future__ import annotations

import _socket
import time
from collections.abc import Sequence

from ..server import listeners

#: Where to ask who holds a port that is bound on all addresses.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
#: How long a program that does not answer may be an epmd that is starting or shutting down, in seconds. Such
#: an epmd has bound the port but does not listen yet, or it has closed its connections but still holds the
#: port.
_MOMENT = 1.0
_PAUSE = 0.05


def open_listeners(addresses: Sequence[str] | None, port: int) -> list[_socket.socket]:
    """Open the listening sockets as listeners.open_listeners does, but distinguish an epmd from another
    program.

    Raises PortInUseError if an epmd answers at the port, and ListenError if another program holds it.

    The time limit for the answer is that of an interactive call. A shorter limit would mistake a slow epmd
    for another program, for example an epmd with -delay_accept, or one that starts while a hundred others try
    to start.
    """
    end = time.monotonic() + _MOMENT
    while True:
        try:
            return listeners.open_listeners(addresses, port)
        except listeners.PortInUseError as error:
            in_use = error
        met = _met(in_use)
        if not met:
            raise in_use
        if time.monotonic() >= end:
            raise listeners.ListenError(f"port {in_use.port} is in use, but no epmd answers there: {met}")
        time.sleep(_PAUSE)


def _met(in_use: listeners.PortInUseError) -> str:
    """Return what answered instead of an epmd, or "" if an epmd answered."""
    from ..client import exchange

    host = _LOOPBACK_OF.get(in_use.host, in_use.host)
    try:
        exchange.must_be_an_epmd(exchange.Target(host, in_use.port, exchange.TIMEOUT))
    except exchange.EpmdError as error:
        return str(error)
    return ""
