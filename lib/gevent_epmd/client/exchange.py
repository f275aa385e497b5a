"""Sends one request to an epmd and reads its reply, for the client and the interactive calls.

Uses plain blocking sockets and few imports, because every start of an Erlang node makes the interactive
calls and pays for their imports.

Invariant: after name resolution, a call takes no longer than its timeout, however slowly the peer sends.

C's counterpart: epmd_call, kill_epmd, stop_cli and conn_to_epmd of epmd_cli.c.
"""

from __future__ import annotations

import _socket
import sys
import time

from .. import wire
from ..conventions import LOOPBACK, MOST_DIGITS, EpmdError as EpmdError, default_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, Self

#: The default limit for a call, in seconds.
TIMEOUT = 10.0

#: The most bytes of a listing that are read. 65,536 nodes, more than a host has ports for, may have lines of
#: 256 bytes each. Parsing the largest listing takes about 200 MB and 3 s.
MOST_LISTING = 16 << 20

_BUFFER = 65536
#: Without it, SIGPIPE would end this process if the peer has closed already.
_NO_SIGNAL: int = getattr(_socket, "MSG_NOSIGNAL", 0)
#: The option that macOS has instead. The module socket does not name it. Source: sys/socket.h of Darwin.
_SO_NOSIGPIPE = 0x1022

#: How long one address is tried before the next one is tried too, in seconds. RFC 8305, section 5, recommends
#: this. With little time left, each address gets an equal share.
HEAD_START = 0.25
#: How long to wait for one of several addresses before looking at the next one, in seconds.
_LOOK = 0.02


class NoEpmdError(EpmdError, ConnectionError):
    """No connection to an epmd can be made."""


class TooLateError(EpmdError, TimeoutError):
    """There was no complete reply within the time limit of the whole call."""


class BadAnswerError(EpmdError):
    """The peer did not reply as an epmd does."""


class BrokenError(BadAnswerError, ConnectionError):
    """The connection failed before the reply was complete."""


class NoReplyError(BadAnswerError, ConnectionError):
    """The connection was closed before the reply was complete."""


class Target:
    """Which epmd to ask, and the time limit of the whole call, as the package's docstring explains them."""

    def __init__(self, host: str, port: int | None, timeout: float | None) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        #: The time limit as error messages name it. A look-up of the host takes some of the timeout.
        self.limit = timeout
        #: The addresses of the host, if they were looked up already.
        self.found: list[tuple[int, Any]] = []
        #: Called once if no answer has come in time; returns for how many more seconds to wait.
        self.more_time: Callable[[], float] | None = None

    @property
    def title(self) -> str:
        """How error messages name the epmd."""
        return f"epmd on {self.host}" if self.host else "local epmd"

    def addresses(self) -> list[tuple[int, Any]]:
        """Return families and addresses to try, in this order.

        Raises NoEpmdError for an unknown host, and ValueError for an invalid port.
        """
        if self.found:
            return self.found
        port = port_or_default(self.port)
        if not self.host:
            # IPv6 first, as in C.
            four, six = LOOPBACK
            return [(_socket.AF_INET6, (six, port)), (_socket.AF_INET, (four, port))]
        try:
            # As bytes, because for a str Python would import the IDNA codec.
            found = _socket_module().getaddrinfo(encoded(self.host), port, 0, _socket.SOCK_STREAM)
        except _socket.gaierror as error:
            raise NoEpmdError(f"cannot find the host {self.host}: {error.strerror}") from None
        return [(family, address) for family, _, _, _, address in found]

    def find(self) -> None:
        """Look up the host; from now on, the time limit of the call runs. Raises NoEpmdError.

        The look-up runs in a thread, because getaddrinfo cannot be interrupted: if a name server does not
        answer, it blocks for longer than the time limit. Where gevent has patched threads, it is a greenlet.
        """
        if self.timeout is None:
            return
        import _thread  # for rare calls only

        end = time.monotonic() + self.timeout
        problems = []
        looking = _thread.allocate_lock()
        looking.acquire()

        def look_up() -> None:
            try:
                self.found = self.addresses()
            except NoEpmdError as error:
                problems.append(error)
            finally:
                looking.release()

        _thread.start_new_thread(look_up, ())
        if not looking.acquire(timeout=self.timeout):
            reason = f"cannot find the host {self.host} in {self.timeout:g} s"
            raise NoEpmdError(reason) from TimeoutError("timed out")
        if problems:
            raise problems[0]
        self.timeout = max(end - time.monotonic(), 0)

    def not_an_epmd(self) -> BadAnswerError:
        """Return the error for a peer that speaks another protocol."""
        return BadAnswerError(f"invalid reply from {self.title}: another program uses the port")

    def port_of(self, head: bytes) -> int:
        """Return the port with which the reply to NAMES or DUMP begins. Raises BadAnswerError."""
        if len(head) < wire.LISTING_PORT_SIZE:
            raise NoReplyError(f"no response from {self.title}")
        port = int.from_bytes(head, "big")
        if port > wire.MOST_PORT:
            raise self.not_an_epmd()  # another protocol
        return port

    def must_be(self, answer: bytes, known: Sequence[bytes]) -> bytes:
        """Return the reply to a request that has only these `known` replies, all of the same size."""
        if len(answer) < len(known[0]):
            raise NoReplyError(f"{self.title} responded with <>")
        if answer not in known:
            raise self.not_an_epmd()
        return answer


