"""Clients of epmd in Python: one on plain sockets, and the library's."""

from __future__ import annotations

import socket

import pytest

from gevent_epmd import client


def look_up(port: int, name: bytes) -> int | None:
    """A client to be tested: the port of a node, by PORT_PLEASE2_REQ."""
    request = b"z" + name
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(len(request).to_bytes(2, "big") + request)
        answer = sock.makefile("rb").read()
    return int.from_bytes(answer[2:4], "big") if answer[1] == 0 else None


def test_look_up(epmd) -> None:
    assert look_up(epmd.port, b"rabbit") is None
    with epmd.register("rabbit", 25672):
        assert look_up(epmd.port, b"rabbit") == 25672
    assert epmd.names() == []


def test_name_is_taken(epmd) -> None:
    with epmd.register("rabbit", 25672), pytest.raises(client.RefusedError):
        client.register("rabbit", 1, port=epmd.port)


def test_registration_is_lost(epmd) -> None:
    registration = client.register("rabbit", 25672, port=epmd.port)
    epmd.kill_node("rabbit")
    assert registration.lost()
    registration.close()


def test_environment(epmd, monkeypatch) -> None:
    monkeypatch.setenv("ERL_EPMD_PORT", epmd.environ["ERL_EPMD_PORT"])
    with client.register("rabbit", 25672):
        assert client.names() == epmd.names()


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_shared(epmd_session, name: str) -> None:
    with epmd_session.register(name, 4711):
        assert client.port_please(name, port=epmd_session.port).port == 4711
    epmd_session.wait_gone(name)
