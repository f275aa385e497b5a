"""Orphans of others, under an epmd that is process 1 of a process namespace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile

from support.patience import IN_VAIN, PATIENCE, wait_until
from support.peer import barrier
from support.ports import answers, reserved_port
from support.procfs import children, command_line, state
from support.programs import clean_environment, real, run


def zombies_under_process_1(form) -> int:
    """How many of 7 orphans of others it leaves: one ended before it served, the others come later."""
    unshare = [real("unshare"), "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    # The shell's child is the child of what takes its place.
    before = ["sh", "-c", 'true & exec "$@"', "sh"]
    # Its folder, in the one-file form, is left by the KILL.
    with reserved_port() as port, tempfile.TemporaryDirectory() as folder:
        command = [*unshare, *before, *form.command, "-port", str(port)]
        outside = subprocess.Popen(
            command, env=clean_environment(TMPDIR=folder), stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_until(lambda: answers(port), "it to answer")
            first = children(outside.pid)[0]
            for _ in range(3):
                leave_two_orphans(first)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not zombies(first), "no zombie to be left", IN_VAIN)
            # Where it is only slow, it has heard of each of them by then.
            barrier(port)
            return len(zombies(first))
        finally:
            outside.kill()
            outside.wait(PATIENCE)


def leave_two_orphans(first: int) -> None:
    """In the namespace of this process 1; returns when they have ended."""
    inside = ["nsenter", "-t", str(first), "-U", "--preserve-credentials", "-p", "-m"]
    # In the background, so that the shell has ended before them.
    assert (
        run([*inside, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &"]).returncode
        == 0
    )
    wait_until(lambda: len(asleep(first)) == 2, "the orphans to be its children")
    for child in asleep(first):
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: not asleep(first), "the orphans to end")


def zombies(parent: int) -> list[int]:
    return [pid for pid in children(parent) if state(pid) == "Z"]


def asleep(parent: int) -> list[int]:
    """Its children that run the program sleep."""
    return [pid for pid in children(parent) if command_line(pid).startswith(b"sleep")]
