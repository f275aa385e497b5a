"""What answers a client at an epmd's port in any way at all."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from support.patience import PATIENCE
from support.peer import RESET


class Hostile:
    """Answers every connection in the same way: `reply` is called with the socket in a thread, and may take
    as long as it likes.  After PATIENCE seconds it must give up, or a client that waits for it hangs."""

    def __init__(self, reply: Callable[[socket.socket, threading.Event], None]) -> None:
        self._reply = reply
        self._done = threading.Event()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._sock.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(PATIENCE)
                    self._reply(connection, self._done)

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sock.shutdown(socket.SHUT_RDWR)  # a close alone does not end an accept
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._sock.close()


def drip(connection: socket.socket, done: threading.Event) -> None:
    end = time.monotonic() + PATIENCE
    while not done.wait(0.01) and time.monotonic() < end:  # the rate
        connection.sendall(b"\0")


#: What comes after the answer, by name.
ENDS: dict[str, Callable[[socket.socket, threading.Event], object]] = {
    "closes": lambda _connection, _done: None,
    "before it is asked": lambda _connection, _done: None,
    "never": lambda _connection, done: done.wait(PATIENCE),
    "drips": drip,
    "reset": lambda connection, _: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET),
}


def playing(pieces: list[bytes], pause: float, end: str) -> Callable[[socket.socket, threading.Event], None]:
    def reply(connection: socket.socket, done: threading.Event) -> None:
        if end != "before it is asked":
            connection.recv(1 << 16)
        for piece in pieces:
            connection.sendall(piece)
            done.wait(pause)
        ENDS[end](connection, done)

    return reply
