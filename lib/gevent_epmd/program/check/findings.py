"""`epmd -check`, the rules: turns the collected data into findings, each with a state and, if needed, a
remedy.

Invariants: no I/O. Topics and codes do not change between versions, because monitoring programs read them.
C's epmd has no counterpart.
"""

from __future__ import annotations

import _socket
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from ...conventions import printable
from ...server.networks import plain_host
from ...server.settings import Settings
from ...wire import MOST_PORT
from ..process import procfs
from .look import LOOPBACKS, Node, Sight
from .probe import (
    ABSENT,
    ANSWERS,
    CLOSED,
    MUTE,
    REFUSED,
    STRANGER,
    TIMEOUT,
    UNREACHABLE,
    Answer,
    Found,
    Place,
)

OK, WARNING, WRONG = "ok", "warning", "wrong"


class Finding(NamedTuple):
    """One result of the check.

    `topic` and `code` are words from a fixed list, for programs. `state` is OK, WARNING or WRONG. `subject`,
    `seen` and `to_do` are texts for people; `to_do` is empty if there is nothing to do.
    """

    topic: str
    subject: str
    state: str
    code: str
    seen: str
    to_do: str = ""


def findings(sight: Sight) -> list[Finding]:
    """Apply all rules to the collected data."""
    rules = (_epmd, _process, _listens_at, _resolves, _node_findings, _exposure)
    return [finding for rule in rules for finding in rule(sight)]


def status(found: list[Finding]) -> int:
    """Return the exit status: 1 if a finding is WRONG, else 0. A WARNING does not count."""
    return int(any(finding.state == WRONG for finding in found))


def _shown(place: Place) -> str:
    return f"{place.host}%{place.scope}" if place.scope else place.host


def _at(place: Place, port: int) -> str:
    return f"[{_shown(place)}]:{port}" if ":" in place.host else f"{place.host}:{port}"


def counted(number: int, what: str) -> str:
    """Return the number with its noun in the singular or plural."""
    return f"{number} {what}{'' if number == 1 else 's'}"


_NOBODY = "Start a node, or run `epmd -daemon`. If nodes are running, check their ERL_EPMD_PORT."
_EPMD_TO_DO = {
    STRANGER: "End that program, or set ERL_EPMD_PORT to another port for the epmd and for all nodes.",
    MUTE: "Continue the process (kill -CONT) or restart it; nodes since OTP 23.3 register again.",
    CLOSED: "If it is an epmd with -allow, add this host. If not, set ERL_EPMD_PORT to another port.",
    TIMEOUT: "Open this TCP port in the firewall between the hosts, and check that the host is up.",
}


def _epmd(sight: Sight) -> Iterator[Finding]:
    subject = f"port {sight.port}"
    served = sight.served()
    if served:
        nodes = len(sight.answers[served[0]].nodes)
        registered = f"{counted(nodes, 'node')} {'is' if nodes == 1 else 'are'} registered"
        yield Finding("epmd", subject, OK, ANSWERS, f"an epmd answers, {registered}")
    elif answer := _worst(sight):
        same = [_shown(at) for at, met in sight.answers.items() if met.code == answer.code and sight.has(at)]
        seen = f"no epmd answers at {', '.join(same)}: {answer.reason}"
        yield Finding("epmd", subject, WRONG, answer.code, seen, _to_do(sight, answer.code, _NOBODY))


def _worst(sight: Sight) -> Answer | None:
    """Return the answer that explains best why no epmd answers."""
    met = [answer for at, answer in sight.answers.items() if sight.has(at)]
    for code in (STRANGER, MUTE, CLOSED, REFUSED):
        for answer in met:
            if answer.code == code:
                return answer
    return met[0] if met else None


def _to_do(sight: Sight, code: str, otherwise: str) -> str:
    """Return the remedy for an address at which no epmd answers."""
    if code in (MUTE, CLOSED) and sight.processes and all(p.kind == procfs.OTHER for p in sight.processes):
        code = STRANGER
    return _EPMD_TO_DO.get(code, _at_the_other(sight) if sight.host else otherwise)


