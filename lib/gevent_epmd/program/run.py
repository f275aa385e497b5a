"""Serves, in the process that owns the sockets, until the epmd shuts down.

Invariant: importing this module imports everything that a server needs, including gevent. `start` imports it
after the sockets are bound, and while a daemon still has its caller's umask and working directory.

C's counterpart: run() of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import os
from functools import partial

import gevent

from ..conventions import ValueProblem
from ..server.acceptor import new_mapper
from ..server.events import Events
from ..server.mapper import Mapper
from . import is_frozen, is_one_file, ownport
from .executable import bundle, launcher
from .metrics import Reporter
from .options import STDOUT, Given, Networks, Options
from .process import at_end, daemon, signals, systemd, watch
from .process.files import OwnFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .process.privileges import Identity
    from .process.store import Store
    from .takeover import TakeOver

bundle.import_everything()


def run(
    options: Options,
    sockets: list[_socket.socket],
    stored: list[systemd.Stored],
    events: Events,
    caller: daemon.Caller | None,
    identity: Identity | None,
    take_over: TakeOver | None = None,
) -> None:
    """Serve the sockets until a KILL request or another event shuts the epmd down.

    `stored` is what an epmd before this one has left in the descriptor store of systemd.

    If there is an `identity`, the process changes to that user before it accepts a connection. Raises OSError
    if a file cannot be written, the user not changed, or the port not reached; BrokenPipeError if the caller
    has ended; InterruptedError if there is a caller and the epmd ends before it is ready.
    """
    listening = [sock.getsockname()[0] for sock in sockets]
    mapper = _new_mapper(options, sockets, events, take_over)
    store = _store(options, mapper, stored, events) if options.store or stored else None
    mapper.start()
    at_end.add(events.finish)
    files = [NumberFile(given, number) for given, number in _numbers(options, mapper.port) if given.value]
    for file in files:
        at_end.add(partial(_remove, file, events))
    reporter = Reporter(mapper, options.metrics_file)
    at_end.add(reporter.finish)
    if is_frozen():
        bundle.settle(has_launcher=is_one_file() and not options.daemon)
    # After `settle`, which resets a signal that the executables use before.
    _watch(options, mapper, reporter)
    events.serving()
    for file in files:
        # Write the files before root privileges are dropped, because only root may be able to write to their
        # folder.
        file.write()
    if identity is not None:
        events.losing_rights()
        identity.take_on()
    reporter.start()
    if take_over is not None:
        # Not before everything else is done: from here on only this process serves.
        for line in take_over.finish():
            events.took_over(line)
    _serve(options, mapper, reporter, listening, events, caller, take_over, store)


def _serve(
    options: Options,
    mapper: Mapper,
    reporter: Reporter,
    listening: list[str],
    events: Events,
    caller: daemon.Caller | None,
    take_over: TakeOver | None,
    store: Store | None,
) -> None:
    # The event loop may fail when it starts, and then nobody must be told that it serves.
    gevent.sleep(0)
    if not mapper.finished.is_set():
        if caller is not None and not options.systemd:
            _must_be_reached(mapper, listening)
        reporter.serves = True
        _tell_that_it_serves(options, events, caller, take_over)
        if store is not None:
            # Not before: systemd listens to the main process only, and this one may have just become that.
            store.start()
        mapper.count_idle_time_anew()
    elif caller is not None:
        raise InterruptedError(f"the epmd has ended before it was ready: {mapper.end_reason}")
    mapper.finished.wait()


def _new_mapper(
    options: Options, sockets: list[_socket.socket], events: Events, take_over: TakeOver | None
) -> Mapper:
    if take_over is None:
        return new_mapper(options.settings, sockets, events, shared=options.systemd)
    at_end.add(take_over.abandon)
    # An event loop that fails when it starts must fail before the former epmd is stopped.
    gevent.sleep(0)
    return take_over.new_mapper(options.settings, events)


def _store(options: Options, mapper: Mapper, stored: list[systemd.Stored], events: Events) -> Store | None:
    """Go on with the nodes that an epmd before this one has stored. Returns what stores them from now on."""
    from ..server.inherit import inherit
    from .process.store import Store, take_back

    taken = take_back(stored)
    inherit(mapper, taken.left, mapper.listeners[0].serve_socket)
    if taken.names:
        events.took_back(len(taken.names))
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return None
    # What was taken back must be removed at its end, even if nothing else is to be stored.
    store = Store(mapper, events, systemd.address_of(path), taken, options.store)
    mapper.store = store
    return store


def _must_be_reached(mapper: Mapper, hosts: list[str]) -> None:
    try:
        ownport.must_answer(
            hosts, mapper.port, lambda number, address: mapper.listeners[number].take_back(address)
        )
    except OSError:
        mapper.close_listeners()  # the caller may start another epmd as soon as it is told
        raise


def _tell_that_it_serves(
    options: Options, events: Events, caller: daemon.Caller | None, take_over: TakeOver | None
) -> None:
    launched_by = launcher.pid if is_one_file() else None
    # Without -systemd, NOTIFY_SOCKET belongs to the service whose node started this epmd.
    if options.systemd and not systemd.notify_ready(os.environ, launched_by):
        events.notification_may_be_refused()
    if caller is not None:
        caller.ready([] if take_over is None else take_over.report, launcher=launched_by)


def _watch(options: Options, mapper: Mapper, reporter: Reporter) -> None:
    signals.watch_signals(mapper.hub.loop, reporter.report, _at_hang_up(options, mapper))
    if os.getpid() == 1:
        watch.reap_orphans(mapper.hub.loop)
    for pid in options.pid_exit:
        watch.when_gone(mapper.hub.loop, pid, partial(mapper.end, f"process {pid} has ended"))


def _at_hang_up(options: Options, mapper: Mapper) -> Callable[[], None] | None:
    """Return what SIGHUP does, or None for what it does by default.

    A service manager that reloads must not end a service that has nothing to read again.
    """
    if options.networks is not None:
        return partial(_read_networks_again, options.networks, mapper)
    return mapper.events.nothing_to_read_again if options.systemd else None


def _read_networks_again(networks: Networks, mapper: Mapper) -> None:
    try:
        settings = networks.changed(mapper.settings)
    except ValueProblem as problem:
        mapper.events.networks_stay(str(problem))
        return
    mapper.events.networks_read(networks.path, mapper.settings, settings)
    mapper.let_in(settings)


def _numbers(options: Options, port: int) -> tuple[tuple[Given, int], ...]:
    """Return each file, and the number to write into it.

    In the one-file form the process ID is that of the process that serves, not of its launcher: that process
    lives on as a daemon, and when it ends, the epmd ends.
    """
    return (options.port_file, port), (options.pid_file, os.getpid())


def _remove(file: NumberFile, events: Events) -> None:
    try:
        file.close()
    except OSError as error:
        events.file_failed(str(error))


class NumberFile:
    """A file with a number that exists while the mapper serves. Its path may be STDOUT."""

    def __init__(self, given: Given, number: int) -> None:
        self._where, self._path = given
        self._text = b"%d\n" % number
        self._file = OwnFile(self._path)

    def write(self) -> None:
        """Write the number. A reader sees all of it or no file. Raises OSError, which names the option."""
        try:
            if self._path == STDOUT:
                os.write(1, self._text)
            else:
                self._file.write(self._text)
        except OSError as error:
            raise OSError(f"{self._where}: cannot write {self._path}: {error.strerror}") from None

    def close(self) -> None:
        """Remove the file, unless another mapper has replaced it.

        Raises OSError, which names the option, if this process is not permitted to remove it.
        """
        try:
            self._file.remove()
        except OSError as error:
            raise OSError(f"{self._where}: cannot remove {self._path}: {error.strerror}") from None
