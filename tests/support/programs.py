"""Running programs: whether they are there, in which environment, and what they write."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from typing import IO

from support.paths import SOURCE
from support.patience import PATIENCE


class Real:
    """Whether tests may use programs that are not ours; `pytest --quick` skips those that do."""

    wanted = True


def real(command: str) -> str:
    """The path of a program that is not ours.  In CI it must be there; elsewhere a test is skipped."""
    path = shutil.which(command)
    if path is None or not (Real.wanted or command == SOURCE[0]):
        _leave_out(command)
    return path


def _leave_out(command: str) -> None:
    # Not at the top: it takes 0.2 s, and most of those who call `real` run in processes of their own.
    import pytest

    if not Real.wanted and command != SOURCE[0]:
        pytest.skip(f"not quick: needs {command}")
    if os.environ.get("CI"):
        pytest.fail(f"{command} is missing")
    pytest.skip(f"{command} is missing")


def heed_signals() -> None:
    """As in the foreground: whoever runs this in the background, or with nohup, ignores signals, and so would
    what is started here."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that an epmd reads."""
    unwanted = ("ERL_", "LISTEN_", "NOTIFY_SOCKET", "JOURNAL_STREAM")
    return {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | more


def run(command: list[str], *, environ: dict[str, str] | None = None, **how):
    """Run a program to its end, with both outputs as bytes, but for those for which `how` names a place.

    They go to files: a process that the program leaves behind could hold a pipe open."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        how = {"stdin": subprocess.DEVNULL, "timeout": PATIENCE, "stdout": out, "stderr": err} | how
        done = subprocess.run(command, env=clean_environment(**(environ or {})), check=False, **how)
        if how["stdout"] is out:
            done.stdout = content(out)
        if how["stderr"] is err:
            done.stderr = content(err)
        return done


def outcome(command: list[str], *options: str, **how) -> tuple[bytes, bytes, int]:
    done = run([*command, *options], **how)
    return done.stdout, done.stderr, done.returncode


def content(file: IO[bytes]) -> bytes:
    """All that was written to a file, whoever writes at its end."""
    # Without moving the offset, which is the writer's too.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def few_descriptors(soft: int, hard: int):
    return staticmethod(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
