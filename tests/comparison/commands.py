"""The command lines of `calls`: what either side says and where, its status, and what it does to the epmd at
the port; and of those that serve, where they listen and how they let themselves be ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

from comparison.calls import CALLS, NOBODY, Call, Place
from comparison.masks import masked
from comparison.rows import NOT_PLAYED, Form, Row, Seen, side_by_side
from gevent_epmd.conventions import ValueProblem
from gevent_epmd.program.line import UsageError, UsageWanted
from gevent_epmd.program.options import USAGE, Options, read_options
from gevent_epmd.wire import DEFAULT_PORT
from support.daemons import end as end_daemon, serving_pid
from support.differences import is_listed
from support.forms import Process
from support.patience import PATIENCE, wait_until
from support.peer import ask, lives, names, node, register
from support.ports import answers, reserved_port
from support.procfs import network_of, processes_at
from support.programs import clean_environment, real

if TYPE_CHECKING:
    from comparison.groups import Plan

#: Calls wait more than they work.
_AT_ONCE = 8
#: Loopback, two addresses that the calls name, and one that only a wildcard covers.
_HOSTS = ("127.0.0.1", "::1", "127.0.0.5", "127.0.0.6", "127.0.0.77")

#: A second's delay is one for us, and two for C where it has two things to do for a request.
_LATE = 0.9

_USAGE = "usage: epmd "
#: What ours says instead.
_WRONG_LINE = re.compile(r"epmd: [^\n]+: see epmd -help\n")
assert is_listed("a command line that is wrong")
_BAD_VALUE = re.compile(r'epmd: -?\w+: ".*" is not a number from 1 to \d+\n')
#: How a log with -d begins.  What else is in it is for the group `log`.
_LOG = re.compile(r"epmd: TIME: epmd running - daemon = 0\r\n")


def commands(c: Form, ours: Form, _plan: Plan) -> Iterator[Row]:
    return side_by_side("commands", play, c, ours)


def play(form: Form, calls: Iterable[Call] = CALLS) -> Iterator[Seen]:
    with Stage(form) as stage, ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(stage.play, calls)


class Stage:
    """Plays calls of one form, several at once.  Those that alter nothing share an epmd."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._lock = threading.Lock()
        self._left_open = contextlib.ExitStack()
        self._shared: dict[Place, Process] = {}

    def play(self, call: Call) -> Seen:
        try:
            what = self._play(call)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            what = f"{NOT_PLAYED}: {error!r}"
        return Seen(call.title, what, call.difference)

    def _play(self, call: Call) -> str:
        if call.place is NOBODY:
            with reserved_port() as port, Run(self._form, call, port) as run:
                return run.what_happens()
        if call.alters:
            with self._epmd(call.place) as server:
                return self._ask(call, server)
        return self._ask(call, self._shared_epmd(call.place))

    def _ask(self, call: Call, server: Process) -> str:
        with Run(self._form, call, server.port) as run:
            seen = run.what_happens()
        return seen + (
            _there(names(server.port)) if lives(server) else f"; there: ended with {server.ended()}"
        )

    def _shared_epmd(self, place: Place) -> Process:
        with self._lock:
            if place not in self._shared or self._shared[place].ended() is not None:
                self._shared[place] = self._left_open.enter_context(self._epmd(place))
            return self._shared[place]

    @contextlib.contextmanager
    def _epmd(self, place: Place) -> Iterator[Process]:
        with (
            self._form(*(place.options or ()), environ=dict(place.variables)) as server,
            contextlib.ExitStack() as nodes,
        ):
            for name in place.names:
                nodes.enter_context(register(server.port, node(name))[0])
            yield server

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._left_open.close()


