"""A syslog of the test's own, as /dev/log of a mount namespace of its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

PRIVATE_DEV = """
mkdir "$1/dev" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs /dev || exit 77
for name in null zero full random urandom tty; do
    touch /dev/$name && mount --bind "$1/dev/$name" /dev/$name
done
ln -s /proc/self/fd /dev/fd
ln -s "$1/log" /dev/log
shift
exec "$@"
"""


def received(sock: socket.socket) -> Iterator[bytes]:
    """What has come and was not read; the socket no longer blocks."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(4096)
