"""What asks an epmd, where anything at all answers: it ends in time, within bounds, with a result or an
EpmdError.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings, strategies as st

from gevent_epmd import aio, client
from gevent_epmd.client import answers
from gevent_epmd.client.answers import DumpedNode, NamedPort
from support.hostile import ENDS, Hostile, playing
from support.paths import SOURCE
from support.patience import PATIENCE
from support.programs import run

#: Of a call, in seconds.
TIMEOUT = 0.2

CALLS: list[Callable[..., object]] = [
    client.names,
    client.dump,
    client.started,
    client.kill,
    lambda **where: client.stop("foo", **where),
    lambda **where: client.port_please("foo", **where),
    lambda **where: client.register("foo", 1, **where).close(),
]


#: What real answers are made of, and what is not quite that.
PARTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\0\0\x11\x11",
            b"name ",
            b" at port ",
            b"4711",
            b"1" * 5000,
            b"\n",
            b"\0",
            b"active name     <",
            b"old/unused name <",
            b"> at port ",
            b">, port = ",
            b", fd = 7",
            b" \n\0",
            b"w\0",
            b"w\1",
            b"v\0\0\0\0\7",
            b"v\1",
            b"OK",
            b"NO",
            b"STOPPED",
            b"NOEXIST",
            struct.pack(">HBBHHH", 4711, 77, 0, 6, 5, 3),
            b"\xff\xff",
        ]
    ),
)
#: The port with which a listing begins: without it not much is read of one.
LISTINGS = st.lists(PARTS, max_size=8).map(lambda parts: [b"\0\0\x11\x11", *parts])


@pytest.mark.slow
@settings(max_examples=60)
@given(
    call=st.sampled_from(CALLS),
    pieces=st.one_of(st.lists(PARTS, max_size=8), LISTINGS),
    pause=st.sampled_from([0, 0, 0.001, 0.1]),
    end=st.sampled_from(sorted(ENDS)),
)
@example(client.names, [b"\0\0\x11\x11", b"name a at port " + b"1" * 5000 + b"\n"], 0, "closes")
@example(client.dump, [b"\0\0\x11\x11active name     <a> at port 1, fd = ", b"1" * 5000 + b"\n"], 0, "closes")
@example(client.names, [b"\0\0\x11\x11" + b"name a at port 1" * 20000], 0, "closes")
@example(client.dump, [b"\0\0\x11\x11" + b"active name     <" * 20000], 0, "closes")
def test_any_answer_gives_a_result_or_an_epmd_error(call, pieces, pause, end) -> None:
    with Hostile(playing(pieces, pause, end)) as hostile:
        start = time.monotonic()
        with contextlib.suppress(client.EpmdError):
            call(port=hostile.port, timeout=TIMEOUT)
        assert time.monotonic() - start < PATIENCE, "it waited until the other end gave up"


def flood(connection: socket.socket, done: threading.Event) -> None:
    """Begins as an epmd does, and never ends."""
    connection.sendall(b"\0\0\x11\x11")
    while not done.is_set():
        connection.sendall(b"w\0me a at port 1" * 4096)


@pytest.mark.measured
@pytest.mark.parametrize(
    "call",
    [
        client.names,
        client.dump,
        lambda **where: client.port_please("foo", **where),
        lambda **where: asyncio.run(aio.names(**where)),
    ],
)
def test_answer_without_end_is_cut(call) -> None:
    with Hostile(flood) as hostile, pytest.raises(client.BadAnswerError, match="the reply is longer than"):
        call(port=hostile.port, timeout=PATIENCE)


def test_longest_listing_is_read() -> None:
    line = b"name %236d at port 65535\n"
    text = b"".join(line % number for number in range(65_536))
    assert len(text) == client.MOST_LISTING
    with Hostile(playing([b"\0\0\x11\x11", text], 0, "closes")) as hostile:
        assert len(client.names(port=hostile.port, timeout=PATIENCE)) == 65_536


@pytest.mark.parametrize("options", [("-json", "-names"), ("-json", "-dump")], ids=" ".join)
def test_json_of_an_answer_without_end(options: tuple[str, ...]) -> None:
    with Hostile(flood) as hostile:
        done = run([*SOURCE, "-port", str(hostile.port), *options])
    too_long = b"epmd: the reply is longer than 16777216 bytes\n"
    assert (done.returncode, done.stdout) == (1, too_long), done.stderr


def test_listing_of_another_host_without_end() -> None:
    with Hostile(flood) as hostile:
        done = run([*SOURCE, "-port", str(hostile.port), "-host", "127.0.0.1", "-names"])
    assert len(done.stdout) <= client.MOST_LISTING + 100, done.stderr


@pytest.mark.parametrize("options", [("-json", "-names"), ("-host", "127.0.0.1", "-names")], ids=" ".join)
def test_call_with_digits_without_end(options: tuple[str, ...]) -> None:
    reply = b"\0\0\x11\x11name a at port " + b"1" * 5000 + b"\n"
    with Hostile(playing([reply], 0, "closes")) as hostile:
        done = run([*SOURCE, "-port", str(hostile.port), *options])
    assert (done.returncode, done.stderr) == (0, b"")


#: How NAMES and DUMP were read before: in a time that grows with the square of what does not end.
OLD_NAMES = re.compile(rb"name (.*?) at port (\d+)\n(?=name |\Z)", re.DOTALL)
OLD_DUMP = rb" <(.*)>,? (?:at port|port =) (\d+), fd = (\d+) ?\n"

TEXTS = st.lists(
    st.sampled_from(
        [
            *(b"name ", b" at port ", b"17", b"\n", b"a", b" ", b"at port 1\n", b"name a at port 1\n"),
            *(b"\0", b"active name     <", b"old/unused name <", b"> at port 1", b">, port = 2", b", fd = 3"),
            *(b" \n", b"old/unused name <b>, port = 2, fd = 3 \n\0", b"na", b"me "),
        ]
    ),
    max_size=14,
).map(b"".join)


@settings(max_examples=500)
@given(TEXTS)
def test_listings_are_read_as_they_were(text: bytes) -> None:
    names = [NamedPort(match[1].decode(), int(match[2])) for match in OLD_NAMES.finditer(text)]
    assert answers.parse_names(text) == names
    dump = answers.parse_dump(text)
    assert list(old_dump(b"active name    ", text)) == dump.active
    assert list(old_dump(b"old/unused name", text)) == dump.unused


def old_dump(kind: bytes, text: bytes) -> Iterator[DumpedNode]:
    for part in text.split(b"\0"):
        match = re.fullmatch(kind + OLD_DUMP, part, re.DOTALL)
        if match:
            yield DumpedNode(match[1].decode(), int(match[2]), int(match[3]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        b"name a at port 1",
        b"name ",
        b" at port 1\nname",
        b" at port 1\nname \n",
        b" at port 1\n",
        b"1",
        b"\0",
        b"a\0",
        b"active name     <",
        b">, port = 1",
        b"active name     <>, port = 1, fd = 1\n",
    ],
)
def test_reading_takes_time_in_proportion(text: bytes) -> None:
    """The square of it would take a quarter of an hour."""
    long = text * (client.MOST_LISTING // 16 // len(text))
    script = "import sys; from gevent_epmd.client import answers; text = sys.stdin.buffer.read()\n"
    script += "for start in (b'', b'name ', b'active name     <'):\n"
    script += "    answers.parse_names(start + text), answers.parse_dump(start + text)"
    done = run([sys.executable, "-c", script], stdin=None, input=long)
    assert (done.returncode, done.stderr) == (0, b"")