def _at_the_other(sight: Sight) -> str:
    return (
        f"Run `epmd -check` on {sight.host}: no epmd is running there, or it listens on other addresses"
        " (-loopback, -address, ERL_EPMD_ADDRESS)."
    )


def _process(sight: Sight) -> Iterator[Finding]:
    shown = [process for process in sight.processes if process.pid != 1] or list(sight.processes)
    for process in shown:
        subject = f"process {process.pid}"
        seen = f"{_program(process, answers=bool(sight.served()))}, user {process.user}, {_since(process)}"
        if process.state in ("T", "t"):
            to_do = f"Continue the process: kill -CONT {process.pid}"
            yield Finding("process", subject, WRONG, "stopped", f"is stopped: {seen}", to_do)
        else:
            yield Finding("process", subject, OK, process.kind, seen)
    if any(one.sockets.isdisjoint(other.sockets) for one in shown for other in shown):
        yield Finding(
            "process",
            f"port {sight.port}",
            WARNING,
            "several",
            "several processes listen at this port, on different addresses",
            "Keep only one: nodes register with the one on loopback, but other hosts may ask the other one.",
        )
    if not shown and sight.listeners:
        users = " and ".join(sorted({sight.users.get(sock.uid, str(sock.uid)) for sock in sight.listeners}))
        yield Finding(
            "process",
            f"port {sight.port}",
            OK,
            "hidden",
            f"a process of user {users}, which this user has no permission to examine",
            "To see which program it is, run `epmd -check` as that user or as root, outside of a container.",
        )


def _program(process: procfs.Process, *, answers: bool) -> str:
    path = process.path or "unknown path"
    if process.kind == procfs.OURS:
        return f"gevent-epmd {process.version}, {path}"
    if process.kind == procfs.C:
        return f"C's epmd{' of ' + process.version if process.version else ''}, {path}"
    return f"{path}, {'another program that answers like an epmd' if answers else 'not an epmd'}"


def _since(process: procfs.Process) -> str:
    if process.since is None:
        return "start time unknown"
    return f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(process.since))}"


def _listens_at(sight: Sight) -> Iterator[Finding]:
    """Yield a finding for each address of this host, or of the other host.

    If no epmd answers anywhere, the finding about the port covers most addresses: those with the worst
    answer, and those that refuse connections. They get no finding of their own here.
    """
    served = sight.served()
    worst = None if served else _worst(sight)
    for place, answer in sight.answers.items():
        if answer.code == ANSWERS and sight.has(place):
            yield Finding("address", _shown(place), OK, ANSWERS, "an epmd answers")
        elif worst and answer.code in (worst.code, REFUSED):
            pass
        elif sight.host:
            taken = any(place == found.first for found in sight.names.values())
            to_do = _to_do(sight, answer.code, _at_the_other(sight))
            state = WRONG if taken or not served else WARNING
            yield Finding("address", _shown(place), state, answer.code, answer.reason, to_do)
        elif answer.code == REFUSED:
            yield from [_refused_here(place)] * sight.has(place)
        elif sight.has(place) and not _is_absent(place, answer):
            to_do = _to_do(sight, answer.code, "Check the routes and the firewall of this host.")
            yield Finding("address", _shown(place), WRONG, answer.code, answer.reason, to_do)


def _is_absent(place: Place, answer: Answer) -> bool:
    """Return whether this is a loopback address that this host does not have."""
    return answer.code == ABSENT or (place in LOOPBACKS and answer.code == UNREACHABLE)


def _refused_here(place: Place) -> Finding:
    seen = "nothing listens here"
    if place == LOOPBACKS[0]:
        to_do = "Make the epmd listen on 127.0.0.1 too, because nodes register there."
        return Finding("address", place.host, WRONG, REFUSED, seen, to_do)
    if place == LOOPBACKS[1]:
        to_do = "If nodes use -proto_dist inet6_tcp, make the epmd listen on ::1 too, where they register."
        return Finding("address", place.host, WARNING, REFUSED, seen, to_do)
    return Finding("address", _shown(place), OK, REFUSED, seen)


def _resolves(sight: Sight) -> Iterator[Finding]:
    for name, found in sight.names.items():
        if found.first is None:
            yield _unresolved(sight, name, found.problem)
        elif sight.host:
            yield Finding("name", name, OK, "found", f"resolves to {_all_of(found)}")
        else:
            yield _resolves_here(sight, name, found, found.first)


