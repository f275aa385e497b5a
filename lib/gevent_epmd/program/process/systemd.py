"""Takes the descriptors that systemd passes, and notifies systemd: sd_listen_fds(3) and sd_notify(3).

C's counterpart: the code for HAVE_SYSTEMD_DAEMON in run() of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import os
import struct
from collections.abc import Mapping, MutableMapping
from itertools import zip_longest

from ...conventions import MAX_LISTEN_SOCKETS
from ...records import NamedTuple
from ...server.listeners import ListenError
from .. import is_one_file

FIRST_DESCRIPTOR = 3
_FAMILIES = (_socket.AF_INET, _socket.AF_INET6)

#: How the names of descriptors begin that an epmd has put into the descriptor store of its unit. Sockets have
#: the names of their units, which contain no slash.
STORED = "epmd/"
#: Only Linux has it, and systemd.
SCM_CREDENTIALS: int = getattr(_socket, "SCM_CREDENTIALS", 2)


class Stored(NamedTuple):
    """A descriptor from the unit's descriptor store, and its name there."""

    name: str
    descriptor: int


def descriptors(environ: Mapping[str, str]) -> range:
    """Return the descriptors that systemd passed to this very process: of too many, one more than allowed."""
    count = environ.get("LISTEN_FDS", "")
    if not _for_us(environ) or not count.isdecimal() or len(count) > 9:
        return range(0)
    most = MAX_LISTEN_SOCKETS + 1 + sum(name.startswith(STORED) for name in _names(environ))
    return range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(int(count), most))


def _names(environ: Mapping[str, str]) -> list[str]:
    return environ.get("LISTEN_FDNAMES", "").split(":")


def _for_us(environ: Mapping[str, str]) -> bool:
    if is_one_file():
        # The launcher overwrites LISTEN_PID, even if the sockets were meant for another process.
        parent = os.getppid()
        try:
            with open(f"/proc/{parent}/environ", "rb") as started_with:
                return b"LISTEN_PID=%d" % parent in started_with.read().split(b"\0")
        except OSError:
            return False
    return environ.get("LISTEN_PID") == str(os.getpid())


def is_running() -> bool:
    """Return whether systemd is the init system of this host. Source: sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def systemctl(*arguments: str) -> tuple[int, str]:
    """Run systemctl, and return its status and what it has written. Raises OSError if it cannot be run.

    The module subprocess is not in the executables.
    """
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


def passes_port(environ: Mapping[str, str], port: int) -> bool:
    """Return whether systemd passed a socket that listens on this TCP port to this very process."""
    return any(_port(descriptor) == port for descriptor in descriptors(environ)[: MAX_LISTEN_SOCKETS + 1])


def _port(descriptor: int) -> int | None:
    try:
        sock = _socket.socket(fileno=descriptor)
    except OSError:
        return None  # not a socket
    try:
        return sock.getsockname()[1] if sock.family in _FAMILIES else None
    finally:
        sock.detach()


def take_descriptors(environ: MutableMapping[str, str]) -> tuple[list[_socket.socket], list[Stored]]:
    """Return the listening sockets that systemd passed, and what an epmd before this one has stored.

    Call this before the process forks. It removes the variables, and keeps the descriptors from being
    inherited by other programs. Raises ListenError if there are no sockets, too many, or one of another kind.
    """
    passed = []
    stored = []
    # Without names, all are sockets to listen on.
    for descriptor, name in zip_longest(descriptors(environ), _names(environ), fillvalue=""):
        if isinstance(descriptor, int) and name.startswith(STORED):
            os.set_inheritable(descriptor, False)
            stored.append(Stored(name, descriptor))
        elif isinstance(descriptor, int):
            passed.append(descriptor)
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(variable, None)
    if not passed:
        raise ListenError("systemd provides no sockets")
    if len(passed) > MAX_LISTEN_SOCKETS:
        raise ListenError(f"cannot listen on more than {MAX_LISTEN_SOCKETS} IP addresses")
    return [_adopt(descriptor) for descriptor in passed], stored


def _adopt(descriptor: int) -> _socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = _socket.socket(fileno=descriptor)
        listening = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"cannot obtain sockets from systemd: {error.strerror}") from None
    if not listening or sock.family not in _FAMILIES:
        raise ListenError(f"descriptor {descriptor} from systemd is not a listening TCP socket")
    sock.setblocking(False)
    return sock


def notify_ready(environ: MutableMapping[str, str], launcher: int | None) -> bool:
    """Tell systemd that requests are answered, and the process ID of the server. Removes the variable.

    `launcher` is the process ID of the launcher of the one-file executable, which systemd takes for the main
    process. Does nothing if systemd does not wait for a notification. Returns False if systemd accepts it
    only from a unit with NotifyAccess=all, which this process cannot find out.
    """
    path = environ.pop("NOTIFY_SOCKET", "")
    if not path:
        return True
    address = address_of(path)
    text = f"READY=1\nSTATUS=Processing port mapping requests...\nMAINPID={os.getpid()}".encode()
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        if launcher is not None and _send_for(launcher, sock, text, address):
            return True
        try:
            sock.sendto(text, address)
        except OSError:
            return True  # nothing listens there; continue to serve, as callers of sd_notify do
    finally:
        sock.close()
    return launcher is None


def address_of(path: str) -> str:
    """Return the address of NOTIFY_SOCKET: a path that starts with @ is in the abstract namespace."""
    return "\0" + path[1:] if path.startswith("@") else path


def _send_for(pid: int, sock: _socket.socket, text: bytes, address: str) -> bool:
    """Send a notification as if another process sent it. Returns False if not permitted, as to users."""
    credentials = struct.pack("3i", pid, os.geteuid(), os.getegid())
    try:
        sock.sendmsg([text], [(_socket.SOL_SOCKET, SCM_CREDENTIALS, credentials)], 0, address)
    except OSError:
        return False
    return True
