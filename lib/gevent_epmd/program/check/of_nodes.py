"""`epmd -check`, the rules about registered nodes. Invariant: no I/O."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from ...client import exchange
from ...wire import MOST_PORT
from ..process import procfs
from . import advice, evidence
from .advice import at_port, counted, shown, since
from .finding import OK, WARNING, WRONG, Finding
from .probe import ANSWERS, CLOSED, REFUSED
from .sight import Node, Sight

#: Nodes of OTP 25 and later need this distribution version. Source: the distribution protocol, "OTP 25".
_NEEDED_VERSION = 6
#: C's epmd registers a name of this many bytes, but does not answer a look-up of it.
_UNANSWERED_NAME = 255
#: The program of a node, as its file is called.
_BEAM = "beam"


def of_nodes(sight: Sight) -> Iterator[Finding]:
    """Yield a finding for each node, and one for those that the budget excludes."""
    for node in sight.nodes:
        yield _of_node(sight, node)
    listing = sight.listing()
    if listing and (more := listing.more):
        seen = f"{counted(more, 'node')} more not tried: the list is too long"
        to_do = "Check which program answers there: a host rarely has so many nodes."
        yield Finding("node", f"{more:,} more", WARNING, "late", seen, to_do)


def _of_node(sight: Sight, node: Node) -> Finding:
    finding = partial(Finding, "node", node.name)
    if not node.met:
        seen = f"port {node.port} was not tried, because many other nodes did not answer"
        return finding(WARNING, "late", seen, "Run the check again when the other nodes answer.")
    if node.told not in (-1, node.port):
        return finding(OK, "gone", "ended or restarted during the check")
    if not node.accepts():
        return _unreached(sight, node)
    if node.problem:
        to_do = "Run the check again. If it fails again, read the log of the epmd."
        if len(exchange.encoded(node.name)) >= _UNANSWERED_NAME:
            to_do = "Use a shorter name: C's epmd does not answer look-ups of a name this long."
        return finding(WRONG, "lookup", f"a look-up fails: {node.problem}", to_do)
    seen = f"accepts connections at {at_port(node.met[-1][0], node.port)}"
    return (
        _stopped(node)
        or _taken(sight, node)
        or _elsewhere(sight, node)
        or _old(node)
        or _misnamed(sight, node)
        or finding(OK, ANSWERS, ": ".join([seen, *map(_whose, node.owners[:1])]))
    )


def _whose(process: procfs.Process) -> str:
    """Return who a process is: number, program, user, start and the name of the node."""
    name = evidence.name_of(process)
    parts = [f"process {process.pid}", process.path, f"user {process.user}" if process.user else ""]
    parts.append("" if process.since is None else since(process.since))
    parts.append(f"named {name}" if name else "")
    return ", ".join(filter(None, parts))


def _stopped(node: Node) -> Finding | None:
    """The kernel accepts connections for a process that is stopped."""
    for owner in node.owners:
        if owner.is_stopped():
            seen = f"is stopped: {_whose(owner)}"
            return Finding("node", node.name, WRONG, "stopped", seen, advice.resume(owner))
    return None


def _taken(sight: Sight, node: Node) -> Finding | None:
    """The node may be dead, and its port another program's, while a process that it left holds the name.

    A process that registers for a node, and a forwarder, have another number than what listens.
    """
    pids = {holder.pid for holder in node.holders}
    if not pids or not node.owners or any(owner.pid in pids for owner in node.owners):
        return None
    holder = node.holders[0]
    owner = node.owners[0]
    if owner.pid == 1 or evidence.is_forwarder(holder.path) or evidence.is_forwarder(owner.path):
        return None
    if os.path.basename(owner.path).startswith(_BEAM):
        return None
    whose = f"its port {node.port} belongs to another program: {_whose(owner)}"
    seen = f"is registered by {_whose(holder)}, but {whose}"
    to_do = f"If the node is dead: {advice.end_holders(sight, node.holders)}"
    return Finding("node", node.name, WARNING, "taken", seen, to_do)


def _elsewhere(sight: Sight, node: Node) -> Finding | None:
    (first, answer), last = node.met[0], node.met[-1][0]
    firsts = sight.firsts()
    if last in (first, *firsts):
        return None
    if not sight.host and firsts and not any(place in sight.own for place in firsts):
        return None  # the finding about the host's name says it: no node of this host is found there
    hosts = [evidence.name_of(owner).partition("@")[2] for owner in node.owners]
    if any(host == last.host or sight.leads.get(host) == last for host in hosts):
        return None  # it is named for the address at which it listens
    seen = f"accepts connections at {at_port(last, node.port)} only, not at {shown(first)}: {answer.reason}"
    name = f"{node.name}@{last.host}"
    to_do = f"Name it {name}, or make it listen on all addresses: see inet_dist_use_interface."
    return Finding("node", node.name, WARNING, "elsewhere", seen, to_do)


def _old(node: Node) -> Finding | None:
    if not 0 < node.highest < _NEEDED_VERSION:
        return None
    needed = f"nodes of OTP 25 and later need {_NEEDED_VERSION}"
    seen = f"speaks distribution version {node.highest} at most: {needed}"
    to_do = "Upgrade the node, or its library: C nodes need the ei of OTP 23 or later."
    return Finding("node", node.name, WARNING, "version", seen, to_do)


def _misnamed(sight: Sight, node: Node) -> Finding | None:
    """The host part of a node's own name may lead to another host."""
    for owner in node.owners:
        name = evidence.name_of(owner)
        host = name.partition("@")[2]
        if host in sight.leads and sight.leads[host] not in sight.own:
            seen = f"calls itself {name}, but {host} is not this host: {_whose(owner)}"
            to_do = f"Correct {host} in /etc/hosts or the DNS, or start the node with a name of this host."
            return Finding("node", node.name, WARNING, "host", seen, to_do)
    return None


