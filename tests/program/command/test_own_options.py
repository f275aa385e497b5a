"""The options that C's epmd has not: a good call of each, a bad one, and what becomes of a client of C's."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gevent_epmd.conventions import ValueProblem
from gevent_epmd.program.line import UsageError
from gevent_epmd.program.options import read_options
from gevent_epmd.program.process.watch import gone
from gevent_epmd.wire import frame
from support.daemons import daemon, end, serving_pid
from support.forms import Built, Folder, InProcess, Source
from support.marks import by_form, forms
from support.paths import BUILT, C_EPMD, ROOT, SOURCE
from support.patience import PATIENCE, wait_until, whole_seconds
from support.peer import Peer, ask, names, node, register
from support.ports import answers, reserved_port
from support.programs import clean_environment, outcome, real, run
from support.scenes import (
    loopback_is_all_there_is,
    loopback_is_ipv4_alone,
    loopback_is_ipv6_alone,
    nodes_find_each_other_by_debians_own_name,
    nodes_of_other_hosts_may_register_and_no_more,
    only_the_allowed_may_ask,
    peers_of_a_proxy_are_no_local_ones,
    run_scene,
    there_is_no_loopback_address,
)
from support.strangers import Odd


def test_help_and_version(ours) -> None:
    out, err, status = outcome(ours, "--help")
    assert out.startswith(b"usage: epmd ")
    assert (err, status) == (b"", 0)
    out, err, status = outcome(ours, "--version")
    assert out.startswith(b"epmd ")
    assert (err, status) == (b"", 0)
    assert outcome(ours, "-help")[0] == b"", "as C"


BAD = {
    ("-idle_exit", "0"): b"-idle_exit",
    ("-idle_exit", "soon"): b"-idle_exit",
    ("-port", "0"): b"-port",
    ("-port_file", ""): b"-port_file",
    ("-port_file", "x", "-port", "0", "-names"): b"-port 0",
    ("-port_file", "-", "-daemon"): b"no stdout",
    ("-port_file", "x", "-names"): b"-port_file cannot be used with an interactive option",
    ("-port_file", "/nowhere/port", "-daemon"): b"the folder of /nowhere/port does not exist",
    ("-pid_file", ""): b"-pid_file",
    ("-pid_file", "-", "-daemon"): b"no stdout",
    ("-pid_file", "x", "-names"): b"-pid_file cannot be used with an interactive option",
    ("-pid_file", "/nowhere/pid", "-daemon"): b"the folder of /nowhere/pid does not exist",
    ("-pid_file", "x", "-port_file", "./x"): b"-port_file and -pid_file name the same file: /",
    ("-metrics_file", ""): b"-metrics_file: the path is empty",
    ("-metrics_file", "-"): b"-metrics_file -: stdout is not a file that can be replaced",
    ("-metrics_file", "x", "-names"): b"-metrics_file cannot be used with an interactive option",
    ("-metrics_file", "/nowhere/epmd.prom", "-daemon"): b"the folder of /nowhere/epmd.prom does not exist",
    ("-metrics_file", "x", "-pid_file", "./x"): b"-pid_file and -metrics_file name the same file: /",
    ("-user", ""): b"-user: the user is empty",
    ("-allow_register", "nonsense"): b"-allow_register",
    ("-allow_register", "10.0.0.1/8"): b"host bits",
    ("-allow_file", ""): b"-allow_file: the path is empty",
    ("-allow_file", "/nowhere"): b"-allow_file: cannot read /nowhere: No such file or directory",
    ("-allow_file", "/dev/null"): b"-allow_file: cannot read /dev/null: not a regular file",
    ("-allow_file", str(ROOT / "LICENSE"), "-names"): b"cannot be used with an interactive option",
    ("-not_local", "nonsense"): b"-not_local",
    ("-not_local", "127.0.0.6/8"): b"host bits",
    ("-pid_exit", "0"): b"-pid_exit",
    ("-pid_exit", " ,"): b"-pid_exit",
    ("-pid_exit", "1,self"): b"-pid_exit",
    ("-allow", "nonsense"): b"-allow",
    ("-allow", "10.0.0.1/8"): b"host bits",
    ("-loopback", "-address", "127.0.0.1"): b"cannot be used together",
    ("-loopback", "-allow_register", "10.0.0.0/8"): b"-allow_register has no effect with -loopback",
    ("-allow", "10.0.0.1/8", "-allow", "10.0.0.0/8"): b"-allow: 10.0.0.1/8 has host bits set",
    ("-pid_exit", "self", "-pid_exit", "1"): b'-pid_exit: "self"',
    ("-port_file", "/"): b"-port_file: / is not a regular file",
    ("-pid_file", "/nowhere/.."): b"-pid_file: ",
    ("-host", "localhost", "-kill"): b"-host can be used only with",
    ("-host", "localhost"): b"-host can be used only with",
    ("-host", "", "-names"): b"-host: the host is empty",
    ("-json", "-started"): b"-json can be used only with",
    ("-takeover", "-systemd"): b"-takeover cannot be used with -systemd",
    ("-takeover", "-names"): b"-takeover cannot be used with an interactive option",
    ("-host", "nosuch.invalid", "-names"): b"cannot find the host nosuch.invalid",
}


#: What is refused only later, because it takes a resolver to know.
LATER = ("-host", "nosuch.invalid", "-names")


@pytest.mark.measured
@pytest.mark.parametrize("options", [line for line in BAD if line != LATER], ids=" ".join)
def test_bad_line(options: tuple[str, ...]) -> None:
    """As the program reads it; how it tells of it is the same for all."""
    with pytest.raises(ValueProblem, match=re.escape(BAD[options].decode())):
        read_options([*options], {})


#: Those for which something is imported, or asked of the host.
BAD_CALLS = [
    ("-port", "0"),
    ("-allow", "nonsense"),
    ("-allow_file", "/nowhere"),
    ("-port_file", "/nowhere/port", "-daemon"),
    ("-host", "localhost", "-kill"),
    ("-takeover", "-systemd"),
    LATER,
]


@pytest.mark.parametrize("options", BAD_CALLS, ids=" ".join)
@forms(Source, Folder, at="ours")
def test_bad_call(ours, options: tuple[str, ...]) -> None:
    out, err, status = outcome(ours, *options)
    assert (out, status) == (b"", 1)
    assert err.startswith(b"epmd: ")
    assert err.count(b"\n") == 1
    assert BAD[options] in err


@pytest.mark.measured
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["-nagios", "-names"], "-nagios can be used only with -check"),
        (["-accept", "open"], "-accept can be used only with -check"),
        (["-nagios", "-json", "-check"], "-nagios and -json cannot be used together"),
        (["-port_file", "x"], "-port_file: the current folder does not exist"),
    ],
    ids=str,
)
def test_line_that_cannot_be(line: list[str], said: str, tmp_path: Path, monkeypatch) -> None:
    """In this process, in a folder that was removed."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueProblem, match=f"^{said}$"):
        read_options(line, {})


