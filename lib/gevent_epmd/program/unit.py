"""Takes over from an epmd that a unit of systemd runs: the nodes go through the unit's descriptor store.

systemd listens on the unit's sockets, and starts another epmd if the main process of the unit ends. So no
other process can take that one's place. Instead it is stopped, and its connections are copied as for any
take-over and put into the unit's descriptor store. Then the unit is restarted, and its next epmd takes them
back.

Invariant: until systemd restarts the unit, the former epmd can go on, with nothing changed.

C's epmd has no counterpart. Source: systemctl(1), sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

import os
import select
from typing import NamedTuple

from ..client import exchange
from ..protocol import names_line
from ..wire import NAMES_REQ
from .process import procfs, store
from .takeover import Former, TakeOver, TakeOverError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..server.inherit import Inheritance

#: Where systemd receives notifications.
_NOTIFY = "/run/systemd/notify"
#: How long systemd may take to receive what is stored, in seconds: the former epmd is stopped meanwhile.
_MOST = 0.5


class _Unit(NamedTuple):
    """What systemd knows of a unit: its main process, how many descriptors it keeps, and what it starts."""

    main: int
    most: int
    program: str


def take_over(former: Former) -> str:
    """Replace the epmd of a unit by the one that the unit starts now, and return a line for the user.

    Raises TakeOverError, OSError or EpmdError. Unless the message says that the unit was restarted, the
    former epmd goes on.
    """
    unit = _unit(former)
    take = TakeOver(former)
    sender = store.Sender(_NOTIFY, for_process=unit.main)
    sender.wait_for(_MOST)
    try:
        left = take.copy()
        _fill(former, unit, sender, left)
        _restart(former, take)
    finally:
        take.abandon()
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
    status, text = _systemctl("show", former.unit, *(f"--property={name}" for name in properties))
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if status or found.keys() != {*properties}:
        raise TakeOverError(f"cannot take over from {former}: systemctl show {former.unit}: {text.strip()}")
    program = found["ExecStart"].partition("path=")[2].partition(" ;")[0]
    unit = _Unit(int(found["MainPID"]), int(found["FileDescriptorStoreMax"]), program)
    if unit.main != former.process.pid:
        reason = f"it is not the main process of {former.unit}"
    elif not unit.most:
        reason = f"{former.unit} has no FileDescriptorStoreMax=: see the operator's guide, Hand over"
    elif not procfs.is_ours(unit.program):
        reason = f"{former.unit} starts another program, {unit.program}: install this one there first"
    else:
        return unit
    raise TakeOverError(f"cannot take over from {former}: {reason}")


def _fill(former: Former, unit: _Unit, sender: store.Sender, left: Inheritance) -> None:
    """Put all connections into the store, or nothing."""
    names: list[str] = []
    try:
        store.fill(sender, left, names)
        _wait_for(sender)
        status, kept = _systemctl("show", former.unit, "--property=NFileDescriptorStore", "--value")
        if status or int(kept) < len(names):
            raise TakeOverError(
                f"cannot take over from {former}: {former.unit} has kept {kept.strip()} of {len(names)} "
                f"descriptors, and its FileDescriptorStoreMax is {unit.most}"
            )
    except BaseException:
        for name in names:
            sender.remove(name)
        raise


def _wait_for(sender: store.Sender) -> None:
    pipe = sender.barrier()
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLHUP)
        if not poll.poll(_MOST * 1000):
            raise TakeOverError("cannot take over: systemd does not receive what is to be stored")
    finally:
        os.close(pipe)


def _restart(former: Former, take: TakeOver) -> None:
    status, text = _systemctl("restart", former.unit)
    if status:
        goes_on = "" if take.former_has_ended() else ", and it goes on"
        raise TakeOverError(
            f"cannot take over from {former}{goes_on}: systemctl restart {former.unit}: {text.strip()}"
        )


def _listing(port: int) -> bytes:
    """Ask the new epmd, which may still be starting, for its nodes."""
    with exchange.Listing(exchange.Target("", port, exchange.TIMEOUT), NAMES_REQ) as listing:
        return exchange.joined(listing.pieces())


def _systemctl(*arguments: str) -> tuple[int, str]:
    """Run systemctl, and return its status and what it has written."""
    ours, theirs = os.pipe()
    # The libraries of the executables are not for other programs.
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    outputs = [(os.POSIX_SPAWN_DUP2, theirs, fd) for fd in (1, 2)]
    with open(ours, "rb") as output:
        try:
            pid = os.posix_spawnp("systemctl", ["systemctl", *arguments], environ, file_actions=outputs)
        finally:
            os.close(theirs)
        text = os.fsdecode(output.read())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text
