"""`epmd -check`, the collection: examines an epmd, its nodes, and the host's names and addresses.

Returns a Sight, which `findings` judges. `probe`, `evidence` and `units` implement the steps.

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

from ...client import exchange
from ...client.checks import is_address
from ..process import procfs
from . import evidence, probe
from .probe import ANSWERS, LOOPBACKS, REFUSED, Answer, Found, Place
from .sight import Node, Sight
from .units import units

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

#: Is called with the number of completed steps and the total number of steps.
Tell = Callable[[int, int], object]
#: Returns how long a step may take that should not take longer than so many seconds.
Left = Callable[[float], float]


def look(host: str, port: int, tell: Tell) -> Sight:
    """Examine the epmd of this host if `host` is empty, else the epmd of another host as seen from here."""
    left = partial(_left, time.monotonic() + _FOR_ALL)
    return _look_at(host, port, left, tell) if host else _look_here(port, left, tell)


def _left(end: float, most: float) -> float:
    return max(min(most, end - time.monotonic()), 0.0)


def _look_here(port: int, left: Left, tell: Tell) -> Sight:
    """Examine this host: its addresses and names, the process of the epmd, and the nodes."""
    own = probe.own_places()
    round_ = _Round(port, left, tell)
    round_.go(_own_names(), list(LOOPBACKS))
    for _ in range(_MOST_ROUNDS - 1):
        round_.go(round_.new_names(), [*round_.places(), *own])
    own_named = frozenset(filter(probe.is_own, {*round_.places()}))
    sight = Sight("", port, round_.found, round_.answers, own_named, late=round_.late(own))
    sight = _with_list(sight._replace(late_names=len(round_.new_names())))
    table = procfs.listeners()
    sight = sight._replace(listeners=None if table is None else table.get(port, []))
    served = sight.served()
    dump, descriptors = probe.dumped(served[0], port) if served else ("", {})
    gather = partial(evidence.gather, sight, table or {}, descriptors)
    sight = probe.together([gather], left(_FOR_A_ROUND))[0] or sight
    sight = _with_tried_nodes(sight, partial(_places_of, sight, table or {}), left, tell)
    told = None if served else probe.together([units], left(_FOR_A_ROUND))[0]
    leads = _leads(sight, left)
    own_leads = {first for first in leads.values() if first and probe.is_own(first)}
    return sight._replace(dump=dump, units=told or {}, leads=leads, own=sight.own | own_leads)


def _leads(sight: Sight, left: Left) -> dict[str, Place | None]:
    """Return the addresses to which the host parts of the nodes' own names lead."""
    hosts = {evidence.name_of(owner).partition("@")[2] for node in sight.nodes for owner in node.owners}
    known = {name: found for name, found in sight.names.items() if found.places}
    asked = sorted(host for host in hosts - known.keys() if host)[:_MOST_NAMES]
    jobs = [partial(probe.look_up, host) for host in asked]
    found = probe.together(jobs, left(_FOR_A_ROUND), most=probe.ASKERS)
    known |= {host: name for host, name in zip(asked, found, strict=True) if name}
    return {host: known[host].first for host in hosts if host in known}


def _look_at(host: str, port: int, left: Left, tell: Tell) -> Sight:
    """Examine another host, as seen from here."""
    round_ = _Round(port, left, tell)
    round_.go([host], [])
    round_.go([], round_.places())
    sight = _with_list(Sight(host, port, round_.found, round_.answers, late=round_.late([])))
    served = sorted(sight.served(), key=lambda place: place.family != _socket.AF_INET)
    return _with_tried_nodes(sight, lambda _: served, left, tell)


def _with_list(sight: Sight) -> Sight:
    """Return it with the list of nodes of the first address that answers."""
    for at in sight.served()[:1]:
        answer = probe.ask(at, sight.port) if sight.answers[at].more else sight.answers[at]
        if answer.code == ANSWERS:
            nodes = tuple(Node(*named) for named in answer.nodes)
            return sight._replace(answers=sight.answers | {at: answer}, nodes=nodes)
    return sight


