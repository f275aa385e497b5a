"""One epmd takes the place of the other again and again, while nodes come and go and others ask."""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack

from gevent_epmd.program.process.watch import gone
from soak.measure import Worker
from soak.play import Figures, Form, Scale, scene
from support.daemons import listening_at
from support.paths import C_EPMD
from support.patience import LONG, wait_until
from support.peer import names, node, register
from support.ports import answers, reserved_port
from support.programs import run

_HELD, _HELD_BY_C = 100, 900
#: How long those who ask and those who come wait in between, in seconds.  In short they leave time to others.
_EVERY, _EVERY_IN_SHORT = (0, 0.002), (0.01, 0.01)
_LINE = re.compile(rb"took over \d+ nodes? .* more than (\d+) ms")


@scene("one -takeover after the other, beside 8 who ask and 2 nodes that come and go")
def take_overs(form: Form, scale: Scale) -> Figures:
    delays = []
    with ExitStack() as stack:
        server = stack.enter_context(form())
        port = server.port
        held = [stack.enter_context(register(port, node(f"n{number}"))[0]) for number in range(_HELD)]
        before = names(port)
        ask, come = _EVERY_IN_SHORT if scale.short else _EVERY
        asking = [
            stack.enter_context(Worker("ask_on", port=port, name=f"n{n}", every=ask))
            for n in range(scale.of(8, 1))
        ]
        coming = [
            stack.enter_context(Worker("come_and_go", port=port, name=f"comes{n}", every=come))
            for n in range(scale.of(2, 1))
        ]
        for worker in (*asking, *coming):
            worker.wait_until_it_works()
        for _ in range(scale.of(200, 3)):
            done = run([*form.command, "-port", str(port), "-takeover", "-daemon"], timeout=LONG)
            said = _LINE.search(done.stderr)
            assert done.returncode == 0, done.stderr
            assert said, done.stderr
            delays.append(int(said[1]))
        seen = [worker.result() for worker in asking]
        came = [worker.result() for worker in coming]
        assert [line for line in names(port) if not line.startswith("comes")] == before
        assert all(peer.is_open() for peer in held)
    worst = max(each["worst"] for each in seen)
    assert sum(each["failed"] for each in seen) == 0, seen
    assert sum(each["refused"] + each["repeated"] for each in came) == 0, came
    assert worst < scale.promised(0.25) * 1000, f"a look-up took {worst} ms"
    return {
        "take-overs": len(delays),
        "stopped for at most ms": max(delays),
        "look-ups": sum(each["asked"] for each in seen),
        "slowest look-up ms": worst,
        "registrations": sum(each["came"] for each in came),
    }


@scene("one -takeover after the other from C's epmd with 900 nodes, beside 8 who ask")
def take_overs_from_c(form: Form, scale: Scale) -> Figures:
    delays, worst, asked = [], 0.0, 0
    every, _ = _EVERY_IN_SHORT if scale.short else _EVERY
    for _ in range(scale.of(50, 1)):
        with reserved_port() as port, ExitStack() as stack:
            assert run([C_EPMD, "-port", str(port), "-daemon"]).returncode == 0
            stack.callback(_end, port)
            wait_until(lambda port=port: answers(port), "C's epmd to answer")
            held = [
                stack.enter_context(register(port, node(f"n{number}"))[0]) for number in range(_HELD_BY_C)
            ]
            before = names(port)
            asking = [
                stack.enter_context(Worker("ask_on", port=port, name=f"n{n}", every=every))
                for n in range(scale.of(8, 1))
            ]
            for worker in asking:
                worker.wait_until_it_works()
            done = run([*form.command, "-port", str(port), "-takeover", "-daemon"], timeout=LONG)
            said = _LINE.search(done.stderr)
            assert said, done.stderr
            delays.append(int(said[1]))
            seen = [worker.result() for worker in asking]
            assert names(port) == before
            assert all(peer.is_open() for peer in held)
        assert sum(each["failed"] for each in seen) == 0, seen
        asked += sum(each["asked"] for each in seen)
        worst = max(worst, *(each["worst"] for each in seen))
    assert worst < scale.promised(0.25) * 1000, f"a look-up took {worst} ms"
    return {
        "take-overs": len(delays),
        "stopped for at most ms": max(delays),
        "look-ups": asked,
        "slowest look-up ms": worst,
    }


def _end(port: int) -> None:
    for pid in listening_at(port):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: gone(pid), "it to end")
