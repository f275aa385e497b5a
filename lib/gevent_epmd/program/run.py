"""The process that serves, from its sockets to its end (C: run() of epmd_srv.c).

Imports everything that serving needs, gevent among it: `start` imports this once the sockets are bound, in a
daemon that still has its caller's umask and directory.
"""

from __future__ import annotations

import _socket
import os
from functools import partial

from ..server.acceptor import new_mapper
from ..server.events import Events
from ..server.mapper import raise_descriptor_limit
from . import at_end, bundle, daemon, is_frozen, is_one_file, processes, signals, systemd
from .files import OwnFile
from .options import STDOUT, Options

bundle.import_everything()


def run(
    options: Options, sockets: list[_socket.socket], events: Events, caller: daemon.Caller | None
) -> None:
    """Serve the sockets until somebody sends KILL, or something else ends the process."""
    raise_descriptor_limit()
    mapper = new_mapper(options.settings, sockets, events, shared=options.systemd)
    mapper.start()
    port_file = PortFile(options.port_file)
    if options.port_file:
        at_end.add(port_file.close)
    signals.watch_signals(mapper.hub.loop)
    if os.getpid() == 1:
        processes.reap_orphans(mapper.hub.loop)
    for pid in options.pid_exit:
        processes.when_gone(mapper.hub.loop, pid, partial(mapper.end, f"process {pid} has ended"))
    if is_frozen():
        bundle.settle(has_launcher=is_one_file() and not options.daemon)
    events.serving()
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
