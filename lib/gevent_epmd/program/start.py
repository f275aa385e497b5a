"""The way of a start, from Options to a mapper that serves (C: run_daemon() of epmd.c, run() of epmd_srv.c).

The sockets come first, and gevent, which is slow to import, only when they are bound: where the port is in
use, as at every start of a node but the first, the start ends before that.
"""

from __future__ import annotations

import _socket
import os

from ..conventions import ValueProblem
from ..server import listeners
from ..server.events import Events
from ..server.log import Log
from . import at_end, bundle, daemon, is_one_file, occupant, systemd
from .options import Options


def serve(options: Options) -> int:
    """Serve, detached if so wanted; gives the exit status, and in a detached daemon's caller at once."""
    if options.daemon:
        # Before anything of our own is open, the connection to syslog among it.
        daemon.close_inherited(keep=systemd.descriptors(os.environ) if options.systemd else ())
    events = Events(Log(options.settings.debug, to_syslog=options.daemon))
    events.starting(daemon=options.daemon)
    try:
        sockets = _sockets(options, events)
    except listeners.PortInUse as error:
        events.in_use(str(error), failure=options.must_serve)
        return 1 if options.must_serve else 0
    except listeners.ListenError as error:
        events.cannot_listen(str(error))
        return 1
    return _serve_sockets(options, sockets, events)


def _sockets(options: Options, events: Events) -> list[_socket.socket]:
    if options.systemd:
        events.taking_sockets()
        return systemd.take_sockets(os.environ)
    events.listening(options.settings.port)
    return occupant.open_listeners(options.settings.addresses, options.settings.port)


def _serve_sockets(options: Options, sockets: list[_socket.socket], events: Events) -> int:
    caller = None
    try:
        if is_one_file():
            bundle.unpack_libraries()
        identity = None
        if options.user:
            from . import privileges

            identity = privileges.look_up(options.user)
        if options.daemon:
            # A process that has imported little is forked sooner, by 4 ms.
            caller = daemon.detach()
            if caller is None:
                return 0
        from .run import run

        if options.daemon:
            daemon.leave()
        run(options, sockets, events, caller, identity)
    except Exception as error:  # noqa: BLE001 - a daemon's last words would be lost
        # Before its caller hears of it, and looks at what is left.
        at_end.run()
        # What the system says is a sentence; of a mistake the kind matters too.
        reason = str(error) if isinstance(error, (OSError, ValueProblem)) else repr(error)
        if caller is None or not caller.failed(reason):
            events.cannot_serve(reason)
        return 1
    finally:
        at_end.run()
    return 0
