"""What others have of a connection: whether its peer is there, and its greenlet, which serves another one."""

from __future__ import annotations

import _socket
import os
from collections.abc import Iterator

import gevent
import pytest

from gevent_epmd.server import connection as module
from gevent_epmd.server.connection import Connection
from gevent_epmd.server.events import Events
from gevent_epmd.server.log import Log
from gevent_epmd.server.mapper import Mapper
from gevent_epmd.server.settings import Settings
from gevent_epmd.wire import frame
from support.patience import PATIENCE

pytestmark = pytest.mark.measured


@pytest.fixture
def mapper() -> Iterator[Mapper]:
    mapper = Mapper(Settings(), 4369, Events(Log()))
    with gevent.Timeout(PATIENCE):
        yield mapper
    mapper.hub.loop.run_callback(mapper.stop)  # which is for the hub only
    gevent.sleep(0)


def connected(mapper: Mapper) -> tuple[Connection, _socket.socket]:
    """A connection, and its peer."""
    own, peer = _socket.socketpair()
    return Connection(mapper, own, ("127.0.0.1", 4711)), peer


def test_who_looks_whether_the_peer_has_gone_takes_nothing_away(mapper: Mapper) -> None:
    """A byte frees the name for others, and must end the connection afterwards."""
    connection, peer = connected(mapper)
    assert not connection.gone()
    peer.send(b"\1")
    assert connection.gone()
    assert connection.gone()
    assert connection.sock.recv(1) == b"\1"
    assert not connection.gone()
    peer.close()
    assert connection.gone()
    connection.sock.close()


def test_a_few_idle_greenlets_are_kept_for_the_next_connections(mapper: Mapper, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_IDLE", 2)
    for _ in range(2):
        pairs = [connected(mapper) for _ in range(4)]
        for connection, _ in pairs:
            mapper.hub.loop.run_callback(connection.start)
        while len(mapper.unregistered) < len(pairs):
            gevent.sleep(0)
        assert mapper.idle_greenlets == []
        for _, peer in pairs:
            peer.send(frame(b"n"))
        while any(connection.sock.fileno() >= 0 for connection, _ in pairs):
            gevent.sleep(0)
        assert len(mapper.idle_greenlets) == 2
        assert list(mapper.unregistered) == [], "what has ended makes room for nobody"
        for _, peer in pairs:
            assert peer.recv(100) == (4369).to_bytes(4, "big")
            peer.close()


def test_end_reaches_the_peer_of_a_connection_that_a_forked_process_has_too(mapper: Mapper) -> None:
    connection, peer = connected(mapper)
    copy = os.dup(connection.fd)
    mapper.hub.loop.run_callback(connection.start)
    while not mapper.unregistered:
        gevent.sleep(0)
    mapper.hub.loop.run_callback(mapper.stop)
    while connection.sock.fileno() >= 0:
        gevent.sleep(0)
    peer.setblocking(False)
    assert peer.recv(1) == b""
    peer.close()
    os.close(copy)
