"""Idle connections without end: descriptors run out, or, where they do not, memory must not."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack

from gevent_epmd.wire import frame
from soak.crowd import Crowd, still_serves
from soak.measure import Worker, descriptors, judge, judge_log, resident, share_beside_a_loop, share_of_a_core
from soak.play import Figures, Form, Scale, scene, variant
from support.forms import Process
from support.patience import wait_until
from support.peer import look_up, names, node, register

#: How many connections of the flood are kept at once, in limits: the server has closed the others long ago.
_KEPT = 4
#: In short, how many connections the server may be behind: how fast the machine is does not count then.
_AHEAD = 128
#: The share of a core that nothing but a loop without end takes.
_BUSY = 0.5
#: From how many addresses a crowd comes, by how many KB the server may grow, how many nodes must not be lost.
_SOURCES = 100
_GROWTH = 48_000
_NODES = 50


@scene("idle connections without end, `ulimit -n 256`")
def flood_of_256(form: Form, scale: Scale) -> Figures:
    return flood(form, 256, 20, scale)


@scene("idle connections without end, `ulimit -n 1024`")
def flood_of_1024(form: Form, scale: Scale) -> Figures:
    return flood(form, 1024, scale.of(20, 4), scale)


def flood(form: Form, limit: int, times: int, scale: Scale) -> Figures:
    few = variant(
        form, prepare=staticmethod(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    )
    with few() as server:
        keeper, _ = register(server.port, node("keeper"))
        before = descriptors(server.pid)
        start = time.monotonic()
        probe = Worker.probe(server.port, "keeper", server.pid, scale)
        with keeper, probe, Crowd(server.port) as crowd:
            probe.wait_until_it_works()
            for number in range(times * limit):
                connect_another(crowd, server)
                if scale.short and number % _AHEAD == 0:
                    look_up(server.port, "keeper")
                crowd.keep(_KEPT * limit)
            seen = probe.result()
            busy = rest(server, scale)
            still_serves(server)
            assert keeper.is_open(), "the node was lost"
            crowd.keep(0)
            wait_until(lambda: descriptors(server.pid) <= before, "the descriptors to be free")
            assert "keeper at port 4711" in names(server.port)
        lines, elapsed = len(server.log().splitlines()), time.monotonic() - start
    judge(seen, 0.25, scale)
    judge_log(lines, elapsed)
    return seen | {"idle CPU": f"{busy:.0%}", "log lines": lines, "seconds": round(elapsed, 1)}


def rest(server: Process, scale: Scale) -> float:
    """The share of a core that it uses while nothing happens."""
    if not scale.short:
        busy = share_of_a_core(server.pid, 5)
        assert busy < _BUSY, f"{busy:.0%} of a core while nothing happened"
        return busy
    shares: list[float] = []

    def rests() -> bool:
        shares.append(share_beside_a_loop(server.pid, 0.1))
        return shares[-1] < _BUSY

    # It may be behind: one that spins never rests.
    wait_until(rests, "the server to rest")
    return shares[-1]


def connect_another(crowd: Crowd, server: Process) -> None:
    try:
        crowd.join()
    except OSError as error:
        wait_until(lambda: server.ended() is not None, f"the end of what gave: {error}")
    still_serves(server)


@scene("15,000 idle connections and 15,000 refused registrations, from 100 addresses", network=True)
def crowds(form: Form, scale: Scale) -> Figures:
    """As many descriptors as the machine allows; the crowd closes nothing.

    In a network of its own: so many ports would be missed elsewhere for a minute."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(scale.of(15_000, 4_500), hard - 1_000)
    limits = staticmethod(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)))
    with variant(form, prepare=limits)() as server, ExitStack() as held:
        nodes = [held.enter_context(register(server.port, node(f"n{n}"))[0]) for n in range(_NODES)]
        before, peak = resident(server.pid), 0
        open_before = descriptors(server.pid)
        probe = held.enter_context(Worker.probe(server.port, "n0", server.pid, scale))
        crowd = held.enter_context(Crowd(server.port))
        probe.wait_until_it_works()
        most = 0
        for data in (b"", frame(node("n0").packet())):
            for number in range(count):
                crowd.keep(count - 1)
                crowd.join(data, f"127.9.9.{number % _SOURCES + 1}")
                if scale.short and number % _AHEAD == 0:
                    look_up(server.port, "n0")
                if number % 1000 == 0:
                    peak = max(peak, resident(server.pid))
            most = max(most, descriptors(server.pid) - open_before)
            peak = max(peak, resident(server.pid))
            still_serves(server)
        seen = probe.result()
        judge(seen, 0.25, scale)
        assert all(peer.is_open() for peer in nodes), "a node was lost"
        assert len(names(server.port)) == _NODES
        crowd.keep(0)
        wait_until(lambda: descriptors(server.pid) <= open_before, "the descriptors to be free")
    assert peak - before <= _GROWTH, f"grown by {peak - before} KB"
    return seen | {"connections": 2 * count, "open at most": most, "grown KB": peak - before}