class Run:
    """One call of a program, in a session of its own, which is over when this is."""

    def __init__(self, form: Form, call: Call, port: int) -> None:
        self._call, self._port = call, port
        self._open = contextlib.ExitStack()
        self._outputs = tuple(self._open.enter_context(file()) for file in [tempfile.TemporaryFile] * 2)
        apart = [real("unshare"), "--map-root-user", "--net"] if call.apart else []
        self._process = subprocess.Popen(
            [*apart, *form.command, *(self._filled(word) for word in call.words)],
            stdin=subprocess.DEVNULL,
            stdout=self._outputs[0],
            stderr=self._outputs[1],
            env=clean_environment(**{name: self._filled(value) for name, value in call.variables}),
            start_new_session=True,
        )

    def _filled(self, text: str) -> str:
        return filled(text, self._port)

    def what_happens(self) -> str:
        """Waits until it has ended or serves; what serves is asked to end."""
        wait_until(lambda: self._process.poll() is not None or self._serves(), f"{self._call.title} to end")
        did = ""
        if self._process.poll() is None:
            if self._call.apart:
                return "serves"  # at a port that nobody asked for
            did = f"{how_it_serves(self._port, busy=self._call.plays_busy)}, then "
            self._process.wait(PATIENCE)
        elif self._call.may_leave_a_daemon:
            did = f"leaves {self._daemon()}, "
        out, err = (self._said(output) for output in self._outputs)
        return f"{did}{_ended(self._process.returncode, out, err)}"

    def _serves(self) -> bool:
        if self._call.apart:
            return serves_apart(self._process.pid)
        return self._call.place is NOBODY and "-daemon" not in self._call.words and answers(self._port)

    def _daemon(self) -> str:
        end = time.monotonic() + PATIENCE
        while not answers(self._port):
            # C's caller returns before its daemon listens, or ends in vain.
            if time.monotonic() > end or ("-port" in self._call.words and not processes_at(self._port)):
                return "no daemon"
            time.sleep(0.005)
        pid = serving_pid(self._port)
        try:
            return f"a daemon that {how_it_serves(self._port, busy=self._call.plays_busy)}"
        finally:
            end_daemon(self._port, pid)

    def _said(self, output: IO[bytes]) -> str:
        output.seek(0)
        return said(self._call, output.read().decode("utf-8", "backslashreplace"), self._port)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        with self._open:
            # Not with KILL at once: an executable's launcher has a folder to remove.
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                raise


def filled(text: str, port: int) -> str:
    return text.replace("PORT", str(port))


def said(call: Call, text: str, port: int) -> str:
    """What a program has written to one of its outputs, masked."""
    is_usage = _USAGE in text or _WRONG_LINE.fullmatch(text)
    if call.bad_value and (is_usage or _BAD_VALUE.fullmatch(text)):
        return "(an error)"
    if is_usage:
        return "(usage)"
    text = masked(text, port)
    return f"(a log of level {log_level(text)})" if _LOG.match(text) else repr(text)


def _ended(status: int, out: str, err: str) -> str:
    return f"status {status}, stdout {out}, stderr {err}"


def refused(call: Call) -> Seen | None:
    """What ours does with a line that it refuses, as this process reads it; None for any other line, and for
    one of which a daemon may be left."""
    if call.may_leave_a_daemon:
        return None
    try:
        _read(call)
        return None
    except UsageWanted:
        err = USAGE
    except UsageError as error:
        err = f"epmd: {error}: see epmd -help\n"
    except ValueProblem as error:
        err = f"epmd: {error}\n"
    what = _ended(1, repr(""), said(call, err, DEFAULT_PORT))
    if call.place is not NOBODY:
        what += _there(sorted(f"{name} at port {node(name).port}" for name in call.place.names))
    return Seen(call.title, what, call.difference)


def asked(call: Call) -> object:
    """All that ours does for the line of an interactive call depends on this; None for any other line."""
    if refused(call) or not call.asks:
        return None
    options = _read(call)
    return options.command, options.stop_name, options.port, call.place


def _read(call: Call) -> Options:
    variables = {name: filled(value, DEFAULT_PORT) for name, value in call.variables}
    return read_options([filled(word, DEFAULT_PORT) for word in call.words], variables)


def _there(lists: list[str]) -> str:
    return f"; there: lists {lists}"


def how_it_serves(port: int, *, busy: bool) -> str:
    """Where the epmd answers, or how soon if it plays busy, and whether it lets itself be killed while it has
    a node; which it does not survive."""
    where = "" if busy else f"answers at {[host for host in _HOSTS if answers(port, host)]}, and "
    holder, _ = register(port, node("foo"))
    with holder:
        asked = time.monotonic()
        answer = ask(port, b"k")
        late = busy and time.monotonic() - asked > _LATE
    if answer != b"OK":
        # What another thread has just forked may hold the connection open until it is a program.
        wait_until(lambda: not names(port), "the node to go")
        answer += b" and then " + ask(port, b"k")
    return f"{where}says to KILL{' late' if late else ''}: {answer.decode()}"


def log_level(log: str) -> int:
    """How many -d a log comes from: packets are dumped from the second on, and tables from the third."""
    return 1 + ("***** 00000000" in log) + ("reg calculated count" in log)


def serves_apart(pid: int) -> bool:
    """Whether the process has a network of its own by now, in which somebody listens."""
    if network_of(pid) in (network_of("self"), ""):
        return False
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()
    except OSError:
        return False  # it has ended
    return any(line.split()[3] == "0A" for line in lines[1:])
