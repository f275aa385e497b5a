"""`epmd -check`, the rules: turns the collected data into findings, each with a state and, if needed, a
remedy.

`of_nodes` has the rules about nodes, and `advice` the remedies.

Invariants: no I/O. Topics and codes do not change between versions, because monitoring programs read them;
CODES has all of them.
"""

from __future__ import annotations

import _socket
from collections.abc import Iterable, Iterator
from functools import partial

from ... import __version__
from ...client.checks import is_address
from ...server.networks import Network, plain_host
from ...server.settings import Settings
from ..process import procfs
from . import advice, evidence, probe
from .advice import counted, shown, since
from .finding import OK, WARNING, WRONG, Finding
from .of_nodes import of_nodes
from .probe import ANSWERS, LOOPBACKS, REFUSED, Answer, Found, Place
from .sight import Sight

#: So many descriptors of C's epmd are not nodes'.
_C_OWN = 7
#: Ours keeps this many back, and one more for each address beyond two. Source: server/mapper.py.
_OUR_OWN = 24
#: So many epmds at other ports are told one by one.
_MOST_OTHERS = 3
#: From which part of the places on there is a warning.
_NEARLY = 0.9
#: A network with a shorter prefix than the largest private ones is everybody.
_LEAST_PREFIX = {4: 8, 6: 7}


def findings(sight: Sight, accepted: Iterable[str] = ()) -> list[Finding]:
    """Apply all rules to the collected data. A warning whose code is `accepted` does not count."""
    rules = (_epmd, _process, _limits, _units, _others, _listens_at, _resolves, of_nodes, _exposure)
    found = [finding for rule in rules for finding in rule(sight)]
    accepted = frozenset(accepted)
    return [
        finding._replace(state=OK, accepted=True)
        if finding.state == WARNING and finding.code in accepted
        else finding
        for finding in found
    ]


def status(found: list[Finding]) -> int:
    """Return the exit status: 1 if a finding is WRONG, else 0. A WARNING does not count."""
    return int(any(finding.state == WRONG for finding in found))


# --- The epmd and its process ---


def is_forwarded(sight: Sight) -> bool:
    """Return whether what answers as an epmd is that of another host, container or network namespace.

    It lists its nodes, but refuses DUMP, which it gives to everybody who may register.
    """
    if not sight.served() or sight.dump != probe.CLOSED or sight.listeners is None:
        return False
    return all(process.kind == procfs.OTHER for process in sight.processes_at(sight.served()[0]))


def _epmd(sight: Sight) -> Iterator[Finding]:
    finding = partial(Finding, "epmd", f"port {sight.port}")
    listing = sight.listing()
    if listing:
        nodes = len(listing.nodes) + listing.more
        registered = f"{counted(nodes, 'node')} {'is' if nodes == 1 else 'are'} registered"
        if is_forwarded(sight):
            yield finding(WARNING, "forwarder", *_forwarded(sight, registered))
        else:
            yield finding(OK, ANSWERS, f"an epmd answers, {registered}")
    elif (at := _worst(sight)) is not None:
        code, reason, *_ = sight.answers[at]
        same = [shown(place) for place, met in sight.answers.items() if met.code == code and sight.has(place)]
        seen = f"no epmd answers at {_some(same)}: {reason}"
        yield finding(WRONG, code, seen, advice.no_epmd(sight, at, code))


def _some(hosts: list[str]) -> str:
    return ", ".join(hosts[:8]) + (f" and {len(hosts) - 8} more" if len(hosts) > 8 else "")


