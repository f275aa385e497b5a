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

import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from .. import client
from ..client import Registration, exchange, queries
from ..client.waiting import WithNodes
from ..conventions import LOOPBACK, LOOPBACK_ALONE, MAX_LISTEN_SOCKETS
from .running import MapperFailedError as MapperFailedError, Running

_OURS = (sys.executable, "-m", "gevent_epmd")


class EpmdProcess(WithNodes):
    """An epmd that runs from `start` to `close`, or within a `with` block. It starts without any node.

    `options` are further options of `epmd --help`, and take precedence over those set here. The mapper serves
    `port`, which stays the same for every start, on 127.0.0.1, 127.0.1.1, ::1 and the addresses of this
    host's name.

    `command` is another program to run, such as C's epmd: `command=["epmd"]`. A program that is not this one
    gets only options that C's epmd knows. If the process that started it is killed, it is ended by a shell.
    """

    #: The command to run if no other one is given. A subclass may set another one.
    command: tuple[str, ...] = _OURS
    #: An address of the mapper. It serves others too.
    host = "127.0.0.1"

    def __init__(self, *options: str, command: Sequence[str] | None = None) -> None:
        if isinstance(command, str):
            raise TypeError("command: a list of str is needed, not a str")
        if command is not None:
            self.command = tuple(command)
        self.port = 0
        self._options = options
        self._running: Running | None = None
        self._is_paused = False
        self._registrations: set[Registration] = set()

    def start(self) -> None:
        """Start the mapper, and return once it answers. Raises MapperFailedError."""
        if self._running is not None:
            raise RuntimeError("this epmd is already running")
        if sys.platform == "win32":
            raise RuntimeError("no epmd can be run for tests on Windows")
        try:
            if _is_ours(self.command):
                self._start_ours()
            else:
                self._start_another()
        except BaseException:
            if self._running is not None:
                self._forget().kill()
            raise

    def _start_ours(self) -> None:
        options = ("-port_file", "-", "-pid_exit", str(os.getpid()), *_where())
        running = self._running = Running(self._line(self.port, *options))
        self.port = running.read_port()

    def _start_another(self) -> None:
        # Loopback is implied. C serves everybody at the other addresses.
        addresses = ",".join(_own_addresses()) or LOOPBACK[0]
        with _free_port(self.port) as port:
            running = self._running = Running(self._line(port, "-address", addresses), ends_itself=False)
            running.wait_for_answer(port)
        self.port = port

    def _line(self, port: int, *options: str) -> list[str]:
        common = ("-d", "-relaxed_command_check", "-port", str(port))
        return [*self.command, *common, *options, *self._options]

    def close(self) -> None:
        """Shut down the mapper and close its registrations. Does nothing if it is not running.

        Raises MapperFailedError as `check` does.
        """
        self._close()

    def _close(self) -> None:
        if self._running is None:
            return
        if self._running.owner != os.getpid():
            self._running = None  # this process was forked meanwhile, and the mapper belongs to its parent
        else:
            self.resume()
            self._forget().end(self.port, is_busy=self._is_busy)

    def restart(self) -> None:
        """Shut down the mapper, and start it again at the same port. Raises MapperFailedError."""
        self._close()
        self.start()

    def crash(self) -> None:
        """Kill the mapper, as if it had crashed. `start` starts it again, at the same port."""
        self._must_run()
        self._forget().kill()

    def pause(self) -> None:
        """Stop the mapper until `resume`: it accepts connections, and does not answer."""
        self._must_run().pause()
        self._is_paused = True

    def resume(self) -> None:
        """Let the mapper run again after `pause`. Otherwise this does nothing."""
        if self._is_paused and sys.platform != "win32":
            self._is_paused = False
            self._must_run().signal(signal.SIGCONT)

    def wait_ended(self, timeout: float = 10.0) -> int:
        """Return the exit status, once the mapper has ended by itself, for example by a KILL request.

        A test calls this if the end is what it wants. Raises TimeoutError after `timeout` seconds.
        """
        running = self._must_run()
        if not running.ends_in(timeout):
            raise TimeoutError(f"the epmd at port {self.port} has not ended after {timeout:g} s")
        status = running.status()
        self._forget().kill()
        return status

    @property
    def serves(self) -> bool:
        """Whether the mapper has been started, and neither closed nor found dead since."""
        return self._running is not None

    @property
    def pid(self) -> int:
        """The process id of the mapper. Raises RuntimeError if it is not running."""
        return self._must_run().pid

    @property
    def address(self) -> tuple[str, int]:
        """An address of the mapper, and its port, as socket.create_connection takes them."""
        return self.host, self.port

    @property
    def environ(self) -> dict[str, str]:
        """The environment for programs that are to use this mapper: erl, elixir, mix, and clients that read
        ERL_EPMD_PORT.

        It keeps nodes from starting an epmd, even after this one is closed.
        """
        flags = f"{os.environ.get('ERL_ZFLAGS', '')} -start_epmd false".lstrip()
        return os.environ | {"ERL_EPMD_PORT": str(self.port), "ERL_ZFLAGS": flags}

    def register(
        self, name: str, node_port: int, *, hidden: bool = False, extra: bytes = b""
    ) -> Registration:
        """Simulate a node that listens at this port.

        The node stays registered until the returned registration, a context manager, or the mapper is closed.
        Raises client.RefusedError if the name is taken.
        """
        registration = client.register(name, node_port, hidden=hidden, extra=extra, port=self.port)
        registration.on_close = self._registrations.discard
        self._registrations.add(registration)
        return registration

    def kill_node(self, name: str) -> None:
        """Unregister this node by force and close its connection, as if the node had died.

        The node itself keeps running. A node since OTP 23.3 registers again after 2 s. Raises LookupError if
        there is no such node.
        """
        if not client.stop(name, port=self.port):
            listed = ", ".join(node.name for node in self.names()) or "none"
            raise LookupError(f"no node {name} is registered; registered nodes: {listed}")

    def clear(self) -> None:
        """Unregister all nodes, as between two tests that share the mapper."""
        for node in self.names():
            queries.stop(exchange.Target("", self.port, client.TIMEOUT), exchange.encoded(node.name))
        for registration in list(self._registrations):
            registration.close()

    def log(self) -> str:
        """Return what the mapper has logged since its start: every request, and all errors."""
        return self._must_run().log()

    def news(self) -> str:
        """Return the part of the log that is newer than the last check."""
        return self._must_run().news()

    def check(self) -> None:
        """Raise MapperFailedError if the mapper has ended or is stopped, and no method here did that;
        if it does not answer; or if it has failed internally since the last check.

        A mapper that has ended, or is stopped, is closed. It may be started again.
        """
        running = self._must_run()
        if self._is_paused:
            return
        try:
            # A complete answer also means that the mapper has handled, and logged, all earlier requests.
            running.must_be_well(self._ask)
            running.check()
        finally:
            if running.ended():
                self._forget().kill()

    def _ask(self, seconds: float) -> None:
        if not self._is_busy:
            client.names(port=self.port, timeout=seconds)

    @property
    def _is_busy(self) -> bool:
        """Whether the mapper simulates a busy server, so that it need not answer in time."""
        return any(option.startswith("-delay") for option in self._options)

    def _must_run(self) -> Running:
        if self._running is None:
            raise RuntimeError("this epmd is not running")
        return self._running

    def _forget(self) -> Running:
        """Return the process, and make this object one that is not running."""
        running, self._running = self._must_run(), None
        self._is_paused = False
        for registration in list(self._registrations):
            registration.close(timeout=0)
        return running

    def __repr__(self) -> str:
        state = "not running" if self._running is None else f"running with pid {self.pid}"
        if self._is_paused:
            state = f"paused with pid {self.pid}"
        return f"<{type(self).__name__} at port {self.port}: {state}>"

    def __enter__(self) -> Self:
        if self._running is None:  # epmd_factory has started it
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


