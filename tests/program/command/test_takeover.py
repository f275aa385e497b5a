"""-takeover: one epmd takes the place of another, and the nodes notice nothing."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gevent_epmd import ThreadedPortMapper, client
from gevent_epmd.program.process import procfs
from gevent_epmd.program.process.watch import gone
from gevent_epmd.program.takeover import Ending, Former
from gevent_epmd.wire import frame
from support.daemons import listening_at
from support.forms import Built, C, Folder, Process, Source
from support.patience import PATIENCE, wait_until
from support.peer import Peer, ask, barrier, names, node, register
from support.ports import answers, reserved_port
from support.procfs import children, command_line, descriptors, processes_at, state
from support.programs import clean_environment, outcome, real, run

#: Which form takes the place of which: each is replaced, and each replaces.
PAIRS = [(Source, Folder), (Built, Folder), (Folder, Built), (C, Source)]
each_pair = pytest.mark.parametrize(("old", "new"), PAIRS, ids=lambda form: form.__name__)
LINE = re.compile(
    rb"^epmd: took over (\d+) nodes? from process (\d+) \(.*\); no answer was delayed by more than \d+ ms\n$"
)


@contextlib.contextmanager
def taker(new: type[Process], port: int, *options: str) -> Iterator[bytes]:
    """Take over as a daemon, and give what it says. Ends the daemon."""
    real(new.command[0])
    done = run([*new.command, "-port", str(port), "-takeover", "-daemon", *options])
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    try:
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


@each_pair
def test_nodes_stay(old, new):
    with former(old, "-d", "-d") as server, contextlib.ExitStack() as stack:
        port, replaced = server.port, server.pid
        requests = [node(f"n{i}", 4000 + i, highest=5 + i % 2, extra=b"e" * i) for i in range(4)]
        held = [stack.enter_context(register(port, request)[0]) for request in requests]
        register(port, node("late"))[0].close()
        wait_until(lambda: "late" not in names(port)[0], "the name to be free")
        idle, refused = stack.enter_context(Peer(port)), stack.enter_context(Peer(port))
        refused.send(frame(node("n0").packet()))
        assert refused.read(6)[1] == 1
        before = answers_of(port)
        inodes = sockets_of(replaced)
        said = stack.enter_context(taker(new, port))
        matched = LINE.match(said)
        assert matched, said
        assert (int(matched[1]), int(matched[2])) == (4, replaced)
        wait_until(lambda: gone(replaced), "the former epmd to end")
        assert answers_of(port) == before
        [serving] = listening_at(port)
        # The very same sockets: nobody has connected again.
        assert sockets_of(serving) >= inodes
        assert b"old/unused name <late>" in ask(port, b"d")
        assert refused.is_open()
        idle.send(frame(b"zn1"))
        assert idle.read_all() == before[1]
        held[1].close()
        wait_until(lambda: len(names(port)) == 3, "the node that ended to be gone")
        again = stack.enter_context(register(port, node("n1"))[0])
        assert again.is_open()
        for peer in (*held, again):
            peer.close()
        wait_until(lambda: not names(port), "all nodes to be gone")


def answers_of(port: int) -> list[bytes]:
    """What it answers to NAMES, and to a look-up of each node of `test_nodes_stay`."""
    return [ask(port, packet) for packet in (b"n", b"zn1", b"zn0", b"zn2", b"zn3")]


def sockets_of(pid: int) -> set[str]:
    """The sockets of the process that are TCP connections or listen."""
    known = {
        f"socket:[{line.split()[9]}]"
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    }
    return {*descriptors(pid).values()} & known


def test_nobody_serves_the_port():
    with reserved_port() as port, taker(Source, port) as said:
        assert said == b""
        assert names(port) == []
        # An orderly end, after which it is known what was run.
        assert ask(port, b"k") == b"OK"


def test_foreground_logs_it(tmp_path):
    with former(C) as server:
        held = register(server.port, node("n"))[0]
        taking = start(Source, server.port, "-takeover", stderr=tmp_path / "log")
        try:
            wait_until(
                lambda: b"took over 1 node from process" in (tmp_path / "log").read_bytes(), "the line"
            )
            assert held.is_open()
            assert names(server.port) == ["n at port 4711"]
        finally:
            held.close()
            taking.terminate()
            taking.wait(PATIENCE)


def test_creations_go_on() -> None:
    """Each is one more than the last one of the name: they are ahead of the clock."""
    with former(Source) as server, contextlib.ExitStack() as stack:
        creations = [come_and_go(server.port) for _ in range(5)]
        stack.enter_context(taker(Source, server.port))
        assert come_and_go(server.port) > max(creations)


def come_and_go(port: int) -> int:
    """Register a node for a moment, and return its creation."""
    held, creation = register(port, node("n"))
    held.close()
    wait_until(lambda: not names(port), "the name to be free")
    return creation


def test_file_that_is_replaced_meanwhile(tmp_path: Path) -> None:
    """The former epmd is about to be ended when its service gets another pid file."""
    path, other = tmp_path / "pid", tmp_path / "other"
    with former(Source, "-pid_file", str(path)) as server:
        [process] = procfs.processes(procfs.listeners()[server.port])
        ending = Ending(Former(process, server.port))
        other.write_text("2\n")
        other.replace(path)
        pidfd = os.pidfd_open(server.pid)
        ending.end(pidfd)
        os.close(pidfd)
        assert path.read_text() == "2\n"


def test_files_of_the_former_one(tmp_path: Path) -> None:
    """They are removed, but neither what others have put in their place nor any other open file."""
    port_file, pid_file, kept = (tmp_path / name for name in ("port", "pid", "kept"))
    kept.write_text("1\n")

    class Keeping(Source):
        descriptors = (os.open(kept, os.O_RDONLY),)

    try:
        with former(Keeping, "-port_file", str(port_file), "-pid_file", str(pid_file)) as server:
            (tmp_path / "new").write_text(pid_file.read_text())
            (tmp_path / "new").replace(pid_file)
            with taker(Source, server.port):
                assert sorted(tmp_path.iterdir()) == [kept, pid_file]
    finally:
        os.close(*Keeping.descriptors)


@pytest.mark.parametrize("old", [C, Source], ids=lambda form: form.__name__)
def test_variable_replaces_only_another_program(old) -> None:
    """Each node that starts its epmd passes the variable on."""
    with former(old) as server:
        call = [*Source.command, "-port", str(server.port), "-daemon"]
        assert run(call, environ={"ERL_EPMD_TAKEOVER": "1"}).returncode == 0
        assert (server.pid in listening_at(server.port)) == (old is Source)
        end_all(server.port)


def test_node_that_c_does_not_find() -> None:
    """C's epmd lists a name of 255 characters, but answers no look-up of it."""
    longest = "n" * 255
    with former(C) as server, register(server.port, node(longest))[0] as held, taker(Source, server.port):
        assert names(server.port) == [f"{longest} at port 4711"]
        assert held.is_open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_root_is_told_that_it_was_another_user() -> None:
    """Unless it changes its user, too."""
    user = ("-user", "4711:4712")
    with former(Source, *user) as server, register(server.port, node("n"))[0] as held:
        with taker(Source, server.port, *user) as said:
            assert LINE.match(said), said
        assert not held.read_all()
    with former(Source, *user) as server, taker(Source, server.port) as said:
        first, second = said.splitlines(keepends=True)
        assert LINE.match(first), said
        assert second == (
            b"epmd: this epmd runs as root, and that one ran as 4711: to change it, "
            b"take over again with -user 4711:Group\n"
        )


