"""How either side starts, detaches, and ends: signals, exit statuses, what a daemon holds on to, syslog."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.masks import masked
from comparison.rows import Form, Row, Seen, at_once, seen_in
from comparison.settled import settle, stay_on_one_processor
from gevent_epmd.client import TIMEOUT
from gevent_epmd.program.process.watch import gone
from support.daemons import daemon, serving_pid
from support.forms import Built
from support.orphans import zombies_under_process_1
from support.patience import IN_VAIN, PATIENCE, wait_until
from support.peer import Peer, ask, names, node, register, try_to_register
from support.ports import answers, reserved_port
from support.procfs import processes_at
from support.programs import real, run
from support.strangers import STRANGERS, BoundOnly, Http, Mute, Stranger
from support.syslog import PRIVATE_DEV

if TYPE_CHECKING:
    from comparison.groups import Plan

GROUP = "life"

_CANNOT_SERVE = "`-daemon` that cannot serve"
_STRANGER = "another program at the port"
_NO_ANSWER = "an epmd that does not answer"
_NO_REASON = "a system error in syslog"
#: The differences of signals.
_OF_SIGNALS = {"XFSZ": "a log file at its size limit", "USR1": "SIGUSR1 to an epmd that serves"}

_SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PIPE", "CHLD", "XFSZ", "WINCH")
_SIGNALS_TO_A_DAEMON = ("TERM", "INT", "HUP", "QUIT", "USR1", "PIPE", "XFSZ")
#: How often it must have answered after a signal before it counts as one that serves on.
_OFTEN = 10


def signals(form: Form) -> Iterator[Seen]:
    """Signals to a process in the foreground, as its parent sees them end it."""

    @contextlib.contextmanager
    def start() -> Iterator[_Target]:
        with form() as server:
            yield server.process.pid, server.process.poll, server.port

    for name, fate, status in _signalled(_SIGNALS, start):
        seen = f"status {status()}" if fate == _ENDED else fate
        yield Seen(f"SIG{name} in the foreground", seen, _OF_SIGNALS.get(name, ""))


def signals_to_a_daemon(form: Form) -> Iterator[Seen]:
    @contextlib.contextmanager
    def start() -> Iterator[_Target]:
        with daemon([*form.command]) as (port, pid):
            yield pid, lambda: gone(pid) or None, port

    for name, fate, _ in _signalled(_SIGNALS_TO_A_DAEMON, start):
        yield Seen(f"SIG{name} to a daemon", fate, _OF_SIGNALS.get(name, ""))


#: Its process, what is not None when that has ended, and its port.
_Target = tuple[int, Callable[[], object], int]
_ENDED, _SERVES = "ended", "serves"


def _signalled(
    names: tuple[str, ...], start: Callable[[], contextlib.AbstractContextManager[_Target]]
) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """What comes of each signal. Who serves on gets the next one, too."""
    left = [*names]
    while left:
        with start() as (pid, status, port):
            fate = _SERVES
            while left and fate == _SERVES:
                name = left.pop(0)
                os.kill(pid, signal.Signals[f"SIG{name}"])
                fate = _fate(status, port)
                yield name, fate, status


def _fate(status: Callable[[], object], port: int) -> str:
    """What becomes of one that has just got a signal; `status` is None as long as it has not ended.

    It serves on if it still answers after a while in which it has answered again and again: then it has had
    its turn, on a slow machine too."""
    start, answered = time.monotonic(), 0
    while status() is None:
        waited = time.monotonic() - start
        if waited > IN_VAIN and answered >= _OFTEN:
            return _SERVES
        if waited > PATIENCE:
            return "does not answer"
        answered += answers(port)
        time.sleep(0.1)  # the rate at which it is asked
    return _ENDED


def belongings(form: Form) -> Iterator[Seen]:
    """What a process of either kind keeps of its caller's, and what it does with signals."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
        how = {"cwd": folder, "pass_fds": [file.fileno()], "preexec_fn": lambda: os.umask(0o027)}
        with daemon([*form.command], **how) as (_, pid):
            yield from _belongings("a daemon", pid, pid, folder)
    with form() as server:
        started = server.process.pid
        yield from _belongings("in the foreground", started, serving_pid(server.port), os.getcwd())


def _belongings(title: str, started: int, pid: int, folder: str) -> Iterator[Seen]:
    """`started` is what the caller started, if that is still there: the executable serves in a child."""
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    _, _, _, session, terminal, terminal_group = (process / "stat").read_text().rsplit(")", 1)[1].split()[:6]
    descriptors = {int(fd.name): os.readlink(fd) for fd in (process / "fd").iterdir()}
    # A memory file is never the caller's: ours records the greatest creation in one.
    files = [what for fd, what in descriptors.items() if fd > 2 and re.match("/(?!memfd:)", what)]
    group = os.getpgid(pid)
    for what, seen in {
        "working directory": os.readlink(process / "cwd").replace(folder, "the caller's"),
        "umask": status["Umask"],
        "standard descriptors are /dev/null": [descriptors[fd] == os.devnull for fd in (0, 1, 2)],
        "inherited files": len(files),
        "leads its session": int(session) == started,
        "is in its caller's session": int(session) == os.getsid(0),
        "leads its group": group == started,
        "its session has the number of its group": int(session) == group,
        "terminal": (terminal, terminal_group),
        "is the caller's child": int(status["PPid"]) in {os.getpid(), started},
        "ignored signals": _names(status["SigIgn"]),
        "blocked signals": _names(status["SigBlk"]),
    }.items():
        yield Seen(f"{title}: {what}", f"{seen}")


