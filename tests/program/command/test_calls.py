"""The calls, made in this process: under coverage a process of its own takes ten times as long.

`test_command_line` and `test_own_options` show that the program does the same, in each of its forms.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from gevent_epmd.program import calls, cli
from gevent_epmd.program.options import USAGE
from support.forms import InProcess
from support.patience import wait_until
from support.peer import names, node, register
from support.ports import reserved_port
from support.strangers import Odd

pytestmark = pytest.mark.measured

#: What a call writes to stdout and stderr, and its status.
Outcome = tuple[bytes, bytes, int]
Call = Callable[..., Outcome]

OTHER_PROGRAM = b"invalid reply from %s: another program uses the port\n"


@pytest.fixture
def call(capfdbinary, monkeypatch) -> Call:
    """Makes the call of a line at a port, as `cli.main` does for one that is not quick."""
    before = signal.getsignal(signal.SIGPIPE)

    def made(port: int, *line: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["epmd", "-port", str(port), *line])
        try:
            status = cli._do_in_full()
        finally:
            signal.signal(signal.SIGPIPE, before)
        return (*capfdbinary.readouterr(), status)

    return made


def test_epmd_with_nodes(call: Call) -> None:
    with InProcess("-relaxed_command_check") as server, ExitStack() as held:
        port = server.port
        register(port, node("late"))[0].close()
        wait_until(lambda: not names(port), "it to go")
        for name in ("foo", "a\nb"):
            held.enter_context(register(port, node(name))[0])
        up = b"epmd: up and running on port %d with data:\n" % port
        assert call(port, "-names") == (up + b"name a\nb at port 4711\nname foo at port 4711\n", b"", 0)
        shown = rb"name a\nb at port 4711" + b"\nname foo at port 4711\n"
        assert call(port, "-host", "127.0.0.1", "-names") == (up + shown, b"", 0)
        foo, odd = {"name": "foo", "port": 4711}, {"name": "a\nb", "port": 4711}
        out, err, status = call(port, "-json", "-names")
        assert (json.loads(out), err, status) == ({"port": port, "nodes": [odd, foo]}, b"", 0)
        assert call(port, "-dump")[0].count(b"\n\0") == 3
        dump = json.loads(call(port, "-json", "-dump")[0])
        assert [each["name"] for each in dump["active"]] == ["a\nb", "foo"]
        assert [each["name"] for each in dump["unused"]] == ["late"]
        assert call(port, "-started") == (b"", b"", 0)
        assert call(port, "-stop", "nobody") == (b"NOEXIST\n", b"", 0)
        assert call(port, "-stop", "foo") == (b"STOPPED\n", b"", 0)
    with InProcess() as server:
        with register(server.port, node("foo"))[0]:
            refusal = b"Killing not allowed - living nodes in database.\n"
            assert call(server.port, "-kill") == (refusal, b"", 1)
        wait_until(lambda: not names(server.port), "foo to go")
        assert call(server.port, "-kill") == (b"Killed\n", b"", 0)
        wait_until(lambda: server.ended() == 0, "the server to end")


def test_nobody_there(call: Call) -> None:
    with reserved_port() as port:
        assert call(port, "-names") == (b"", b"epmd: Cannot connect to local epmd\n", 1)
        assert call(port, "-started") == (b"", b"", 1)
        assert call(port, "-stop", "n" * 1001) == (b"epmd: Name too long!", b"", 1)
        where = b"epmd: Cannot connect to epmd on 127.0.0.1: Connection refused\n"
        assert call(port, "-host", "127.0.0.1", "-names") == (b"", where, 1)
        assert b"cannot find the host nosuch.invalid" in call(port, "-host", "nosuch.invalid", "-names")[1]
        assert call(port, "-host", "nosuch.invalid", "-started") == (b"", b"", 1)


@pytest.mark.parametrize(
    ("line", "says", "expected"),
    [
        (["-names"], b"HTTP/1.1 400", (b"epmd: " + OTHER_PROGRAM % b"local epmd", b"", 1)),
        (["-kill"], b"XX", (b"epmd: " + OTHER_PROGRAM % b"local epmd", b"", 1)),
        (["-stop", "foo"], b"WHATEVER", (b"epmd: " + OTHER_PROGRAM % b"local epmd", b"", 1)),
        (["-kill"], b"", (b"epmd: local epmd responded with <>\n", b"", 1)),
        (
            ["-host", "127.0.0.1", "-names"],
            b"HTTP/1.1 400",
            (b"", b"epmd: " + OTHER_PROGRAM % b"epmd on 127.0.0.1", 1),
        ),
        (
            ["-json", "-names"],
            b"\0\0\x11\x11name \xff at port 1\nname a at port " + b"1" * 5000 + b"\n",
            (b'{"port": 4369, "nodes": [{"name": "\\udcff", "port": 1}]}\n', b"", 0),
        ),
    ],
    ids=str,
)
def test_odd_answer(call: Call, line: list[str], says: bytes, expected: Outcome) -> None:
    with Odd(says) as odd:
        assert call(odd.port, *line) == expected


def test_listing_that_ends_with_a_reset(call: Call) -> None:
    with Odd(b"\0\0\0\1name foo", reset=True) as odd:
        assert call(odd.port, "-names") == (b"epmd: up and running on port 1 with data:\nname foo", b"", 0)


@pytest.mark.parametrize(
    ("option", "beginning"), [("--help", b"usage: "), ("--version", b"epmd "), ("--licences", b"")]
)
def test_texts(call: Call, option: str, beginning: bytes) -> None:
    out, err, status = call(1, option)
    assert out.startswith(beginning)
    assert out.endswith(b"\n")
    assert (err, status) == (b"", 0)


def test_bad_lines(call: Call) -> None:
    assert call(1, "-help") == (b"", USAGE.encode(), 1)
    assert call(1, "-nonsense") == (b"", b'epmd: unknown option "-nonsense": see epmd -help\n', 1)
    out, err, status = call(1, "-allow", "nonsense", "-nagios")
    assert (out, status) == (b"EPMD UNKNOWN - " + err.removeprefix(b"epmd: "), 3)


def test_dump_for_a_terminal() -> None:
    listed = b"active name     <a\x1b> at port 1, fd = 7\n\0old/unused name <b>, port = 2, fd = 8 \n\0"
    shown = b"active name     <a\\x1b> at port 1, fd = 7\nold/unused name <b>, port = 2, fd = 8 \n"
    assert calls._harmless(listed) == shown


def test_output_that_nobody_takes() -> None:
    with Path("/dev/full").open("wb") as full:
        calls.write(full.fileno(), b"text")
        calls.say(full.fileno(), "text")