def _forwarded(sight: Sight, registered: str) -> tuple[str, str]:
    """Return what is seen of an epmd that `is_forwarded`, and what to do about it."""
    at = sight.served()[0]
    there = [process for process in sight.processes_at(at) if process.pid != 1]
    known = [process for process in there if evidence.is_forwarder(process.path)]
    if not known and sight.listeners_at(at):
        why = "it does not take this host for its own, as one behind a forwarder does"
        seen = f"an epmd answers, {registered}; {why}: nodes of this host may not be able to register"
        return seen, "If a node ends with epmd_close, start it with another ERL_EPMD_PORT."
    through = "the kernel: no process of this host listens at the port"
    if known:
        through = f"process {known[0].pid} ({known[0].path})"
    seen = (
        f"the epmd of another host, container or network namespace answers, through {through}; {registered}."
        " No node of this host can register there"
    )
    to_do = (
        "Start no node on this host, or start it with another ERL_EPMD_PORT. To free the port, end the"
        " forwarding where it was set up, such as the published port of a container."
    )
    return seen, to_do


def _worst(sight: Sight) -> Place | None:
    """Return the address whose answer explains best why no epmd answers."""
    met = [at for at in sight.answers if sight.has(at)]
    # Only a firewall keeps packets from an address of this host.
    blocked = () if sight.host else (probe.TIMEOUT,)
    for code in (probe.STRANGER, probe.MUTE, probe.CLOSED, *blocked, REFUSED):
        for at in met:
            if sight.answers[at].code == code:
                return at
    return met[0] if met else None


def _process(sight: Sight) -> Iterator[Finding]:
    listening = [process for process in sight.processes if process.pid != 1] or list(sight.processes)
    for process in listening:
        yield from _of_process(sight, process)
    epmds = [process for process in listening if process.kind != procfs.OTHER]
    if any(one.sockets.isdisjoint(other.sockets) for one in epmds for other in epmds):
        seen = "several epmds listen at this port, on different addresses"
        keep = "nodes register with the one on loopback, but other hosts may ask the other one"
        yield Finding("process", f"port {sight.port}", WARNING, "several", seen, f"Keep only one: {keep}.")
    if not listening and sight.listeners:
        yield _hidden(sight)
    for one in () if sight.served() else sight.apart[:_MOST_OTHERS]:
        seen = f"is an epmd in another network namespace: user {one.user}, {' '.join(one.line)}"
        to_do = (
            f"To examine it, run `nsenter -t {one.pid} -n epmd -check` as root. It does not serve this host."
        )
        yield Finding("process", f"process {one.pid}", WARNING, "other_network", seen, to_do)
    if sight.erl and epmds and epmds[0].kind == procfs.OURS and sight.erl.kind == procfs.C:
        yield Finding("process", "erl", OK, "erl", f"would start C's epmd of {sight.erl.version}")


def _of_process(sight: Sight, process: procfs.Process) -> Iterator[Finding]:
    finding = partial(Finding, "process", f"process {process.pid}")
    answers = any(process in sight.processes_at(at) for at in sight.served())
    start = "start time unknown" if process.since is None else since(process.since)
    seen = f"{_program_of(process, answers=answers)}, user {process.user}, {start}"
    if process.kind != procfs.OTHER:
        options = " ".join(options_of(process))
        variables = " ".join(f"{name}={value}" for name, value in process.environ.items())
        seen += f", options {options}" * bool(options) + f", {variables}" * bool(variables)
    if process.is_stopped():
        yield finding(WRONG, "stopped", f"is stopped: {seen}", advice.resume(process))
    elif process.kind == procfs.OTHER and not answers:
        state = WARNING if sight.served() else WRONG
        at = next((at for at in sight.answers if process in sight.processes_at(at)), None)
        yield finding(state, "other", seen, advice.stranger(sight, at))
    else:
        yield finding(OK, process.kind.lower(), seen)
    if process.kind != procfs.OTHER and (reason := _is_due(sight, process)):
        if_so = "If nodes are started by that erl: " if reason.startswith("erl ") else ""
        yield finding(WARNING, "outdated", reason, if_so + advice.restart(sight))


def _program_of(process: procfs.Process, *, answers: bool) -> str:
    """Return which program a process runs, and its path, as text."""
    path = process.path or "unknown path"
    if process.kind == procfs.OURS:
        return f"gevent-epmd {process.version}, {path}"
    if process.kind == procfs.C:
        return f"C's epmd{' of ' + process.version if process.version else ''}, {path}"
    return f"{path}, {'another program that answers like an epmd' if answers else 'not an epmd'}"


