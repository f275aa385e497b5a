"""Starts to serve: from Options to a running mapper.

Invariant: gevent, which is slow to import, is imported only after the sockets are bound. If the port is in
use, as at every start of a node after the first one, the start ends before that.

C's counterpart: run_daemon() of epmd.c, run() of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import os

from ..conventions import ValueProblem
from ..server import listeners
from ..server.events import Events
from ..server.log import Log
from . import at_end, bundle, calls, daemon, is_one_file, occupant, systemd
from .options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .takeover import Former


def serve(options: Options) -> int:
    """Serve, detached if the options request it, and return the exit status.

    The calling process of a daemon returns as soon as the daemon answers requests.
    """
    if options.daemon:
        # Close inherited descriptors before the program opens its own, such as the connection to syslog.
        daemon.close_inherited(keep=systemd.descriptors(os.environ) if options.systemd else ())
    events = Events(Log(options.settings.debug, to_syslog=options.daemon))
    events.starting(daemon=options.daemon)
    former = None
    try:
        if options.takeover:
            from . import takeover

            former = takeover.find(options.settings.port)
        sockets = [] if former else _sockets(options, events)
    except listeners.PortInUse as error:
        events.in_use(str(error), failure=options.must_serve)
        return 1 if options.must_serve else 0
    except listeners.ListenError as error:
        events.cannot_listen(str(error))
        return 1
    return _serve_sockets(options, sockets, events, former)


def _sockets(options: Options, events: Events) -> list[_socket.socket]:
    if options.systemd:
        events.taking_sockets()
        return systemd.take_sockets(os.environ)
    events.listening(options.settings.port)
    return occupant.open_listeners(options.settings.addresses, options.settings.port)


def _serve_sockets(
    options: Options, sockets: list[_socket.socket], events: Events, former: Former | None
) -> int:
    caller = None
    try:
        if is_one_file():
            bundle.unpack_libraries("for-serving")
        identity = None
        if options.user:
            from . import privileges

            identity = privileges.look_up(options.user)
        if options.daemon:
            # Fork before the imports: a small process forks 4 ms faster.
            done = daemon.detach()
            if isinstance(done, str):
                if done:
                    calls.say(2, done)
                return 0
            caller = done
        take_over = None
        if former is not None:
            from .takeover import TakeOver

            # It forks, which is faster before the imports.
            take_over = TakeOver(former)
        from .run import run

        if options.daemon:
            daemon.leave()
        run(options, sockets, events, caller, identity, take_over)
    except Exception as error:  # noqa: BLE001 - a daemon has no stderr for a traceback
        # The caller must find no file left when it is told of the failure.
        at_end.run()
        # The message of a system error is a sentence. Of a programming error, the type matters too.
        reason = str(error) if isinstance(error, (OSError, ValueProblem)) else repr(error)
        if caller is None or not caller.failed(reason):
            events.cannot_serve(reason)
        return 1
    finally:
        at_end.run()
    return 0
