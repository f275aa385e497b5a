"""Connections that come to nothing, by the ten thousand, and resets at the worst time."""

from __future__ import annotations

import time

from gevent_epmd.wire import frame
from soak.crowd import quick, still_serves
from soak.measure import Worker, descriptors, judge_log, resident
from soak.play import Figures, Form, Scale, scene
from support.forms import Process
from support.patience import LONG, wait_until
from support.peer import Peer, ask, barrier, look_up, names, node, register

#: What a small program may grow by, in KB.
_NOISE = 1024
_KINDS = {"reset": "connect and reset", "half": "half a request", "scan": "connect and close"}


@scene("storms: 20,000 each of connect and reset, half a request, connect and close")
def storms(form: Form, scale: Scale) -> Figures:
    with form() as server:
        keeper, _ = register(server.port, node("keeper"))
        for _ in range(200):
            look_up(server.port, "keeper")
        open_before, memory = descriptors(server.pid), resident(server.pid)
        figures: Figures = {}
        start = time.monotonic()
        for kind, title in _KINDS.items():
            with Worker("storm", port=server.port, kind=kind, times=scale.of(20_000, 2_000)) as worker:
                figures[title] = f"{worker.result(LONG)} s"
            still_serves(server)
        wait_until(lambda: descriptors(server.pid) == open_before, "the descriptors to be free")
        grown = resident(server.pid) - memory
        lines, elapsed = len(server.log().splitlines()), time.monotonic() - start
        assert keeper.is_open()
        assert names(server.port) == ["keeper at port 4711"]
        keeper.close()
    assert grown <= max(memory / 10, _NOISE), f"{grown} KB more than the {memory} KB from before"
    judge_log(lines, elapsed)
    return figures | {"KB before": memory, "KB more": grown, "log lines": lines}


@scene("resets between a registration and its reply, and before it is read")
def resets_at_the_worst_time(form: Form, scale: Scale) -> Figures:
    count = scale.of(200, 30)
    with form() as server:
        keeper, _ = register(server.port, node("keeper"))
        for data in (b"", frame(node("ghost").packet()), b"\0\5zfoo", frame(b"n")):
            reset_before_it_is_read(server, data, count)
            no_ghost(server.port)
        assert keeper.is_open()
        keeper.close()
    for option in ("-delay_write", "-delay_accept"):
        with form(option, "1") as server:
            peer = Peer(server.port)
            peer.send(frame(node("ghost").packet()))
            if option == "-delay_write":
                # It is registered, and its reply is due in a second.
                wait_until(lambda: b"ghost" in ask(server.port, b"n"), "it to be registered")
            peer.reset()
            wait_until(lambda: b"ghost" not in ask(server.port, b"n"), "the ghost to go")
    return {"resets": 4 * count + 2, "ghosts": 0}


def reset_before_it_is_read(server: Process, data: bytes, count: int) -> None:
    """The server is stopped meanwhile, and finds all of it at once."""
    barrier(server.port)
    with server.stopped():
        for number in range(count):
            peer = quick(server.port, number)
            if data:
                peer.send(data)
            peer.reset()


def no_ghost(port: int) -> None:
    barrier(port)
    wait_until(lambda: names(port) == ["keeper at port 4711"], "ghosts to go")
