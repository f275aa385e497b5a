"""Daemons that a test starts: found by the port at which they listen, ended by their process id."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from itertools import islice

from gevent_epmd.program.process.watch import gone
from support.patience import wait_until
from support.peer import ask
from support.ports import answers, listening_inodes, reserved_port
from support.procfs import descriptors, processes
from support.programs import run


def serving_pid(port: int) -> int:
    """The process that listens at this port of 127.0.0.1 or of all addresses."""
    found: list[int] = []
    # The list of a process's descriptors may change while it is read.
    wait_until(lambda: found.extend(islice(listening_at(port), 1)) or found, f"somebody to listen at {port}")
    return found[0]


def listening_at(port: int) -> Iterator[int]:
    """The processes that have a listening socket of this port, those first that were started last."""
    inodes = {f"socket:[{inode}]" for inode in listening_inodes(port)}
    for pid in sorted(processes(), reverse=True):
        with contextlib.suppress(OSError):
            if not inodes.isdisjoint(descriptors(pid).values()):
                yield pid


@contextlib.contextmanager
def daemon(command: list[str], *options: str, **how):
    """A daemon's port and process id; it is ended by its process id."""
    with reserved_port() as port:
        call = run([*command, "-port", str(port), "-daemon", *options], **how)
        assert (call.returncode, call.stdout, call.stderr) == (0, b"", b"")
        wait_until(lambda: answers(port), "the daemon to answer")
        pid = serving_pid(port)
        try:
            yield port, pid
        finally:
            end(port, pid)


def end(port: int, pid: int) -> None:
    with contextlib.suppress(OSError):
        ask(port, b"k")
    with contextlib.suppress(ProcessLookupError):
        if answers(port):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: gone(pid), "the daemon to end")
