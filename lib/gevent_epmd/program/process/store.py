"""Keeps registrations in the descriptor store of systemd, from which the unit's next epmd takes them back.

The store holds a duplicate of each node's connection. So a connection outlives the process that accepted it,
however that ends, and the node notices nothing.

Invariants:
- an entry's name is unique, and no entry depends on another one;
- a node is stored after it has got its reply: a node that still waits for one is never taken back;
- the names fit into one environment variable. If they did not, systemd could not start the next process;
- a stored connection is shut down when it ends: closing this process's descriptor does not end it.

C's epmd has no counterpart. Source: sd_notify(3), sd_listen_fds(3), systemd.service(5).
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import stat
import sys
from typing import NamedTuple

from ...protocol import Alive2Request, ProtocolError, parse_request
from ...server.inherit import Inheritance
from .systemd import STORED, Stored, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ...server.mapper import Mapper
    from ...server.registry import Node

#: What the names of entries begin with. A number follows. After the number of a node follows the packet with
#: which it has registered, if the name does not become too long.
_NODE, _UNREAD, _ANSWERED = (f"{STORED}{kind}." for kind in ("node", "unread", "answered"))
_CREATIONS = f"{STORED}creations"
#: systemd ignores a longer name.
_LONGEST_NAME = 255
#: How long all names may be together. Linux allows 131,072 bytes for one variable. From the first limit on,
#: packets are in memory files instead of names. From the second one on, nodes are not stored.
_MOST_IN_NAMES, _MOST_NAMES = 100_000, 125_000
#: How long to wait if systemd is slow to receive, in seconds.
_PAUSE = 0.02
_LATER = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE)
#: Linux has it, and systemd too.
_NOW: int = getattr(_socket, "MSG_DONTWAIT", 0)


class Taken(NamedTuple):
    """What was in the store.

    `left` is for the mapper. `names` are the entries of its nodes, by node name. `rest` are the entries that
    are of no use from now on. `number` is the greatest number of a node's entry.
    """

    left: Inheritance
    names: dict[bytes, str]
    rest: list[str]
    number: int


class _Entry(NamedTuple):
    number: int
    name: str
    request: Alive2Request
    sock: _socket.socket


def take_back(stored: Iterable[Stored]) -> Taken:
    """Read what systemd has passed, without the nodes that ended meanwhile."""
    descriptors: dict[str, list[int]] = {}
    for name, descriptor in stored:
        descriptors.setdefault(name, []).append(descriptor)
    nodes: dict[bytes, _Entry] = {}
    entries = [_node(name, fds) for name, fds in descriptors.items() if name.startswith(_NODE)]
    for entry in sorted(filter(None, entries), key=lambda entry: entry.number):
        # The newest has the name: another one was about to be removed.
        former = nodes.pop(entry.request.name, None)
        if former is not None:
            former.sock.close()
        nodes[entry.request.name] = entry
    names = {node: entry.name for node, entry in nodes.items()}
    left = Inheritance(
        [(entry.request, entry.sock) for entry in nodes.values()],
        _sockets(descriptors, _UNREAD),
        _sockets(descriptors, _ANSWERED),
        [],
        max((int.from_bytes(_content(fd), "big") for fd in descriptors.get(_CREATIONS, ())), default=0),
    )
    rest = [name for name in descriptors if name not in names.values()]
    return Taken(left, names, rest, max((entry.number for entry in nodes.values()), default=0))


def _node(name: str, descriptors: list[int]) -> _Entry | None:
    """Return a node's entry, or None if it is not complete or the node has ended. Closes what it drops."""
    number, _, packet = name.removeprefix(_NODE).partition(".")
    sock = None
    content = b""
    for descriptor in descriptors:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and sock is None:
            sock = _socket.socket(fileno=descriptor)
        else:
            content = _content(descriptor)
    if sock is None:
        return None
    try:
        request = parse_request(bytes.fromhex(packet) or content)
        if isinstance(request, Alive2Request) and not request.refusal() and not has_ended(sock):
            return _Entry(int(number, 16), name, request, sock)
    except (ValueError, IndexError, ProtocolError):
        pass  # not an entry of this program
    sock.close()
    return None


def has_ended(sock: _socket.socket) -> bool:
    """Return whether the registration on this connection has ended."""
    try:
        sock.recv(1, _socket.MSG_PEEK | _NOW)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _sockets(descriptors: dict[str, list[int]], kind: str) -> list[_socket.socket]:
    return [_socket.socket(fileno=fds[0]) for name, fds in descriptors.items() if name.startswith(kind)]


def _content(descriptor: int) -> bytes:
    """Return the content of a memory file, which this closes."""
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


