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
    # As a C program: Ctrl-C ends it without a traceback.
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

    ready = None
    if options.daemon:
        try:
            ready = daemon.detach()
        except OSError as error:
            log.say(0, f"cannot start the daemon: {error}")
            return 1
        if ready is None:
            return 0
    server.raise_descriptor_limit()

    def report() -> None:
        systemd.notify_ready(os.environ)
        if ready:
            ready()

    server.run(options, sockets, log, report)
    return 0


def _sockets(options: Options, log: Log) -> list[socket.socket]:
    if options.systemd:
        log.say(2, "try to obtain sockets from systemd")
        sockets = systemd.take_sockets(os.environ)
    else:
        sockets = []
    if options.daemon:
        daemon.close_inherited(keep=[sock.fileno() for sock in sockets])
    if not options.systemd:
        log.say(2, f"try to initiate listening port {options.port}")
        sockets = listeners.open_listeners(options.addresses, options.port)
    return sockets
