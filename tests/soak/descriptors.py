"""Descriptors run out: idle connections without end, 20 times what the server may have open."""

from __future__ import annotations

import resource
import time

from forms import Process, wait_until
from peer import look_up, names, node, register
from soak.crowd import Crowd, still_serves
from soak.measure import Worker, descriptors, share_of_a_core
from soak.play import Figures, Form, Scale, scene, variant

#: How many connections of the flood are kept at once, in limits: the server has closed the others long ago.
_KEPT = 4
#: In short, how many connections the server may be behind: how fast the machine is does not count then.
_AHEAD = 128


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
        probe = Worker("probe", port=server.port, name="keeper", pid=server.pid)
        with keeper, probe, Crowd(server.port) as crowd:
            probe.wait_until_it_works()
            for number in range(times * limit):
                connect_another(crowd, server)
                if scale.short and number % _AHEAD == 0:
                    look_up(server.port, "keeper")
                crowd.keep(_KEPT * limit)
            busy = share_of_a_core(server.pid, scale.of(5, 1))
            still_serves(server)
            seen = probe.result()
            elapsed = time.monotonic() - start
            assert keeper.is_open(), "the node was lost"
            crowd.keep(0)
            wait_until(lambda: descriptors(server.pid) <= before, "the descriptors to be free")
            assert "keeper at port 4711" in names(server.port)
        lines = len(server.log().splitlines())
    assert seen["unanswered"] == 0, f"{seen['unanswered']} of {seen['asked']} requests were not answered"
    assert seen["worst"] < 250, f"an answer took {seen['worst']} ms"
    assert busy < 0.5, f"{busy:.0%} of a core while nothing happened"
    assert lines <= elapsed + 2, f"{lines} lines of log in {elapsed:.0f} s"
    return seen | {"idle CPU": f"{busy:.0%}", "log lines": lines, "seconds": round(elapsed, 1)}


def connect_another(crowd: Crowd, server: Process) -> None:
    try:
        crowd.join()
    except OSError as error:
        wait_until(lambda: server.ended() is not None, f"the end of what gave: {error}", 2)
    still_serves(server)