def _unresolved(sight: Sight, name: str, problem: str) -> Finding:
    finding = partial(Finding, "name", name)
    seen = f"cannot be found: {problem}"
    if sight.host:
        to_do = f"Correct the name, or add it to /etc/hosts or to the DNS: nodes at {name} cannot be reached."
        return finding(WRONG, "nxdomain", seen, to_do)
    # inet:gethostbyname_self
    to_do = f"Add `127.0.1.1 {name}` to /etc/hosts: programs that resolve the name cannot reach its nodes."
    return finding(WARNING, "nxdomain", f"{seen}; Erlang uses 127.0.0.1 instead", to_do)


def _all_of(found: Found) -> str:
    return ", ".join(_shown(place) for place in found.places)


def _resolves_here(sight: Sight, name: str, found: Found, first: Place) -> Finding:
    answer = sight.answers.get(first) or Answer(TIMEOUT, "not tried")
    is_own = first in sight.own
    seen = f"resolves to {_all_of(found)}"
    if answer.code != ANSWERS and sight.served():
        looked = f"{_shown(first)}, where nodes look for this host's nodes"
        seen += f"; no epmd answers at {looked}: {answer.reason}"
        return Finding("name", name, WRONG, answer.code, seen, _name_to_do(name, first, is_own=is_own))
    if not is_own:
        to_do = "Correct /etc/hosts or the DNS, unless another machine forwards this address to this host."
        seen += f"; {_shown(first)} is not an address of this host"
        return Finding("name", name, WARNING, "foreign", seen, to_do)
    if first.family != _socket.AF_INET:
        to_do = "Start nodes with -proto_dist inet6_tcp, or give the name an IPv4 address."
        return Finding("name", name, WARNING, "ipv6", f"{seen}, and no IPv4 address", to_do)
    return Finding("name", name, OK, "found", f"{seen}; an epmd answers there" if sight.served() else seen)


def _name_to_do(name: str, first: Place, *, is_own: bool) -> str:
    if not is_own:
        return f"Correct /etc/hosts or the DNS: {first.host} is not an address of this host."
    if first.host.startswith("127."):
        return (
            f"Make the epmd listen on {first.host} too: use -loopback, or for C's epmd"
            f" ERL_EPMD_ADDRESS={first.host}. Or give {name} another address in /etc/hosts."
        )
    return f"Make the epmd listen there: leave out -loopback, or set ERL_EPMD_ADDRESS={first.host}."


def _node_findings(sight: Sight) -> Iterator[Finding]:
    for node in sight.nodes:
        yield _node_finding(sight, node)


def _node_finding(sight: Sight, node: Node) -> Finding:
    finding = partial(Finding, "node", node.name)
    if not node.met:
        seen = f"port {node.port} was not tried, because many other nodes did not answer"
        return finding(WARNING, "late", seen, "Run the check again when the other nodes answer.")
    if node.told != -1 and node.told != node.port:
        return finding(OK, "gone", "ended or restarted during the check")
    (first, answer), (last, outcome) = node.met[0], node.met[-1]
    if outcome.code != ANSWERS:
        return _unreached(sight, node)
    if node.problem:
        to_do = "Run the check again. If it fails again, read the log of the epmd."
        if node.is_long():
            to_do = "Use a shorter name: C's epmd does not answer look-ups of a name this long."
        return finding(WRONG, "lookup", f"a look-up fails: {node.problem}", to_do)
    if last not in (first, *sight.firsts()):
        seen = f"accepts connections at {_at(last, node.port)} only, not at {_shown(first)}: {answer.reason}"
        to_do = (
            f"Name it {node.name}@{last.host}, or make it listen on all addresses: see"
            " inet_dist_use_interface."
        )
        return finding(WARNING, "elsewhere", seen, to_do)
    return finding(OK, ANSWERS, f"accepts connections at {_at(last, node.port)}")


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
    at = _at(first, node.port)
    if answer.code == REFUSED and sight.listeners is not None:
        to_do = f"End the process that holds the registration; `ss -tnp 'dport = {sight.port}'` may list it."
        if node.holder:
            to_do = f"End process {node.holder[0]}, which holds the registration: {node.holder[1]}"
        seen = f"is registered, but nothing listens at {at}: the node is dead or has closed its listener"
        return finding("dead", seen, to_do)
    if answer.code == REFUSED:
        to_do = "Check the node: it is dead, or listens on another address (inet_dist_use_interface)."
        if sight.host:
            to_do = (
                f"Run `epmd -check` on {sight.host}: the node is dead, listens on loopback only, or a"
                " firewall rejects connections."
            )
        return finding(REFUSED, f"{at}: {answer.reason}", to_do)
    to_do = (
        f"Open TCP port {node.port} in the firewall. inet_dist_listen_min and inet_dist_listen_max give nodes"
        " a fixed range of ports."
    )
    return finding("blocked", f"{at}: {answer.reason}", to_do)


