"""Signals end it, cleanly and at once, in a container too; or, to a daemon, do nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

from soak.play import Figures, Form, Scale, scene
from support.patience import wait_until
from support.peer import node, register
from support.ports import answers, reserved_port
from support.procfs import serving
from support.programs import clean_environment, real

#: The promise of how long an end takes, in seconds.
_AT_ONCE = 3.0


@scene("TERM and INT, in the foreground")
def signals(form: Form, scale: Scale) -> Figures:
    figures: Figures = {}
    for name in ("SIGTERM", "SIGINT"):
        with form() as server:
            holder, _ = register(server.port, node("foo"))
            start = time.monotonic()
            server.process.send_signal(signal.Signals[name])
            assert holder.read_all() == b""
            status = server.process.wait(scale.promised(_AT_ONCE))
            assert status == -signal.Signals[name], f"{name}: status {status}"
            assert_free(server.port)
            figures[f"{name}, s"] = round(time.monotonic() - start, 2)
            holder.close()
    return figures


def assert_free(port: int) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()


@scene("TERM and INT as process 1 of a container")
def signals_to_process_1(form: Form, scale: Scale) -> Figures:
    figures: Figures = {}
    for name in ("SIGTERM", "SIGINT"):
        start, status = end_in_a_container(form, signal.Signals[name], scale)
        expected = 128 + signal.Signals[name]
        assert status == expected, f"{name}: " + ("ignored" if status is None else f"status {status}")
        figures[f"{name}, s"] = round(time.monotonic() - start, 2)
    return figures


def end_in_a_container(form: Form, number: int, scale: Scale) -> tuple[float, int | None]:
    """When the signal was sent, and the exit status as a shell's; None if it did not end."""
    command = [real("unshare"), "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with reserved_port() as port:
        unshare = subprocess.Popen(
            [*command, *form.command, "-port", str(port)],
            env=clean_environment(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(lambda: answers(port), "it to answer")
            start = time.monotonic()
            os.kill(serving(unshare), number)
            try:
                status = unshare.wait(scale.promised(_AT_ONCE))
                return start, status if status >= 0 else 128 - status
            except subprocess.TimeoutExpired:
                return start, None
        finally:
            # Process 1 goes with it, and everybody in the container with process 1.
            unshare.kill()
            unshare.wait()
            wait_until(lambda: not answers(port), "the container to be gone")
