"""Connections that are not a node's, in the order in which they make room."""

from __future__ import annotations

import pytest

from gevent_epmd.server.timers import Unregistered

pytestmark = pytest.mark.measured


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
