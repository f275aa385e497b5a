"""A service manager: it starts an epmd on its sockets as systemd does, and keeps what the epmd stores."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

from support.activation import listening
from support.paths import SOURCE
from support.patience import PATIENCE
from support.programs import clean_environment

#: Runs in the child: puts the descriptors where systemd puts them, and says that they are for this process.
_LAUNCHER = """
import fcntl, os, sys
given = list(map(int, sys.argv[1].split(",")))
far = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(given)) for fd in given]
for n, fd in enumerate(far):
    os.dup2(fd, 3 + n)
os.closerange(3 + len(far), max(given + far) + 1)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(far)), "LISTEN_FDNAMES": sys.argv[2]}
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """Has a socket to listen on, and a descriptor store; `store` has its entries by their names.

    Whoever holds `lock` makes it slow: it receives nothing meanwhile.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        self.store: dict[str, list[int]] = {}
        self.tags: list[str] = []
        self.sock = listening("127.0.0.1")
        self.port: int = self.sock.getsockname()[1]
        self.log = folder / "log"
        self._path = folder / "notify"
        self._environ = environ
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(self._path))
        self._ends, self._end = os.pipe()
        self.lock = threading.Lock()
        self._receiver = threading.Thread(target=self._receive_all)
        self._receiver.start()

    def start(self, *options: str, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        with self.lock:
            stored = [(name, fd) for name, fds in self.store.items() for fd in fds]
        fds = [self.sock.fileno(), *(fd for _, fd in stored)]
        names = ["epmd.socket", *(name for name, _ in stored)]
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, ",".join(map(str, fds)), ":".join(names)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*launcher, *(command or SOURCE), "-systemd", *options],
                env=clean_environment(NOTIFY_SOCKET=str(self._path), **self._environ),
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def entries(self, kind: str = "epmd/node.") -> list[str]:
        """The names of the entries that begin so."""
        with self.lock:
            return [name for name in self.store if name.startswith(kind)]

    def _receive_all(self) -> None:
        while self._ends not in select.select([self._notified, self._ends], [], [])[0]:
            text, ancillary, _, _ = self._notified.recvmsg(65536, socket.CMSG_SPACE(64))
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data)
            with self.lock:
                self._receive(dict(line.split("=", 1) for line in text.decode().splitlines()), list(fds))

    def _receive(self, told: dict[str, str], fds: list[int]) -> None:
        self.tags += told
        if "FDSTORE" in told:
            self.store.setdefault(told["FDNAME"], []).extend(fds)
        elif "FDSTOREREMOVE" in told:
            for fd in self.store.pop(told["FDNAME"], []):
                os.close(fd)
        else:
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        os.write(self._end, b".")
        self._receiver.join(PATIENCE)
        for fd in [self._ends, self._end, *(fd for fds in self.store.values() for fd in fds)]:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._notified.close()
        self.sock.close()
