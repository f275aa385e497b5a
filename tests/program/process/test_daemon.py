"""-daemon: when it returns, what it says, and what the daemon holds on to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from gevent_epmd.program.process.watch import gone
from support.daemons import daemon, end, serving_pid
from support.differences import is_listed
from support.forms import Built, C, Folder, Source, command_of
from support.marks import by_form, forms
from support.orphans import zombies_under_process_1
from support.paths import C_EPMD, SOURCE
from support.patience import PATIENCE, wait_until
from support.peer import ask, barrier, names, node, register
from support.ports import answers, reserved_port
from support.procfs import descriptors, processes_at
from support.programs import clean_environment, content, real, run
from support.syslog import PRIVATE_DEV, received


@pytest.mark.slow
@forms(Source, Built, at="ours")
def test_daemons_in_a_row_answer_at_once(ours) -> None:
    with reserved_port() as port:
        for _ in range(3):
            options = ["-port", str(port)]
            assert run([*ours, *options, "-daemon"]).returncode == 0
            listing = run([C_EPMD, *options, "-names"])
            assert listing.stdout == f"epmd: up and running on port {port} with data:\n".encode()
            assert run([*ours, *options, "-kill"]).stdout == b"Killed\n"


def test_pipes_of_the_caller_end(command) -> None:
    """subprocess.run reads both outputs to their end, and the third pipe is one of the caller's own.

    It ends with the call, but for C's, where it ends soon.
    """
    reading, writing = os.pipe()
    with daemon(command, pass_fds=[writing]):
        os.close(writing)
        os.set_blocking(reading, False)
        if command == [C_EPMD]:
            wait_until(lambda: has_ended(reading), "the pipe to end")
        assert has_ended(reading)
        os.close(reading)


def test_nothing_is_kept_of_the_caller(command, tmp_path: Path) -> None:
    with daemon(command, cwd=tmp_path) as (_, pid):
        process = Path(f"/proc/{pid}")
        found = descriptors(pid)
        assert {fd: found.pop(fd) for fd in (0, 1, 2)} == dict.fromkeys((0, 1, 2), "/dev/null")
        # The memory file is that of ours for the greatest creation.
        own = ("socket:", "anon_inode:", "pipe:", "/memfd:epmd-creations")
        assert all(what.startswith(own) for what in found.values()), found
        assert os.readlink(process / "cwd") == "/"
        assert os.getsid(pid) != os.getsid(0)
        assert os.getsid(pid) != pid, "it leads its session, and could get a terminal"
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        assert status["Umask"] == "0000"
        assert int(status["SigIgn"], 16) & 1 << signal.SIGHUP - 1


#: Those whose default action ends a process, without those of faults, and one that `forms` ignores.
DEADLY = [
    *("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"),
    *("SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGPWR"),
]


MANY = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2"]
FEW = ["SIGTERM", "SIGHUP", "SIGUSR2"]


@by_form("name", {Source: DEADLY, Built: MANY, Folder: FEW, C: DEADLY})
def test_signal_ends_it_in_the_foreground(form, name: str, tmp_path: Path) -> None:
    options = [] if form.is_c else ["-pid_file", str(tmp_path / "pid")]
    with form(*options) as server:
        os.kill(server.pid, signal.Signals[name])
        # If a signal ends its child alone, the launcher of the one-file form has a status of its own.
        assert server.process.wait(PATIENCE) in (-signal.Signals[name], 1 if form is Built else None)
    assert list(tmp_path.iterdir()) == []


@forms(but_not_c="SIGUSR1 to an epmd that serves", processes_only=True)
def test_sigusr1_ends_nothing(form, tmp_path: Path) -> None:
    options = [] if form.is_c else ["-pid_file", str(tmp_path / "pid")]
    with form(*options) as server:
        server.process.send_signal(signal.SIGUSR1)
        os.kill(server.pid, signal.SIGUSR1)
        assert answers(server.port)
        assert form.is_c or int((tmp_path / "pid").read_text()) == server.pid


@by_form("name", {Source: MANY, Built: FEW, Folder: FEW, C: FEW})
def test_signals_to_a_daemon(form, name: str, tmp_path: Path) -> None:
    options = [] if form.is_c else ["-pid_file", str(tmp_path / "pid")]
    with daemon(command_of(form), *options) as (port, pid):
        if not form.is_c:
            os.kill(pid, signal.SIGUSR1)
            assert answers(port)
        os.kill(pid, signal.Signals[name])
        if name == "SIGHUP":
            assert answers(port)
        else:
            wait_until(lambda: gone(pid), "it to end")
            assert not answers(port)
    assert list(tmp_path.iterdir()) == []


@forms(processes_only=True)
def test_ctrl_c_stays_ignored(form, monkeypatch) -> None:
    """So a shell script starts what it puts in the background."""
    ignore = staticmethod(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    monkeypatch.setattr(form, "prepare", ignore)
    with form() as server:
        server.process.send_signal(signal.SIGINT)
        assert answers(server.port)


def test_port_in_use_is_no_error(command) -> None:
    with daemon(SOURCE) as (port, pid):
        for options in (["-daemon"], []):
            call = run([*command, "-port", str(port), *options])
            assert (call.returncode, call.stdout, call.stderr) == (0, b"", b"")
            # C's caller returns before its daemon has tried the port, which must not be free then.
            wait_until(lambda: processes_at(port) == [pid], "whatever it has started to end")
        call = run([*command, "-port", str(port), "-d"])
        assert call.returncode == 0
        assert f"there is already a epmd running at port {port} on ipaddr 0.0.0.0\r\n".encode() in call.stderr
        assert serving_pid(port) == pid


@pytest.mark.slow
@forms(Source, Built, at="ours")
def test_daemons_that_start_together_leave_one(ours) -> None:
    count = 8
    with reserved_port() as port:
        command = [*ours, "-port", str(port), "-daemon"]
        calls = [subprocess.Popen(command, env=clean_environment()) for _ in range(count)]
        assert [call.wait(PATIENCE) for call in calls] == [0] * count
        pid = serving_pid(port)
        assert run([*ours, "-port", str(port), "-kill"]).stdout == b"Killed\n"
        wait_until(lambda: gone(pid), "the daemon to end")
        assert not answers(port)


#: No host has this address (RFC 5737).
NO_ADDRESS = "203.0.113.7"
FAILURES = {
    "an address that is not there": (["-address", NO_ADDRESS], b"failed to bind on ipaddr 203.0.113.7: "),
    "an address that is none": (["-address", "here"], b'cannot parse IP address "here"'),
    "no sockets of systemd's": (["-systemd"], b"systemd provides no sockets"),
    "a folder in which nobody may write": (
        ["-port_file", "/proc/port"],
        b"cannot serve: -port_file: cannot write ",
    ),
}


@pytest.mark.measured("nobody may write", "no sockets")
@forms(but_not_c="`-daemon` that cannot serve", processes_only=True)
@pytest.mark.parametrize("why", FAILURES)
def test_failure_is_on_stderr_and_in_the_status(form, why: str) -> None:
    options, reason = FAILURES[why]
    with reserved_port() as port:
        call = run([*form.command, "-port", str(port), "-daemon", *options])
        if answers(port):
            end(port, serving_pid(port))
        assert (call.returncode, call.stdout) == (1, b"")
        assert call.stderr.startswith(b"epmd: ")
        assert reason in call.stderr
        assert call.stderr.count(b"\n") == 1


BROKEN = """
import sys
from gevent_epmd.program import cli, run
def broken(*_): raise {what}
run.Server = broken
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("OSError(12, 'no memory')", "cannot serve: [Errno 12] no memory\r\n"),
        ("KeyError(7)", "cannot serve: KeyError(7)\r\n"),
        ("SystemExit(3)", "cannot serve: the daemon ended before it could serve\r\n"),
    ],
)
def test_failure_after_it_has_detached(what: str, said: str, syslog) -> None:
    sock, prefix = syslog
    with reserved_port() as port:
        script = BROKEN.format(what=what)
        call = run([*prefix, SOURCE[0], "-c", script, "-port", str(port), "-daemon"])
        assert (call.returncode, call.stdout) == (1, b"")
        assert call.stderr.decode().endswith(f": {said}")
        assert call.stderr.count(b"\n") == 1
        assert [line.decode().partition(" epmd: epmd: ")[2] for line in received(sock)] == [said.rstrip()]


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


