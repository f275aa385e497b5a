"""The launcher of the single executable: it has unpacked the folder, and waits for this process, its child.

Where it is killed, nobody ends its child and nobody removes the folder, so the child sees to both, from its
very first lines on: build/hooks/one_file.py imports this before anything else.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import os
import sys

from . import at_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Whose child this process was when it began.
pid = os.getppid()
#: This process: those that it forks have no launcher.
_child = os.getpid()

#: How often to look whether it lives, in seconds.
_LOOK_EVERY = 0.1


def watch() -> None:
    """End this process when its launcher has ended, whatever it waits for, until `forget` is called.  A
    process that it forks is not ended.

    The kernel could tell at once (PR_SET_PDEATHSIG), but Python cannot ask it without ctypes."""
    if not _is_launcher():
        end()
    _signal.signal(_signal.SIGALRM, _look)
    _signal.setitimer(_signal.ITIMER_REAL, _LOOK_EVERY, _LOOK_EVERY)


def forget() -> None:
    """Somebody else looks, or nobody needs to; SIGALRM is what it was."""
    if _signal.getsignal(_signal.SIGALRM) is _look:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)


def _look(_number: int, _frame: object) -> None:
    if os.getppid() != pid:
        end()


def tidy_up() -> None:
    """To be called at the end: remove the folder if the launcher was killed since `watch` looked last."""
    if os.getpid() == _child and os.getppid() != pid:
        _remove_folder()


def end() -> NoReturn:
    """In the place of the launcher: remove the folder, and end."""
    at_end.run()
    _remove_folder()
    os._exit(1)


def _remove_folder() -> None:
    folder: str = sys._MEIPASS  # type: ignore[attr-defined]
    empty(folder)
    try:
        os.rmdir(folder)
    except OSError:
        pass  # a launcher that was not killed removes it


def empty(folder: str) -> None:
    """Remove everything in a folder."""
    try:
        for path, folders, files in os.walk(folder, topdown=False):
            for name in files:
                os.unlink(os.path.join(path, name))
            for name in folders:
                os.rmdir(os.path.join(path, name))
    except OSError:
        pass  # somebody cleans up there too; what is left is the launcher's to remove


def _is_launcher() -> bool:
    """Whether the parent is the launcher: it hands its own command line on.  Where it was killed before this
    process could ask for its number, the parent is another program, /sbin/init for one.

    /proc/PID/exe would say it too, but an ordinary user may read that of their own processes only."""
    try:
        # In a process namespace with the /proc of another one, the number is somebody else's there.
        if os.readlink("/proc/self") != str(os.getpid()):
            return True
        own = _command_line("self")
        if own == _command_line(str(pid)):
            return True
        # An emulator (qemu-user) hides itself from a program's look at its own command line, but only there.
        return own != _command_line(f"self/task/{os.getpid()}")
    except OSError:
        return True  # no /proc, or one that hides processes: it cannot be told


def _command_line(process: str) -> bytes:
    with open(f"/proc/{process}/cmdline", "rb") as file:
        return file.read()
