"""Who has a port that is in use: another epmd, which is no reason to complain, or something that is none.

Every start of a node but the first comes this way: what asks is imported only once the port is in use.
"""

from __future__ import annotations

import _socket
import time
from collections.abc import Sequence

from ..server import listeners

#: Where to ask who has a port of every address.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
#: For how long, in seconds, what does not answer may be an epmd that starts or ends just now: it has bound
#: the port and does not listen yet, or has closed its connections and still has the port.
_MOMENT = 1.0
_PAUSE = 0.05


def open_listeners(addresses: Sequence[str] | None, port: int) -> list[_socket.socket]:
    """As listeners.open_listeners, but raises PortInUse only where an epmd answers at the port, and
    ListenError where something else has it.

    An answer is waited for as long as an interactive call waits.  A shorter limit would take an epmd that is
    merely slow for a stranger: one with -delay_accept, or one that starts while a hundred others try to.
    """
    end = time.monotonic() + _MOMENT
    while True:
        try:
            return listeners.open_listeners(addresses, port)
        except listeners.PortInUse as error:
            in_use = error
        met = _met(in_use)
        if not met:
            raise in_use
        if time.monotonic() >= end:
            raise listeners.ListenError(f"port {in_use.port} is in use, and no epmd answers there: {met}")
        time.sleep(_PAUSE)


def _met(in_use: listeners.PortInUse) -> str:
    """What is there and is no epmd; nothing if it is one."""
    from ..client import exchange

    host = _LOOPBACK_OF.get(in_use.host, in_use.host)
    try:
        exchange.must_be_an_epmd(exchange.Target(host, in_use.port, exchange.TIMEOUT))
    except exchange.EpmdError as error:
        return str(error)
    return ""