@by_form("closed", {Source: CLOSED, Built: CLOSED[-1:], Folder: CLOSED[-1:]}, at="ours")
def test_caller_without_standard_descriptors(ours, closed: str) -> None:
    with reserved_port() as port:
        shell = f'exec "$@" -port {port} -daemon {closed}'
        assert run(["sh", "-c", shell, "sh", *ours]).returncode == 0
        pid = serving_pid(port)
        peer, _ = register(port, node("foo"))
        assert names(port) == ["foo at port 4711"]
        peer.close()
        wait_until(lambda: not names(port), "foo to go")
        end(port, pid)


@forms(Source, Folder)
def test_caller_that_ignores_sigchld(form) -> None:
    # The launcher of the one-file form, which is PyInstaller's, says then that it failed, though it has not.
    with daemon(
        [real(form.command[0]), *form.command[1:]],
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    ) as (port, _):
        assert not names(port)


REAPER = """
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
assert subprocess.call(sys.argv[1:]) == 0
sys.stdin.read()
states = ["R"]
while not {*states} <= {"S", "Z"}:
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    states = [open(f"/proc/{child}/stat").read().rsplit(")", 1)[1].split()[0] for child in children]
print(*states)
"""


@forms(but_not_c="zombies of `-daemon`", processes_only=True)
def test_no_zombie_is_left_to_pid_1(form) -> None:
    """A subreaper that never reaps stands for such a PID 1."""
    with reserved_port() as port:
        command = [*form.command, "-port", str(port), "-daemon"]
        with tempfile.TemporaryFile() as said:
            ends = {"stdin": subprocess.PIPE, "stdout": said}
            reaper = subprocess.Popen([SOURCE[0], "-c", REAPER, *command], env=clean_environment(), **ends)
            wait_until(lambda: answers(port), "the daemon to answer")
            reaper.communicate(timeout=PATIENCE)
            end(port, serving_pid(port))
            assert content(said).split() == [b"S"]


