"""`epmd -check`, the remedies: what to do about the epmd of a Sight, which depends on how it was started.

Invariants: no I/O. A remedy is one line, and following it cures what it is about: a test follows it. No
remedy ends or stops a process of which nothing speaks against its being in order, and none ends process 1.
"""

from __future__ import annotations

import shlex
import time

from ...conventions import LOOPBACK
from ...server.networks import plain_host
from ..process import procfs
from . import evidence
from .probe import ABSENT, CLOSED, LOOPBACKS, MUTE, STRANGER, TIMEOUT, UNREACHABLE, Place, place
from .sight import Sight

_AGAIN = "nodes since OTP 23.3 register again"
#: What to call then, because the check sees no firewall.
_ACCEPT = "`epmd -check -accept open`"


def counted(number: int, what: str) -> str:
    """Return the number with its noun in the singular or plural."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shown(place: Place) -> str:
    """Return an address as text."""
    return f"{place.host}%{place.scope}" if place.scope else place.host


def at_port(place: Place, port: int) -> str:
    """Return an address and a port as text."""
    return f"[{shown(place)}]:{port}" if ":" in place.host else f"{place.host}:{port}"


def since(start: float) -> str:
    """Return a start time as text."""
    return f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(start))}"


def is_activated(sight: Sight) -> bool:
    """Return whether the epmd serves the sockets of systemd, which decides where it listens."""
    process = sight.epmd()
    epmds = [process] if process.pid else sight.suspects
    return len(epmds) == 1 and "-systemd" in epmds[0].line


def restart(sight: Sight) -> str:
    """Return how to restart the epmd."""
    if is_activated(sight):
        return f"Run `epmd -takeover` as root, or else `systemctl restart {_service(sight)}`; {_AGAIN}."
    return f"Run `epmd -takeover -daemon` with its options, or end it and start it again; {_AGAIN}."


def resume(process: procfs.Process) -> str:
    """Return how to continue a process that is stopped."""
    return f"Continue the process: kill -CONT {process.pid}"


def no_epmd(sight: Sight, at: Place, code: str) -> str:
    """Return what to do about an address at which no epmd answers, but what has this code."""
    there = sight.processes_at(at)
    are_others = bool(there) and all(process.kind == procfs.OTHER for process in there)
    if code == STRANGER or (code in (MUTE, CLOSED) and are_others):
        return stranger(sight, at)
    if code == MUTE:
        return _mute(sight, there)
    if code == CLOSED:
        if any(process.kind == procfs.OURS for process in there):
            return "Add this address to its -allow or ERL_EPMD_ALLOW."
        return "If it is an epmd with -allow, add this host. If not, set ERL_EPMD_PORT to another port."
    if code == TIMEOUT:
        if sight.host:
            return "Open this TCP port in the firewall between the hosts, and check that the host is up."
        where = "on the interface lo, where also packets to its own addresses go"
        return f"Let this host's firewall accept everything {where}."
    return _nobody(sight)


def _nobody(sight: Sight) -> str:
    """Return what to do if nothing listens at the port."""
    if sight.host:
        reason = "no epmd is running there, or it listens on other addresses"
        return f"Run `epmd -check` on {sight.host}: {reason} (-loopback, -address, ERL_EPMD_ADDRESS)."
    start = "systemctl start epmd.socket" if "epmd.socket" in sight.units else "epmd -daemon"
    if sight.others:
        port = next(iter(sight.others))
        there = f"set ERL_EPMD_PORT={port} here, or unset it where they start: all must use one port"
        return f"If nodes use the epmd at port {port}, {there}. If not, start a node, or run `{start}`."
    if repair := repair_units(sight):
        return repair
    return f"Start a node, or run `{start}`. If nodes are running, check their ERL_EPMD_PORT."


def _service(sight: Sight) -> str:
    """Return the service unit of the epmd, as a shell takes it: releases and some distributions name it
    otherwise, such as epmd@0.0.0.0.service."""
    return shlex.quote(sight.epmd().unit or "epmd.service")


def repair_units(sight: Sight) -> str:
    """Return how to repair the units of systemd, or "" if they are neither masked nor failed.

    A service that has failed too often stays so until it is reset, whatever the socket's state is.
    """
    masked = [name for name, unit in sight.units.items() if unit.load == "masked"]
    failed = [name for name, unit in sight.units.items() if unit.active == "failed"]
    steps = [f"systemctl unmask {' '.join(masked)}"] * bool(masked)
    steps += [f"systemctl reset-failed {' '.join(failed)}"] * bool(failed)
    return f"Run `{' && '.join([*steps, 'systemctl start epmd.socket'])}`." if steps else ""


def stranger(sight: Sight, at: Place | None) -> str:
    """Return what to do about a program that has the port and is not an epmd."""
    there = [process for process in sight.processes_at(at) if process.kind == procfs.OTHER] if at else []
    other = "set ERL_EPMD_PORT to another port for the epmd and for all nodes"
    if sight.host:
        return f"Run `epmd -port {sight.port} -check` on {sight.host}: it names that program. Or {other}."
    for process in there:
        if process.pid != 1:
            return f"End process {process.pid} ({process.path or 'unknown path'}), or {other}."
    if there:
        systemd = "if it is systemd, `systemctl list-sockets` names the unit"
        return f"Process 1 has the port: {systemd}. Or {other}."
    return f"End that program, or {other}."


def _mute(sight: Sight, there: list[procfs.Process]) -> str:
    """Return what to do about an epmd that accepts connections and does not answer."""
    if sight.host:
        why = "its epmd is stopped, busy or hangs, or a proxy accepts connections for it"
        return f"Run `epmd -check` on {sight.host}: {why}."
    known = [*there, *(sight.suspects if len(sight.suspects) == 1 else ())]
    if not known:
        return "Run `epmd -check` as root, which tells whether the process is stopped, busy, or not an epmd."
    for process in known:
        if process.is_stopped():
            return resume(process)
    for process in known:
        if delays := [word for word in process.line if word in ("-delay_accept", "-delay_write")]:
            return f"Start the epmd without {' and '.join(delays)}, which simulate a busy server."
    whose = f"process {known[0].pid} is not stopped, so it is busy or hangs"
    return f"Run the check again: {whose}. If it stays so, restart it; {_AGAIN}."


def listen_at(sight: Sight, at: Place) -> str:
    """Return how to make the epmd listen on one more address of this host."""
    if is_activated(sight):
        return _sockets(sight, [*_listens_on(sight), at])
    process = sight.epmd()
    line, environ = process.line, process.environ
    if process.kind == procfs.OURS:
        if at.host == "127.0.1.1":
            return "Restart it with -loopback in place of -address, which listens on 127.0.1.1 too."
        if "-loopback" in line or "ERL_EPMD_LOOPBACK" in environ:
            where = "-loopback" if "-loopback" in line else "ERL_EPMD_LOOPBACK"
            return f"Restart it without {where}, and with -address {at.host}."
    told = evidence.value_of("-address", process) or environ.get("ERL_EPMD_ADDRESS", "")
    # Loopback is implied, and some versions of C's epmd fail if it is named, too.
    kept = [host for host in told.replace(",", " ").split() if host not in LOOPBACK]
    addresses = ",".join([*kept, at.host])
    if "-address" in line:
        return f"Restart it with -address {addresses}."
    hint = ", or this program with -loopback" if at.host == "127.0.1.1" and not process.kind else ""
    return f"Restart it with ERL_EPMD_ADDRESS={addresses}{hint}."


def _listens_on(sight: Sight) -> list[Place]:
    """Return the addresses of the epmd's sockets, as far as that is known."""
    held, listening = sight.epmd().sockets, sight.listeners or ()
    return [place(plain_host(sock.host)) for sock in listening if not held or sock.inode in held]


