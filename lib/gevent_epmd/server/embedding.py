"""Runs an epmd inside another program, in the program's gevent hub or in a thread.

    >>> with PortMapper(port=0) as mapper:  # in a program that runs on gevent
    ...     client.register("foo", 4711, port=mapper.port)

    >>> with ThreadedPortMapper(port=0) as mapper:  # in any other program
    ...     client.names(port=mapper.port)

Both serve from `start` to `close`, or within a `with` block. Errors of peers are logged. An internal error,
in a connection or in the thread, is raised by `close`.

Invariants:
- after os.fork() the parent continues to serve, and in the child all mappers are closed;
- no mapper's thread runs Python code while the interpreter is torn down.
"""

from __future__ import annotations

import _socket
import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Self, TypeAlias, TypeVar
from weakref import WeakSet

from gevent import get_hub, monkey
from gevent.event import Event

from ..client import Registration, api
from ..client.waiting import WithNodes
from ..conventions import served_by_threads
from ..wire import DEFAULT_PORT
from . import listeners
from .acceptor import new_mapper
from .events import Events
from .listeners import ListenError, PortInUseError
from .log import Log
from .mapper import Mapper
from .settings import DEFAULT_PACKET_TIMEOUT, checked

__all__ = ["ListenError", "PortInUseError", "PortMapper", "ThreadedPortMapper"]

#: As in `networks`, which may not import ipaddress, because every start would pay for it.
Network: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")

#: How many descriptors are looked at where the system does not list those that are open.
_MOST_DESCRIPTORS = 4096
_STARTED = "the mapper is already started: close it first"
#: How long the end of the program waits for an open mapper in another thread, in seconds. Its hub may be
#: blocked, or its `log` function may wait for something.
_PATIENCE_AT_EXIT = 2.0


