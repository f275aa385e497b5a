"""Runs the steps of scripts/try-newest in its root and records how each one ended.

Needs nothing but Python: the first step is the one that makes the virtual environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from support.patience import LONG, PATIENCE

CHECKOUT = Path(__file__).resolve().parents[2]
RECORDS = CHECKOUT / ".scratch" / "newest"
#: For all tests, in seconds.
ALL_TESTS = 12 * LONG


class Failed(Exception):
    """A step that did not work, and why, in a line."""


@dataclass(frozen=True)
class Step:
    """What was run, whether it worked, how long it took, and what was seen."""

    name: str
    passed: bool
    seconds: int
    seen: str
    #: Tests that were skipped or failed, with their reasons.
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a step gives back."""

    text: str
    details: tuple[str, ...] = ()


class Log:
    """The output of a step's commands, in a file of its own."""

    def __init__(self, name: str) -> None:
        RECORDS.mkdir(parents=True, exist_ok=True)
        self.path = RECORDS / f"{name.replace('/', '-').replace(' ', '-')}.log"
        self.path.write_bytes(b"")

    def call(self, *command: str, patience: float = ALL_TESTS, **environ: str) -> tuple[int, str]:
        """Run a command in the checkout; gives its status and output.  Raises Failed if it does not end."""
        start = self.path.stat().st_size
        with self.path.open("ab") as output:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            how = {
                "cwd": CHECKOUT,
                "env": os.environ | environ,
                "stdin": subprocess.DEVNULL,
                "timeout": patience,
            }
            try:
                status = subprocess.run(command, stdout=output, stderr=output, check=False, **how).returncode
            except subprocess.TimeoutExpired:
                raise Failed(f"{command[0]} took more than {patience:.0f} s (see {self.path.name})") from None
        said = self.path.read_bytes()[start:].decode(errors="replace")
        return status, said.partition("\n")[2]

    def run(self, *command: str, expect: int = 0, patience: float = ALL_TESTS, **environ: str) -> str:
        """As `call`, but raises Failed for another status than `expect`."""
        status, said = self.call(*command, patience=patience, **environ)
        if status != expect:
            raise Failed(f"{' '.join(command)}: status {status}: {last_line(said)} (see {self.path.name})")
        return said


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.1)


def step(name: str, action: Callable[[Log], Seen]) -> Step:
    sys.stderr.write(f"{name} ...\n")
    start = time.monotonic()
    try:
        seen, passed = action(Log(name)), True
    except Failed as failure:
        seen, passed = Seen(*failure.args), False
    took = round(time.monotonic() - start)
    sys.stderr.write(f"{name}: {'passed' if passed else 'FAILED'}, {took} s: {seen.text}\n")
    return Step(name, passed, took, seen.text, seen.details)


def record(path: Path, part: dict[str, object]) -> None:
    """Add this to the record."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | part, indent=1), encoding="utf-8")


def as_record(steps: list[Step]) -> list[dict[str, object]]:
    return [asdict(one) for one in steps]
