"""The functions that ask an epmd, each of every form."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

import gevent_epmd
from gevent_epmd import aio, client, testing
from gevent_epmd.client import (
    BadAnswerError,
    NamedPort,
    NoEpmdError,
    NoReplyError,
    RefusedError,
    TooLateError,
)
from gevent_epmd.client.exchange import Target, is_an_epmd
from gevent_epmd.server.listeners import ListenError, PortInUseError
from support.forms import Source
from support.marks import forms
from support.paths import ROOT, SOURCE
from support.patience import PATIENCE, wait_until, whole_seconds
from support.ports import reserved_port
from support.programs import run
from support.scenes import run_apart
from support.strangers import Odd


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
        with pytest.raises(RefusedError, match="foo"):
            client.register("foo", 4712, port=port)
        assert not first.lost()
        assert client.stop("foo", port=port)
        wait_until(first.lost, "the connection to be closed")
        first.close()
        with client.register("foo", 4711, port=port) as second:
            assert second.creation != first.creation
            client.kill(port=port)
            wait_until(second.lost, "the epmd to be gone")
        wait_until(lambda: server.ended() == 0, "the server to end")


@pytest.mark.measured
@forms()
def test_what_is_not_allowed(form) -> None:
    with form() as server, client.register("foo", 4711, port=server.port):
        with pytest.raises(NoReplyError, match="relaxed"):
            client.stop("foo", port=server.port)
        with pytest.raises(RefusedError, match="nodes are registered"):
            client.kill(port=server.port)


@pytest.mark.measured
@forms()
def test_client_object(form) -> None:
    with form("-relaxed_command_check") as server:
        epmd = client.Client("localhost", server.port, timeout=PATIENCE)
        assert (epmd.host, epmd.port, epmd.timeout) == ("localhost", server.port, PATIENCE)
        assert repr(epmd) == f"<Client of port {server.port} of localhost>"
        assert epmd.started()
        with epmd.register("foo", 4711, hidden=True, extra=b"e") as registration:
            found = client.NodeInfo("foo", 4711, client.HIDDEN_NODE, 0, 6, 5, b"e")
            assert epmd.port_please("foo") == found
            assert epmd.names() == [client.NamedPort("foo", 4711)]
            assert [node.name for node in epmd.dump().active] == ["foo"]
            assert f"'foo' with node port 4711 at port {server.port} of localhost: registered" in repr(
                registration
            )
            assert epmd.stop("foo")
            wait_until(registration.lost, "the connection to be closed")
            assert repr(registration).endswith(": lost>")
        assert repr(registration).endswith(": closed>")
        assert not epmd.stop("foo")
        epmd.kill()
        wait_until(lambda: not epmd.started(), "the epmd to end")


@pytest.mark.measured
@forms(launcher=False)
def test_asyncio(form) -> None:
    """The same scene, in one event loop."""

    async def scene(port: int) -> None:
        epmd = aio.Client("localhost", port, timeout=PATIENCE)
        assert (epmd.host, epmd.port, epmd.timeout) == ("localhost", port, PATIENCE)
        assert repr(epmd) == f"<aio.Client of port {port} of localhost>"
        assert await asyncio.gather(epmd.started(), aio.started(port=port)) == [True, True]
        async with await epmd.register("foo", 4711, hidden=True, extra=b"e") as registration:
            found = client.NodeInfo("foo", 4711, client.HIDDEN_NODE, 0, 6, 5, b"e")
            assert await epmd.port_please("foo") == found
            assert await epmd.port_please("nobody") is None
            assert await epmd.names() == await aio.names("127.0.0.1", port) == [("foo", 4711)]
            assert [node.name for node in (await epmd.dump()).active] == ["foo"]
            with pytest.raises(RefusedError, match="foo"):
                await epmd.register("foo", 1)
            assert not registration.lost()
            assert repr(registration).endswith("registered>")
            assert await epmd.stop("foo")
            await registration.wait_lost()
            assert repr(registration).endswith("lost>")
        told: list[aio.Registration] = []
        for _ in range(10):
            async with await aio.register("foo", 1, port=port) as registration:
                registration.on_close = told.append
            assert await epmd.names() == [], "the name is free when the block ends"
            await registration.close()
        assert len(told) == 10
        assert not await epmd.stop("foo")
        await epmd.kill()

    with form("-relaxed_command_check") as server:
        asyncio.run(scene(server.port))
        wait_until(lambda: not client.started(port=server.port), "the epmd to end")


@pytest.mark.measured
@contextlib.contextmanager
def full(host: str, port: int) -> Iterator[None]:
    """Something that neither accepts connections nor refuses them, because its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield


