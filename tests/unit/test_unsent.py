"""What slow readers have not read, and which of them is closed."""

from __future__ import annotations

import random

import pytest

from gevent_epmd.server.unsent import Unsent

pytestmark = pytest.mark.measured

KB = bytes(1024)


def listing(size: int = 100) -> bytes:
    """An object of its own, so many KB long."""
    return bytes(bytearray(KB * size))


def test_readers_of_one_listing_share_it() -> None:
    unsent, shared, other = Unsent(), listing(), listing()
    unsent.put("a", shared, 0)
    unsent.put("b", shared, 1024)
    unsent.put("c", other, 0)
    assert (unsent.total, len(unsent)) == (200 * 1024, 3)
    assert unsent.rest("b") == shared[1024:]
    unsent.discard("a")
    unsent.discard("a")
    assert unsent.total == 200 * 1024
    unsent.discard("b")
    assert unsent.total == 100 * 1024
    unsent.discard("c")
    assert (unsent.total, len(unsent)) == (0, 0)


def test_who_has_a_listing_for_itself_keeps_the_rest_only() -> None:
    unsent, shared = Unsent(), listing()
    unsent.put("a", shared, 0)
    unsent.put("b", shared, 0)
    assert unsent.advance("a", 90 * 1024)
    assert unsent.total == 100 * 1024, "the other one needs all of it"
    unsent.discard("b")
    assert unsent.advance("a", 1024)
    assert unsent.total == 9 * 1024
    assert unsent.rest("a") == shared[91 * 1024 :]
    assert not unsent.advance("a", 9 * 1024)
    assert (unsent.total, len(unsent)) == (0, 0)


def test_slowest_is_who_made_no_progress_for_longest() -> None:
    unsent, current = Unsent(), listing()
    assert unsent.slowest(current) is None
    unsent.put("node", bytes(6), 0)
    unsent.put("reads the current one", current, 0)
    unsent.put("a", listing(), 0)
    unsent.put("b", listing(), 0)
    assert unsent.slowest(current) == "a"
    assert unsent.advance("b", 0)
    assert unsent.advance("a", 1)
    assert unsent.slowest(current) == "b"
    unsent.discard("a")
    unsent.discard("b")
    assert unsent.slowest(current) is None
    assert unsent.slowest(listing()) == "reads the current one"


def test_any_reading_gives_all_bytes_and_an_empty_table() -> None:
    chance = random.Random(7)
    for _ in range(200):
        unsent, replies = Unsent(), [chance.randbytes(chance.randrange(1, 50)) for _ in range(3)]
        got: dict[int, bytes] = {}
        wanted = {reader: chance.choice(replies) for reader in range(8)}
        for reader, reply in wanted.items():
            sent = chance.randrange(len(reply))
            got[reader] = reply[:sent]
            unsent.put(reader, reply, sent)
        left = set(wanted)
        while left:
            reader = chance.choice(sorted(left))
            rest = unsent.rest(reader)
            more = bytes(rest[: chance.randrange(4)])
            got[reader] += more
            if not unsent.advance(reader, len(more)):
                left.remove(reader)
            assert unsent.total <= sum(map(len, replies)) + sum(len(wanted[r]) for r in left)
        assert got == wanted
        assert (unsent.total, len(unsent)) == (0, 0)
