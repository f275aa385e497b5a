"""What /proc says of a process, and a peer in a process of its own who keeps asking."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.paths import TESTS
from support.patience import PATIENCE
from support.programs import clean_environment

if TYPE_CHECKING:
    from soak.play import Scale

_TICKS = os.sysconf("SC_CLK_TCK")
#: An answer that takes longer than so many seconds is none.
_ANSWERED_IN = 2.0


def resident(pid: int) -> int:
    """Resident memory in KB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has ended")


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """How long it has kept a core busy, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def held_back(pid: int | str) -> float:
    """For how long it could have run while the machine was busy with others, in seconds."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def share_of_a_core(pid: int, seconds: float) -> float:
    """How busy it is for so long, from now; 1.0 is a whole core."""
    before, start = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)  # the time over which it is measured
    return (cpu_seconds(pid) - before) / (time.monotonic() - start)


def share_beside_a_loop(pid: int, seconds: float) -> float:
    """What it takes of the CPU, in parts of what a loop gets beside it that runs for so long: 1.0 is another
    such loop, on any machine, whatever else that does."""
    before, mine = _running(pid), time.thread_time()
    while (took := time.thread_time() - mine) < seconds:
        pass
    return (_running(pid) - before) / took


def _running(pid: int) -> float:
    """How long its first thread has run, in seconds; finer than `cpu_seconds`."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


class Worker:
    """A function of `soak.workers` that runs in a process of its own, until it is done or until it is
    asked for its result."""

    def __init__(self, function: str, **arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soak.workers", function, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(PYTHONPATH=str(TESTS)),
            start_new_session=True,
        )

    @classmethod
    def probe(cls, port: int, name: str, pid: int, scale: Scale) -> Worker:
        """One who asks the server `pid` for this node again and again."""
        return cls("probe", port=port, name=name, pid=pid, patience=scale.promised(_ANSWERED_IN))

    def wait_until_it_works(self) -> None:
        assert self._process.stdout.readline() == b"ready\n", "the worker has failed"

    def result(self, patience: float = PATIENCE) -> Any:
        """What the function gave."""
        said, _ = self._process.communicate(timeout=patience)
        assert self._process.returncode == 0, "the worker has failed"
        return json.loads(said.splitlines()[-1])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def judge_log(lines: int, elapsed: float) -> None:
    """Each kind of complaint is logged once a second at most, and a scene causes three kinds at most."""
    assert lines <= 3 * (elapsed + 2), f"{lines} lines of log in {elapsed:.0f} s"


def judge(seen: dict[str, Any], worst: float, scale: Scale) -> None:
    """What a probe has seen: every answer came, each within so many seconds."""
    assert seen["unanswered"] == 0, f"{seen['unanswered']} of {seen['asked']} requests were not answered"
    assert seen["worst"] < scale.promised(worst) * 1000, f"an answer took {seen['worst']} ms"
