"""Observes the end of processes that this process did not start, and reaps orphans as process 1."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import os
import sys
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Time between two checks if the kernel cannot report the end, in seconds.
_LOOK_EVERY = 0.5


def when_gone(loop: Any, pid: int, call: Callable[[], object]) -> None:
    """Call `call` once in the loop when this process has ended, or immediately if it has ended already."""

    def end() -> None:
        watcher.stop()
        _watchers.remove(watcher)
        call()

    def look() -> None:
        if gone(pid):
            end()

    try:
        watcher = loop.io(descriptor_of(pid), 1)
    except ProcessLookupError:
        call()
        return
    except (AttributeError, OSError):  # Python or the kernel lacks all of it, or a sandbox forbids it
        watcher = loop.timer(_LOOK_EVERY, _LOOK_EVERY)
        watcher.start(look)
    else:
        watcher.start(end)
    _watchers.append(watcher)


def descriptor_of(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends. Nobody closes it.

    Raises ProcessLookupError if it has ended, and AttributeError and OSError if the system has no such thing.
    """
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    import select

    queue = select.kqueue()  # of macOS and the BSDs; it tells of a zombie, too
    _watchers.append(queue)
    event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    queue.control([event], 0)
    return queue.fileno()


#: Without this reference a watcher would be garbage-collected, which stops it.
_watchers: list[Any] = []


def reap_orphans(loop: Any) -> None:
    """Reap every child that ends. For process 1 only.

    The kernel makes process 1 the parent of every orphan. An orphan that is not reaped remains as a zombie.
    gevent's child watchers still work.
    """
    loop.install_sigchld()
    os.kill(os.getpid(), _signal.SIGCHLD)  # for children that ended before this call


def gone(pid: int) -> bool:
    """Return whether a process has ended. A zombie counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists, and belongs to another user
    try:
        return state_of(str(pid)) in "ZX"
    except OSError:
        return False  # no /proc


def state_of(process: str) -> str:
    """Return the letter of a state in proc(5) of a process, or of a thread (PID/task/TID). Raises OSError."""
    with open(f"/proc/{process}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()[0].decode()