WITH_A_VALUE = [
    "-host",
    "-allow",
    "-allow_register",
    "-allow_file",
    "-not_local",
    "-user",
    "-idle_exit",
    "-pid_exit",
    "-port_file",
    "-pid_file",
    "-metrics_file",
]


@pytest.mark.parametrize("option", WITH_A_VALUE)
def test_value_is_missing(option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option} needs a value$"):
        read_options([option], {})


@forms(once=True, processes_only=True, c=False)
@pytest.mark.parametrize("networks", ["", " ,"])
def test_allow_nobody(form, networks: str) -> None:
    """Not even a network is named; this host may ask all the same, and it says nothing of a fault."""
    with form("-allow", networks) as server:
        assert answers(server.port)
        assert server.log() == ""


@pytest.mark.slow
@forms(once=True, processes_only=True, c=False)
def test_idle_exit(form) -> None:
    """It counts from the end of the last node, also where it had been idle for a while before."""
    seconds = whole_seconds(3)
    with form("-idle_exit", str(seconds)) as server:
        time.sleep(1)  # idle, and this must not count later
        held, _ = register(server.port, node("foo"))
        start = time.monotonic()
        while time.monotonic() - start < seconds + 0.5:
            assert ask(server.port, b"n").endswith(b"name foo at port 4711\n"), "it serves on for the node"
            time.sleep(0.05)  # the rate
        start = time.monotonic()
        held.close()
        wait_until(lambda: server.ended() == 0, "it to end")
        assert time.monotonic() - start >= seconds
        assert f"no node for {seconds} seconds" in server.log()


