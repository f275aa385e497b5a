"""`epmd -check`, the collection: examines an epmd, its nodes, and the host's names and addresses.

Returns plain data, a Sight, which `findings` judges. `probe`, `evidence` and `units` implement the steps.

Invariants: neither a server nor the interactive calls that every start of a node makes import this module.
Everything is bounded: names, addresses, nodes and seconds. A Sight says what was left out.
"""

from __future__ import annotations

import _socket
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...client import exchange
from ...client.answers import NamedPort
from ...client.checks import is_address
from ...conventions import LOOPBACK
from ...server.networks import plain_host
from ..process import procfs
from . import evidence, probe
from .evidence import Evidence, Installed
from .probe import ANSWERS, REFUSED, Answer, Found, Place
from .units import Unit, units

#: Time limit for everything, in seconds.
_FOR_ALL = 8.0
#: Time limit for connecting to all nodes together, and for looking all of them up, in seconds.
_FOR_NODES, _FOR_LOOK_UPS = 4.0, 1.0
#: Time limit for all look-ups of names, for asking at all addresses, or for reading /proc, in seconds.
_FOR_A_ROUND = 3.0
#: Only this many addresses are asked, because some hosts have thousands, and this many names are looked up.
_MOST_ADDRESSES, _MOST_NAMES = 64, 12
#: A name gives canonical names, and those give addresses. More rounds than these are a name server's game.
_MOST_ROUNDS = 3
#: So many descriptors of an epmd are left for others, and this part of what is free is used at most.
_SPARE, _SHARE = 24, 4
#: Who takes longer to answer, in seconds, is slow.
_AT_ONCE = 0.5
#: C's epmd registers a name of this many bytes, but does not answer a look-up of it.
UNANSWERED_NAME = 255

LOOPBACKS = tuple(map(probe.place, LOOPBACK))

#: Is called with the number of completed steps and the total number of steps.
Tell = Callable[[int, int], object]


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
    holders: tuple[procfs.Program, ...] = ()
    peer: str = ""
    is_here: bool = False
    owners: tuple[procfs.Program, ...] = ()
    highest: int = 0

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
    suspects: tuple[procfs.Program, ...] = ()
    others: dict[int, procfs.Program] = {}  # noqa: RUF012
    apart: tuple[procfs.Program, ...] = ()
    units: dict[str, Unit] = {}  # noqa: RUF012
    erl: Installed | None = None
    leads: dict[str, Place | None] = {}  # noqa: RUF012
    late: tuple[Place, ...] = ()
    late_names: int = 0

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

    def listeners_at(self, at: Place) -> list[procfs.Listener]:
        """Return the listening sockets that connections to this address reach."""
        listening = self.listeners or []
        hosts = [at.host, "0.0.0.0", "::"] if at.family == _socket.AF_INET else [at.host, "::"]
        for host in hosts:
            if found := [sock for sock in listening if plain_host(sock.host) == host]:
                return found
        return []

    def processes_at(self, at: Place) -> list[procfs.Process]:
        """Return the processes that hold the listening sockets which connections to this address reach."""
        inodes = {sock.inode for sock in self.listeners_at(at)}
        return [process for process in self.processes if process.sockets & inodes]

    def epmd(self) -> procfs.Process | None:
        """Return the process that serves the port: the one that answers, or else an epmd that listens."""
        answering = [process for at in self.served() for process in self.processes_at(at)]
        epmds = [process for process in self.processes if process.kind != procfs.OTHER]
        # A socket of systemd's is held by process 1 too.
        found = [process for process in (*answering, *epmds) if process.pid != 1] or answering
        return found[0] if found else None


def look(host: str, port: int, tell: Tell) -> Sight:
    """Examine the epmd of this host if `host` is empty, else the epmd of another host as seen from here."""
    return look_at(host, port, tell) if host else look_here(port, tell)