def options_of(process: procfs.Process) -> list[str]:
    """Return the words after the program's name in the command line of an epmd."""
    line = list(process.line)
    first = next((at for at, word in enumerate(line) if at and word.startswith("-")), len(line))
    if line and line[0].rpartition("/")[2].startswith("python"):
        names = [word.rpartition("/")[2] for word in line[:5]]
        first = next((at + 1 for at, name in enumerate(names) if name in procfs.NAMES_FOR_PYTHON), first)
    return line[first:]


def _is_due(sight: Sight, process: procfs.Process) -> str:
    """Return why another program should take the place of an epmd that runs, or ""."""
    if process.is_deleted:
        return f"runs a program file that was removed or replaced after its start: {process.path}"
    if process.kind == procfs.OURS and _numbers(process.version) < _numbers(__version__):
        return f"runs version {process.version}, which is older than this program, {__version__}"
    erl = sight.erl
    if erl is None or erl.kind == procfs.OTHER or process not in sight.processes_at(LOOPBACKS[0]):
        return ""
    is_same = erl.kind == process.kind and (not process.version or erl.version == process.version)
    if is_same or (erl.kind, process.kind) == (procfs.C, procfs.OURS):
        return ""
    name = f"gevent-epmd {erl.version}" if erl.kind == procfs.OURS else f"C's epmd of {erl.version}"
    return f"erl would start another one since it was upgraded or linked: {name}, {erl.path}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split("+")[0].split(".") if part.isdecimal()]


def _hidden(sight: Sight) -> Finding:
    users = " and ".join(sorted({sight.users.get(s.uid, str(s.uid)) for s in sight.listeners or ()}))
    seen = f"user {users} opened its socket, and this user may not see which process has it"
    if sight.suspects:
        names = [f"process {one.pid} of user {one.user}: {' '.join(one.line)}" for one in sight.suspects[:3]]
        seen += f"; perhaps {', '.join(names)}"
    if len(sight.suspects) == 1 and sight.suspects[0].is_stopped() and not sight.served():
        one = sight.suspects[0]
        seen = f"is stopped: {seen}"
        return Finding("process", f"process {one.pid}", WRONG, "stopped", seen, advice.resume(one))
    to_do = "To see which program it is, run `epmd -check` as root, outside of a container."
    return Finding("process", f"port {sight.port}", OK, "hidden", seen, to_do)


def limits_of(sight: Sight) -> dict[str, int | None]:
    """Return the open files and the nodes of the epmd, and how many it may have, each None if unknown."""
    process = sight.epmd()
    listing = sight.listing()
    nodes = len(listing.nodes) + listing.more if listing else None
    used, limit = process.descriptors[0], process.most_descriptors()
    most = None
    if limit is not None and process.kind == procfs.C:
        most = max(limit - _C_OWN, 0)
    elif limit is not None and process.kind == procfs.OURS and limit >= 2 * _OUR_OWN:
        most = limit - _OUR_OWN - max(len(process.sockets) - 2, 0)
    return {"descriptors": used, "most_descriptors": limit, "nodes": nodes, "most_nodes": most}


def _limits(sight: Sight) -> Iterator[Finding]:
    process = sight.epmd()
    used, limit, nodes, most = limits_of(sight).values()
    if nodes is None or not limit or not most:
        return
    used = nodes + limit - most if used is None else used
    seen = f"uses {used:,} of {limit:,} descriptors, {counted(nodes, 'node')} of {most:,} possible ones"
    to_do = "Give it more descriptors: LimitNOFILE=65536 in its unit, or `ulimit -n`, and restart it."
    if process.kind == procfs.C:
        to_do = "End nodes that are not needed, or run gevent-epmd in its place: C's epmd refuses node 1,018."
    if nodes >= most or used >= limit:
        seen = f"is full, and refuses nodes: {seen}"
        yield Finding("limits", f"process {process.pid}", WRONG, "full", seen, to_do)
    elif max(nodes / most, used / limit) >= _NEARLY:
        yield Finding("limits", f"process {process.pid}", WARNING, "nearly_full", seen, to_do)


