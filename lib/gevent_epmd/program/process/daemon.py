"""Detaches a daemon from its caller, and raises the limit of descriptors for any epmd that serves.

The caller waits until the daemon reports that it answers requests, or why it cannot. The caller's exit status
is therefore reliable. `detach` forks twice: because of the process in between, the daemon is not a session
leader and cannot acquire a controlling terminal. The caller reaps the process in between.

C's counterpart: run_daemon() of epmd.c, which does not wait for the daemon.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import os
import sys
from collections.abc import Container, Iterable

from ...server.listeners import open_descriptors

#: How many descriptors are closed where the system does not list those that are open.
_MOST_DESCRIPTORS = 1024
#: Source: sys/syslimits.h of Darwin.
_OPEN_MAX = 10240

#: The message that requests are answered. No reason of a failure contains this byte.
_READY = b"\0"
#: What is between the lines that a daemon reports. No path or user contains it.
_BETWEEN = b"\0"


def close_inherited(keep: Container[int] = ()) -> None:
    """Close every descriptor above 2 except those in `keep`: the reader of a pipe would wait for its end.

    Call this before the program opens any descriptor itself.
    """
    for descriptor in open_descriptors(_MOST_DESCRIPTORS):
        if descriptor <= 2 or descriptor in keep:
            continue
        try:
            os.close(descriptor)
        except OSError:
            pass  # it is not open, or was that of the listing


def raise_limit(needed: int) -> None:
    """Raise the descriptor limit as far as the host allows, because each node takes a descriptor.

    Raises OSError if fewer than `needed` descriptors are free afterwards: libev would abort the process.
    """
    try:
        import resource  # no other command line needs it

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if sys.platform == "darwin" and not 0 <= hard <= _OPEN_MAX:
            hard = _OPEN_MAX  # the system reports no limit, and allows no more than this
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass  # the import needs a descriptor itself; the system may allow less than the limit that it reports
    free: list[int] = []
    try:
        while len(free) < needed:
            free.append(os.dup(0))
    except OSError as error:
        raise OSError(
            f"{error.strerror}: raise the limit (ulimit -n) by {needed - len(free)} or more"
        ) from None
    finally:
        for descriptor in free:
            os.close(descriptor)


class Caller:
    """The process that waits for the daemon to start, as seen from the daemon."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def ready(self, lines: Iterable[str] = (), *, launcher: int | None = None) -> None:
        """Report that requests are answered, with lines for whoever called.

        `launcher` is the process ID of the caller's launcher, if it has one. Raises BrokenPipeError if either
        has ended: a caller that is killed while it waits must not leave a daemon behind.
        """
        from .watch import gone  # interactive calls must not pay for it

        # The caller notices only after a delay that its launcher was killed.
        if (launcher is not None and gone(launcher)) or not self._tell(
            _READY + _BETWEEN.join(os.fsencode(line) for line in lines)
        ):
            raise BrokenPipeError("the process that started the daemon was killed while it waited")

    def failed(self, reason: str) -> bool:
        """Report why the daemon cannot start. Returns False if no caller is waiting any more."""
        return self._tell(reason.encode("utf-8", "backslashreplace"))

    def _tell(self, word: bytes) -> bool:
        if self._descriptor is None:
            return False
        try:
            os.write(self._descriptor, word)
        except BrokenPipeError:
            return False
        finally:
            os.close(self._descriptor)
            self._descriptor = None
        return True


def detach() -> tuple[Caller | None, list[str]]:
    """Fork a daemon. Return its Caller in the daemon, and in the calling process the lines that it reports.

    In the calling process this waits until the daemon reports that it is ready. It raises ChildProcessError
    with the daemon's reason if the daemon ends instead, and OSError if the fork fails.
    """
    reading, writing = os.pipe()
    intermediate = os.fork()
    if intermediate:
        os.close(writing)
        reap(intermediate)
        with os.fdopen(reading, "rb") as pipe:
            word = pipe.read()
        if word[:1] != _READY:
            raise ChildProcessError(word.decode() or "the daemon ended before it could serve")
        return None, [os.fsdecode(line) for line in word[1:].split(_BETWEEN) if line]
    os.close(reading)
    os.setsid()
    # The session leader ends now, and the kernel sends SIGHUP to its session, which would end the daemon.
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    return Caller(writing), []


def reap(child: int) -> None:
    """Wait for the end of a child."""
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored, as in the parent process, so the kernel has reaped the child


def leave() -> None:
    """Release what belongs to the caller: the working directory, the umask and the terminal. Raises OSError.

    Call this after the imports, which depend on both: Python writes compiled files.
    """
    os.chdir("/")
    os.umask(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