class _Budget:
    """The time that is left for everything."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _FOR_ALL

    def seconds(self, most: float) -> float:
        """Return how long a step may take that should not take longer than `most` seconds."""
        return max(min(most, self._end - time.monotonic()), 0.0)


def look_here(port: int, tell: Tell) -> Sight:
    """Examine this host: its addresses and names, the process of the epmd, and the nodes."""
    budget = _Budget()
    own = probe.own_places()
    round_ = _Round(port, budget, tell)
    round_.go(_own_names(), list(LOOPBACKS))
    for _ in range(_MOST_ROUNDS - 1):
        names = [name.canonical for name in round_.found.values() if _is_new(name.canonical, round_.found)]
        round_.go(names, [*round_.places(), *own])
    late_names = sum(_is_new(name.canonical, round_.found) for name in round_.found.values())
    named = frozenset(place for name in round_.found.values() for place in name.places if probe.is_own(place))
    sight = Sight("", port, round_.found, round_.answers, named, late=round_.late(own), late_names=late_names)
    return _with_nodes(_with_list(sight), budget, tell)


def _with_nodes(sight: Sight, budget: _Budget, tell: Tell) -> Sight:
    """Examine the nodes of this host, and the processes."""
    table = procfs.listeners()
    served = sight.served()
    dump, descriptors = probe.dumped(served[0], sight.port) if served else ("", {})
    ports = {node.port for node in sight.answers[served[0]].nodes} if served else set()
    gather = partial(evidence.gather, sight.port, table, ports, descriptors)
    found = probe.together([gather], budget.seconds(_FOR_A_ROUND), _quiet)[0] or Evidence()
    sight = sight._replace(processes=found.processes)
    nodes = _nodes(sight, partial(_places_of, sight, table), budget, tell)
    steps = [units] if not served else []
    (told,) = probe.together(steps, budget.seconds(_FOR_A_ROUND), _quiet) or [{}]
    sight = sight._replace(
        listeners=None if table is None else table.get(sight.port, []),
        processes=found.processes,
        users=found.users,
        nodes=tuple(_with_evidence(node, found) for node in nodes),
        dump=dump,
        peers=found.peers,
        suspects=found.suspects,
        others=found.others,
        apart=found.apart,
        units=told or {},
        erl=found.erl,
    )
    leads = _leads(sight, budget)
    own = {first for first in leads.values() if first and probe.is_own(first)}
    return sight._replace(leads=leads, own=sight.own | own)


def _with_evidence(node: Node, found: Evidence) -> Node:
    node = node._replace(owners=found.owners.get(node.port, ()))
    registration = found.registrations.get(node.name)
    if registration is None:
        return node
    peer, holders = registration
    return node._replace(holders=holders, peer=peer, is_here=not peer)


def _leads(sight: Sight, budget: _Budget) -> dict[str, Place | None]:
    """Return the addresses to which the host parts of the nodes' own names lead."""
    hosts = {evidence.name_of(owner).partition("@")[2] for node in sight.nodes for owner in node.owners}
    known = {name: found for name, found in sight.names.items() if found.places}
    asked = sorted(host for host in hosts - known.keys() if host)[:_MOST_NAMES]
    jobs = [partial(probe.look_up, host) for host in asked]
    found = probe.together(jobs, budget.seconds(_FOR_A_ROUND), _quiet, probe.ASKERS)
    known |= {host: name for host, name in zip(asked, found, strict=True) if name}
    return {host: known[host].first for host in hosts if host in known}


def look_at(host: str, port: int, tell: Tell) -> Sight:
    """Examine another host, as seen from here."""
    budget = _Budget()
    round_ = _Round(port, budget, tell)
    round_.go([host], [])
    round_.go([], round_.places())
    sight = _with_list(Sight(host, port, round_.found, round_.answers, late=round_.late([])))
    served = sorted(sight.served(), key=lambda place: place.family != _socket.AF_INET)
    return sight._replace(nodes=_nodes(sight, lambda _: served, budget, tell))


def _with_list(sight: Sight) -> Sight:
    """Return it with the list of nodes of the first address that answers."""
    for at in sight.served()[:1]:
        answer = probe.ask(at, sight.port) if sight.answers[at].more else sight.answers[at]
        if answer.code == ANSWERS:
            return sight._replace(answers=sight.answers | {at: answer})
    return sight


