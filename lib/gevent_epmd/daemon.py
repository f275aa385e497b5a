"""Detaching from whoever called us (C: run_daemon() of epmd.c).

The caller waits for a word from the daemon, and so can say truly whether requests are answered.
Between the two is a process that only exists so that the daemon leads no session; the caller reaps it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Container, Iterable

_READY = b"1"


def open_standard_descriptors() -> None:
    """Make sure that 0, 1 and 2 are taken.  Where the caller closed one, the next socket would get its
    number, and then be read, written or replaced as if it were stdin, stdout or stderr."""
    try:
        descriptor = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return  # a bare chroot; whoever closes them there has no use for what we say
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)


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


def detach() -> Callable[[], None] | None:
    """Fork a daemon.

    In the daemon this gives the function to call once requests are answered; in the caller, which
    it keeps waiting until then, it gives None.  Raises ChildProcessError in the caller if the daemon
    ended instead, and OSError where it cannot be forked.
    """
    reading, writing = os.pipe()
    intermediate = os.fork()
    if intermediate:
        os.close(writing)
        _reap(intermediate)
        with os.fdopen(reading, "rb") as pipe:
            if pipe.read() != _READY:
                raise ChildProcessError("the daemon ended before it could serve")
        return None
    os.close(reading)
    os.setsid()
    # The hang-up of the session's leader, which ends now, is not for us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    _leave()

    def ready() -> None:
        try:
            os.write(writing, _READY)
        except OSError:
            pass  # the caller was ended while it waited: nobody hears it
        os.close(writing)

    return ready


def _reap(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # whoever started us ignores SIGCHLD, and so do we: the kernel was faster


def _leave() -> None:
    """Hold on to nothing of the caller's: directory, umask, terminal."""
    os.chdir("/")
    os.umask(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
