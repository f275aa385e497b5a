"""Slow peers: those who do not read their answer, and those who drip their request."""

from __future__ import annotations

import contextlib
import time

from gevent_epmd.wire import frame
from soak.crowd import Crowd, still_serves, ticks
from soak.measure import Worker, judge, resident
from soak.play import Figures, Form, Scale, scene
from support.neighbour import HERE_V4, Neighbour
from support.patience import wait_until
from support.peer import Peer, ask, barrier, node, register

_NODES = 900
#: 255 characters, the most there may be, and nearly all of two bytes.
_NAMES = [f"{number:04}" + "ж" * 251 for number in range(_NODES)]
_LISTING = 4 + sum(len(f"name {name} at port 4711\n".encode()) for name in _NAMES)


@scene("clients who ask for 470 KB of names and do not read", network=True)
def slow_readers(form: Form, scale: Scale) -> Figures:
    timeout, count = scale.of(6, 2), scale.of(50, 20)
    with contextlib.ExitStack() as stack:
        neighbour = stack.enter_context(contextlib.closing(Neighbour()))
        server = stack.enter_context(form("-packet_timeout", str(timeout)))
        for name in _NAMES:
            stack.enter_context(register(server.port, node(name))[0])
        keeper = stack.enter_context(register(server.port, node("keeper"))[0])
        before = resident(server.pid)
        probe = stack.enter_context(Worker.probe(server.port, "keeper", server.pid, scale))
        probe.wait_until_it_works()
        start = time.monotonic()
        slow = [stack.enter_context(who_does_not_read(server.port, neighbour)) for _ in range(count)]
        peak, reset = 0, 0
        for _ in ticks(timeout + scale.promised(2), every=0.05):
            peak = max(peak, resident(server.pid))
            reset = sum(peer.was_reset() for peer in slow)
            # The time is read after it was seen: who sees it late must not take it for early.
            assert not reset or time.monotonic() - start > timeout - 0.5, "cut off before its time"
            if reset == count:
                break
        took = time.monotonic() - start
        assert reset == count, f"{count - reset} are not cut off"
        seen = probe.result()
        wait_until(lambda: resident(server.pid) <= before * 1.1, "the memory to come back")
        still_serves(server)
        assert keeper.is_open()
    judge(seen, 0.05, scale)
    grown = peak - before
    assert grown * 1024 <= count * _LISTING + (1 << 21), f"grown by {grown} KB"
    return seen | {"cut off after s": round(took, 1), "timeout s": timeout, "grown KB": grown}


@scene("clients who do not read 1 MB of names, of which one changes between them", network=True)
def readers_of_a_changing_listing(form: Form, scale: Scale) -> Figures:
    """The measure is what as many readers of one listing take, which does not change."""
    count, most = scale.of(300, 90), 64 * 1024
    with contextlib.ExitStack() as stack:
        neighbour = stack.enter_context(contextlib.closing(Neighbour()))
        server = stack.enter_context(form())
        for number in range(1000):
            stack.enter_context(register(server.port, node(f"{number:04}" + "🐇" * 251))[0])
        keeper = stack.enter_context(register(server.port, node("keeper"))[0])
        probe = stack.enter_context(Worker.probe(server.port, "keeper", server.pid, scale))
        probe.wait_until_it_works()
        before = resident(server.pid)
        with contextlib.ExitStack() as readers:
            for _ in range(count):
                readers.enter_context(who_does_not_read(server.port, neighbour))
            barrier(server.port)
            of_one = resident(server.pid) - before
        barrier(server.port)
        slow, grown = [], 0
        for _ in range(count):
            slow.append(stack.enter_context(who_does_not_read(server.port, neighbour)))
            barrier(server.port)
            register(server.port, node("comes and goes"))[0].close()
            grown = max(grown, resident(server.pid) - before)
        seen = probe.result()
        assert seen["unanswered"] == 0, f"{seen['unanswered']} of {seen['asked']} requests were not answered"
        closed = [peer.was_reset() for peer in slow]
        assert keeper.is_open()
        assert b"name keeper at port 4711\n" in ask(server.port, b"n"), "who reads gets it all"
        still_serves(server)
        lines = server.log().count("more than 64 MB of replies are unread: closing the connection from ")
    assert grown <= of_one + most * 1.25, f"grown by {grown} KB, by {of_one} KB while it does not change"
    assert closed == sorted(closed, reverse=True), "a faster one was closed, and a slower one was not"
    assert 0 < sum(closed) < count
    assert lines >= 1
    return seen | {"grown KB": grown, "unchanged KB": of_one, "closed": sum(closed), "log lines": lines}


def who_does_not_read(port: int, neighbour: Neighbour) -> Peer:
    with neighbour.inside():
        peer = Peer(port, HERE_V4, narrow=True)
    peer.send(frame(b"n"))
    return peer


@scene("connections that drip a byte a second")
def slow_writers(form: Form, scale: Scale) -> Figures:
    timeout, count = scale.of(10, 3), scale.of(2000, 400)
    with form("-packet_timeout", str(timeout)) as server, Crowd(server.port) as crowd:
        keeper, _ = register(server.port, node("keeper"))
        probe = Worker.probe(server.port, "keeper", server.pid, scale)
        with keeper, probe:
            probe.wait_until_it_works()
            start = time.monotonic()
            for _ in range(count):
                crowd.join(b"\x0b\xf1z")
            opened = time.monotonic() - start
            closed: list[float] = []
            for _ in ticks(timeout + opened + scale.promised(2), every=1.0):
                gone = drip(crowd)
                closed += [time.monotonic() - start] * gone
                if not crowd.peers:
                    break
            still_serves(server)
            seen = probe.result()
            left = len(crowd.peers)
            assert keeper.is_open()
    judge(seen, 0.25, scale)
    assert left == 0, f"{left} are still connected"
    assert closed[0] >= timeout - 0.5, "closed before its time"
    return seen | {"connections": count, "all closed after s": round(closed[-1], 1), "timeout s": timeout}


def drip(crowd: Crowd) -> int:
    """One byte from each; how many have found that they are closed, and are no longer of the crowd."""
    gone = 0
    for _ in range(len(crowd.peers)):
        peer = crowd.peers.popleft()
        try:
            peer.send(b"a")
            is_open = peer.is_open()
        except OSError:
            is_open = False
        if is_open:
            crowd.peers.append(peer)
        else:
            peer.close()
            gone += 1
    return gone
