"""What systemd hands over and wants to hear: sd_listen_fds(3) and sd_notify(3)."""

from __future__ import annotations

import _socket
import os
from collections.abc import Mapping, MutableMapping
from contextlib import closing

from ..conventions import MAX_LISTEN_SOCKETS
from ..server.listeners import ListenError
from . import bundle, is_one_file

FIRST_DESCRIPTOR = 3


def descriptors(environ: Mapping[str, str]) -> range:
    """The descriptors that were handed to this very process; where they are too many, one too many."""
    count = environ.get("LISTEN_FDS", "")
    if not _for_us(environ) or not count.isdecimal() or len(count) > 9:
        return range(0)
    return range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(int(count), MAX_LISTEN_SOCKETS + 1))


def _for_us(environ: Mapping[str, str]) -> bool:
    if is_one_file():
        # The launcher writes its child's number over LISTEN_PID, whomever the sockets were meant for.
        return bundle.launcher_environ().get("LISTEN_PID") == str(os.getppid())
    return environ.get("LISTEN_PID") == str(os.getpid())


def take_sockets(environ: MutableMapping[str, str]) -> list[_socket.socket]:
    """The listening sockets that were handed to this very process, ready to be served.

    To be called before anything forks.  The variables are removed, and the descriptors do not
    reach another program.  Raises ListenError where there are none, too many, or others than
    listening TCP sockets.
    """
    passed = descriptors(environ)
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(variable, None)
    if not passed:
        raise ListenError("systemd provides no sockets")
    if len(passed) > MAX_LISTEN_SOCKETS:
        raise ListenError(f"cannot listen on more than {MAX_LISTEN_SOCKETS} IP addresses")
    return [_adopt(descriptor) for descriptor in passed]


def _adopt(descriptor: int) -> _socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = _socket.socket(fileno=descriptor)
        listening = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"cannot obtain sockets from systemd: {error.strerror}") from None
    if not listening or sock.family not in (_socket.AF_INET, _socket.AF_INET6):
        raise ListenError(f"descriptor {descriptor} from systemd is no listening TCP socket")
    sock.setblocking(False)
    return sock


def notify_ready(environ: MutableMapping[str, str]) -> None:
    """Tell systemd, if it wants to know, that requests are answered and by which process.  The variable is
    removed."""
    path = environ.pop("NOTIFY_SOCKET", "")
    if not path:
        return
    # A name that starts with @ is in the abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    text = f"READY=1\nSTATUS=Processing port mapping requests...\nMAINPID={os.getpid()}"
    with closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)) as sock:
        try:
            sock.sendto(text.encode(), address)
        except OSError:
            pass  # nobody listens there: serving goes on, as sd_notify's callers do
