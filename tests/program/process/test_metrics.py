"""-metrics_file, and what SIGUSR1 makes an epmd say: its numbers, for monitoring."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import gevent
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gevent_epmd import __version__
from gevent_epmd.program import metrics
from gevent_epmd.program.options import Given
from gevent_epmd.program.process.watch import gone
from gevent_epmd.server.acceptor import new_mapper
from gevent_epmd.server.events import TIMED_OUT, TO_MAKE_ROOM, TOO_MUCH_UNREAD, Events
from gevent_epmd.server.log import Log
from gevent_epmd.server.settings import Settings
from gevent_epmd.wire import frame
from support.daemons import serving_pid
from support.forms import Source
from support.marks import forms
from support.paths import ROOT, SOURCE
from support.patience import PATIENCE, wait_until, whole_seconds
from support.peer import Peer, ask, begun, look_up, names, node, register, try_to_register
from support.ports import reserved_port
from support.programs import clean_environment, outcome, run


def read(path: Path) -> dict[str, float]:
    """What Prometheus reads from the file: each sample by its name and its labels, but for the port."""
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "port"}
            found[" ".join([sample.name.removeprefix("epmd_"), *labels.values()])] = sample.value
    return found


def asked(server) -> dict[str, str]:
    """The numbers of the log line that SIGUSR1 causes."""
    before = server.log().count(": numbers: ")
    os.kill(server.pid, signal.SIGUSR1)
    wait_until(lambda: server.log().count(": numbers: ") > before and server.log().endswith("\n"), "the line")
    line = re.findall(r": numbers: (.*)\r\n", server.log())[-1]
    return dict(word.split("=") for word in line.split())


def documented() -> set[str]:
    """The metrics in the table of docs/monitoring.md."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`epmd_.*?) \|", page, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`epmd_(\w+)`", row)}


@pytest.mark.measured
@forms(processes_only=True, c=False)
def test_what_has_happened(form, tmp_path: Path) -> None:
    path = tmp_path / "epmd.prom"
    networks = ("-not_local", "127.0.0.6,127.0.0.7", "-allow", "127.0.0.7")
    options = (*networks, "-packet_timeout", str(whole_seconds(1)), "-metrics_file", str(path))
    with form(*options) as server, ExitStack() as held:
        port = server.port
        assert f'{{port="{port}"' in path.read_text()
        asked(server)
        before = read(path)
        assert {name.partition(" ")[0] for name in before} == documented()
        assert before["up"] == before[f"build_info {__version__}"] == 1
        held.enter_context(register(port, node("foo"))[0])
        refused = held.enter_context(Peer(port))
        assert try_to_register(refused, node("foo"))[1] == 1
        for name in ("foo", "foo", "foo", "bar"):
            look_up(port, name)
        assert names(port) == names(port) != []
        for packet in (b"d", b"k", b"sfoo", b"?"):
            ask(port, packet)
        assert ask(port, b"d", source="127.0.0.7") == b""
        assert ask(port, b"n", source="127.0.0.6") == b""
        with Peer(port) as half, Peer(port):
            half.send(b"\0\5z")
        with begun(port) as late:
            assert late.read_all() == b""
        line = asked(server)
        after = read(path)
        changes = {name: value - before[name] for name, value in after.items() if value != before[name]}
        assert changes.pop("open_fds") == 2
        assert changes == {
            "nodes": 1,
            "connections_waiting": 1,
            "requests_total alive2": 2,
            "requests_total port2": 4,
            "requests_total names": 2,
            "requests_total dump": 2,
            "requests_total kill": 1,
            "requests_total stop": 1,
            "registrations_refused_total": 1,
            "requests_denied_total": 3,
            "requests_malformed_total": 2,
            "connections_closed_total not_allowed": 1,
            "connections_closed_total timed_out": 1,
        }
        assert line.pop("version") == __version__
        alone = ("up", f"build_info {__version__}")
        assert list(map(float, line.values())) == [after[name] for name in after if name not in alone]
    assert read(path)["up"] == 0
    assert os.listdir(tmp_path) == ["epmd.prom"]


@forms(Source)
def test_numbers_without_a_file(form) -> None:
    with form() as server:
        assert int(asked(server)["requests_names"]) > 0
        assert asked(server)["nodes"] == "0"


@pytest.mark.parametrize("how", ["KILL", "TERM", "-idle_exit", "SIGKILL"])
def test_end(how: str, tmp_path: Path) -> None:
    path = tmp_path / "epmd.prom"
    with Source("-metrics_file", str(path), *(("-idle_exit", "1") if how[0] == "-" else ())) as server:
        if how == "KILL":
            assert ask(server.port, b"k") == b"OK"
        elif how != "-idle_exit":
            os.kill(server.pid, signal.Signals[how if how == "SIGKILL" else "SIGTERM"])
        server.process.wait(PATIENCE)
        found = read(path)
        assert found["up"] == (1 if how == "SIGKILL" else 0)
        assert how != "KILL" or found["requests_total kill"] == 1


