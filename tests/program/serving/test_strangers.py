"""A port that is in use, by an epmd or by something that is none: what a start says of it."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import sys

import pytest

from gevent_epmd.client import TIMEOUT
from gevent_epmd.program import occupant, quick
from support.daemons import end, serving_pid
from support.forms import C, Folder, Source
from support.marks import forms
from support.patience import PATIENCE, wait_until
from support.peer import ask
from support.ports import answers, reserved_port
from support.procfs import processes_at
from support.programs import clean_environment, real, run
from support.strangers import STRANGERS, BoundOnly, ClosesAtOnce, Http, Mute, Stranger

#: Most wait for an answer that does not come.
pytestmark = pytest.mark.slow

STRANGER = "another program at the port"
MET = {
    Mute: b"no answer from epmd on 127.0.0.1 in 2.5 s",
    Http: b"invalid reply from epmd on 127.0.0.1: another program uses the port",
    ClosesAtOnce: b"no response from epmd on 127.0.0.1",
    BoundOnly: b"Cannot connect to epmd on 127.0.0.1: Connection refused",
}
#: The launcher of the one-file form has no part in how long its child waits.
each_that_waits = forms(Source, Folder, at="ours")

each_stranger = pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.__name__)


@pytest.mark.measured("-daemon-Mute")
@forms(but_not_c=STRANGER, processes_only=True, launcher=False)
@each_stranger
@pytest.mark.parametrize("options", [["-daemon"], [], ["-daemon", "-port_file", "port"]], ids=" ".join)
def test_start_says_who_has_its_port(form, stranger: type[Stranger], options: list[str], tmp_path) -> None:
    with stranger() as there:
        done = run([*form.command, "-port", str(there.port), *options], cwd=tmp_path)
        # C's caller returns before its daemon has bound the port, which must not be free then.
        wait_until(lambda: not processes_at(there.port), "whatever it has started to end")
    assert (done.returncode, done.stdout) == (1, b"")
    said = b"port %d is in use, but no epmd answers there: %s" % (there.port, MET[stranger])
    if stranger is not BoundOnly:  # which /proc does not list
        said += held_by_this_process(there.port)
    assert done.stderr.startswith(b"epmd: ")
    assert done.stderr.endswith(said + b"\r\n")
    assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_start_waits_three_seconds_for_a_stranger() -> None:
    """A unit, a probe or a node that has waited for it may give up after 10."""
    assert quick._PATIENCE + occupant._PATIENCE == 3


def held_by_this_process(port: int, host: str = "127.0.0.1") -> bytes:
    me = f"{os.path.realpath(sys.executable)} (process {os.getpid()} of {getpass.getuser()})"
    return f"; it is held by {me} at {host}:{port}".encode()


@forms(Source, at="ours")
@each_stranger
def test_address_that_was_asked_for(ours, stranger: type[Stranger]) -> None:
    with stranger() as there:
        done = run([*ours, "-port", str(there.port), "-address", "127.0.0.1", "-daemon"])
    assert done.returncode == 1
    assert MET[stranger] in done.stderr


@forms(Source, at="ours")
@forms(Source, C)
@pytest.mark.parametrize("options", [["-daemon"], []], ids=["daemon", "foreground"])
def test_slow_epmd_is_no_stranger(ours, form, options: list[str]) -> None:
    """It answers later than a stranger could, and /proc shows that it is an epmd."""
    # C's epmd serves nobody else meanwhile, and is asked twice.
    with form("-delay_accept", "3" if form.is_c else "5") as server:
        done = run([*ours, "-port", str(server.port), *options])
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@each_that_waits
def test_epmd_that_was_stopped_for_a_while_is_no_stranger(ours) -> None:
    with Source() as server:
        with server.stopped():
            starts = subprocess.Popen([*ours, "-port", str(server.port), "-daemon"], env=clean_environment())
            # It waits for an answer, which comes only later.
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert starts.wait(TIMEOUT / 5) is None
        assert starts.wait(PATIENCE) == 0


@each_that_waits
def test_holder_is_another_user_s(ours) -> None:
    """Its descriptors are not to be seen, and the socket tells whose it is."""
    over = [real("setpriv"), "--reuid", "nobody", "--clear-groups", "--bounding-set", "-all"]
    if os.geteuid():
        pytest.skip("needs root")
    with Mute() as there:
        done = run([*over, *ours, "-port", str(there.port), "-daemon"])
    assert done.returncode == 1
    assert done.stderr.endswith(b"; it is held by a process of root at 127.0.0.1:%d\r\n" % there.port)


@each_that_waits
@pytest.mark.parametrize("options", [["-daemon"], ["-loopback", "-daemon"]], ids=["quick", "full"])
def test_stranger_that_leaves_at_once_leaves_the_port(ours, options: list[str]) -> None:
    """As an epmd that ends just now: it has closed its connections, and still has the port.

    The stranger is gone once it was asked, which the quick way of `-daemon` does before anybody binds."""
    with reserved_port() as port:
        stranger = ClosesAtOnceAndLeaves(port)
        done = run([*ours, "-port", str(port), *options])
        stranger.close()
        assert (done.returncode, done.stderr) == (0, b"")
        end(port, serving_pid(port))


class ClosesAtOnceAndLeaves(Stranger):
    def _listen(self, port: int) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super()._listen(port)

    def _accept(self) -> None:
        connection, _ = self._sock.accept()
        connection.close()
        self._sock.close()


@each_that_waits
@pytest.mark.parametrize("rounds", [8])
def test_daemon_right_after_kill(ours, rounds: int) -> None:
    with reserved_port() as port:
        at = ["-port", str(port)]
        assert run([*ours, *at, "-daemon"]).returncode == 0
        for _ in range(rounds):
            assert ask(port, b"k") == b"OK"
            started = run([*ours, *at, "-daemon"])
            assert (started.returncode, started.stderr) == (0, b"")
            assert answers(port)
        end(port, serving_pid(port))


@pytest.mark.measured
@each_that_waits
def test_epmd_that_serves_somewhere_else_only(ours) -> None:
    """At ::1, where 127.0.0.1 is free."""
    with socket.socket(socket.AF_INET6) as there:
        there.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        there.bind(("::1", 0))
        port = there.getsockname()[1]
        done = run([*ours, "-port", str(port), "-daemon"])
        assert done.returncode == 1
        assert b"Cannot connect to epmd on ::1: Connection refused" in done.stderr
        assert not answers(port)
