"""Nodes that close and register again at once."""

from __future__ import annotations

from contextlib import ExitStack

from soak.crowd import still_serves
from soak.measure import Worker
from soak.play import Figures, Form, Scale, scene
from support.patience import LONG
from support.peer import names, node, register


@scene("close and register again at once, 20,000 times, from one process")
def comings_of_one(form: Form, scale: Scale) -> Figures:
    return comings(form, 1, scale.of(20_000, 2_000))


@scene("close and register again at once, 20,000 times, from eight processes")
def comings_of_eight(form: Form, scale: Scale) -> Figures:
    return comings(form, scale.of(8, 3), scale.of(2_500, 500))


def comings(form: Form, processes: int, times: int) -> Figures:
    with ExitStack() as stack:
        server = stack.enter_context(form())
        keeper = stack.enter_context(register(server.port, node("keeper"))[0])
        arguments = {"port": server.port, "times": times, "keeper": "keeper"}
        workers = [Worker("come_back", name=f"n{number}", **arguments) for number in range(processes)]
        results = [stack.enter_context(worker).result(LONG) for worker in workers]
        still_serves(server)
        assert keeper.is_open()
        assert "keeper at port 4711" in names(server.port)
    figures = {"tries": processes * times} | {key: sum(r[key] for r in results) for key in results[0]}
    assert figures["refused"] == 0, f"{figures['refused']} of {figures['tries']} refused"
    assert figures["repeated"] == 0, f"{figures['repeated']} creations repeated"
    assert figures["displaced"] == 0, "the keeper was displaced"
    return figures
