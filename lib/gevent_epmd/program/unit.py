"""Takes over from an epmd that a unit of systemd runs: the nodes go through the unit's descriptor store.

systemd listens on the unit's sockets, and starts another epmd if the main process of the unit ends. So no
other process can take that one's place. Instead it is stopped, and its connections are copied as for any
take-over and put into the unit's descriptor store. Then the unit is restarted, and its next epmd takes them
back.

Invariants:
- until systemd restarts the unit, the former epmd can go on, with nothing changed;
- the guard restarts the unit, and empties the store if it does not: this process may be killed at any moment;
- no other unit is restarted or stopped.

C's epmd has no counterpart. Source: systemctl(1), sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

import os
import signal
import time

from ..protocol import names_line
from ..wire import NAMES_REQ
from .process import procfs, store
from .process.systemd import systemctl
from .takeover import Ending, Former, TakeOver, TakeOverError, has_ended, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..server.inherit import Inheritance

#: Where systemd receives notifications.
_NOTIFY = "/run/systemd/notify"
#: How long systemd may take to receive what is stored, in seconds: the former epmd is stopped meanwhile.
_MOST = 0.5
#: Units that require epmd.service, as Debian's ejabberd, are restarted with it by default, and those that are
#: bound to it are stopped. With this mode systemd looks at no other unit. All that the unit needs is there,
#: since it runs.
_ALONE = "--job-mode=ignore-dependencies"
#: How many numbers of entries a second has. A take-over that was killed may have left entries in the store.
#: After a boot it is empty, so the time since then makes new numbers the greatest.
_NUMBERS = 256


class _Restart(Ending):
    """The former epmd ends because its unit is restarted."""

    def __init__(self, former: Former) -> None:
        self._former = former
        #: The names of entries that are not to stay in the store if the former epmd goes on. The guard shares
        #: this file.
        self._names = store.memory_file()
        self.keep = (self._names,)

    def note(self, names: list[str]) -> None:
        """Note that these entries will be in the store."""
        os.write(self._names, "".join(f"{name}\n" for name in names).encode())

    def end(self, pidfd: int) -> str:
        unit = self._former.unit
        status, text = systemctl("restart", _ALONE, unit)
        if not status:
            return ""
        goes_on = "" if has_ended(pidfd) else ", and the former epmd goes on"
        return f"cannot take over{goes_on}: systemctl restart {unit}: {text.strip()}"

    def undo(self) -> None:
        # An entry keeps a connection open that the former epmd closes: its peer would wait for the end.
        sender = store.Sender(_NOTIFY, _MOST, self._former.process.pid)
        size = os.fstat(self._names).st_size
        for name in os.pread(self._names, size, 0).decode().splitlines():
            sender.remove(name)
        sender.close()


def take_over(former: Former) -> str:
    """Replace the epmd of a unit by the one that the unit starts now, and return a line for the user.

    Raises TakeOverError, OSError or EpmdError. Unless the message says that the unit was restarted, the
    former epmd goes on.
    """
    # Or else the kernel reaps systemctl.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    most = _most_stored(former)
    ending = _Restart(former)
    take = TakeOver(former, ending)
    sender = store.Sender(_NOTIFY, _MOST, former.process.pid)
    try:
        left = take.copy()
        _fill(take, former, most, sender, left, ending)
        take.end()
    except BaseException:
        take.abandon()
        # The guard has done so before if this has taken too long, but perhaps not for the last entries.
        ending.undo()
        raise
    finally:
        sender.close()
    # The new epmd may still be starting.
    listed = listing(former.port, NAMES_REQ).split(b"\n")
    missing = [
        node
        for node, sock in left.nodes
        if names_line(node.name, node.port).strip() not in listed and not store.has_ended(sock)
    ]
    if missing:
        lost = f"{len(missing)} of {len(left.nodes)} nodes have to register again"
        raise TakeOverError(f"{former.unit} was restarted, but {lost}")
    return take.told(len(left.nodes), f" by a restart of {former.unit}")


def _most_stored(former: Former) -> int:
    """Return how many descriptors systemd keeps for the unit. Raises TakeOverError if it cannot be used."""
    if os.geteuid():
        raise TakeOverError(f"cannot take over from {former}: only root may restart {former.unit}")
    properties = ("MainPID", "FileDescriptorStoreMax", "ExecStart")
    status, text = systemctl("show", former.unit, *(f"--property={name}" for name in properties))
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if status or found.keys() != {*properties}:
        raise TakeOverError(f"cannot take over from {former}: systemctl show {former.unit}: {text.strip()}")
    program = found["ExecStart"].partition("path=")[2].partition(" ;")[0]
    most = int(found["FileDescriptorStoreMax"])
    if int(found["MainPID"]) != former.process.pid:
        reason = f"it is not the main process of {former.unit}"
    elif not most:
        reason = f"{former.unit} has no FileDescriptorStoreMax=: see the operator's guide, Hand over"
    elif not procfs.version_in(program):
        reason = f"{former.unit} starts another program, {program}: install this one there first"
    else:
        return most
    raise TakeOverError(f"cannot take over from {former}: {reason}")


def _fill(
    take: TakeOver, former: Former, most: int, sender: store.Sender, left: Inheritance, ending: _Restart
) -> None:
    """Put all connections into the store. Raises TakeOverError or OSError if it does not take all."""
    since_boot = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    entries = store.entries(left, first=int(since_boot * _NUMBERS))
    ending.note([entry.name for entry in entries])
    store.fill(sender, entries, left.creation)
    if not sender.is_received(_MOST):
        raise TakeOverError("cannot take over: systemd does not receive what is to be stored")
    status, kept = systemctl("show", former.unit, "--property=NFileDescriptorStore", "--value")
    if status or int(kept) < len(entries):
        take.must_be_stopped()  # or else the guard has emptied the store
        raise TakeOverError(
            f"cannot take over from {former}: {former.unit} has kept {kept.strip()} of {len(entries)} "
            f"descriptors, and its FileDescriptorStoreMax is {most}"
        )
