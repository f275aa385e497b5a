"""Accepts connections and hands each to a `Connection`: a gevent StreamServer for each listening socket.

A single loop over accept replaces gevent's general do_read and do_handle. gevent's watcher calls it, because
it overrides `_do_read`, the only private name of gevent that is used here.

C's counterpart: do_accept of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
from collections.abc import Iterable

from gevent.server import StreamServer

from .connection import serve
from .events import Events
from .log import unpatched_poll
from .mapper import Mapper
from .settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How many connections to accept before the event loop serves open ones again. gevent's default of 100 is no
#: faster here, and lets a few peers that reconnect continuously keep the others waiting.
AT_ONCE = 4
#: How long to stop accepting if no connection can be closed to make room, in seconds.
_PAUSE = 0.1
#: For how many seconds the kernel keeps back a connection that has not sent anything. Erlang's client sends
#: its request some 50 us later, and to wake up twice takes as much CPU time as the look-up. 1 s is the least.
_DEFER = 1
#: Linux only.
_TCP_DEFER_ACCEPT: int | None = getattr(_socket, "TCP_DEFER_ACCEPT", None)
#: How long `take_back` waits, in milliseconds.
_MOMENT_IN_MS = 1000
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def new_mapper(
    settings: Settings, sockets: Iterable[_socket.socket], events: Events, *, shared: bool = False
) -> Mapper:
    """Create a mapper for these listening sockets, in the hub of the calling thread.

    It closes them at its end. If they are `shared`, another process, such as systemd, keeps listening.
    """
    sockets = list(sockets)
    mapper = Mapper(settings, sockets[0].getsockname()[1], events)
    mapper.listeners += (Acceptor(mapper, sock, shared=shared) for sock in sockets)
    return mapper


class _ListeningSocket(_socket.socket):
    """A socket that StreamServer accepts, even if the embedding program has replaced socket.socket."""

    accept = _socket.socket._accept  # type: ignore[attr-defined]


class Acceptor(StreamServer):
    """Accepts connections on one listening socket, as long as there is room for them."""

    def __init__(self, mapper: Mapper, sock: _socket.socket, *, shared: bool) -> None:
        own = _ListeningSocket(sock.family, sock.type, sock.proto, sock.detach())
        own.setblocking(False)  # a new socket inherits the embedding program's default timeout
        if not mapper.settings.debug:  # the log of -d shows each connection when it is opened, as C's does
            _keep_back_silent(own)
        super().__init__(own, handle=self._serve)
        self._mapper = mapper
        self._shared = shared
        self._resume: Any = None
        self._poll = unpatched_poll()
        self._poll.register(self.socket, select.POLLIN)

    def close(self) -> None:
        """Stop accepting, and close the listening socket."""
        self._stop_waiting()
        super().close()

    def is_pending(self) -> bool:
        """Return whether a connection waits to be accepted."""
        return not self.closed and bool(self._poll.poll(0))

    def take_back(self, peer: tuple[Any, ...]) -> None:
        """Close a connection of this process itself, which must not be logged. Others are served."""
        try:
            # On a busy machine it may arrive a moment later.
            while self._poll.poll(_MOMENT_IN_MS):
                descriptor, other = self.socket.accept()
                if other[:2] == peer[:2]:
                    os.close(descriptor)
                    return
                # Connections are served from the hub only.
                self.loop.run_callback(self._serve, descriptor, other)
        except OSError:
            pass  # no descriptor is free: it is served, and the log has a line of it

    def retire(self) -> None:
        """Shut down a moment later, so that whoever has connected already is served."""
        if _TCP_DEFER_ACCEPT is not None:
            self.socket.setsockopt(_socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, 0)
        self._resume = self.loop.timer(_DEFER)
        self._resume.start(self._end)

    def _end(self) -> None:
        while self.is_pending():
            self._do_read()
        self.shut_down()

    def shut_down(self, *, in_child: bool = False, loop_is_ours: bool = True) -> None:
        """Close, and stop listening even if forked processes have copies of the socket.

        A forked child only closes its copy. An event loop that is not ours is left as it is.
        """
        if not (in_child or self.closed or self._shared):
            try:
                self.socket.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # it no longer listens
        if loop_is_ours:
            self.close()
        elif not self.closed:
            self.socket.close()

    def _do_read(self) -> None:
        """Accept pending connections. Called by the watcher when there is one."""
        for _ in range(AT_ONCE):
            try:
                descriptor, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if not self._may_try_again(error):
                    return
            else:
                self._serve(descriptor, peer)
            # An accept with nothing pending takes ten times as long, because the kernel creates a socket
            # first. If no descriptor is free, Linux reports that even with nothing pending.
            if self.closed or not self._poll.poll(0):
                return

    def _serve(self, descriptor: int, peer: tuple[Any, ...]) -> None:
        # Without all four arguments, the constructor makes three system calls to find them.
        self.serve_socket(_socket.socket(self.family, _socket.SOCK_STREAM, 0, descriptor), peer)

    def serve_socket(self, sock: _socket.socket, peer: tuple[Any, ...]) -> None:
        """Serve an accepted connection. Call from the hub only."""
        if sock.gettimeout() is not None:
            # With the embedding program's default timeout, even a call with MSG_DONTWAIT would wait.
            sock.settimeout(None)
        serve(self._mapper, sock, peer)

    def _may_try_again(self, error: OSError) -> bool:
        events = self._mapper.events
        if error.errno not in _NO_ROOM:
            # The peer disconnected before it was accepted, or the network reports an error.
            events.accept_failed(error)
            return False
        events.no_room(error)
        if self._mapper.make_room():
            return True
        # For a while, because the watcher fires continuously while connections wait.
        self.stop_accepting()
        self._resume = self.loop.timer(_PAUSE)
        self._resume.start(self._go_on)
        return False

    def _go_on(self) -> None:
        self._stop_waiting()
        self.start_accepting()

    def _stop_waiting(self) -> None:
        if self._resume is not None:
            self._resume.close()
            self._resume = None


def _keep_back_silent(sock: _socket.socket) -> None:
    """Make a socket accept each connection only once it has sent something, or after _DEFER seconds."""
    if _TCP_DEFER_ACCEPT is None:
        return
    try:
        # Whoever passed the socket may have chosen a time: DeferAcceptSec= of systemd.
        if not sock.getsockopt(_socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT):
            sock.setsockopt(_socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, _DEFER)
    except OSError:
        pass  # not a TCP socket of Linux itself, as in some sandboxes; it serves all the same