@pytest.mark.slow
@forms(once=True, processes_only=True, c=False)
def test_idle_exit_counts_again_for_whoever_comes(form) -> None:
    """A start that has been told that there is an epmd, say, whose node registers a little later."""
    with form("-idle_exit", "2") as server:
        for _ in range(8):
            time.sleep(0.5)  # of 2 seconds
            assert ask(server.port, b"n"), "it serves on"
        last = time.monotonic()
        wait_until(lambda: server.ended() == 0, "it to end")
        assert time.monotonic() - last >= 1.9


@pytest.mark.slow
@forms(once=True, processes_only=True, c=False)
@pytest.mark.parametrize("connects", ["before", "meanwhile"])
@pytest.mark.parametrize("stopped", [1.2, 4])
def test_idle_exit_serves_first_what_came_while_it_was_stopped(form, connects: str, stopped: float) -> None:
    with form("-idle_exit", "1") as server:
        early = Peer(server.port)
        with server.stopped():
            with early if connects == "meanwhile" else ExitStack():
                time.sleep(stopped)  # longer than the limit
            peer = early if connects == "before" else Peer(server.port)
            peer.send(frame(node("foo").packet()))
        assert peer.read(6)[:2] == b"v\0"
        assert names(server.port) == ["foo at port 4711"]
        peer.close()
        wait_until(lambda: server.ended() == 0, "it to end")


@forms(once=True, c=False)
def test_not_local(form) -> None:
    run_scene(peers_of_a_proxy_are_no_local_ones, form)


#: Two hosts behind a proxy on this one.
ONE, TWO = "127.0.0.6", "127.0.0.7"


def may_ask(port: int, host: str) -> bool:
    return ask(port, b"n", source=host) != b""


@pytest.mark.measured
@forms(launcher=False, processes_only=True, c=False)
def test_allow_file_is_read_again(form, tmp_path: Path) -> None:
    """At SIGHUP, which ends nothing then.  A node stays, also of a network that may register no more."""
    file = tmp_path / "networks"
    environ = {"ERL_EPMD_ALLOW": TWO}
    file.write_text(f"# some\nexport ERL_EPMD_ALLOW_REGISTER='{ONE}'\nERL_EPMD_PORT=1\n")
    with form("-not_local", f"{ONE},{TWO}", "-allow_file", str(file), environ=environ) as server:

        def hang_up(text: str, said: str) -> None:
            before = server.log()
            file.write_text(text)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.log() != before, "a line")
            assert said in server.log()[len(before) :]

        with Peer(server.port, source=ONE) as held:
            held.send(frame(node("far").packet()))
            assert held.read(2) == b"v\0"
            assert may_ask(server.port, TWO), "by the variable, which the file does not set"
            changes = f"-allow 10.0.0.0/8, not {TWO}/32; -allow_register not set, not {ONE}/32"
            hang_up("ERL_EPMD_ALLOW=10.0.0.0/8\n", f"read {file} again: {changes}\r\n")
            assert not may_ask(server.port, ONE)
            assert not may_ask(server.port, TWO)
            wrong = f"ERL_EPMD_ALLOW in {file}: 10.0.0.1/8 has host bits set"
            hang_up("ERL_EPMD_ALLOW=10.0.0.1/8", wrong)
            assert not may_ask(server.port, TWO), "as before"
            hang_up("ERL_EPMD_ALLOW=10.0.0.0/8", "nothing has changed")
            hang_up("ERL_EPMD_ALLOW=", "-allow not set, not 10.0.0.0/8")
            assert may_ask(server.port, TWO)
            file.unlink()
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: f"cannot read {file}: No such file" in server.log(), "a line")
            assert names(server.port) == ["far at port 4711"]
        assert server.log().count("as they were") == 2