def _names(mask: str) -> str:
    """The signals of a mask but those that have a scene of their own."""
    found = [signal.Signals(number).name for number in sorted(signal.valid_signals()) if _is_in(mask, number)]
    return " ".join(name for name in found if name.removeprefix("SIG") not in _OF_SIGNALS)


def _is_in(mask: str, number: int) -> bool:
    return bool(int(mask, 16) >> (number - 1) & 1)


def statuses(form: Form) -> Iterator[Seen]:
    """What the caller sees of calls that come to their end."""
    stay_on_one_processor()
    with reserved_port() as port:
        call = [*form.command, "-port", str(port)]
        yield _ended("-kill of nobody", [*call, "-kill"])
        yield _ended(
            "-daemon at an address that is not there", [*call, *_ELSEWHERE, "-daemon"], _CANNOT_SERVE
        )
        yield _ended(
            "-daemon at an address that is none", [*call, "-address", "here", "-daemon"], _CANNOT_SERVE
        )
        yield _ended("-daemon", [*call, "-daemon"])
        wait_until(lambda: answers(port), "the daemon to answer")
        pid = serving_pid(port)
        for options, difference in (
            (["-daemon"], ""),
            ([], ""),
            (["-daemon", *_ELSEWHERE], _CANNOT_SERVE),
            (_ELSEWHERE, "an address that the host does not have, while an epmd is running"),
            (["-daemon", "-relaxed_command_check"], ""),
        ):
            yield _ended(f"a second one: {' '.join(options)}", [*call, *options], difference)
        with register(port, node("foo"))[0]:
            yield _ended("-kill with a node", [*call, "-kill"])
            yield _ended("-stop", [*call, "-stop", "foo"])
        # Not at once: a thread that starts a program holds the closed connection open for a moment.
        wait_until(lambda: not names(port), "the node to go")
        yield _ended("-kill", [*call, "-kill"])
        wait_until(lambda: gone(pid), "the daemon to end")
        yield _ended("-daemon -relaxed_command_check", [*call, "-daemon", "-relaxed_command_check"])
        wait_until(lambda: answers(port), "the daemon to answer")
        with register(port, node("foo"))[0]:
            yield _ended("-kill with a node, relaxed", [*call, "-kill"])


#: An address that no host has (RFC 5737).
_ELSEWHERE = ["-address", "203.0.113.7"]
_IN_VAIN = {"an address that is not there": _ELSEWHERE, "an address that is none": ["-address", "here"]}


def _ended(title: str, command: list[str], difference: str = "", **how: float) -> Seen:
    port = int(command[command.index("-port") + 1])
    ended = run(command, **how)
    said = masked((ended.stdout + ended.stderr).decode(), port)
    return Seen(title, f"{said}status {ended.returncode}", difference)


def zombies(form: Form) -> Iterator[Seen]:
    """As process 1.  In the one-file executable that is the launcher, which does as C does."""
    difference = "" if form is Built else "zombies if epmd is process 1"
    yield Seen("as process 1: zombies of others", f"{zombies_under_process_1(form)}", difference)


_STARTS = ((), ("-daemon",))
_ASKING = (("-names",), ("-dump",), ("-started",), ("-kill",), ("-stop", "foo"))
#: Something at the port, a call, and the difference there.  What closes at once is met before it has read or
#: after, and so asked by those that start alone.
_STRANGE: tuple[tuple[type[Stranger], tuple[str, ...], str], ...] = (
    *((stranger, call, _STRANGER) for stranger in STRANGERS for call in _STARTS),
    *((Mute, call, _NO_ANSWER) for call in _ASKING),
    *((Http, call, _STRANGER) for call in _ASKING),
    *((BoundOnly, call, "") for call in _ASKING),
)
#: When it is seen that a call of C's has no limit, in seconds.
_NO_LIMIT = TIMEOUT + IN_VAIN


def strangers(form: Form) -> Iterator[Seen]:
    """What is said of a port that something else has, or an epmd that does not answer."""
    with ThreadPoolExecutor(len(_STRANGE)) as pool:
        yield from pool.map(lambda each: _met(form, *each), _STRANGE)


