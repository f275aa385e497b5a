"""A mapper in programs that have changed what it could depend on; each plays the same scene."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest

from gevent_epmd.server.connection import Connection
from support.hostile import Hostile, playing
from support.hosts import PORT_MAPPER, THREADED, Changed, Host
from support.patience import PATIENCE
from support.peer import Peer, ask, begun, look_up, node, register, try_to_register
from support.ports import answers
from support.programs import run

#: Longer than a test waits: it sees whoever waits so long.
TIME_OUT = f"import socket; socket.setdefaulttimeout({10 * PATIENCE:.0f})"
#: Parts of a program that gevent may patch alone, and those of which none has to do with the others.
PARTS = ("os", "socket", "select", "subprocess")
SMALL_PARTS = ("time", "queue", "signal", "builtins", "contextvars", "sys")
GUARD = """
import socket
class Guard(socket.socket):
    def __init__(self, *given, **named): raise RuntimeError("no sockets in tests")
socket.socket = Guard
"""
#: Every signal that a program may handle has a handler, of which `called` tells.
HANDLERS = """
import signal
called = []
def handler(number, frame): called.append(number)
mine = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGABRT}
mine = {number for number in mine if number < 32}
for number in mine: signal.signal(number, handler)
wakes = signal.set_wakeup_fd(-1)
"""

HOSTS = {
    "nothing": Changed(),
    "time-out": Changed(before=TIME_OUT),
    "time-out after the import": Changed(after=TIME_OUT),
    "time-out while it serves": Changed(serving=TIME_OUT),
    "no time at all": Changed(before="import socket; socket.setdefaulttimeout(0)"),
    "patched": Changed(before="from gevent import monkey; monkey.patch_all()", kinds=(PORT_MAPPER,)),
    "patched after the import": Changed(
        after="from gevent import monkey; monkey.patch_all()", kinds=(PORT_MAPPER,)
    ),
    "patched while it serves": Changed(
        serving="from gevent import monkey; monkey.patch_all()", kinds=(PORT_MAPPER,)
    ),
    "patched but for the threads, while it serves": Changed(
        serving="from gevent import monkey; monkey.patch_all(thread=False)"
    ),
    "patched with a time-out": Changed(
        before=f"from gevent import monkey; monkey.patch_all(); {TIME_OUT}", kinds=(PORT_MAPPER,)
    ),
    "patched but for the threads": Changed(
        before="from gevent import monkey; monkey.patch_all(thread=False)",
    ),
    "threads patched alone": Changed(
        before="from gevent import monkey; monkey.patch_thread()", kinds=(PORT_MAPPER,)
    ),
    **{
        f"{part} patched alone": Changed(before=f"from gevent import monkey; monkey.patch_{part}()")
        for part in PARTS
    },
    "small parts patched": Changed(
        before="\n".join(["from gevent import monkey", *(f"monkey.patch_{part}()" for part in SMALL_PARTS)])
    ),
    "another socket.socket": Changed(after=GUARD),
    "SIGCHLD ignored": Changed(before="import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"),
    "SIGPIPE not ignored": Changed(before="import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)"),
    "handlers": Changed(
        before=HANDLERS,
        serving="for number in sorted(mine): os.kill(os.getpid(), number)",
        closed="seen = [set(called) == mine, all(signal.getsignal(n) is handler for n in mine)]",
        seen=[True, True],
    ),
    "for developers, and warnings are errors": Changed(python=("-X", "dev", "-W", "error")),
    "optimised, and without docstrings": Changed(python=("-OO",)),
    "little recursion": Changed(after="sys.setrecursionlimit(65)"),
    # Python 3.14 keeps a part of each stack free, and has too little left of a smaller one.
    "small stacks": Changed(
        after=f"import threading; threading.stack_size({64 if sys.version_info < (3, 14) else 192} * 1024)"
    ),
    "few descriptors": Changed(shell='ulimit -n 32; exec "$@"'),
    "no standard descriptors": Changed(shell='exec "$@" <&- >&- 2>&-'),
    "no streams": Changed(after="sys.stdin = sys.stdout = sys.stderr = None"),
    "log in its place": Changed(
        # The next connection is number 2.
        shell='exec "$@" 2>&-',
        before="import gevent; taken = os.open(os.devnull, os.O_RDWR); gevent.get_hub(); assert taken == 2",
        serving="os.close(taken)",
        options=", debug=3",
    ),
    "no environment": Changed(before="os.environ.clear()"),
    # What none of the others could hide.
    "C's locale, no folder, few digits, no garbage collection, umask": Changed(
        environ={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        python=("-X", "int_max_str_digits=640"),
        before="import gc, tempfile; folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)\n"
        "gc.disable(); os.umask(0o777)",
    ),
}
#: What is the same for both: one kind of embedding plays it, the other kind the next.
ALIKE = (
    *("time-out", "time-out after the import", "subprocess patched alone", "SIGCHLD ignored"),
    *("SIGPIPE not ignored", "optimised, and without docstrings", "few descriptors", "no environment"),
    *("no standard descriptors", "no streams"),
)
EACH = [
    pytest.param(name, kind, id=f"{name}-{kind}")
    for name, host in HOSTS.items()
    for kind in host.kinds
    if name not in ALIKE or kind == host.kinds[ALIKE.index(name) % 2]
]


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_scene(name: str, kind: str) -> None:
    changed = HOSTS[name]
    with Host(kind, changed) as host:
        idle = begun(host.port)
        foo, creation = register(host.port, node("foo"))
        assert look_up(host.port, "foo")[:2] == b"w\0"
        with Peer(host.port) as second:
            assert try_to_register(second, node("foo"))[:2] == b"v\1", "the node lives"
        assert look_up(host.port, "foo")[:2] == b"w\0"
        assert foo.is_open()
        assert b"name foo at port 4711\n" in ask(host.port, b"n")
        with Peer(host.port) as leaves:
            leaves.send(b"\0\4zf")
        with Peer(host.port) as resets:
            resets.send(b"\0\1n")
            resets.reset()
        foo.close()
        foo, again = register(host.port, node("foo"))
        assert again == creation + 1
        bar, _ = register(host.port, node("n\xe9"))
        assert look_up(host.port, "n\xe9")[:2] == b"w\0"
        assert host.close() == changed.seen
        for peer in (idle, foo, bar):
            assert peer.read_all() == b""
            peer.close()
        assert not answers(host.port)
        assert host.end() == []


@pytest.mark.parametrize("kind", [PORT_MAPPER, THREADED])
def test_peer_that_has_gone_ends_no_program(kind: str) -> None:
    """The kernel has a SIGPIPE for whoever writes to one that closed first and was reset then."""
    changed = Changed(before=HOSTS["SIGPIPE not ignored"].before, options=", delay_write=1")
    with Host(kind, changed) as host:
        gone = Peer(host.port)
        gone.send(b"\0\1n")
        with Peer(host.port) as next_one:
            next_one.sock.shutdown(socket.SHUT_WR)
            assert next_one.read_all() == b"", "then the request before it has been read"
        gone.sock.shutdown(socket.SHUT_WR)
        gone.reset()
        assert ask(host.port, b"n") != b"", "and the reply to it has been written"
        host.close()
        host.end()


def test_both_kinds_are_in_the_table() -> None:
    assert {kind for host in HOSTS.values() for kind in host.kinds} == {PORT_MAPPER, THREADED}


#: What tests of other projects run an epmd in; a program of which sockets, stacks or files were taken away is
#: none of these.
NOT_ASKING = {"another socket.socket", "little recursion", "log in its place", "handlers"}
#: They have no thread that could be patched, and ask the time-out when they make a socket.
NOT_ASKING |= {name for name in HOSTS if name.startswith("patched but for the threads")}
NOT_ASKING |= {"time-out after the import"}
ASKING = sorted(HOSTS.keys() - NOT_ASKING)


@pytest.mark.parametrize("name", ASKING)
def test_client_and_epmd_process(name: str) -> None:
    changed = HOSTS[name]
    script = f"""
