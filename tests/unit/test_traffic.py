"""The random traffic of scripts/compare: its steps, and what a server hears of them."""

from __future__ import annotations

from comparison.traffic_steps import CONNECTIONS, batch_of, heard
from gevent_epmd.wire import frame


def test_a_batch_is_always_the_same() -> None:
    assert batch_of(1, 2) == batch_of(1, 2)
    assert batch_of(1, 2).steps != batch_of(2, 2).steps
    assert batch_of(1, 2).connections >= CONNECTIONS


def test_it_is_known_what_a_server_hears() -> None:
    whole = frame(b"zfoo")
    assert (
        heard([whole]) == heard([whole[:1], whole[1:]]) == heard([whole[:3], whole[3:] + b"more"]) == b"zfoo"
    )
    assert heard([whole + b"more"]) == heard([b"\0", b"\4zfoomore"]) == heard([b"\0\0"]) == b""
    assert heard([b""]) is heard([whole[:-1]]) is None