def _sockets(sight: Sight, places: list[Place]) -> str:
    """Return a command that makes the socket unit listen at these addresses, and at no others.

    All are named, and the first line removes those of the unit and of other drop-ins: each command replaces
    what an earlier one has written. A socket unit that is active refuses a new start while its service runs.
    """
    service = _service(sight)
    unit = service.replace(".service", ".socket")
    lines = [f"ListenStream={at_port(at, sight.port)}" for at in dict.fromkeys(places)]
    again = f"systemctl stop {service} {unit} && systemctl start {unit}"
    return _drop_in(unit, ["[Socket]", "ListenStream=", *lines], again)


def _drop_in(unit: str, lines: list[str], again: str) -> str:
    """Return a command that adds lines to a unit, ready to copy. Its file has the last word of most."""
    folder = f"/etc/systemd/system/{unit}.d"
    text = "\\n".join(lines)
    write = f"mkdir -p {folder} && printf '{text}\\n' >{folder}/zz-epmd-check.conf"
    return f"As root: `{write} && systemctl daemon-reload && {again}`; {_AGAIN}."


def close_to_others(sight: Sight) -> str:
    """Return how to keep other hosts from asking the epmd."""
    cluster = "In a cluster, admit only its hosts"
    by_firewall = f"{cluster} by a firewall instead, then use {_ACCEPT}."
    process = sight.epmd()
    if evidence.is_forwarder(process.path):
        published = f"`docker run -p 127.0.0.1:{sight.port}:{sight.port}`"
        only = f"Let the forwarder listen on 127.0.0.1 only, as with {published}"
        return f"{only}. {cluster} by a firewall, then use {_ACCEPT}."
    beyond = [at.host for at in sight.firsts() if at in sight.own and not _is_loopback(at)]
    if process.kind == procfs.OURS:
        if is_activated(sight):
            return f"{_allow(sight)} {cluster}: list their networks there."
        way = "" if beyond else "-loopback, or "
        return f"Restart it with {way}-allow 127.0.0.0/8. {cluster}: -allow and their networks."
    if beyond:
        name = next(name for name, found in sight.names.items() if found.first and found.first.host in beyond)
        return (
            f"Let a firewall close TCP port {sight.port} to other hosts ({cluster[0].lower()}{cluster[1:]}),"
            f" then use {_ACCEPT}. Loopback alone is not enough: nodes find each other at {beyond[0]}, unless"
            f" /etc/hosts gives {name} the address 127.0.1.1."
        )
    debian = ["127.0.1.1"] if any(at.host == "127.0.1.1" for at in sight.firsts()) else []
    if is_activated(sight):
        hosts = ["127.0.0.1", *debian]
        v6 = sight.answers.get(LOOPBACKS[1])
        if v6 is not None and v6.code not in (ABSENT, UNREACHABLE):
            hosts.append("::1")
        return f"{_sockets(sight, [place(host) for host in hosts])} {by_firewall}"
    use = f"ERL_EPMD_ADDRESS={','.join(debian or ['127.0.0.1'])}"
    if process.kind == procfs.C:
        return f"Restart it with {use}. {by_firewall}"
    return (
        f"Use -loopback, -allow or a firewall; with C's epmd, use {use} or a firewall. If systemd opens the"
        f" socket, change ListenStream in epmd.socket. {cluster}. With a firewall, use {_ACCEPT}."
    )