def _exposure(sight: Sight) -> Iterator[Finding]:
    """Yield findings about who can reach this host's epmd and who can control it."""
    served = sight.served()
    if sight.host:
        if served:
            yield Finding(
                "exposure", "this host", OK, "asked", "may ask for the names and ports of all nodes"
            )
        return
    if not served:
        return
    process = next((process for process in sight.processes if process.options), None)
    settings = process.options.settings if process and process.options else Settings()
    beyond = _beyond_loopback(sight)
    if not beyond:
        yield Finding(
            "exposure", "other hosts", OK, "loopback", "cannot reach the epmd: it listens on loopback only"
        )
    else:
        # C's epmd does not know these options, but their variables may be in its environment.
        ours = process is not None and process.kind == procfs.OURS
        register = settings.allow_register if ours else ()
        allow = (*settings.allow, *register) if ours and settings.allow is not None else None
        yield _reachable(sight, " and ".join(beyond), allow)
        if register:
            networks = ", ".join(map(str, register))
            seen = f"may register, and take names that other nodes need, if they are in {networks}"
            to_do = "Limit -allow_register to networks in which you control every host and container."
            yield Finding("exposure", "nodes on other hosts", WARNING, "register", seen, to_do)
    if settings.relaxed:
        seen = "may shut down the epmd and unregister any node, because of -relaxed_command_check"
        to_do = "Start the epmd without -relaxed_command_check and ERL_EPMD_RELAXED_COMMAND_CHECK."
        yield Finding("exposure", "every user of this host", WARNING, "relaxed", seen, to_do)


def _reachable(sight: Sight, where: str, allow: tuple[object, ...] | None) -> Finding:
    if allow is not None:
        networks = ", ".join(map(str, allow))
        rule = f"may ask if they are in {networks}" if networks else "may not ask: -allow lists no network"
        return Finding("exposure", "other hosts", OK, "allow", f"{rule}; the epmd listens on {where}")
    seen = f"may ask for the names and ports of all nodes: the epmd listens on {where}"
    to_do = (
        "Use -loopback, -allow or a firewall; with C's epmd, use ERL_EPMD_ADDRESS=127.0.0.1 or a firewall."
        " In a cluster, admit only the hosts of the cluster."
    )
    if any(process.kind == procfs.OURS and not process.knows_environ for process in sight.processes):
        seen += " (unless its ERL_EPMD_ALLOW, which cannot be read, excludes them)"
    elif not sight.processes:
        seen += " (unless its -allow, which cannot be read, excludes them)"
    return Finding("exposure", "other hosts", WARNING, "open", seen, to_do)


def _beyond_loopback(sight: Sight) -> list[str]:
    """Return the addresses on which the epmd listens and that other hosts can reach."""
    if sight.listeners is not None:
        hosts = [plain_host(sock.host) for sock in sight.listeners]
    else:
        hosts = [place.host for place in sight.served()]
    beyond = sorted({host for host in hosts if host != "::1" and not host.startswith("127.")})
    return ["all addresses"] if any(host in procfs.ANY for host in beyond) else beyond


def escaped(finding: Finding) -> Finding:
    """Return the finding with escaped control characters.

    Names come from other programs and hosts and must not control the terminal.
    """
    return Finding(*map(printable, finding))
