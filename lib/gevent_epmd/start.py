"""The way of a start, from Options to a server that runs (C: run_daemon() and the beginning of run()).

The sockets come first, and gevent, which is slow to import, only when they are bound: a port in use, as
at every start of a node but the first, ends the way before.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable
from contextlib import closing

from . import bundle, daemon, listeners, occupant, systemd
from .log import Log
from .options import STDOUT, Options


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
        # Whoever waits for the file would wait in vain.
        log.fail(str(error)) if options.port_file else log.tty(1, str(error))
        return 1 if options.port_file else 0
    except listeners.ListenError as error:
        log.fail(str(error))
        return 1
    return _serve_sockets(options, sockets, log)


def _sockets(options: Options, log: Log) -> list[_socket.socket]:
    if options.systemd:
        log.say(2, "try to obtain sockets from systemd")
        return systemd.take_sockets(os.environ)
    log.say(2, f"try to initiate listening port {options.port}")
    return occupant.open_listeners(options.addresses, options.port)


def _serve_sockets(options: Options, sockets: list[_socket.socket], log: Log) -> int:
    caller = None
    try:
        if bundle.is_bundled():
            bundle.unpack_libraries()
        from . import server

        if options.daemon:
            caller = daemon.detach()
            if caller is None:
                return 0
        server.raise_descriptor_limit()
        with closing(PortFile(options.port_file)) as port_file:
            leave = port_file.close if options.port_file else None
            server.run(options, sockets, log, _ready(options, port_file, caller), leave)
    except Exception as error:  # noqa: BLE001 - a daemon's last words would be lost
        # What the system says is a sentence; of a mistake the kind matters too.
        reason = str(error) if isinstance(error, OSError) else repr(error)
        if caller is None or not caller.failed(reason):
            log.fail(f"cannot serve: {reason}")
        return 1
    return 0


def _ready(options: Options, port_file: PortFile, caller: daemon.Caller | None) -> Callable[[int], None]:
    def ready(port: int) -> None:
        port_file.write(port)
        # Without the option it is the socket of a service whose node has started us: not ours to answer.
        if options.systemd:
            systemd.notify_ready(os.environ)
        if caller is not None:
            caller.ready()

    return ready


class PortFile:
    """Says at which port the mapper serves, from when it does until it ends.  The path may be STDOUT, or
    empty: then nobody wants to know."""

    def __init__(self, path: str) -> None:
        from .files import OwnFile  # where the port is taken nobody needs it

        self._path = path
        self._file = OwnFile(path)

    def write(self, port: int) -> None:
        """Whole or not at all: somebody is waiting for it.  Raises OSError."""
        text = b"%d\n" % port
        if self._path == STDOUT:
            os.write(1, text)
        elif self._path:
            self._file.write(text)

    def close(self) -> None:
        """Remove the file, unless another mapper has written it since."""
        self._file.remove()