import os, sys
{changed.before}
from gevent_epmd import client
from gevent_epmd.testing import EpmdProcess
{changed.after}
with EpmdProcess() as epmd:
    {changed.serving.replace(chr(10), chr(10) + "    ")}
    with epmd.register("n\\xe9", 4711) as registration:
        assert client.names(port=epmd.port, timeout=None) == [("n\\xe9", 4711)]
        assert not registration.lost()
        assert epmd.wait_for("n\\xe9") == 4711
    epmd.wait_gone("n\\xe9")
    epmd.check()
assert not client.started(port=epmd.port)
"""
    python = [sys.executable, *changed.python, "-c", script]
    done = run(["sh", "-c", changed.shell, "sh", *python], environ=changed.environ)
    assert (done.returncode, done.stderr) == (0, b"")


def test_time_out_of_the_program_is_not_that_of_a_call() -> None:
    """The answer takes longer than the default time-out."""
    script = """
import socket, sys
socket.setdefaulttimeout(0.05)
from gevent_epmd import client
print(client.names(port=int(sys.argv[1]), timeout=None))
"""
    with Hostile(playing([b"\0\0\x11\x11", b"name a at port 1\n"], 0.5, "closes")) as slow:
        done = run([sys.executable, "-c", script, str(slow.port)])
    assert done.stdout == b"[NamedPort(name='a', port=1)]\n", done.stderr


def test_time_out_says_nothing_of_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(SimpleNamespace(events=None), ours, ("127.0.0.1", 1))
        for time_out in (None, 0, 0.01):
            ours.settimeout(time_out)
            assert not connection.gone()
        theirs.close()
        assert connection.gone()