class _Turns:
    """Lets the steps connect to an epmd one after another, as long as it answers at once.

    C's epmd of OTP 25 exits when its descriptors run out, and later ones stop answering: a check of one that
    is nearly full must not take two at a time.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._is_slow = False

    def ask(self, at: Place, port: int) -> Answer:
        """Ask an epmd for the number of its nodes. After one that was slow, all ask at the same time."""
        if self._is_slow or not self._turn.acquire(timeout=_AT_ONCE):
            self._is_slow = True
            return probe.ask(at, port, 0)
        try:
            return probe.ask(at, port, 0)
        finally:
            self._turn.release()


class _Round:
    """Looks up names and asks at addresses, each of them once, and concurrently if that is needed. `found`
    and `answers` have the results."""

    def __init__(self, port: int, budget: _Budget, tell: Tell) -> None:
        self.found: dict[str, Found] = {}
        self.answers: dict[Place, Answer] = {}
        self._port = port
        self._budget = budget
        self._tell = tell
        self._turns = _Turns()

    def places(self) -> list[Place]:
        """Return the addresses of all names; those to which nodes connect come first."""
        firsts = [name.first for name in self.found.values() if name.first]
        return [*firsts, *(place for name in self.found.values() for place in name.places)]

    def late(self, own: list[Place]) -> tuple[Place, ...]:
        """Return the addresses that were not asked."""
        return tuple(place for place in dict.fromkeys([*self.places(), *own]) if place not in self.answers)

    def go(self, names: list[str], places: list[Place]) -> None:
        """Look up and ask what was not yet. What the budget excludes has no result."""
        names = list(dict.fromkeys(names))[: _MOST_NAMES - len(self.found)]
        places = [place for place in dict.fromkeys(places) if place not in self.answers]
        places = places[: _MOST_ADDRESSES - len(self.answers)]
        looks = [partial(probe.look_up, name) for name in names]
        # Many addresses may give a long list each, and it is the same.
        asks = [partial(self._turns.ask, place, self._port) for place in places]
        jobs: list[Callable[[], Found | Answer]] = [*looks, *asks]
        if not jobs:
            return
        limit = self._budget.seconds(_FOR_A_ROUND)
        results = probe.together(jobs, limit, _of(len(jobs), self._tell), probe.ASKERS)
        late = Found(problem=f"no answer in {_FOR_A_ROUND:g} s")
        for name, looked_up in zip(names, results, strict=False):
            self.found[name] = looked_up if isinstance(looked_up, Found) else late
        for place, answer in zip(places, results[len(names) :], strict=True):
            if isinstance(answer, Answer):
                self.answers[place] = answer


def _of(total: int, tell: Tell) -> Callable[[int], object]:
    return lambda done: tell(done, total)


def _quiet(_done: int) -> None:
    pass


def _own_names() -> list[str]:
    """Return this host's name as nodes with short names use it, and the full name.

    A look-up also gives canonical names. A name that is an IP address has no short form.
    """
    whole = os.uname().nodename
    short = whole if is_address(whole) else whole.partition(".")[0]
    return list(dict.fromkeys((short or whole, whole)))


def _is_new(name: str, found: dict[str, Found]) -> bool:
    """Return whether this is a long name that was not looked up yet.

    The canonical name of a short name may be unrelated, such as localhost, and no node uses it.
    """
    return "." in name and name not in found


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


def _nodes(
    sight: Sight, places_of: Callable[[int], list[Place]], budget: _Budget, tell: Tell
) -> tuple[Node, ...]:
    """Return every registered node, and whether its port can be reached at one of its addresses."""
    served = sight.served()
    named = sight.answers[served[0]].nodes if served else ()
    limit = budget.seconds(_FOR_NODES)
    end = time.monotonic() + limit
    jobs = [partial(_node, node, places_of(node.port), end) for node in named]
    found = probe.together(jobs, limit, _of(len(jobs), tell))
    nodes = [node or Node(*named[at]) for at, node in enumerate(found)]
    # First those for which the answer counts most.
    tried = [at for at, node in enumerate(nodes) if node.met]
    order = sorted(tried, key=lambda at: nodes[at].accepts())
    limit = budget.seconds(_FOR_LOOK_UPS if all(node.accepts() for node in nodes) else _FOR_A_ROUND)
    looks = [partial(_looked_up, sight, nodes[at]) for at in order]
    for at, node in zip(order, probe.together(looks, limit, _quiet, askers(sight, len(nodes))), strict=False):
        nodes[at] = node or nodes[at]
    return tuple(nodes)


def askers(sight: Sight, nodes: int) -> int:
    """Return how many may ask the epmd at the same time. C's epmd of OTP 25 exits when its descriptors run
    out, and later ones stop answering."""
    room = procfs.C_DESCRIPTORS - nodes - _SPARE
    process = sight.epmd()
    used = process.descriptors[0] if process else None
    most = process.most_descriptors() if process else None
    if used is not None and most is not None:
        room = most - used
    return min(max(room // _SHARE, 1), probe.ASKERS)


def _node(node: NamedPort, places: list[Place], end: float) -> Node:
    met: list[tuple[Place, Answer]] = []
    for place in places:
        if met and time.monotonic() > end - probe.STEP:
            # It may listen at an address that was not tried.
            return Node(node.name, node.port, tuple(met) if met[-1][1].code != REFUSED else ())
        met.append((place, probe.connect(place, node.port)))
        if met[-1][1].code == ANSWERS:
            break
    return Node(node.name, node.port, tuple(met))


def _looked_up(sight: Sight, node: Node) -> Node:
    """Return the node with what the epmd replies to a look-up of it."""
    try:
        told = probe.node_info(node.name, sight.served()[0], sight.port)
    except (exchange.EpmdError, ValueError) as error:
        return node._replace(problem=str(error))
    return node._replace(told=None) if told is None else node._replace(told=told.port, highest=told.highest)
