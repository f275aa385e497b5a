"""Handles the launcher of the one-file executable: the parent process, which unpacked the folder and waits.

If the launcher is killed, it can neither end its child nor remove the folder. This module makes the child do
both. build/hooks/early.py imports it before the command line is read, so that this works from the start.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import posix  # not os, see `program.environment`
import sys

from ..process import at_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: The process ID of the parent when this process started.
pid = posix.getppid()
#: The process ID of this process. A forked child has another one, and no launcher.
_child = posix.getpid()

#: Time between two checks whether the launcher is running, in seconds.
_LOOK_EVERY = 0.1


def watch() -> None:
    """End this process soon after its launcher has ended, even during a blocking call. `forget` stops this.

    A forked child is not affected. PR_SET_PDEATHSIG, which is faster, would need ctypes.
    """
    if not _is_launcher():
        end()
    _signal.signal(_signal.SIGALRM, _look)
    _signal.setitimer(_signal.ITIMER_REAL, _LOOK_EVERY, _LOOK_EVERY)


def forget() -> None:
    """Stop watching the launcher, and reset SIGALRM."""
    if _signal.getsignal(_signal.SIGALRM) is _look:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)


def _look(_number: int, _frame: object) -> None:
    if posix.getppid() != pid:
        end()


def tidy_up() -> None:
    """Remove the folder if the launcher was killed after the last check of `watch`."""
    if posix.getpid() == _child and posix.getppid() != pid:
        _remove_folder()


def end() -> NoReturn:
    """Do what the launcher would have done: clean up, remove the folder, and exit with status 1."""
    # The next look would come in between if this takes longer.
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    at_end.run()
    _remove_folder()
    posix._exit(1)


def _remove_folder() -> None:
    empty()
    try:
        posix.rmdir(sys._MEIPASS)  # type: ignore[attr-defined]
    except OSError:
        pass  # the launcher is running and removes it


def empty(folder: str = "") -> None:
    """Remove everything in a folder, or else in the one that was unpacked, but not the folder itself."""
    folder = folder or sys._MEIPASS  # type: ignore[attr-defined]
    try:
        for entry in [*posix.scandir(folder)]:
            if entry.is_dir(follow_symlinks=False):
                empty(entry.path)
                posix.rmdir(entry.path)
            else:
                posix.unlink(entry.path)
    except OSError:
        pass  # the launcher is removing the folder at the same time, and removes the rest


def _is_launcher() -> bool:
    """Return whether the parent process is the launcher, which passes its own command line to its child.

    If the launcher is killed before this process reads its parent's ID, the parent is /sbin/init, for
    example, whose /proc/PID/exe an ordinary user may not read.
    """
    try:
        # /proc may belong to another PID namespace. The parent's ID is then another process there.
        if posix.readlink("/proc/self") != str(posix.getpid()):
            return True
        own = _command_line("self")
        if own == _command_line(str(pid)):
            return True
        # An emulator (qemu-user) hides itself from a program's look at its own command line, but only there.
        return own != _command_line(f"self/task/{posix.getpid()}")
    except OSError:
        return True  # there is no /proc, or it hides processes: assume that nothing is wrong


def _command_line(process: str) -> bytes:
    with open(f"/proc/{process}/cmdline", "rb") as file:
        return file.read()
