"""`epmd -check`, what systemd says of the units of an epmd.

Source: systemctl(1), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..process.systemd import is_running
from .evidence import which

NAMES = ("epmd.socket", "epmd.service")
_PROPERTIES = ("Id", "LoadState", "ActiveState", "Result")
_MOST = 1 << 16


class Unit(NamedTuple):
    """A unit: `load` is "loaded", "masked" or "not-found", `active` "active", "inactive", "failed" or so, and
    `result` the reason of a failure."""

    load: str
    active: str
    result: str = ""


def units() -> dict[str, Unit]:
    """Return the units of an epmd that this host has, by name. It has none if systemd does not run."""
    program = which("systemctl") if is_running() else ""
    if not program:
        return {}
    return parsed(_output([program, "show", f"--property={','.join(_PROPERTIES)}", "--", *NAMES]))


def parsed(text: str) -> dict[str, Unit]:
    """Read the output of `systemctl show`."""
    found = {}
    for block in text.split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines())
        if pairs.get("Id") in NAMES and pairs.get("LoadState", "not-found") != "not-found":
            values = (pairs.get(name, "") for name in _PROPERTIES[1:])
            found[pairs["Id"]] = Unit(*values)
    return found


def _output(command: list[str]) -> str:
    """Run a program. The module subprocess is not in the executables."""
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in ((0, nothing), (1, writing), (2, nothing))]
        pid = os.posix_spawn(command[0], command, _environ(), file_actions=actions)
    except OSError:
        os.close(reading)
        return ""
    finally:
        os.close(writing)
        os.close(nothing)
    with open(reading, "rb") as output:
        text = output.read(_MOST)
    os.waitpid(pid, 0)
    return text.decode("utf-8", "replace")


def _environ() -> dict[str, str]:
    """Return the environment for a program of this host, without the libraries of a one-file executable."""
    return {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
