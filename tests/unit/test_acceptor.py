"""What the acceptor relies on in gevent's StreamServer: one private name, and its life cycle.

A release of gevent may change a private name.  tests/packaging runs this with the oldest gevent that
pyproject.toml allows.
"""

from __future__ import annotations

import _socket
import ast
import inspect
import resource
import socket as blocking
import textwrap
from collections.abc import Iterator
from contextlib import closing

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from gevent_epmd.server.acceptor import Acceptor
from gevent_epmd.server.connection import Connection
from gevent_epmd.server.events import Events
from gevent_epmd.server.log import Log
from gevent_epmd.server.mapper import Mapper
from gevent_epmd.server.settings import Settings
from gevent_epmd.wire import frame
from support.patience import PATIENCE

pytestmark = pytest.mark.measured


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with gevent.Timeout(PATIENCE):
        yield


@pytest.fixture
def mapper() -> Iterator[Mapper]:
    mapper = Mapper(Settings(), 0, Events(Log()))
    yield mapper
    mapper.hub.loop.run_callback(mapper.stop)  # which is for the hub only
    gevent.sleep(0)


def acceptor_of(mapper: Mapper, kind: type[Acceptor] = Acceptor) -> Acceptor:
    acceptor = kind(mapper, blocking.create_server(("127.0.0.1", 0)), shared=False)
    mapper.listeners.append(acceptor)
    mapper.start()
    return acceptor


def ask(acceptor: Acceptor) -> socket.socket:
    """A connection that has sent NAMES."""
    sock = socket.create_connection(acceptor.address)
    sock.sendall(frame(b"n"))
    return sock


def is_answered(sock: socket.socket, seconds: float = PATIENCE) -> bool:
    with gevent.Timeout(seconds, False):
        return len(sock.recv(4)) == 4
    return False


def test_only_one_private_name_of_gevents_is_taken() -> None:
    """Whatever else the acceptor calls its own must not be something in gevent."""
    attributes = [node for node in ast.walk(source_of(Acceptor)) if isinstance(node, ast.Attribute)]
    own = {*vars(Acceptor)} | {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    plain = StreamServer(blocking.create_server(("127.0.0.1", 0)), handle=print)
    theirs = {*dir(plain)}
    plain.close()
    private = {name for name in own if name.startswith("_") and not name.endswith("__")}
    assert private & theirs == {"_do_read"}


def source_of(kind: type) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(kind)))


def test_watcher_calls_do_read(mapper: Mapper) -> None:
    calls = []

    class Recording(Acceptor):
        def _do_read(self) -> None:
            calls.append("_do_read")
            super()._do_read()

        def do_read(self) -> None:
            calls.append("do_read")

    with ask(acceptor_of(mapper, Recording)) as sock:
        assert is_answered(sock)
    assert {*calls} == {"_do_read"}


def test_accepting_stops_and_starts(mapper: Mapper) -> None:
    acceptor = acceptor_of(mapper)
    assert (acceptor.started, acceptor.closed) == (True, False)
    acceptor.stop_accepting()
    with ask(acceptor) as sock:
        assert not is_answered(sock, 0.1)
        acceptor.start_accepting()
        acceptor.start_accepting()
        assert is_answered(sock)


@pytest.mark.parametrize("how", ["close", "shut_down", "stop"])
def test_closed_acceptor_has_no_socket(mapper: Mapper, how: str) -> None:
    before = mapper.hub.loop.activecnt
    acceptor = acceptor_of(mapper)
    sock = acceptor.socket
    assert isinstance(sock, _socket.socket)
    assert sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN) == 1
    for _ in range(2):
        getattr(acceptor, how)()
        assert (acceptor.started, acceptor.closed, hasattr(acceptor, "socket")) == (False, True, False)
    assert sock.fileno() == -1
    assert mapper.hub.loop.activecnt == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(acceptor.address)


@pytest.mark.parametrize("shared", [False, True])
def test_port_is_free_also_where_a_forked_process_has_the_socket(mapper: Mapper, *, shared: bool) -> None:
    """But not where it is systemd's, which goes on listening."""
    acceptor = Acceptor(mapper, blocking.create_server(("127.0.0.1", 0)), shared=shared)
    with blocking.fromfd(acceptor.socket.fileno(), blocking.AF_INET, blocking.SOCK_STREAM) as copy:
        acceptor.shut_down()
        assert copy.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN) == shared


