"""Many peers at once, spread over the addresses of the loopback so that no port is waited for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from support.forms import Process
from support.patience import PATIENCE
from support.peer import Peer

_HOSTS = 64


def host(number: int) -> str:
    """One of the loopback's addresses, another one each time."""
    return f"127.0.9.{number % _HOSTS + 1}"


def quick(port: int, number: int = 0, patience: float = PATIENCE) -> Peer:
    peer = Peer(port, host(number))
    peer.sock.settimeout(patience)
    return peer


class Crowd:
    """Those who are connected, the first at the left; the server's end may be closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.peers: deque[Peer] = deque()
        self._count = 0

    def join(self, data: bytes = b"", source: str = "") -> None:
        """`source` is the address that it comes from, where that matters."""
        peer = Peer(self._port, source=source) if source else quick(self._port, self._count)
        self.peers.append(peer)
        self._count += 1
        if data:
            peer.send(data)

    def keep(self, count: int) -> None:
        """Close all but the newest so many."""
        while len(self.peers) > count:
            self.peers.popleft().close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(0)


def still_serves(server: Process) -> None:
    """Fails with its last words."""
    status = server.ended()
    assert status is None, f"ended with status {status}: {server.log().strip().splitlines()[-1:]}"


def ticks(seconds: float, every: float) -> Iterator[float]:
    """The time since the beginning, again and again for so long, at this rate."""
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        yield now
        time.sleep(every)  # the rate
