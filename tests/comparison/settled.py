"""When a server has done all that it was given to do: the barrier of the scenes that read its log.

A request of the barrier's own would be in the log, so this looks from outside: what was sent over loopback
has arrived, and the process sleeps.  A busy host delivers late, but what one processor has sent it
delivers in that order: so whoever sends stays on one.
"""

from __future__ import annotations

import os
import random
import socket
import time

from support.patience import PATIENCE, wait_until
from support.procfs import state

#: How long it must be seen asleep, and how often.
_CALM = 0.002
_LOOKS = 4
_AT_REST = ("S", "Z", "")


def stay_on_one_processor() -> None:
    """For the calling thread; to be called before it sends what `settle` is to wait for."""
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


def settle(pid: int) -> None:
    """Returns when this server's process waits for something new, or has ended."""
    _arrive()
    wait_until(lambda: _sleeps(pid), f"process {pid} to have nothing to do")


def _arrive() -> None:
    """What comes back has been sent last."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"here", sock.getsockname())
        sock.recv(4)


def _sleeps(pid: int) -> bool:
    for _ in range(_LOOKS):
        if state(pid) not in _AT_REST:
            return False
        time.sleep(_CALM)
    return True
