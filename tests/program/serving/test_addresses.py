"""An epmd that has several addresses, of which some do not answer."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from gevent_epmd import client
from gevent_epmd.client import exchange
from gevent_epmd.program import ownport
from support.firewall import blocked_port, drop_packets, let_packets_through
from support.forms import InProcess
from support.marks import forms
from support.patience import PATIENCE
from support.peer import node, register
from support.ports import reserved_port
from support.programs import run
from support.scenes import (
    firewall_on_loopback,
    first_address_of_a_host_is_dead,
    run_scene,
    second_start_without_ipv4,
)


@contextlib.contextmanager
def blocked_at(*hosts: str) -> Iterator[int]:
    """The port of an epmd with the node foo, where packets to these addresses are dropped."""
    with InProcess("-loopback") as server, register(server.port, node("foo"))[0]:
        for listener in server._embedded._mapper.listeners:
            if listener.socket.getsockname()[0] in hosts:
                drop_packets(listener.socket)
        yield server.port


def test_first_address_drops_packets(ours) -> None:
    with blocked_at("::1") as port:
        done = run([*ours, "-port", str(port), "-names"])
        assert done.stdout == b"epmd: up and running on port %d with data:\nname foo at port 4711\n" % port
        assert run([*ours, "-port", str(port), "-started"]).returncode == 0


def test_both_addresses_drop_packets(ours) -> None:
    with blocked_at("::1", "127.0.0.1") as port:
        start = time.monotonic()
        done = run([*ours, "-port", str(port), "-names"])
        assert client.TIMEOUT - 1 < time.monotonic() - start < client.TIMEOUT + PATIENCE
    said = b"epmd: connection to local epmd timed out\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", said)


def test_one_drops_packets_and_nobody_listens_at_the_other(ours) -> None:
    """Who listens at the first one might still answer."""
    with blocked_port("::1") as port:
        done = run([*ours, "-port", str(port), "-started"])
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
        with pytest.raises(client.NoEpmdError, match="connection to local epmd timed out"):
            client.names(port=port, timeout=1)


each_program = forms(processes_only=True, launcher=False, c=False)


@each_program
def test_second_start_without_ipv4(form) -> None:
    run_scene(second_start_without_ipv4, form, "without IPv4")


@each_program
def test_firewall_on_loopback(form) -> None:
    run_scene(firewall_on_loopback, form)


@each_program
def test_first_address_of_another_host_drops_packets(form) -> None:
    run_scene(first_address_of_a_host_is_dead, form)


@pytest.mark.measured
@pytest.mark.parametrize("timeout", [3, 20, None])
def test_functions_of_the_client(timeout: float | None) -> None:
    with blocked_at("::1") as port:
        assert client.names(port=port, timeout=timeout) == [("foo", 4711)]
        assert client.port_please("foo", port=port, timeout=timeout).port == 4711
        with client.register("bar", 1, port=port, timeout=timeout):
            assert client.started(port=port, timeout=timeout)


def test_limit_is_for_all_addresses_together() -> None:
    with blocked_at("::1", "127.0.0.1") as port:
        for timeout in (0.2, 1):
            start = time.monotonic()
            with pytest.raises(client.NoEpmdError, match="timed out"):
                client.names(port=port, timeout=timeout)
            assert timeout - 0.1 < time.monotonic() - start < timeout + PATIENCE


@pytest.mark.measured
def test_own_port_behind_a_firewall() -> None:
    """One address of loopback that answers is enough."""
    asked: list[tuple[int, object]] = []

    def look(port: int) -> None:
        ownport.must_answer(["192.0.2.1", "::1", "127.0.0.1"], port, lambda *each: asked.append(each))

    with blocked_at("::1") as port:
        look(port)
    assert [number for number, _ in asked] == [2]
    with (
        blocked_at("::1", "127.0.0.1") as port,
        pytest.raises(
            OSError, match=f"^port {port} does not answer on loopback .timed out.: does a firewall"
        ),
    ):
        look(port)
    assert len(asked) == 1


def test_many_addresses_each_have_their_share() -> None:
    """More than have their share in a row; the last one answers."""
    with blocked_at("::1", "127.0.1.1") as port:
        blocked = [(socket.AF_INET6, ("::1", port)), (socket.AF_INET, ("127.0.1.1", port))] * 8
        target = exchange.Target("", port, 4)
        target.found = [*blocked, (socket.AF_INET, ("127.0.0.1", port))]
        exchange.must_be_an_epmd(target)


@pytest.mark.measured
def test_first_address_that_accepts_late() -> None:
    """It is still waited for while the second one, which never accepts, is tried."""
    with blocked_port() as never, InProcess("-loopback") as server:
        [listener] = [
            listener.socket
            for listener in server._embedded._mapper.listeners
            if listener.socket.getsockname()[0] == "127.0.0.1"
        ]
        drop_packets(listener)
        target = exchange.Target("", server.port, PATIENCE)
        target.found = [(socket.AF_INET, ("127.0.0.1", server.port)), (socket.AF_INET, ("127.0.0.1", never))]
        opened = threading.Timer(0.5, let_packets_through, [listener])
        opened.start()
        exchange.must_be_an_epmd(target)
        opened.join()


PATCHED = """
from gevent import monkey
monkey.patch_all()
import sys, time
from gevent_epmd import client
from gevent_epmd.client import exchange
start = time.monotonic()
assert client.names(port=int(sys.argv[1])) == [("foo", 4711)]
assert 0.2 < time.monotonic() - start
try: client.names(port=int(sys.argv[2]), timeout=0.6)
except client.NoEpmdError as error: print(error)
"""


def test_patched_sockets() -> None:
    with blocked_at("::1") as port, reserved_port() as nobody:
        done = run([sys.executable, "-c", PATCHED, str(port), str(nobody)])
    said = b"Cannot connect to local epmd (port %d of 127.0.0.1 and ::1)\n" % nobody
    assert (done.stdout, done.stderr) == (said, b"")
