"""What may be at an epmd's port and is no epmd: for any number of connections, until it is closed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from support.patience import PATIENCE, wait_until


class Stranger:
    """Listens at `port` of 127.0.0.1 and says nothing."""

    says = b""

    def __init__(self, port: int = 0) -> None:
        self._sock = socket.socket()
        self._listen(port)
        self.port: int = self._sock.getsockname()[1]
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _listen(self, port: int) -> None:
        self._sock.bind(("127.0.0.1", port))
        self._sock.listen(socket.SOMAXCONN)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._sock.accept()
                self._threads.append(threading.Thread(target=self._serve, args=[connection], daemon=True))
                self._threads[-1].start()

    def wait_for_a_connection(self) -> None:
        wait_until(lambda: len(self._threads) > 1, "a connection")

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            self._answer(connection)

    def _answer(self, _connection: socket.socket) -> None:
        self._done.wait()

    def close(self) -> None:
        self._done.set()
        # A thread that accepts is not woken by a close.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Mute(Stranger):
    pass


class Dripping(Stranger):
    """Sends the reply of an epmd, a byte a second, and never comes to its end."""

    def _answer(self, connection: socket.socket) -> None:
        for byte in self._reply():
            connection.sendall(bytes((byte,)))
            if self._done.wait(1):  # the rate
                return

    def _reply(self) -> Iterator[int]:
        yield from b"\0\0\x11\x11"
        while True:
            yield from b"name foo at port 4711\n"


class Endless(Stranger):
    """Sends the reply of an epmd as fast as it can, and never comes to its end."""

    def _answer(self, connection: socket.socket) -> None:
        connection.sendall(b"\0\0\x11\x11")
        while not self._done.is_set():
            connection.sendall(b"name foo at port 4711\n" * 3000)


class Http(Stranger):
    def _answer(self, connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


class ClosesAtOnce(Stranger):
    def _answer(self, _connection: socket.socket) -> None:
        pass


class BoundOnly(Stranger):
    """Is bound to the port and does not listen."""

    def _listen(self, port: int) -> None:
        self._sock.bind(("127.0.0.1", port))

    def _accept(self) -> None:
        pass


STRANGERS: tuple[type[Stranger], ...] = (Mute, Http, ClosesAtOnce, BoundOnly)


class Odd:
    """Something at an epmd's port that is no epmd: it reads a request, says this, and closes."""

    def __init__(self, says: bytes, *, reset: bool = False) -> None:
        self._says, self._reset = says, reset
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._sock.accept()
        with connection:
            connection.recv(1 if self._reset else 100)
            connection.sendall(self._says)

    def __enter__(self) -> Odd:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        self._sock.close()
