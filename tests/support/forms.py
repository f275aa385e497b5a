"""The forms of an epmd that the same cases run against: in process, from source, executable, and C's.

A Server is running and answering when you get it; `stop` ends it and what it started, by process
group.  Its port is reserved by a socket that stays bound: nobody else gets the number in between.

Processes that tests start import this too: it imports neither pytest nor gevent.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from support import differences
from support.paths import BUILT, C_EPMD, FOLDER, SOURCE
from support.patience import IN_VAIN, PATIENCE, wait_until
from support.ports import ReservedPort, answers
from support.procfs import serving, state
from support.programs import clean_environment, content, real

if TYPE_CHECKING:
    from gevent_epmd import ThreadedPortMapper

#: ERTS 13 is of OTP 25, and so on, since OTP 23.
_OTP_OF_ERTS = 12


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
        from gevent_epmd import ThreadedPortMapper
        from gevent_epmd.program.options import read_options

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
#: Those of ours that are programs, by what the scripts call them.
PROGRAMS: dict[str, type[Process]] = {"source": Source, "built": Built, "folder": Folder}


def command_of(form: type[Process]) -> list[str]:
    """The beginning of a command line."""
    program, *arguments = form.command
    return [real(program), *arguments]
