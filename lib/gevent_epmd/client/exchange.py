"""One request to an epmd and its reply (C: epmd_call.c and epmd_cli.c).

Plain blocking sockets and no other import than these: the interactive calls are made at every start of an
Erlang node, which pays for what they import.
"""

from __future__ import annotations

import _socket
import os
import sys
import time

from .. import wire
from ..conventions import LOOPBACK, default_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

#: How long a call may take where nothing else is said, in seconds.
TIMEOUT = 10.0

#: How many bytes of a listing are read at most.  65,536 nodes, more than a host has ports for, may have lines
#: of 256 bytes each.  To parse the largest one takes some 200 MB and 3 s.
MOST_LISTING = 16 << 20

_BUFFER = 65536


class EpmdError(Exception):
    """An epmd did not do what it was asked for; the text tells why."""


class NoEpmd(EpmdError):
    """Nobody can be reached."""


class BadAnswer(EpmdError):
    """What was reached did not answer as an epmd does."""


class TooLate(BadAnswer):
    """The answer did not arrive within the time for the whole call."""


class Broken(BadAnswer):
    """The connection failed before the answer was whole."""


class NoReply(BadAnswer):
    """The connection was closed before the reply was whole."""


class Target:
    """Which epmd to ask, and how long the whole call may take; as the text of the package tells."""

    def __init__(self, host: str, port: int | None, timeout: float | None) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        #: The addresses of the host, where it was looked up already.
        self.found: list[tuple[int, Any]] = []

    @property
    def title(self) -> str:
        """What error messages call it."""
        return f"epmd on {self.host}" if self.host else "local epmd"

    def addresses(self) -> list[tuple[int, Any]]:
        """Families and addresses to try, in this order.  Raises NoEpmd for an unknown host, ValueError for an
        invalid port."""
        if self.found:
            return self.found
        port = default_port(os.environ) if self.port is None else self.port
        if not 1 <= port <= wire.MOST_PORT:
            raise ValueError(f"{port} is no TCP port")
        if not self.host:
            # IPv6 first, as C.
            return [(_family(host), (host, port)) for host in reversed(LOOPBACK)]
        try:
            # As bytes: a str would make Python import its tables of international names.
            found = _socket_module().getaddrinfo(encoded(self.host), port, 0, _socket.SOCK_STREAM)
        except _socket.gaierror as error:
            raise NoEpmd(f"cannot find the host {self.host}: {error.strerror}") from None
        return [(family, address) for family, _, _, _, address in found]

    def not_an_epmd(self) -> BadAnswer:
        """The error for what answers in another wire."""
        return BadAnswer(f"what answers is no {self.title}")


class Call:
    """A connection on which a request was sent; to be closed, or used in a `with` block.

    Raises NoEpmd where nobody can be reached, and BadAnswer where the request cannot be sent."""

    def __init__(self, target: Target, packet: bytes) -> None:
        framed = wire.frame(packet)
        self._target = target
        self._end = None if target.timeout is None else time.monotonic() + target.timeout
        self.sock = self._connect()
        try:
            self._hurry(self.sock)
            # A peer that has closed already must not end the process by SIGPIPE.
            self.sock.sendall(framed, _socket.MSG_NOSIGNAL)
        except OSError:
            self.sock.close()
            raise BadAnswer("Can't write to epmd") from None

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """This many bytes, or fewer where the other end closes first.  Raises TooLate and Broken."""
        got = b""
        while len(got) < size and (more := self._recv(size - len(got))):
            got += more
        return got

    def pieces(self) -> Iterator[bytes]:
        """What arrives until the other end closes.  Raises TooLate and Broken."""
        while piece := self._recv(_BUFFER):
            yield piece

    def _recv(self, size: int) -> bytes:
        try:
            self._hurry(self.sock)
            data: bytes = self.sock.recv(size)
        except TimeoutError:
            raise TooLate(f"no answer from {self._target.title} in {self._target.timeout:g} s") from None
        except OSError:
            raise Broken(f"failed to read answer from {self._target.title}") from None
        return data

    def _hurry(self, sock: Any) -> None:
        """Set the socket's time-out to what is left for the call.  Raises TimeoutError where nothing is: a
        peer that sends without end never makes the socket wait."""
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            sock.settimeout(left)
        elif sock.gettimeout() is not None:
            sock.settimeout(None)  # a new socket has the default time-out of the program

    def _connect(self) -> Any:
        failed: OSError | None = None
        for family, address in self._target.addresses():
            try:
                sock = _socket_module().socket(family, _socket.SOCK_STREAM)
            except OSError:
                continue  # a kernel without IPv6
            try:
                self._hurry(sock)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failed = error
            else:
                return sock
        reason = f": {failed.strerror or failed}" if failed and self._target.host else ""
        raise NoEpmd(f"Cannot connect to {self._target.title}{reason}") from failed


