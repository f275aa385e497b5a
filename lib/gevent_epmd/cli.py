"""The program: reads the line, and asks an epmd, serves, or serves detached (C: main() of epmd.c).

What is imported here is paid for at every start of every Erlang node; what only serving needs is
imported when it is known that we serve: the port was free.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from . import daemon, listeners, systemd
from .log import Log
from .options import USAGE, Options, UsageError, ValueProblem, read_options


def main() -> int:
    """Do what the command line says; gives the exit status."""
    daemon.open_standard_descriptors()
    # As a C program: Ctrl-C ends it without a traceback, unless whoever started it ignores Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        options = read_options(sys.argv[1:], os.environ)
    except UsageError as error:
        return _fail(f"epmd: {error}\n\n{USAGE}")
    except ValueProblem as error:
        return _fail(f"epmd: {error}\n")
    if options.command:
        # As `epmd -names | head -1` ends a C program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        from . import client

        return client.call(options)
    return _serve(options)


def _fail(text: str) -> int:
    os.write(2, text.encode("utf-8", "backslashreplace"))
    return 1


def _serve(options: Options) -> int:
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
    from . import server

    try:
        tell_caller = daemon.detach() if options.daemon else _nobody_waits
    except OSError as error:
        log.say(0, f"cannot start the daemon: {error}")
        return 1
    if tell_caller is None:
        return 0

    def ready() -> None:
        systemd.notify_ready(os.environ)
        tell_caller()

    server.raise_descriptor_limit()
    try:
        server.run(options, sockets, log, ready)
    except Exception as error:  # noqa: BLE001 - a daemon's last words would be lost
        log.say(0, f"cannot serve: {error!r}")
        return 1
    return 0


def _nobody_waits() -> None:
    pass


def _sockets(options: Options, log: Log) -> list[socket.socket]:
    if options.systemd:
        log.say(2, "try to obtain sockets from systemd")
        return systemd.take_sockets(os.environ)
    log.say(2, f"try to initiate listening port {options.port}")
    return listeners.open_listeners(options.addresses, options.port)
