"""An epmd inside another program: in its gevent hub, or in a thread of its own.

    >>> with PortMapper(port=0) as mapper:  # in a program that runs on gevent
    ...     client.register("foo", 4711, port=mapper.port)

    >>> with ThreadedPortMapper(port=0) as mapper:  # in any other
    ...     client.names(port=mapper.port)

Both serve from `start` to `close`, or in a `with` block.  After os.fork() the parent serves on, and in the
child they are closed.  What a peer does wrong is logged; a mistake of this program's own, in a connection or
in the thread, is raised by `close`.
"""

from __future__ import annotations

import _socket
import os
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from gevent import get_hub, monkey
from gevent.event import Event

from ..protocol import DEFAULT_PORT
from . import listeners
from .acceptor import new_mapper
from .events import Events
from .listeners import ListenError, PortInUse
from .log import Log
from .mapper import Mapper
from .networks import Network
from .settings import DEFAULT_PACKET_TIMEOUT, checked

__all__ = ["ListenError", "PortInUse", "PortMapper", "ThreadedPortMapper"]

Self = TypeVar("Self", bound="PortMapper")

_STARTED = "it has been started: close it first"


class PortMapper:
    """An epmd in the gevent hub of the thread that starts it, and that must close it.

    `port` 0 is any that is free on all `addresses`; the attribute says which, once it serves.
    Loopback is always among the addresses; no address at all means every one of this host, and None loopback
    alone: 127.0.0.1, ::1, and 127.0.1.1, where Debian's nodes look for it, as far as this host has them.
    `relaxed`, `allow`, `allow_register`, `idle_exit`, `debug` and the delays are the options of
    `epmd --help`, times in seconds.  `log` is called with each line of the log, without its end, and must not
    wait for anything; None is stderr, where there was one when Python started.

    `start` raises PortInUse where somebody listens already, ListenError for an address that is not to be had,
    and RuntimeError where it has been started and not closed; the constructor ValueError for a value that
    cannot be.
    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        *,
        addresses: Iterable[str] | None = None,
        relaxed: bool = False,
        allow: Iterable[str | Network] | None = None,
        allow_register: Iterable[str | Network] = (),
        packet_timeout: int = DEFAULT_PACKET_TIMEOUT,
        idle_exit: int = 0,
        delay_accept: int = 0,
        delay_write: int = 0,
        debug: int = 0,
        log: Callable[[str], object] | None = None,
    ) -> None:
        self._settings = checked(
            port=port,
            addresses=addresses,
            relaxed=relaxed,
            allow=allow,
            allow_register=allow_register,
            packet_timeout=packet_timeout,
            idle_exit=idle_exit,
            delay_accept=delay_accept,
            delay_write=delay_write,
            debug=debug,
        )
        self._new_log = partial(_Log, debug, log)
        self._log = self._new_log()
        self._mapper: Mapper | None = None
        self._stopped: Event | None = None
        self.port = port

    def start(self) -> None:
        """Serve from here on."""
        if self._mapper is not None:
            raise RuntimeError(_STARTED)
        self._open()

    def _open(self) -> Mapper:
        sockets = listeners.open_listeners(self._settings.addresses, self._settings.port)
        _serving.add(self)
        mapper = self._mapper = new_mapper(self._settings, sockets, Events(self._log))
        stopped = self._stopped = Event()
        # However it ends, it ends in the hub: only there may connections be aborted.
        mapper.finished.rawlink(lambda _: self._end(mapper, stopped))
        mapper.start()
        self.port = mapper.port
        return mapper

    def close(self) -> None:
        """End all connections and free the port; nothing happens where that is done already."""
        mapper, self._mapper = self._mapper, None
        if mapper is not None:
            mapper.finished.set()
            self.wait()
            self._log.raise_failure()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait so many seconds (None: any time) until it ends, by `-kill`, by `idle_exit` or by `close`.
        False where that takes longer."""
        return self._stopped is None or bool(self._stopped.wait(timeout))

    def _end(self, mapper: Mapper, stopped: Event) -> None:
        try:
            mapper.stop()
        except Exception as error:  # noqa: BLE001 - the hub would print it, and go on
            self._log.failed(error)
        finally:
            stopped.set()

    def _leave_to_parent(self) -> None:
        """For a forked child: be closed, without a word to the peers, which are the parent's."""
        mapper, self._mapper = self._mapper, None
        stopped, self._stopped = self._stopped, None
        if mapper is None:
            return
        _left.append(mapper)
        loop_is_ours = mapper.hub.thread_ident == monkey.get_original("_thread", "get_ident")()
        mapper.leave_to_parent(loop_is_ours=loop_is_ours)
        self._log = self._new_log()
        if not loop_is_ours:
            _close_copies(mapper.port)
        elif stopped is not None:
            stopped.set()

    def __enter__(self: Self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ThreadedPortMapper(PortMapper):
    """The same in a thread with a hub of its own, for programs without gevent; any thread may close it.

    Where gevent has patched the threads there is none of its own, and `start` raises RuntimeError.
    """

    _thread: threading.Thread | None = None
    _ended: threading.Event | None = None
    #: Wakes the thread's hub; None where there is no hub to wake.
    _asked: Any = None
    #: Whether `close` came before there was a hub to wake.
    _closing = False
    #: Held whenever one of these is looked at or changed.
    _lock = threading.Lock()

    def start(self) -> None:
        """Serve from here on; returns once requests are answered."""
        if monkey.is_module_patched("threading"):
            raise RuntimeError("gevent has patched the threads here: PortMapper serves in its hub")
        started, ended = threading.Event(), threading.Event()
        thread = threading.Thread(target=self._run, args=(started, ended), name="epmd", daemon=True)
        with self._lock:
            if self._thread is not None:
                raise RuntimeError(_STARTED)
            thread.start()
            self._thread, self._ended, self._closing = thread, ended, False
        started.wait()
        if ended.is_set():
            self.close()  # which raises what was in the way

    def close(self) -> None:
        """End all connections and free the port, also while another thread is starting it; nothing happens
        where that is done already."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing = True
            if self._asked is not None:
                self._asked.send()
        if thread is not None:
            thread.join()
            self._log.raise_failure()

    def wait(self, timeout: float | None = None) -> bool:
        """As for PortMapper; from any thread."""
        return self._ended is None or self._ended.wait(timeout)

    def _leave_to_parent(self) -> None:
        self._thread = self._ended = self._asked = None
        self._closing = False
        super()._leave_to_parent()

    def _run(self, started: threading.Event, ended: threading.Event) -> None:
        hub = get_hub()
        self._hear_of_failures(hub)
        try:
            self._serve(hub, self._open(), started)
        except BaseException as error:  # noqa: BLE001 - `close` raises it
            self._log.keep(error)
        finally:
            self._mapper = None
            hub.destroy(destroy_loop=True)
            ended.set()
            started.set()

    def _serve(self, hub: Any, mapper: Mapper, started: threading.Event) -> None:
        asked = hub.loop.async_()
        asked.start(mapper.finished.set)
        with self._lock:
            self._asked = asked
            if self._closing:
                mapper.finished.set()
        started.set()
        try:
            super().wait()
        finally:
            with self._lock:
                self._asked = None
            asked.close()

    def _hear_of_failures(self, hub: Any) -> None:
        """Of those that are in nobody's greenlet; the hub would print them."""
        hub_handles = hub.handle_error

        def handle_error(context: Any, kind: Any, error: Any, traceback: Any) -> None:
            if isinstance(error, Exception):
                self._log.failed(error)
            hub_handles(context, kind, error, traceback)

        hub.exception_stream = None
        hub.handle_error = handle_error


#: Those that may have something open.
_serving: WeakSet[PortMapper] = WeakSet()
#: What a child has of its parent's mappers: their greenlets must not be woken to be tidied up.
_left: list[Mapper] = []


def _leave_all_to_parent() -> None:
    """In a child that was forked: it must neither serve nor hold what the parent closes."""
    ThreadedPortMapper._lock = threading.Lock()  # a thread that is not here may have held it
    for mapper in list(_serving):
        mapper._leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)


