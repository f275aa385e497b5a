"""Programs that end with an open mapper, or whose hub ends before their mapper."""

from __future__ import annotations

import sys

import pytest

from support.programs import run

#: `last` runs after everything else that is registered with atexit, just before the interpreter ends.
LAST = """
import atexit, os, socket, sys, threading, time
@atexit.register
def last():
    with socket.socket() as sock: assert sock.connect_ex(("127.0.0.1", port)), "it serves"
    assert not [thread for thread in threading.enumerate() if thread.name == "epmd"], "it runs"
    print("ended")
from gevent_epmd import PortMapper, ThreadedPortMapper, client
def asks():
    while True: client.started(port=port)
def ask():
    for _ in range(2): threading.Thread(target=asks, daemon=True).start()
"""
ENDS = {
    "open": "mapper = ThreadedPortMapper(port=0); mapper.start(); port = mapper.port; ask()",
    "by sys.exit": """
mapper = ThreadedPortMapper(port=0); mapper.start(); port = mapper.port
ask()
sys.exit()
""",
    "several": """
mappers = [ThreadedPortMapper(port=0) for _ in range(4)]
for mapper in mappers: mapper.start()
port = mapper.port
ask()
""",
    "busy": """
mapper = ThreadedPortMapper(port=0, delay_write=600); mapper.start(); port = mapper.port
ask()
""",
    "in the hub of a daemon thread": """
def serve():
    global port
    with PortMapper(port=0) as mapper:
        port = mapper.port
        ready.set()
        mapper.wait()
ready = threading.Event()
threading.Thread(target=serve, daemon=True, name="epmd").start()
ready.wait()
ask()
""",
    "closed by a handler that was registered later": """
mapper = ThreadedPortMapper(port=0); mapper.start(); port = mapper.port
atexit.register(mapper.close)
""",
    "in a forked child": """
mapper = ThreadedPortMapper(port=0); mapper.start(); port = mapper.port
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    mapper.close()
    os._exit(0)
mapper.start()
port = mapper.port
ask()
""",
}


@pytest.mark.measured("daemon thread")
@pytest.mark.parametrize("how", ENDS)
def test_no_mapper_runs_when_the_interpreter_ends(how: str) -> None:
    done = run([sys.executable, "-c", LAST + ENDS[how]])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ended\n", b"")


@pytest.mark.measured
def test_log_that_blocks_delays_the_end_for_a_moment_only() -> None:
    script = """
import threading
from gevent_epmd import ThreadedPortMapper, client
mapper = ThreadedPortMapper(port=0, debug=1, log=lambda _: threading.Event().wait())
mapper.start()
try: client.names(port=mapper.port, timeout=0.1)
except client.EpmdError: print("blocked")
"""
    done = run([sys.executable, "-c", script])
    assert (done.returncode, done.stdout) == (0, b"blocked\n")


@pytest.mark.measured
def test_no_mapper_starts_any_more() -> None:
    script = """
import atexit
@atexit.register
def last():
    try: ThreadedPortMapper(port=0).start()
    except RuntimeError as error: print(error)
from gevent_epmd import ThreadedPortMapper
"""
    done = run([sys.executable, "-c", script])
    assert done.stdout == b"the program is ending: a mapper cannot be started any more\n"


#: Ways to take the hub away.
DESTROYED = {
    "with its loop": "get_hub().destroy(destroy_loop=True)",
    "without its loop": "get_hub().destroy()",
}


@pytest.mark.measured("another-without its loop")
@pytest.mark.parametrize("how", DESTROYED)
@pytest.mark.parametrize("thread", ["main", "another"])
def test_close_after_the_hub_was_destroyed(how: str, thread: str) -> None:
    script = f"""
import socket, threading
import gevent
from gevent import get_hub
from gevent_epmd import PortMapper
def play():
    mapper = PortMapper(port=0, idle_exit=1000)
    mapper.start()
    peers = [socket.create_connection(("127.0.0.1", mapper.port)) for _ in range(2)]
    peers[0].sendall(b"\\0\\4zfo")
    peers[1].sendall(b"\\0\\x10x\\1\\1M\\0\\0\\6\\0\\5\\0\\3foo\\0\\0")
    while len(mapper._mapper._connections()) < 2: gevent.sleep(0.001)
    assert len(peers[1].recv(6)) == 6
    {DESTROYED[how]}
    mapper.close()
    assert [peer.recv(1) for peer in peers] == [b"", b""]
    with socket.socket() as sock: assert sock.connect_ex(("127.0.0.1", mapper.port))
    assert mapper.wait(0)
    gevent.sleep(0.01)
    with mapper: pass
    print("done")
if {thread == "main"}: play()
else: thread = threading.Thread(target=play); thread.start(); thread.join()
"""
    done = run([sys.executable, "-c", script])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
