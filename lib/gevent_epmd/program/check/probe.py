"""`epmd -check`, the network steps: look up names, ask an epmd, connect to a node's port.

Invariants: each step blocks for at most STEP seconds. `together` runs many steps in threads, so that one name
server that does not answer delays no other step.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

from ...client import answers, exchange, queries
from ...conventions import LOOPBACK
from ...wire import DUMP_REQ, MOST_PORT, NAMES_REQ

T = TypeVar("T")

#: Time limit of one step, in seconds. A lost SYN is sent again after 1 s.
STEP = 1.5
#: Maximum number of threads that ask an epmd or a name server.
ASKERS = 16
#: Maximum number of concurrent threads, if there are enough descriptors.
_MOST = 128
#: Descriptors that are reserved for what a step opens besides its socket: /etc/hosts, a name server.
_SPARE = 24

#: Maximum number of addresses that are used of one name.
_MOST_PLACES = 32
#: How much of a list of nodes is read, how much of it is kept, both in bytes, and how many nodes are kept. A
#: program that wants harm may list any number.
_MOST_READ, _MOST_KEPT, MOST_NODES = 16 << 20, 1 << 20, 4096

#: The results of a step. Findings use them as codes.
ANSWERS = "answers"  # an epmd answers; or a node's port accepts connections
REFUSED = "refused"
TIMEOUT = "timeout"  # no packet came back
UNREACHABLE = "unreachable"
ABSENT = "absent"  # this host lacks the address or the protocol
MUTE = "mute"  # it accepts the connection, but does not answer
CLOSED = "closed"  # it accepts the connection, and closes it without an answer
STRANGER = "stranger"  # it answers in another protocol

_CODES = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: TIMEOUT,
    errno.EADDRNOTAVAIL: ABSENT,
    errno.EAFNOSUPPORT: ABSENT,
}

# rtnetlink(7)
_RTM_GETADDR, _RTM_NEWADDR, _REQUEST_ALL, _DONE, _ERROR = 22, 20, 0x301, 3, 2
_HEADER, _ADDRESS, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL, _SCOPE_LINK = 1, 2, 253


class Place(NamedTuple):
    """An IP address. `scope` is the interface of a link-local address."""

    family: int
    host: str
    scope: int = 0

    def at(self, port: int) -> tuple[Any, ...]:
        """Return the address with this port as `socket.connect` takes it."""
        return (self.host, port) if self.family == _socket.AF_INET else (self.host, port, 0, self.scope)


class Found(NamedTuple):
    """The result of a look-up of a host name.

    `places` are the addresses in the resolver's order, `canonical` is the canonical name (as `hostname -f`
    prints it), and `problem` is the reason if the look-up failed. `more` counts addresses that are left out.
    """

    places: tuple[Place, ...] = ()
    canonical: str = ""
    problem: str = ""
    more: int = 0

    @property
    def first(self) -> Place | None:
        """The address that a node uses. inet_tcp, the default distribution protocol, uses IPv4 only."""
        return min(self.places, key=lambda place: place.family != _socket.AF_INET, default=None)


class Answer(NamedTuple):
    """What was found at an address: one of the codes, the reason as text, and the nodes that an epmd
    listed. `more` counts those that are left out."""

    code: str
    reason: str
    nodes: tuple[answers.NamedPort, ...] = ()
    more: int = 0


def place(host: str) -> Place:
    """Return the Place of an IP address in text form."""
    return Place(_socket.AF_INET6 if ":" in host else _socket.AF_INET, host)


LOOPBACKS = tuple(map(place, LOOPBACK))


def look_up(name: str) -> Found:
    """Return the addresses of a host name, each of them once."""
    try:
        # Pass bytes: for a str Python would import its tables of international domain names.
        found = _socket.getaddrinfo(
            exchange.encoded(name), None, 0, _socket.SOCK_STREAM, 0, _socket.AI_CANONNAME
        )
    except _socket.gaierror as error:
        return Found(problem=str(error.strerror))
    except (OSError, ValueError) as error:
        return Found(problem=str(error))  # for example a name with a NUL
    places = {Place(family, str(at[0]), int(*at[3:])): None for family, _, _, _, at in found}
    canonical = next((name for _, _, _, name, _ in found if name), "")
    return Found(tuple(places)[:_MOST_PLACES], canonical, more=max(len(places) - _MOST_PLACES, 0))


def ask(at: Place, port: int, most: int = MOST_NODES) -> Answer:
    """Ask for the names, as `epmd -names` does. Returns at most so many nodes, and counts the others."""
    target = _target(at, port)
    try:
        with exchange.Listing(target, NAMES_REQ) as listing:
            text, more = _kept(listing.pieces(), _MOST_KEPT if most else 0)
    except exchange.EpmdError as error:
        return _failed(error)
    nodes = answers.parse_names(text)
    more += max(len(nodes) - most, 0)
    return Answer(ANSWERS, "an epmd answers", tuple(nodes[:most]), more)


def _kept(pieces: Iterable[bytes], most: int = _MOST_KEPT) -> tuple[bytes, int]:
    """Return the beginning of a list, and how many lines follow it. Raises BadAnswerError if it does not
    end."""
    kept, size, more = bytearray(), 0, 0
    for piece in pieces:
        size += len(piece)
        if size > _MOST_READ:
            raise exchange.BadAnswerError(f"the list is longer than {_MOST_READ} bytes")
        room = most - len(kept)
        kept += piece[:room]
        more += piece[room:].count(b"\n")
    if size <= most:
        return bytes(kept), 0
    end = kept.rfind(b"\n") + 1
    return bytes(kept[:end]), more


def dumped(at: Place, port: int) -> tuple[str, dict[str, int]]:
    """Ask for the descriptors of the nodes' connections. An epmd tells them only to whom may register.

    Returns a code, and the descriptors by name.
    """
    try:
        with exchange.Listing(_target(at, port), DUMP_REQ) as listing:
            text, _ = _kept(listing.pieces())
    except exchange.EpmdError as error:
        return _failed(error).code, {}
    return ANSWERS, {node.name: node.fd for node in answers.parse_dump(text).active[:MOST_NODES]}


def node_info(name: str, at: Place, port: int) -> answers.NodeInfo | None:
    """Return what the epmd replies to a look-up of the node, or None if it has no such node.

    Raises EpmdError; its subclass NoReplyError if the epmd closes the connection without an answer.
    """
    return queries.look_up(_target(at, port), exchange.encoded(name))


def connect(at: Place, port: int) -> Answer:
    """Connect to a node's port, and close the connection at once."""
    if port > MOST_PORT:
        return Answer(UNREACHABLE, f"{port} is not a valid TCP port")
    try:
        with closing(_socket.socket(at.family, _socket.SOCK_STREAM)) as sock:
            sock.settimeout(STEP)
            exchange.connect(sock, at.at(port))
    except OSError as error:
        return _failed_to_connect(error)
    return Answer(ANSWERS, "accepts connections")


