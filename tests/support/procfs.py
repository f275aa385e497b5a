"""What /proc tells of processes: their state, children, descriptors and command lines."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path


def state(pid: int) -> str:
    """The letter of the process's state; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def serving(process: subprocess.Popen) -> int:
    """The process that serves: the launcher's child where there is a launcher."""
    return next(iter(children(process.pid)), process.pid)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descriptors(pid: int) -> dict[int, str]:
    """What each descriptor of a process is, but for those that it closes meanwhile."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def processes_at(port: int) -> list[int]:
    """All that have `-port PORT` in their command line, whatever their session and their parent.

    In another network namespace, as boxes have them, the number is another port's.
    """
    at, here = f"\0-port\0{port}\0".encode(), network_of("self")
    for _ in range(2):
        # A process that forks and ends while the list is read is in it, and its child is not.
        found = [pid for pid in processes() if at in command_line(pid) and network_of(pid) in (here, "")]
        if found:
            break
    return found


def network_of(pid: int | str) -> str:
    """Its network namespace; nothing of a process that has ended, or is another user's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def processes() -> list[int]:
    # Without Path, which takes twice the time: who waits for the end of a process looks again and again.
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def command_line(pid: int) -> bytes:
    """The words, each with a NUL after it; nothing of a process that has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
