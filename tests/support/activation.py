"""Socket activation as systemd does it: listening sockets that are handed to a program."""

from __future__ import annotations

import socket
import sys

from support.forms import Source
from support.paths import SOURCE

#: Runs in the child: puts the descriptors where systemd puts them, and says that they are for this pid.
LAUNCHER = """
import os, sys
far = [os.dup2(int(fd), 100 + n, inheritable=False) for n, fd in enumerate(sys.argv[1].split(","))]
for n, fd in enumerate(far):
    os.dup2(fd, 3 + n)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(far))}
os.execv(sys.argv[2], sys.argv[2:])
"""


def launched(command: list[str], sockets: list) -> list[str]:
    """The command, begun as systemd would; the sockets must be passed to it."""
    descriptors = ",".join(str(sock.fileno()) for sock in sockets)
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, descriptors, *command]


def listening(host: str, port: int = 0, *, dual: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    sock.bind((host, port))
    sock.listen()
    return sock


class DualStack(Source):
    """From source, on one socket of both families that a systemd unit would make."""

    def _start(self, options: list[str], environ: dict[str, str]) -> None:
        self._sock = listening("::", self.port, dual=True)
        self.command = launched(SOURCE, [self._sock])
        self.descriptors = (self._sock.fileno(),)
        super()._start(options, environ)

    def _close(self) -> None:
        super()._close()
        self._sock.close()