@pytest.mark.parametrize("reads", [True, False])
def test_hang_up_of_a_daemon(*, reads: bool, tmp_path: Path) -> None:
    """As C's, it ignores the signal, unless there is a file to read again."""
    file = tmp_path / "networks"
    file.write_text("ERL_EPMD_ALLOW=10.0.0.0/8\n")
    given = ["-allow_file", str(file)] if reads else ["-allow", "10.0.0.0/8"]
    with daemon(SOURCE, "-not_local", ONE, *given) as (port, pid):
        file.write_text("ERL_EPMD_ALLOW=\n")
        os.kill(pid, signal.SIGHUP)
        # It sees the signal at the second turn of its loop at the latest, and accepts up to four in one turn.
        for _ in range(10):
            names(port)
        assert may_ask(port, ONE) == reads


@forms(Source, Built)
def test_idle_exit_where_nobody_comes(form) -> None:
    with form("-idle_exit", str(whole_seconds(1))) as server:
        wait_until(lambda: server.ended() == 0, "it to end")
        assert re.search(r"no node for (1 second|[0-9]+ seconds) - terminates normal", server.log())


@pytest.fixture
def others():
    """Two processes that live until their stdin is closed."""
    processes = [subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _ in range(2)]
    yield processes
    for process in processes:
        process.stdin.close()
        process.wait(PATIENCE)


def pids(processes: list[subprocess.Popen]) -> str:
    return ",".join(str(process.pid) for process in processes)


@forms(Source, Built)
@pytest.mark.parametrize("which", [0, 1])
def test_pid_exit(form, which: int, others) -> None:
    with form("-pid_exit", pids(others)) as server:
        held, _ = register(server.port, node("foo"))
        assert not others[which].stdin.close()
        wait_until(lambda: server.ended() == 0, "it to end")
        assert held.read_all() == b""
        held.close()
        assert f"process {others[which].pid} has ended" in server.log()


def test_pid_exit_of_a_daemon(ours, others) -> None:
    with reserved_port() as port:
        assert run([*ours, "-daemon", "-port", str(port), "-pid_exit", pids(others)]).returncode == 0
        pid = serving_pid(port)
        others[0].kill()
        wait_until(lambda: gone(pid), "it to end")


@pytest.mark.measured
@forms(processes_only=True, c=False)
def test_pid_exit_where_the_process_is_gone(form, others) -> None:
    others[0].kill()
    others[0].wait(PATIENCE)
    with reserved_port() as port:
        done = run([*form.command, "-port", str(port), "-pid_exit", pids(others)])
        assert done.returncode == 0
        assert b"has ended" in done.stderr


@pytest.mark.measured
def test_pid_exit_of_a_daemon_where_the_process_is_gone(ours, others, tmp_path: Path) -> None:
    """The caller's status says that nobody serves.  Where an epmd serves already, that is no failure."""
    others[1].kill()
    others[1].wait(PATIENCE)
    with reserved_port() as port:
        call = [*ours, "-port", str(port), "-daemon", "-pid_exit", pids(others)]
        out, err, status = outcome(call, "-pid_file", str(tmp_path / "pid"))
        assert (out, status) == (b"", 1)
        said = f"cannot serve: process {others[1].pid}, with which this epmd is to end, has ended already\r\n"
        assert err.endswith(said.encode())
        assert not answers(port)
        assert list(tmp_path.iterdir()) == []
    with Source() as server:
        call = [*ours, "-port", str(server.port), "-daemon", "-pid_exit", pids(others)]
        assert outcome(call) == (b"", b"", 0)


NOT_SEEN = """
import sys
from gevent_epmd.program import cli
from gevent_epmd.program.process import watch
watch.gone = lambda pid: False
sys.exit(cli.main())
"""


@pytest.mark.measured
def test_daemon_that_ends_before_it_is_ready(others) -> None:
    """As where the process ends in the meantime: it was still there when that was looked at."""
    others[0].kill()
    others[0].wait(PATIENCE)
    with reserved_port() as port:
        call = [sys.executable, "-c", NOT_SEEN, "-port", str(port), "-daemon", "-pid_exit", pids(others)]
        out, err, status = outcome(call)
        assert (out, status) == (b"", 1)
        why = f"process {others[0].pid} has ended\r\n"
        assert err.endswith(f"cannot serve: the epmd has ended before it was ready: {why}".encode())


