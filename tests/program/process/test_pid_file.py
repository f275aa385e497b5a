"""-pid_file: which process serves, for whoever starts and ends services without systemd."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gevent_epmd.program.process.watch import gone
from support.daemons import end, serving_pid
from support.forms import Built, Folder, Source
from support.marks import by_form, forms
from support.patience import PATIENCE
from support.peer import ask
from support.ports import answers, reserved_port
from support.programs import outcome, real, run

#: Of start-stop-daemon, where there is no such process.
NOT_RUNNING = 1


@forms(processes_only=True, c=False)
@pytest.mark.parametrize("how", ["KILL", "TERM"])
def test_process_that_serves_until_its_end(form, how: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with form("-pid_file", str(path)) as server:
        assert int(path.read_text()) == server.pid == serving_pid(server.port)
        if how == "KILL":
            assert ask(server.port, b"k") == b"OK"
        else:
            os.kill(server.pid, signal.SIGTERM)
        server.process.wait(PATIENCE)
        assert list(tmp_path.iterdir()) == []


def test_daemon_has_written_it_when_it_returns(ours, tmp_path: Path) -> None:
    with reserved_port() as port:
        done = run([*ours, "-port", str(port), "-pid_file", "pid", "-daemon"], cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        pid = int((tmp_path / "pid").read_text())
        try:
            assert pid == serving_pid(port)
            assert answers(port)
        finally:
            end(port, pid)
        assert list(tmp_path.iterdir()) == []


def test_both_files_may_be_stdout(ours) -> None:
    done = run([*ours, "-port", "0", "-port_file", "-", "-pid_file", "-", "-loopback", "-idle_exit", "1"])
    port, pid = map(int, done.stdout.split())
    assert done.returncode == 0
    assert port != pid
    assert gone(pid)


@pytest.mark.measured
@forms(Source, at="ours")
def test_port_in_use(ours, tmp_path: Path) -> None:
    with Source() as server:
        done = run([*ours, "-port", str(server.port), "-pid_file", str(tmp_path / "pid")])
    assert done.returncode == 1
    assert b"already a epmd running" in done.stderr
    assert list(tmp_path.iterdir()) == []


@by_form("user", {Source: ["", "-user"], Built: ["-user"], Folder: ["-user"]}, at="ours")
def test_start_stop_daemon(ours, user: str, tmp_path: Path) -> None:
    """Debian's, as an init script calls it.  It trusts only files that are root's, or its own user's."""
    if user and os.geteuid():
        pytest.skip("only root may serve as another user")
    manager, path = real("start-stop-daemon"), tmp_path / "pid"
    known = ["--pidfile", str(path), "--quiet"]
    with reserved_port() as port:
        program = [*ours, "-port", str(port), "-daemon", "-pid_file", str(path)]
        program += ["-user", "nobody"] if user else []
        start = [manager, "--start", *known, "--startas", program[0], "--", *program[1:]]
        assert outcome([manager, "--status", *known])[2] != 0
        assert outcome(start) == (b"", b"", 0)
        pid = int(path.read_text())
        try:
            assert pid == serving_pid(port)
            assert outcome([manager, "--status", *known])[2] == 0
            assert outcome(start)[2] == 1, "it runs already"
            assert outcome([*start[:4], "--oknodo", *start[4:]]) == (b"", b"", 0)
            assert serving_pid(port) == pid
            stop = outcome([manager, "--stop", *known, "--retry", "TERM/30/KILL/5"])
            assert stop == (b"", b"", 0)
            assert gone(pid)
            assert not answers(port)
            assert outcome([manager, "--stop", *known])[2] == NOT_RUNNING
            assert outcome(start) == (b"", b"", 0), "and once more"
            pid = serving_pid(port)
        finally:
            end(port, pid)
