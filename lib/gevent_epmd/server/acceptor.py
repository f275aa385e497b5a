"""Accepts connections: a gevent StreamServer for each listening socket (C: do_accept of epmd_srv.c).

gevent's own loop over do_read and do_handle is general; ours is one loop over accept, called by the same
watcher.  It overrides one private name of gevent's, `_do_read`, the watcher's callback.
"""

from __future__ import annotations

import _socket
import errno
import select
from collections.abc import Iterable

from gevent.server import StreamServer

from . import unpatched
from .connection import Connection
from .events import Events
from .mapper import Mapper
from .settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How many connections to accept before those that are open are looked at again.  gevent's 100 is no faster
#: here, and lets a few peers that connect again and again keep the others waiting.
AT_ONCE = 4
#: How long to accept nobody where there is nothing to close, in seconds.
_PAUSE = 0.1
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def new_mapper(
    settings: Settings, sockets: Iterable[_socket.socket], events: Events, *, shared: bool = False
) -> Mapper:
    """A mapper that is to serve these listening sockets in the hub of this thread, from its `start` on, and
    closes them at the end.  Where they are `shared`, another process, as systemd, goes on listening
    afterwards."""
    sockets = list(sockets)
    mapper = Mapper(settings, sockets[0].getsockname()[1], events)
    mapper.listeners += (Acceptor(mapper, sock, shared=shared) for sock in sockets)
    return mapper


class _ListeningSocket(_socket.socket):
    """What StreamServer takes for a socket, whatever the embedding program has made of socket.socket."""

    accept = _socket.socket._accept  # type: ignore[attr-defined]


class Acceptor(StreamServer):
    """Accepts on one listening socket for as long as there is room."""

    def __init__(self, mapper: Mapper, sock: _socket.socket, *, shared: bool) -> None:
        own = _ListeningSocket(sock.family, sock.type, sock.proto, sock.detach())
        own.setblocking(False)  # a new socket has the default time-out of the embedding program
        super().__init__(own, handle=self._serve)
        self._mapper = mapper
        self._allowed = mapper.settings.may_ask()
        self._shared = shared
        self._resume: Any = None
        self._poll = unpatched.poll()
        self._poll.register(self.socket, select.POLLIN)

    def close(self) -> None:
        """Stop accepting, and close the listening socket."""
        self._stop_waiting()
        super().close()

    def shut_down(self) -> None:
        """The same, and end the listening in forked processes too, which have the socket."""
        if not self.closed and not self._shared:
            try:
                self.socket.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # it does not listen any more
        self.close()

    def leave_to_parent(self, *, loop_is_ours: bool) -> None:
        """For a forked child: close its copy of the socket."""
        if loop_is_ours:
            self.close()
        elif not self.closed:
            self.socket.close()

    def _do_read(self) -> None:
        """Accept those who wait; called by the watcher."""
        for _ in range(AT_ONCE):
            # To ask is cheap.  An accept in vain makes a socket and a file first, and takes ten times as
            # long; and where no descriptor is free Linux reports that even if nobody waits.
            if self.closed or not self._poll.poll(0):
                return
            try:
                descriptor, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if not self._may_try_again(error):
                    return
            else:
                self._serve(descriptor, peer)

    def _serve(self, descriptor: int, peer: tuple[Any, ...]) -> None:
        # With all four arguments: otherwise the constructor makes three system calls to find them.
        sock = _socket.socket(self.family, _socket.SOCK_STREAM, 0, descriptor)
        if sock.gettimeout() is not None:
            # The default time-out of the embedding program would make even a call with MSG_DONTWAIT wait.
            # Most programs have none, and to set it is a system call.
            sock.settimeout(None)
        mapper = self._mapper
        connection = Connection(mapper, sock, peer)
        if self._allowed is not None and connection.is_barred(self._allowed):
            connection.refuse()
            return
        connection.start()
        mapper.keep_bounded(connection)

    def _may_try_again(self, error: OSError) -> bool:
        events = self._mapper.events
        if error.errno not in _NO_ROOM:
            # The other end has gone before it was accepted, or the network has an error of its own.
            events.accept_failed(error)
            return False
        events.no_room(error)
        if self._mapper.make_room():
            return True
        self._pause()
        return False

    def _pause(self) -> None:
        """Wait before the next accept: the watcher would call at once, for as long as somebody waits."""
        self.stop_accepting()
        self._resume = self.loop.timer(_PAUSE)
        self._resume.start(self._go_on)

    def _go_on(self) -> None:
        self._stop_waiting()
        self.start_accepting()

    def _stop_waiting(self) -> None:
        if self._resume is not None:
            self._resume.stop()
            self._resume.close()
            self._resume = None
