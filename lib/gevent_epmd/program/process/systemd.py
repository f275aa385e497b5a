"""Takes the descriptors that systemd passes, and notifies systemd: sd_listen_fds(3) and sd_notify(3).

C's counterpart: the code for HAVE_SYSTEMD_DAEMON in run() of epmd_srv.c.
"""

from __future__ import annotations

import _socket
import os
import struct
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import zip_longest

from ...conventions import MAX_LISTEN_SOCKETS
from ...server.listeners import ListenError
from .. import is_one_file

FIRST_DESCRIPTOR = 3
_FAMILIES = (_socket.AF_INET, _socket.AF_INET6)

#: How the names of descriptors begin that an epmd has put into the descriptor store of its unit. Sockets have
#: the names of their units, which contain no slash.
STORED = "epmd/"
#: Linux has both, and systemd too.
_SCM_RIGHTS: int = getattr(_socket, "SCM_RIGHTS", 1)
_SCM_CREDENTIALS: int = getattr(_socket, "SCM_CREDENTIALS", 2)

#: The name of a descriptor in the unit's descriptor store, and the descriptor.
Stored = tuple[str, int]


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
    for descriptor in descriptors(environ)[: MAX_LISTEN_SOCKETS + 1]:
        try:
            sock = _socket.socket(fileno=descriptor)
        except OSError:
            continue  # not a socket
        try:
            if sock.family in _FAMILIES and sock.getsockname()[1] == port:
                return True
        finally:
            sock.detach()
    return False


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
            stored.append((name, descriptor))
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
    text = f"READY=1\nSTATUS=Processing port mapping requests...\nMAINPID={os.getpid()}"
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        if launcher is not None:
            try:
                send(sock, text, address_of(path), launcher)
            except OSError:
                pass  # it is not permitted, as to users
            else:
                return True
        send(sock, text, address_of(path))
    except OSError:
        return True  # nothing listens there; continue to serve, as callers of sd_notify do
    finally:
        sock.close()
    return launcher is None


def address_of(path: str) -> str:
    """Return the address of NOTIFY_SOCKET: a path that starts with @ is in the abstract namespace."""
    return "\0" + path[1:] if path.startswith("@") else path


def send(
    sock: _socket.socket,
    text: str,
    address: str,
    for_process: int | None = None,
    descriptors: Sequence[int] = (),
) -> None:
    """Send a notification, with these descriptors, and as if another process sent it. Raises OSError."""
    ancillary: list[tuple[int, int, bytes]] = []
    if descriptors:
        packed = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary.append((_socket.SOL_SOCKET, _SCM_RIGHTS, packed))
    if for_process is not None:
        credentials = struct.pack("3i", for_process, os.geteuid(), os.getegid())
        ancillary.append((_socket.SOL_SOCKET, _SCM_CREDENTIALS, credentials))
    sock.sendmsg([text.encode()], ancillary, 0, address)