def _target(at: Place, port: int) -> exchange.Target:
    target = exchange.Target(f"{at.host}%{at.scope}" if at.scope else at.host, port, STEP)
    target.found = [(at.family, at.at(port))]
    return target


def _failed(error: exchange.EpmdError) -> Answer:
    """Return what it means that an epmd cannot be asked."""
    if isinstance(error, exchange.NoEpmdError):
        cause = error.__cause__
        return _failed_to_connect(cause) if isinstance(cause, OSError) else Answer(ABSENT, str(error))
    if isinstance(error, exchange.TooLateError):
        return Answer(MUTE, f"accepts the connection but does not answer in {STEP:g} s")
    if isinstance(error, exchange.NoReplyError | exchange.BrokenError):
        return Answer(CLOSED, "accepts the connection and closes it without an answer")
    return Answer(STRANGER, "another program answers")


def _failed_to_connect(error: OSError) -> Answer:
    if isinstance(error, TimeoutError):
        return Answer(TIMEOUT, f"no answer in {STEP:g} s")
    return Answer(_CODES.get(error.errno or 0, UNREACHABLE), str(error.strerror or error))


def is_own(at: Place) -> bool:
    """Return whether this is an address of this host."""
    try:
        with closing(_socket.socket(at.family, _socket.SOCK_STREAM)) as sock:
            sock.bind(at.at(0))
    except OSError:
        return False
    return True


