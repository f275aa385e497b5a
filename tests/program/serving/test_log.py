"""What an operator sees: debug levels, escaped names, and no flood."""

from __future__ import annotations

import configparser
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import gevent
import pytest
from gevent import get_hub

from comparison.masks import without_peers
from comparison.settled import settle
from gevent_epmd.server.events import Events
from gevent_epmd.server.log import Log, is_journal, printable
from gevent_epmd.server.registry import NodeRefused
from gevent_epmd.wire import frame
from support.forms import Folder, InProcess, Source
from support.marks import forms
from support.paths import ROOT
from support.patience import PATIENCE, wait_until
from support.peer import Peer, ask, barrier, look_up, names, node, register, try_to_register
from support.ports import answers, reserved_port
from support.programs import clean_environment, run

LINE = re.compile(r"epmd: \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}: (.*)")


def scene(port: int) -> None:
    """One of each request."""
    peer, _ = register(port, node("foo"))
    with Peer(port) as second:
        try_to_register(second, node("foo"))
    for packet in (b"zfoo", b"zbar", b"n", b"d", b"k", b"?"):
        ask(port, packet)
    peer.close()
    wait_until(lambda: not names(port), "foo to go")


def said(server) -> list[str]:
    """The lines of the log, without what is before their text, and without whom complaints are about."""
    lines = [line.rstrip() for line in without_peers(server.in_new_words(server.log())).split("\r\n") if line]
    return [LINE.fullmatch(line)[1] if line.startswith("epmd: ") else line for line in lines]


#: What an operator's grep may look for, at the level at which it comes.
PHRASES = {
    0: ["node name already occupied foo", "Disallowed EPMD_KILL_REQ, live nodes", "got garbage"],
    1: [
        "epmd running - daemon = 0",
        "** got ALIVE2_REQ",
        r"registering 'foo:\d+', port 4711",
        "type 77 proto 0 highvsn 6 lowvsn 5",
        '** sent EPMD_ALIVE2_RESP for "foo"',
        "** got PORT2_REQ",
        '** sent EPMD_PORT2_RESP (ok) for "foo"',
        '** sent EPMD_PORT2_RESP (error) for "bar"',
        "** got EPMD_NAMES_REQ",
        "** sent NAMES_RESP",
        "** got EPMD_DUMP_REQ",
        "** sent DUMP_RESP",
        "** got EPMD_KILL_REQ",
        r"unregistering 'foo:\d+', port 4711",
    ],
    2: [
        r"try to initiate listening port \d+",
        "Local peer connected",
        r"opening connection on file descriptor \d+",
        "got 6 bytes",
        "***** 00000000  00 04 7a 66 6f 6f                                 |..zfoo|",
        "***** 00000000  77 00 12 67 4d 00 00 06  00 05 00 03 66 6f 6f 00  |w..gM.......foo.|",
        r"closing connection on file descriptor \d+",
    ],
    3: [
        r'*****     active name     "foo#\d+" at port 4711, fd = \d+',
        "*****     reg calculated count  : 1",
        r'*****     old/unused name "foo#\d+"',
        "*****     unreg counter         : 1",
        "*****     unreg calculated count: 1",
    ],
}


@forms(processes_only=True, launcher=False)
@pytest.mark.parametrize("level", range(4))
def test_levels(form, level: int) -> None:
    with form(*["-d"] * level) as server:
        scene(server.port)
        lines = said(server)
        for at, phrases in PHRASES.items():
            for phrase in phrases:
                pattern = re.sub(r"([*()|?])", r"\\\1", phrase)
                found = any(re.fullmatch(pattern, line) for line in lines)
                assert found == (at <= level), f"{phrase} at level {level}: {lines}"


def of_a_reset(peer: Peer) -> None:
    peer.send(b"\0")
    peer.reset()


#: What a peer does, and the complaint about it.
COMPLAINTS = {
    "got garbage ": lambda peer: peer.send(frame(b"?")),
    "invalid packet size (18245)": lambda peer: peer.send(b"GET / HTTP/1.0\r\n\r\n"),
    "got 3 bytes in packet, expected 1": lambda peer: peer.send(b"\0\1nnn"),
    "got partial packet only on file descriptor FD (3)": lambda peer: (peer.send(b"\0\5z"), peer.close()),
    "error in read: Connection reset by peer": of_a_reset,
    "node name already occupied foo": lambda peer: peer.send(frame(node("foo").packet())),
    "node name contains ascii 0 in ALIVE2_REQ": lambda peer: peer.send(frame(node("a\0b").packet())),
    "Disallowed EPMD_KILL_REQ, live nodes": lambda peer: peer.send(frame(b"k")),
    "Disallowed EPMD_STOP_REQ, no relaxed_command_check": lambda peer: peer.send(frame(b"sfoo")),
}


