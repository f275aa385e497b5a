"""Queries an epmd: list nodes, look one up, register one, stop one, shut down the epmd.

    >>> from gevent_epmd import client
    >>> client.names()
    [NamedPort(name='rabbit', port=25672)]

All functions share these conventions:
- `host` is a host's name or IP address; "" means this host (::1, then 127.0.0.1). `port` is the epmd's port;
  None means ERL_EPMD_PORT, or else 4369.
- `timeout` is the limit for the whole call in seconds, without the time to resolve a host's name; None means
  no limit.
- NoEpmd is raised if no connection can be made. BadAnswer is raised if the reply is not that of an epmd, is
  missing (an epmd closes the connection on a request that it does not allow), takes too long, or is a listing
  of more than MOST_LISTING bytes. ValueError is raised for an invalid port, also in ERL_EPMD_PORT, and for a
  name that does not fit into a request.
- Names are UTF-8 on the wire in every locale. A byte that is not UTF-8 becomes a lone surrogate, as with
  os.fsdecode.

Uses plain blocking sockets and imports little, because every start of an Erlang node makes the interactive
calls and pays for their imports.

C's counterpart: epmd_cli.c, and what erl_epmd and ei do.
"""

from __future__ import annotations

import _socket
import os
import time

from .. import wire
from .exchange import (
    MOST_LISTING,
    TIMEOUT,
    BadAnswer,
    Broken,
    Call,
    EpmdError,
    Listing,
    NoEpmd,
    NoReply,
    Target,
    TooLate,
    encoded,
    joined,
    kill_answer,
    must_be_an_epmd,
    stop_answer,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..protocol import Alive2Request
    from .answers import Dump, NamedPort

__all__ = [
    "HIDDEN_NODE",
    "MOST_LISTING",
    "NORMAL_NODE",
    "TIMEOUT",
    "BadAnswer",
    "Broken",
    "EpmdError",
    "NoEpmd",
    "NoReply",
    "Refused",
    "Registration",
    "TooLate",
    "dump",
    "kill",
    "names",
    "port_please",
    "register",
    "started",
    "stop",
]

NORMAL_NODE, HIDDEN_NODE = 77, 72

#: The size of a PORT2_RESP with the longest name and extra that a 16-bit length allows.
_MOST_PORT2_RESP = 14 + 2 * 65535
#: How many characters of an invalid name an error shows.
_SHOWN = 300


class Refused(EpmdError):
    """The epmd refuses: a name is taken, there are live nodes, or its check is not relaxed."""


class Registration:
    """A registered node. Its name is registered until `close`, or until the end of the `with` block.

    `creation` distinguishes it from other registrations of the name.
    """

    #: Called with the registration when it is closed.
    on_close: Callable[[Registration], object] | None = None

    def __init__(self, sock: Any, name: str, creation: int, timeout: float | None) -> None:
        self._sock = sock
        self._owner = os.getpid()
        self._timeout = timeout
        self.name = name
        self.creation = creation

    def lost(self) -> bool:
        """Return whether the epmd has ended the registration, or has itself ended."""
        try:
            self._sock.settimeout(0)
            self._sock.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self, timeout: float | None = None) -> None:
        """End the registration, even if a process that was forked since holds the socket too.

        Returns once the epmd has released the name, or after `timeout` seconds; None means the time limit of
        the call that registered it. In a forked process this ends nothing, because the registration belongs
        to the parent.
        """
        if os.getpid() == self._owner:
            self._release(self._timeout if timeout is None else timeout)
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
    from .answers import parse_names  # not needed by the interactive calls

    return parse_names(_text(Target(host, port, timeout), wire.NAMES_REQ))


def dump(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> Dump:
    """Return the registered nodes and the remembered names, with their descriptors. This host only."""
    from .answers import parse_dump

    return parse_dump(_text(Target(host, port, timeout), wire.DUMP_REQ))


def started(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Return whether an epmd answers."""
    try:
        must_be_an_epmd(Target(host, port, timeout))
    except EpmdError:
        return False
    return True


def port_please(
    name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT
) -> Alive2Request | None:
    """Return what the node of this name registered, including its port, or None if there is no such node."""
    from ..protocol import Port2Request, ProtocolError
    from .answers import parse_port2_reply

    request = Port2Request(encoded(name))
    with Call(Target(host, port, timeout), request.packet()) as call:
        answer = joined(call.pieces(), _MOST_PORT2_RESP)
    try:
        return parse_port2_reply(answer)
    except ProtocolError as error:
        raise BadAnswer(f"invalid reply to a look-up: {answer[:20]!r}") from error


def register(
    name: str,
    node_port: int,
    *,
    hidden: bool = False,
    extra: bytes = b"",
    port: int | None = None,
    timeout: float | None = TIMEOUT,
) -> Registration:
    """Register a node of this host that listens at `node_port`.

    Raises Refused if the name is taken or invalid, and ValueError if `node_port` is not a port.
    """
    from ..protocol import Alive2Request, ProtocolError
    from .answers import ALIVE2_X_RESP_SIZE, parse_alive2_reply

    if not 0 <= node_port <= wire.MOST_PORT:
        raise ValueError(f"{node_port} is not a valid TCP port")
    kind = HIDDEN_NODE if hidden else NORMAL_NODE
    request = Alive2Request(node_port, kind, 0, 6, 5, encoded(name), extra)
    if problem := request.refusal():
        # Checked here, because a name that is too long for an epmd may not even fit into the request.
        raise Refused(f"cannot register {name[:_SHOWN]!r}: {problem.kind.partition(' (')[0]}")
    call = Call(Target("", port, timeout), request.packet())
    try:
        creation = parse_alive2_reply(call.read(ALIVE2_X_RESP_SIZE))
    except ProtocolError as error:
        call.close()
        raise BadAnswer(f"invalid reply to a registration: {error}") from error
    except BaseException:
        call.close()
        raise
    if creation is None:
        call.close()
        raise Refused(f"the epmd rejected the name {name}, which is probably registered already")
    return Registration(call.sock, name, creation, timeout)


def stop(name: str, port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Unregister a node by force. Returns False if there is no node of this name.

    Raises Refused if the epmd's check is not relaxed, and ValueError for an empty name.
    """
    if not name:
        raise ValueError("the name is empty")
    try:
        answer = stop_answer(Target("", port, timeout), encoded(name))
    except NoReply:
        raise Refused("the epmd does not allow STOP: it runs without -relaxed_command_check") from None
    return answer == wire.STOPPED


def kill(port: int | None = None, timeout: float | None = TIMEOUT) -> None:
    """Shut down the epmd. Raises Refused if there are live nodes and its check is not relaxed."""
    if kill_answer(Target("", port, timeout)) == wire.KILL_NO:
        raise Refused("the epmd did not shut down: nodes are registered")


def _text(target: Target, tag: int) -> bytes:
    with Listing(target, tag) as listing:
        return joined(listing.pieces())