class Call:
    """A connection on which a request was sent. Close it, or use it in a `with` block.

    Raises NoEpmdError if no connection can be made, and TooLateError or BrokenError if the request cannot be
    sent.
    """

    def __init__(self, target: Target, packet: bytes) -> None:
        framed = wire.frame(packet)
        self._target = target
        self._end = None if target.timeout is None else time.monotonic() + target.timeout
        self.sock = self._connect()
        try:
            self._limit_wait(self.sock)
            if sys.platform == "darwin":
                self.sock.setsockopt(_socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
            self.sock.sendall(framed, _NO_SIGNAL)
        except TimeoutError:
            self.sock.close()
            raise self._too_late() from None
        except OSError:
            self.sock.close()
            raise BrokenError("Can't write to epmd") from None

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Return this many bytes, or fewer if the peer closes first. Raises TooLateError and BrokenError."""
        got = b""
        while len(got) < size and (more := self._recv(size - len(got))):
            got += more
        return got

    def pieces(self) -> Iterator[bytes]:
        """Yield what arrives until the peer closes. Raises TooLateError and BrokenError."""
        while piece := self._recv(_BUFFER):
            yield piece

    def _recv(self, size: int) -> bytes:
        try:
            self._limit_wait(self.sock)
            data: bytes = self.sock.recv(size)
        except TimeoutError:
            if self._has_more_time():
                return self._recv(size)
            raise self._too_late() from None
        except OSError:
            raise BrokenError(f"failed to read answer from {self._target.title}") from None
        return data

    def _too_late(self) -> TooLateError:
        return TooLateError(f"no answer from {self._target.title} in {self._target.limit:g} s")

    def _has_more_time(self) -> bool:
        target = self._target
        more_time, target.more_time = target.more_time, None
        if more_time is None or target.limit is None:
            return False
        more = more_time()
        target.limit += more
        self._end = time.monotonic() + more
        return more > 0

    def _left(self) -> float | None:
        """Return how many seconds are left for the call, or None if it has no limit."""
        return None if self._end is None else self._end - time.monotonic()

    def _limit_wait(self, sock: Any) -> None:
        """Set the socket's timeout to the time that is left for the call. Raises TimeoutError if none is.

        Without this check, a peer that sends without pause could prolong the call, because recv never waits.
        """
        left = self._left()
        if left is not None:
            if left <= 0:
                raise TimeoutError("timed out")
            sock.settimeout(left)
        elif sock.gettimeout() is not None:
            sock.settimeout(None)  # a new socket inherits the program's default timeout

    def _connect(self) -> Any:
        race = _Race(self._left)
        try:
            sock = race.winner(self._target.addresses())
        finally:
            race.close()
        if sock is not None:
            return sock
        failed = race.failed
        if isinstance(failed, TimeoutError):
            raise NoEpmdError(f"connection to {self._target.title} timed out") from failed
        reason = f": {failed.strerror or failed}" if failed and self._target.host else ""
        raise NoEpmdError(f"Cannot connect to {self._target.title}{reason}") from failed


class _Race:
    """Connects to the first of several addresses that accepts the connection.

    If an address neither accepts nor refuses, the next one is tried too, while the first one may still accept
    (RFC 8305, "happy eyeballs"). Uses only methods of sockets, because the import of select takes time.
    """

    def __init__(self, left: Callable[[], float | None]) -> None:
        self._left = left
        #: The sockets that are being connected, with their addresses. The next one to look at is the first.
        self._running: list[tuple[Any, Any]] = []
        #: Why there is no winner. None if the kernel has the family of no address.
        self.failed: OSError | None = None

    def winner(self, addresses: list[tuple[int, Any]]) -> Any | None:
        """Return a connected socket, or None."""
        others = len(addresses)
        for family, address in addresses:
            others -= 1
            try:
                sock = _socket_module().socket(family, _socket.SOCK_STREAM)
            except OSError:
                continue  # the kernel has no IPv6
            self._running.append((sock, address))
            end = self._end_of_turn(others)
            step, runner = connect, (sock, address)
            while True:
                if self._has_won(runner, step, end):
                    return runner[0]
                if not self._running or (end is not None and time.monotonic() >= end):
                    break
                step, runner = _finish, self._running.pop(0)
                self._running.append(runner)
        if self._running:
            self.failed = TimeoutError("timed out")
        return None

    def close(self) -> None:
        """Close the sockets that have not won."""
        for sock, _ in self._running:
            sock.close()

    def _end_of_turn(self, others: int) -> float | None:
        """Return when to try the next one of so many `others` too, or None for never."""
        turn = self._left()
        if others:
            turn = HEAD_START if turn is None else min(HEAD_START, turn / (others + 2))
        return None if turn is None else time.monotonic() + turn

    def _has_won(self, runner: tuple[Any, Any], step: Callable[[Any, Any], None], end: float | None) -> bool:
        """Wait until a socket is connected, only briefly if others run too. Return whether it is."""
        sock, address = runner
        wait = None if end is None else end - time.monotonic()
        if len(self._running) > 1:
            wait = _LOOK if wait is None else min(wait, _LOOK)
        try:
            if wait is not None and wait <= 0:
                return False
            if wait is not None or sock.gettimeout() is not None:
                sock.settimeout(wait)
            step(sock, address)
        except OSError as error:
            if not isinstance(error, TimeoutError) or error.errno:
                self.failed = error
                self._running.remove(runner)
                sock.close()
            return False
        self._running.remove(runner)
        return True


def connect(sock: Any, address: tuple[Any, ...]) -> None:
    """Connect a TCP socket. Raises OSError, ConnectionRefusedError too if the socket is connected to itself.

    That happens if nothing listens at the port of a node and the kernel chooses it for this end. Source:
    simultaneous open in section 3.5 of RFC 9293.
    """
    sock.connect(address)
    _refuse_itself(sock, address)


def _finish(sock: Any, address: tuple[Any, ...]) -> None:
    """Continue with a `connect` that has timed out."""
    # To send nothing waits until the socket can be written to, which it can once it is connected.
    sock.send(b"", _NO_SIGNAL)
    _refuse_itself(sock, address)


def _refuse_itself(sock: Any, address: tuple[Any, ...]) -> None:
    # getpeername would fail if the other end has reset the connection already.
    if sock.getsockname()[:2] == address[:2]:
        import errno  # almost never needed, and -names is called often
        import os

        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


class Listing(Call):
    """A request for NAMES or DUMP, and its reply in `pieces`. `port` is the epmd's own port.

    Raises BadAnswerError if the reply does not begin with a port.
    """

    def __init__(self, target: Target, tag: int) -> None:
        super().__init__(target, bytes((tag,)))
        try:
            self.port = target.port_of(self._head())
        except BaseException:
            self.close()
            raise

    def _head(self) -> bytes:
        try:
            return self.read(wire.LISTING_PORT_SIZE)
        except BrokenError:
            return b""


def joined(pieces: Iterable[bytes], most: int = MOST_LISTING) -> bytes:
    """Return the whole reply. Raises BadAnswerError if it has more than `most` bytes."""
    whole = bytearray()  # a list takes 40 times the memory if each piece is one byte
    for piece in pieces:
        if len(whole) + len(piece) > most:
            raise BadAnswerError(f"the reply is longer than {most} bytes")
        whole += piece
    return bytes(whole)


def is_an_epmd(target: Target) -> bool:
    """Return whether an epmd gives a whole and right answer to NAMES."""
    try:
        must_be_an_epmd(target)
    except EpmdError:
        return False
    return True


def must_be_an_epmd(target: Target) -> None:
    """Raise EpmdError if no epmd gives a whole and right answer to NAMES."""
    with Listing(target, wire.NAMES_REQ) as listing:
        text = joined(listing.pieces())
    if not is_listing(text):
        raise target.not_an_epmd()


def is_listing(text: bytes) -> bool:
    """Return whether this is the whole text of NAMES. Names may contain anything but NUL."""
    port = text[:-1].rpartition(b" at port ")[2]
    is_whole = text.endswith(b"\n") and port.isdigit() and len(port) <= MOST_DIGITS
    return not text or (text.startswith(b"name ") and is_whole)


def kill_answer(target: Target) -> bytes:
    """Return the reply to KILL, which is KILL_OK or KILL_NO. Raises EpmdError."""
    return _fixed_answer(target, bytes((wire.KILL_REQ,)), wire.KILL_OK, wire.KILL_NO)


def stop_answer(target: Target, name: bytes) -> bytes:
    """Return the reply to STOP, which is STOPPED or NOEXIST.

    Raises NoReplyError if the check is not relaxed, and EpmdError.
    """
    return _fixed_answer(target, bytes((wire.STOP_REQ,)) + name, wire.STOPPED, wire.NOEXIST)


def _fixed_answer(target: Target, packet: bytes, *known: bytes) -> bytes:
    with Call(target, packet) as call:
        return target.must_be(call.read(len(known[0])), known)


def port_or_default(port: int | None) -> int:
    """Return the port, or that of ERL_EPMD_PORT, or else 4369. Raises ValueError for an invalid one."""
    if port is None:
        import os  # `epmd -names` does without it

        return default_port(os.environ)
    if not 1 <= port <= wire.MOST_PORT:
        raise ValueError(f"{port} is not a valid TCP port")
    return port


def encoded(text: str) -> bytes:
    """Encode a name for the wire: UTF-8 in every locale, with a lone surrogate as a single byte."""
    return text.encode("utf-8", "surrogateescape")


def _socket_module() -> Any:
    # If the module socket has been imported, use it: it may be patched by gevent, which lets other greenlets
    # run while this one waits. Importing it takes 4 ms.
    return sys.modules.get("socket", _socket)
