"""Going on with the nodes and connections of another process."""

from __future__ import annotations

import _socket
import socket as blocking
from collections.abc import Iterator
from contextlib import ExitStack, closing

import gevent
import pytest

from gevent_epmd.server.acceptor import new_mapper
from gevent_epmd.server.events import Events
from gevent_epmd.server.inherit import Inheritance, inherit
from gevent_epmd.server.listeners import open_listeners
from gevent_epmd.server.log import Log
from gevent_epmd.server.mapper import Mapper
from gevent_epmd.server.networks import read_network
from gevent_epmd.server.settings import Settings
from gevent_epmd.wire import frame
from support.patience import PATIENCE
from support.peer import node

pytestmark = pytest.mark.measured


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def mapper() -> Iterator[Mapper]:
    mapper = new_mapper(Settings(), open_listeners(("127.0.0.1",), 0), Events(Log()))
    yield mapper
    mapper.hub.loop.run_callback(mapper.stop)
    gevent.sleep(0.01)


def connected(stack: ExitStack) -> tuple[blocking.socket, _socket.socket]:
    """A peer, and the socket that another process has accepted."""
    with closing(blocking.create_server(("127.0.0.1", 0))) as other:
        peer = stack.enter_context(blocking.create_connection(other.getsockname()))
        peer.settimeout(PATIENCE)
        accepted, _ = other.accept()
    return peer, _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, accepted.detach())


def until(condition) -> None:
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.001)


def test_it_goes_on_with_all_of_it(mapper: Mapper, stack: ExitStack) -> None:
    peers, nodes = zip(*(connected(stack) for _ in range(2)), strict=True)
    asking, unread = connected(stack)
    refused, answered = connected(stack)
    greatest = mapper.registry._floor + 1000
    left = Inheritance(
        nodes=[(node(f"n{number}", 4000 + number), sock) for number, sock in enumerate(nodes)],
        unread=[unread],
        answered=[answered],
        remembered=[(node("former", 1), 9)],
        creation=greatest,
    )
    inherit(mapper, left)
    mapper.start()
    asking.sendall(frame(b"n"))
    until(lambda: not len(mapper.unregistered) - 1)
    assert asking.recv(1000)[4:] == b"name n1 at port 4001\nname n0 at port 4000\n"
    assert b"old/unused name <former>, port = 1, fd = 9" in mapper.registry.dump_reply()
    assert all(each.creation > greatest for each in mapper.registry.live())
    peers[0].close()
    until(lambda: len(mapper.registry) == 1)
    refused.close()
    until(lambda: not mapper.unregistered)


def test_node_of_another_host_is_kept_alive(stack: ExitStack) -> None:
    """C's epmd, and one that was started otherwise, have not asked for it. Here the peer is another host."""
    here = read_network("127.0.0.0/8")
    settings = Settings(allow_register=(here,), not_local=(here,))
    mapper = new_mapper(settings, open_listeners(("127.0.0.1",), 0), Events(Log()))
    peer, sock = connected(stack)
    inherit(mapper, Inheritance([(node("n"), sock)], [], [], [], 0))
    mapper.start()
    has_begun: list[bool] = []
    mapper.hub.loop.run_callback(has_begun.append, True)
    until(lambda: has_begun)
    assert sock.getsockopt(blocking.SOL_SOCKET, blocking.SO_KEEPALIVE)
    peer.close()
    until(lambda: not len(mapper.registry))
    mapper.hub.loop.run_callback(mapper.stop)
    gevent.sleep(0.01)


def test_peer_that_has_gone_meanwhile(mapper: Mapper, stack: ExitStack) -> None:
    peer, sock = connected(stack)
    peer.setsockopt(blocking.SOL_SOCKET, blocking.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    inherit(mapper, Inheritance([(node("n"), sock)], [], [], [], 0))
    mapper.start()
    until(lambda: not len(mapper.registry))