@functools.cache
def _is_ours(command: tuple[str, ...]) -> bool:
    """Return whether the command runs this program. C's epmd does not have the option."""
    if command == _OURS:
        return True
    asked = subprocess.run(
        [*command, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=client.TIMEOUT,
        check=False,
    )
    return asked.returncode == 0 and asked.stdout.startswith(b"epmd ")


@contextmanager
def _free_port(port: int) -> Iterator[int]:
    """Reserve this port, or a free one for 0, by a socket that does not listen."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        yield sock.getsockname()[1]


@functools.cache
def _where() -> tuple[str, ...]:
    """Return the options for the addresses: loopback, and those of this host's own name.

    Nodes with short names look for each other at the latter. Peers on other hosts are not served.
    """
    own = _own_addresses()
    return () if set(own) <= {*LOOPBACK_ALONE} else ("-address", ",".join(own), "-allow", "127.0.0.1")


def _own_addresses() -> list[str]:
    """Return the addresses of this host's name, but for both loopbacks, which are implied."""
    own = filter(_is_an_own_address, _addresses_of_the_name() - {*LOOPBACK})
    # A host with many bridges may have more addresses than an epmd accepts.
    return sorted(own)[: MAX_LISTEN_SOCKETS - len(LOOPBACK)]


def _addresses_of_the_name() -> set[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()  # then nodes cannot use the name either
    return {str(address[0]) for *_, address in found}


def _is_an_own_address(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
