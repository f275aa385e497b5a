"""An epmd inside another program: what it takes, gives and leaves behind."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import ExitStack

import gevent
import pytest
from gevent import get_hub, socket
from gevent.threadpool import ThreadPool

from gevent_epmd import PortMapper, ThreadedPortMapper, client
from gevent_epmd.server.listeners import ListenError, PortInUseError
from gevent_epmd.wire import frame
from support.patience import PATIENCE, wait_until
from support.peer import Peer, node, try_to_register
from support.ports import answers, reserved_port
from support.programs import run

BOTH = [PortMapper, ThreadedPortMapper]
each = pytest.mark.parametrize("kind", BOTH)


@pytest.fixture
def away():
    """Calls a function in a thread, while the hub of this one serves."""
    pool = ThreadPool(1)
    yield lambda function, *given, **named: pool.apply(function, given, named)
    pool.kill()


@pytest.mark.measured
@each
def test_serves_from_start_to_close(kind, away) -> None:
    with kind(port=0) as mapper:
        port = mapper.port
        assert away(answers, port)
        assert away(answers, port, "::1")
        registration = away(client.register, "foo", 4711, port=port)
        assert away(client.names, port=port) == [("foo", 4711)]
        with pytest.raises(RuntimeError, match="close it first"):
            mapper.start()
        assert not mapper.wait(0)
    assert mapper.wait(0)
    assert registration.lost()
    registration.close()
    assert not answers(port)
    mapper.close()
    with kind(port=port) as again:
        assert again.port == port, "the port is free at once"
    again.start()
    assert away(answers, port), "and it can be started again"
    again.close()


@pytest.mark.measured
@each
def test_close_ends_every_connection(kind, away) -> None:
    with ExitStack() as stack:
        with kind(port=0) as mapper:
            idle, partial, held, refused = (stack.enter_context(Peer(mapper.port)) for _ in range(4))
            wait_until(lambda: gevent.sleep() or connections(mapper), "the idle one to be accepted")
            partial.send(b"\0\7zfo")
            assert away(try_to_register, held, node("foo"))[1] == 0
            assert away(try_to_register, refused, node("foo"))[1] == 1
        with kind(port=0, delay_accept=600) as slow:
            asleep = stack.enter_context(Peer(slow.port))
            wait_until(lambda: gevent.sleep() or connections(slow), "it to be accepted")
        for peer in (idle, partial, held, refused, asleep):
            assert peer.read_all() == b""


def connections(mapper) -> bool:
    return bool(mapper._mapper.unregistered)


@each
def test_nothing_of_it_is_left_in_the_hub(kind) -> None:
    hub = get_hub()
    gevent.sleep(0)
    before = hub.loop.activecnt
    with kind(port=0, idle_exit=3600) as mapper, socket.create_connection(("127.0.0.1", mapper.port)) as sock:
        sock.sendall(frame(node("foo").packet()))
        assert len(sock.recv(6)) == 6
    gevent.sleep(0)
    assert hub.loop.activecnt == before


@pytest.mark.measured
@each
def test_peers_may_end_it(kind, away) -> None:
    with kind(port=0, relaxed=True) as mapper, away(client.register, "foo", 4711, port=mapper.port) as held:
        away(client.kill, port=mapper.port)
        assert mapper.wait(PATIENCE)
        wait_until(held.lost, "the connection to be closed")
    with kind(port=0, idle_exit=1) as mapper:
        assert mapper.wait(PATIENCE)


@each
def test_options_are_those_of_the_program(kind, away) -> None:
    with kind(port=0, relaxed=True) as mapper, away(client.register, "foo", 4711, port=mapper.port):
        assert away(client.stop, "foo", port=mapper.port)
    with kind(port=0, packet_timeout=1) as mapper, Peer(mapper.port) as peer:
        assert away(peer.read_all) == b""
    with kind(port=0) as mapper:
        assert all(away(answers, mapper.port, host) for host in ("127.0.0.1", "127.0.1.1", "::1"))
        assert not away(answers, mapper.port, "127.0.0.2")
    with kind(port=0, addresses=["127.0.0.5"]) as mapper:
        assert away(answers, mapper.port, "127.0.0.5")
        assert not away(answers, mapper.port, "127.0.0.6")
    with kind(port=0, addresses=[], allow=["10.0.0.0/8"], allow_register=None) as mapper:
        assert away(answers, mapper.port, "127.0.0.6")


@pytest.mark.measured
def test_closed_by_one_thread_while_another_starts_it() -> None:
    opening, go_on = threading.Event(), threading.Event()

    class Slow(ThreadedPortMapper):
        def _open(self):
            opening.set()
            go_on.wait(PATIENCE)
            return super()._open()

    mapper = Slow(port=0)
    starting = threading.Thread(target=mapper.start, daemon=True)
    starting.start()
    assert opening.wait(PATIENCE)
    closing = threading.Thread(target=mapper.close, daemon=True)
    closing.start()
    wait_until(lambda: mapper._thread is None, "it to be asked to close")
    go_on.set()
    for thread in (starting, closing):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not answers(mapper.port)
    with mapper:
        assert answers(mapper.port), "and it can be started again"


@each
def test_log_goes_where_it_is_wanted(kind, away, capfd) -> None:
    lines: list[str] = []
    for log in (lines.append, None):
        with kind(port=0, debug=1, log=log) as mapper:
            away(client.names, port=mapper.port)
    said = [line.split("** ")[1] for line in lines if "**" in line]
    assert said == ["got EPMD_NAMES_REQ", "sent NAMES_RESP"]
    assert capfd.readouterr().err.count("NAMES_RE") == 2


@pytest.mark.measured
@each
def test_asked_by_the_program_itself(kind) -> None:
    """In the thread that serves as well: the calls let the hub run meanwhile."""
    with kind(port=0) as mapper:
        port = mapper.port
        registration = mapper.register("foo", 4711, hidden=True, extra=b"e")
        with mapper.register("bar", 4712):
            assert mapper.names() == [("bar", 4712), ("foo", 4711)]
            assert mapper.wait_for("foo") == 4711
            assert mapper.wait_for("foo", "bar") == (4711, 4712)
        mapper.wait_gone("bar")
        with pytest.raises(
            TimeoutError, match=r"^foo: still registered after 0\.01 s; registered nodes: foo$"
        ):
            mapper.wait_gone("foo", timeout=0.01)
        assert repr(mapper) == f"<{kind.__name__} at port {port}: serves>"
        mapper.restart()
        assert (mapper.port, mapper.names()) == (port, [])
        assert registration.lost()
        registration.close()
    assert repr(mapper) == f"<{kind.__name__} at port {port}: closed>"
    with pytest.raises(client.NoEpmdError):
        mapper.names()


@pytest.mark.measured
def test_call_that_would_block_the_hub_is_an_error(away) -> None:
    """It was never answered, and ended after its time limit."""
    for host in ("", "127.0.0.1", "localhost"):
        with PortMapper(port=0) as mapper, pytest.raises(RuntimeError, match="use ThreadedPortMapper"):
            client.names(host, mapper.port)
    with PortMapper(port=0) as mapper:
        assert away(client.names, port=mapper.port) == []
        mapper.register("foo", 1).close()
        mapper.wait_gone("foo")
    with pytest.raises(client.NoEpmdError):
        client.names(port=mapper.port)


@pytest.mark.measured
def test_asyncio_runs_no_hub() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="use ThreadedPortMapper"):
            PortMapper(port=0).start()
        with ThreadedPortMapper(port=0) as mapper:
            assert mapper.names() == []

    asyncio.run(main())


@pytest.mark.measured
@each
def test_what_cannot_be(kind) -> None:
    for name, wrong in {
        "port": -1,
        " port": 65536,
        "allow": ["nonsense"],
        " allow": "10.0.0.0/8",
        "allow_register": "10.0.0.0/8",
        "addresses": "127.0.0.1",
        "packet_timeout": 0,
        "idle_exit": -1,
        "delay_accept": -1,
        "delay_write": -1,
        "debug": -1,
    }.items():
        with pytest.raises(ValueError, match=rf"^{name.strip()}\b|nonsense"):
            kind(**{name.strip(): wrong})
    with pytest.raises(ListenError, match="cannot parse"):
        kind(port=0, addresses=["localhost"]).start()
    with reserved_port() as port, kind(port=port) as mapper:
        assert mapper.port == port
        with pytest.raises(PortInUseError, match=str(port)), kind(port=port):
            pass


@pytest.mark.measured
@each
def test_failures_inside_come_out(kind, away) -> None:
    def log(line: str) -> None:
        raise ZeroDivisionError(line)

    mapper = kind(port=0, debug=1, log=log)
    mapper.start()
    assert away(client.names, port=mapper.port) == []
    with pytest.raises(ZeroDivisionError):
        mapper.close()
    assert not answers(mapper.port)
    mapper.close()
    lines: list[str] = []
    mapper = kind(port=0, log=lines.append)
    mapper.start()
    mapper._mapper.registry.names_reply = None
    with pytest.raises(client.BadAnswerError):
        away(client.names, port=mapper.port)
    with pytest.raises(TypeError):
        mapper.close()
    assert any("internal error" in line for line in lines)


@each
def test_failure_of_the_block_is_not_hidden(kind) -> None:
    with pytest.raises(KeyError), kind(port=0) as mapper:
        raise KeyError
    assert not answers(mapper.port)


@pytest.mark.measured
def test_failure_of_the_hub_comes_out() -> None:
    mapper = ThreadedPortMapper(port=0, log=lambda _: None)
    mapper.start()
    mapper._mapper.listeners[0]._serve = None
    with pytest.raises(client.EpmdError):
        client.names("127.0.0.1", mapper.port, timeout=0.5)
    wait_until(lambda: mapper._log._failure, "the hub to fail")
    with pytest.raises(TypeError):
        mapper.close()
    assert not answers(mapper.port)


@pytest.mark.measured
def test_failure_of_the_end_comes_out() -> None:
    for kind in BOTH:
        mapper = kind(port=0, log=lambda _: None)
        mapper.start()
        mapper._mapper.registry.live = None
        with pytest.raises(TypeError):
            mapper.close()
        assert not answers(mapper.port)


def test_many_threads_and_one_mapper() -> None:
    mapper = ThreadedPortMapper(port=0)
    for _ in range(20):
        mapper.start()
        pool = ThreadPool(4)
        for _ in range(4):
            pool.spawn(mapper.close)
        pool.join()
        pool.kill()
        assert mapper.wait(PATIENCE)
        mapper.close()
        assert not answers(mapper.port)


@pytest.mark.measured
def test_where_threads_are_patched() -> None:
    script = """