class Sender:
    """Changes the store. `for_process` is the process for which root does so, or None for this one.

    Every method raises OSError.
    """

    def __init__(self, address: str, seconds: float, for_process: int | None = None) -> None:
        self._address = address
        self._for_process = for_process
        self._sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        self._sock.settimeout(seconds)

    def close(self) -> None:
        self._sock.close()

    def add(self, name: str, *descriptors: int, content: bytes = b"") -> None:
        """Store these descriptors under one name, and a memory file if there is content for it."""
        if content:
            with open(memory_file(), "wb", 0) as file:
                file.write(content)
                self.add(name, *descriptors, file.fileno())
        else:
            self._send(f"FDSTORE=1\nFDNAME={name}", *descriptors)

    def remove(self, name: str) -> None:
        """Remove what is stored under this name."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def is_received(self, seconds: float) -> bool:
        """Return whether systemd has received all that was sent before, after this time at the latest."""
        ours, theirs = os.pipe()
        with open(ours, "rb", 0):
            with open(theirs, "wb", 0):
                self._send("BARRIER=1", theirs)
            poll = select.poll()
            poll.register(ours, select.POLLHUP)
            return bool(poll.poll(seconds * 1000))

    def _send(self, text: str, *descriptors: int) -> None:
        send(self._sock, text, self._address, self._for_process, descriptors)


def memory_file() -> int:
    """Return the descriptor of a new file that is nowhere but in memory. Raises OSError."""
    if sys.platform != "linux":
        raise OSError("this needs Linux")  # for type checkers: only systemd has a store
    return os.memfd_create("epmd-entry")


def node_name(number: int, request: Alive2Request, used: int) -> str:
    """Return a name for a node's entry if all names have `used` bytes already, or "" if it does not fit."""
    short = f"{_NODE}{number:x}"
    name = f"{short}.{request.packet().hex()}"
    if len(name) > _LONGEST_NAME or used + len(name) > _MOST_IN_NAMES:
        name = short
    return name if used + len(name) <= _MOST_NAMES else ""


def _untold(name: str, request: Alive2Request) -> bytes:
    """Return the packet of a node whose entry's name does not contain it."""
    return b"" if "." in name.removeprefix(_NODE) else request.packet()


class ToStore(NamedTuple):
    """A connection, the name under which to store it, and what to store in a memory file beside it."""

    name: str
    sock: _socket.socket
    content: bytes = b""


def entries(left: Inheritance, first: int) -> list[ToStore]:
    """Return what to store of all that a process has left, for the next one, with numbers from `first` on.

    Raises OSError if there are too many nodes.
    """
    found: list[ToStore] = []
    used = 0
    for number, (request, sock) in enumerate(left.nodes, first):
        name = node_name(number, request, used)
        if not name:
            raise OSError(errno.E2BIG, "there are too many nodes for the descriptor store")
        used += len(name) + 1
        found.append(ToStore(name, sock, _untold(name, request)))
    for kind, sockets in ((_UNREAD, left.unread), (_ANSWERED, left.answered)):
        found += (ToStore(f"{kind}{number:x}", sock) for number, sock in enumerate(sockets, first))
    return found


def fill(sender: Sender, stored: list[ToStore], creation: int) -> None:
    """Store these connections, and the greatest creation, if that is known. Raises OSError."""
    for name, sock, content in stored:
        sender.add(name, sock.fileno(), content=content)
    if creation:
        sender.add(_CREATIONS, content=creation.to_bytes(8, "big"))


class Store:
    """Keeps the nodes of a mapper in the store. `most` is how many entries systemd keeps; with 0, it only
    removes those that were taken. Until `start`, changes wait."""

    def __init__(self, mapper: Mapper, address: str, taken: Taken, most: int) -> None:
        self._mapper = mapper
        self._events = mapper.events
        self._sender = Sender(address, 0)
        self._most = most
        self._rest = taken.rest
        self._has_started = False
        self._number = taken.number
        self._names: dict[Node, str] = {}
        self._used = 0
        for node in mapper.registry.live():
            if node.name in taken.names:
                self._note(node, taken.names[node.name])
        #: Changes that systemd has not received yet: the name of the entry, and the node to store, or None.
        self._waiting: dict[str, Node | None] = {}
        self._timer: Any = None

    def start(self) -> None:
        """Tell systemd of all changes. Before this process is known as the main one, it accepts none."""
        self._has_started = True
        if self._most:
            self._put_record()
        for name in self._rest:
            if name != _CREATIONS:
                self._waiting[name] = None
        self._send_waiting()

    def _put_record(self) -> None:
        try:
            self._sender.remove(_CREATIONS)
            self._sender.add(_CREATIONS, self._mapper.record.descriptor)
        except OSError as error:
            self._events.not_stored(str(error))

    def put(self, node: Node) -> None:
        """Store a node that has got its reply, unless it is stored already."""
        if node in self._names or not self._most:
            return
        self._number += 1
        name = node_name(self._number, node.request, self._used)
        if not name or len(self._names) + 1 >= self._most:
            self._events.not_stored("the descriptor store is full")
            return
        self._note(node, name)
        self._change(name, node)

    def drop(self, node: Node) -> bool:
        """Remove a node. Returns whether its connection has to be shut down, because it was stored."""
        name = self._names.pop(node, None)
        if name is None:
            return False
        self._used -= len(name) + 1
        if self._waiting.pop(name, None) is None:
            self._change(name, None)
        return True

    def _note(self, node: Node, name: str) -> None:
        self._names[node] = name
        self._used += len(name) + 1

    def _change(self, name: str, node: Node | None) -> None:
        if self._waiting or not self._has_started or not self._is_sent(name, node):
            self._waiting[name] = node
            self._wait()

    def _is_sent(self, name: str, node: Node | None) -> bool:
        """Return whether systemd has received a change, or never will."""
        try:
            if node is None:
                self._sender.remove(name)
            else:
                self._sender.add(name, node.fd, content=_untold(name, node.request))
        except OSError as error:
            if error.errno in _LATER:
                return False
            self._events.not_stored(str(error))
        return True

    def _wait(self) -> None:
        if self._timer is None and self._has_started:
            self._timer = self._mapper.hub.loop.timer(_PAUSE)
            self._timer.start(self._go_on)

    def _go_on(self) -> None:
        self._timer.close()
        self._timer = None
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            name, node = next(iter(self._waiting.items()))
            if not self._is_sent(name, node):
                self._wait()
                return
            del self._waiting[name]