def test_asyncio_tries_the_next_address() -> None:
    async def scene(port: int) -> None:
        addresses = [(socket.AF_INET, (host, port)) for host in ("127.0.0.9", "127.0.0.1")]
        _, writer = await asyncio.wait_for(aio._first_of(addresses), whole_seconds(10))
        assert writer.get_extra_info("peername") == ("127.0.0.1", port)
        writer.close()

    with Source("-loopback") as server, full("127.0.0.9", server.port):
        asyncio.run(scene(server.port))


def test_time_limit_is_for_the_connection_too() -> None:
    with reserved_port() as port, full("127.0.0.9", port):
        for module, words in ((client, "timed out"), (Awaited(), r"in 0\.1 s")):
            with pytest.raises(client.ConnectTimeoutError, match=words):
                module.names("127.0.0.9", port, timeout=0.1)


def test_closed_registration_tells_once() -> None:
    with Source() as server:
        registration = client.register("foo", 1, port=server.port)
        told: list[client.Registration] = []
        registration.on_close = told.append
        registration.close()
        registration.close()
        assert told == [registration]


class Awaited:
    """The functions of the asyncio client, each called in a loop of its own."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *given, **named: asyncio.run(getattr(aio, name)(*given, **named))


def named_calls(module) -> list[Callable[..., object]]:
    """Those that take the name of a node first."""
    return [
        lambda name="foo", **where: module.stop(name, **where),
        lambda name="foo", **where: module.port_please(name, **where),
        lambda name="foo", **where: module.register(name, 1, **where),
    ]


MODULES = (client, Awaited())
NAMED_CALLS = [call for module in MODULES for call in named_calls(module)]
CALLS = [*(call for module in MODULES for call in (module.names, module.dump, module.kill)), *NAMED_CALLS]
STARTED = [module.started for module in MODULES]
#: What no call accepts, and what is raised before anything is sent.
WRONG = {
    "port": [*((port, ValueError) for port in (-1, 0, 65536 + 4369)), ("4369", TypeError), (True, TypeError)],
    "host": [("localhost\0x", ValueError), (" localhost", ValueError), (b"localhost", TypeError)],
    "timeout": [
        *((timeout, ValueError) for timeout in (-1, float("inf"), float("nan"), 1e300)),
        *((timeout, TypeError) for timeout in ("1", True)),
    ],
}
NAMES = {
    "": "is empty",
    "a\0b": "contains a NUL",
    "a@b": "has a host; the node's name is 'a'",
    "n" * 256: "has more than 255 characters",
    "n" * 70000: "has more than 255 characters",
    "\udcff": "cannot be encoded in UTF-8",
}


@pytest.mark.measured
@pytest.mark.parametrize("call", [*CALLS, *STARTED, client.Client, aio.Client])
@pytest.mark.parametrize(
    ("what", "value", "kind"), [(w, *pair) for w, pairs in WRONG.items() for pair in pairs]
)
def test_where_no_epmd_could_be(call, what: str, value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{what}: |not a valid TCP port"):
        call(**{what: value})


@pytest.mark.measured
@pytest.mark.parametrize("call", NAMED_CALLS)
def test_name_that_no_node_could_have(call) -> None:
    with reserved_port() as free:
        for name, why in NAMES.items():
            with pytest.raises(ValueError, match=f"^name: {re.escape(repr(name[:300]))} {why}$"):
                call(name, port=free)
        with pytest.raises(TypeError, match=r"^name: a str is needed, not bytes$"):
            call(b"foo", port=free)


@pytest.mark.measured
@pytest.mark.parametrize(
    ("node_port", "extra", "kind"),
    [
        (0, b"", ValueError),
        (65536, b"", ValueError),
        (4711.0, b"", TypeError),
        (4711, "extra", TypeError),
        (4711, b"e" * 1021, ValueError),
    ],
)
def test_node_that_cannot_be_registered(node_port: object, extra: object, kind: type[Exception]) -> None:
    with reserved_port() as free, pytest.raises(kind, match=r"^(node_port|extra): "):
        client.register("foo", node_port, extra=extra, port=free)


ERRORS = [
    one
    for name in client.__all__
    if isinstance(one := getattr(client, name), type) and issubclass(one, Exception)
]
ALSO = {
    client.NoEpmdError: ConnectionError,
    client.ConnectTimeoutError: TimeoutError,
    client.TooLateError: TimeoutError,
    client.NoReplyError: ConnectionError,
    PortInUseError: OSError,
}


def test_errors_are_those_of_python_too() -> None:
    for error, other in ALSO.items():
        assert issubclass(error, other)
    assert all(issubclass(error, client.EpmdError) and error.__name__.endswith("Error") for error in ERRORS)
    assert issubclass(ListenError, client.EpmdError)


@pytest.mark.measured
@pytest.mark.parametrize(
    "error", [PortInUseError("::1", 4369), ListenError("no"), *(kind("a") for kind in ERRORS)]
)
def test_errors_can_be_pickled(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.measured
def test_what_is_public() -> None:
    assert [one for one in aio.__all__ if one not in client.__all__] == []
    for module in (client, gevent_epmd, testing):
        assert dir(module) == sorted(module.__all__)
        with pytest.raises(AttributeError, match=f"module {module.__name__} has no attribute Typo"):
            _ = module.Typo


@pytest.mark.measured
def test_types_can_be_read() -> None:
    """Of every public function and method, and so also all that their annotations name."""
    public = [
        getattr(module, name) for module in (client, aio, gevent_epmd, testing) for name in module.__all__
    ]
    methods = [one for found in public if isinstance(found, type) for one in vars(found).values()]
    functions = [one for one in (*public, *methods) if inspect.isfunction(one) and one.__name__[0] != "_"]
    assert len(functions) > 50
    assert [one for one in functions if "return" not in get_type_hints(one)] == []


@pytest.mark.measured
@pytest.mark.parametrize(
    ("module", "name", "inner"),
    [
        ("gevent_epmd", "PortMapper", "gevent_epmd.server.embedding"),
        ("gevent_epmd.client", "names", "gevent_epmd.client.api"),
        ("gevent_epmd.testing", "EpmdProcess", "gevent_epmd.testing.process"),
    ],
)
def test_error_of_an_import_is_not_hidden(module: str, name: str, inner: str, monkeypatch) -> None:
    package, _, last = inner.rpartition(".")

    class Finder:
        @staticmethod
        def find_spec(wanted: str, *_: object) -> None:
            if wanted == inner:
                raise AttributeError("module _socket has no attribute TCP_KEEPIDLE")

    importlib.import_module(inner)
    monkeypatch.delitem(sys.modules, inner)
    monkeypatch.delattr(sys.modules[package], last)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(
        ImportError, match=rf"^cannot import .*{module}.*: module _socket has no attribute TCP"
    ):
        getattr(sys.modules[module], name)


#: Where Python takes every byte above 127 for no character.
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_are_utf8_whatever_the_locale() -> None:
    script = """
