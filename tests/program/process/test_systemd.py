"""-systemd: sockets that were handed over, and the word that it serves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gevent_epmd.program.process.watch import gone
from support.activation import DualStack, launched, listening
from support.daemons import end, serving_pid
from support.forms import Built, C, Folder, Source
from support.marks import by_form, forms
from support.paths import BUILT, SOURCE
from support.patience import PATIENCE, wait_until
from support.peer import Peer, ask, names, node, register, try_to_register
from support.ports import ReservedPort, answers, reserved_port
from support.procfs import serving
from support.programs import clean_environment, content, outcome, real, run
from support.scenes import (
    dual_stack_sockets_know_who_is_allowed,
    dual_stack_sockets_know_who_is_local,
    dual_stack_sockets_know_who_may_register,
    run_scene,
)


class Activated(subprocess.Popen):
    """A command that was handed these sockets.  Its stderr is a file: a daemon could hold a pipe open."""

    def __init__(self, command: list[str], sockets: list, *options: str, **environ: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        super().__init__(
            launched([*command, "-systemd", *options], sockets),
            env=clean_environment(**environ),
            pass_fds=[sock.fileno() for sock in sockets],
            stderr=self._log,
            start_new_session=True,
        )

    def said(self) -> str:
        """What it has said when it ends."""
        self.wait(PATIENCE)
        with self._log:
            return content(self._log).decode()


def test_sockets_and_notification(command, tmp_path: Path) -> None:
    with (
        listening("127.0.0.1") as v4,
        listening("::1") as v6,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
    ):
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(PATIENCE)
        process = Activated(command, [v4, v6], NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            lines = notified.recv(4096).decode().splitlines()
            assert lines[0] == "READY=1"
            assert lines[1].startswith("STATUS=")
            assert lines[2:] == [f"MAINPID={serving(process)}"]
            peer, _ = register(v4.getsockname()[1], node("foo"))
            v6_port = v6.getsockname()[1]
            assert ask(v6_port, b"zfoo", "::1").startswith(b"w\0")
            peer.close()
        finally:
            finish(process)


@forms(Source, C, at="command")
def test_nothing_is_said_without_the_option(command, tmp_path: Path) -> None:
    """The socket may be that of a service whose node started us: MAINPID would make us its main process."""
    with reserved_port() as port, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.setblocking(False)
        started = [*command, "-port", str(port), "-daemon"]
        assert run(started, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")}).returncode == 0
        wait_until(lambda: answers(port), "the daemon to answer")
        pid = serving_pid(port)
        try:
            with pytest.raises(BlockingIOError):
                notified.recv(4096)
        finally:
            end(port, pid)


#: What in vain says where to listen: options, variables, and how the log names them.
IN_VAIN = [
    (["-loopback", "-address", "127.0.0.1", "-port", "1"], {}, ["-loopback", "-address", "-port"]),
    ([], {"ERL_EPMD_ADDRESS": "nonsense"}, ["ERL_EPMD_ADDRESS"]),
    (
        ["-port", "1"],
        {"ERL_EPMD_ADDRESS": "::1", "ERL_EPMD_LOOPBACK": "1", "ERL_EPMD_PORT": "2"},
        ["ERL_EPMD_LOOPBACK", "ERL_EPMD_ADDRESS", "-port"],
    ),
    ([], {"ERL_EPMD_PORT": "1", "ERL_EPMD_LOOPBACK": "0"}, ["ERL_EPMD_PORT"]),
]


@pytest.mark.parametrize(("options", "environ", "named"), IN_VAIN, ids=str)
def test_where_to_listen_is_up_to_systemd(options: list[str], environ: dict, named: list[str]) -> None:
    serves_and_says_what_has_no_effect(SOURCE, options, environ, named)


def test_where_to_listen_is_up_to_systemd_in_every_form(ours) -> None:
    serves_and_says_what_has_no_effect(
        ours, ["-loopback"], {"ERL_EPMD_PORT": "1"}, ["-loopback", "ERL_EPMD_PORT"]
    )


def serves_and_says_what_has_no_effect(command: list[str], options: list[str], environ, named) -> None:
    """To fail would be to fail again and again, whenever somebody connects."""
    with listening("127.0.0.1") as sock:
        process = Activated(command, [sock], *options, **environ)
        try:
            assert not names(sock.getsockname()[1])
        finally:
            said = finish(process)
        for name in named:
            assert (
                said.count(f": {name} has no effect with -systemd: systemd chooses where to listen\r\n") == 1
            )
        assert said.count("\n") == len(named)


def test_port_of_the_socket_is_no_contradiction() -> None:
    with listening("127.0.0.1") as sock:
        process = Activated(SOURCE, [sock], "-port", str(sock.getsockname()[1]))
        try:
            assert not names(sock.getsockname()[1])
        finally:
            assert finish(process) == ""


#: What names the port, and options beside it.
PASSED_IN_VAIN = [
    *("option -daemon", "option", "option -address 127.0.0.1 -daemon"),
    *("variable -daemon", "variable", "variable -address 127.0.0.1 -daemon"),
]


@pytest.mark.measured("variable -daemon")
@by_form("how", {Source: PASSED_IN_VAIN, Built: PASSED_IN_VAIN[:1], Folder: PASSED_IN_VAIN[:1]}, at="ours")
def test_socket_that_is_passed_in_vain(ours, how: str) -> None:
    """It is at the port to serve, so to ask who has the port would be to ask oneself; systemd would start the
    program for that question, again and again."""
    with listening("127.0.0.1") as sock:
        port = sock.getsockname()[1]
        names_it, *options = how.split()
        line = ["-port", str(port)] if names_it == "option" else []
        environ = {} if line else {"ERL_EPMD_PORT": str(port)}
        call = launched([*ours, *line, *options], [sock])
        out, err, status = outcome(call, environ=environ, pass_fds=[sock.fileno()])
        assert (out, status) == (b"", 1)
        said = f": systemd passes the socket for port {port}: start with -systemd\r\n"
        assert err.decode().endswith(said)
        assert err.count(b"\n") == 1
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()  # nobody has asked


@forms(Source, at="ours")
def test_socket_of_another_service(ours) -> None:
    """It is at another port, or was passed to another process, which has started this one."""
    with listening("127.0.0.1") as sock, reserved_port() as port:
        serve = [*ours, "-port", str(port), "-daemon"]
        assert run(launched(serve, [sock]), pass_fds=[sock.fileno()]).returncode == 0
        end(port, serving_pid(port))
        with listening("127.0.0.1", port) as same:
            same.settimeout(PATIENCE)
            by_a_shell = [real("sh"), "-c", '"$@"; exit $?', "sh", *serve]
            asking = subprocess.Popen(
                launched(by_a_shell, [same]), env=clean_environment(), pass_fds=[same.fileno()]
            )
            with same.accept()[0] as asked:  # who has the port
                assert asked.recv(3) == b"\0\1n"
                asked.sendall(port.to_bytes(4, "big"))
            assert asking.wait(PATIENCE) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may speak for another process")
def test_main_process_of_the_one_file_is_its_launcher(tmp_path: Path) -> None:
    """systemd listens to no other, unless NotifyAccess=all."""
    with notify_socket(tmp_path) as notified, listening("127.0.0.1") as sock:
        notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        process = Activated([real(BUILT)], [sock], NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            text, [(_, kind, sender)], _, _ = notified.recvmsg(4096, 1024)
            assert kind == socket.SCM_CREDENTIALS
            assert struct.unpack("3i", sender) == (process.pid, 0, 0)
            assert text.endswith(f"MAINPID={serving(process)}".encode())
            assert serving(process) != process.pid
        finally:
            assert finish(process) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="made for root to become another user")
def test_one_file_that_may_not_speak_for_its_launcher_says_what_is_missing(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as notified, listening("127.0.0.1") as sock:
        # It is root, and may only not do that.
        may_not = [real("setpriv"), "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
        process = Activated([*may_not, real(BUILT)], [sock], NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert notified.recv(4096).startswith(b"READY=1\n")
            assert not names(sock.getsockname()[1])
        finally:
            said = finish(process)
        assert said.endswith(
            ": the one-file form tells systemd that it is ready only with NotifyAccess=all\r\n"
        )


@contextlib.contextmanager
def notify_socket(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(folder / "notify"))
        notified.settimeout(PATIENCE)
        yield notified


def finish(process: Activated) -> str:
    process.send_signal(signal.SIGTERM)
    return process.said()


@forms(Source, at="ours")
def test_port_in_the_listing_is_that_of_the_socket(ours) -> None:
    with listening("127.0.0.1") as sock:
        process = Activated(ours, [sock])
        try:
            port = sock.getsockname()[1]
            assert ask(port, b"n") == port.to_bytes(4, "big")
        finally:
            finish(process)


@forms(Source, at="ours")
def test_notification_in_the_abstract_namespace_and_to_nobody(ours, tmp_path: Path) -> None:
    with listening("127.0.0.1") as sock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        name = f"gevent-epmd-test-{os.getpid()}"
        notified.bind(f"\0{name}")
        notified.settimeout(PATIENCE)
        process = Activated(ours, [sock], NOTIFY_SOCKET=f"@{name}")
        try:
            assert notified.recv(4096).startswith(b"READY=1\n")
        finally:
            finish(process)
        process = Activated(ours, [sock], NOTIFY_SOCKET=str(tmp_path / "nobody"))
        try:
            assert not names(sock.getsockname()[1])
        finally:
            assert finish(process) == ""


def test_daemon_keeps_the_sockets(ours, tmp_path: Path) -> None:
    with listening("127.0.0.1") as sock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(PATIENCE)
        caller = Activated(ours, [sock], "-daemon", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert caller.said() == ""
        assert caller.returncode == 0
        main = int(notified.recv(4096).decode().rpartition("=")[2])
        assert main != caller.pid
        port = sock.getsockname()[1]
        assert not names(port)
        assert ask(port, b"k") == b"OK"
        wait_until(lambda: gone(main), "the daemon to end")


@pytest.mark.measured
def test_reload_without_anything_to_read_again() -> None:
    """SIGHUP, which ends an epmd in a terminal, is `systemctl reload` here."""
    with DualStack("-systemd") as server:
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "SIGHUP has no effect" in server.log(), "it to say so")
        assert ask(server.port, b"n")


@pytest.mark.slow
def test_end_leaves_the_sockets_listening() -> None:
    """They are for the next epmd that systemd starts."""
    with DualStack("-systemd") as server:
        assert ask(server.port, b"k") == b"OK"
        wait_until(lambda: server.ended() == 0, "it to end")
        assert server._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


OF_NOBODY = [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}]


@by_form(
    "environ", {Source: OF_NOBODY, Built: OF_NOBODY[-1:], Folder: OF_NOBODY[-1:], C: OF_NOBODY}, at="command"
)
def test_no_sockets_for_this_process(command, environ: dict[str, str]) -> None:
    done = run([*command, "-systemd"], environ=environ)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"systemd provides no sockets" in done.stderr


@pytest.mark.measured
def test_more_sockets_than_there_may_be(command) -> None:
    with listening("127.0.0.1") as sock:
        process = Activated(command, [sock] * 17)
        assert "cannot listen on more than 16 IP addresses" in process.said()
        assert process.returncode == 1


UNFIT = ["not listening", "a datagram socket", "a local socket", "no socket"]


@pytest.mark.measured("no socket", "not listening")
@by_form("kind", {Source: UNFIT, Built: UNFIT[:1], Folder: UNFIT[:1]}, at="ours")
def test_descriptor_that_cannot_be_served(ours, kind: str, tmp_path: Path) -> None:
    pipe = os.pipe()
    with (
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(str(tmp_path / "local"))
        local.listen()
        udp.bind(("127.0.0.1", 0))
        handed = {"not listening": idle, "a datagram socket": udp, "a local socket": local}.get(kind)
        process = Activated(ours, [handed or os.fdopen(pipe[0], closefd=False)])
        err = process.said()
    for descriptor in pipe:
        os.close(descriptor)
    assert process.returncode == 1
    assert err.startswith("epmd: ")
    assert err.count("\n") == 1
    assert "systemd" in err


@pytest.mark.parametrize(
    "scene",
    [
        dual_stack_sockets_know_who_is_local,
        dual_stack_sockets_know_who_is_allowed,
        dual_stack_sockets_know_who_may_register,
    ],
)
def test_dual_stack_sockets(scene) -> None:
    run_scene(scene, DualStack)


LISTEN = ["127.0.0.1:{}", "[::1]:{}", "{}"]


@by_form("listen", {Source: LISTEN, Built: LISTEN[-1:], Folder: LISTEN[-1:]}, at="ours")
def test_activation_by_systemds_own_tool(ours, listen: str, tmp_path: Path) -> None:
    with reserved_port() as port, (tmp_path / "stderr").open("wb") as stderr:
        activate = [real("systemd-socket-activate"), "-l", listen.format(port)]
        process = subprocess.Popen(
            [*activate, *ours, "-systemd"], env=clean_environment(), stderr=stderr, start_new_session=True
        )
        # It starts the epmd at the first connection, which a refused one is not.
        for host in ["::1"] if "::1" in listen else ["127.0.0.1"] if "." in listen else ["::1", "127.0.0.1"]:
            wait_until(lambda host=host: answers(port, host), "an answer")
            with Peer(port, host) as peer:
                assert try_to_register(peer, node("foo"))[:2] == b"v\0"
            wait_until(lambda host=host: ask(port, b"n", host)[4:] == b"", "foo to go")
        assert ask(port, b"k", host) == b"OK"
        assert process.wait(PATIENCE) == 0


def test_reserved_port_is_ours_alone() -> None:
    reserved = ReservedPort()
    with listening("::", reserved.number, dual=True):
        pass
    reserved.close()
