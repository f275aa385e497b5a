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
from .options import Options
from .process import at_end, daemon, signals, systemd, watch
from .process.files import NumberFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process.privileges import Identity
    from .process.store import Store
    from .takeover import TakeOver

bundle.import_everything()


class Server:
    """The process that serves, from the creation of its mapper to its end."""

    def __init__(
        self,
        options: Options,
        sockets: list[_socket.socket],
        events: Events,
        caller: daemon.Caller | None,
        take_over: TakeOver | None,
    ) -> None:
        self._options = options
        self._events = events
        self._caller = caller
        self._take_over = take_over
        #: What to tell the caller.
        self._report: list[str] = []
        self._hosts = [sock.getsockname()[0] for sock in sockets]
        self._mapper = self._new_mapper(sockets)
        self._reporter = Reporter(self._mapper, options.metrics_file)

    def _new_mapper(self, sockets: list[_socket.socket]) -> Mapper:
        settings = self._options.settings
        if self._take_over is None:
            return new_mapper(settings, sockets, self._events, shared=self._options.systemd)
        at_end.add(self._take_over.abandon)
        # An event loop that fails when it starts must fail before the former epmd is stopped.
        gevent.sleep(0)
        return self._take_over.new_mapper(self._options, self._events)

    def serve(self, stored: list[systemd.Stored], identity: Identity | None) -> None:
        """Serve the sockets until a KILL request or another event shuts the epmd down.

        `stored` is what an epmd before this one has left in the descriptor store of systemd. If there is an
        `identity`, the process changes to that user before it accepts a connection. Raises OSError if a file
        cannot be written, the user not changed, or the port not reached; BrokenPipeError if the caller has
        ended; InterruptedError if there is a caller and the epmd ends before it is ready.
        """
        options, mapper, events = self._options, self._mapper, self._events
        store = self._store(stored) if options.store or stored else None
        mapper.start()
        at_end.add(events.log.finish)
        # In the one-file form the process ID is that of the process that serves, not of its launcher: that
        # process lives on as a daemon, and when it ends, the epmd ends.
        numbers = (options.port_file, mapper.port), (options.pid_file, os.getpid())
        files = [NumberFile(*given, number) for given, number in numbers if given.value]
        for file in files:
            at_end.add(partial(file.remove_or_tell, events.file_failed))
        at_end.add(self._reporter.finish)
        self._watch()
        events.serving()
        for file in files:
            # Write the files before root privileges are dropped, because only root may be able to write to
            # their folder.
            file.put()
        if identity is not None:
            events.log.hold_terminal()
            identity.take_on()
        self._reporter.start()
        if self._take_over is not None:
            # Not before everything else is done: from here on only this process serves.
            self._report = self._take_over.finish()
            events.took_over(self._report)
        # The event loop may fail when it starts, and then nobody must be told that it serves.
        gevent.sleep(0)
        if not mapper.finished.is_set():
            self._tell_that_it_serves()
            if store is not None:
                # Not before: systemd listens to the main process only, which this one may just have become.
                store.start()
        elif self._caller is not None:
            raise InterruptedError(f"the epmd has ended before it was ready: {mapper.end_reason}")
        mapper.finished.wait()

    def _store(self, stored: list[systemd.Stored]) -> Store | None:
        """Go on with the nodes that an epmd before this one has stored. Returns what stores them from now
        on."""
        from ..server.inherit import inherit
        from .process.store import Store, take_back

        mapper = self._mapper
        taken = take_back(stored)
        inherit(mapper, taken.left)
        if taken.names:
            self._events.took_back(len(taken.names))
        path = os.environ.get("NOTIFY_SOCKET")
        if not path:
            return None
        # What was taken back must be removed at its end, even if nothing else is to be stored.
        mapper.store = store = Store(mapper, systemd.address_of(path), taken, self._options.store)
        return store

    def _tell_that_it_serves(self) -> None:
        mapper, listeners = self._mapper, self._mapper.listeners
        if self._caller is not None and not self._options.systemd:
            try:
                ownport.must_answer(
                    self._hosts, mapper.port, lambda number, address: listeners[number].take_back(address)
                )
            except OSError:
                mapper.close_listeners()  # the caller may start another epmd as soon as it is told
                raise
        self._reporter.serves = True
        launched_by = launcher.pid if is_one_file() else None
        # Without -systemd, NOTIFY_SOCKET belongs to the service whose node started this epmd.
        if self._options.systemd and not systemd.notify_ready(os.environ, launched_by):
            self._events.notification_may_be_refused()
        if self._caller is not None:
            self._caller.ready(self._report, launcher=launched_by)
        if mapper.idle_exit:
            mapper.idle_exit.renew()  # the start may have taken longer than its time

    def _watch(self) -> None:
        mapper = self._mapper
        if is_frozen():
            # Before the signals: it resets one that the executables use until now.
            bundle.settle(has_launcher=is_one_file() and not self._options.daemon)
        # A service manager that reloads must not end a service that has nothing to read again.
        handles_hang_up = self._options.networks is not None or self._options.systemd
        hang_up = self._read_networks_again if handles_hang_up else None
        signals.watch_signals(mapper.loop, self._reporter.report, hang_up)
        if os.getpid() == 1:
            watch.reap_orphans(mapper.loop)
        for pid in self._options.pid_exit:
            watch.when_gone(mapper.loop, pid, partial(mapper.end, f"process {pid} has ended"))

    def _read_networks_again(self) -> None:
        mapper, networks = self._mapper, self._options.networks
        if networks is None:
            self._events.nothing_to_read_again()
            return
        try:
            settings = networks.changed(mapper.settings)
        except ValueProblem as problem:
            self._events.networks_stay(str(problem))
            return
        self._events.networks_read(networks.path, mapper.settings, settings)
        mapper.let_in(settings)
