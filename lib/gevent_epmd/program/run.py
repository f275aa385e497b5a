"""Serves, in the process that owns the sockets, until the epmd shuts down.

Invariant: importing this module imports everything that a server needs, including gevent. `start` imports it
after the sockets are bound, and while a daemon still has its caller's umask and working directory.

C's counterpart: run() of epmd_srv.c.
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
    from .takeover import TakeOver

bundle.import_everything()


def run(
    options: Options,
    sockets: list[_socket.socket],
    events: Events,
    caller: daemon.Caller | None,
    identity: Identity | None,
    take_over: TakeOver | None = None,
) -> None:
    """Serve the sockets until a KILL request or another event shuts the epmd down.

    If there is an `identity`, the process changes to that user before it accepts a connection. Raises OSError
    if a file cannot be written, or the user not changed; BrokenPipeError if the caller has ended.
    """
    raise_descriptor_limit()
    if take_over is None:
        mapper = new_mapper(options.settings, sockets, events, shared=options.systemd)
    else:
        at_end.add(take_over.abandon)
        mapper = take_over.new_mapper(options.settings, events)
    mapper.start()
    files = [NumberFile(path, number) for path, number in _numbers(options, mapper.port) if path]
    for file in files:
        at_end.add(partial(_remove, file, events))
    _watch_for_the_end(options, mapper)
    if is_frozen():
        bundle.settle(has_launcher=is_one_file() and not options.daemon)
    events.serving()
    for file in files:
        # Write the files before root privileges are dropped, because only root may be able to write to their
        # folder.
        file.write()
    if identity is not None:
        events.losing_rights()
        identity.take_on()
    happened = ""
    if take_over is not None:
        happened = take_over.finish()
        events.took_over(happened)
    # Without -systemd, NOTIFY_SOCKET belongs to the service whose node started this epmd.
    if options.systemd:
        systemd.notify_ready(os.environ)
    if caller is not None:
        caller.ready(happened)
    mapper.finished.wait()
    mapper.report_end()


def _watch_for_the_end(options: Options, mapper: Mapper) -> None:
    signals.watch_signals(mapper.hub.loop)
    if os.getpid() == 1:
        processes.reap_orphans(mapper.hub.loop)
    for pid in options.pid_exit:
        processes.when_gone(mapper.hub.loop, pid, partial(mapper.end, f"process {pid} has ended"))


def _numbers(options: Options, port: int) -> tuple[tuple[str, int], ...]:
    """Return each file's path and the number to write into it.

    In the one-file form the process ID is that of the process that serves, not of its launcher: that process
    lives on as a daemon, and when it ends, the epmd ends.
    """
    return (options.port_file, port), (options.pid_file, os.getpid())


def _remove(file: NumberFile, events: Events) -> None:
    try:
        file.close()
    except OSError as error:
        events.file_stays(str(error))


class NumberFile:
    """A file with a number that exists while the mapper serves. The path may be STDOUT."""

    def __init__(self, path: str, number: int) -> None:
        self._path = path
        self._text = b"%d\n" % number
        self._file = OwnFile(path)

    def write(self) -> None:
        """Write the number. A reader sees all of it or no file. Raises OSError."""
        if self._path == STDOUT:
            os.write(1, self._text)
        else:
            self._file.write(self._text)

    def close(self) -> None:
        """Remove the file, unless another mapper has replaced it.

        Raises OSError if this process is not permitted to remove it.
        """
        self._file.remove()
