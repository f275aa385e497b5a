"""Clients of epmd in Python: one on plain sockets, and the library's."""

from __future__ import annotations

import socket

import pytest

from gevent_epmd import client
from gevent_epmd.testing import EpmdFactory, EpmdProcess


def look_up(port: int, name: bytes) -> int | None:
    """A client to be tested: the port of a node, by PORT_PLEASE2_REQ."""
    request = b"z" + name
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(len(request).to_bytes(2, "big") + request)
        answer = sock.makefile("rb").read()
    return int.from_bytes(answer[2:4], "big") if answer[1] == 0 else None


def test_look_up(epmd: EpmdProcess) -> None:
    assert look_up(epmd.port, b"rabbit") is None
    with epmd.register("rabbit", 25672):
        assert look_up(epmd.port, b"rabbit") == 25672
    assert epmd.names() == []


def test_name_is_taken(epmd: EpmdProcess) -> None:
    with epmd.register("rabbit", 25672), pytest.raises(client.RefusedError):
        client.register("rabbit", 1, port=epmd.port)


def test_registration_is_lost(epmd: EpmdProcess) -> None:
    registration = client.register("rabbit", 25672, port=epmd.port)
    epmd.kill_node("rabbit")
    assert registration.lost()
    registration.close()


def test_environment(epmd: EpmdProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERL_EPMD_PORT", epmd.environ["ERL_EPMD_PORT"])
    with client.register("rabbit", 25672):
        assert client.names() == epmd.names()


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_shared(epmd_session: EpmdProcess, name: str) -> None:
    with epmd_session.register(name, 4711):
        node = client.port_please(name, port=epmd_session.port)
        assert node is not None
        assert node.port == 4711


def test_several(epmd_factory: EpmdFactory) -> None:
    one, other = epmd_factory(), epmd_factory("-packet_timeout", "5")
    with one.register("rabbit", 25672), other.register("rabbit", 25672):
        assert one.names() == other.names()


def test_epmd_that_goes_away(epmd: EpmdProcess) -> None:
    epmd.crash()
    with pytest.raises(ConnectionError):
        epmd.names()
    epmd.start()
    epmd.pause()
    with pytest.raises(TimeoutError):
        client.names(port=epmd.port, timeout=0.1)
    epmd.resume()
    assert epmd.names() == []