from gevent import monkey
monkey.patch_all()
from gevent_epmd import PortMapper, ThreadedPortMapper, client
with PortMapper(port=0) as mapper:
    with client.register("foo", 4711, port=mapper.port): print(client.names(port=mapper.port)[0].name)
try: ThreadedPortMapper(port=0).start()
except RuntimeError as error: print(error)
"""
    done = run([sys.executable, "-c", script])
    assert done.stdout.startswith(b"foo\ngevent has patched the module threading"), done.stderr


def test_package_imports_gevent_only_where_it_serves() -> None:
    script = """
import sys, gevent_epmd
from gevent_epmd import client
print("gevent" in sys.modules)
gevent_epmd.PortMapper
print("gevent" in sys.modules)
gevent_epmd.nonsense
"""
    done = run([sys.executable, "-c", script])
    assert done.stdout == b"False\nTrue\n"
    assert b"AttributeError: module gevent_epmd has no attribute nonsense" in done.stderr


@pytest.mark.measured
@each
def test_close_ends_a_node_that_plays_busy_and_has_lost_its_name(kind, away) -> None:
    """It is neither registered nor among those without a node."""
    lines: list[str] = []
    with ExitStack() as stack:
        with kind(port=0, relaxed=True, delay_write=60, debug=1, log=lines.append) as mapper:
            peer, stopping = (stack.enter_context(Peer(mapper.port)) for _ in range(2))
            peer.send(frame(node("foo").packet()))
            away(
                wait_until, lambda: any("registering 'foo" in line for line in lines), "foo to be registered"
            )
            inside = mapper._mapper
            stopping.send(frame(b"sfoo"))
            away(wait_until, lambda: any("unregistering 'foo" in line for line in lines), "foo to be stopped")
        assert not inside.sleeping
        assert away(peer.read_all) == b""
