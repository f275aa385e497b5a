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
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import protocol
from .protocol import Alive2Request, BareRequest, Port2Request, StopRequest

if TYPE_CHECKING:
    from .answers import Dump, NamedPort

TIMEOUT = 10.0

#: How many bytes of a listing are read.  65,536 nodes, more than a host has ports for, may have lines of
#: 256 bytes each.  The parsed form of the largest one takes some 200 MB, and 3 s.
MOST_LISTING = 16 << 20

NORMAL_NODE, HIDDEN_NODE = 77, 72

_HOSTS = ((_socket.AF_INET6, "::1"), (_socket.AF_INET, "127.0.0.1"))
_BUFFER = 65536
#: A PORT2_RESP with the longest name and the longest extra that two bytes can count.
_MOST_PORT2_RESP = 14 + 2 * 65535
#: How much of a name that is no good an error shows.
_SHOWN = 300


class EpmdError(Exception):
    """An epmd did not do what it was asked for; the text says why."""


class NoEpmd(EpmdError):
    """There is nobody to ask."""


class BadAnswer(EpmdError):
    """Somebody is there, but the answer is none."""


class TooLate(BadAnswer):
    """The answer did not come within the time for the whole call."""


class Broken(BadAnswer):
    """The connection failed before its answer was whole."""


class NoReply(BadAnswer):
    """The connection was closed without a whole reply."""


class Refused(EpmdError):
    """The epmd does not do it: a name is taken, nodes are living, or the check is not relaxed."""


class Mapper:
    """Which epmd to ask, and how long the whole call may take; as the module's text says."""

    def __init__(self, host: str, port: int | None, timeout: float | None) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        #: The families and addresses of the host, where somebody has looked it up already.
        self.addresses: list[tuple[int, Any]] = []


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

    return parse_names(_text(Mapper(host, port, timeout), protocol.NAMES_REQ))


