"""Programs that fork while they serve a mapper or hold a registration: the child neither serves nor keeps
anything open.
"""

from __future__ import annotations

import sys

import pytest

from gevent_epmd.server.listeners import close_all, open_listeners
from support.hosts import PORT_MAPPER, THREADED, Changed, Host
from support.paths import TESTS
from support.peer import Peer, begun, look_up, names, node, register, try_to_register
from support.ports import answers
from support.programs import run

#: Ways to a process that lives on and has what was open, in which hooks of Python's run or do not; how it is
#: ended; and in which programs.
FORKS = {
    "os.fork": ("child = os.fork()\nif not child: time.sleep(1000)", PORT_MAPPER, THREADED),
    "gevent.fork": ("import gevent\nchild = gevent.fork()\nif not child: gevent.sleep(1000)", PORT_MAPPER),
    "os.fork and a loop that runs": (
        "import gevent\nchild = os.fork()\nif not child: gevent.sleep(1000)",
        PORT_MAPPER,
        THREADED,
    ),
    "a greenlet's os.fork": (
        "import gevent\nchild = gevent.spawn(os.fork).get()\nif not child: gevent.sleep(1000)",
        PORT_MAPPER,
    ),
    "C's fork": ("child = libc.fork()\nif not child: libc.pause()", PORT_MAPPER, THREADED),
    "multiprocessing": (
        "process = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,))\n"
        "process.start()\nchild = process.pid",
        PORT_MAPPER,
        THREADED,
    ),
    "subprocess": (
        "child = subprocess.Popen(['sleep', '1000'], close_fds=False).pid",
        PORT_MAPPER,
        THREADED,
    ),
}
IMPORTS = "import ctypes, multiprocessing, signal, subprocess, time; libc = ctypes.PyDLL(None)"
#: The children live until the program ends.
ENDED = "import atexit; atexit.register(lambda: [(os.kill(n, 9), os.waitpid(n, 0)) for n in (first, child)])"
EACH = [
    pytest.param(how, kind, id=f"{name}-{kind}") for name, (how, *kinds) in FORKS.items() for kind in kinds
]
each_kind = pytest.mark.parametrize("kind", [PORT_MAPPER, THREADED])


@pytest.mark.parametrize(("how", "kind"), EACH)
def test_parent_serves_on_alone_and_ends_all(how: str, kind: str) -> None:
    """Of what a child took, it would know nothing, and what a child has open, it must end."""
    changed = Changed(before=IMPORTS, serving=f"{how}\nfirst = child", closing=how, closed=ENDED)
    with Host(kind, changed) as host:
        nodes = [register(host.port, node(f"n{number}"))[0] for number in range(20)]
        assert len(names(host.port)) == 20
        for number in range(20):
            assert look_up(host.port, f"n{number}")[:2] == b"w\0"
        for peer in nodes[:10]:
            peer.close()
        again = [register(host.port, node(f"n{number}"))[0] for number in range(10)]
        idle = begun(host.port)
        refused = Peer(host.port)
        assert try_to_register(refused, node("n0"))[:2] == b"v\1"
        host.close()
        for peer in (idle, refused, *nodes[10:], *again):
            assert peer.read_all() == b""
            peer.close()
        assert not answers(host.port)
        close_all(open_listeners(("127.0.0.1",), host.port))
        host.end()


@pytest.mark.measured
@each_kind
def test_child_may_do_as_if_it_had_closed(kind: str) -> None:
    """It leaves the block of the mapper, and serves with one of its own."""
    child = f"""
child = os.fork()
if not child:
    assert mapper.wait(0)
    mapper.close()
    with {kind}(port=0) as own, {THREADED}(port=0) as another:
        assert client.names(port=another.port) == []
        assert own.port != told_port
        mapper.start()
        mapper.close()
    sys.exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    before = "from gevent_epmd import client, ThreadedPortMapper"
    changed = Changed(
        before=before,
        closing=f"told_port = mapper.port\n{child}",
        closed="seen = status",
        seen=7,
        options=", debug=3",
    )
    with Host(kind, changed) as host:
        foo, _ = register(host.port, node("foo"))
        assert host.close() == 7
        assert foo.read_all() == b""
        foo.close()
        host.end()


def test_thread_that_serves_while_others_are_forked() -> None:
    """No look-up that is under way when a child is made waits for the child's end."""
    forks = """
import threading, subprocess
children = []
def fork():
    for _ in range(100):
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
forking = threading.Thread(target=fork)
forking.start()
"""
    ends = "forking.join()\nfor child in children: os.kill(child, signal.SIGKILL); os.waitpid(child, 0)"
    with Host(THREADED, Changed(before=IMPORTS, serving=forks, closing=ends)) as host:
        for _ in range(1000):
            assert look_up(host.port, "foo") == b"w\1"
        host.close()
        host.end()


@pytest.mark.measured
def test_registration_ends_with_its_owner_alone() -> None:
    script = """
import ctypes, os, signal, sys
from gevent_epmd import client
from gevent_epmd.testing import EpmdProcess
libc = ctypes.PyDLL(None)
with EpmdProcess() as epmd:
    with epmd.register("foo", 1):
        child = os.fork()
        if not child: sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        assert epmd.names() == [("foo", 1)], "and the epmd lives too"
        child = libc.fork()
        if not child: libc.pause()
    try: epmd.wait_gone("foo")
    finally: os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
"""
    done = run([sys.executable, "-c", script])
    assert (done.returncode, done.stderr) == (0, b"")


def test_sockets_of_the_program_stay_open_in_the_child() -> None:
    """Whatever they have in common with the mapper's: its port, or even its address."""
    script = """
import os, socket
from gevent_epmd import ThreadedPortMapper
from support.ports import ReservedPort
def reusable(host, port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
def connection(listener): return socket.create_connection(listener.getsockname()), listener.accept()[0]
reserved = ReservedPort()
port = reserved.number
earlier = reusable("127.0.0.1", port)
earlier.listen()
mine = {"earlier connection": connection(earlier)[1], "reserved": reserved._sockets[0]}
earlier.close()
with ThreadedPortMapper(port=port) as mapper:
    mine["udp"] = socket.socket(type=socket.SOCK_DGRAM)
    mine["udp"].bind(("127.0.0.1", port))
    mine["listener"] = reusable("127.0.0.9", port)
    mine["listener"].listen()
    mine["client"], mine["accepted"] = connection(mine["listener"])
    child = os.fork()
    if not child:
        for name, sock in mine.items():
            try: os.fstat(sock.fileno())
            except OSError: print(name, "is closed", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    done = run([sys.executable, "-c", script], environ={"PYTHONPATH": str(TESTS)})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