def own_places() -> list[Place]:
    """Return the addresses of this host's interfaces, without link-local ones.

    The list is empty if the kernel does not answer the request.
    """
    request = _ADDRESS.pack(0, 0, 0, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(request), _RTM_GETADDR, _REQUEST_ALL, 1, 0)
    found: list[Place] = []
    try:
        # NETLINK_ROUTE. Only Linux has the family.
        with closing(_socket.socket(getattr(_socket, "AF_NETLINK", -1), _socket.SOCK_RAW, 0)) as sock:
            sock.settimeout(STEP)
            sock.send(header + request)
            while _read_addresses(sock.recv(1 << 16), found):
                pass
    except OSError:
        pass
    return found


def _read_addresses(messages: bytes, found: list[Place]) -> bool:
    """Add the addresses in one message of the kernel's answer. Returns whether more messages follow."""
    for kind, content in _records(messages, _HEADER):
        if kind in (_DONE, _ERROR):
            return False
        if kind == _RTM_NEWADDR:
            family, _, _, scope, _ = _ADDRESS.unpack_from(content)
            attributes = dict(_records(content[_ADDRESS.size :], _ATTRIBUTE))
            # On a point-to-point interface _IFA_ADDRESS is the address of the other end.
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed and scope != _SCOPE_LINK:
                found.append(Place(family, _socket.inet_ntop(family, packed)))
    return True


def _records(data: bytes, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the content of messages or of attributes, which begin alike."""
    while len(data) >= head.size:
        size, kind, *_ = head.unpack_from(data)
        yield kind, data[head.size : size]
        data = data[max((size + 3) & ~3, head.size) :]


def together(
    jobs: Sequence[Callable[[], T]],
    seconds: float,
    tell: Callable[[int, int], object] | None = None,
    most: int = _MOST,
) -> list[T | None]:
    """Run all jobs, at most `most` at once. Returns the result of each job, or None if the time limit expired
    first.

    `tell` is called with the number of completed jobs and of all jobs. The number of threads is limited so
    that the descriptors suffice, even with a `ulimit -n` of 256.
    """
    results: list[T | None] = [None] * len(jobs)
    numbers = iter(range(len(jobs)))
    done = threading.Semaphore(0)
    end = time.monotonic() + seconds

    def work() -> None:
        for number in numbers:
            if time.monotonic() >= end:
                return
            try:
                results[number] = jobs[number]()
            finally:
                done.release()

    _start(work, min(len(jobs), most, _descriptors()))
    for count in range(1, len(jobs) + 1):
        if not done.acquire(timeout=max(end - time.monotonic(), 0)):
            break
        if tell:
            tell(count, len(jobs))
    return list(results)


def _start(work: Callable[[], None], count: int) -> None:
    """Run `work` in `count` threads, or in as many threads as the system permits."""
    for number in range(count):
        try:
            threading.Thread(target=work, daemon=True).start()
        except RuntimeError:  # the process limit is reached
            if not number:
                work()
            return


def _descriptors() -> int:
    """Return how many more descriptors this process may open, but at least 1."""
    limit = os.sysconf("SC_OPEN_MAX")
    if limit < 0:
        return _MOST
    try:
        taken = len(os.listdir("/proc/self/fd"))
    except OSError:
        taken = 3
    return max(limit - taken - _SPARE, 1)
