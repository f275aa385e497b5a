"""The client that programs use: `Client`, and a function for each of its methods.

The package hands out what is public here, on first use.
"""

from __future__ import annotations

import _socket
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..conventions import LOOPBACK_ALONE, served_by_threads
from . import checks, exchange, queries
from .answers import Dump, DumpedNode as DumpedNode, NamedPort, NodeInfo
from .checks import HIDDEN_NODE as HIDDEN_NODE, NORMAL_NODE as NORMAL_NODE
from .exchange import (
    MOST_LISTING as MOST_LISTING,
    TIMEOUT,
    BadAnswerError as BadAnswerError,
    BrokenError as BrokenError,
    EpmdError,
    NoEpmdError,
    NoReplyError as NoReplyError,
    Target,
    TooLateError,
)
from .queries import RefusedError as RefusedError

_LOCAL = "127.0.0.1 and ::1"
_OWN_HOSTS = ("", "localhost", *LOOPBACK_ALONE)


class ConnectTimeoutError(NoEpmdError, TooLateError):
    """No connection was made within the time limit of the whole call."""


class Asker:
    """Which epmd a client asks, and for how long. `Client` explains the arguments."""

    def __init__(self, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> None:
        self._host = checks.host_of(host)
        self._port = exchange.port_or_default(None if port is None else checks.port_of(port))
        self._timeout = checks.timeout_of(timeout)

    @property
    def host(self) -> str:
        """The host, or "" for this host."""
        return self._host

    @property
    def port(self) -> int:
        """The epmd's port."""
        return self._port

    @property
    def timeout(self) -> float | None:
        """The limit for a whole call in seconds, or None for no limit."""
        return self._timeout

    def _place(self) -> str:
        """Return where the epmd is, in words."""
        return f"port {self._port} of {self._host or _LOCAL}"

    def _explained(self, error: EpmdError) -> EpmdError:
        """Return the error with the place of the epmd in its message."""
        kind = type(error)
        if kind is NoEpmdError and isinstance(error.__cause__, TimeoutError):
            kind = ConnectTimeoutError
        return kind(f"{error} ({self._place()})").with_traceback(error.__traceback__)


class Client(Asker):
    """Asks the epmd of one host. Each call makes a connection of its own, so threads may share the object.

    `host` is a host's name or IP address; "" means this host (::1 and 127.0.0.1). `port` is the epmd's port;
    None means ERL_EPMD_PORT, or else 4369. `timeout` is the limit for a whole call in seconds, over all
    addresses; None means no limit.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._place()}>"

    def _would_block(self) -> bool:
        """Return whether a call would never end: this thread's hub serves the epmd, and sockets block it."""
        if self._host not in _OWN_HOSTS or not served_by_threads:
            return False
        monkey = sys.modules["gevent.monkey"]
        ident = monkey.get_original("_thread", "get_ident")()
        return (ident, self._port) in served_by_threads and not monkey.is_module_patched("socket")

    def names(self) -> list[NamedPort]:
        """Return the registered nodes with their ports, newest first."""
        with self._asking() as target:
            return queries.names(target)

    def dump(self) -> Dump:
        """Return the registered nodes and the remembered names, with their descriptors. This host only."""
        with self._asking() as target:
            return queries.dump(target)

    def started(self) -> bool:
        """Return whether an epmd answers, with a whole and right answer."""
        try:
            with self._asking() as target:
                return exchange.is_an_epmd(target)
        except EpmdError:
            return False

    def port_please(self, name: str) -> NodeInfo | None:
        """Return what the node of this name has registered, including its port, or None if there is none."""
        encoded = checks.name_of(name)
        with self._asking() as target:
            return queries.look_up(target, encoded)

    def register(
        self, name: str, node_port: int, *, hidden: bool = False, extra: bytes = b""
    ) -> Registration:
        """Register a node that listens at `node_port`.

        An epmd lets hosts of `-allow_register` and its own host do so. Raises RefusedError if the name is
        taken.
        """
        request = checks.request_of(name, node_port, hidden=hidden, extra=extra)
        with self._asking() as target:
            sock, creation = queries.register(target, request)
        return Registration(sock, name, node_port, creation, self)

    def stop(self, name: str) -> bool:
        """Unregister a node by force. Returns False if there is no node of this name. This host only.

        Raises NoReplyError if the epmd's check is not relaxed.
        """
        encoded = checks.name_of(name)
        with self._asking() as target:
            return queries.stop(target, encoded)

    def kill(self) -> None:
        """Shut down the epmd. Raises RefusedError if nodes are registered and its check is not relaxed."""
        with self._asking() as target:
            queries.kill(target)

    @contextmanager
    def _asking(self) -> Iterator[Target]:
        """Give the target of a call, and let errors say where it is."""
        if self._would_block():
            raise RuntimeError(
                f"the hub of this thread serves the epmd at port {self._port}, and this call would block it:"
                " use ThreadedPortMapper, patch the module socket with gevent, or call from another thread"
            )
        target = Target(self._host, self._port, self._timeout)
        try:
            if self._host and not checks.is_address(self._host):
                target.find()
            yield target
        except EpmdError as error:
            raise self._explained(error) from error.__cause__


class Registration:
    """A registered node. Its name is registered until `close`, or until the end of the `with` block.

    `creation` distinguishes it from other registrations of the name.
    """

    #: Called once, with the registration, when it is closed.
    on_close: Callable[[Registration], object] | None = None

    def __init__(self, sock: Any, name: str, node_port: int, creation: int, client: Client) -> None:
        self._sock = sock
        self._owner = os.getpid()
        self._client = client
        self.name = name
        self.node_port = node_port
        self.creation = creation

    def __repr__(self) -> str:
        state = "closed" if self._sock.fileno() < 0 else "lost" if self.lost() else "registered"
        where = f"node port {self.node_port} at {self._client._place()}"
        return f"<Registration of {self.name!r} with {where}: {state}>"

    def lost(self) -> bool:
        """Return whether the epmd has ended the registration, or has itself ended."""
        try:
            self._sock.settimeout(0)
            self._sock.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self, timeout: float | None = None) -> None:
        """End the registration, even if a process that was forked since holds the socket too.

        Returns once the epmd has released the name, or after `timeout` seconds; None means the time limit of
        the client that registered it. In a forked process this ends nothing.
        """
        if os.getpid() == self._owner:
            if self._client._would_block():
                timeout = 0  # it releases the name once its hub runs
            self._release(self._client.timeout if timeout is None else timeout)
        self._sock.close()
        if self.on_close is not None:
            on_close, self.on_close = self.on_close, None
            on_close(self)

    def _release(self, seconds: float | None) -> None:
        """Close towards the epmd, and wait until it closes too: it releases the name first."""
        end = None if seconds is None else time.monotonic() + seconds
        try:
            self._sock.shutdown(_socket.SHUT_WR)
            while True:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._sock.settimeout(left)
                if not self._sock.recv(1):
                    break
            self._sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # it is lost, or closed already, or the epmd does not answer

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def names(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> list[NamedPort]:
    """Return the registered nodes with their ports, newest first."""
    return Client(host, port, timeout).names()


def dump(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> Dump:
    """Return the registered nodes and the remembered names, with their descriptors. This host only."""
    return Client(host, port, timeout).dump()


def started(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Return whether an epmd answers, with a whole and right answer."""
    return Client(host, port, timeout).started()


def port_please(
    name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT
) -> NodeInfo | None:
    """Return what the node of this name has registered, including its port, or None if there is none."""
    return Client(host, port, timeout).port_please(name)


def register(
    name: str,
    node_port: int,
    *,
    hidden: bool = False,
    extra: bytes = b"",
    host: str = "",
    port: int | None = None,
    timeout: float | None = TIMEOUT,
) -> Registration:
    """Register a node that listens at `node_port`. Raises RefusedError if the name is taken."""
    return Client(host, port, timeout).register(name, node_port, hidden=hidden, extra=extra)


def stop(name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Unregister a node by force, as `Client.stop` does. Returns False if there is no node of this name."""
    return Client(host, port, timeout).stop(name)


def kill(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> None:
    """Shut down the epmd. Raises RefusedError if nodes are registered and its check is not relaxed."""
    Client(host, port, timeout).kill()