def _units(sight: Sight) -> Iterator[Finding]:
    """Yield findings about the units of systemd, if no epmd answers: they may be the reason."""
    for name, unit in sight.units.items():
        finding = partial(Finding, "unit", name)
        if unit.load == "masked":
            seen = "is masked: systemd does not start it"
            yield finding(WARNING, "masked", seen, advice.repair_units(sight))
        elif unit.active == "failed":
            seen = f"has failed ({unit.result or 'unknown reason'}): `journalctl -u {name}` says why"
            yield finding(WRONG, "failed", seen, advice.repair_units(sight))
        elif unit.active == "inactive" and name == "epmd.socket":
            yield finding(WARNING, "inactive", "is inactive", f"Run `systemctl start {name}`.")


def _others(sight: Sight) -> Iterator[Finding]:
    """Yield a finding about epmds at other ports: ERL_EPMD_PORT may differ between nodes and this shell."""
    if sight.served() and sight.others:
        ports = [f"{port} (process {one.pid} of {one.user})" for port, one in sight.others.items()]
        seen = f"an epmd listens there too: {_some(ports)}"
        yield Finding("port", f"port{'s' if len(ports) > 1 else ''} of others", OK, "other_port", seen)
        return
    for port, one in list(sight.others.items())[:_MOST_OTHERS]:
        seen = f"an epmd listens there: process {one.pid}, user {one.user}, {' '.join(one.line)}"
        to_do = f"If nodes use that one, set ERL_EPMD_PORT={port}; `epmd -port {port} -check` examines it."
        yield Finding("port", f"port {port}", WARNING, "other_port", seen, to_do)


# --- Addresses and names ---


def _listens_at(sight: Sight) -> Iterator[Finding]:
    """Yield a finding for each address of this host, or of the other host.

    If no epmd answers anywhere, the finding about the port covers most addresses: those with the worst
    answer, and those that refuse connections. They get no finding of their own here.
    """
    served = sight.served()
    worst = None if served else _worst(sight)
    covered = () if worst is None else (sight.answers[worst].code, REFUSED)
    for place, answer in sight.answers.items():
        if answer.code in covered or not sight.has(place):
            continue
        if answer.code == ANSWERS:
            yield Finding("address", shown(place), OK, ANSWERS, "an epmd answers")
        elif answer.code == REFUSED and not sight.host:
            yield _refused_here(sight, place)
        elif sight.host or not _is_absent(place, answer):
            taken = any(place == found.first for found in sight.names.values())
            state = WARNING if sight.host and served and not taken else WRONG
            to_do = advice.no_epmd(sight, place, answer.code)
            if not sight.host and answer.code == probe.UNREACHABLE:
                to_do = "Check the routes and the firewall of this host."
            yield Finding("address", shown(place), state, answer.code, answer.reason, to_do)
    yield from _not_asked(sight)


def _not_asked(sight: Sight) -> Iterator[Finding]:
    for place in sight.firsts():
        if place in sight.late:
            to_do = "Run the check again, when fewer other addresses are silent."
            yield Finding("address", shown(place), WARNING, "late", "was not asked: the time was up", to_do)
    others = [shown(place) for place in sight.late if place not in sight.firsts()]
    if others:
        number = f"{len(others):,} address{'es' if len(others) > 1 else ''}"
        yield Finding("address", number, OK, "late", f"not asked: {_some(others)}")


def _is_absent(place: Place, answer: Answer) -> bool:
    """Return whether this is a loopback address that this host does not have."""
    return answer.code == probe.ABSENT or (place in LOOPBACKS and answer.code == probe.UNREACHABLE)


