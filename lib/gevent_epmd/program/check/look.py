"""`epmd -check`, the collection: examines an epmd, its nodes, and the host's names and addresses.

Returns plain data, a Sight, which `findings` judges. `probe` and `procfs` implement the single steps.

Invariants: neither a server nor the interactive calls that every start of a node makes import this module.
C's epmd has no counterpart.
"""

from __future__ import annotations

import _socket
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...client import exchange, queries
from ...client.answers import NamedPort
from ...conventions import LOOPBACK
from ..process import procfs
from . import probe
from .probe import ANSWERS, MUTE, REFUSED, Answer, Found, Place

#: Time limit for connecting to all nodes together, in seconds.
_FOR_NODES = 4.0
#: Time limit for all look-ups, for asking at all addresses, or for reading /proc, in seconds.
_FOR_A_ROUND = 3.0
#: Only this many addresses are asked, because some hosts have thousands.
_MOST_ADDRESSES = 32
#: C's epmd registers a name of this many bytes, but does not answer a look-up of it.
UNANSWERED_NAME = 255

LOOPBACKS = tuple(map(probe.place, LOOPBACK))

#: Is called with the number of completed steps and the total number of steps.
Tell = Callable[[int, int], object]


class Node(NamedTuple):
    """A registered node, and what its port did at the addresses where other nodes look for it.

    `met` has these addresses in the order in which they were tried. It is empty if the time limit for all
    nodes expired first.

    `told` is the port that the epmd gives in reply to a look-up of the node. It is None if the epmd has no
    such node, and -1 if the look-up was not made or failed. `problem` is then the reason, if there is one.

    `holder` is the process that holds the registration of a node that nobody can connect to: its process ID
    and the path of its program. It is None if it is unknown.
    """

    name: str
    port: int
    met: tuple[tuple[Place, Answer], ...] = ()
    told: int | None = -1
    problem: str = ""
    holder: tuple[int, str] | None = None

    def accepts(self) -> bool:
        """Return whether the node's port accepted a connection."""
        return bool(self.met) and self.met[-1][1].code == ANSWERS

    def is_long(self) -> bool:
        """Return whether the name is so long that C's epmd does not answer a look-up of it."""
        return len(exchange.encoded(self.name)) >= UNANSWERED_NAME


class Sight(NamedTuple):
    """All the data that the check collected.

    `host` is empty for this host. `names` has host names and what they resolve to. `own` has those of these
    addresses that belong to this host. `listeners` is None if /proc cannot be read, and for another host.
    `users` has the names of the users who own the listeners, by uid.
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

    def served(self) -> list[Place]:
        """Return the addresses at which the examined epmd answers."""
        return [at for at, answer in self.answers.items() if answer.code == ANSWERS and self.has(at)]

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


def look(host: str, port: int, tell: Tell) -> Sight:
    """Examine the epmd of this host if `host` is empty, else the epmd of another host as seen from here."""
    return look_at(host, port, tell) if host else look_here(port, tell)


def look_here(port: int, tell: Tell) -> Sight:
    """Examine this host: its addresses and names, the process of the epmd, and the nodes."""
    hosts = [*LOOPBACKS, *probe.own_places()]
    names = _own_names()
    answers: dict[Place, Answer] = {}
    found: dict[str, Found] = {}
    while names or hosts:
        _round(names, hosts, port, found, answers, tell)
        hosts = [place for name in found.values() for place in name.places if place not in answers]
        names = [name.canonical for name in found.values() if _is_new(name.canonical, found)]
    own = frozenset(place for name in found.values() for place in name.places if probe.is_own(place))
    sight = Sight("", port, found, answers, own)
    table = procfs.listeners()
    listening = None if table is None else table.get(port, [])
    held = probe.together([partial(_holders, listening or [])], _FOR_A_ROUND, _quiet)[0] or ((), {})
    nodes = _nodes(sight, partial(_places_of, sight, table), tell)
    return sight._replace(
        listeners=listening,
        processes=held[0],
        users=held[1],
        nodes=_with_holders(nodes, port, held[0]),
    )


def look_at(host: str, port: int, tell: Tell) -> Sight:
    """Examine another host, as seen from here."""
    found: dict[str, Found] = {}
    answers: dict[Place, Answer] = {}
    _round([host], [], port, found, answers, tell)
    _round([], list(found[host].places), port, found, answers, tell)
    sight = Sight(host, port, found, answers)
    served = sorted(sight.served(), key=lambda place: place.family != _socket.AF_INET)
    return sight._replace(nodes=_nodes(sight, lambda _: served, tell))


def _round(
    names: list[str],
    hosts: list[Place],
    port: int,
    found: dict[str, Found],
    answers: dict[Place, Answer],
    tell: Tell,
) -> None:
    """Look up all names and ask at all addresses, concurrently. Adds the results to `found` and `answers`."""
    hosts = list(dict.fromkeys(hosts))[:_MOST_ADDRESSES]
    looks = [partial(probe.look_up, name) for name in names]
    asks = [partial(probe.ask, host, port) for host in hosts]
    jobs: list[Callable[[], Found | Answer]] = [*looks, *asks]
    results = probe.together(jobs, _FOR_A_ROUND, _of(len(jobs), tell), probe.ASKERS)
    late = Found(problem=f"no answer in {_FOR_A_ROUND:g} s")
    for name, looked_up in zip(names, results, strict=False):
        found[name] = looked_up if isinstance(looked_up, Found) else late
    for host, answer in zip(hosts, results[len(names) :], strict=True):
        mute = Answer(MUTE, f"does not answer in {_FOR_A_ROUND:g} s")
        answers[host] = answer if isinstance(answer, Answer) else mute


def _of(total: int, tell: Tell) -> Callable[[int], object]:
    return lambda done: tell(done, total)


def _quiet(_done: int) -> None:
    pass


def _own_names() -> list[str]:
    """Return this host's name as nodes with short names use it, and the full name.

    A look-up also gives canonical names.
    """
    whole = os.uname().nodename
    return list(dict.fromkeys((whole.partition(".")[0] or whole, whole)))


def _is_new(name: str, found: dict[str, Found]) -> bool:
    """Return whether this is a long name that was not looked up yet.

    The canonical name of a short name may be unrelated, such as localhost, and no node uses it.
    """
    return "." in name and name not in found


def _holders(listening: list[procfs.Listener]) -> tuple[tuple[procfs.Process, ...], dict[int, str]]:
    """Return the processes that hold the listening sockets, and the names of the sockets' owners by uid."""
    users = {uid: procfs.user_name(uid) for uid in {sock.uid for sock in listening}}
    return tuple(procfs.processes(listening)), users


