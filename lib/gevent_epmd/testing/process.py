"""Runs an epmd for tests, in a separate process at its own port, which ends with the process that started it.

    >>> with EpmdProcess() as epmd:
    ...     subprocess.run(["erl", "-name", "a@127.0.0.1", "-noshell", ...], env=epmd.environ)

The fixtures of `testing.plugin` use it. It works as well with another test framework, or with none.

Invariants:
- the mapper prints its port on stdout once it serves;
- it watches the process that started it, so it does not survive a killed test run;
- it leads its own session, so Ctrl-C does not reach it;
- its check is relaxed, so that tests can unregister nodes, and so that it can always be shut down.
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

#: How long the mapper may take to start, and to end when asked to, in seconds.
_PATIENCE = 30.0
_PATIENCE_AT_END = 2.0
_LOOK_EVERY = 0.01

#: What the mapper logs for an internal error, and what Python prints for one that ends the process.
_FAILURE = re.compile(r"^(?:epmd: [\w :]+: (?:internal error|cannot serve):|Traceback )", re.MULTILINE)


class MapperFailed(AssertionError):
    """Something failed inside the mapper. The message includes the mapper's log."""


class EpmdProcess:
    """An epmd that runs from `start` to `close`, or within a `with` block. It starts without any node.

    `options` are further options of `epmd --help`, and take precedence over those set here. The mapper serves
    `port`, which stays the same for every start, on 127.0.0.1, 127.0.1.1, ::1 and the addresses of this
    host's name.
    """

    #: The command to run. A subclass may set another one.
    command: tuple[str, ...] = (sys.executable, "-m", "gevent_epmd")

    def __init__(self, *options: str) -> None:
        self.port = 0
        self._options = options
        self._running: _Running | None = None
        self._registrations: set[Registration] = set()

    def start(self) -> None:
        """Start the mapper, and return once it answers. Raises MapperFailed."""
        if self._running is not None:
            raise RuntimeError("this epmd is already running")
        own = ("-d", "-relaxed_command_check", "-port", str(self.port), "-port_file", "-")
        lives_with = ("-pid_exit", str(os.getpid()))
        self._running = _Running([*self.command, *own, *lives_with, *_where(), *self._options])
        try:
            self.port = self._running.read_port()
        except BaseException:
            self._forget().kill()
            raise

    def close(self) -> None:
        """Shut down the mapper and close its registrations. Does nothing if it is not running.

        Raises MapperFailed as `check` does, but not if a test shut down the mapper.
        """
        if self._running is not None:
            for registration in list(self._registrations):
                registration.close()
            self._forget().end(self.port)

    def restart(self) -> None:
        """Shut down the mapper, and start it again at the same port, without any node. Raises
        MapperFailed."""
        self.close()
        self.start()

    @property
    def serves(self) -> bool:
        """Whether the mapper has been started, and neither closed nor found dead since."""
        return self._running is not None

    @property
    def pid(self) -> int:
        """The process id of the mapper. Raises RuntimeError if it is not running."""
        return self._must_run().pid

    @property
    def environ(self) -> dict[str, str]:
        """The environment for programs that are to use this mapper: erl, elixir, mix, and clients that read
        ERL_EPMD_PORT.

        It keeps nodes from starting an epmd, even after this one is closed.
        """
        flags = f"{os.environ.get('ERL_ZFLAGS', '')} -start_epmd false".lstrip()
        return os.environ | {"ERL_EPMD_PORT": str(self.port), "ERL_ZFLAGS": flags}

    def names(self) -> list[NamedPort]:
        """Return the registered nodes with their ports, newest first."""
        return client.names(port=self.port)

    def register(self, name: str, port: int, *, hidden: bool = False, extra: bytes = b"") -> Registration:
        """Simulate a node that listens at this port.

        The node stays registered until the returned registration, a context manager, or the mapper is closed.
        Raises client.Refused if the name is taken or invalid.
        """
        registration = client.register(name, port, hidden=hidden, extra=extra, port=self.port)
        registration.on_close = self._registrations.discard
        self._registrations.add(registration)
        return registration

    def wait_for(self, name: str, timeout: float = 10.0) -> int:
        """Return the port of this node, once it is registered.

        Raises TimeoutError after `timeout` seconds, and client.EpmdError if the mapper has ended.
        """
        end = time.monotonic() + timeout
        while (found := client.port_please(name, port=self.port)) is None:
            self._pause(end, f"{name} is not registered after {timeout} s")
        return found.port

    def wait_gone(self, name: str, timeout: float = 10.0) -> None:
        """Return once there is no node of this name. Raises as `wait_for` does."""
        end = time.monotonic() + timeout
        while client.port_please(name, port=self.port) is not None:
            self._pause(end, f"{name} is still registered after {timeout} s")

    def _pause(self, end: float, text: str) -> None:
        if time.monotonic() >= end:
            raise TimeoutError(f"{text}; registered nodes: {self._listed()}")
        time.sleep(_LOOK_EVERY)

    def _listed(self) -> str:
        return ", ".join(node.name for node in self.names()) or "none"

    def kill_node(self, name: str) -> None:
        """Unregister this node by force and close its connection, as if the node had died.

        The node itself keeps running. A node since OTP 23.3 registers again after 2 s. Raises LookupError if
        there is no such node.
        """
        if not client.stop(name, port=self.port):
            raise LookupError(f"no node {name} is registered; registered nodes: {self._listed()}")

    def log(self) -> str:
        """Return what the mapper has logged since its start: every request, and all errors."""
        return self._must_run().log()

    def news(self) -> str:
        """Return the part of the log that is newer than the last check."""
        return self._must_run().news()

    def check(self) -> None:
        """Raise MapperFailed if the mapper has ended by itself, or if it has failed internally since the last
        check.

        A mapper that has ended may be started again.
        """
        running = self._must_run()
        if running.ended() or (not self._answers() and running.ends_soon()):
            self.close()
            raise MapperFailed("the epmd was shut down, for example by a KILL request")
        running.check()

    def _answers(self) -> bool:
        """Return whether the mapper answers.

        A complete answer also means that it has handled, and logged, all earlier requests.
        """
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
    """A mapper's process and its output."""

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
                cwd="/",  # modules in the current folder could shadow the program's own
                start_new_session=True,
            )
        except BaseException:
            self._log.close()
            raise
        self.pid = self._process.pid

    def read_port(self) -> int:
        """Return the port, once the mapper serves it. Raises MapperFailed."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            line = pipe.readline() if poll.poll(_PATIENCE * 1000) else b""
        if not line:
            raise MapperFailed(f"the epmd did not start:\n{self.log()}")
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
        # Not by seeking, which would move the offset at which the mapper writes.
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def news(self) -> str:
        return self.log()[self._checked :]

    def check(self) -> None:
        """Raise MapperFailed for failures since the last check."""
        news = self.news()
        self._checked += len(news)
        status = self._process.poll()
        if status:
            raise MapperFailed(f"the epmd exited with status {status}:\n{news}")
        if _FAILURE.search(news):
            raise MapperFailed(f"internal error in the epmd:\n{news}")

    def end(self, port: int) -> None:
        """Shut down the mapper by a KILL request, so that it handles earlier requests first.

        A mapper that does not end in time, because it simulates a busy server, is killed. Raises MapperFailed
        as `check` does.
        """
        try:
            if not self.ended():  # another process may have the port by now
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
    """Return this process's environment without the variables that an epmd reads.

    It works in every folder, and limits the mapper to loopback unless options set addresses.
    """
    unwanted = ("ERL_", "LISTEN_", "NOTIFY_SOCKET")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environ["ERL_EPMD_LOOPBACK"] = "1"
    if "PYTHONPATH" in environ:
        environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, environ["PYTHONPATH"].split(os.pathsep)))
    return environ


@functools.cache
def _where() -> tuple[str, ...]:
    """Return the options for the addresses: loopback, and those of this host's own name.

    Nodes with short names look for each other at the latter. Peers on other hosts are not served.
    """
    own = {address for address in _addresses_of_the_name() if _is_ours(address)}
    if own.issubset(LOOPBACK_ALONE):
        return ()
    # A host with many bridges may have more addresses than an epmd accepts. Both loopbacks are implied.
    some = sorted(own.difference(LOOPBACK))[: MAX_LISTEN_SOCKETS - len(LOOPBACK)]
    return ("-address", ",".join(some), "-allow", "127.0.0.1")


def _addresses_of_the_name() -> set[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()  # then nodes cannot use the name either
    return {str(address[0]) for *_, address in found}


def _is_ours(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