def _refused_here(sight: Sight, place: Place) -> Finding:
    finding = partial(Finding, "address", shown(place))
    seen = "nothing listens here"
    if place not in LOOPBACKS:
        return finding(OK, REFUSED, seen)
    how = advice.listen_at(sight, place)
    if place == LOOPBACKS[0]:
        to_do = f"Make the epmd listen on 127.0.0.1 too, because nodes register there. {how}"
        return finding(WRONG, REFUSED, seen, to_do)
    to_do = "If nodes use -proto_dist inet6_tcp, make the epmd listen on ::1 too, where they register."
    return finding(WARNING, REFUSED, seen, f"{to_do} {how}" if advice.is_activated(sight) else to_do)


def _resolves(sight: Sight) -> Iterator[Finding]:
    for name, found in sight.names.items():
        if is_address(name) and not sight.host:
            seen = "is the host's name, and an IP address: nodes with -sname get the name of its first part"
            to_do = "Give the host a name with `hostnamectl set-hostname NAME`, or start nodes with -name "
            yield Finding("name", name, WARNING, "ip_address", seen, f"{to_do}NODE@ADDRESS.")
        elif found.first is None:
            yield _unresolved(sight, name, found.problem)
        elif sight.host:
            yield Finding("name", name, OK, "found", f"resolves to {_all_of(found)}")
        else:
            yield _resolves_here(sight, name, found, found.first)
    if sight.late_names:
        left = counted(sight.late_names, "name")
        seen = f"a look-up of a name gives new names, again and again: {left} left out"
        to_do = "Correct the DNS: the canonical name of a host has no other canonical name."
        yield Finding("name", "canonical names", WARNING, "late", seen, to_do)


def _unresolved(sight: Sight, name: str, problem: str) -> Finding:
    finding = partial(Finding, "name", name)
    seen = f"cannot be found: {problem}"
    if sight.host:
        to_do = f"Correct the name, or add it to /etc/hosts or to the DNS: nodes at {name} cannot be reached."
        if not _is_host_name(name):
            to_do = "Give -host a host name or an IP address, without brackets, port and node name."
        return finding(WRONG, "nxdomain", seen, to_do)
    if not _is_host_name(name):
        to_do = "Give the host a valid name, and add `127.0.1.1 NAME` to /etc/hosts: nodes need one."
        return finding(WARNING, "nxdomain", f"{seen}, and is not a valid host name", to_do)
    # inet:gethostbyname_self
    to_do = f"Add `127.0.1.1 {name}` to /etc/hosts: programs that resolve the name cannot reach its nodes."
    return finding(WARNING, "nxdomain", f"{seen}; Erlang uses 127.0.0.1 instead", to_do)


def _is_host_name(name: str) -> bool:
    """Return whether a name has only characters of host names, or of the Unicode names for the DNS."""
    return name.isprintable() and not set(name) & set(" []()@:%/\\\"'") and name.strip(".") != ""


def _all_of(found: Found) -> str:
    more = f" and {found.more} more" if found.more else ""
    return ", ".join(shown(place) for place in found.places) + more


def _resolves_here(sight: Sight, name: str, found: Found, first: Place) -> Finding:
    seen = f"resolves to {_all_of(found)}"
    answer = sight.answers.get(first)
    if answer is not None and answer.code != ANSWERS and sight.served():
        looked = f"{shown(first)}, where nodes look for this host's nodes"
        seen += f"; no epmd answers at {looked}: {answer.reason}"
        to_do = advice.no_epmd(sight, first, answer.code)
        if first not in sight.own:
            to_do = f"Correct /etc/hosts or the DNS: {first.host} is not an address of this host."
        elif answer.code == REFUSED:
            how = f"{advice.listen_at(sight, first)} Or give {name} another address in /etc/hosts."
            to_do = f"Make the epmd listen on {first.host} too. {how}"
        return Finding("name", name, WRONG, answer.code, seen, to_do)
    if first not in sight.own:
        unless = "unless another machine forwards this address to this host"
        to_do = f"Correct /etc/hosts or the DNS, such as `127.0.1.1 {name}` in /etc/hosts, {unless}."
        seen += f"; {shown(first)} is not an address of this host"
        return Finding("name", name, WARNING, "foreign", seen, to_do)
    if first.family != _socket.AF_INET:
        to_do = "Start nodes with -proto_dist inet6_tcp, or give the name an IPv4 address."
        return Finding("name", name, WARNING, "ipv6", f"{seen}, and no IPv4 address", to_do)
    return Finding("name", name, OK, "found", f"{seen}; an epmd answers there" if sight.served() else seen)