def _met(form: Form, stranger: type[Stranger], call: tuple[str, ...], difference: str) -> Seen:
    title = f"{' '.join(call) or 'in the foreground'}, {stranger.__name__} at the port"
    patience = _NO_LIMIT if form.is_c and difference else PATIENCE
    with stranger() as there:
        try:
            seen = _ended(
                title, [*form.command, "-port", str(there.port), *call], difference, timeout=patience
            )
            if "-daemon" in call:
                # C's caller returns before its daemon has bound the port, which must not be free then.
                wait_until(lambda: not processes_at(there.port), "its daemon to end")
            return seen
        except subprocess.TimeoutExpired:
            return Seen(title, f"waits for more than {TIMEOUT:g} s", difference)


def syslog(form: Form) -> Iterator[Seen]:
    """What a daemon tells syslog: whole datagrams."""
    stay_on_one_processor()
    with _Syslog() as log, reserved_port() as port:
        for (title, options), difference in zip(_IN_VAIN.items(), (_NO_REASON, _CANNOT_SERVE), strict=True):
            run([*log.prefix, *form.command, "-port", str(port), "-daemon", *options])
            # C's caller returns before its daemon fails.
            wait_until(lambda: not processes_at(port), "its daemon to end")
            yield log.heard(f"{title}, in syslog", port, difference=difference)
        with daemon([*log.prefix, *form.command], "-relaxed_command_check") as (port, pid):
            yield log.heard("a daemon starts, in syslog", port)
            run([*log.prefix, *form.command, "-port", str(port), "-daemon"])
            yield log.heard("a second daemon, in syslog", port)
            for title in _events(port):
                settle(pid)
                difference = _NO_REASON if title == "a reset" else ""
                yield log.heard(f"{title}, in syslog", port, difference=difference)
        for level in (1, 2, 3):
            debug = ["-d"] * level
            with daemon([*log.prefix, *form.command], *debug) as (port, pid):
                for title in _debug_events(port):
                    settle(pid)
                    yield log.heard(f"-daemon {' '.join(debug)}: {title}, in syslog", port)


def _events(port: int) -> Iterator[str]:
    ask(port, b"?")
    yield "an unknown tag"
    with Peer(port) as peer:
        peer.send(b"\0\0")
        peer.read_all()
    yield "length 0"
    Peer(port).close()
    yield "a connection in vain"
    Peer(port).reset()
    yield "a reset"
    with register(port, node("foo"))[0]:
        yield "a node registers"
        with Peer(port) as peer:
            try_to_register(peer, node("foo"))
            yield "a name that is taken"
        ask(port, b"zfoo")
        yield "a look-up"
    yield "the node goes"
    ask(port, b"k")
    yield "KILL"


def _debug_events(port: int) -> Iterator[str]:
    yield "it starts"
    with register(port, node("foo"))[0]:
        yield "a node registers"
        for packet in (b"zfoo", b"n", b"d", b"k", b"?"):
            ask(port, packet)
            yield f"a request, {packet.decode()}"
    yield "the node goes"


class _Syslog:
    """A listener at /dev/log, for whoever is started with `prefix`: in a mount namespace with a /dev of its
    own.  It reads all the time: where few lines wait, whoever says the next one waits too."""

    def __enter__(self) -> _Syslog:
        self._folder = tempfile.TemporaryDirectory()
        self._path = f"{self._folder.name}/log"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self._path)
        self._came: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._send(_END)
        self._thread.join(PATIENCE)
        self._sock.close()
        self._folder.cleanup()

    @property
    def prefix(self) -> list[str]:
        """The beginning of a command line; each has a folder of its own, as it makes things there."""
        folder = tempfile.mkdtemp(dir=self._folder.name)
        os.symlink(self._path, f"{folder}/log")
        return [real("unshare"), "--map-root-user", "--mount", "sh", "-c", PRIVATE_DEV, "sh", folder]

    def heard(self, title: str, port: int, *, difference: str = "") -> Seen:
        """What has been sent since the last call."""
        self._send(_MARK)
        came = iter(lambda: self._came.get(timeout=PATIENCE).decode(), _MARK.decode())
        lines = "".join(f"{line}\n" for line in came)
        text = re.sub(r"(?m)^(<\d+>)\w{3} [ \d]\d \d\d:\d\d:\d\d ", r"\1TIME ", lines)
        return Seen(title, masked(re.sub(r"\[\d+\]:", "[PID]:", text), port), difference)

    def _listen(self) -> None:
        for line in iter(lambda: self._sock.recv(1 << 16), _END):
            self._came.put(line)

    def _send(self, line: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(line, self._path)


_MARK, _END = b"mark", b"end"


#: The scenes of a form, each of one part of what it does.
Play = Callable[[Form], Iterator[Seen]]
PLAYS: tuple[Play, ...] = (
    signals,
    signals_to_a_daemon,
    belongings,
    statuses,
    zombies,
    strangers,
    syslog,
)


def play(form: Form, plays: Sequence[Play] = PLAYS) -> list[Seen]:
    """Most of the time is spent waiting, so all are played at once."""
    return seen_in(plays, form, len(plays))


def rows(c: Form, ours: Form, _plan: Plan) -> Iterator[Row]:
    return at_once(GROUP, play, c, ours)
