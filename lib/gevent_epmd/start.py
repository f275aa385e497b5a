"""The way of a start, from Options to a server that runs (C: run_daemon() and the beginning of run()).

The sockets come first, and gevent, which is slow to import, only when they are bound: a port in use, as
at every start of a node but the first, ends the way before.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable

from . import daemon, listeners, systemd
from .log import Log
from .options import Options


def serve(options: Options) -> int:
    """Serve, detached if so wanted; gives the exit status, and in a detached daemon's caller at once."""
    if options.daemon:
        # Before anything of our own is open, the connection to syslog among it.
        daemon.close_inherited(keep=systemd.descriptors(os.environ) if options.systemd else ())
    log = Log(options.debug, to_syslog=options.daemon)
    log.say(1, f"epmd running - daemon = {int(options.daemon)}")
    try:
        sockets = _sockets(options, log)
    except listeners.PortInUse as error:
        log.tty(1, str(error))
        return 0
    except listeners.ListenError as error:
        log.say(0, str(error))
        return 1
    return _serve_sockets(options, sockets, log)


def _sockets(options: Options, log: Log) -> list[_socket.socket]:
    if options.systemd:
        log.say(2, "try to obtain sockets from systemd")
        return systemd.take_sockets(os.environ)
    log.say(2, f"try to initiate listening port {options.port}")
    return listeners.open_listeners(options.addresses, options.port)


def _serve_sockets(options: Options, sockets: list[_socket.socket], log: Log) -> int:
    from . import server

    try:
        tell_caller = daemon.detach() if options.daemon else _nobody_waits
        if tell_caller is not None:
            server.raise_descriptor_limit()
            server.run(options, sockets, log, _ready(tell_caller))
    except Exception as error:  # noqa: BLE001 - a daemon's last words would be lost
        log.say(0, f"cannot serve: {error!r}")
        return 1
    return 0


def _ready(tell_caller: Callable[[], None]) -> Callable[[], None]:
    def ready() -> None:
        systemd.notify_ready(os.environ)
        tell_caller()

    return ready


def _nobody_waits() -> None:
    pass
