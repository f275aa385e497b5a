"""Opens the listening sockets, and finds out who holds a port that is in use: an epmd or another program.

Invariants:
- the client is imported only after a port turned out to be in use, as at each start of a node after the first
  one, and `procfs` only if no epmd answers there;
- a port whose holder does not answer is an error after 3 s, with the time that `quick` has waited, because a
  node, a unit or a probe waits for this start. Only an epmd that /proc shows may take longer.

C's counterpart: the EADDRINUSE case in run() of epmd_srv.c, which exits with status 0 whichever program holds
the port.
"""

from __future__ import annotations

import _socket
import time
from collections.abc import Sequence

from ..conventions import LOOPBACK
from ..server import listeners

#: Where to ask who holds a port that is bound on all addresses: at that family's loopback address first.
_LOOPBACKS_OF = {"0.0.0.0": LOOPBACK, "::": LOOPBACK[::-1]}
#: How long to wait for an answer of a program that is not known to be an epmd, in seconds.
_PATIENCE = 2.5
#: How long a program that does not answer may be an epmd that is starting or shutting down, in seconds.
_MOMENT = 1.0
_PAUSE = 0.05


def open_listeners(addresses: Sequence[str] | None, port: int) -> list[_socket.socket]:
    """Open the listening sockets as listeners.open_listeners does.

    Raises PortInUseError only if an epmd answers at the port, and ListenError if another program holds it.
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
            # Only now: with many processes, to look for the holders takes longer than to ask again.
            met += _holders(in_use)[1]
            raise listeners.ListenError(f"port {in_use.port} is in use, but no epmd answers there: {met}")
        time.sleep(_PAUSE)


def _met(in_use: listeners.PortInUseError) -> str:
    """Return what was found instead of an epmd, or "" if an epmd answered."""
    from ..client import exchange

    hosts = _LOOPBACKS_OF.get(in_use.host, (in_use.host,))
    target = exchange.Target(hosts[0], in_use.port, _PATIENCE)
    # A host may have one loopback address only.
    target.found = [place for host in hosts for place in exchange.Target(host, in_use.port, 0).addresses()]
    # An epmd may be overloaded, stopped for a while, or run with -delay_accept.
    target.more_time = lambda: exchange.TIMEOUT - _PATIENCE if _holders(in_use)[0] else 0.0
    try:
        exchange.must_be_an_epmd(target)
    except exchange.EpmdError as error:
        return str(error)
    return ""


def _holders(in_use: listeners.PortInUseError) -> tuple[bool, str]:
    """Return whether an epmd holds the port, and which programs, as the end of a message.

    The message is "" if /proc cannot be read.
    """
    from .process import procfs

    anywhere = in_use.host in procfs.ANY
    listening = (procfs.listeners() or {}).get(in_use.port, [])
    sockets = [sock for sock in listening if anywhere or sock.host in (in_use.host, *procfs.ANY)]
    processes = procfs.processes(sockets)
    places = {
        sock.inode: f"{f'[{sock.host}]' if ':' in sock.host else sock.host}:{in_use.port}" for sock in sockets
    }
    names = [
        f"{process.path or 'a program'} (process {process.pid} of {process.user or 'an unknown user'}) "
        f"at {', '.join(places[inode] for inode in sorted(process.sockets))}"
        for process in processes
    ] or [f"a process of {procfs.user_name(sock.uid)} at {places[sock.inode]}" for sock in sockets]
    is_an_epmd = any(process.kind != procfs.OTHER for process in processes)
    return is_an_epmd, f"; it is held by {' and '.join(names)}" if names else ""