import sys
from gevent_epmd import ThreadedPortMapper, client
assert sys.getfilesystemencoding() != "utf-8"
with ThreadedPortMapper(port=0, relaxed=True) as mapper:
    where = {"port": mapper.port}
    with client.register("n\\xe9", 4711, **where):
        print(ascii(client.names(**where)[0].name), ascii(client.port_please("n\\xe9", **where).name))
        print(ascii(client.dump(**where).active[0].name), client.stop("n\\xe9", **where))
    try: client.names("n\\xe9.invalid")
    except client.NoEpmdError: print("no such host")
"""
    done = run([sys.executable, "-c", script], environ=ASCII_ONLY)
    assert done.stdout == b"'n\\xe9' 'n\\xe9'\n'n\\xe9' True\nno such host\n", done.stderr


def test_name_on_the_command_line_is_bytes_whatever_the_locale() -> None:
    with Source("-relaxed_command_check") as server:
        for environ in ({}, ASCII_ONLY):
            with client.register("n\xe9", 1, port=server.port):
                done = run([*SOURCE, "-port", str(server.port), "-stop", "n\xe9"], environ=environ)
                assert (done.stdout, done.stderr) == (b"STOPPED\n", b"")


@pytest.mark.measured
@pytest.mark.parametrize("call", CALLS)
def test_nobody_is_there(call, monkeypatch) -> None:
    with reserved_port() as port:
        with pytest.raises(NoEpmdError, match=rf"local epmd \(port {port} of 127.0.0.1 and ::1\)$"):
            call(port=port)
        assert not client.started(port=port)
        monkeypatch.setenv("ERL_EPMD_PORT", str(port))
        with pytest.raises(NoEpmdError):
            call()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", ["", "abc", "70966"])
def test_port_of_the_environment_that_is_none(call, value: str, monkeypatch) -> None:
    monkeypatch.setenv("ERL_EPMD_PORT", value)
    with pytest.raises(ValueError, match=f'ERL_EPMD_PORT: "{value}" is not a number'):
        call()


@pytest.mark.measured
def test_host_that_is_not_known() -> None:
    with pytest.raises(NoEpmdError, match=r"nosuch\.invalid"):
        client.names("nosuch.invalid")
    with pytest.raises(NoEpmdError, match=r"nosuch\.invalid"):
        asyncio.run(aio.names("nosuch.invalid"))


@pytest.mark.measured
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_time_out_is_for_the_whole_call(call, how: str) -> None:
    with Slow(drips=how == "dripping") as slow:
        start = time.monotonic()
        with pytest.raises(TooLateError, match=rf"no answer from local epmd in 0.5 s \(port {slow.port} of "):
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


@pytest.mark.measured
@pytest.mark.parametrize("says", [b"x\0", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.parametrize("call", NAMED_CALLS)
def test_what_answers_is_no_epmd(says: bytes, call) -> None:
    with Odd(says) as odd, pytest.raises(BadAnswerError, match=r"invalid reply |no reply to STOP "):
        call(port=odd.port)


@pytest.mark.measured
@pytest.mark.parametrize("call", CALLS)
def test_connection_that_is_closed_without_a_reply(call) -> None:
    with Odd(b"") as odd, pytest.raises(NoReplyError, match=f"port {odd.port}"):
        call(port=odd.port)


@pytest.mark.measured
@pytest.mark.parametrize("started", [*STARTED, lambda port: is_an_epmd(Target("", port, PATIENCE))])
def test_started_wants_a_whole_and_right_answer(started) -> None:
    port = (4369).to_bytes(4, "big")
    for says in (port, port + b"name a at port 1\n", port + b"name a\nb at port 1\nname c at port 2\n"):
        with Odd(says) as odd:
            assert started(port=odd.port), says
    for says in (port[:3], port + b"name a at port 10", port + b"HTTP\n", port + b"HTTP name a at port 1\n"):
        with Odd(says) as odd:
            assert not started(port=odd.port), says


@pytest.mark.measured
@pytest.mark.parametrize(
    "call", [client.names, client.dump, client.kill, lambda **where: client.stop("foo", **where)]
)
def test_another_protocol_answers(call) -> None:
    with Odd(b"HTTP/1.1 400 Bad Request\r\n\r\n") as odd, pytest.raises(BadAnswerError):
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


@pytest.mark.measured("False")
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
