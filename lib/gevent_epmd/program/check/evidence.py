"""`epmd -check`, what /proc and the file system show: who holds the registrations and the nodes' ports, which
other epmds run, and which one `erl` would start.

Invariant: nothing here uses the network. Whatever this user may not see is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from ..process import procfs
from .probe import is_own, place

#: Programs that forward connections: whoever is behind them is not at this end.
FORWARDERS = frozenset(
    (
        *("docker-proxy", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "gvproxy", "kubectl"),
        *("ssh", "sshd", "sshd-session", "socat", "nc", "ncat", "redir", "rinetd", "xinetd", "frpc"),
        *("stunnel", "stunnel4", "haproxy", "nginx", "envoy", "traefik", "systemd-socket-proxyd"),
    )
)
#: The options that give a node its name.
_NAMING = ("-name", "-sname", "--name", "--sname")
#: The most entries of /proc/net that are looked at for one question.
_MOST_INODES = 20_000


class Registration(NamedTuple):
    """Where a node registered from: `peer` is the address of another host, or empty for this one. `holders`
    are the processes of this host that hold the connection, as far as they may be seen."""

    peer: str = ""
    holders: tuple[procfs.Program, ...] = ()


class Installed(NamedTuple):
    """The epmd that `erl` would start: OURS, C or OTHER, its version, and its path without links."""

    kind: str
    version: str
    path: str


class Evidence(NamedTuple):
    """What was gathered.

    `processes` hold the listening sockets. `registrations` are by the nodes' names, `owners` by the ports of
    nodes. `peers` are the addresses of other hosts with a connection to the epmd. `suspects` are processes
    that are epmds by their command lines; `others` are epmds that listen at other ports, by port. `apart` are
    epmds in other network namespaces.
    """

    processes: tuple[procfs.Process, ...] = ()
    users: dict[int, str] = {}  # noqa: RUF012 - never changed
    registrations: dict[str, Registration] = {}  # noqa: RUF012
    owners: dict[int, tuple[procfs.Program, ...]] = {}  # noqa: RUF012
    peers: tuple[str, ...] = ()
    suspects: tuple[procfs.Program, ...] = ()
    others: dict[int, procfs.Program] = {}  # noqa: RUF012
    apart: tuple[procfs.Program, ...] = ()
    erl: Installed | None = None


def gather(
    port: int,
    table: Mapping[int, list[procfs.Listener]] | None,
    ports: Iterable[int],
    descriptors: Mapping[str, int],
) -> Evidence:
    """Look at the epmd of a port of this host, at its nodes' `ports`, and at the `descriptors` of the nodes'
    connections in the epmd."""
    table = table or {}
    listening = table.get(port, [])
    connected = procfs.connections(port)
    of_nodes = {number: [sock.inode for sock in table[number]] for number in ports if number in table}
    wanted = {sock.inode for sock in listening} | {inode for each in of_nodes.values() for inode in each}
    ends = {(end.local, end.remote): end.inode for end in connected[:_MOST_INODES]}
    wanted |= {end.inode for end in connected[:_MOST_INODES] if end.remote[1] == port}
    held = procfs.owners(wanted)
    seen = _Seen()
    pids = sorted({pid for sock in listening for pid in held.get(sock.inode, ())})
    processes = [
        procfs.process(pid, frozenset(sock.inode for sock in listening if pid in held.get(sock.inode, ())))
        for pid in pids
    ]
    epmds = [pid for pid in procfs.named_epmd() if pid not in pids]
    return Evidence(
        processes=tuple(processes),
        users={uid: procfs.user_name(uid) for uid in {sock.uid for sock in listening}},
        registrations={
            name: found
            for process in processes
            for name, found in _registrations(process.pid, descriptors, connected, ends, held, seen).items()
        },
        owners={
            number: tuple(seen.program(pid) for pid in sorted({p for i in inodes for p in held.get(i, ())}))
            for number, inodes in of_nodes.items()
        },
        peers=_foreign(end.remote[0] for end in connected if end.local[1] == port),
        suspects=() if processes or not listening else _suspects(epmds, port, seen),
        others=_others(epmds, port, table, seen),
        apart=tuple(seen.program(pid) for pid in epmds if _is_apart(pid, table)),
        erl=started_by_erl(),
    )


class _Seen:
    """Looks at each process once."""

    def __init__(self) -> None:
        self._programs: dict[int, procfs.Program] = {}

    def program(self, pid: int) -> procfs.Program:
        if pid not in self._programs:
            self._programs[pid] = procfs.about(pid)
        return self._programs[pid]


def _registrations(
    epmd: int,
    descriptors: Mapping[str, int],
    connected: list[procfs.Connection],
    ends: Mapping[tuple[tuple[str, int], tuple[str, int]], int],
    held: Mapping[int, list[int]],
    seen: _Seen,
) -> dict[str, Registration]:
    by_inode = {end.inode: end for end in connected}
    foreign: dict[str, bool] = {}
    found = {}
    for name, descriptor in descriptors.items():
        end = by_inode.get(procfs.socket_of(epmd, descriptor))
        if end is None:
            continue
        host = end.remote[0]
        if host not in foreign:
            foreign[host] = not _is_here(host)
        pids = held.get(ends.get((end.remote, end.local), 0), [])
        holders = tuple(map(seen.program, pids))
        found[name] = Registration(host if foreign[host] and not pids else "", holders)
    return found


def _foreign(hosts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(host for host in set(hosts) if not _is_here(host)))


def _is_here(host: str) -> bool:
    return host.startswith("127.") or host == "::1" or is_own(place(host))


def _others(
    pids: Iterable[int], port: int, table: Mapping[int, list[procfs.Listener]], seen: _Seen
) -> dict[int, procfs.Program]:
    """Return the epmds that listen at other ports. Where their sockets may not be seen, the command line
    tells the port."""
    ports = {sock.inode: number for number, listening in table.items() for sock in listening}
    found: dict[int, procfs.Program] = {}
    for pid in pids:
        sockets = procfs.sockets_of(pid)
        numbers = {ports[inode] for inode in sockets if inode in ports} if sockets else {_told(seen, pid)}
        found |= {number: seen.program(pid) for number in numbers if number not in (0, port)}
    return {number: program for number, program in sorted(found.items()) if number in table}


def _is_apart(pid: int, table: Mapping[int, list[procfs.Listener]]) -> bool:
    """Return whether a process is in another network namespace, and has no socket of this one: a unit of
    systemd with PrivateNetwork= is passed some."""
    network = procfs.network_of(pid)
    if network in ("", procfs.network_of(os.getpid())):
        return False
    here = {sock.inode for listening in table.values() for sock in listening}
    return here.isdisjoint(procfs.sockets_of(pid))


def _suspects(pids: Iterable[int], port: int, seen: _Seen) -> tuple[procfs.Program, ...]:
    """Return the epmds that may serve the port: by their command lines, or else those that name no port."""
    told = {pid: _told(seen, pid) for pid in pids}
    found = [pid for pid in told if told[pid] == port] or [pid for pid in told if told[pid] == 0]
    return tuple(map(seen.program, found))


def _told(seen: _Seen, pid: int) -> int:
    """Return the port on the command line of a process, or 0."""
    line = seen.program(pid).line
    values = [value for option, value in pairwise(line) if option == "-port"]
    return int(values[-1]) if values and values[-1].isdecimal() and len(values[-1]) <= 5 else 0


def started_by_erl() -> Installed | None:
    """Return the epmd that the `erl` on PATH would start, or None if there is none.

    `erl` is a shell script that sets ROOTDIR, or a link to that script in ROOTDIR/bin, and it starts
    erts-VERSION/bin/epmd of the version that start_erl.data names.
    """
    erl = which("erl")
    if not erl:
        return None
    root = os.path.dirname(os.path.dirname(os.path.realpath(erl)))
    path = os.path.realpath(f"{root}/erts-{_erts_of(root)}/bin/epmd")
    if not os.path.isfile(path):
        return None
    return Installed(*procfs.kind_of_file(path), path)


def _erts_of(root: str) -> str:
    try:
        with open(f"{root}/releases/start_erl.data", encoding="ascii", errors="replace") as file:
            return file.read(100).split()[0]
    except (OSError, IndexError):
        pass
    try:
        versions = [name[5:] for name in os.listdir(root) if name.startswith("erts-")]
    except OSError:
        return ""
    return versions[0] if len(versions) == 1 else ""


def which(name: str) -> str:
    """Return the path of a program on PATH, or ""."""
    paths = [os.path.join(folder, name) for folder in os.get_exec_path()]
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def name_of(program: procfs.Program) -> str:
    """Return the node name on the command line of a process, as -name or -sname gives it, or ""."""
    line = program.line
    return next((value for word, value in pairwise(line) if word in _NAMING), "")


def is_forwarder(path: str) -> bool:
    """Return whether a program passes connections on to another host, container or port."""
    return os.path.basename(path) in FORWARDERS
