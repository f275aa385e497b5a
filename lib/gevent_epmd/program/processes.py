"""The ends of processes that this one has not started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How often to look where the kernel cannot tell, in seconds.
_LOOK_EVERY = 0.5


def when_gone(loop: Any, pid: int, call: Callable[[], object]) -> None:
    """Call once, in the loop, when this process has ended; where it has ended already, now."""

    def end() -> None:
        watcher.stop()
        _watchers.remove(watcher)
        call()

    def look() -> None:
        if gone(pid):
            end()

    try:
        watcher = loop.io(os.pidfd_open(pid), 1)
    except ProcessLookupError:
        call()
        return
    except (AttributeError, OSError):  # a Python or a kernel without it, or a sandbox
        watcher = loop.timer(_LOOK_EVERY, _LOOK_EVERY)
        watcher.start(look)
    else:
        watcher.start(end)
    _watchers.append(watcher)


#: A watcher that nobody refers to is stopped.
_watchers: list[Any] = []


def reap_orphans(loop: Any) -> None:
    """As process 1, reap whatever ends: the kernel gives it every process that its parent has left, and whom
    it does not reap stays as a zombie.  gevent's watchers of children still see the ends of theirs."""
    loop.install_sigchld()
    os.kill(os.getpid(), signal.SIGCHLD)  # for those that have ended before


def gone(pid: int) -> bool:
    """Whether a process has ended.  One that nobody has reaped yet has ended, too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return False  # no /proc