@pytest.mark.parametrize("seconds", [0, 30])
def test_default_time_out_of_the_program_is_for_nobody_here(mapper: Mapper, seconds: int) -> None:
    before = blocking.getdefaulttimeout()
    blocking.setdefaulttimeout(seconds)
    try:
        acceptor = acceptor_of(mapper)
        with blocking.socket() as peer:
            peer.settimeout(PATIENCE)
            peer.connect(acceptor.address)
            # The kernel keeps back for a second who sends nothing.
            peer.sendall(b"\0")
            while not mapper.unregistered:
                gevent.sleep(0)
    finally:
        blocking.setdefaulttimeout(before)
    assert acceptor.socket.gettimeout() == 0
    assert [connection.sock.gettimeout() for connection in mapper.unregistered] == [None]


def deferred(sock: _socket.socket) -> int:
    """For how many seconds a listening socket keeps back who has sent nothing."""
    return sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_DEFER_ACCEPT)


def test_connection_is_accepted_with_its_request(mapper: Mapper) -> None:
    assert deferred(acceptor_of(mapper).socket) == 1


def test_connection_is_accepted_at_once_for_the_log() -> None:
    with closing(blocking.create_server(("127.0.0.1", 0))) as sock:
        acceptor = Acceptor(Mapper(Settings(debug=1), 0, Events(Log())), sock, shared=False)
        assert deferred(acceptor.socket) == 0
        acceptor.close()


def test_time_of_a_passed_socket_stays(mapper: Mapper) -> None:
    with closing(blocking.create_server(("127.0.0.1", 0))) as sock:
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_DEFER_ACCEPT, 7)
        chosen = deferred(sock)
        acceptor = Acceptor(mapper, sock, shared=True)
        assert deferred(acceptor.socket) == chosen > 1
        acceptor.close()


def test_system_that_cannot_keep_back(mapper: Mapper, monkeypatch, tmp_path) -> None:
    with closing(blocking.socket(blocking.AF_UNIX)) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.listen()
        Acceptor(mapper, sock, shared=True).close()
    monkeypatch.setattr("gevent_epmd.server.acceptor._TCP_DEFER_ACCEPT", None)
    assert deferred(acceptor_of(mapper).socket) == 0


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_rest_of_a_reply(mapper: Mapper, sent: int) -> None:
    """One that was sent in part continues where that ended."""
    ours, theirs = blocking.socketpair()
    connection = Connection(mapper, _socket.socket(fileno=ours.detach()), ("", 0), b"\0\1n", sent)
    mapper.hub.loop.run_callback(connection.start)
    gevent.sleep(0)
    with socket.socket(fileno=theirs.detach()) as reading:
        assert reading.recv(9) == b"\0\0\0\0"[sent:]


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """Calls of `next` on this take every descriptor away, and give them back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def turns() -> Iterator[None]:
        with blocking.socket() as free:
            lowest = free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        yield

    yield turns()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_acceptor_without_room_tries_again(mapper: Mapper, no_descriptor_left, capfd) -> None:
    acceptor = acceptor_of(mapper)
    with ask(acceptor) as sock:
        next(no_descriptor_left)
        assert not is_answered(sock, 0.3)
        next(no_descriptor_left)
        assert is_answered(sock)
    assert "no room for a connection" in capfd.readouterr().err


def test_acceptor_that_waits_for_room_can_be_closed(mapper: Mapper, no_descriptor_left, capfd) -> None:
    before = mapper.hub.loop.activecnt
    acceptor = acceptor_of(mapper)
    with ask(acceptor):
        next(no_descriptor_left)
        while "no room for a connection" not in capfd.readouterr().err:
            gevent.sleep(0.001)
        next(no_descriptor_left)
        acceptor.close()
    assert acceptor.closed
    assert mapper.hub.loop.activecnt == before


def test_own_connection_is_taken_back_and_those_before_it_are_served(mapper: Mapper) -> None:
    acceptor = acceptor_of(mapper)
    acceptor.stop_accepting()
    before, own, after = (blocking.create_connection(acceptor.address) for _ in range(3))
    with before, own, after:
        for sock in (before, own, after):
            sock.settimeout(PATIENCE)
            sock.sendall(frame(b"n"))
        acceptor.take_back(own.getsockname())
        # The request that nobody has read makes the close a reset.
        with pytest.raises(ConnectionResetError):
            own.recv(1)
        acceptor.start_accepting()
        gevent.sleep(0.05)  # turns of the loop
        for sock in (before, after):
            assert len(sock.recv(4)) == 4


def test_connection_that_is_not_there_is_not_taken_back(mapper: Mapper) -> None:
    acceptor_of(mapper).take_back(("127.0.0.1", 1))