class _Round:
    """Looks up names and asks at addresses, each of them once, and concurrently if that is needed. `found`
    and `answers` have the results.

    The steps connect to an epmd one after another, as long as it answers at once: C's epmd of OTP 25 exits
    when its descriptors run out, and later ones stop answering. A check of one that is nearly full must not
    take two at a time.
    """

    def __init__(self, port: int, left: Left, tell: Tell) -> None:
        self.found: dict[str, Found] = {}
        self.answers: dict[Place, Answer] = {}
        self._port = port
        self._left = left
        self._tell = tell
        self._turn = threading.Lock()
        self._is_slow = False

    def new_names(self) -> list[str]:
        """Return the canonical names that were not looked up yet, if they are long.

        The canonical name of a short name may be unrelated, such as localhost, and no node uses it.
        """
        names = [found.canonical for found in self.found.values()]
        return [name for name in names if "." in name and name not in self.found]

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
        asks = [partial(self._ask, place) for place in places]
        jobs: list[Callable[[], Found | Answer]] = [*looks, *asks]
        results = probe.together(jobs, self._left(_FOR_A_ROUND), self._tell, probe.ASKERS)
        late = Found(problem=f"no answer in {_FOR_A_ROUND:g} s")
        for name, looked_up in zip(names, results, strict=False):
            self.found[name] = looked_up if isinstance(looked_up, Found) else late
        for place, answer in zip(places, results[len(names) :], strict=True):
            if isinstance(answer, Answer):
                self.answers[place] = answer

    def _ask(self, at: Place) -> Answer:
        """Ask an epmd for the number of its nodes, since many addresses may give the same long list. After
        one that was slow, all ask at the same time."""
        if self._is_slow or not self._turn.acquire(timeout=_AT_ONCE):
            self._is_slow = True
            return probe.ask(at, self._port, 0)
        try:
            return probe.ask(at, self._port, 0)
        finally:
            self._turn.release()


def _own_names() -> list[str]:
    """Return this host's name as nodes with short names use it, and the full name.

    A look-up also gives canonical names. A name that is an IP address has no short form.
    """
    whole = os.uname().nodename
    short = whole if is_address(whole) else whole.partition(".")[0]
    return list(dict.fromkeys((short or whole, whole)))


def _places_of(sight: Sight, table: dict[int, list[procfs.Listener]], port: int) -> list[Place]:
    """Return where a node of this host may accept connections; the addresses where nodes look come first.

    With a table of listening sockets (`table`) the list is complete: a node may listen on a single address.
    """
    if sight.listeners is None:
        others = list(sight.answers)
    else:
        others = [probe.place(sock.host) for sock in table.get(port, []) if sock.host not in procfs.ANY]
    return list(dict.fromkeys([*sight.firsts(), *LOOPBACKS, *others]))


def _with_tried_nodes(sight: Sight, places_of: Callable[[int], list[Place]], left: Left, tell: Tell) -> Sight:
    """Return it with what each node's port did at its addresses, and what a look-up of the node gives."""
    limit = left(_FOR_NODES)
    end = time.monotonic() + limit
    jobs = [partial(_tried, node, places_of(node.port), end) for node in sight.nodes]
    found = probe.together(jobs, limit, tell)
    nodes = [node or sight.nodes[at] for at, node in enumerate(found)]
    # First those for which the answer counts most.
    tried = [at for at, node in enumerate(nodes) if node.met]
    order = sorted(tried, key=lambda at: nodes[at].accepts())
    limit = left(_FOR_LOOK_UPS if all(node.accepts() for node in nodes) else _FOR_A_ROUND)
    looks = [partial(_looked_up, sight, nodes[at]) for at in order]
    for at, node in zip(order, probe.together(looks, limit, most=askers(sight, len(nodes))), strict=True):
        nodes[at] = node or nodes[at]
    return sight._replace(nodes=tuple(nodes))


def askers(sight: Sight, nodes: int) -> int:
    """Return how many may ask the epmd at the same time. C's epmd of OTP 25 exits when its descriptors run
    out, and later ones stop answering."""
    process = sight.epmd()
    used, most = process.descriptors[0], process.most_descriptors()
    room = procfs.C_DESCRIPTORS - nodes - _SPARE if used is None or most is None else most - used
    return min(max(room // _SHARE, 1), probe.ASKERS)


def _tried(node: Node, places: list[Place], end: float) -> Node:
    """Return the node with what its port did at these addresses, up to the first that accepts."""
    met: list[tuple[Place, Answer]] = []
    for place in places:
        if met and time.monotonic() > end - probe.STEP:
            # It may listen at an address that was not tried.
            return node._replace(met=tuple(met) if met[-1][1].code != REFUSED else ())
        met.append((place, probe.connect(place, node.port)))
        if met[-1][1].code == ANSWERS:
            break
    return node._replace(met=tuple(met))


def _looked_up(sight: Sight, node: Node) -> Node:
    """Return the node with what the epmd replies to a look-up of it."""
    try:
        told = probe.node_info(node.name, sight.served()[0], sight.port)
    except (exchange.EpmdError, ValueError) as error:
        return node._replace(problem=str(error))
    return node._replace(told=None) if told is None else node._replace(told=told.port, highest=told.highest)
