"""-takeover: one epmd takes the place of another, and the nodes notice nothing."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gevent_epmd import ThreadedPortMapper, client
from gevent_epmd.program.processes import gone
from support.daemons import listening_at
from support.forms import (
    PATIENCE,
    PROGRAMS,
    C,
    Process,
    Source,
    clean_environment,
    outcome,
    processes_at,
    real,
    reserved_port,
    run,
    state,
    wait_until,
)
from support.peer import Peer, ask, barrier, names, node, register
from gevent_epmd.protocol import frame

OLD = [Source, PROGRAMS["built"], PROGRAMS["folder"], C]
NEW = list(PROGRAMS.values())
each_old = pytest.mark.parametrize("old", OLD, ids=lambda form: form.__name__)
each_new = pytest.mark.parametrize("new", NEW, ids=lambda form: form.__name__)
LINE = re.compile(rb"^epmd: took over (\d+) nodes? from process (\d+) \(.*\); no answer was delayed by more than \d+ ms\n$")


@contextlib.contextmanager
def taker(new: type[Process], port: int, *options: str) -> Iterator[bytes]:
    """Take over as a daemon, and give what it says. Ends the daemon."""
    real(new.command[0])
    done = run([*new.command, "-port", str(port), "-takeover", "-daemon", *options])
    try:
        assert (done.returncode, done.stdout) == (0, b""), done.stderr
        yield done.stderr
    finally:
        for pid in listening_at(port):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda pid=pid: gone(pid), "the daemon to end")


@contextlib.contextmanager
def former(old: type[Process], *options: str) -> Iterator[Process]:
    """An epmd that is to be replaced, so its end is not an error."""
    server = old(*options)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.stop()


@each_old
@each_new
def test_nodes_stay(old, new):
    with former(old, "-d", "-d") as server:
        port, replaced = server.port, server.pid
        held = [register(port, node(f"n{i}", 4000 + i, highest=5 + i % 2, extra=b"e" * i))[0] for i in range(4)]
        register(port, node("late"))[0].close()
        wait_until(lambda: "late" not in names(port)[0], "the name to be free")
        idle, refused = Peer(port), Peer(port)
        refused.send(frame(node("n0").packet()))
        assert refused.read(6)[1] == 1
        before = ask(port, b"n"), [ask(port, b"zn%d" % i) for i in range(4)]
        inodes = sockets_of(replaced)
        with taker(new, port) as said:
            matched = LINE.match(said)
            assert matched, said
            assert (int(matched[1]), int(matched[2])) == (4, replaced)
            wait_until(lambda: gone(replaced), "the former epmd to end")
            assert (ask(port, b"n"), [ask(port, b"zn%d" % i) for i in range(4)]) == before
            [serving] = listening_at(port)
            # The very same sockets: nobody has connected again.
            assert sockets_of(serving) & inodes == inodes
            assert b"old/unused name <late>" in ask(port, b"d")
            assert refused.is_open()
            idle.send(frame(b"zn1"))
            assert idle.read_all() == before[1][1]
            held[1].close()
            wait_until(lambda: len(names(port)) == 3, "the node that ended to be gone")
            again, creation = register(port, node("n1"))
            assert again.is_open()
            assert creation > time.time() - 60
            refused.close()
            for peer in (*held, again):
                peer.close()
            wait_until(lambda: not names(port), "all nodes to be gone")


def sockets_of(pid: int) -> set[str]:
    """The sockets of the process that are TCP connections or listen."""
    known = {
        f"socket:[{line.split()[9]}]"
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    }
    links = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            links.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links & known


@each_new
def test_nobody_serves_the_port(new):
    with reserved_port() as port, taker(new, port) as said:
        assert said == b""
        assert names(port) == []


def test_foreground_logs_it():
    with former(C) as server:
        held, _ = register(server.port, node("n"))
        with Source.beside(server, "-takeover") as taken:
            assert "took over 1 node from process" in taken.log()
            assert held.is_open()
            held.close()


@each_old
def test_embedded_or_other_programs_are_refused(old):
    if old is not Source:
        pytest.skip("one is enough")
    with ThreadedPortMapper(port=0) as mapper:
        held = client.register("n", 4711, port=mapper.port)
        out, err, status = outcome([*Source.command], "-port", str(mapper.port), "-takeover")
        assert status == 1
        assert b"is part of another program" in err
        assert not held.lost()
        held.close()


def test_request_that_arrives_in_two_parts_is_answered():
    """A connection that the former epmd has half read is finished by it."""
    with former(C) as server, Peer(server.port) as slow:
        held, _ = register(server.port, node("n"))
        slow.send(b"\0\3z")
        barrier(server.port)
        taking = start(Source, server.port, "-takeover", "-daemon")
        wait_until(lambda: len(processes_at(server.port)) > 1, "the other to start")
        slow.send(b"n\0")
        assert slow.read_all()[:2] == b"w\0"
        assert taking.wait(PATIENCE) == 0
        assert held.is_open()
        end_all(server.port)


def test_half_a_request_does_not_prevent_it():
    with former(C) as server, Peer(server.port) as slow:
        slow.send(b"\0\3z")
        barrier(server.port)
        with taker(Source, server.port):
            assert slow.read_all() == b""


def start(new: type[Process], port: int, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*new.command, "-port", str(port), *options],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end_all(port: int) -> None:
    for pid in processes_at(port):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: gone(pid), "it to end")


def test_someone_serves_whenever_the_new_one_is_killed():
    """SIGKILL at 30 moments of the take-over: the former epmd goes on, or the new one has its place."""
    random.seed(7)
    with former(C) as server:
        held = [register(server.port, node(f"n{i}"))[0] for i in range(3)]
        began = time.monotonic()
        rounds = 0
        with taker(Source, server.port):
            lasts = time.monotonic() - began
        assert held[0].was_reset() or not held[0].is_open()
    for _ in range(30):
        rounds += 1
        with former(C) as server:
            held = [register(server.port, node(f"n{i}"))[0] for i in range(3)]
            taking = start(Source, server.port, "-takeover", "-daemon")
            time.sleep(random.uniform(0.3, 1.1) * lasts)  # the moment is what is tested
            killed = processes_at(server.port)
            killed.remove(server.pid) if server.pid in killed else None
            for pid in killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            # The last forked one is the one that takes over.
            taking.kill()
            taking.wait(PATIENCE)
            for pid in killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            wait_until(lambda: state(server.pid) != "T", "the former epmd to go on or to end")
            assert len(names(server.port)) == 3
            assert all(peer.is_open() for peer in held)
            end_all(server.port)