@pytest.mark.parametrize("which", [0, 1])
def test_pid_exit_that_is_given_twice(which: int, others) -> None:
    """Neither is dropped, as of -allow: each names something of its own."""
    with Source(*(word for other in others for word in ("-pid_exit", str(other.pid)))) as server:
        others[which].kill()
        wait_until(lambda: server.ended() == 0, "it to end")
        assert f"process {others[which].pid} has ended" in server.log()


SLOW_TO_START = """
import sys, time
from gevent_epmd.program import cli
from gevent_epmd.program.process import files
write = files.OwnFile.write
files.OwnFile.write = lambda self, content: time.sleep({seconds}) or write(self, content)
sys.exit(cli.main())
"""


@pytest.mark.measured
@pytest.mark.slow
def test_idle_exit_counts_from_the_moment_at_which_the_caller_is_told(tmp_path: Path) -> None:
    with reserved_port() as port:
        files = ["-pid_file", str(tmp_path / "pid")]
        seconds = whole_seconds(3)
        script = SLOW_TO_START.format(seconds=seconds + 1)
        call = [
            sys.executable,
            "-c",
            script,
            "-port",
            str(port),
            "-daemon",
            "-idle_exit",
            str(seconds),
            *files,
        ]
        assert outcome(call) == (b"", b"", 0)
        assert answers(port), "it has ended already"
        assert ask(port, b"k") == b"OK"


#: What the caller may have for programs of its own.
OF_GEVENT = [
    {"GEVENT_MONITOR_THREAD_ENABLE": "1"},
    {"GEVENT_LOOP": "libuv"},
    {"GEVENT_LOOP": "nonsense"},
    {"GEVENT_RESOLVER": "nonsense", "GEVENT_BACKEND": "nonsense", "GEVENT_DEBUG": "nonsense"},
    {"PURE_PYTHON": "1"},
    {"LIBEV_FLAGS": "1"},
]


@pytest.mark.parametrize("environ", OF_GEVENT, ids=str)
def test_variables_of_gevent_are_for_others(ours, environ: dict[str, str]) -> None:
    with daemon(ours, environ=environ) as (port, pid):
        held, _ = register(port, node("foo"))
        assert names(port) == ["foo at port 4711"]
        # LIBEV_FLAGS would make it use select, and so serve no more than 1,024 connections.
        ways = {
            os.readlink(way) for way in Path(f"/proc/{pid}/fd").iterdir() if way.exists() or way.is_symlink()
        }
        assert "anon_inode:[eventpoll]" in ways
        held.close()
        wait_until(lambda: not names(port), "foo to go")


@pytest.mark.measured
def test_pid_exit_without_help_of_the_kernel(others) -> None:
    """It looks now and then; nobody has reaped the process, and it is gone all the same."""
    script = "import os, sys; del os.pidfd_open; from gevent_epmd.program.cli import main; sys.exit(main())"
    with reserved_port() as port:
        process = start([sys.executable, "-c", script], "-port", str(port), "-pid_exit", pids(others))
        wait_until(lambda: answers(port), "it to answer")
        others[1].kill()
        assert process.wait(PATIENCE) == 0


@pytest.mark.measured
def test_gone(others) -> None:
    assert not gone(os.getpid())
    assert not gone(1), "another user's, perhaps"
    pid = others[0].pid
    assert not gone(pid)
    others[0].kill()
    wait_until(lambda: gone(pid), "the zombie to be seen")
    others[0].wait(PATIENCE)
    assert gone(pid)


@forms(processes_only=True, c=False)
def test_port_on_stdout(form) -> None:
    command = [*form.command, "-port", "0", "-port_file", "-", "-loopback"]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE) as process:
        try:
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            port = int(process.stdout.readline())
            assert answers(port)
            assert ask(port, b"k") == b"OK"
            assert process.communicate(timeout=PATIENCE)[0] == b""
            assert process.returncode == 0
        finally:
            process.kill()


def test_module_is_the_program() -> None:
    done = run([sys.executable, "-m", "gevent_epmd", "--version"])
    assert done.stdout.startswith(b"epmd ")
    assert run([sys.executable, "-m", "gevent_epmd", "-nonsense"]).returncode == 1


def start(command: list[str], *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*command, *options], env=clean_environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )


def port_in(path: Path) -> int:
    wait_until(path.exists, "the port file")
    return int(path.read_text())