def _close_copies(port: int) -> None:
    """Close what was accepted at this port and is in no table: a thread that is not in this child was about
    to serve it."""
    default = _socket.getdefaulttimeout()
    _socket.setdefaulttimeout(None)  # else to look at a socket of the program would change it
    try:
        for name in os.listdir("/dev/fd"):
            try:
                sock = _socket.socket(fileno=int(name))
            except OSError:
                continue  # no socket, or the descriptor of the list
            if _is_accepted(sock, port):
                sock.close()
            else:
                sock.detach()
    except OSError:
        pass  # no /proc
    finally:
        _socket.setdefaulttimeout(default)


def _is_accepted(sock: _socket.socket, port: int) -> bool:
    try:
        return sock.family in (_socket.AF_INET, _socket.AF_INET6) and sock.getsockname()[1] == port
    except OSError:
        return False


def _say_nothing(_line: str) -> None:
    pass


class _Log(Log):
    """Calls `put` with each line, and keeps the first failure."""

    def __init__(self, level: int, put: Callable[[str], object] | None) -> None:
        super().__init__(level)
        # Where there was no stderr at the start of Python, its number is by now that of some other file or
        # socket, maybe a peer's.
        no_stderr = sys.__stderr__ is None
        self._call = put or (_say_nothing if no_stderr else super()._put)
        self._failure: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        self.keep(error)
        super().failed(error)

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _put(self, text: str) -> None:
        try:
            self._call(text)
        except Exception as error:  # noqa: BLE001 - no connection may suffer for it
            self.keep(error)

    def keep(self, error: BaseException) -> None:
        self._failure = self._failure or error
