"""Logs what happens in connections and mapper, in the words of C's log, and counts it.

Connections and mapper call one method for each event. Only this module decides at which level a line appears,
and its wording. Operators compare these lines with those of C's epmd, so words and spelling mistakes are C's
(OTP 29).

Invariants:
- a complaint, which is a line about a peer's error, is logged at every level and ends with the peer's
  address;
- the lines of levels 0 and 1 are in C's order. Those of levels 2 and 3 come where the event happens here.

C's counterpart: the calls of dbg_printf, dbg_tty_printf and dbg_print_buf in epmd_srv.c.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..protocol import Complaint, RequestDenied
from ..wire import ALIVE2_REQ, DUMP_REQ, KILL_REQ, NAMES_REQ, PORT2_REQ, STOP_REQ
from .log import INFO, NOTICE, Log, shown
from .registry import Node, NodeRefused, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .networks import Network
    from .registry import Peer
    from .settings import Settings

#: Why a connection is aborted.
TIMED_OUT = "closing because timed out on receive"
TO_MAKE_ROOM = "closing to make room"
TOO_MUCH_UNREAD = "closing because too much is unread"

_KILL = "EPMD_KILL_REQ"

#: The kind of request that each tag stands for.
KINDS = {
    ALIVE2_REQ: "alive2",
    PORT2_REQ: "port2",
    NAMES_REQ: "names",
    DUMP_REQ: "dump",
    KILL_REQ: "kill",
    STOP_REQ: "stop",
}


class Counts:
    """Numbers of events since the mapper was created. They only grow."""

    __slots__ = ("barred", "crowded_out", "denied", "malformed", "refused", "requests", "timed_out", "unread")

    def __init__(self) -> None:
        #: Complete requests by their tag, including those that were denied. `connection` counts them, but not
        #: those that `connection.serve` answers, which are attributes of the mapper.
        self.requests = dict.fromkeys(KINDS, 0)
        #: Registrations that were refused; requests that were not permitted, or were invalid or incomplete.
        self.refused = self.denied = self.malformed = 0
        #: Connections that were closed: `allow` excludes the peer, it was too slow, others needed room, or
        #: too much was unread.
        self.barred = self.timed_out = self.crowded_out = self.unread = 0


class Events:
    """Logs the events of one port mapper in `log`, and counts them in `counts`."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.counts = Counts()

    # --- Start-up ---

    def starting(self, *, daemon: bool) -> None:
        self.log.say(1, f"epmd running - daemon = {int(daemon)}")

    def taking_sockets(self) -> None:
        self.log.say(2, "try to obtain sockets from systemd")

    def no_effect(self, names: Iterable[str]) -> None:
        """With -systemd, these options and variables say in vain where to listen."""
        for name in names:
            self.log.say(0, f"{name} has no effect with -systemd: systemd chooses where to listen")

    def notification_may_be_refused(self) -> None:
        """systemd may take the notification of this process for that of a stranger."""
        self.log.say(0, "the one-file form tells systemd that it is ready only with NotifyAccess=all")

    def listening(self, port: int) -> None:
        self.log.say(2, f"try to initiate listening port {port}")

    def in_use(self, text: str, *, failure: bool) -> None:
        """Another epmd has the port. `failure` is whether that is an error for the caller."""
        if failure:
            self.log.fail(text)
        else:
            self.log.tty(1, text)

    def cannot_serve(self, reason: str) -> None:
        self.log.fail(f"cannot serve: {reason}")

    def file_failed(self, reason: str) -> None:
        """A file of this process cannot be written, or not be removed at the end."""
        self.log.say(0, reason)

    def numbers(self, numbers: Iterable[tuple[str, str]]) -> None:
        """Somebody has asked for the numbers of this mapper."""
        self.log.say(0, "numbers: " + " ".join(f"{name}={number}" for name, number in numbers), INFO)

    def networks_read(self, path: str, before: Settings, after: Settings) -> None:
        """The file of -allow_file was read again."""
        changes = [
            f"{name} {_listed(new)}, not {_listed(old)}"
            for name, old, new in (
                ("-allow", before.allow, after.allow),
                ("-allow_register", before.allow_register or None, after.allow_register or None),
            )
            if old != new
        ]
        self.log.say(0, f"read {path} again: {'; '.join(changes) or 'nothing has changed'}")

    def networks_stay(self, reason: str) -> None:
        """The file of -allow_file cannot be read again."""
        self.log.say(0, f"{reason}; the networks stay as they were")

    def nothing_to_read_again(self) -> None:
        self.log.say(0, "SIGHUP has no effect: there is no -allow_file to read again")

    def took_over(self, lines: Iterable[str]) -> None:
        """This process has taken the place of another epmd."""
        for line in lines:
            self.log.say(0, line, NOTICE)

    def took_back(self, nodes: int) -> None:
        """These nodes are registered as before, from the descriptor store of systemd."""
        self.log.say(0, f"took {nodes} node{'' if nodes == 1 else 's'} back from systemd's descriptor store")

    def not_stored(self, reason: str) -> None:
        """A node is not in the descriptor store, or cannot be removed from it."""
        self.log.complain("cannot change systemd's descriptor store: %s", reason)

    def serving(self) -> None:
        self.log.tty(2, "entering the main select() loop")

    # --- A connection, from its first byte to its close ---

    def connected(self, peer: Peer) -> None:
        if self.log.level >= 2:
            self.log.tty(2, f"{'Local' if peer.is_local() else 'Non-local'} peer connected")
            self.log.tty(2, f"opening connection on file descriptor {peer.fd}")

    def packet(self, data: bytes) -> None:
        """A packet arrived, or a piece of one, or a reply is about to be sent."""
        self.log.packet(data)

    def ended_early(self, peer: Peer, got: int) -> None:
        """The peer closed after `got` bytes, before the packet was complete."""
        # Many health checks only connect and close.
        self.counts.malformed += bool(got)
        self._complain(peer, "got partial packet only on file descriptor %s (%s)", peer.fd, got)

    def read_failed(self, peer: Peer, error: OSError) -> None:
        self._complain(peer, "error in read: %s", error.strerror)

    def requested(self, title: str, *, allowed: bool) -> None:
        # C checks whether a peer may ask for KILL before it logs the request.
        if self.log.level and (allowed or title != _KILL):
            self.log.say(1, f"** got {title}")

    def rejected(self, peer: Peer, reason: Complaint) -> None:
        """The connection ends without a reply, or the node or KILL is refused."""
        if isinstance(reason, NodeRefused):
            self.counts.refused += 1
        elif isinstance(reason, RequestDenied):
            self.counts.denied += 1
        else:
            self.counts.malformed += 1
        self._complain(peer, reason.kind, *reason.details)

    def aborted(self, reason: str) -> None:
        self.counts.timed_out += reason == TIMED_OUT
        self.counts.crowded_out += reason == TO_MAKE_ROOM
        self.counts.unread += reason == TOO_MUCH_UNREAD
        self.log.tty(1, reason)

    def closing(self, peer: Peer) -> None:
        if self.log.level >= 2:
            self.log.tty(2, f"closing connection on file descriptor {peer.fd}")

    # --- Replies ---

    def write_failed(self, peer: Peer, error: OSError) -> None:
        """The reply could not be sent."""
        self._complain(peer, "error in write, errno=%s: %s", error.errno, error.strerror)

    def replied(self, reply: str, name: bytes | None = None, *, sent: bool) -> None:
        """A reply was sent, or failed. `name` is the node's name if C's log line names the node."""
        if self.log.level:
            of_node = "" if name is None else f' for "{shown(name)}"'
            # C marks a failure only if it names the node.
            mark = "** " if sent or of_node else ""
            self.log.tty(1, f"{mark}{'sent' if sent else 'failed to send'} {reply}{of_node}")

    # --- Nodes ---

    def registered(self, node: Node, registry: Registry) -> None:
        if not self.log.level:
            return
        request = node.request
        if node.is_back:
            self.log.tty(1, f"reusing slot with same name '{shown(request.name)}'")
        self._node("registering", node)
        versions = f"highvsn {request.highest} lowvsn {request.lowest}"
        self.log.tty(1, f"type {request.node_type} proto {request.protocol} {versions}")
        self._tables(registry)

    def unregistered(self, node: Node, registry: Registry) -> None:
        if self.log.level:
            self._node("unregistering", node)
            self._tables(registry)

    def node_closed(self, peer: Peer, data: bytes) -> None:
        """The connection of a registered or refused node ended, by these bytes or by EOF."""
        if data:
            self.log.tty(1, f"got more than expected on ALIVE socket {peer.fd} ({len(data)})")
            self.log.packet(data)

    def node_failed(self, peer: Peer, error: OSError) -> None:
        """The connection of a registered or refused node ended, by a reset."""
        self.log.tty(1, f"error on ALIVE socket {peer.fd} (-1; errno=0x{error.errno:x})")

    def unknown_closed(self, peer: Peer) -> None:
        """The connection of a refused node ended."""
        self.log.tty(1, f"trying to unregister node with unknown file descriptor {peer.fd}")

    def _node(self, event: str, node: Node) -> None:
        self.log.tty(1, f"{event} '{shown(node.name)}:{node.creation}', port {node.port}")

    def _tables(self, registry: Registry) -> None:
        """Log all nodes (C: print_names)."""
        if self.log.level < 3:
            return
        live, former = list(registry.live()), list(registry.remembered())
        rows = [f'    active name     "{_numbered(n)}" at port {n.port}, fd = {n.fd}' for n in live]
        rows.append(f"    reg calculated count  : {len(live)}")
        rows += [f'    old/unused name "{_numbered(n)}"' for n in former]
        rows.append(f"    unreg counter         : {len(former)}")
        rows.append(f"    unreg calculated count: {len(former)}")
        self.log.rows(rows)

    # --- STOP and KILL ---

    def stopped(self) -> None:
        self.log.tty(1, "epmd connection stopped")

    def kill_reply_failed(self, peer: Peer) -> None:
        self._complain(peer, "failed to send reply to EPMD_KILL_REQ")

    def killed(self) -> None:
        self.log.tty(1, "epmd killed")

    def ending(self, reason: str) -> None:
        self.log.say(0, f"{reason} - terminates normal", NOTICE)

    # --- Accepting ---

    def barred(self, peer: Peer) -> None:
        self.counts.barred += 1
        self._complain(peer, "closing a connection that is not allowed")

    def crowded(self, peer: Peer, most: int) -> None:
        self._complain(peer, "more than %s connections without a node: making room for a connection", most)

    def unread(self, peer: Peer, most: int) -> None:
        """Too many bytes of replies are unread, and this peer has been the slowest to read."""
        self._complain(peer, "more than %s MB of replies are unread: closing the connection", most >> 20)

    def no_room(self, error: OSError) -> None:
        self.log.complain("no room for a connection: %s", error.strerror)

    def accept_failed(self, error: OSError) -> None:
        self.log.complain("error in accept: %s", error.strerror)

    def _complain(self, peer: Peer, kind: str, *details: object) -> None:
        # Of many complaints only a few are logged, and only those need the peer's address.
        self.log.complain(f"{kind} from %s", *details, peer)


def _listed(networks: tuple[Network, ...] | None) -> str:
    return "not set" if networks is None else ",".join(map(str, networks))


def _numbered(node: Node) -> str:
    return f"{shown(node.name)}#{node.creation}"
