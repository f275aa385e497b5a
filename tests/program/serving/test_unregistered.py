"""Connections that are not a node's are bounded: which of them makes room."""

from __future__ import annotations

import resource
from contextlib import ExitStack

import pytest

from gevent_epmd.server import mapper
from gevent_epmd.wire import frame
from soak.crowd import Crowd
from soak.measure import descriptors
from support.forms import InProcess, Source
from support.marks import forms
from support.patience import wait_until
from support.peer import Peer, barrier, begun, long_nodes, names, node, register, slow_reader
from support.programs import few_descriptors


def assert_makes_room(server, expected: list[Peer], stack: ExitStack) -> None:
    """These, one for each newcomer, in this order; the newcomers stay."""
    newcomers = []
    for number, peer in enumerate(expected):
        newcomers.append(stack.enter_context(begun(server.port)))
        assert peer.read_all() == b"", f"number {number}"
        assert all(other.is_open() for other in [*expected[number + 1 :], *newcomers])


@pytest.mark.measured
def test_which_connection_makes_room(monkeypatch) -> None:
    """The one that has been of no use for longest: since it came, or since it made its request."""
    with ExitStack() as stack:
        server = stack.enter_context(InProcess())
        for request in long_nodes(600):
            stack.enter_context(register(server.port, request)[0])
        keeper = stack.enter_context(register(server.port, node("keeper"))[0])
        refused = stack.enter_context(begun(server.port))  # which it is not yet
        reader = stack.enter_context(slow_reader(server.port))
        barrier(server.port)
        drip = stack.enter_context(begun(server.port))
        barrier(server.port)
        idle = stack.enter_context(begun(server.port))
        late = stack.enter_context(begun(server.port))  # becomes a node
        barrier(server.port)
        for peer, name, result in ((refused, "keeper", b"v\1"), (late, "late", b"v\0")):
            peer.send(frame(node(name).packet())[1:])
            assert peer.read(6)[:2] == result
        drip.send(b"\x09")
        barrier(server.port)
        assert not any(each._is_node for each in server._embedded._mapper.unregistered)
        monkeypatch.setattr(mapper, "MOST_UNREGISTERED", 4)
        stack.enter_context(begun(server.port))
        assert len(reader.read_all()) < 600 * 255, "it is cut off"
        assert_makes_room(server, [drip, idle, refused], stack)
        assert "more than 4 connections without a node: making room for a connection from " in server.log()
        barrier(server.port)
        assert keeper.is_open()
        assert late.is_open()
        assert names(server.port)[:2] == ["late at port 4711", "keeper at port 4711"]


def test_connection_that_is_not_looked_at_yet_makes_room(monkeypatch) -> None:
    monkeypatch.setattr(mapper, "MOST_UNREGISTERED", 1)
    with (
        InProcess("-delay_accept", "3") as server,
        begun(server.port) as busy,
        begun(server.port) as newcomer,
    ):
        assert busy.read_all() == b""
        assert newcomer.is_open()


@pytest.mark.measured
@pytest.mark.slow
def test_node_that_waits_for_its_reply_is_a_node(monkeypatch) -> None:
    """One who waits for another reply makes room."""
    monkeypatch.setattr(mapper, "MOST_UNREGISTERED", 1)
    with InProcess("-delay_write", "3") as server, Peer(server.port) as keeper:
        keeper.send(frame(node("keeper").packet()))
        inside = server._embedded._mapper
        wait_until(lambda: len(inside.registry), "it to be registered")
        with Peer(server.port) as busy:
            busy.send(frame(b"n"))
            wait_until(lambda: len(inside.unregistered), "it to wait for its reply")
            with begun(server.port):
                assert busy.read_all() == b""
            assert keeper.read(6)[:2] == b"v\0"


@forms(Source)
def test_most_connections_where_descriptors_do_not_end(form, monkeypatch) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 3 * mapper.MOST_UNREGISTERED:
        pytest.skip("there are too few descriptors here")
    monkeypatch.setattr(form, "prepare", few_descriptors(1024, hard))
    more = 300
    with form() as server, register(server.port, node("keeper"))[0] as keeper, Crowd(server.port) as crowd:
        barrier(server.port)
        before = descriptors(server.pid)
        for _ in range(mapper.MOST_UNREGISTERED + more):
            crowd.join(b"\0")
        for _ in range(more):
            with crowd.peers.popleft() as peer:
                assert peer.read_all() == b""
        assert descriptors(server.pid) - before == mapper.MOST_UNREGISTERED
        assert all(peer.is_open() for peer in crowd.peers)
        assert keeper.is_open()
        assert names(server.port) == ["keeper at port 4711"]
