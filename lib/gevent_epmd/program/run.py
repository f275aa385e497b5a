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
from ..server.mapper import Mapper, raise_descriptor_limit
from . import at_end, bundle, daemon, is_frozen, is_one_file, processes, signals, systemd
from .files import OwnFile
from .options import STDOUT, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .privileges import Identity

bundle.import_everything()


def run(
    options: Options,
    sockets: list[_socket.socket],
    events: Events,
    caller: daemon.Caller | None,
    identity: Identity | None,
) -> None:
    """Serve the sockets until somebody sends KILL, or something else ends the process.  Where there is an
    `identity`, take it on before anybody is accepted."""
    raise_descriptor_limit()
    mapper = new_mapper(options.settings, sockets, events, shared=options.systemd)
    mapper.start()
    files = [NumberFile(path, number) for path, number in _numbers(options, mapper.port) if path]
    for file in files:
        at_end.add(partial(_remove, file, events))
    _watch_for_the_end(options, mapper)
    if is_frozen():
        bundle.settle(has_launcher=is_one_file() and not options.daemon)
    events.serving()
    for file in files:
        # As root, where there is an identity to take on: its folder may be for root alone.
        file.write()
    if identity is not None:
        events.losing_rights()
        identity.take_on()
    # Without the option the variable is a service's whose node has started us, and not for us.
    if options.systemd:
        systemd.notify_ready(os.environ)
    if caller is not None:
        caller.ready()
    mapper.finished.wait()
    mapper.report_end()


def _watch_for_the_end(options: Options, mapper: Mapper) -> None:
    signals.watch_signals(mapper.hub.loop)
    if os.getpid() == 1:
        processes.reap_orphans(mapper.hub.loop)
    for pid in options.pid_exit:
        processes.when_gone(mapper.hub.loop, pid, partial(mapper.end, f"process {pid} has ended"))


def _numbers(options: Options, port: int) -> tuple[tuple[str, int], ...]:
    """What is told in which file.  In the one-file form the process is the one that serves, not its launcher:
    it is the one that lives on as a daemon, and whose end is the end of the epmd."""
    return (options.port_file, port), (options.pid_file, os.getpid())


def _remove(file: NumberFile, events: Events) -> None:
    try:
        file.close()
    except OSError as error:
        events.file_stays(str(error))


class NumberFile:
    """Tells a number, from when the mapper serves until it ends.  The path may be STDOUT."""

    def __init__(self, path: str, number: int) -> None:
        self._path = path
        self._text = b"%d\n" % number
        self._file = OwnFile(path)

    def write(self) -> None:
        """Write it whole, or not at all: somebody is waiting for it.  Raises OSError."""
        if self._path == STDOUT:
            os.write(1, self._text)
        else:
            self._file.write(self._text)

    def close(self) -> None:
        """Remove the file, unless another mapper has written it since.  Raises OSError where it must not."""
        self._file.remove()
