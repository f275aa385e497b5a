"""What a systemd of a test's own needs: units, of which one runs a script, and a cgroup."""

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

_IN_OWN_CGROUP = """\
group=/sys/fs/cgroup/test-$(cat /proc/sys/kernel/random/uuid)
mkdir "$group"
echo $$ >"$group/cgroup.procs"
status=0
COMMAND || status=$?
echo $$ >/sys/fs/cgroup/cgroup.procs
until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.1; done
exit $status
"""


def in_own_cgroup(command: str) -> str:
    """Return a script of sh that runs a command in a cgroup of its own, where /sys/fs/cgroup is a cgroup2.

    Systemds that run at the same time in one cgroup find each other's processes in their units.
    """
    return _IN_OWN_CGROUP.replace("COMMAND", command)


def check_service(script: str, said: str, wants: str = "epmd.socket") -> str:
    """Return a unit that runs a bash script after the unit `wants`, with its output in the file `said`."""
    return _CHECK.format(script=script, said=said, wants=wants, limit=round(LONG))


def complaints(said: str) -> list[str]:
    """The lines of `systemd-analyze verify`, without that on a key which systemd knows since version 254."""
    return [line for line in said.splitlines() if "'RestartMode'" not in line]
