"""Removes the folders that one-file executables of this user could not remove.

A signal in the first milliseconds ends the launcher before it handles signals, and SIGKILL ends it at any
time; its folder stays. The next start that serves calls `sweep`; other starts have no time for it.

Invariants: only folders of this user, that one of our launchers made, which are old and used by no process;
no link is followed.
"""

from __future__ import annotations

import os
import stat
import time

#: The first file that the launcher unpacks (build/epmd.spec). Other programs of PyInstaller have folders of
#: the same names.
MARK = "gevent-epmd.mark"
#: What the names of such folders begin with.
_PREFIX = "_MEI"
#: Then the launcher's process ID in so many digits, and so many letters and digits at random.
_DIGITS, _RANDOM = 8, 6
_HEXADECIMAL = frozenset("0123456789abcdef")
#: In seconds. A launcher unpacks in milliseconds, and its child loads everything within a second. In a
#: container that shares the folder for temporary files, processes of this host cannot be seen.
_OLD = 600


def sweep(own: str) -> None:
    """Remove what is left in the folder for temporary files, where `own` is the folder of this process."""
    parent = os.path.dirname(own)
    try:
        names = os.listdir(parent)
    except OSError:
        return
    left = [folder for name in names if _is_left(name, folder := os.path.join(parent, name))]
    if left:
        used = _used()
        for folder in left:
            if f"{folder}/" not in used:
                _remove(folder)


def _is_left(name: str, folder: str) -> bool:
    launcher = _launcher_of(name)
    if launcher is None or os.path.exists(f"/proc/{launcher}"):
        return False
    try:
        status, mark = os.lstat(folder), os.lstat(os.path.join(folder, MARK))
    except OSError:
        return False
    return _is_ours(status) and status.st_mtime < time.time() - _OLD and stat.S_ISREG(mark.st_mode)


def _launcher_of(name: str) -> int | None:
    """Return the launcher's process ID, or None if none gives a folder this name.

    Without re, whose import would be a twelfth of the time until an epmd serves.
    """
    number, random = name[len(_PREFIX) :][:_DIGITS], name[len(_PREFIX) + _DIGITS :]
    if not name.startswith(_PREFIX) or len(number) != _DIGITS or len(random) != _RANDOM:
        return None
    if not _HEXADECIMAL.issuperset(number) or not (random.isascii() and random.isalnum()):
        return None
    return int(number, 16)


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _used() -> str:
    """Return the paths of all files that processes have loaded or opened, as far as this user may see."""
    texts = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        folder = f"/proc/{process}"
        try:
            with open(f"{folder}/maps") as maps:
                texts.append(maps.read())
            texts += [_link(f"{folder}/fd/{number}") for number in os.listdir(f"{folder}/fd")]
        except (OSError, ValueError):
            pass  # it has ended, or is another user's
    return "\n".join(texts)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # closed meanwhile; the others of the process count


def _remove(folder: str) -> None:
    """Remove the folder by its descriptor: in the meantime, its path may lead elsewhere."""
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if not _is_ours(os.fstat(top)):
                return
            for _, folders, files, here in os.fwalk(".", topdown=False, dir_fd=top):
                # The mark goes last: what is removed in part is found again.
                for name in sorted(files, key=MARK.__eq__):
                    os.unlink(name, dir_fd=here)
                for name in folders:
                    os.rmdir(name, dir_fd=here)
        finally:
            os.close(top)
        os.rmdir(folder)
    except OSError:
        pass