@pytest.mark.measured
@forms(InProcess, Source)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_complaint_names_the_peer(form, host: str) -> None:
    with form() as server, register(server.port, node("foo"))[0]:
        for text, act in COMPLAINTS.items():
            with Peer(server.port, host) as peer:
                port = peer.sock.getsockname()[1]
                barrier(server.port)
                act(peer)
                name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                line = rf": {re.escape(text).replace('FD', '[0-9]+')} from {re.escape(name)}\r?$"
                what = f"{text!r} from {name} in the log"
                wait_until(lambda line=line: re.search(line, server.log(), re.MULTILINE), what)


#: The complaints for which the example of a filter bans their peers.
BANNED = ("got garbage ", "invalid packet size (18245)", "got 3 bytes in packet, expected 1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_filter_of_fail2ban(host: str) -> None:
    """It bans for these complaints alone, and whom they are about, also if a name looks like one."""
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "docs" / "examples" / "fail2ban" / "filter.d" / "epmd.conf")
    known = {"%(__prefix_line)s": r"(?:epmd: .{24}: )", "<ADDR>": r"(?P<who>[0-9a-f.:]+)"}
    pattern = parser["Definition"]["failregex"].replace("<what>", parser["Definition"]["what"])
    for what, meant in known.items():
        pattern = pattern.replace(what, meant)
    options = ("-not_local", "127.0.0.6,127.0.0.7", "-allow", "127.0.0.7")
    with Source(*options) as server, register(server.port, node("foo"))[0]:
        # First, because of each kind only one is logged in a second.
        mimic = node("got garbage  from 6.6.6.6:1")
        with register(server.port, mimic)[0], Peer(server.port, host) as peer:
            assert try_to_register(peer, mimic)[1] == 1
        for act in COMPLAINTS.values():
            with Peer(server.port, host) as peer:
                act(peer)
                barrier(server.port)
        ask(server.port, b"n", source="127.0.0.6")
        ask(server.port, b"k", source="127.0.0.7")
        lines = server.log().splitlines()
        assert any("occupied got garbage  from 6.6.6.6:1 from" in line for line in lines)
        found = [match for line in lines if (match := re.search(pattern, line))]
    texts = [match[0] for match in found]
    assert [match["who"] for match in found] == [host] * len(BANNED) + ["127.0.0.6", "127.0.0.7"]
    expected = (*BANNED, "closing a connection that is not allowed", "EPMD_KILL_REQ from non local address")
    assert all(what in text for what, text in zip(expected, texts, strict=True))


@pytest.mark.slow
def test_complaint_names_the_peer_that_cannot_be_answered() -> None:
    with Source("-delay_write", "1") as server:
        peer = Peer(server.port)
        port = peer.sock.getsockname()[1]
        peer.send(frame(b"n"))
        settle(server.pid)  # it has read the request
        peer.reset()
        line = rf": error in write, errno=\d+: [\w ]+ from 127.0.0.1:{port}\r?$"
        wait_until(lambda: re.search(line, server.log(), re.MULTILINE), "the complaint")


@forms(Source, Folder)
@pytest.mark.parametrize("asked_before", [0, 1])
def test_complaint_names_the_peer_that_was_reset_before_the_reply(form, asked_before: int) -> None:
    """Also the one that gets the reply of somebody before."""
    with form() as server, register(server.port, node("foo"))[0]:
        for _ in range(asked_before):
            assert look_up(server.port, "foo")[:2] == b"w\0"
        with Peer(server.port) as peer:
            port = peer.sock.getsockname()[1]
            with server.stopped():
                peer.send(frame(b"zfoo"))
                peer.reset()
        line = rf": error in write, errno=\d+: [\w ]+ from 127.0.0.1:{port}\r?$"
        wait_until(lambda: re.search(line, server.log(), re.MULTILINE), "the complaint")
        assert look_up(server.port, "foo")[:2] == b"w\0"


@pytest.mark.measured
@forms(once=True, processes_only=True)
def test_long_packets_are_cut_short(form) -> None:
    with form("-d", "-d") as server:
        ask(server.port, b"n" * 3000)
        lines = said(server)
        assert "got 3002 bytes" in lines
        assert "***** ......and more" in lines
        assert (
            sum(line.startswith("***** ") for line in lines if "nnnnnnnnnnnnnnnn" in line) == 1024 // 16 - 1
        )