# --- Who may do what ---


def _exposure(sight: Sight) -> Iterator[Finding]:
    """Yield findings about who can reach this host's epmd and who can control it."""
    if not sight.served():
        return
    if sight.host:
        seen = "may ask for the names and ports of all nodes"
        yield Finding("exposure", "this host", OK, "asked", seen)
        return
    process = sight.epmd()
    settings = process.options.settings if process.options else Settings()
    beyond = beyond_loopback(sight)
    if not beyond:
        seen = "cannot reach the epmd: it listens on loopback only"
        yield Finding("exposure", "other hosts", OK, "loopback", seen)
    else:
        # C's epmd does not know these options, but their variables may be in its environment.
        ours = process.kind == procfs.OURS
        register = settings.allow_register if ours else ()
        allow = (*settings.allow, *register) if ours and settings.allow is not None else None
        yield _reachable(sight, " and ".join(beyond), allow)
        if register:
            networks = ", ".join(map(str, register))
            seen = f"may register, and take names that other nodes need, if they are in {networks}"
            where = "networks in which you control every host and container"
            to_do = f"Limit -allow_register to {where}, then use `epmd -check -accept register`."
            yield Finding("exposure", "nodes on other hosts", WARNING, "register", seen, to_do)
    if settings.relaxed:
        seen = "may shut down the epmd and unregister any node, because of -relaxed_command_check"
        to_do = "Start the epmd without -relaxed_command_check and ERL_EPMD_RELAXED_COMMAND_CHECK."
        yield Finding("exposure", "every user of this host", WARNING, "relaxed", seen, to_do)


def _reachable(sight: Sight, where: str, allow: tuple[Network, ...] | None) -> Finding:
    networks = ", ".join(map(str, allow or ()))
    if allow is not None and not any(network.prefixlen < _LEAST_PREFIX[network.version] for network in allow):
        rule = f"may ask if they are in {networks}" if networks else "may not ask: -allow lists no network"
        return Finding("exposure", "other hosts", OK, "allow", f"{rule}; the epmd listens on {where}")
    seen = f"may ask for the names and ports of all nodes: the epmd listens on {where}"
    if allow is not None:
        seen += f", and its -allow names everybody ({networks})"
    ours = [process for process in sight.processes if process.kind == procfs.OURS]
    if any(process.options is None or not process.knows_environ for process in ours):
        seen += " (unless its ERL_EPMD_ALLOW, which cannot be read, excludes them)"
    elif not sight.processes:
        seen += " (unless its -allow, which cannot be read, excludes them)"
    return Finding("exposure", "other hosts", WARNING, "open", seen, advice.close_to_others(sight))


def beyond_loopback(sight: Sight) -> list[str]:
    """Return the addresses on which the epmd listens and that other hosts can reach."""
    if sight.listeners is not None:
        strangers = _sockets_of_strangers(sight)
        hosts = [plain_host(sock.host) for sock in sight.listeners if sock.inode not in strangers]
    else:
        hosts = [place.host for place in sight.served()]
    beyond = sorted({host for host in hosts if host != "::1" and not host.startswith("127.")})
    return ["all addresses"] if any(host in procfs.ANY for host in beyond) else beyond


def _sockets_of_strangers(sight: Sight) -> set[int]:
    """Return the listening sockets at the port that are not an epmd's, as far as that is known."""
    served = {sock.inode for at in sight.served() for sock in sight.listeners_at(at)}
    asked = {sock.inode for at in sight.answers for sock in sight.listeners_at(at)}
    held = {inode for process in sight.processes if process.kind == procfs.OTHER for inode in process.sockets}
    return (asked | held) - served