@pytest.fixture
def reporter(tmp_path: Path) -> Iterator[metrics.Reporter]:
    """Of a mapper in this process, that writes a file in a folder of its own."""
    sock = socket.create_server(("127.0.0.1", 0))
    (tmp_path / "folder").mkdir()
    mapper = new_mapper(Settings(), [socket.socket(fileno=sock.detach())], Events(Log()))
    yield metrics.Reporter(mapper, Given("-metrics_file", str(tmp_path / "folder" / "epmd.prom")))
    mapper.stop()


@pytest.mark.measured
def test_again_and_again(reporter, monkeypatch, tmp_path: Path) -> None:
    """Every 15 seconds, here 0.01: a file that is removed is there again, and a failure is told once."""
    lines: list[str] = []
    monkeypatch.setattr(Log, "_put", lambda _, line: lines.append(line))
    monkeypatch.setattr(metrics, "EVERY", 0.01)
    path = tmp_path / "folder" / "epmd.prom"
    reporter.start()
    reporter.serves = True
    for number in range(2):
        path.unlink()
        soon(path.exists)
        path.parent.rename(tmp_path / f"moved {number}")
        soon(lambda: lines)
        gevent.sleep(0.05)  # the rate
        path.parent.mkdir()
        soon(path.exists)
        [line] = lines
        assert line.endswith(f": -metrics_file: cannot write {path}: No such file or directory")
        lines.clear()
    reporter.finish()
    assert read(path)["up"] == 0


def soon(condition: Callable[[], object]) -> None:
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.01)


def test_why_connections_were_closed() -> None:
    """Each reason has a number of its own, and the end of the mapper is none."""
    told = Events(Log())
    for reason in (TIMED_OUT, TO_MAKE_ROOM, TO_MAKE_ROOM, *(3 * [TOO_MUCH_UNREAD]), "the mapper ends"):
        told.aborted(reason)
    assert (told.counts.timed_out, told.counts.crowded_out, told.counts.unread) == (1, 2, 3)


@pytest.mark.measured
def test_epmd_that_has_never_served_leaves_no_file(reporter, tmp_path: Path) -> None:
    reporter.start()
    assert read(tmp_path / "folder" / "epmd.prom")["up"] == 1
    reporter.finish()
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.measured
def test_no_descriptor_is_left(tmp_path: Path, monkeypatch) -> None:
    """Connections that are of no use make room for the report."""
    path = tmp_path / "epmd.prom"
    few = staticmethod(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    monkeypatch.setattr(Source, "prepare", few)
    with Source("-metrics_file", str(path)) as server, ExitStack() as held:
        for _ in range(40):
            held.enter_context(begun(server.port))
        wait_until(lambda: "no room for a connection" in server.log(), "descriptors to run out")
        path.unlink()
        asked(server)
        found = read(path)
        assert found["max_fds"] == 40
        assert found["open_fds"] > 36
        assert found["connections_closed_total crowded_out"] > 0
        assert "cannot write" not in server.log()


@pytest.mark.measured
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may serve as another user")
def test_user_must_be_able_to_write(ours, tmp_path: Path) -> None:
    """At the start, and not 15 seconds later."""
    path = tmp_path / "epmd.prom"
    with reserved_port() as port:
        call = [*ours, "-port", str(port), "-user", "12345:12345", "-metrics_file", str(path), "-daemon"]
        out, err, status = outcome(call)
        said = f": cannot serve: -metrics_file: cannot write {path} as user 12345: Permission denied\r\n"
        assert (out, status) == (b"", 1)
        assert err.decode().endswith(said)
        assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may serve as another user")
def test_user_writes_it(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:  # which is within the reach of every user
        path = Path(folder) / "epmd.prom"
        os.chmod(folder, 0o777)
        with Source(
            "-user", "12345:12345", "-metrics_file", str(path), "-pid_file", str(tmp_path / "p")
        ) as server:
            path.unlink()
            asked(server)
            assert path.stat().st_uid == 12345
            assert path.stat().st_mode & 0o777 == 0o644
        assert read(path)["up"] == 0


def test_signal_before_it_serves() -> None:
    """While it asks who has the port, somebody wants a report."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(PATIENCE)
        call = [*SOURCE, "-port", str(other.getsockname()[1])]
        with subprocess.Popen(call, env=clean_environment(), stderr=subprocess.DEVNULL) as process:
            with other.accept()[0] as asking:
                assert asking.recv(3) == frame(b"n")
                process.send_signal(signal.SIGUSR1)
            assert process.wait(PATIENCE) == 1


@pytest.mark.measured
def test_take_over(tmp_path: Path) -> None:
    """The former epmd is killed, and the file of the new one says that it serves."""
    path = tmp_path / "epmd.prom"
    options = ["-metrics_file", str(path)]
    with Source(*options) as server, register(server.port, node("foo"))[0]:
        before = read(path)
        done = run([*SOURCE, "-port", str(server.port), "-takeover", "-daemon", *options])
        assert done.returncode == 0, done.stderr
        pid = serving_pid(server.port)
        try:
            after = read(path)
            assert after["up"] == after["nodes"] == before["up"] == 1
            assert after["start_time_seconds"] >= before["start_time_seconds"]
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: gone(pid), "it to end")
    assert read(path)["up"] == 0
    assert os.listdir(tmp_path) == ["epmd.prom"]
