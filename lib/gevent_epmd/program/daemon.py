"""Detaching from whoever called us (C: run_daemon() of epmd.c).

The caller waits for a word from the daemon, and so can say truly whether requests are answered.
Between the two is a process that only exists so that the daemon leads no session; the caller reaps it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Iterable

#: What no reason of a failure is.
_READY = b"\0"


def close_inherited(keep: Container[int] = ()) -> None:
    """Close every descriptor above 2 but these: somebody may wait for the end of a pipe.

    To be called before anything of our own is open."""
    for descriptor in _descriptors():
        if descriptor <= 2 or descriptor in keep:
            continue
        try:
            os.close(descriptor)
        except OSError:
            pass  # not open, or the one through which the list was read


def _descriptors() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # no /proc, as in a bare chroot
        return range(1024)


class Caller:
    """Whoever waits for a daemon, as the daemon sees it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def ready(self) -> None:
        """To be called once requests are answered.  Raises BrokenPipeError if the caller has ended: whoever
        was killed while it waited must leave nothing behind."""
        from . import is_one_file, launcher  # calls that ask do without
        from .processes import gone

        # In the executable the caller sees only after a while that its launcher was killed.
        if (is_one_file() and gone(launcher.pid)) or not self._tell(_READY):
            raise BrokenPipeError("its caller was killed while it started")

    def failed(self, reason: str) -> bool:
        """Say why there will be no daemon; False if nobody waits for that (any more)."""
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


def detach() -> Caller | None:
    """Fork a daemon.

    In the daemon this gives its caller, to be told once requests are answered; in the caller, which it
    keeps waiting until then, it gives None.  Raises ChildProcessError in the caller if the daemon ended
    instead, with its reason, and OSError where it cannot be forked.
    """
    reading, writing = os.pipe()
    intermediate = os.fork()
    if intermediate:
        os.close(writing)
        _reap(intermediate)
        with os.fdopen(reading, "rb") as pipe:
            word = pipe.read()
        if word != _READY:
            raise ChildProcessError(word.decode() or "the daemon ended before it could serve")
        return None
    os.close(reading)
    os.setsid()
    # The hang-up of the session's leader, which ends now, is not for us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    return Caller(writing)


def _reap(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # whoever started us ignores SIGCHLD, and so do we: the kernel was faster


def leave() -> None:
    """Hold on to nothing of the caller's: directory, umask, terminal.  Raises OSError.

    To be called when everything is imported: Python saves what it compiles with the umask of the moment, and
    the folder of the one-file form may be named relative to the directory."""
    os.chdir("/")
    os.umask(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
