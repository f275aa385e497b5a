"""Ask an epmd: list nodes, look one up, register, stop, kill (C: epmd_cli.c, and what erl_epmd and ei do).

    >>> from gevent_epmd import client
    >>> client.names()
    [NamedPort(name='rabbit', port=25672)]

Everywhere `host` is a host's name or IP address, "" for this host (::1, then 127.0.0.1), `port` the
mapper's (None: ERL_EPMD_PORT, or else 4369), and `timeout` how many seconds the whole call may take (None:
any time), but for the time that it takes to find the address of a host's name.  Every function raises NoEpmd
where nobody can be reached, BadAnswer where what answers is no epmd, does not let us, or takes too long, and
ValueError for a port, in ERL_EPMD_PORT too, that is none, and for a name that fits into no request.
Names are UTF-8 on the wire, whatever the locale is; bytes that are no UTF-8 are lone surrogates in a name,
as os.fsdecode makes them.  A listing of more than MOST_LISTING bytes is a BadAnswer.

Plain blocking sockets and nothing else: the interactive calls are made at every start of an Erlang
node, and what they import is paid for there.
"""

from __future__ import annotations

import _socket
import os

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

#: A PORT2_RESP with the longest name and the longest extra that two bytes can count.
_MOST_PORT2_RESP = 14 + 2 * 65535
#: How much of an invalid name an error shows.
_SHOWN = 300


class Refused(EpmdError):
    """The epmd does not do it: a name is taken, nodes are living, or the check is not relaxed."""


class Registration:
    """A registered node: the name lives until `close`, or the end of the `with` block.  `creation` tells
    it from other registrations of the name."""

    #: Called with the registration when it is closed.
    on_close: Callable[[Registration], object] | None = None

    def __init__(self, sock: Any, name: str, creation: int) -> None:
        self._sock = sock
        self._owner = os.getpid()
        self.name = name
        self.creation = creation

    def lost(self) -> bool:
        """Whether the epmd has ended the registration, or has ended itself."""
        try:
            self._sock.settimeout(0)
            self._sock.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """End the registration, also where a process that was forked since has the socket too.  In such a
        process nothing ends: the registration is its parent's."""
        if os.getpid() == self._owner:
            try:
                self._sock.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # it is lost, or closed already
        self._sock.close()
        if self.on_close is not None:
            self.on_close(self)

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def names(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> list[NamedPort]:
    """The registered nodes with their ports, newest first."""
    from .answers import parse_names  # the interactive calls do without

    return parse_names(_text(Target(host, port, timeout), wire.NAMES_REQ))


def dump(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> Dump:
    """The registered nodes and the names of late ones, with their descriptors.  For this host only."""
    from .answers import parse_dump

    return parse_dump(_text(Target(host, port, timeout), wire.DUMP_REQ))


def started(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Whether an epmd answers."""
    try:
        must_be_an_epmd(Target(host, port, timeout))
    except EpmdError:
        return False
    return True


def port_please(
    name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT
) -> Alive2Request | None:
    """What the node of this name has registered with, its port among it; None if there is none."""
    from ..protocol import Port2Request, ProtocolError
    from .answers import parse_port2_reply

    request = Port2Request(encoded(name))
    with Call(Target(host, port, timeout), request.packet()) as call:
        answer = joined(call.pieces(), _MOST_PORT2_RESP)
    try:
        return parse_port2_reply(answer)
    except ProtocolError as error:
        raise BadAnswer(f"the epmd answers a look-up with {answer[:20]!r}") from error


def register(
    name: str,
    node_port: int,
    *,
    hidden: bool = False,
    extra: bytes = b"",
    port: int | None = None,
    timeout: float | None = TIMEOUT,
) -> Registration:
    """Give the name to a node of this host that listens at `node_port`.  Raises Refused where the name is
    taken, or none, and ValueError where the port cannot be one."""
    from ..protocol import Alive2Request, ProtocolError
    from .answers import ALIVE2_X_RESP_SIZE, parse_alive2_reply

    if not 0 <= node_port <= wire.MOST_PORT:
        raise ValueError(f"{node_port} is no TCP port")
    kind = HIDDEN_NODE if hidden else NORMAL_NODE
    request = Alive2Request(node_port, kind, 0, 6, 5, encoded(name), extra)
    if request.refusal():
        # What is too long for an epmd may not even fit into the request.
        raise Refused(f"no epmd takes the name {name[:_SHOWN]!r}")
    call = Call(Target("", port, timeout), request.packet())
    try:
        creation = parse_alive2_reply(call.read(ALIVE2_X_RESP_SIZE))
    except ProtocolError as error:
        call.close()
        raise BadAnswer(f"the epmd does not answer a registration: {error}") from error
    except BaseException:
        call.close()
        raise
    if creation is None:
        call.close()
        raise Refused(f"the epmd refuses the name {name}")
    return Registration(call.sock, name, creation)


def stop(name: str, port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Unregister a node by force; False if there is none of this name.  Raises Refused where the epmd's
    check is not relaxed, and ValueError for an empty name."""
    if not name:
        raise ValueError("the name is empty")
    try:
        answer = stop_answer(Target("", port, timeout), encoded(name))
    except NoReply:
        raise Refused("the epmd does not let a node be stopped: its check is not relaxed") from None
    return answer == wire.STOPPED


def kill(port: int | None = None, timeout: float | None = TIMEOUT) -> None:
    """End the epmd.  Raises Refused where nodes are living and its check is not relaxed."""
    if kill_answer(Target("", port, timeout)) == wire.KILL_NO:
        raise Refused("the epmd does not end: nodes are living")


def _text(target: Target, tag: int) -> bytes:
    with Listing(target, tag) as listing:
        return joined(listing.pieces())
