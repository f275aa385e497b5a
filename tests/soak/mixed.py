"""Everything at once for a long time, against a model of what must be answered."""

from __future__ import annotations

import random
import time
from collections import deque

from gevent_epmd.protocol import port2_reply
from gevent_epmd.wire import frame
from soak.crowd import quick, still_serves
from soak.measure import resident
from soak.play import Figures, Form, Scale, scene
from support.forms import Process
from support.peer import Peer, names, node

_SEED = 4369
_IDLE = 200
#: How long it is played, in seconds, and how many steps the tests play, whatever time they take.
_SECONDS = 600
_STEPS = 6_000
#: How often memory is looked at, and after which part of it all it must have stopped to grow.
_LOOKS, _LOOKS_IN_SHORT = 6000, 40
_FLAT_AFTER = 0.1


class Model:
    """The nodes that are registered, newest last, with the connection of each; and what went wrong."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._size = size
        self._random = random.Random(_SEED)
        self._holders: dict[str, tuple[Peer, int]] = {}
        self._names: list[str] = []
        self._idle: deque[Peer] = deque()
        self._count = 0
        self.asked = 0
        self.wrong: list[str] = []
        self._steps = (
            [self.come_and_go] * 8
            + [self.find] * 60
            + [self.miss] * 10
            + [self.reset] * 10
            + [self.idle] * 10
        )

    def fill(self) -> None:
        while len(self._holders) < self._size:
            self._come()
            assert not self.wrong, f"{len(self._holders)} nodes, and then: not so: {self.wrong[0]}"

    def step(self) -> None:
        self.asked += 1
        self._random.choice(self._steps)()

    def _check(self, what: str, *, holds: bool) -> None:
        if not holds:
            self.wrong.append(what)

    def _come(self) -> None:
        self._count += 1
        name, port = f"node{self._random.randrange(3 * self._size)}", self._random.randrange(1, 65536)
        peer = quick(self._port, self._count)
        peer.send(frame(node(name, port).packet()))
        refused = peer.read(6)[:2] != b"v\0"
        self._check(f"{name} registers", holds=refused == (name in self._holders))
        if refused:
            peer.close()
        else:
            self._holders[name] = peer, port
            self._names.append(name)

    def come_and_go(self) -> None:
        self._come()
        while len(self._holders) > self._size:
            place = self._random.randrange(len(self._names))
            self._names[place], self._names[-1] = self._names[-1], self._names[place]
            peer, _ = self._holders.pop(self._names.pop())
            # A byte ends a node, and it is gone when the other end has closed.
            peer.send(b"\0")
            self._check("a node that sends is closed", holds=peer.read_all() == b"")
            peer.close()

    def find(self) -> None:
        name = self._random.choice(self._names)
        expected = port2_reply(node(name, self._holders[name][1]))
        self._check(f"{name} is found", holds=self._ask(b"z" + name.encode()) == expected)

    def miss(self) -> None:
        self._check("nobody is not found", holds=self._ask(b"znobody") == b"w\1")

    def reset(self) -> None:
        self._count += 1
        peer = quick(self._port, self._count)
        peer.send(self._random.choice([b"\0", b"\0\5zf", frame(b"znobody"), frame(b"n")]))
        peer.reset()

    def idle(self) -> None:
        self._count += 1
        self._idle.append(quick(self._port, self._count))
        if len(self._idle) > _IDLE:
            self._idle.popleft().close()

    def compare(self) -> None:
        expected = [f"{name} at port {port}" for name, (_, port) in reversed(self._holders.items())]
        self._check("NAMES is the model", holds=names(self._port) == expected)

    def close(self) -> None:
        for peer in [peer for peer, _ in self._holders.values()] + list(self._idle):
            peer.close()

    def _ask(self, packet: bytes) -> bytes:
        self._count += 1
        with quick(self._port, self._count) as peer:
            peer.send(frame(packet))
            return peer.read_all()


@scene("mixed load at 5,000 nodes for 10 minutes")
def mixed(form: Form, scale: Scale) -> Figures:
    size = scale.of(5000, 500)
    with form() as server:
        model = Model(server.port, size)
        try:
            model.fill()
            memory = run(server, model, scale)
        finally:
            model.close()
    flat = memory[int(len(memory) * _FLAT_AFTER)]
    assert not model.wrong, f"{len(model.wrong)} of {model.asked} wrong: {model.wrong[0]}"
    # In short, not every table is as full as it gets after a tenth.
    assert max(memory) <= flat * scale.of(105, 125) / 100, f"from {flat} to {max(memory)} KB"
    figures = {"steps": model.asked, "wrong": 0, "KB at the beginning": memory[0]}
    return figures | {"KB after a tenth": flat, "most KB": max(memory), "KB at the end": memory[-1]}


def run(server: Process, model: Model, scale: Scale) -> list[int]:
    """Memory in KB, at equal times, or after equal numbers of steps."""
    memory = []
    looks = scale.of(_LOOKS, _LOOKS_IN_SHORT)
    start = time.monotonic()

    def done() -> float:
        """Which part of it."""
        return model.asked / _STEPS if scale.short else (time.monotonic() - start) / _SECONDS

    while (part := done()) < 1:
        model.step()
        if part * looks >= len(memory):
            still_serves(server)
            memory.append(resident(server.pid))
            if len(memory) % 50 == 0:
                model.compare()
    model.compare()
    return memory
