"""The functions that ask an epmd, each of every form."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gevent_epmd import client
from gevent_epmd.client import BadAnswer, NoEpmd, Refused
from gevent_epmd.client.answers import NamedPort
from support.forms import Source
from support.marks import forms
from support.paths import ROOT, SOURCE
from support.patience import PATIENCE, wait_until
from support.ports import reserved_port
from support.programs import run
from support.scenes import run_apart
from support.strangers import Odd

pytestmark = pytest.mark.measured


@forms()
def test_names_and_look_ups(form) -> None:
    with form() as server:
        port = server.port
        assert client.names(port=port) == []
        assert client.started(port=port)
        with client.register("foo", 4711, port=port), client.register("узел", 4712, extra=b"e", port=port):
            for host in ("", "127.0.0.1", "::1", "localhost"):
                listed = [NamedPort("узел", 4712), NamedPort("foo", 4711)]
                assert client.names(host, port) == listed
                assert client.port_please("foo", host, port).port == 4711
            found = client.port_please("узел", port=port)
            assert (found.port, found.node_type, found.highest, found.extra) == (4712, 77, 6, b"e")
            assert client.port_please("nobody", port=port) is None
        wait_until(lambda: client.names(port=port) == [], "both to go")
        dumped = client.dump(port=port)
        assert dumped.active == []
        assert {node.name for node in dumped.unused} == {"foo", "узел"}


@forms()
def test_registration(form) -> None:
    with form("-relaxed_command_check") as server:
        port = server.port
        first = client.register("foo", 4711, hidden=True, port=port)
        assert first.creation >= 4
        assert client.port_please("foo", port=port).node_type == 72
        with pytest.raises(Refused, match="foo"):
            client.register("foo", 4712, port=port)
        with pytest.raises(Refused):
            client.register("n" * 256, 4712, port=port)
        with pytest.raises(BadAnswer):
            client.register("f\0o", 4712, port=port)
        assert not first.lost()
        assert client.stop("foo", port=port)
        wait_until(first.lost, "the connection to be closed")
        first.close()
        with client.register("foo", 4711, port=port) as second:
            assert second.creation != first.creation
            client.kill(port=port)
            wait_until(second.lost, "the epmd to be gone")
        wait_until(lambda: server.ended() == 0, "the server to end")


@forms()
def test_what_is_not_allowed(form) -> None:
    with form() as server, client.register("foo", 4711, port=server.port):
        with pytest.raises(Refused, match="relaxed"):
            client.stop("foo", port=server.port)
        with pytest.raises(Refused, match="nodes are registered"):
            client.kill(port=server.port)


def test_what_no_epmd_could_be_asked() -> None:
    with reserved_port() as free:
        with pytest.raises(ValueError, match="name is empty"):
            client.stop("", port=free)
        for call in (client.port_please, client.stop):
            with pytest.raises(ValueError, match="70001 bytes are too long"):
                call("n" * 70000, port=free)
        for wrong in (-1, 65536):
            with pytest.raises(ValueError, match=f"{wrong} is not a valid TCP port"):
                client.register("foo", wrong, port=free)
        for name, why in (("", "empty"), ("n" * 256, "too long"), ("n" * 70000, "too long")):
            with pytest.raises(Refused, match=f"cannot register '{name[:300]}': node name is {why}$"):
                client.register(name, 1, port=free)


CALLS = [
    client.names,
    client.dump,
    client.kill,
    lambda **where: client.stop("foo", **where),
    lambda **where: client.port_please("foo", **where),
    lambda **where: client.register("foo", 1, **where),
]


#: Where Python takes every byte above 127 for no character.
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_are_utf8_whatever_the_locale() -> None:
    """Also a name that is no UTF-8, which no epmd registers but anybody may look up."""
    script = """
import sys
from gevent_epmd import ThreadedPortMapper, client
assert sys.getfilesystemencoding() != "utf-8"
with ThreadedPortMapper(port=0, relaxed=True) as mapper:
    where = {"port": mapper.port}
    with client.register("n\\xe9", 4711, **where):
        print(ascii(client.names(**where)[0].name), client.port_please("n\\xe9", **where).name)
        print(ascii(client.dump(**where).active[0].name), client.stop("n\\xe9", **where))
    print(client.stop("\\udcff", **where))
    try: client.names("n\\xe9.invalid")
    except client.NoEpmd: print("no such host")
