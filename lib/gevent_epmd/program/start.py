"""The way of a start, from Options to a mapper that serves (C: run_daemon() of epmd.c, run() of epmd_srv.c).

The sockets come first, and gevent, which is slow to import, only when they are bound: where the port is in
use, as at every start of a node but the first, the start ends before that."""

from __future__ import annotations

import _socket
import os
from functools import partial

from ..server import listeners
from ..server.events import Events
from ..server.log import Log
from . import at_end, bundle, daemon, occupant, systemd
from .options import STDOUT, Options


def serve(options: Options) -> int:
    """Serve, detached if so wanted; gives the exit status, and in a detached daemon's caller at once."""
    if options.daemon:
        # Before anything of our own is open, the connection to syslog among it.
        daemon.close_inherited(keep=systemd.descriptors(os.environ) if options.systemd else ())
    log = Log(options.settings.debug, to_syslog=options.daemon)
    events = Events(log)
    events.starting(daemon=options.daemon)
    try:
        sockets = _sockets(options, events)
    except listeners.PortInUse as error:
        events.in_use(str(error), failure=bool(options.port_file))
        # Whoever waits for the file would wait in vain.
        return 1 if options.port_file else 0
    except listeners.ListenError as error:
        events.cannot_listen(str(error))
        return 1
    return _serve_sockets(options, sockets, log)


def _sockets(options: Options, events: Events) -> list[_socket.socket]:
    if options.systemd:
        events.taking_sockets()
        return systemd.take_sockets(os.environ)
    events.listening(options.settings.port)
    return occupant.open_listeners(options.settings.addresses, options.settings.port)


def _serve_sockets(options: Options, sockets: list[_socket.socket], log: Log) -> int:
    caller = None
    try:
        if bundle.is_one_file():
            bundle.unpack_libraries()
        if options.daemon:
            caller = daemon.detach()
            if caller is None:
                return 0
        _run(options, sockets, log, caller)
    except Exception as error:  # noqa: BLE001 - a daemon's last words would be lost
        # What the system says is a sentence; of a mistake the kind matters too.
        reason = str(error) if isinstance(error, OSError) else repr(error)
        if caller is None or not caller.failed(reason):
            Events(log).cannot_serve(reason)
        return 1
    finally:
        at_end.run()
    return 0


def _run(options: Options, sockets: list[_socket.socket], log: Log, caller: daemon.Caller | None) -> None:
    """Serve the sockets until somebody sends KILL, or something else ends the process (C: run())."""
    from ..server.acceptor import start_mapper
    from ..server.mapper import raise_descriptor_limit
    from . import processes, signals

    bundle.load_everything()
    raise_descriptor_limit()
    mapper = start_mapper(options.settings, sockets, log, shared=options.systemd)
    port_file = PortFile(options.port_file)
    if options.port_file:
        at_end.add(port_file.close)
    signals.watch_signals(mapper.hub.loop)
    if os.getpid() == 1:
        processes.reap_orphans(mapper.hub.loop)
    for pid in options.pid_exit:
        processes.when_gone(mapper.hub.loop, pid, partial(mapper.end, f"process {pid} has ended"))
    if bundle.is_frozen():
        bundle.settle(has_launcher=bundle.is_one_file() and not options.daemon)
    mapper.events.serving()
    port_file.write(mapper.port)
    # Without the option the variable is a service's whose node has started us, and not for us.
    if options.systemd:
        systemd.notify_ready(os.environ)
    if caller is not None:
        caller.ready()
    mapper.finished.wait()
    mapper.report_end()


class PortFile:
    """Tells at which port the mapper serves, from when it serves until it ends.  The path may be STDOUT, or
    empty for no file."""

    def __init__(self, path: str) -> None:
        from .files import OwnFile  # where the port is in use nobody needs it

        self._path = path
        self._file = OwnFile(path)

    def write(self, port: int) -> None:
        """Write it whole, or not at all: somebody is waiting for it.  Raises OSError."""
        text = b"%d\n" % port
        if self._path == STDOUT:
            os.write(1, text)
        elif self._path:
            self._file.write(text)

    def close(self) -> None:
        """Remove the file, unless another mapper has written it since."""
        self._file.remove()