_ZOMBIES = "zombies if epmd is process 1"
assert is_listed(_ZOMBIES)


@pytest.mark.parametrize(
    "form", [Source, pytest.param(C, marks=pytest.mark.xfail(reason=_ZOMBIES, strict=True))]
)
def test_process_1_reaps_the_orphans_of_others(form) -> None:
    assert zombies_under_process_1(form) == 0


def test_root_without_devices(ours) -> None:
    bare = [real("unshare"), "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev; exec "$@"']
    with reserved_port() as port:
        done = run([*bare, "sh", *ours, "-port", str(port), "-names"])
    assert done.stderr == b"epmd: Cannot connect to local epmd\n"
    assert (done.stdout, done.returncode) == (b"", 1)


@pytest.fixture
def syslog(tmp_path: Path):
    """A syslog of the test's own: its socket, and the beginning of a command line that sees it as
    /dev/log, in a mount namespace of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.settimeout(PATIENCE)
        unshare = [real("unshare"), "--map-root-user", "--mount"]
        yield sock, [*unshare, "sh", "-c", PRIVATE_DEV, "sh", str(tmp_path)]


@forms(processes_only=True, launcher=False, at="command")
def test_errors_go_to_syslog(command, syslog) -> None:
    sock, prefix = syslog
    with reserved_port() as port:
        call = run([*prefix, *command, "-port", str(port), "-daemon", "-address", "203.0.113.7"])
        assert call.stdout == b""
        line = sock.recv(4096)
    assert line.startswith(b"<11>"), "facility user, LOG_ERR"
    assert b" epmd: epmd: failed to bind on ipaddr 203.0.113.7" in line


@forms(processes_only=True, launcher=False)
def test_daemon_logs_to_syslog(form, syslog) -> None:
    sock, prefix = syslog
    with daemon([*prefix, real(form.command[0]), *form.command[1:]]) as (port, _):
        peer, _ = register(port, node("foo"))
        assert ask(port, b"k") == b"NO"
        # The fixture's own questions are no requests that are worth a line; this one is.
        lines = iter(lambda: form.in_new_words(sock.recv(4096).decode()), "")
        assert any(" epmd: epmd: Disallowed EPMD_KILL_REQ, live nodes" in line for line in lines)
        peer.close()
        wait_until(lambda: not names(port), "foo to go")


@pytest.mark.measured
@forms(processes_only=True, launcher=False, at="command")
def test_syslog_that_is_a_stream(command, tmp_path: Path) -> None:
    """A NUL ends each line, as syslog(3) writes them; one that was restarted is found, of whatever kind."""
    path = str(tmp_path / "log")
    unshare = [real("unshare"), "--map-root-user", "--mount", "sh", "-c", PRIVATE_DEV, "sh", str(tmp_path)]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(PATIENCE)
        with daemon([*unshare, *command]) as (port, _):
            ask(port, b"s")
            logger, _ = listener.accept()
            with logger:
                logger.settimeout(PATIENCE)
                text = until_nul(logger)
                assert re.fullmatch(rb"<11>\w{3} [ \d]\d \d\d:\d\d:\d\d epmd: epmd: [^\n]+", text)
                if command == [C_EPMD]:
                    return
                ask(port, b"sfoo")
                assert b"Disallowed EPMD_STOP_REQ" in until_nul(logger)
            again, _ = (ask(port, b"x"), listener.accept())[1]
            with again:
                again.settimeout(PATIENCE)
                assert b"epmd: epmd: packet to small" in until_nul(again)
            listener.close()
            os.unlink(path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
                datagrams.bind(path)
                datagrams.settimeout(PATIENCE)
                ask(port, b"xxxxxxxxxxxxxxxxxx")
                assert b" epmd: epmd: " in datagrams.recv(4096)


def until_nul(sock: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\0"):
        more = sock.recv(1)
        assert more, f"it ends with {text!r}"
        text += more
    return text[:-1]


def test_stream_of_a_syslog_that_nobody_reads(tmp_path: Path) -> None:
    """Lines are lost, and no line becomes part of another."""
    unshare = [real("unshare"), "--map-root-user", "--mount", "sh", "-c", PRIVATE_DEV, "sh", str(tmp_path)]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        listener.bind(str(tmp_path / "log"))
        listener.listen(0)
        with daemon([*unshare, *SOURCE], "-d") as (port, _):
            for number in range(1000):
                assert ask(port, b"znobody") == b"w\1", f"look-up {number} was not answered"
        listener.settimeout(PATIENCE)
        logger, _ = listener.accept()
        with logger:
            logger.settimeout(PATIENCE)
            text = b"".join(iter(lambda: logger.recv(1 << 16), b""))
    lines = text.split(b"\0")[:-1]
    assert 10 < len(lines) < 1000
    assert all(re.fullmatch(rb"<11>\w{3} [ \d]\d [\d:]{8} epmd: epmd: [^\0<]+", line) for line in lines)


@pytest.mark.measured
@forms(Source, at="ours")
def test_syslog_that_was_full_or_away_is_found_again(ours, syslog, tmp_path: Path) -> None:
    sock, prefix = syslog
    with daemon([*prefix, *ours], "-d") as (port, _):
        # Each request is a line at least, and so many have room.
        count = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 90
        for _ in range(count):
            ask(port, b"znobody")
        assert len(list(received(sock))) < count
        ask(port, b"?")
        assert any(b"got garbage" in line for line in received(sock))
        sock.close()
        ask(port, b"znobody")
        os.unlink(tmp_path / "log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
            again.bind(str(tmp_path / "log"))
            again.setblocking(False)
            ask(port, b"n")
            barrier(port)
            assert re.match(
                rb"<11>\w{3} [ \d]\d \d\d:\d\d:\d\d epmd: epmd: \*\* got EPMD_NA", again.recv(4096)
            )


@pytest.mark.measured
def test_caller_that_is_killed_while_it_waits_leaves_nothing(tmp_path: Path) -> None:
    impatient = """
import os, select, sys
from gevent_epmd.program import cli
from gevent_epmd.program.process import daemon
daemon.reap = lambda child: os._exit(3)
ready = daemon.Caller.ready
def when_the_caller_has_ended(self, *lines, **launcher):
    poll = select.poll()
    poll.register(self._descriptor, 0)
    poll.poll()
    ready(self, *lines, **launcher)
daemon.Caller.ready = when_the_caller_has_ended
sys.exit(cli.main())
"""
    with reserved_port() as port:
        options = ["-port", str(port), "-daemon", "-port_file", str(tmp_path / "port")]
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        # Whoever it has started holds this pipe open; a daemon would close it.
        keep = "from gevent_epmd.program.process import daemon; daemon.close_inherited = lambda keep: None\n"
        done = run([SOURCE[0], "-c", keep + impatient, *options], pass_fds=[writing])
        os.close(writing)
        try:
            assert done.returncode == 3
            wait_until(lambda: has_ended(reading), "the daemon to end")
            assert not answers(port)
            assert list(tmp_path.iterdir()) == []
        finally:
            if not has_ended(reading):
                end(port, serving_pid(port))
            os.close(reading)


def has_ended(pipe: int) -> bool:
    """Whether nobody holds the other end of a pipe open to which nobody writes."""
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


@forms(Source, at="ours")
def test_daemon_without_a_syslog_serves(ours, tmp_path: Path) -> None:
    unshare = [real("unshare"), "--map-root-user", "--mount"]
    with daemon([*unshare, "sh", "-c", PRIVATE_DEV, "sh", str(tmp_path), *ours]) as (port, _):
        assert ask(port, b"?") == b""
        assert answers(port)


def test_daemon_compiles_nothing_with_its_own_umask(tmp_path: Path) -> None:
    """Its umask is 0, and in a folder that everybody may write to anybody may put code."""
    compiled = tmp_path / "compiled"
    environ = {"PYTHONPYCACHEPREFIX": str(compiled), "PYTHONDONTWRITEBYTECODE": ""}
    with daemon(SOURCE, environ=environ) as (port, _):
        assert not names(port)
    assert any(compiled.rglob("gevent/*.pyc"))
    assert [path for path in compiled.rglob("*") if path.stat().st_mode & 0o002] == []
