"""How long tests wait.  Every limit of a test, a tool or a scene comes from here.

A limit is there for what hangs: it is two minutes and more, so that a slow or busy machine never reaches it,
and costs nothing where nothing hangs.  No test judges speed: `scripts/bench` and `scripts/soak` measure it.

This module imports nothing heavy: processes of their own, such as those of `soak.workers`, import it too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

#: How many times slower the machine is than the reference.  A run measures it once; its processes inherit it.
VARIABLE = "EPMD_SLOWNESS"
#: The turns of the loop that is measured, and how long they take on the reference: 2 cores, Python 3.11.
_TURNS = 1_000_000
_REFERENCE = 0.07
#: The most that one measurement is believed: the machine may have been suspended meanwhile.
_MOST = 20.0


def slowness() -> float:
    """How many times longer than on the reference everything takes, at least 1; measured in 0.1 s.

    `EPMD_SLOWNESS` takes precedence where it is set, and is set afterwards.
    """
    if given := os.environ.get(VARIABLE):
        return max(1.0, float(given))
    # Real time, and longer than the period of a CPU quota, so that quotas and neighbours count.
    found = min(max(1.0, _seconds_of_the_loop() / _REFERENCE), _MOST)
    os.environ[VARIABLE] = f"{found:.1f}"
    return found


def _seconds_of_the_loop() -> float:
    total, start = 0, time.perf_counter()
    for number in range(_TURNS):
        total = (total * 31 + number) & 0xFFFF
    return time.perf_counter() - start


#: How many times slower than the reference this machine is.
SLOWNESS = slowness()
#: How long to wait for one event, or for the end of one command, in seconds.
PATIENCE = 120.0 * SLOWNESS
#: How long to wait for what builds, installs or plays hundreds of steps.
LONG = 5 * PATIENCE
#: How long to wait for what is known not to happen, such as the end of a C epmd that hangs: where it does not
#: come, nothing fails.
IN_VAIN = 2.0
#: Options of resolv.conf(5) for the longest wait for a name server that does not answer, and how many seconds
#: that lasts.
SLOWEST_RESOLVER = "options timeout:30 attempts:5"
RESOLVER_GIVES_UP = 150.0


def whole_seconds(seconds: float) -> int:
    """The value of a time-out option before whose end a test must do something: longer on a slow machine."""
    return max(1, round(seconds * SLOWNESS))


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when the condition holds; raise AssertionError, which names `what`, if it never does."""
    start = now = time.monotonic()
    while not condition():
        assert now < start + patience, f"waited {patience:.0f} s in vain for: {what}"
        # To look all the time would take from the others the time that this waits for.
        time.sleep(min(0.002 + (now - start) / 20, 0.05))
        now = time.monotonic()