class Listing:
    """The reply to NAMES or DUMP, to be used in a `with` block: `port` is the epmd's own.

    Raises BadAnswer where the reply does not begin with a port."""

    def __init__(self, target: Target, tag: int) -> None:
        self._call = Call(target, bytes((tag,)))
        try:
            self.port = self._read_port(target)
        except BaseException:
            self._call.close()
            raise

    def _read_port(self, target: Target) -> int:
        try:
            head = self._call.read(wire.LISTING_PORT_SIZE)
        except Broken:
            head = b""
        if len(head) < wire.LISTING_PORT_SIZE:
            raise NoReply(f"no response from {target.title}")
        port = wire.listing_port(head)
        if port > wire.MOST_PORT:
            raise target.not_an_epmd()  # the beginning of another protocol
        return port

    def pieces(self) -> Iterator[bytes]:
        """The text, in pieces as they arrive."""
        return self._call.pieces()

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._call.close()


def joined(pieces: Iterable[bytes], most: int = MOST_LISTING) -> bytes:
    """The whole answer.  Raises BadAnswer where it has more bytes than `most`."""
    whole = bytearray()  # a list of pieces takes 40 times as much memory where each is a byte
    for piece in pieces:
        if len(whole) + len(piece) > most:
            raise BadAnswer("the answer does not come to an end")
        whole += piece
    return bytes(whole)


def must_be_an_epmd(target: Target) -> None:
    """Raises EpmdError where no epmd answers NAMES."""
    with Listing(target, wire.NAMES_REQ):
        pass


def kill_answer(target: Target) -> bytes:
    """The reply to KILL: KILL_OK or KILL_NO.  Raises EpmdError."""
    return _fixed_answer(target, bytes((wire.KILL_REQ,)), (wire.KILL_OK, wire.KILL_NO))


def stop_answer(target: Target, name: bytes) -> bytes:
    """The reply to STOP: STOPPED or NOEXIST.  Raises NoReply where the check is not relaxed, and
    EpmdError."""
    packet = bytes((wire.STOP_REQ,)) + name
    return _fixed_answer(target, packet, (wire.STOPPED, wire.NOEXIST))


def _fixed_answer(target: Target, packet: bytes, known: tuple[bytes, ...]) -> bytes:
    """The reply to a request that has these replies, all of the same size, and no other."""
    with Call(target, packet) as call:
        answer = call.read(len(known[0]))
    if len(answer) < len(known[0]):
        raise NoReply(f"{target.title} responded with <>")
    if answer not in known:
        raise target.not_an_epmd()
    return answer


def encoded(text: str) -> bytes:
    """A name as it goes over the wire: UTF-8 whatever the locale is; lone surrogates are single bytes."""
    return text.encode("utf-8", "surrogateescape")


def _family(host: str) -> int:
    return _socket.AF_INET6 if ":" in host else _socket.AF_INET


def _socket_module() -> Any:
    # Where the module socket was imported it may be patched, by gevent for instance, whose other greenlets
    # then run while this one waits.  To import it takes 4 ms.
    return sys.modules.get("socket", _socket)
