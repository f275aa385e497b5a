"""The forms of an epmd that the same cases run against: in process, from source, and C's.

A Server is running and answering when you get it; `stop` ends it and what it started, by process
group.  Ports are reserved by a socket that stays bound: nobody else gets the number in between.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from comparison import differences
from gevent_epmd import ThreadedPortMapper
from gevent_epmd.program.options import read_options
from support.patience import IN_VAIN, PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
#: The folder from which tests and tools import each other.
TESTS = ROOT / "tests"
SOURCE = [sys.executable, str(ROOT / "epmd.py")]
BUILT = str(ROOT / "dist" / "epmd")
FOLDER = str(ROOT / "dist" / "gevent-epmd" / "epmd")
#: The C epmd that the tests meet.
C_EPMD = os.environ.get("EPMD_C") or "/usr/bin/epmd"
#: ERTS 13 is of OTP 25, and so on, since OTP 23.
_OTP_OF_ERTS = 12


class Real:
    """Whether tests may use programs that are not ours; `pytest --quick` skips those that do."""

    wanted = True


def real(command: str) -> str:
    """The path of a program that is not ours.  In CI it must be there; elsewhere a test is skipped."""
    if not Real.wanted and command != SOURCE[0]:
        pytest.skip(f"not quick: needs {command}")
    path = shutil.which(command)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{command} is missing")
    if path is None:
        pytest.skip(f"{command} is missing")
    return path


def heed_signals() -> None:
    """As in the foreground: whoever runs this in the background, or with nohup, ignores signals, and so would
    what is started here."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def state(pid: int) -> str:
    """The letter of the process's state; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that an epmd reads."""
    unwanted = ("ERL_", "LISTEN_", "NOTIFY_SOCKET")
    return {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | more


class ReservedPort:
    """A TCP port of both families that nobody else gets while this is open."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        while not self._sockets:
            self._try()

    def _try(self) -> None:
        with contextlib.ExitStack() as opened:
            v4 = opened.enter_context(_reusable(socket.AF_INET))
            v4.bind(("127.0.0.1", 0))
            self.number: int = v4.getsockname()[1]
            v6 = opened.enter_context(_reusable(socket.AF_INET6))
            try:
                v6.bind(("::1", self.number))
                # A connection that has just ended may have the number at another address, and then nobody
                # could listen on every address.
                with _reusable(socket.AF_INET6) as everywhere:
                    everywhere.bind(("::", self.number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return  # another number, then
            self._sockets = [v4, v6]
            opened.pop_all()

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def _reusable(family: int) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as sock:
            sock.sendall(b"\0\1n")
            return len(sock.recv(4)) == 4
    except OSError:
        return False


class Server:
    """An epmd that answers at `port`."""

    is_c = False

    @classmethod
    def differs_in(cls, _scene: str) -> bool:
        """Whether a program of this form does what the list of deliberate differences says of C's."""
        return False

    @classmethod
    def in_new_words(cls, log: str) -> str:
        """What it has logged, in the words of the newest C epmd."""
        return log

    def __init__(self, *options: str, environ: dict[str, str] | None = None) -> None:
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        try:
            self._start(["-port", str(self.port), *options], environ or {})
        except BaseException:
            self.stop()
            raise

    def _start(self, options: list[str], environ: dict[str, str]) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        """Let go of what is left after the end."""

    def log(self) -> str:
        """What it has logged."""
        raise NotImplementedError

    def ended(self) -> int | None:
        """The exit status of what has ended by itself."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it.  Whatever a test did to it, it must not have failed inside."""
        try:
            self._stop()
            log = self.log()
        finally:
            self._close()
            self._reserved.close()
        assert "internal error" not in log, log
        assert "Traceback" not in log, log

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def command_of(name: str) -> list[str]:
    program, *arguments = COMMANDS[name]
    return [real(program), *arguments]


def serving(process: subprocess.Popen) -> int:
    """The process that serves: the launcher's child where there is a launcher."""
    return next(iter(children(process.pid)), process.pid)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_at(port: int) -> list[int]:
    """All that have `-port PORT` in their command line, whatever their session and their parent."""
    at = f"\0-port\0{port}\0".encode()
    for _ in range(2):
        # A process that forks and ends while the list is read is in it, and its child is not.
        found = [pid for pid, line in _command_lines() if at in line]
        if found:
            break
    return found


def _command_lines() -> Iterator[tuple[int, bytes]]:
    for process in Path("/proc").glob("[0-9]*"):
        yield int(process.name), command_line(int(process.name))


def command_line(pid: int) -> bytes:
    """The words, each with a NUL after it; nothing of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Process(Server):
    """An epmd that is a process of its own, in the foreground."""

    command: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    #: What is called in the child before the program starts, and which descriptors it leaves open.
    prepare: Callable[[], None] | None = None
    descriptors: tuple[int, ...] = ()

    def _start(self, options: list[str], environ: dict[str, str]) -> None:
        real(self.command[0])
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
        self.process = subprocess.Popen(
            [*self.command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=clean_environment(**environ),
            start_new_session=True,
            preexec_fn=self.prepare,
            pass_fds=self.descriptors,
        )
        wait_until(self._answers_or_ended, f"{self.command} to answer")
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log()}"

    def _answers_or_ended(self) -> bool:
        return self.process.poll() is not None or answers(self.port)

    def log(self) -> str:
        if self.process is None:
            return ""
        return content(self._stderr).decode(errors="replace")

    def ended(self) -> int | None:
        return self.process.poll()

    @property
    def pid(self) -> int:
        """The process that serves."""
        return serving(self.process)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It finds together, afterwards, whatever happens meanwhile."""
        # A process that is only told to stop may still wake up for what comes next.
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: state(self.pid) == "T", "the server to stop")
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def kill_and_start_again(self, *options: str) -> None:
        """As after a crash, at the same port, with these options alone."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._stderr.close()
        self._start(["-port", str(self.port), *options], {})

    def _stop(self) -> None:
        if self.process is None:
            return
        # Asked politely where it agrees: under coverage it then saves what was measured.
        if not self._agrees_to_end():
            # Not with KILL, and not the whole group: an executable's launcher has a folder to remove.
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise

    def _agrees_to_end(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=IN_VAIN) as sock:
                sock.sendall(b"\0\1k")
                return sock.recv(2) == b"OK"
        except OSError:
            return False

    def _close(self) -> None:
        if self.process is not None:
            self._stderr.close()


class Source(Process):
    command = tuple(SOURCE)


class Built(Process):
    """The executable that is one file; scripts/build makes it and the folder."""

    command = (BUILT,)


class Folder(Process):
    """The executable that is a folder."""

    command = (FOLDER,)


class C(Process):
    is_c = True
    command = (C_EPMD,)

    @classmethod
    def otp(cls) -> int:
        """The version of Erlang/OTP to which the program belongs; raises LookupError as `otp_of` does."""
        return otp_of(cls.command[0])

    @classmethod
    def differs_in(cls, scene: str) -> bool:
        return differences.differs(scene, cls.otp())

    @classmethod
    def in_new_words(cls, log: str) -> str:
        new = differences.in_new_words(log)
        return new if new != log and cls.differs_in(differences.WORDS) else log


@functools.cache
def otp_of(path: str) -> int:
    """The version of Erlang/OTP to which a C epmd belongs.

    The program has no option that tells, and those of OTP 25 and 27 contain the same texts.  In every
    installation it is erts-VERSION/bin/epmd, so this starts it and reads from which file it is mapped: links
    and wrapper scripts do not hide that.  EPMD_C_OTP takes precedence, for a copy outside an installation.
    Raises LookupError where neither tells.
    """
    if given := os.environ.get("EPMD_C_OTP"):
        return int(given)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(PATIENCE)
        call = [path, "-port", str(mute.getsockname()[1]), "-names"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(call, env=clean_environment(), **quiet) as asking, mute.accept()[0]:
            # It waits for an answer.
            mapped = Path(f"/proc/{serving(asking)}/maps").read_text()
    erts = re.search(r"/erts-(\d+)\.[^/\n]*/bin/epmd$", mapped, re.MULTILINE)
    if erts is None:
        raise LookupError(f"of which OTP is {path}? It runs from no folder erts-VERSION; set EPMD_C_OTP")
    return int(erts[1]) + _OTP_OF_ERTS


class InProcess(Server):
    """Served by the library, in a thread of this process."""

    _embedded: ThreadedPortMapper | None = None

    def _start(self, options: list[str], environ: dict[str, str]) -> None:
        settings = read_options(options, environ).settings._asdict()
        self._lines: list[str] = []
        self._embedded = ThreadedPortMapper(**settings, log=self._lines.append)
        self._embedded.start()

    def log(self) -> str:
        return "\r\n".join(self._lines)

    def ended(self) -> int | None:
        return 0 if self._embedded.wait(0) else None

    def _stop(self) -> None:
        if self._embedded is not None:
            self._embedded.close()


FORMS = [InProcess, Source, Built, Folder, C]
OURS = [InProcess, Source, Built, Folder]
#: Those of ours that are programs, by what the scripts call them.
PROGRAMS: dict[str, type[Process]] = {"source": Source, "built": Built, "folder": Folder}
COMMANDS = {"source": SOURCE, "built": [BUILT], "folder": [FOLDER], "C": [C_EPMD]}


each_of_ours = pytest.mark.parametrize("form", OURS, ids=lambda form: form.__name__)
#: The one-file form serves as the folder does; its launcher has a part only in how it starts and ends.
each_that_serves = pytest.mark.parametrize(
    "form", [form for form in OURS if form is not Built], ids=lambda form: form.__name__
)


def forms(
    *, but_not_c: str = "", processes_only: bool = False, launcher: bool = True
) -> pytest.MarkDecorator:
    """Run a test against every form, or all but the one with a launcher.  `but_not_c` is the scene of the
    deliberate difference for which C must fail it, if its version is one that differs there: if C passes
    then, the list is wrong."""
    unwanted = {InProcess} if processes_only else set()
    unwanted |= set() if launcher else {Built}
    wanted = [form for form in FORMS if form not in unwanted]
    differs = [pytest.mark.xfail(reason=but_not_c, strict=True)] if _c_differs(but_not_c) else []
    parameters = [pytest.param(form, id=form.__name__, marks=differs if form.is_c else []) for form in wanted]
    return pytest.mark.parametrize("form", parameters)


def _c_differs(scene: str) -> bool:
    assert not scene or differences.is_listed(scene), f"not in comparison/differences.py: {scene}"
    # Where the program is missing, its tests are skipped.
    return bool(scene) and shutil.which(C_EPMD) is not None and C.differs_in(scene)


def run(command: list[str], *, environ: dict[str, str] | None = None, **how):
    """Run a program to its end, with both outputs as bytes, but for those for which `how` names a place.

    They go to files: a process that the program leaves behind could hold a pipe open."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        how = {"stdin": subprocess.DEVNULL, "timeout": PATIENCE, "stdout": out, "stderr": err} | how
        done = subprocess.run(command, env=clean_environment(**(environ or {})), check=False, **how)
        if how["stdout"] is out:
            done.stdout = content(out)
        if how["stderr"] is err:
            done.stderr = content(err)
        return done


def content(file: IO[bytes]) -> bytes:
    """All that was written to a file, whoever writes at its end."""
    # Without moving the offset, which is the writer's too.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def exunit_passed(tests: int, said: bytes) -> bool:
    """Whether ExUnit says that so many tests passed, in the words of Elixir up to 1.19 or from 1.20 on."""
    last = rb"%d tests?, 0 failures|Result: %d passed" % (tests, tests)
    return re.search(rb"^(%s)$" % last, said, re.MULTILINE) is not None


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    reserved = ReservedPort()
    try:
        yield reserved.number
    finally:
        reserved.close()


def outcome(command: list[str], *options: str, **how) -> tuple[bytes, bytes, int]:
    done = run([*command, *options], **how)
    return done.stdout, done.stderr, done.returncode


def few_descriptors(soft: int, hard: int):
    return staticmethod(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