def dump(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> Dump:
    """The registered nodes and the names of late ones, with their descriptors.  For this host only."""
    from .answers import parse_dump

    return parse_dump(_text(Mapper(host, port, timeout), protocol.DUMP_REQ))


def started(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Whether an epmd answers."""
    try:
        must_be_an_epmd(Mapper(host, port, timeout))
    except EpmdError:
        return False
    return True


def port_please(
    name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT
) -> Alive2Request | None:
    """What the node of this name has registered with, its port among it; None if there is none."""
    from .answers import parse_port2_reply

    request = Port2Request(_encoded(name))
    with _asked(Mapper(host, port, timeout), request.packet()) as call:
        answer = joined(call.pieces(), _MOST_PORT2_RESP)
    try:
        return parse_port2_reply(answer)
    except protocol.ProtocolError as error:
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
    from .answers import ALIVE2_X_RESP_SIZE, parse_alive2_reply

    if not 0 <= node_port <= protocol.MOST_PORT:
        raise ValueError(f"{node_port} is no TCP port")
    kind = HIDDEN_NODE if hidden else NORMAL_NODE
    request = Alive2Request(node_port, kind, 0, 6, 5, _encoded(name), extra)
    if request.refusal():
        # What is too long for an epmd may not even fit into the request.
        raise Refused(f"no epmd takes the name {name[:_SHOWN]!r}")
    call = _Call(Mapper("", port, timeout), request.packet())
    try:
        creation = parse_alive2_reply(call.read(ALIVE2_X_RESP_SIZE))
    except protocol.ProtocolError as error:
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
        answer = stop_answer(Mapper("", port, timeout), _encoded(name))
    except NoReply:
        raise Refused("the epmd does not let a node be stopped: its check is not relaxed") from None
    return answer == protocol.STOPPED


def kill(port: int | None = None, timeout: float | None = TIMEOUT) -> None:
    """End the epmd.  Raises Refused where nodes are living and its check is not relaxed."""
    if kill_answer(Mapper("", port, timeout)) == protocol.KILL_NO:
        raise Refused("the epmd does not end: nodes are living")


def kill_answer(mapper: Mapper) -> bytes:
    """What `kill` is answered: KILL_OK or KILL_NO."""
    request = BareRequest(protocol.KILL_REQ)
    return _fixed_answer(mapper, request.packet(), (protocol.KILL_OK, protocol.KILL_NO))


def stop_answer(mapper: Mapper, name: bytes) -> bytes:
    """What `stop` is answered: STOPPED or NOEXIST.  Raises NoReply where the check is not relaxed."""
    request = StopRequest(name)
    return _fixed_answer(mapper, request.packet(), (protocol.STOPPED, protocol.NOEXIST))


def _fixed_answer(mapper: Mapper, packet: bytes, known: tuple[bytes, ...]) -> bytes:
    """The reply to a request that has these replies, all of the same size, and no other."""
    with _asked(mapper, packet) as call:
        answer = call.read(len(known[0]))
    if len(answer) < len(known[0]):
        raise NoReply(f"{_called(mapper)} responded with <>")
    if answer not in known:
        raise not_an_epmd(mapper)
    return answer


@contextmanager
def listing(mapper: Mapper, tag: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """NAMES or DUMP: the mapper's own port, and its text in pieces, as they come.  Raises BadAnswer where
    the reply does not begin with a port."""
    with _asked(mapper, BareRequest(tag).packet()) as call:
        try:
            head = call.read(protocol.LISTING_PORT_SIZE)
        except Broken:
            head = b""
        if len(head) < protocol.LISTING_PORT_SIZE:
            raise BadAnswer(f"no response from {_called(mapper)}")
        port = protocol.listing_port(head)
        if port > protocol.MOST_PORT:
            raise not_an_epmd(mapper)  # it is the beginning of another protocol
        yield port, call.pieces()


def _text(mapper: Mapper, tag: int) -> bytes:
    with listing(mapper, tag) as (_, pieces):
        return joined(pieces)


def joined(pieces: Iterable[bytes], most: int = MOST_LISTING) -> bytes:
    """The whole answer.  Raises BadAnswer where there are more bytes."""
    whole = bytearray()  # a list of pieces takes 40 times as much where each is a byte
    for piece in bounded(pieces, most):
        whole += piece
    return bytes(whole)


def bounded(pieces: Iterable[bytes], most: int = MOST_LISTING) -> Iterator[bytes]:
    """The same pieces, but BadAnswer is raised in place of the one that makes it more than so many bytes."""
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            raise BadAnswer("the answer does not come to an end")
        yield piece


def must_be_an_epmd(mapper: Mapper) -> None:
    """Raises EpmdError where no epmd answers NAMES."""
    with listing(mapper, protocol.NAMES_REQ):
        pass


def not_an_epmd(mapper: Mapper) -> BadAnswer:
    """The error for what answers in another protocol."""
    return BadAnswer(f"what answers is no {_called(mapper)}")


@contextmanager
def _asked(mapper: Mapper, packet: bytes) -> Iterator[_Call]:
    call = _Call(mapper, packet)
    try:
        yield call
    finally:
        call.close()


class _Call:
    """A connection over which a request is on its way."""

    def __init__(self, mapper: Mapper, packet: bytes) -> None:
        framed = protocol.frame(packet)
        self._mapper = mapper
        self._end = None if mapper.timeout is None else time.monotonic() + mapper.timeout
        self.sock = self._connect()
        try:
            self._hurry(self.sock)
            # Whoever has gone already must not end us by SIGPIPE.
            self.sock.sendall(framed, _socket.MSG_NOSIGNAL)
        except OSError:
            self.sock.close()
            raise BadAnswer("Can't write to epmd") from None

    def close(self) -> None:
        self.sock.close()

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer where the other end closes first."""
        got = b""
        while len(got) < size and (more := self._recv(size - len(got))):
            got += more
        return got

    def pieces(self) -> Iterator[bytes]:
        while piece := self._recv(_BUFFER):
            yield piece

    def _recv(self, size: int) -> bytes:
        try:
            self._hurry(self.sock)
            data: bytes = self.sock.recv(size)
        except TimeoutError:
            raise TooLate(f"no answer from {_called(self._mapper)} in {self._mapper.timeout:g} s") from None
        except OSError:
            raise Broken(f"failed to read answer from {_called(self._mapper)}") from None
        return data

    def _hurry(self, sock: Any) -> None:
        """Let the socket wait for as long as the call may still take.  Raises TimeoutError once that is
        over: a peer that sends without end never makes the socket wait."""
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            sock.settimeout(left)
        elif sock.gettimeout() is not None:
            sock.settimeout(None)  # it is the default of the program that asks

    def _connect(self) -> Any:
        reason = ""
        for family, address in self._mapper.addresses or addresses(self._mapper):
            try:
                sock = _new_socket(family)
            except OSError:
                continue  # a kernel without IPv6
            try:
                self._hurry(sock)
                sock.connect(address)
            except OSError as error:
                sock.close()
                reason = f": {error.strerror or error}"
            else:
                return sock
        raise NoEpmd(f"Cannot connect to {_called(self._mapper)}{reason if self._mapper.host else ''}")


def _new_socket(family: int) -> Any:
    return _socket_module().socket(family, _socket.SOCK_STREAM)


def _socket_module() -> Any:
    # Where the module socket is there already it may have been patched, by gevent for one, whose other
    # greenlets then run while this one waits.  To import it is 4 ms.
    return sys.modules.get("socket", _socket)


def addresses(mapper: Mapper) -> list[tuple[int, Any]]:
    """The families and addresses at which to connect.  Raises NoEpmd where the host is not found."""
    port = mapper.port
    if port is None:
        from .options import default_port  # the interactive calls know their port

        port = default_port(os.environ)
    if not 1 <= port <= protocol.MOST_PORT:
        raise ValueError(f"{port} is no TCP port")
    if not mapper.host:
        return [(family, (host, port)) for family, host in _HOSTS]
    try:
        # As bytes: a str would make Python import its tables of international names.
        found = _socket_module().getaddrinfo(_encoded(mapper.host), port, 0, _socket.SOCK_STREAM)
    except _socket.gaierror as error:
        raise NoEpmd(f"cannot find the host {mapper.host}: {error.strerror}") from None
    return [(family, address) for family, _, _, _, address in found]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _called(mapper: Mapper) -> str:
    return f"epmd on {mapper.host}" if mapper.host else "local epmd"
