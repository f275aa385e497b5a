"""What happened, in the words of C's log.

Connections and the mapper call one method for each event.  This module alone decides at which level a line
appears, what it says, and in which order lines follow each other; operators compare these lines with those of
C's epmd, so words, small mistakes and order are C's (OTP 29).

A complaint is a line about a peer: it is logged at every level, and ends with the peer's address.

Source: the calls of dbg_printf, dbg_tty_printf and dbg_print_buf in epmd_srv.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..protocol import Complaint
from .log import Log, shown
from .registry import Node, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Peer(Protocol):
        """A connection, as far as log lines name it: as a str it is the other end, ADDRESS:PORT."""

        #: The descriptor.
        fd: int

        def is_local(self) -> bool:
            """Whether the other end is on this host."""


#: Gives what C writes with a call each; called only where it is logged.
Pieces = Callable[[], Iterable[bytes]]

_KILL = "EPMD_KILL_REQ"
#: A level at which nothing is logged.
_SILENT = -1


class Events:
    """The events of one port mapper, logged in `log`."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def silence(self) -> None:
        """Log nothing from here on."""
        self._log.level = _SILENT

    # --- The start ---

    def starting(self, *, daemon: bool) -> None:
        self._log.say(1, f"epmd running - daemon = {int(daemon)}")

    def taking_sockets(self) -> None:
        self._log.say(2, "try to obtain sockets from systemd")

    def listening(self, port: int) -> None:
        self._log.say(2, f"try to initiate listening port {port}")

    def in_use(self, text: str, *, failure: bool) -> None:
        """Another epmd has the port, which is a failure only where that is not what the caller wants."""
        if failure:
            self._log.fail(text)
        else:
            self._log.tty(1, text)

    def cannot_listen(self, text: str) -> None:
        self._log.fail(text)

    def cannot_serve(self, reason: str) -> None:
        self._log.fail(f"cannot serve: {reason}")

    def losing_rights(self) -> None:
        """What follows may not open the terminal any more: it is another user's."""
        self._log.hold_terminal()

    def file_stays(self, reason: str) -> None:
        """A file of this process cannot be removed at its end."""
        self._log.say(0, f"a file is not removed, but empty: {reason}")

    def serving(self) -> None:
        self._log.tty(2, "entering the main select() loop")

    # --- A connection, from its first byte to its close ---

    def connected(self, peer: Peer) -> None:
        if self._log.level >= 2:
            self._log.tty(2, f"{'Local' if peer.is_local() else 'Non-local'} peer connected")
            self._log.seconds()
            self._log.tty(2, f"opening connection on file descriptor {peer.fd}")

    def received(self, before: bytes, data: bytes) -> None:
        """`data` arrived, after `before` of the same packet."""
        if self._log.level:
            self._log.seconds()
            # Of a packet that arrives in pieces C prints the beginning each time, not the piece.
            self._log.packet((before + data)[: len(data)])

    def completed(self) -> None:
        """The packet is whole."""
        self._log.seconds()

    def ended_early(self, peer: Peer, got: int) -> None:
        """The other end closed after `got` bytes, before the packet was whole."""
        self._log.seconds()
        self._complain(peer, "got partial packet only on file descriptor %s (%s)", peer.fd, got)

    def read_failed(self, peer: Peer, error: OSError) -> None:
        self._log.seconds()
        self._complain(peer, "error in read: %s", error.strerror)

    def requested(self, title: str, *, allowed: bool) -> None:
        # C looks whether a peer may ask for KILL before it logs the request.
        if self._log.level and (allowed or title != _KILL):
            self._log.say(1, f"** got {title}")

    def rejected(self, peer: Peer, reason: Complaint) -> None:
        """The connection ends without a reply, or the node is refused."""
        self._complain(peer, reason.kind, *reason.details)

    def aborted(self, reason: str) -> None:
        self._log.seconds()
        self._log.tty(1, reason)

    def failed(self, error: BaseException) -> None:
        """A mistake of this program's own."""
        self._log.failed(error)

    def closing(self, peer: Peer) -> None:
        if self._log.level >= 2:
            self._log.tty(2, f"closing connection on file descriptor {peer.fd}")

    # --- Replies ---

    def written(self, data: bytes, pieces: Pieces | None) -> None:
        """A reply was sent; `pieces` gives what C writes with a call each, where that is not all at once."""
        if self._log.level >= 2:
            for piece in pieces() if pieces else (data,):
                self._log.packet(piece)

    def write_failed(self, peer: Peer, error: OSError, data: bytes, pieces: Pieces | None) -> None:
        """The reply could not be sent: C gives up at the first of its calls."""
        self._complain(peer, "error in write, errno=%s: %s", error.errno, error.strerror)
        if self._log.level >= 2:
            self._log.packet(next(iter(pieces())) if pieces else data)

    def replied(self, reply: str, name: bytes | None = None, *, sent: bool) -> None:
        """The reply to a request, about a node if `name` says so, was sent, or could not be."""
        if self._log.level:
            of_node = "" if name is None else f' for "{shown(name)}"'
            # C marks a failure only where it names the node.
            mark = "** " if sent or of_node else ""
            self._log.tty(1, f"{mark}{'sent' if sent else 'failed to send'} {reply}{of_node}")

    # --- Nodes ---

    def registered(
        self, node: Node, registry: Registry, *, former: Node | None, known: bool, new: bool
    ) -> None:
        """`former` had the name until now; `known` tells that the name was a node's before, and `new` that
        neither it nor the place of a forgotten one is used again."""
        if not self._log.level:
            return
        request = node.request
        if former is not None:
            self._node("unregistering", former)
        if new:
            self._log.seconds()
        if known:
            self._log.tty(1, f"reusing slot with same name '{shown(request.name)}'")
        self._node("registering", node)
        versions = f"highvsn {request.highest} lowvsn {request.lowest}"
        self._log.tty(1, f"type {request.node_type} proto {request.protocol} {versions}")
        self._tables(registry)

    def unregistered(self, node: Node, registry: Registry) -> None:
        if self._log.level:
            self._node("unregistering", node)
            self._tables(registry)

    def node_closed(self, peer: Peer, data: bytes, *, hung_up: bool) -> None:
        """A connection that stays open after ALIVE2 has ended, by these bytes or by an EOF; `hung_up` by
        us."""
        if not hung_up:
            self._log.seconds()
        if data:
            self._log.tty(1, f"got more than expected on ALIVE socket {peer.fd} ({len(data)})")
            self._log.packet(data)

    def node_failed(self, peer: Peer, error: OSError) -> None:
        """The same, by a reset."""
        self._log.seconds()
        self._log.tty(1, f"error on ALIVE socket {peer.fd} (-1; errno=0x{error.errno:x})")

    def unknown_closed(self, peer: Peer) -> None:
        """The connection of a node that had been refused has ended."""
        self._log.tty(1, f"trying to unregister node with unknown file descriptor {peer.fd}")

    def _node(self, event: str, node: Node) -> None:
        self._log.tty(1, f"{event} '{shown(node.name)}:{node.creation}', port {node.port}")

    def _tables(self, registry: Registry) -> None:
        if self._log.level >= 3:
            self._log.tables(
                ((shown(node.name), node.creation, node.port, node.fd) for node in registry.live()),
                ((shown(node.name), node.creation) for node in registry.late()),
            )

    # --- STOP and KILL ---

    def stopped(self) -> None:
        self._log.tty(1, "epmd connection stopped")

    def kill_refused(self, peer: Peer) -> None:
        self._complain(peer, "Disallowed EPMD_KILL_REQ, live nodes")

    def kill_reply_failed(self, peer: Peer) -> None:
        self._complain(peer, "failed to send reply to EPMD_KILL_REQ")

    def killed(self) -> None:
        self._log.tty(1, "epmd killed")

    def ending(self, reason: str) -> None:
        self._log.say(0, f"{reason} - terminates normal")

    # --- Accepting ---

    def barred(self, peer: Peer) -> None:
        self._complain(peer, "closing a connection that is not allowed")

    def crowded(self, peer: Peer, most: int) -> None:
        self._complain(peer, "more than %s connections without a node", most)

    def no_room(self, error: OSError) -> None:
        self._log.complain("no room for a connection: %s", error.strerror)

    def accept_failed(self, error: OSError) -> None:
        self._log.complain("error in accept: %s", error.strerror)

    def _complain(self, peer: Peer, kind: str, *details: object) -> None:
        # Of many complaints few are logged, and only those need to tell who the peer is.
        self._log.complain(f"{kind} from %s", *details, peer)