class PortMapper(WithNodes):
    """An epmd for programs that run on gevent: it serves only while the hub of its thread runs.

    In a program without gevent nothing runs the hub: use ThreadedPortMapper. The thread that starts the
    mapper must also close it.

    `port` 0 means any port that is free on all `addresses`; the attribute `port` has its number once the
    mapper serves. The mapper listens on loopback in addition to `addresses`. An empty list means every
    address of this host. None means loopback only: 127.0.0.1, ::1 and 127.0.1.1 (where nodes on Debian look
    for it), as far as this host has them. `relaxed`, `allow`, `allow_register`, `not_local`, `idle_exit`,
    `debug` and the delays are the options of `epmd --help`, with times in seconds. `log` is called with each
    log line, without its line end. It must not block. None means stderr, if Python started with one.

    The constructor raises ValueError for an invalid value. `start` raises PortInUseError if something already
    listens on the port, ListenError if it cannot listen on an address, and RuntimeError if the mapper has
    been started and not closed.
    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        *,
        addresses: Iterable[str] | None = None,
        relaxed: bool = False,
        allow: Iterable[str | Network] | None = None,
        allow_register: Iterable[str | Network] | None = None,
        not_local: Iterable[str | Network] = (),
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
            not_local=not_local,
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
        """Start serving."""
        if self._mapper is not None:
            raise RuntimeError(_STARTED)
        if _is_in_asyncio():
            raise RuntimeError(
                "an asyncio event loop runs in this thread, so no gevent hub does: use ThreadedPortMapper"
            )
        mapper = self._open()
        if not mapper.hub.main_hub:
            _elsewhere[mapper] = _Alarm(mapper)

    def _open(self) -> Mapper:
        sockets = listeners.open_listeners(self._settings.addresses, self._settings.port)
        # Before anything is accepted: what is at these addresses now is the program's own.
        self._copies = _Copies(sockets)
        _serving.add(self)
        mapper = self._mapper = new_mapper(self._settings, sockets, Events(self._log))
        stopped = self._stopped = Event()
        # Always ends in the hub, because connections may be aborted only there.
        mapper.finished.rawlink(lambda _: self._end(mapper, stopped))
        mapper.start()
        self.port = mapper.port
        self._here = (mapper.hub.thread_ident, mapper.port)
        served_by_threads.add(self._here)
        return mapper

    def register(
        self, name: str, node_port: int, *, hidden: bool = False, extra: bytes = b""
    ) -> Registration:
        """Register a node that listens at `node_port`. Raises client.RefusedError if the name is taken."""
        return self._outside(api.register, name, node_port, hidden=hidden, extra=extra, port=self.port)

    def _outside(self, function: Callable[..., T], *given: object, **named: object) -> T:
        """Call a function that asks the mapper, without blocking the hub that serves it."""
        mapper = self._mapper
        if mapper is None or monkey.is_module_patched("socket") or not _is_of_this_thread(mapper):
            return function(*given, **named)
        result: T = mapper.hub.threadpool.apply(function, given, named)
        return result

    def restart(self) -> None:
        """Close the mapper, and start it again at the same port, without any node."""
        self.close()
        self._settings = self._settings._replace(port=self.port)
        self.start()

    def __repr__(self) -> str:
        serves = self._stopped is not None and not self._stopped.is_set()
        return f"<{type(self).__name__} at port {self.port}: {'serves' if serves else 'closed'}>"

    def close(self) -> None:
        """End all connections and free the port. Does nothing if the mapper is closed already."""
        mapper, self._mapper = self._mapper, None
        if mapper is None:
            return
        if mapper.hub.loop is None:
            # The program has destroyed the hub, and whoever waits for it would wait forever.
            _left.append(mapper)
            _elsewhere.pop(mapper, None)
            served_by_threads.discard(self._here)
            mapper.close_without_hub(in_child=False, loop_is_ours=bool(mapper.loop.ptr))
            self._stopped = None
        else:
            mapper.finished.set()
            self.wait()
        self._log.raise_failure()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the mapper ends, by `-kill`, by `idle_exit` or by `close`.

        Returns False if that takes longer than `timeout` seconds. None waits without limit.
        """
        return self._stopped is None or bool(self._stopped.wait(timeout))

    def _end(self, mapper: Mapper, stopped: Event) -> None:
        try:
            mapper.stop()
        except Exception as error:  # noqa: BLE001 - the hub would only print it
            self._log.failed(error)
        finally:
            served_by_threads.discard(self._here)
            stopped.set()
            if mapper in _elsewhere:
                _elsewhere.pop(mapper).close()

    def _leave_to_parent(self) -> None:
        """In a forked child: close without sending anything to the peers, which belong to the parent."""
        mapper, self._mapper = self._mapper, None
        stopped, self._stopped = self._stopped, None
        if mapper is None:
            return
        _left.append(mapper)
        _elsewhere.pop(mapper, None)
        served_by_threads.discard(self._here)
        loop_is_ours = _is_of_this_thread(mapper)
        mapper.close_without_hub(in_child=True, loop_is_ours=loop_is_ours)
        self._log = self._new_log()
        if not loop_is_ours:
            self._copies.close()
        elif stopped is not None:
            stopped.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ThreadedPortMapper(PortMapper):
    """A port mapper in a thread with its own hub, for programs without gevent. Any thread may close it.

    If gevent has patched threading, there are no real threads, and `start` raises RuntimeError.
    """

    _thread: threading.Thread | None = None
    _ended: threading.Event | None = None
    #: Wakes the thread's hub. None while there is no hub to wake.
    _asked: Any = None
    #: Whether `close` was called before there was a hub to wake.
    _closing = False
    #: Held while `_thread`, `_asked` or `_closing` is read or changed.
    _lock = threading.Lock()

    def start(self) -> None:
        """Start serving. Returns once requests are answered."""
        if monkey.is_module_patched("threading"):
            raise RuntimeError("gevent has patched the module threading: use PortMapper instead")
        started, ended = threading.Event(), threading.Event()
        thread = threading.Thread(target=self._run, args=(started, ended), name="epmd", daemon=True)
        with self._lock:
            if _at_exit:
                raise RuntimeError("the program is ending: a mapper cannot be started any more")
            if self._thread is not None:
                raise RuntimeError(_STARTED)
            thread.start()
            self._thread, self._ended, self._closing = thread, ended, False
            _threaded.add(self)
        started.wait()
        if ended.is_set():
            self.close()  # raises what made the start fail

    def close(self) -> None:
        """End all connections and free the port, even while another thread is starting the mapper.

        Does nothing if the mapper is closed already.
        """
        thread = self._ask_to_end()
        if thread is not None:
            thread.join()
            self._log.raise_failure()

    def _ask_to_end(self) -> threading.Thread | None:
        """Make the thread end. Returns it, unless that was done before."""
        with self._lock:
            thread, self._thread = self._thread, None
            _threaded.discard(self)
            self._closing = True
            if self._asked is not None:
                self._asked.send()
        return thread

    def wait(self, timeout: float | None = None) -> bool:
        """Like PortMapper.wait, but callable from any thread."""
        return self._ended is None or self._ended.wait(timeout)

    def _leave_to_parent(self) -> None:
        _threaded.discard(self)
        self._thread = self._ended = self._asked = None
        self._closing = False
        super()._leave_to_parent()

    def _run(self, started: threading.Event, ended: threading.Event) -> None:
        hub = get_hub()
        self._keep_failures(hub)
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

    def _keep_failures(self, hub: Any) -> None:
        """Log and keep errors raised outside of greenlets, which the hub would only print."""
        hub_handles = hub.handle_error

        def handle_error(context: Any, kind: Any, error: Any, traceback: Any) -> None:
            if isinstance(error, Exception):
                self._log.failed(error)
            hub_handles(context, kind, error, traceback)

        hub.exception_stream = None
        hub.handle_error = handle_error