def test_embedded_one_is_refused():
    with ThreadedPortMapper(port=0) as mapper:
        held = client.register("n", 4711, port=mapper.port)
        _, err, status = outcome([*Source.command], "-port", str(mapper.port), "-takeover")
        assert status == 1
        assert b"is part of another program" in err
        assert not held.lost()
        held.close()


def test_request_that_arrives_in_two_parts_is_answered():
    """A connection that the former epmd has half read is finished by it."""
    with former(C) as server, Peer(server.port) as slow:
        slow.send(b"\0\2z")
        barrier(server.port)
        taking = start(Source, server.port, "-takeover", "-daemon")
        wait_until(lambda: len(processes_at(server.port)) > 1, "the other to start")
        slow.send(b"n")
        assert slow.read_all() == b"w\1"
        assert taking.wait(PATIENCE) == 0
        end_all(server.port)


OTHERS = [
    ([], ["-loopback"], "127.0.0.5", False),
    (["-address", "127.0.0.1"], ["-address", "0.0.0.0"], "127.0.0.5", True),
    (["-address", "127.0.0.5"], ["-address", "127.0.0.6"], "127.0.0.5", False),
]


@pytest.mark.parametrize(
    ("old", "before", "after", "host", "listens"),
    [(C, *OTHERS[0]), (Source, *OTHERS[0]), (C, *OTHERS[1]), (Source, *OTHERS[2])],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_other_addresses(old, before: list[str], after: list[str], host: str, listens) -> None:
    """Who has connected to an address that is given up is served all the same."""
    with former(old, *before) as server, register(server.port, node("n"))[0] as held:
        early = Peer(server.port, "127.0.0.5" if before != OTHERS[1][0] else "127.0.0.1")
        with early, taker(Source, server.port, *after) as said:
            assert b"; it listens on " in said
            assert (b", and no longer on " in said) == (not listens or b"0.0.0.0" in said)
            early.send(b"\0\1n")
            assert early.read_all()[4:] == b"name n at port 4711\n"
            wait_until(lambda: answers(server.port, host) == listens, "the addresses to change")
            assert answers(server.port, "127.0.0.1")
            assert held.is_open()


def test_address_that_is_not_there() -> None:
    """The former epmd goes on."""
    with former(C) as server, register(server.port, node("n"))[0] as held:
        options = ("-port", str(server.port), "-takeover", "-address", "127.0.0.1,192.0.2.1")
        _, err, status = outcome([*Source.command], *options)
        assert status == 1
        assert b"failed to bind on ipaddr 192.0.2.1: Cannot assign requested address" in err
        assert held.is_open()
        assert names(server.port) == ["n at port 4711"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_may_not() -> None:
    """The kernel does not let it, and the former epmd goes on."""
    become = [real("setpriv"), "--clear-groups", "--regid", "12345", "--reuid"]
    if run([*become, "12345", *Source.command, "--version"]).returncode:
        pytest.skip("the source, or Python, is for root alone here")
    with former(C) as server, register(server.port, node("n"))[0] as held:
        call = [*become, "12345", *Source.command, "-port", str(server.port), "-takeover", "-daemon"]
        _, err, status = outcome(call)
        assert status == 1
        assert re.search(rb"cannot take over: .*\n$", err), err
        assert held.is_open()
        assert names(server.port) == ["n at port 4711"]


def test_half_a_request_does_not_prevent_it():
    with former(C) as server, Peer(server.port) as slow:
        slow.send(b"\0\3z")
        barrier(server.port)
        with taker(Source, server.port):
            assert slow.read_all() == b""


def start(new: type[Process], port: int, *options: str, stderr: Path = Path(os.devnull)) -> subprocess.Popen:
    with stderr.open("wb") as log:
        return subprocess.Popen(
            [*new.command, "-port", str(port), *options],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )


def end_all(port: int) -> None:
    for pid in processes_at(port):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: gone(pid), "it to end")


def goes_on_or_is_gone(pid: int) -> bool:
    return gone(pid) or state(pid) != "T"


@pytest.mark.slow
def test_someone_serves_whenever_the_new_one_is_killed():
    """SIGKILL at 20 moments of the take-over: the former epmd goes on, or the new one has its place."""
    with former(C) as server, contextlib.ExitStack() as stack:
        held = [stack.enter_context(register(server.port, node(f"n{i}"))[0]) for i in range(3)]
        took = 0.0
        for turn in range(20):
            [replaced] = listening_at(server.port)
            began = time.monotonic()
            taking = start(Source, server.port, "-takeover")
            stack.callback(end, taking)
            if not turn:
                wait_until(lambda pid=replaced: gone(pid), "the first take-over")
                took = time.monotonic() - began
                continue
            # The moment is what is tested: they are spread over the time that a take-over takes.
            time.sleep(took * random.Random(turn).uniform(0.4, 0.95))
            taking.kill()
            taking.wait(PATIENCE)
            wait_until(lambda pid=replaced: goes_on_or_is_gone(pid), "the former epmd to go on")
            if gone(replaced):
                return  # it was killed when it served already
            assert len(names(server.port)) == 3
            assert all(peer.is_open() for peer in held)


@pytest.mark.parametrize("copies", [2, 4])
def test_new_one_is_killed_while_the_former_one_is_stopped(copies: int) -> None:
    """At a certain socket that it copies: the first copy is made before, to see whether that is permitted."""
    inject = ["-o", os.devnull, "-e", f"inject=pidfd_getfd:signal=KILL:when={copies}"]
    with former(C) as server, register(server.port, node("n"))[0] as held:
        line = [real("strace"), *inject, *Source.command, "-port", str(server.port), "-takeover"]
        assert run(line).returncode == -signal.SIGKILL
        wait_until(lambda: processes_at(server.port) == [server.pid], "the guard to end")
        assert goes_on_or_is_gone(server.pid)
        assert names(server.port) == ["n at port 4711"]
        assert held.is_open()


@pytest.mark.slow
def test_new_one_that_is_slow(tmp_path: Path) -> None:
    """The former epmd is stopped for a second at most, and then goes on for good."""
    late = ["-o", os.devnull, "-e", "inject=pidfd_getfd:delay_enter=3000000:when=2"]

    class Late(Source):
        command = (real("strace"), *late, *Source.command)

    with former(C) as server, register(server.port, node("n"))[0] as held:
        taking = start(Late, server.port, "-takeover", stderr=tmp_path / "log")
        wait_until(lambda: taking.poll() is not None or gone(server.pid), "one of them to end")
        end_group(taking)
        assert b"this took longer than 1 s, so it goes on" in (tmp_path / "log").read_bytes()
        assert names(server.port) == ["n at port 4711"]
        assert held.is_open()


def end_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


#: A container: its process 1 starts an epmd, and then is a node that leaves a file once it is registered, and
#: one if it loses its registration.
CONTAINER = """\
ip link set lo up
"$1" -daemon
until "$1" -names; do :; done
exec "$2" -c '
import socket, sys
from pathlib import Path
node = socket.create_connection(("127.0.0.1", 4369))
node.sendall(bytes.fromhex(sys.argv[1]))
node.recv(6)
Path("registered").touch()
node.recv(1)
Path("lost").touch()' "$3"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter a container")
def test_container_from_outside(tmp_path: Path) -> None:
    """The program of the host takes over inside, and ends with the container."""
    apart = [real("unshare"), "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    packet = frame(node("n").packet()).hex()
    inner = ["sh", "-e", "-c", CONTAINER, "sh", real(C.command[0]), sys.executable, packet]
    environ = {name: value for name, value in clean_environment().items() if name != "ERL_EPMD_PORT"}
    container = subprocess.Popen(
        [*apart, *inner], cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        wait_until((tmp_path / "registered").exists, "the node to be registered")
        [first] = children(container.pid)
        enter = [real("nsenter"), "--target", str(first), "--net", *Source.command]
        done = run([*enter, "-port", "4369", "-takeover", "-daemon", "-pid_exit", str(first)])
        matched = LINE.match(done.stderr)
        assert matched, done.stderr
        wait_until(lambda: gone(int(matched[2])), "the former epmd to end")
        out, _, status = outcome([*enter, "-port", "4369", "-names"])
        assert (out.splitlines()[1:], status) == ([b"name n at port 4711"], 0)
        assert not (tmp_path / "lost").exists()
    finally:
        container.kill()
        container.wait(PATIENCE)
        wait_until(lambda: not serving_until_end_of(first), "the new one to end with the container")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a container")
def test_first_process_of_a_container() -> None:
    """It goes on: the container would end with it."""

    class First(C):
        command = (real("unshare"), "--pid", "--fork", "--kill-child=KILL", *C.command)

    with former(First) as server:
        try:
            _, err, status = outcome([*Source.command], "-port", str(server.port), "-takeover", "-daemon")
            assert b"it is process 1 of a container, which ends with it" in err
            assert status == 1
            assert answers(server.port)
        finally:
            end_all(server.port)


def serving_until_end_of(pid: int) -> list[int]:
    return [other for other in processes_at(4369) if f"-pid_exit\0{pid}\0".encode() in command_line(other)]


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait(PATIENCE)
