"""Any bytes in any chunking give a reply or a close, never an error inside, and it serves on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gevent_epmd.wire import frame
from support.forms import InProcess, Source
from support.peer import Peer, barrier, look_up, names, node, register

#: Nearly valid is where the errors are: whole requests, whose bytes are then cut, glued and changed.
PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            frame(node("fuzz").packet()),
            frame(node("fuzz", highest=5, extra=b"e").packet()),
            frame(b"zkeeper"),
            frame(b"zfuzz\0"),
            frame(b"n"),
            frame(b"d"),
            frame(b"k"),
            frame(b"sfuzz"),
            b"\0\0",
            b"\x0b\xf1",
        ]
    ),
)
CUTS = st.lists(st.integers(1, 40), max_size=6)


@pytest.mark.parametrize(
    ("form", "options"), [(InProcess, ()), (Source, ("-d", "-d", "-d"))], ids=["quiet", "debug"]
)
def test_any_bytes_in_any_chunks(form, options: tuple[str, ...]) -> None:
    with form(*options) as server:
        keeper, _ = register(server.port, node("keeper"))

        @settings(
            max_examples=300,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
            database=None,
        )
        @given(
            st.lists(PIECES, min_size=1, max_size=4), CUTS, st.sampled_from(["close", "half close", "reset"])
        )
        def feed(pieces: list[bytes], cuts: list[int], end: str) -> None:
            feed_bytes(server.port, b"".join(pieces), cuts, end)
            assert look_up(server.port, "keeper").startswith(b"w\0")

        feed()
        # The end of what was fuzzed is seen in its own time, but before a later question.
        barrier(server.port)
        assert keeper.is_open()
        assert "keeper at port 4711" in names(server.port)
        keeper.close()
        # `stop` looks for errors in the log.


def feed_bytes(port: int, data: bytes, cuts: list[int], end: str) -> None:
    with Peer(port) as peer, contextlib.suppress(OSError):
        while cuts and data:
            cut = cuts.pop()
            peer.send(data[:cut])
            data = data[cut:]
            barrier(port)
        peer.send(data)
        if end == "half close":
            peer.sock.shutdown(1)
            peer.read_all()
        elif end == "reset":
            peer.reset()


def test_a_failure_inside_is_noticed() -> None:
    """The checks in `stop` can fail."""
    server = InProcess()
    server._embedded._mapper.registry.find = None
    assert look_up(server.port, "foo") == b""
    assert names(server.port) == [], "it serves on"
    assert "internal error" in server.log()
    with pytest.raises(TypeError, match="NoneType"):
        server.stop()
