"""`epmd -check`, what /proc and the file system show: who holds the registrations and the nodes' ports, which
other epmds run, and which one `erl` would start.

Invariant: nothing here uses the network. Whatever this user may not see is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise

from ..process import procfs
from .probe import is_own, place
from .sight import Installed, Node, Sight

#: Programs that forward connections: whoever is behind them is not at this end.
FORWARDERS = {
    *("docker-proxy", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "gvproxy", "kubectl"),
    *("ssh", "sshd", "sshd-session", "socat", "nc", "ncat", "redir", "rinetd", "xinetd", "frpc"),
    *("stunnel", "stunnel4", "haproxy", "nginx", "envoy", "traefik", "systemd-socket-proxyd"),
}
#: The options that give a node its name.
_NAMING = ("-name", "-sname", "--name", "--sname")
#: The most entries of /proc/net that are looked at for one question.
_MOST_INODES = 20_000


def gather(sight: Sight, table: Mapping[int, list[procfs.Listener]], descriptors: Mapping[str, int]) -> Sight:
    """Return the sight of this host with its processes, and who holds its nodes' registrations and ports.

    `table` has the listening sockets by port, and `descriptors` those of the nodes' connections in the epmd.
    """
    port, listening = sight.port, sight.listeners or []
    connected = procfs.connections(port)
    ends = {(end.local, end.remote): end.inode for end in connected[:_MOST_INODES]}
    of_nodes = {node.port: {sock.inode for sock in table.get(node.port, ())} for node in sight.nodes}
    wanted = {sock.inode for sock in listening}.union(*of_nodes.values())
    wanted |= {end.inode for end in connected[:_MOST_INODES] if end.remote[1] == port}
    held = procfs.owners(wanted)
    processes = procfs.processes(listening, held)
    by_inode = {end.inode: end for end in connected}
    registered = {
        name: by_inode[inode]
        for process in processes
        for name, descriptor in descriptors.items()
        if (inode := procfs.socket_of(process.pid, descriptor)) in by_inode
    }
    # Each process and each host is looked at once.
    about, is_here = cache(procfs.about), cache(_is_here)

    def with_processes(node: Node) -> Node:
        pids = {pid for inode in of_nodes[node.port] for pid in held.get(inode, ())}
        node = node._replace(owners=tuple(map(about, sorted(pids))))
        if node.name not in registered:
            return node
        end = registered[node.name]
        holders = tuple(map(about, held.get(ends.get((end.remote, end.local), 0), ())))
        peer = "" if holders or is_here(end.remote[0]) else end.remote[0]
        return node._replace(holders=holders, peer=peer, is_here=not peer)

    pids = {process.pid for process in processes}
    epmds = [about(pid) for pid in procfs.named_epmd() if pid not in pids]
    clients = {end.remote[0] for end in connected if end.local[1] == port}
    # By their command lines, or else those that name no port.
    suspects = [one for one in epmds if _told(one) == port] or [one for one in epmds if not _told(one)]
    return sight._replace(
        processes=tuple(processes),
        users={uid: procfs.user_name(uid) for uid in {sock.uid for sock in listening}},
        nodes=tuple(map(with_processes, sight.nodes)),
        peers=tuple(sorted(host for host in clients if not is_here(host))),
        suspects=() if processes or not listening else tuple(suspects),
        others=_others(epmds, port, table),
        apart=tuple(one for one in epmds if _is_apart(one.pid, table)),
        erl=started_by_erl(),
    )


def _is_here(host: str) -> bool:
    return host.startswith("127.") or host == "::1" or is_own(place(host))


def _others(
    epmds: Iterable[procfs.Process], port: int, table: Mapping[int, list[procfs.Listener]]
) -> dict[int, procfs.Process]:
    """Return the epmds that listen at other ports. Where their sockets may not be seen, the command line
    tells the port."""
    ports = {sock.inode: number for number, listening in table.items() for sock in listening}
    found: dict[int, procfs.Process] = {}
    for one in epmds:
        sockets = procfs.sockets_of(one.pid)
        numbers = {ports[inode] for inode in sockets if inode in ports} if sockets else {_told(one)}
        found |= dict.fromkeys(numbers - {0, port}, one)
    return {number: found[number] for number in sorted(found) if number in table}


def _is_apart(pid: int, table: Mapping[int, list[procfs.Listener]]) -> bool:
    """Return whether a process is in another network namespace, and has no socket of this one: a unit of
    systemd with PrivateNetwork= is passed some."""
    network = procfs.network_of(pid)
    if network in ("", procfs.network_of(os.getpid())):
        return False
    here = {sock.inode for listening in table.values() for sock in listening}
    return here.isdisjoint(procfs.sockets_of(pid))


def _told(epmd: procfs.Process) -> int:
    """Return the port on the command line of a process, or 0."""
    port = value_of("-port", epmd)
    return int(port) if port.isdecimal() and len(port) <= 5 else 0


def value_of(option: str, process: procfs.Process) -> str:
    """Return the last value of an option on the command line of a process, or ""."""
    return ([""] + [value for word, value in pairwise(process.line) if word == option])[-1]


def started_by_erl() -> Installed | None:
    """Return the epmd that the `erl` on PATH would start, or None if there is none.

    `erl` is a shell script that sets ROOTDIR, or a link to that script in ROOTDIR/bin, and it starts
    erts-VERSION/bin/epmd of the version that start_erl.data names.
    """
    paths = [os.path.join(folder, "erl") for folder in os.get_exec_path()]
    erl = next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), "")
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


def name_of(process: procfs.Process) -> str:
    """Return the node name on the command line of a process, as -name or -sname gives it, or ""."""
    return next((value for word, value in pairwise(process.line) if word in _NAMING), "")


def is_forwarder(path: str) -> bool:
    """Return whether a program passes connections on to another host, container or port."""
    return os.path.basename(path) in FORWARDERS