def _allow(sight: Sight) -> str:
    """Return how to set the -allow of ours under a socket unit: where it is set already, if it is."""
    process = sight.epmd()
    line, environ = process.line, process.environ
    service, value = _service(sight), "127.0.0.0/8"
    if "-allow" in line:
        where = f"ExecStart of {service} (`systemctl edit --full {service}`)"
        return f"Set -allow {value} in {where}, and restart it; {_AGAIN}."
    if path := evidence.value_of("-allow_file", process) or environ.get("ERL_EPMD_ALLOW_FILE", ""):
        return f"Set ERL_EPMD_ALLOW={value} in {path}, and run `systemctl kill --signal=HUP {service}`."
    if "ERL_EPMD_ALLOW" in environ:
        where = f"where {service} sets it, in a drop-in or an EnvironmentFile (`systemctl cat {service}`)"
        again = f"`systemctl daemon-reload && systemctl restart {service}`"
        return f"Set ERL_EPMD_ALLOW={value} {where}, and run {again}; {_AGAIN}."
    lines = ["[Service]", f"Environment=ERL_EPMD_ALLOW={value}"]
    return _drop_in(service, lines, f"systemctl restart {service}")


def _is_loopback(at: Place) -> bool:
    return at.host == "::1" or at.host.startswith("127.")


def end_holders(sight: Sight, holders: tuple[procfs.Process, ...]) -> str:
    """Return how to free the name of a node that is dead."""
    if not holders:
        command = f"`ss -tnp 'dport = {sight.port}'`"
        return f"Find out which process holds the registration: as root, `epmd -check`, or {command}."
    if any(holder.pid == 1 for holder in holders):
        then = "restart what passed it the connection"
        return f"Process 1 holds the registration, and must not be ended: {then}."
    first, *others = holders
    process = sight.epmd()
    if process.kind == procfs.OTHER and not evidence.is_forwarder(process.path):
        return (
            f"Check process {process.pid} ({process.path}) first: it is not an epmd, and what it lists may be"
            f" false. It says that process {first.pid} holds the registration: {first.path}"
        )
    what = "".join(f" and process {holder.pid}" for holder in others)
    return f"End process {first.pid}{what}, which hold{'' if others else 's'} the registration: {first.path}"
