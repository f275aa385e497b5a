"""Deadlines, idle exit, and the order in which connections make room."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
import pytest
from gevent import get_hub

from gevent_epmd.server import timers
from gevent_epmd.server.timers import Deadlines, IdleExit, Unregistered

pytestmark = pytest.mark.measured

#: Of a deadline, and of idle exit; and after how much more each has come for sure.
SECONDS, LATER = 0.05, 0.25


class Waiting:
    """A connection that waits, which puts itself into a list where it is aborted."""

    def __init__(self, aborted: list[Waiting]) -> None:
        self._aborted = aborted

    def abort(self, _reason: str) -> None:
        self._aborted.append(self)


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    deadlines = Deadlines(get_hub().loop, SECONDS)
    yield deadlines
    deadlines.stop()


def suspend() -> None:
    """The process, for long: nothing is read, and no timer runs."""
    time.sleep(SECONDS + 2 * timers._STOPPED)


def test_each_in_its_turn(deadlines: Deadlines) -> None:
    aborted: list[Waiting] = []
    first, answered, last = (Waiting(aborted) for _ in range(3))
    deadlines.add(first)
    deadlines.add(answered)
    deadlines.discard(answered)
    deadlines.discard(answered)
    time.sleep(SECONDS / 2)  # of the loop too, so that none of them has come
    deadlines.add(last)
    gevent.sleep(LATER)
    assert aborted == [first, last]
    deadlines.add(answered)
    gevent.sleep(LATER)
    assert aborted == [first, last, answered]


def test_second_call_does_not_prolong_it() -> None:
    aborted: list[Waiting] = []
    dripping, other = Waiting(aborted), Waiting(aborted)
    seconds = 8 * SECONDS
    two = [Deadlines(get_hub().loop, seconds) for _ in range(2)]
    two[0].add(dripping)
    time.sleep(SECONDS)
    two[1].add(other)
    time.sleep(5 * SECONDS)
    two[0].add(dripping)
    gevent.sleep(2 * seconds)
    assert aborted == [dripping, other]


def test_no_deadline_after_the_end(deadlines: Deadlines) -> None:
    aborted: list[Waiting] = []
    deadlines.add(Waiting(aborted))
    deadlines.stop()
    gevent.sleep(LATER)
    assert aborted == []


def test_whoever_asked_before_the_process_was_suspended_is_read_first(
    deadlines: Deadlines, monkeypatch
) -> None:
    """Each time, and not for ever."""
    monkeypatch.setattr(timers, "_STOPPED", 0.1)
    aborted: list[Waiting] = []
    silent, asked = Waiting(aborted), Waiting(aborted)
    deadlines.add(silent)
    suspend()
    gevent.sleep(timers._GRACE + LATER)
    assert aborted == [silent]
    monkeypatch.setattr(timers, "_GRACE", 3600)
    deadlines.add(asked)
    suspend()
    gevent.sleep(LATER)
    assert aborted == [silent]


def test_idle_exit_comes_where_no_node_is_there() -> None:
    ended: list[bool] = []
    idle = IdleExit(get_hub().loop, SECONDS, lambda: ended.append(True), lambda: False)
    idle.look(0)
    idle.look(1)
    gevent.sleep(LATER)
    assert ended == [], "a node is there"
    idle.look(0)
    idle.stop()
    gevent.sleep(LATER)
    assert ended == [], "it was stopped"
    idle.look(0)
    idle.look(0)
    gevent.sleep(LATER)
    assert ended == [True]
    idle.stop()


def test_order_of_connections_without_a_node() -> None:
    waiting = Unregistered()
    a, b, c = object(), object(), object()
    for connection in (a, b, c, a, b):
        waiting.add(connection)
    assert list(waiting) == [a, b, c], "who waits on keeps its place"
    waiting.renew(a)
    assert (list(waiting), waiting.oldest(), len(waiting)) == ([b, c, a], b, 3)
    waiting.discard(b)
    waiting.discard(b)
    waiting.renew(b)
    assert list(waiting) == [c, a, b]
    for connection in (a, b, c):
        waiting.discard(connection)
    assert (waiting.oldest(), len(waiting)) == (None, 0)
