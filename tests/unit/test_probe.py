"""The steps of `epmd -check`, with sockets of the test's own."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time

import pytest

from gevent_epmd.client import exchange
from gevent_epmd.program.check import probe
from gevent_epmd.program.check.probe import place
from gevent_epmd.program.process import procfs
from support.firewall import blocked_port
from support.patience import PATIENCE, whole_seconds
from support.strangers import BoundOnly, ClosesAtOnce, Dripping, Http, Mute

pytestmark = pytest.mark.measured


def test_results_are_in_the_order_of_the_jobs() -> None:
    told: list[tuple[int, int]] = []
    jobs = [lambda number=number: number * number for number in range(100)]
    assert probe.together(jobs, 10, lambda done, of: told.append((done, of))) == [
        number * number for number in range(100)
    ]
    assert told == [(done, 100) for done in range(1, 101)]


def test_late_job_has_no_result() -> None:
    never = threading.Event()
    jobs = [lambda: 1, lambda: never.wait(PATIENCE), lambda: 2]
    assert probe.together(jobs, whole_seconds(0.2), most=1) == [1, None, None]
    never.set()


def test_no_jobs() -> None:
    assert probe.together([], 10) == []


def test_as_many_at_once_as_there_may_be_threads(monkeypatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", _no_thread)
    assert probe.together([lambda: 1, lambda: 2], 10) == [1, 2]


def _no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_descriptors_bound_what_is_done_at_once() -> None:
    """Each job holds one until all that may run at once are there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 60, hard))
    running, most = 0, 0
    lock = threading.Lock()

    def job() -> bool:
        nonlocal running, most
        with socket.socket(), lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return True

    try:
        assert all(probe.together([job] * 200, PATIENCE))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 1 < most <= 60


@pytest.mark.parametrize(
    ("stranger", "code"),
    [
        (Mute, probe.MUTE),
        (Dripping, probe.MUTE),
        (Http, probe.STRANGER),
        (ClosesAtOnce, probe.CLOSED),
        (BoundOnly, probe.REFUSED),
    ],
)
def test_what_answers(stranger, code: str) -> None:
    with stranger() as there:
        answer = probe.ask(place("127.0.0.1"), there.port)
    assert answer.code == code
    assert answer.reason


@pytest.mark.slow
def test_blocked_port() -> None:
    with blocked_port() as port:
        for step in (probe.ask, probe.connect):
            start = time.monotonic()
            assert step(place("127.0.0.1"), port) == probe.Answer(probe.TIMEOUT, "no answer in 1.5 s")
            assert time.monotonic() - start > 1


def test_list_without_end_takes_no_memory() -> None:
    """What is not kept is counted."""
    line = b"name n at port 1\n"
    pieces = [line * 1000] * 100
    kept, more = probe._kept(pieces)
    assert len(kept) <= 1 << 20
    assert kept.endswith(line)
    assert 0 <= 100_000 - kept.count(b"\n") - more <= 1, "a line may be cut in two"
    assert probe._kept([line, line]) == (line * 2, 0)
    with pytest.raises(exchange.BadAnswerError):
        probe._kept([b"x" * (1 << 20)] * 17)


def test_names_are_looked_up() -> None:
    found = probe.look_up("localhost")
    assert place("127.0.0.1") in found.places
    assert found.first == place("127.0.0.1")
    for name in ("nosuch.invalid", "a\0b", "", "x" * 300, "\udcff", "ö.invalid"):
        found = probe.look_up(name)
        assert found.first is None, name
        assert found.problem, name


def test_own_addresses() -> None:
    assert place("127.0.0.1") in probe.own_places()
    assert all(probe.is_own(at) for at in probe.own_places())
    assert probe.is_own(place("127.0.1.1"))
    assert not probe.is_own(place("192.0.2.77"))


def test_listeners_are_found_by_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as v4, socket.create_server(("::1", 0), family=10) as v6:
        for sock, host in ((v4, "127.0.0.1"), (v6, "::1")):
            inode = os.fstat(sock.fileno()).st_ino
            # Another program may have the same port at another address.
            found = [one for one in procfs.listeners()[sock.getsockname()[1]] if one.inode == inode]
            assert found == [(host, os.geteuid(), inode)]
            (process,) = procfs.processes(found)
            assert process.pid == os.getpid()
            assert process.path == os.path.realpath("/proc/self/exe")
            assert process.kind == procfs.OTHER
            assert process.since <= time.time() + 1
    assert inode not in {one.inode for found in procfs.listeners().values() for one in found}
    assert procfs.processes([]) == []
