"""Connections that are not a node's, in the order in which they make room."""

from __future__ import annotations

from gevent_epmd.server.timers import Unregistered


def test_order_of_guests() -> None:
    guests = Unregistered()
    a, b, c = object(), object(), object()
    for guest in (a, b, c, a, b):
        guests.add(guest)
    assert list(guests) == [a, b, c], "who waits on keeps its place"
    guests.renew(a)
    assert (list(guests), guests.oldest(), len(guests)) == ([b, c, a], b, 3)
    guests.discard(b)
    guests.discard(b)
    guests.renew(b)
    assert list(guests) == [c, a, b]
    for guest in (a, b, c):
        guests.discard(guest)
    assert (guests.oldest(), len(guests)) == (None, 0)
