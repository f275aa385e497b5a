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
import select
import signal
import time
from typing import NamedTuple

from ..client import exchange
from ..protocol import names_line
from ..wire import NAMES_REQ
from .process import procfs, store
from .process.systemd import systemctl
from .takeover import Ending, Former, TakeOver, TakeOverError, has_ended

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


class _Unit(NamedTuple):
    """What systemd knows of a unit: its main process, how many descriptors it keeps, and what it starts."""

    main: int
    most: int
    program: str


class _Restart(Ending):
    """The former epmd ends because its unit is restarted."""

    def __init__(self, unit: str, main: int) -> None:
        self._unit = unit
        self._main = main
        #: The names of entries that are not to stay in the store if the former epmd goes on. The guard shares
        #: this file.
        self._names = store.memory_file()
        self.keep = (self._names,)

    def note(self, names: list[str]) -> None:
        """Note that these entries will be in the store."""
        os.write(self._names, "".join(f"{name}\n" for name in names).encode())

    def end(self, pidfd: int) -> str:
        status, text = systemctl("restart", _ALONE, self._unit)
        if not status:
            return ""
        goes_on = "" if has_ended(pidfd) else ", and the former epmd goes on"
        return f"cannot take over{goes_on}: systemctl restart {self._unit}: {text.strip()}"

    def undo(self) -> None:
        # An entry keeps a connection open that the former epmd closes: its peer would wait for the end.
        sender = store.Sender(_NOTIFY, for_process=self._main)
        sender.wait_for(_MOST)
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
    unit = _unit(former)
    ending = _Restart(former.unit, unit.main)
    take = TakeOver(former, ending=ending)
    sender = store.Sender(_NOTIFY, for_process=unit.main)
    sender.wait_for(_MOST)
    try:
        left = take.copy()
        _fill(former, unit, sender, left, ending)
        take.end()
    except BaseException:
        take.abandon()
        # The guard has done so before if this has taken too long, but perhaps not for the last entries.
        ending.undo()
        raise
    finally:
        sender.close()
    listed = _listing(former.port).split(b"\n")
    missing = [
        node
        for node, sock in left.nodes
        if names_line(node.name, node.port).strip() not in listed and not store.has_ended(sock)
    ]
    if missing:
        lost = f"{len(missing)} of {len(left.nodes)} nodes have to register again"
        raise TakeOverError(f"{former.unit} was restarted, but {lost}")
    return take.told(len(left.nodes), f" by a restart of {former.unit}")


def _unit(former: Former) -> _Unit:
    """Return what is to be known of the unit. Raises TakeOverError if it cannot be used."""
    if os.geteuid():
        raise TakeOverError(f"cannot take over from {former}: only root may restart {former.unit}")
    properties = ("MainPID", "FileDescriptorStoreMax", "ExecStart")
    status, text = systemctl("show", former.unit, *(f"--property={name}" for name in properties))
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if status or found.keys() != {*properties}:
        raise TakeOverError(f"cannot take over from {former}: systemctl show {former.unit}: {text.strip()}")
    program = found["ExecStart"].partition("path=")[2].partition(" ;")[0]
    unit = _Unit(int(found["MainPID"]), int(found["FileDescriptorStoreMax"]), program)
    if unit.main != former.process.pid:
        reason = f"it is not the main process of {former.unit}"
    elif not unit.most:
        reason = f"{former.unit} has no FileDescriptorStoreMax=: see the operator's guide, Hand over"
    elif not procfs.version_in(unit.program):
        reason = f"{former.unit} starts another program, {unit.program}: install this one there first"
    else:
        return unit
    raise TakeOverError(f"cannot take over from {former}: {reason}")


def _fill(former: Former, unit: _Unit, sender: store.Sender, left: Inheritance, ending: _Restart) -> None:
    """Put all connections into the store. Raises TakeOverError or OSError if it does not take all."""
    since_boot = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    entries = store.entries(left, first=int(since_boot * _NUMBERS))
    ending.note([entry.name for entry in entries])
    store.fill(sender, entries, left.creation)
    _wait_for(sender)
    status, kept = systemctl("show", former.unit, "--property=NFileDescriptorStore", "--value")
    if status or int(kept) < len(entries):
        raise TakeOverError(
            f"cannot take over from {former}: {former.unit} has kept {kept.strip()} of {len(entries)} "
            f"descriptors, and its FileDescriptorStoreMax is {unit.most}"
        )


def _wait_for(sender: store.Sender) -> None:
    pipe = sender.barrier()
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLHUP)
        if not poll.poll(_MOST * 1000):
            raise TakeOverError("cannot take over: systemd does not receive what is to be stored")
    finally:
        os.close(pipe)


def _listing(port: int) -> bytes:
    """Ask the new epmd, which may still be starting, for its nodes."""
    with exchange.Listing(exchange.Target("", port, exchange.TIMEOUT), NAMES_REQ) as listing:
        return exchange.joined(listing.pieces())