def _places_of(sight: Sight, table: dict[int, list[procfs.Listener]] | None, port: int) -> list[Place]:
    """Return where a node of this host may accept connections; the addresses where nodes look come first.

    With a table of listening sockets (`table`) the list is complete: a node may listen on a single address.
    """
    if table is None:
        others = list(sight.answers)
    else:
        hosts = [sock.host for sock in table.get(port, []) if sock.host not in procfs.ANY]
        others = [probe.place(host) for host in hosts]
    return list(dict.fromkeys([*sight.firsts(), *LOOPBACKS, *others]))


def _nodes(sight: Sight, places_of: Callable[[int], list[Place]], tell: Tell) -> tuple[Node, ...]:
    """Return every registered node, and whether its port can be reached at one of its addresses."""
    served = sight.served()
    named = sight.answers[served[0]].nodes if served else ()
    askers = threading.Semaphore(probe.ASKERS)
    end = time.monotonic() + _FOR_NODES
    jobs = [partial(_node, sight, node, places_of(node.port), askers, end) for node in named]
    found = probe.together(jobs, _FOR_NODES, _of(len(jobs), tell))
    return tuple(node or Node(*named[at]) for at, node in enumerate(found))


def _node(
    sight: Sight, node: NamedPort, places: list[Place], askers: threading.Semaphore, end: float
) -> Node:
    met = []
    for place in places:
        met.append((place, probe.connect(place, node.port)))
        if met[-1][1].code == ANSWERS:
            break
    looked_at = Node(node.name, node.port, tuple(met))
    if looked_at.accepts() and not sight.host and not looked_at.is_long():
        return looked_at
    with askers:
        return _looked_up(sight, looked_at, end)


def _with_holders(
    nodes: tuple[Node, ...], port: int, processes: tuple[procfs.Process, ...]
) -> tuple[Node, ...]:
    """Return the nodes with `holder` set for each node that nobody can connect to."""
    lost = {node.name for node in nodes if node.met and node.met[-1][1].code == REFUSED}
    if not lost:
        return nodes
    jobs = [partial(_holders_of, lost, port, processes)]
    found = probe.together(jobs, _FOR_A_ROUND, _quiet)[0] or {}
    return tuple(node._replace(holder=found.get(node.name)) for node in nodes)


def _holders_of(
    names: set[str], port: int, processes: tuple[procfs.Process, ...]
) -> dict[str, tuple[int, str]]:
    try:
        dump = queries.dump(exchange.Target("", port, probe.STEP))
    except exchange.EpmdError:
        return {}
    descriptors = {node.name: node.fd for node in dump.active if node.name in names}
    found: dict[str, tuple[int, str]] = {}
    for process in processes:
        found |= procfs.registrants(process.pid, descriptors)
    return found


def _looked_up(sight: Sight, node: Node, end: float) -> Node:
    """Return the node with what the epmd replies to a look-up of it.

    If too little of the time limit (`end`) is left, the node is returned unchanged.
    """
    if time.monotonic() > end - probe.STEP:
        return node
    try:
        return node._replace(told=probe.node_port(node.name, sight.served()[0], sight.port))
    except (exchange.EpmdError, ValueError) as error:
        return node._replace(problem=str(error))