"""
    done = run([sys.executable, "-c", script], environ=ASCII_ONLY)
    assert done.stdout == b"'n\\xe9' b'n\\xc3\\xa9'\n'n\\xe9' True\nFalse\nno such host\n", done.stderr


def test_name_on_the_command_line_is_bytes_whatever_the_locale() -> None:
    for environ in ({}, ASCII_ONLY):
        with Source("-relaxed_command_check") as server, client.register("n\xe9", 1, port=server.port):
            done = run([*SOURCE, "-port", str(server.port), "-stop", "n\xe9"], environ=environ)
            assert (done.stdout, done.stderr) == (b"STOPPED\n", b"")


@pytest.mark.parametrize("call", CALLS)
def test_nobody_is_there(call, monkeypatch) -> None:
    with reserved_port() as port:
        with pytest.raises(NoEpmd, match="Cannot connect to local epmd"):
            call(port=port)
        assert not client.started(port=port)
        monkeypatch.setenv("ERL_EPMD_PORT", str(port))
        with pytest.raises(NoEpmd):
            call()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", ["", "abc", "70966"])
def test_port_of_the_environment_that_is_none(call, value: str, monkeypatch) -> None:
    monkeypatch.setenv("ERL_EPMD_PORT", value)
    with pytest.raises(ValueError, match=f'ERL_EPMD_PORT: "{value}" is not a number'):
        call()


@pytest.mark.parametrize("call", [*CALLS, lambda **where: client.names("localhost", **where)])
@pytest.mark.parametrize("port", [-1, 0, 65536 + 4369])
def test_port_that_is_none(call, port: int) -> None:
    with pytest.raises(ValueError, match=f"{port} is not a valid TCP port"):
        call(port=port)


def test_host_that_is_not_known() -> None:
    with pytest.raises(NoEpmd, match=r"nosuch\.invalid"):
        client.names("nosuch.invalid")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_time_out_is_for_the_whole_call(call, how: str) -> None:
    with Slow(drips=how == "dripping") as slow:
        start = time.monotonic()
        with pytest.raises(BadAnswer, match=r"no answer from local epmd in 0.5 s|no response"):
            call(port=slow.port, timeout=0.5)
        assert 0.4 < time.monotonic() - start < PATIENCE


class Slow:
    """Something that reads a request and never comes to the end of its answer."""

    def __init__(self, *, drips: bool) -> None:
        self._drips = drips
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._sock.accept()
        with connection:
            connection.recv(100)
            while not self._done.wait(0.3):  # the rate
                if self._drips:
                    try:
                        connection.send(b"\0")
                    except OSError:
                        return

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(PATIENCE)
        self._sock.close()


@pytest.mark.parametrize("says", [b"", b"w", b"x\0", b"w\0short", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_answers_is_no_epmd(says: bytes) -> None:
    with Odd(says) as odd, pytest.raises(BadAnswer):
        client.port_please("foo", port=odd.port)
    with Odd(says) as odd, pytest.raises(BadAnswer):
        client.register("foo", 1, port=odd.port)


@pytest.mark.parametrize(
    "call", [client.names, client.dump, client.kill, lambda **where: client.stop("foo", **where)]
)
def test_another_protocol_answers(call) -> None:
    with Odd(b"HTTP/1.1 400 Bad Request\r\n\r\n") as odd, pytest.raises(BadAnswer):
        call(port=odd.port)
    with Odd(b"HTTP/1.1 400 Bad Request\r\n\r\n") as odd:
        assert not client.started(port=odd.port)


TICKS = """
from gevent import monkey
if {patched}: monkey.patch_all()
import gevent, sys
from gevent_epmd import client
ticks = []
def tick():
    while True: ticks.append(1); gevent.sleep(0.01)
gevent.spawn(tick)
gevent.sleep(0)
try: client.names({where}, timeout=0.5)
except client.EpmdError: print(len(ticks) > 5)
"""


@pytest.mark.parametrize("patched", [True, False])
def test_other_greenlets_run_where_sockets_are_patched(patched) -> None:
    """A greenlet that ticks while another one waits for an answer that never comes."""
    with Slow(drips=False) as slow:
        done = run([sys.executable, "-c", TICKS.format(patched=patched, where=f"port={slow.port}")])
        assert done.stdout == f"{patched}\n".encode(), done.stderr


@pytest.mark.parametrize("patched", [True, False])
def test_other_greenlets_run_while_a_host_is_looked_up(patched, tmp_path: Path) -> None:
    """The same while a server of names does not answer."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    silent = "import socket; silent = socket.socket(type=socket.SOCK_DGRAM); silent.bind(('127.0.0.1', 53))\n"
    script = silent + TICKS.format(patched=patched, where="'nowhere.example'")
    over = f'mount --bind {tmp_path}/resolv.conf "$(readlink -f /etc/resolv.conf)"'
    done = run_apart([sys.executable, "-c", script], prepare=over)
    assert done.stdout == f"{patched}\n".encode(), done.stderr


def test_the_interactive_calls_import_little() -> None:
    script = "import sys, gevent_epmd.program.cli, gevent_epmd.program.calls; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    for module in (
        "gevent",
        "socket",
        "json",
        "ipaddress",
        "subprocess",
        "dataclasses",
        "inspect",
        "logging",
    ):
        assert module not in loaded