@by_form("how", {Source: ["KILL", "TERM", "INT", "HUP", "QUIT"], Folder: ["TERM"]}, at="ours")
def test_any_port_is_in_the_file_until_the_end(ours, how: str, tmp_path: Path) -> None:
    path = tmp_path / "port"
    process = start(ours, "-port", "0", "-port_file", str(path), "-loopback")
    port = port_in(path)
    assert answers(port), "it serves when the file is there"
    assert answers(port, "::1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    if how == "KILL":
        assert ask(port, b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
    else:
        process.send_signal(signal.Signals[f"SIG{how}"])
        assert process.wait(PATIENCE) == -signal.Signals[f"SIG{how}"]
    assert list(tmp_path.iterdir()) == []


def test_file_ends_with_the_launcher(tmp_path: Path) -> None:
    process = start([real(BUILT)], "-port", "0", "-port_file", str(tmp_path / "port"), "-loopback")
    port = port_in(tmp_path / "port")
    process.kill()
    process.wait(PATIENCE)
    wait_until(lambda: not answers(port), "the server to end")
    wait_until(lambda: not list(tmp_path.iterdir()), "the file to be removed")


@forms(once=True, processes_only=True, c=False)
def test_file_of_another_mapper_stays(form, tmp_path: Path) -> None:
    options = ("-port_file", str(tmp_path / "port"), "-pid_file", str(tmp_path / "pid"))
    with form(*options) as first, form(*options) as second:
        assert port_in(tmp_path / "port") == second.port
        pid = (tmp_path / "pid").read_text()
        assert ask(first.port, b"k") == b"OK"
        wait_until(lambda: first.ended() == 0, "the first to end")
        assert port_in(tmp_path / "port") == second.port
        assert (tmp_path / "pid").read_text() == pid == f"{second.pid}\n"


def test_file_that_a_successor_wrote_at_the_same_port_stays(ours, tmp_path: Path) -> None:
    path = tmp_path / "port"
    with reserved_port() as port:
        process = start(ours, "-port", str(port), "-port_file", str(path), "-loopback")
        assert port_in(path) == port
        (tmp_path / "new").write_text(f"{port}\n")
        (tmp_path / "new").rename(path)
        assert ask(port, b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
    assert path.read_text() == f"{port}\n"


def test_port_file_overwrites_nothing_else(tmp_path: Path) -> None:
    """Neither what a link names that waits beside it, nor a file of such a name."""
    victim, link, beside = tmp_path / "victim", tmp_path / "port.$$", tmp_path / "other.$$"
    victim.write_text("precious")
    for name, waits in ("port", f"ln -s {victim} {link}"), ("other", f"echo precious >{beside}"):
        # The shell's number is the one of the program that takes its place.
        options = f"-port 0 -port_file {tmp_path}/{name} -loopback"
        script = f'{waits}; exec "$@" {options}'
        process = start(["sh", "-e", "-c", script, "sh", *SOURCE])
        number = process.pid
        assert ask(port_in(tmp_path / name), b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
        assert not (tmp_path / name).exists()
        left = tmp_path / f"{name}.{number}"
        assert left.is_symlink() == (name == "port")
        assert left.read_text().strip() == "precious"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_mode_of_the_port_file(umask: int, tmp_path: Path) -> None:
    path = tmp_path / "port"
    process = subprocess.Popen(
        [*SOURCE, "-port", "0", "-port_file", str(path), "-loopback"], env=clean_environment(), umask=umask
    )
    port = port_in(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~umask
    assert ask(port, b"k") == b"OK"
    assert process.wait(PATIENCE) == 0


def test_daemon_has_written_the_file_when_it_returns(ours, tmp_path: Path) -> None:
    done = run([*ours, "-port", "0", "-port_file", "port", "-daemon"], cwd=tmp_path)
    assert done.returncode == 0
    port = int((tmp_path / "port").read_text())
    pid = serving_pid(port)
    try:
        listing = run([real(C_EPMD), "-port", str(port), "-names"])
        assert listing.stdout == b"epmd: up and running on port %d with data:\n" % port
    finally:
        end(port, pid)
    assert not (tmp_path / "port").exists()


def test_port_file_that_cannot_be_written(ours, tmp_path: Path) -> None:
    # It is written under another name first, and no name may be as long as this one.
    path = tmp_path / ("p" * 256)
    for option, environ in (["-port_file", str(path)], {}), ([], {"ERL_EPMD_PORT_FILE": str(path)}):
        done = run([*ours, "-port", "0", *option, "-loopback"], environ=environ)
        assert done.returncode == 1
        where = option[0] if option else "ERL_EPMD_PORT_FILE"
        assert f"cannot serve: {where}: cannot write {path}: File name too long\r\n".encode() in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_that_was_removed(ours, tmp_path: Path) -> None:
    script = 'mkdir "$1"; cd "$1"; rmdir "$1"; shift; exec "$@"'
    call = ["sh", "-e", "-c", script, "sh", str(tmp_path / "gone"), *ours]
    for option in ("-port_file", "-pid_file"):
        said = f"epmd: {option}: the current folder does not exist\n".encode()
        assert outcome(call, option, "x", "-daemon") == (b"", said, 1)
    with reserved_port() as port:
        said = b"epmd: Cannot connect to local epmd\n"
        assert outcome(call, "-port", str(port), "-names") == (b"", said, 1)


@pytest.mark.parametrize("option", [[], ["-daemon"]], ids=["foreground", "daemon"])
@pytest.mark.parametrize("limit", [5, 6, 7, 8, 9])
def test_too_few_descriptors(limit: int, option: list[str]) -> None:
    with reserved_port() as port:
        few = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"]
        out, err, status = outcome([*few, *SOURCE], "-port", str(port), *option)
        assert (out, status) == (b"", 1)
        assert err.startswith(b"epmd: ")
        assert err.count(b"\n") == 1
        assert b"Too many open files" in err
        assert not answers(port)


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/full", path)])
def test_port_file_that_is_no_file(ours, kind, tmp_path: Path) -> None:
    kind(tmp_path / "port")
    out, err, status = outcome(ours, "-port_file", str(tmp_path / "port"))
    assert (out, status) == (b"", 1)
    assert b" is not a regular file (use - for stdout)" in err
    assert (tmp_path / "port").exists()


def test_port_file_in_the_folder_of_a_link(ours, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    process = start(ours, "-port", "0", "-port_file", str(tmp_path / "link" / "port"), "-loopback")
    port = port_in(tmp_path / "folder" / "port")
    assert ask(port, b"k") == b"OK"
    assert process.wait(PATIENCE) == 0
    assert list((tmp_path / "folder").iterdir()) == []


def test_port_file_takes_the_place_of_a_link() -> None:
    """The link of an ordinary user; for root see test_user."""
    become: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, 12345, 12345)
            become = [real("setpriv"), "--reuid", "12345", "--regid", "12345", "--clear-groups"]
            if run([*become, *SOURCE, "--version"]).returncode:
                pytest.skip("the source, or Python, is for root alone here")
        (folder / "link").symlink_to("victim")
        (folder / "victim").write_text("precious")
        process = start([*become, *SOURCE], "-port", "0", "-port_file", str(folder / "link"), "-loopback")
        wait_until(lambda: not (folder / "link").is_symlink(), "the port file")
        assert ask(int((folder / "link").read_text()), b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"victim": "precious"}


def test_port_file_where_the_port_is_taken(ours, tmp_path: Path) -> None:
    with Source() as server:
        done = run([*ours, "-port", str(server.port), "-port_file", str(tmp_path / "port")])
        assert done.returncode == 1
        assert b"already a epmd running" in done.stderr
    assert list(tmp_path.iterdir()) == []


@forms(once=True, processes_only=True, c=False)
def test_json(form, ours) -> None:
    with form() as server, ExitStack() as held:
        register(server.port, node("late"))[0].close()
        wait_until(lambda: not names(server.port), "it to go")
        for name in ("foo", "a\nb"):
            held.enter_context(register(server.port, node(name))[0])
        port = ["-port", str(server.port)]
        out, err, status = outcome(ours, *port, "-json", "-names")
        assert (err, status) == (b"", 0)
        foo, odd = {"name": "foo", "port": 4711}, {"name": "a\nb", "port": 4711}
        assert json.loads(out) == {"port": server.port, "nodes": [odd, foo]}
        dump = json.loads(outcome(ours, *port, "-json", "-dump")[0])
        assert [{k: n[k] for k in ("name", "port")} for n in dump["active"]] == [odd, foo]
        assert [n["name"] for n in dump["unused"]] == ["late"]
        assert dump["active"][0]["fd"] > 2


def test_json_of_what_is_no_utf8(ours) -> None:
    with Odd(b"\0\0\x11\x11name \xff\xfe at port 9\n") as odd:
        out, err, status = outcome(ours, "-port", str(odd.port), "-json", "-names")
        assert (err, status) == (b"", 0)
        assert json.loads(out)["nodes"] == [{"name": "\udcff\udcfe", "port": 9}]


def test_what_answers_is_no_epmd(ours) -> None:
    for options in (["-json", "-names"], ["-json", "-dump"]):
        with Odd(b"HTTP/1.1 400 Bad Request\r\n\r\n") as odd:
            said = b"epmd: invalid reply from local epmd: another program uses the port\n"
            assert outcome(ours, "-port", str(odd.port), *options) == (said, b"", 1)
    with Odd(b"HTTP/1.1 400 Bad Request\r\n\r\n") as odd:
        assert outcome(ours, "-port", str(odd.port), "-host", "127.0.0.1", "-started") == (b"", b"", 1)
    with Odd(b"HTTP/1.1 400 Bad Request\r\n\r\n") as odd:
        # C has no other hosts; for them stdout is for what was asked for.
        said = b"epmd: invalid reply from epmd on 127.0.0.1: another program uses the port\n"
        assert outcome(ours, "-port", str(odd.port), "-host", "127.0.0.1", "-names") == (b"", said, 1)


def test_names_of_a_host(ours) -> None:
    hosts = ("localhost", "127.0.0.1", "::1")
    with Source() as server, register(server.port, node("foo"))[0]:
        port = ["-port", str(server.port)]
        expected = f"epmd: up and running on port {server.port} with data:\nname foo at port 4711\n".encode()
        for host in hosts:
            assert outcome(ours, *port, "-host", host, "-names") == (expected, b"", 0)
            assert outcome(ours, *port, "-host", host, "-started") == (b"", b"", 0)
    with reserved_port() as free:
        for host in hosts:
            out, err, status = outcome(ours, "-port", str(free), "-host", host, "-names")
            assert (out, status) == (b"", 1)
            assert err == f"epmd: Cannot connect to epmd on {host}: Connection refused\n".encode()


@pytest.mark.measured("there_is_no_loopback_address")
@pytest.mark.parametrize(
    ("scene", "network", "form"),
    [
        (loopback_is_all_there_is, "plain", Source),
        (loopback_is_ipv6_alone, "without IPv4", Folder),
        (loopback_is_ipv4_alone, "without IPv6", Source),
        (there_is_no_loopback_address, "without an address", Source),
        (there_is_no_loopback_address, "without an address", Folder),
        (nodes_find_each_other_by_debians_own_name, "plain", Source),
    ],
)
def test_loopback(form, scene, network: str) -> None:
    run_scene(scene, form, network)


@forms(Source, Folder)
def test_allow(form) -> None:
    run_scene(only_the_allowed_may_ask, form)


@forms(InProcess, Folder)
def test_allow_register(form) -> None:
    run_scene(nodes_of_other_hosts_may_register_and_no_more, form)


def test_loopback_of_the_environment_and_an_address_of_the_line() -> None:
    with Source("-address", "127.0.0.5", environ={"ERL_EPMD_LOOPBACK": ""}) as server:
        assert answers(server.port, "127.0.0.5")
    with Source("-loopback", environ={"ERL_EPMD_ADDRESS": "127.0.0.5"}) as server:
        assert not answers(server.port, "127.0.0.5")
    with Source(environ={"ERL_EPMD_LOOPBACK": "0"}) as server:
        assert answers(server.port, "127.0.0.5")


def test_c_knows_none_of_them() -> None:
    for option in ("-loopback", "-idle_exit", "-json", "--help", "--version", "--licences"):
        done = run([real(C_EPMD), option, *(["5"] if option == "-idle_exit" else [])])
        assert done.returncode == 1
        assert b"sage: epmd" in done.stderr
