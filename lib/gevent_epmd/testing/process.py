"""An epmd for tests: a process of its own, at a port of its own, that ends with whoever started it.

    >>> with EpmdProcess() as epmd:
    ...     subprocess.run(["erl", "-name", "a@127.0.0.1", "-noshell", ...], env=epmd.environ)

The fixtures of `testing.plugin` are these; with another test framework, or with none, they are as good.

Strategy: the mapper says its port on stdout when it serves, watches the process that started it, and leads a
session of its own, so that neither Ctrl-C nor a killed test run is its business or its survival.
Its check is relaxed, so that a test can have nodes unregistered, and so that it can always be ended.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

from .. import client
from ..client import Registration
from ..client.answers import NamedPort
from ..conventions import LOOPBACK, LOOPBACK_ALONE, MAX_LISTEN_SOCKETS

#: How long the mapper may take to start, and to end when it is asked to.
_PATIENCE = 30.0
_PATIENCE_AT_END = 2.0
_LOOK_EVERY = 0.01

#: What the mapper logs of its own mistakes, and what Python says of those that end it.
_FAILURE = re.compile(r"^(?:epmd: [\w :]+: (?:internal error|cannot serve):|Traceback )", re.MULTILINE)


class MapperFailed(AssertionError):
    """Something went wrong inside the mapper; the text says what, and what it has logged."""


class EpmdProcess:
    """An epmd from `start` to `close`, or in a `with` block, without any node at first.

    `options` are more of `epmd --help`, and count more than those of here.  `port` is where it serves, on
    127.0.0.1, 127.0.1.1 and ::1 and the addresses of this host's name; it is the same for every start.
    """

    #: What is started; a class that derives from this one may start something else.
    command: tuple[str, ...] = (sys.executable, "-m", "gevent_epmd")

    def __init__(self, *options: str) -> None:
        self.port = 0
        self._options = options
        self._running: _Running | None = None
        self._registrations: set[Registration] = set()

    def start(self) -> None:
        """Start it, and return when it answers.  Raises MapperFailed."""
        if self._running is not None:
            raise RuntimeError("it runs already")
        own = ("-d", "-relaxed_command_check", "-port", str(self.port), "-port_file", "-")
        lives_with = ("-pid_exit", str(os.getpid()))
        self._running = _Running([*self.command, *own, *lives_with, *_where(), *self._options])
        try:
            self.port = self._running.read_port()
        except BaseException:
            self._forget().kill()
            raise

    def close(self) -> None:
        """End it and what it holds; nothing happens where that is done already.  Raises MapperFailed as
        `check` does, but not for a mapper that has been told to end by a test."""
        if self._running is not None:
            for registration in list(self._registrations):
                registration.close()
            self._forget().end(self.port)

    def restart(self) -> None:
        """End it, and start it again at the same port, without any node.  Raises MapperFailed."""
        self.close()
        self.start()

    @property
    def serves(self) -> bool:
        """Whether it has been started, and not been closed or been found dead."""
        return self._running is not None

    @property
    def pid(self) -> int:
        """The mapper's process.  Raises RuntimeError where there is none."""
        return self._must_run().pid

    @property
    def environ(self) -> dict[str, str]:
        """The environment for whatever is to use this mapper: erl, elixir, mix, and clients that read
        ERL_EPMD_PORT.  No node starts an epmd in it, also where this one is closed."""
        flags = f"{os.environ.get('ERL_ZFLAGS', '')} -start_epmd false".lstrip()
        return os.environ | {"ERL_EPMD_PORT": str(self.port), "ERL_ZFLAGS": flags}

    def names(self) -> list[NamedPort]:
        """The registered nodes with their ports, newest first."""
        return client.names(port=self.port)

    def register(self, name: str, port: int, *, hidden: bool = False, extra: bytes = b"") -> Registration:
        """Play a node that listens at this port: it lives until the registration, a context manager, is
        closed, or until the mapper is.  Raises client.Refused where the name is taken, or none."""
        registration = client.register(name, port, hidden=hidden, extra=extra, port=self.port)
        registration.on_close = self._registrations.discard
        self._registrations.add(registration)
        return registration

    def wait_for(self, name: str, timeout: float = 10.0) -> int:
        """The port of this node, as soon as it is registered.  Raises TimeoutError after so many seconds, and
        client.EpmdError where the mapper has ended."""
        end = time.monotonic() + timeout
        while (found := client.port_please(name, port=self.port)) is None:
            self._pause(end, f"{name} is not registered after {timeout} s")
        return found.port

    def wait_gone(self, name: str, timeout: float = 10.0) -> None:
        """Return as soon as there is no node of this name.  Raises as `wait_for` does."""
        end = time.monotonic() + timeout
        while client.port_please(name, port=self.port) is not None:
            self._pause(end, f"{name} is still registered after {timeout} s")

    def _pause(self, end: float, text: str) -> None:
        if time.monotonic() >= end:
            raise TimeoutError(f"{text}; there are {self._listed()}")
        time.sleep(_LOOK_EVERY)

    def _listed(self) -> str:
        return ", ".join(node.name for node in self.names()) or "none"

    def kill_node(self, name: str) -> None:
        """Unregister this node by force: nobody finds it any more, and its connection is closed, as if it
        had died, though it has not.  A node since OTP 23 registers again after 2 s.  Raises LookupError
        where there is none."""
        if not client.stop(name, port=self.port):
            raise LookupError(f"no node {name} is registered; there are {self._listed()}")

    def log(self) -> str:
        """What the mapper has logged since its start: every request, and what went wrong."""
        return self._must_run().log()

    def news(self) -> str:
        """The part of the log that is newer than the last check."""
        return self._must_run().news()

    def check(self) -> None:
        """Raises MapperFailed if the mapper has ended by itself, and then it may be started again; or if
        something has gone wrong inside since the last check."""
        running = self._must_run()
        if running.ended() or (not self._answers() and running.ends_soon()):
            self.close()
            raise MapperFailed("the epmd was told to end")
        running.check()

    def _answers(self) -> bool:
        """An answer, to its end, also means that all that was asked before is done, and logged."""
        try:
            self.names()
        except client.EpmdError:
            return False
        return True

    def _must_run(self) -> _Running:
        if self._running is None:
            raise RuntimeError("this epmd is not running")
        return self._running

    def _forget(self) -> _Running:
        running, self._running = self._must_run(), None
        return running

    def __enter__(self) -> EpmdProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Running:
    """A mapper's process, and what it says."""

    def __init__(self, command: list[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._checked = 0
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_mapper_environ(),
                cwd="/",  # where there is no module that could be taken for one of its own
                start_new_session=True,
            )
        except BaseException:
            self._log.close()
            raise
        self.pid = self._process.pid

    def read_port(self) -> int:
        """The port, once it serves there.  Raises MapperFailed."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            line = pipe.readline() if poll.poll(_PATIENCE * 1000) else b""
        if not line:
            raise MapperFailed(f"the epmd does not start:\n{self.log()}")
        return int(line)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def ends_soon(self) -> bool:
        try:
            self._process.wait(_PATIENCE_AT_END)
        except subprocess.TimeoutExpired:
            return False
        return True

    def log(self) -> str:
        # Not by seeking: the mapper writes where this descriptor stands, too.
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def news(self) -> str:
        return self.log()[self._checked :]

    def check(self) -> None:
        """Raises MapperFailed for what has happened since the last check."""
        news = self.news()
        self._checked += len(news)
        status = self._process.poll()
        if status:
            raise MapperFailed(f"the epmd has ended with status {status}:\n{news}")
        if _FAILURE.search(news):
            raise MapperFailed(f"something has gone wrong inside the epmd:\n{news}")

    def end(self, port: int) -> None:
        """End it as any peer may, so that all that was asked before is done; one that plays busy, by a
        signal.  Raises MapperFailed as `check` does."""
        try:
            if not self.ended():  # somebody else may have the port by now
                with contextlib.suppress(client.EpmdError):
                    client.kill(port, _PATIENCE_AT_END)
            self.ends_soon()
            self.check()
        finally:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def _mapper_environ() -> dict[str, str]:
    """Ours, without what an epmd reads, and good in every folder; loopback where no option says more."""
    unwanted = ("ERL_", "LISTEN_", "NOTIFY_SOCKET")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environ["ERL_EPMD_LOOPBACK"] = "1"
    if "PYTHONPATH" in environ:
        environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, environ["PYTHONPATH"].split(os.pathsep)))
    return environ


@functools.cache
def _where() -> tuple[str, ...]:
    """The options that say where to listen: on loopback, and where this host's own name leads to, since that
    is where nodes with short names look for each other.  Other hosts get no answer there."""
    own = {address for address in _addresses_of_the_name() if _is_ours(address)}
    if own.issubset(LOOPBACK_ALONE):
        return ()
    # A host with many bridges may have more addresses than an epmd takes; both loopbacks come with them.
    some = sorted(own.difference(LOOPBACK))[: MAX_LISTEN_SOCKETS - len(LOOPBACK)]
    return ("-address", ",".join(some), "-allow", "127.0.0.1")


def _addresses_of_the_name() -> set[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()  # then nodes do without it, too
    return {str(address[0]) for *_, address in found}


def _is_ours(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
