"""Starts to serve: from Options to a running mapper.

Invariant: gevent, which is slow to import, is imported only after the sockets are bound. If the port is in
use, as at every start of a node after the first one, the start ends before that.

C's counterpart: run_daemon() of epmd.c, run() of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import os
import sys

from ..conventions import ValueProblem
from ..server import listeners
from ..server.events import Events
from ..server.log import NOTICE, Log
from . import calls, is_one_file, occupant
from .executable import bundle
from .options import ADDRESS_VARIABLE, Options
from .process import at_end, daemon, signals, systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .process.privileges import Identity
    from .takeover import Former

#: What a start opens besides the sockets: a pipe to the caller, the event loop, the files.
_NEEDED_DESCRIPTORS = 8
#: The variables that gevent, greenlet and libev read. They are meant for programs of the caller.
_GEVENT_PREFIXES = ("GEVENT", "GREENLET_", "LIBEV_", "PURE_PYTHON")


def serve(options: Options) -> int:
    """Serve, detached if the options request it, and return the exit status."""
    signals.ignore_requests_for_reports()
    is_passed = not options.systemd and systemd.passes_port(os.environ, options.port)
    if options.daemon:
        # Close inherited descriptors before the program opens its own, such as the connection to syslog.
        daemon.close_inherited(keep=systemd.descriptors(os.environ) if options.systemd else ())
    journal = os.environ.get("JOURNAL_STREAM", "")
    events = Events(Log(options.settings.debug, to_syslog=options.daemon, journal=journal))
    events.starting(daemon=options.daemon)
    try:
        if is_passed:
            # The question whether an epmd has the port would start this program again, and so on.
            raise listeners.ListenError(
                f"systemd passes the socket for port {options.port}: start with -systemd"
            )
        former = _former(options)
        sockets, stored = ([], []) if former else _sockets(options, events)
    except listeners.PortInUseError as error:
        events.in_use(str(error), failure=options.must_serve)
        return 1 if options.must_serve else 0
    except listeners.ListenError as error:
        events.log.fail(str(error))
        return 1
    return _serve_sockets(options, sockets, stored, events, former)


def _former(options: Options) -> Former | None:
    """Return the epmd to replace, if there is one and the options ask for it. Raises ListenError."""
    if not options.takeover:
        return None
    if sys.platform != "linux":
        raise listeners.ListenError("-takeover needs Linux")
    from . import takeover

    return takeover.find(options)


def _sockets(options: Options, events: Events) -> tuple[list[_socket.socket], list[systemd.Stored]]:
    if options.systemd:
        events.taking_sockets()
        sockets, stored = systemd.take_descriptors(os.environ)
        names = list(options.listen_names)
        if options.port_name and options.port != sockets[0].getsockname()[1]:
            names.append(options.port_name)
        if names:
            events.no_effect(names)
        return sockets, stored
    events.listening(options.port)
    try:
        return occupant.open_listeners(options.settings.addresses, options.port), []
    except listeners.AddressError as error:
        if ADDRESS_VARIABLE not in options.listen_names:
            raise  # C's words: who has typed the address knows where it is
        raise listeners.ListenError(f"{ADDRESS_VARIABLE}: {error}") from None


def _serve_sockets(
    options: Options,
    sockets: list[_socket.socket],
    stored: list[systemd.Stored],
    events: Events,
    former: Former | None,
) -> int:
    caller = take_over = None
    try:
        _prepare(options)
        if former is not None and former.unit:
            from . import unit

            _say(unit.take_over(former))
            return 0
        identity = _identity(options)
        if options.daemon:
            _must_be_running(options.pid_exit)
            # Fork before the imports: a small process forks 4 ms faster.
            caller, report = daemon.detach()
            if caller is None:
                _say(*report)
                return 0
        if former is not None:
            from .takeover import TakeOver

            take_over = TakeOver(former)  # It forks, which is faster before the imports.
        from . import run

        if options.daemon:
            daemon.leave()
        run.Server(options, sockets, events, caller, take_over).serve(stored, identity)
    except Exception as error:  # noqa: BLE001 - a daemon has no stderr for a traceback
        # The caller must find no file left when it is told of the failure.
        at_end.run()
        # The message of a system error is a sentence. Of a programming error, the type matters too.
        told = (OSError, ValueProblem, listeners.ListenError)
        reason = str(error) if isinstance(error, told) else repr(error)
        if caller is None or not caller.failed(reason):
            events.cannot_serve(reason)
        return 1
    finally:
        at_end.run()
    return 0


def _prepare(options: Options) -> None:
    """Do what the imports of a server need. Raises OSError and ImportError."""
    if is_one_file():
        from .executable import leftovers

        leftovers.sweep(sys._MEIPASS)  # type: ignore[attr-defined]
        bundle.unpack_libraries("for-serving")
    daemon.raise_limit(_NEEDED_DESCRIPTORS + len(options.pid_exit))
    for name in [name for name in os.environ if name.startswith(_GEVENT_PREFIXES)]:
        del os.environ[name]


def _say(*report: str) -> None:
    """Print the lines that a daemon has reported."""
    for line in report:
        calls.say(2, line, priority=NOTICE)


def _identity(options: Options) -> Identity | None:
    if not options.user.value:
        return None
    from .process import privileges

    return privileges.look_up(options.user)


def _must_be_running(pids: Iterable[int]) -> None:
    """Raise ProcessLookupError if one of the processes has ended: this epmd would end at once."""
    for pid in pids:
        from .process.watch import gone

        if gone(pid):
            raise ProcessLookupError(f"process {pid}, with which this epmd is to end, has ended already")
