"""`epmd -check`, what it has seen: plain data, which `look` and `evidence` gather and `findings` judges."""

from __future__ import annotations

import _socket
from typing import NamedTuple

from ...server.networks import plain_host
from ..process import procfs
from .probe import ANSWERS, Answer, Found, Place
from .units import Unit


class Node(NamedTuple):
    """A registered node, and what its port did at the addresses where other nodes look for it.

    `met` has these addresses in the order in which they were tried, which ends with the first that accepts.
    It is empty if the time limit for all nodes expired first.

    `told` is the port that the epmd gives in reply to a look-up of the node. It is None if the epmd has no
    such node, and -1 if the look-up was not made or failed. `problem` is then the reason, if there is one.
    `highest` is the highest distribution version that the node supports, or 0 if it is unknown.

    `peer` is the address of the other host from which it registered, and `is_here` is True if it certainly
    registered from this one. `holders` are the processes of this host that hold its registration, and
    `owners` are those that listen at its port. All are empty if unknown.
    """

    name: str
    port: int
    met: tuple[tuple[Place, Answer], ...] = ()
    told: int | None = -1
    problem: str = ""
    holders: tuple[procfs.Process, ...] = ()
    peer: str = ""
    is_here: bool = False
    owners: tuple[procfs.Process, ...] = ()
    highest: int = 0

    def accepts(self) -> bool:
        """Return whether the node's port accepted a connection."""
        return bool(self.met) and self.met[-1][1].code == ANSWERS


class Installed(NamedTuple):
    """The epmd that `erl` would start: OURS, C or OTHER, its version, and its path without links."""

    kind: str
    version: str
    path: str


class Sight(NamedTuple):
    """All the data that the check collected.

    `host` is empty for this host. `names` has host names and what they resolve to. `own` has those of these
    addresses that belong to this host. `listeners` is None if /proc cannot be read, and for another host.
    `users` has the names of the users who own the listeners, by uid.

    `dump` is the code of the answer to DUMP, which an epmd gives only to whom may register, or "" if it was
    not asked. `peers` are the addresses of other hosts with a connection to the epmd. `suspects` are epmds by
    their command lines, if no process at the port may be examined; `others` are epmds at other ports, and
    `apart` those in other network namespaces.

    `erl` is the epmd that `erl` would start. `leads` has the address to which the host part of a node's
    own name leads, None if it is not found; `own` has those of this host. `late` are addresses that were not
    asked, and `late_names` counts names that nobody looked up.
    """

    host: str
    port: int
    names: dict[str, Found]
    answers: dict[Place, Answer]
    own: frozenset[Place] = frozenset()
    nodes: tuple[Node, ...] = ()
    listeners: list[procfs.Listener] | None = None
    processes: tuple[procfs.Process, ...] = ()
    users: dict[int, str] = {}  # noqa: RUF012 - never changed
    dump: str = ""
    peers: tuple[str, ...] = ()
    suspects: tuple[procfs.Process, ...] = ()
    others: dict[int, procfs.Process] = {}  # noqa: RUF012
    apart: tuple[procfs.Process, ...] = ()
    units: dict[str, Unit] = {}  # noqa: RUF012
    erl: Installed | None = None
    leads: dict[str, Place | None] = {}  # noqa: RUF012
    late: tuple[Place, ...] = ()
    late_names: int = 0

    def served(self) -> list[Place]:
        """Return the addresses at which the examined epmd answers."""
        return [at for at, answer in self.answers.items() if answer.code == ANSWERS and self.has(at)]

    def listing(self) -> Answer | None:
        """Return the answer with the list of nodes, or None if no epmd answers."""
        served = self.served()
        return self.answers[served[0]] if served else None

    def firsts(self) -> list[Place]:
        """Return the addresses to which nodes connect to reach the nodes of the examined host, by its
        names."""
        firsts = [found.first for found in self.names.values()]
        return list(dict.fromkeys(first for first in firsts if first))

    def has(self, place: Place) -> bool:
        """Return whether the examined host has this address.

        The host's own name may resolve to an address of another host.
        """
        named = any(place in found.places for found in self.names.values())
        return bool(self.host) or not named or place in self.own

    def listeners_at(self, at: Place) -> list[procfs.Listener]:
        """Return the listening sockets that connections to this address reach."""
        hosts = [at.host, *procfs.ANY] if at.family == _socket.AF_INET else [at.host, "::"]
        for host in hosts:
            if found := [sock for sock in self.listeners or () if plain_host(sock.host) == host]:
                return found
        return []

    def processes_at(self, at: Place) -> list[procfs.Process]:
        """Return the processes that hold the listening sockets which connections to this address reach."""
        inodes = {sock.inode for sock in self.listeners_at(at)}
        return [process for process in self.processes if process.sockets & inodes]

    def epmd(self) -> procfs.Process:
        """Return the process that serves the port: the one that answers, or else an epmd that listens. If
        none is known, its number is 0."""
        answering = [process for at in self.served() for process in self.processes_at(at)]
        epmds = [process for process in self.processes if process.kind != procfs.OTHER]
        # A socket of systemd's is held by process 1 too.
        found = [process for process in (*answering, *epmds) if process.pid != 1] or answering
        return found[0] if found else procfs.Process(0)