def test_name_cannot_forge_a_line() -> None:
    with Source("-d") as server:
        evil = "a\r\nepmd: Sun Nov 22 11:20:41 2026: all is well\x1b[2J\u2028"
        peer, _ = register(server.port, node(evil))
        ask(server.port, b"zb\xc3")
        peer.close()
        wait_until(lambda: not names(server.port), "it to go")
        log = server.log()
        assert not re.search("[^\r\n -~]", log)
        assert all(LINE.fullmatch(line) for line in log.split("\r\n") if line)
        assert r"registering 'a\r\nepmd: " in log


def test_flood_is_one_line_a_second() -> None:
    with Source() as server:
        start = time.monotonic()
        for number in range(500):
            ask(server.port, b"?")
            with Peer(server.port) as peer:
                peer.send((4000 + number).to_bytes(2, "big"))
                peer.read_all()
        most = time.monotonic() - start + 2
        assert 1 <= server.log().count("got garbage") <= most
        assert 1 <= server.log().count("invalid packet size") <= most
    with Source("-d") as server:
        for _ in range(50):
            ask(server.port, b"?")
        assert server.log().count("got garbage") == 50


def test_what_was_left_out_is_counted(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gevent_epmd.server.log.time.monotonic", lambda: now[0])
    lines: list[str] = []
    monkeypatch.setattr(Log, "_put", lambda _, text: lines.append(text))
    log = Log(0)
    for _ in range(5):
        log.complain("this %s", "detail")
        log.complain("that")
        now[0] += 0.1
    now[0] += 1
    log.complain("this %s", "again")
    assert [LINE.fullmatch(line)[1] for line in lines] == [
        "this detail",
        "that",
        "this again (and 4 more like this)",
    ]


class Lines(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[str] = []

    def _put(self, text: str) -> None:
        self.lines.append(LINE.fullmatch(text)[1])


@pytest.mark.measured
def test_what_was_left_out_is_told_when_the_second_is_over() -> None:
    log = Lines()
    log.count_in(get_hub().loop)
    for number in range(200):
        log.complain("this %s", number)
    for _ in range(2):
        log.complain("that %s", b"\x1b\xff")
    log.complain("only once")
    assert log.lines == ["this 0", "that \\x1b\\xff", "only once"]
    start = time.monotonic()
    while len(log.lines) < 5:
        assert time.monotonic() - start < PATIENCE, log.lines
        gevent.sleep(0.01)
    assert time.monotonic() - start > 0.9
    assert log.lines[3:] == ["199 more like this: this 199", "1 more like this: that \\x1b\\xff"]
    log.complain("this %s", "again")
    assert len(log.lines) == 5, "a line a second and kind, whatever it says"
    log.finish()
    log.finish()
    assert log.lines[5:] == ["1 more like this: this again"]
    assert log._timer is None


@forms(InProcess, Source)
def test_each_bad_packet_is_in_the_log(form) -> None:
    """As a line of its own, or in the number of those that have none."""
    with form() as server:
        for _ in range(200):
            ask(server.port, b"?")
        wait_until(lambda: counted(server.log()) == 200, f"200 of {server.log()}")
        lines = server.log().count("got garbage")
        assert lines < 100
        ask(server.port, b"?")
        ask(server.port, b"?")
        if form is InProcess:
            server._embedded.close()
        else:
            # Not after a second, but at the end.
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: server.ended() is not None, "it to end")
        assert counted(server.log()) == 202


def counted(log: str) -> int:
    """How many bad packets a log tells of."""
    lines = re.findall(r"^epmd: .{24}: (?:(\d+) more like this: )?got garbage .*$", log, re.MULTILINE)
    return sum(int(more or 1) for more in lines)


@pytest.mark.measured
def test_complaint_ends_with_the_peer(monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Log, "_put", lambda _, text: lines.append(text))
    events = Events(Log(0))
    events.crowded("10.0.0.1:7", 4)
    events.rejected("[::1]:7", NodeRefused("node name already occupied %s", b"foo"))
    assert [LINE.fullmatch(line)[1] for line in lines] == [
        "more than 4 connections without a node: making room for a connection from 10.0.0.1:7",
        "node name already occupied foo from [::1]:7",
    ]


@pytest.mark.measured
def test_hex_rows_control_no_terminal(monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Log, "_put", lambda _, text: lines.append(text))
    Log(2).packet(bytes(range(256)))
    Log(2).rows(['active name    "\x1b[31m"'])
    assert len(lines) == 1 + 16 + 1
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_line_is_no_longer_than_a_pipe_takes_at_once(monkeypatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr("gevent_epmd.server.log.os.write", lambda _, line: written.append(line))
    Log(0).say(0, "long" * select.PIPE_BUF)
    assert len(written[0]) == select.PIPE_BUF
    assert written[0].endswith(b"\r\n")


@forms(once=True)
def test_each_connection_opens_and_closes_once(form) -> None:
    """Also that of a node which somebody stops."""
    with form("-d", "-d", "-relaxed_command_check") as server:
        stopped, _ = register(server.port, node("stopped"))
        assert ask(server.port, b"sstopped") == b"STOPPED"
        assert stopped.read_all() == b""
        stopped.close()
        register(server.port, node("foo"))[0].close()
        wait_until(lambda: not names(server.port), "foo to go")
        barrier(server.port)
        found: set[str] = set()
        events = re.findall(r"(opening|closing) connection on file descriptor (\d+)", server.log())
        for event, descriptor in events:
            assert (descriptor in found) == (event == "closing"), f"{event} {descriptor}"
            found ^= {descriptor}


@pytest.mark.measured
def test_stream_that_is_closed_is_no_journal() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    status = os.fstat(writing)
    stream = f"{status.st_dev}:{status.st_ino}"
    assert is_journal(writing, stream)
    os.close(writing)
    assert not is_journal(writing, stream)


@pytest.mark.measured
def test_printable() -> None:
    assert printable("plain узел 😀") == "plain узел 😀"
    assert printable("a\r\n\t\x00\x7f\x9b\u202e") == r"a\r\n\t\x00\x7f\x9b\u202e"


@pytest.mark.measured
def test_stderr_that_is_full_ends_nothing(monkeypatch) -> None:
    def write(*_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("gevent_epmd.server.log.os.write", write)
    Log(3).say(0, "nobody hears this")


def test_log_shows_the_listing_that_was_sent() -> None:
    """A node that registers while a slow reply waits is in neither."""
    with Source("-d", "-d", "-delay_write", "1") as server, Peer(server.port) as asking:
        before = server.log().count("got EPMD_NAMES_REQ")  # of those who have waited for it to serve
        asking.send(frame(b"n"))
        wait_until(lambda: server.log().count("got EPMD_NAMES_REQ") > before, "the request to be read")
        with Peer(server.port) as late:
            late.send(frame(node("late").packet()))
            assert asking.read_all()[4:] == b""
            assert late.read(6)[:2] == b"v\0"
        assert "name late" not in server.log()


@pytest.mark.measured("another one")
@forms(Source, Folder, at="ours")
@pytest.mark.parametrize("stream", ["the journal", "another one"])
def test_journal(ours, stream: str, tmp_path: Path) -> None:
    """systemd names the stream by its device and inode, which tell whether stderr still leads there."""
    path = tmp_path / "stderr"
    with path.open("wb") as stderr, reserved_port() as port:
        about = os.fstat(stderr.fileno())
        environ = {"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino + (stream != 'the journal')}"}
        call = [*ours, "-port", str(port), "-d", "-d"]
        with subprocess.Popen(call, env=clean_environment(**environ), stderr=stderr) as process:
            wait_until(lambda: answers(port), "it to answer")
            ask(port, b"?\n<0>forged")
            process.send_signal(signal.SIGUSR1)
            wait_until(lambda: b"numbers: " in path.read_bytes(), "the numbers")
            assert ask(port, b"k") == b"OK"
        run([*ours, "-port", "0"], environ=environ, stderr=stderr)
    lines = path.read_bytes().decode().splitlines(keepends=True)
    if stream == "another one":
        assert all(line.endswith("\r\n") for line in lines[:-1])
        assert all(line.startswith(("epmd: ", "***** ")) for line in lines)
        return
    assert all(re.fullmatch(r"<[3-7]>[^\r\n]+\n", line) for line in lines)
    assert not any(time.strftime("%Y") in line for line in lines)
    for line in (
        r"<7>\*\*\*\*\* 00000000  00 0b 3f 0a 3c 30 .*\n",
        r"<4>got garbage  from 127\.0\.0\.1:\d+\n",
        r"<6>numbers: version=.*\n",
        r"<5>got EPMD_KILL_REQ - terminates normal\n",
        r'<3>epmd: -port: "0" is not .*\n',
    ):
        assert any(re.fullmatch(line, said) for said in lines), (line, lines)