class _Alarm:
    """Ends a mapper from another thread than that of its hub."""

    def __init__(self, mapper: Mapper) -> None:
        self._ended = monkey.get_original("_thread", "allocate_lock")()
        self._ended.acquire()
        self._thread_ident = mapper.hub.thread_ident
        self._wakes = mapper.loop.async_()
        self._wakes.start(mapper.finished.set)

    def ring(self) -> None:
        """End the mapper. Returns when that is done, or if its hub does not run."""
        self._wakes.send()
        if self._ended.acquire(timeout=_PATIENCE_AT_EXIT):
            for thread in threading.enumerate():
                if thread.ident == self._thread_ident:
                    thread.join(_PATIENCE_AT_EXIT)  # it has nothing else to do, if all is well

    def close(self) -> None:
        """Tell `ring` that the mapper has ended. Call from the hub only."""
        self._wakes.close()
        self._ended.release()


#: The mappers whose threads may run. Guarded by the lock of ThreadedPortMapper.
_threaded: set[ThreadedPortMapper] = set()
#: The open mappers in hubs of other threads than the main thread.
_elsewhere: dict[Mapper, _Alarm] = {}
#: Whether the interpreter ends, so that no thread may be started any more.
_at_exit = False
#: The mappers that may have open sockets.
_serving: WeakSet[PortMapper] = WeakSet()
#: Mappers whose hub does not run any more: a forked child's copies of its parent's, and those of hubs that
#: were destroyed. They are kept because deleting them would resume their greenlets.
_left: list[Mapper] = []


def _leave_all_to_parent() -> None:
    """In a forked child: close all mappers, so that it holds no sockets that the parent closes."""
    ThreadedPortMapper._lock = threading.Lock()  # a thread of the parent may hold it
    for mapper in list(_serving):
        mapper._leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)


@atexit.register
def _end_all_threads() -> None:
    """End the mappers that the program has left open in other threads.

    An event loop that calls Python code while the interpreter is torn down crashes the process.
    """
    global _at_exit
    with ThreadedPortMapper._lock:
        _at_exit = True
        open_ones = list(_threaded)
    threads = [mapper._ask_to_end() for mapper in open_ones]
    for thread in threads:
        if thread is not None:
            thread.join(_PATIENCE_AT_EXIT)
    for alarm in list(_elsewhere.values()):
        alarm.ring()


def _is_of_this_thread(mapper: Mapper) -> bool:
    return bool(mapper.hub.thread_ident == monkey.get_original("_thread", "get_ident")())


def _is_in_asyncio() -> bool:
    """Return whether an asyncio event loop runs in this thread, which keeps a gevent hub from running."""
    if monkey.is_module_patched("select"):
        return False  # then it waits in the hub
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


class _Copies:
    """A forked child's copies of connections that a mapper has accepted and that no table lists.

    In the parent, a thread was about to serve them, or had just served them. Create this after the mapper's
    sockets listen, and before it accepts: until then, sockets with the same address are the program's own.
    """

    def __init__(self, listening: Iterable[_socket.socket]) -> None:
        self._places = {(sock.family, *sock.getsockname()[:2]) for sock in listening}
        self._not_ours = {os.fstat(sock.fileno()).st_ino for sock in _sockets() if self._may_be(sock)}

    def close(self) -> None:
        for sock in _sockets():
            if self._may_be(sock) and os.fstat(sock.fileno()).st_ino not in self._not_ours:
                os.close(sock.fileno())

    def _may_be(self, sock: _socket.socket) -> bool:
        """Return whether the socket is like one that the mapper has accepted."""
        try:
            if not sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN) and _is_tcp(sock):
                host, port = sock.getsockname()[:2]
                return any((sock.family, h, port) in self._places for h in (host, "0.0.0.0", "::"))
        except OSError:
            pass  # it is closed
        return False


def _is_tcp(sock: _socket.socket) -> bool:
    if sock.family not in (_socket.AF_INET, _socket.AF_INET6) or sock.type != _socket.SOCK_STREAM:
        return False
    return sock.proto in (0, _socket.IPPROTO_TCP)  # only some systems tell the protocol


def _sockets() -> Iterator[_socket.socket]:
    """Yield an object for each socket of this process. It does not close the socket."""
    default = _socket.getdefaulttimeout()
    _socket.setdefaulttimeout(None)  # else a socket object would change the mode of the program's socket
    try:
        for descriptor in listeners.open_descriptors(_MOST_DESCRIPTORS):
            try:
                sock = _socket.socket(fileno=descriptor)
            except OSError:
                continue  # not a socket, or the descriptor of the listing itself
            try:
                yield sock
            finally:
                sock.detach()
    finally:
        _socket.setdefaulttimeout(default)


class _Log(Log):
    """A log that calls `put` with each line, and keeps the first failure."""

    def __init__(self, level: int, put: Callable[[str], object] | None) -> None:
        super().__init__(level)
        # If Python started without stderr, descriptor 2 may now be any other file or socket, even a peer's.
        no_stderr = sys.__stderr__ is None
        self._call = put or ((lambda _: None) if no_stderr else super()._put)
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
        except Exception as error:  # noqa: BLE001 - a connection must not fail because of its log
            self.keep(error)

    def keep(self, error: BaseException) -> None:
        self._failure = self._failure or error
