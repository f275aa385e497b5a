"""The process of a mapper for tests: its output, how it is, and its end.

Invariant: whether the process has ended or is stopped is read from the system, at once. A question to the
mapper that nobody answers says neither.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from .. import client

#: How long the mapper may take to start, in seconds.
_PATIENCE = 30.0
_LOOK_EVERY = 0.01
#: How long it may take for an answer, in seconds. It is asked several times: after each of them it is noticed
#: if the mapper has been stopped.
_ATTEMPTS = (0.5, 1.0, 2.0, 6.5)
#: How long a process may take to end, once it has closed its port, or has been asked to end; and one that
#: simulates a busy server. In seconds.
_PATIENCE_AT_END = 8.0
_PATIENCE_IF_BUSY = 2.0

#: What the mapper logs for an internal error, and what Python prints for one that ends the process.
_FAILURE = re.compile(r"^(?:epmd: [\w :]+: (?:internal error|cannot serve):|Traceback )", re.MULTILINE)


class MapperFailedError(AssertionError):
    """Something failed inside the mapper. The message includes the mapper's log."""


class Running:
    """A mapper's process and its output."""

    def __init__(self, command: list[str], *, ends_itself: bool = True) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._checked = 0
        #: The process that has started the mapper. This one may have been forked since.
        self.owner = os.getpid()
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
        self._ender = None if ends_itself else _Ender(self.pid)

    def read_port(self) -> int:
        """Return the port, once the mapper serves it. Raises MapperFailedError."""
        if sys.platform == "win32":
            raise NotImplementedError("no epmd can be run for tests on Windows")
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            line = pipe.readline() if poll.poll(_PATIENCE * 1000) else b""
        if not line:
            raise MapperFailedError(f"the epmd did not start:\n{self.log()}")
        return int(line)

    def wait_for_answer(self, port: int) -> None:
        """Return once the mapper answers at this port. Raises MapperFailedError."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        end = time.monotonic() + _PATIENCE
        while not client.started(port=port, timeout=_PATIENCE):
            if self.ended() or time.monotonic() >= end:
                raise MapperFailedError(f"the epmd did not start:\n{self.log()}")
            time.sleep(_LOOK_EVERY)

    def ended(self) -> bool:
        """Return whether the process has ended."""
        return self._process.poll() is not None

    def status(self) -> int:
        """Return the exit status of a process that has ended. A signal is a negative number."""
        return self._process.wait()

    def ends_in(self, seconds: float) -> bool:
        """Wait for the end of the process. Returns False if that takes longer."""
        if sys.platform == "linux":
            # Popen.wait would look again only after a while, and then after a longer one.
            with (
                contextlib.suppress(AttributeError, OSError),
                open(os.pidfd_open(self.pid), "rb") as descriptor,
            ):
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                seconds = _PATIENCE_IF_BUSY if poll.poll(seconds * 1000) else 0
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def is_stopped(self) -> bool:
        """Return whether the process is stopped, as by SIGSTOP."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as stat:
                return stat.read().rpartition(b")")[2].split()[0] in b"Tt"
        except OSError:
            pass  # it has ended, or there is no /proc
        try:
            line = ["ps", "-o", "state=", "-p", str(self.pid)]
            state = subprocess.run(line, capture_output=True, check=False, timeout=_PATIENCE_IF_BUSY).stdout
        except (OSError, subprocess.TimeoutExpired):
            return False
        return state.strip()[:1] == b"T"

    def pause(self) -> None:
        """Stop the process, and return when it is stopped."""
        if sys.platform == "win32":
            raise NotImplementedError("no epmd can be run for tests on Windows")
        self.signal(signal.SIGSTOP)
        end = time.monotonic() + _PATIENCE_IF_BUSY
        while not self.is_stopped() and not self.ended() and time.monotonic() < end:
            time.sleep(0.001)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it has not ended."""
        self._process.send_signal(number)

    def log(self) -> str:
        """Return all that was logged."""
        if sys.platform == "win32":
            raise NotImplementedError("no epmd can be run for tests on Windows")
        # Not by seeking, which would move the offset at which the mapper writes.
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def news(self) -> str:
        """Return what was logged since the last check."""
        return self.log()[self._checked :]

    def must_be_well(self, ask: Callable[[float], None]) -> None:
        """Raise MapperFailedError if the process has ended or is stopped, or if the mapper does not answer.

        `ask` asks it a question with a time limit in seconds. If this raises, the process has ended. `check`
        tells of internal errors.
        """
        for seconds in _ATTEMPTS:
            self._must_run()
            try:
                ask(seconds)
            except client.TooLateError:
                continue
            except client.EpmdError:
                if self._has_failed():
                    return
                self.ends_in(_PATIENCE_IF_BUSY)  # its port is closed, so it is about to end
            else:
                return
        self._must_run()
        self._fail(f"the epmd does not answer within {sum(_ATTEMPTS):g} s")

    def _must_run(self) -> None:
        if self.is_stopped():
            self._fail("the epmd was stopped, as by SIGSTOP")
        if self.ended() and not self.status():
            self._fail("the epmd was shut down, for example by a KILL request")
        if self.ended():
            self._fail(f"the epmd exited with status {self.status()}")

    def _fail(self, why: str) -> None:
        news = self.news()
        self._checked += len(news)
        self._process.kill()
        self._process.wait()
        raise MapperFailedError(f"{why}:\n{news}")

    def check(self) -> None:
        """Raise MapperFailedError for failures since the last check."""
        failed, news = self._has_failed(), self.news()
        self._checked += len(news)
        if failed:
            raise MapperFailedError(f"internal error in the epmd:\n{news}")

    def _has_failed(self) -> bool:
        return _FAILURE.search(self.news()) is not None

    def end(self, port: int, *, is_busy: bool) -> None:
        """Shut down the mapper by a KILL request, so that it handles earlier requests first.

        A mapper that does not end in time because it simulates a busy server is killed. Raises
        MapperFailedError if the process has ended or is stopped already, if it does not end, and as `check`
        does.
        """
        try:
            self._must_run()  # another process may have the port by now
            self._end(port, is_busy=is_busy)
            self.check()
        finally:
            self.kill()

    def _end(self, port: int, *, is_busy: bool) -> None:
        is_told = is_busy
        for seconds in (_PATIENCE_IF_BUSY, _PATIENCE_AT_END):
            came = _tell_to_end(port, seconds)
            if not (is_told or came) and self.ends_in(seconds):
                self._must_run()  # it had begun to end already
            is_told = is_told or came  # on a slow machine it ends later
            if self.ends_in(seconds) or is_busy:
                break
            if self.is_stopped():
                self._fail("the epmd was stopped, as by SIGSTOP")
        else:
            self._fail("the epmd does not end")
        if not is_busy and self.status():
            self._must_run()

    def kill(self) -> None:
        """End the process, and let go of its log."""
        self._process.kill()
        self._process.wait()
        if self._ender is not None:
            self._ender.close()
        self._log.close()


def _tell_to_end(port: int, seconds: float) -> bool:
    """Tell a mapper to end. Return whether the request may have come."""
    try:
        client.kill(port=port, timeout=seconds)
    except client.NoEpmdError:
        return False
    except client.EpmdError:
        pass
    return True


class _Ender:
    """A shell that ends a process when this one ends, even if it is killed."""

    def __init__(self, pid: int) -> None:
        # If this process ends, the shell reads the end of the pipe instead of a line.
        line = ["sh", "-c", 'read -r line || kill "$0"', str(pid)]
        self._shell = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let the shell end, and nothing else."""
        self._shell.communicate(b"\n")


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