def _unreached(sight: Sight, node: Node) -> Finding:
    """Return the finding for a node that nobody can connect to. The first address where nodes look
    decides."""
    first, answer = node.met[0]
    finding = partial(Finding, "node", node.name, WRONG)
    if node.port == 0:
        seen = "is registered without a port: it accepts no connections"
        return Finding("node", node.name, OK, "no_port", seen)
    if node.port > MOST_PORT:
        to_do = "Check which program answers there: an epmd never lists such a port."
        return finding("no_port", f"is listed with the invalid port {node.port}", to_do)
    if remote := _remote(sight, node):
        return remote
    at = at_port(first, node.port)
    if answer.code == REFUSED and sight.listeners is not None:
        return _dead(sight, node, at)
    if answer.code == REFUSED:
        to_do = "Check the node: it is dead, or listens on another address (inet_dist_use_interface)."
        if sight.host:
            reason = "the node is dead, listens on loopback only, or a firewall rejects connections"
            to_do = f"Run `epmd -check` on {sight.host}: {reason}."
        return finding(REFUSED, f"{at}: {answer.reason}", to_do)
    options = "inet_dist_listen_min and inet_dist_listen_max"
    to_do = f"Open TCP port {node.port} in the firewall. {options} give nodes a fixed range of ports."
    return finding("blocked", f"{at}: {answer.reason}", to_do)


def _remote(sight: Sight, node: Node) -> Finding | None:
    """Return the finding for a node that is or may be on another host: its port here means nothing."""
    finding = partial(Finding, "node", node.name, OK, "remote")
    if node.peer:
        return finding(f"registered from {node.peer}, cannot be tried from here: port {node.port}")
    for holder in node.holders:
        if evidence.is_forwarder(holder.path):
            seen = "is behind a forwarder, cannot be tried from here: "
            return finding(f"{seen}{_whose(holder)} holds its registration")
    if sight.host:
        return None
    if sight.dump == CLOSED:
        whose = "what is behind the port, another host or container"
        return finding(f"is a node of {whose}, and cannot be tried from here: port {node.port}")
    if not node.is_here and sight.peers:
        peers = ", ".join(sight.peers[:3])
        return finding(f"may have registered from {peers}: nothing of this host listens at port {node.port}")
    return None


def _dead(sight: Sight, node: Node, at: str) -> Finding:
    seen = f"is registered, but nothing listens at {at}: the node is dead or has closed its listener"
    if node.holders:
        seen += f"; {_whose(node.holders[0])} holds its registration"
    return Finding("node", node.name, WRONG, "dead", seen, advice.end_holders(sight, node.holders))
