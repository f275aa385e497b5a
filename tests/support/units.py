"""Units for a systemd of a test's own, which runs a script and ends with its status."""

from __future__ import annotations

from support.patience import LONG

#: What the units of epmd lean on, and otherwise brings the host's own units with it.
TARGETS = ("sysinit", "basic", "sockets", "shutdown", "network", "multi-user")
TARGET = "[Unit]\nDefaultDependencies=no\n"

_CHECK = """\
[Unit]
DefaultDependencies=no
Wants={wants}
After={wants}
SuccessAction=exit-force
FailureAction=exit-force
FailureActionExitStatus=9

[Service]
Type=oneshot
ExecStart=/bin/bash -e -x {script}
StandardOutput=file:{said}
StandardError=file:{said}
TimeoutStartSec={limit}
"""


def check_service(script: str, said: str, wants: str = "epmd.socket") -> str:
    """Return a unit that runs a bash script after the unit `wants`, with its output in the file `said`."""
    return _CHECK.format(script=script, said=said, wants=wants, limit=round(LONG))


def complaints(said: str) -> list[str]:
    """The lines of `systemd-analyze verify`, without that on a key which systemd knows since version 254."""
    return [line for line in said.splitlines() if "'RestartMode'" not in line]
