"""`epmd -check`, what systemd says of the units of an epmd.

Source: systemctl(1), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from typing import NamedTuple

from ..process.systemd import is_running, systemctl

NAMES = ("epmd.socket", "epmd.service")
_PROPERTIES = ("Id", "LoadState", "ActiveState", "Result")


class Unit(NamedTuple):
    """A unit: `load` is "loaded", "masked" or "not-found", `active` "active", "inactive", "failed" or so, and
    `result` the reason of a failure."""

    load: str
    active: str
    result: str = ""


def units() -> dict[str, Unit]:
    """Return the units of an epmd that this host has, by name. It has none if systemd does not run."""
    if not is_running():
        return {}
    try:
        _, text = systemctl("show", f"--property={','.join(_PROPERTIES)}", "--", *NAMES)
    except OSError:
        return {}
    found = {}
    for block in text.split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines())
        if pairs.get("Id") in NAMES and pairs.get("LoadState", "not-found") != "not-found":
            found[pairs["Id"]] = Unit(*(pairs.get(name, "") for name in _PROPERTIES[1:]))
    return found
