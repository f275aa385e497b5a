"""What peers do in a process of their own: `python -m soak.workers FUNCTION ARGUMENTS`.

The arguments are keyword arguments in JSON; the last line of the output is the function's value, in JSON.
"""

from __future__ import annotations

import json
import select
import sys
import time

from gevent_epmd.wire import frame
from soak.crowd import quick
from soak.measure import held_back
from support.patience import PATIENCE
from support.peer import node, try_to_register


def probe(
    port: int, name: str, pid: int, patience: float, every: float = 0.02, register_each: int = 10
) -> dict:
    """Look the node up again and again, and register another one now and then, until stdin ends.

    It waits for so many seconds for each answer.
    The worst time is that of the server and the network: what the machine kept the two processes from
    running in between is taken off."""
    asked = registered = unanswered = 0
    worst = raw = 0.0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], every)[0]:
        asked += 1
        others = asked % register_each == 0
        registered += others
        waited, start = held_back(pid) + held_back("self"), time.monotonic()
        try:
            if others:
                _register(port, f"probe{asked}", patience)
            else:
                _look_up(port, name, patience)
        except (OSError, AssertionError):
            unanswered += 1
        took = time.monotonic() - start
        raw = max(raw, took)
        worst = max(worst, took - (held_back(pid) + held_back("self") - waited))
    milliseconds = {"worst": round(worst * 1000, 1), "worst as seen": round(raw * 1000, 1)}
    return {"asked": asked, "registered": registered, "unanswered": unanswered, **milliseconds}


def _look_up(port: int, name: str, patience: float) -> None:
    with quick(port, patience=patience) as peer:
        peer.send(frame(b"z" + name.encode()))
        assert peer.read(2) == b"w\0"


def _register(port: int, name: str, patience: float) -> None:
    with quick(port, patience=patience) as peer:
        assert try_to_register(peer, node(name))[:2] == b"v\0"


def come_back(port: int, name: str, times: int, keeper: str) -> dict:
    """Register, close, and register again at once; now and then try to get the keeper's name."""
    refused = displaced = 0
    creations = set()
    for number in range(times):
        with quick(port, number) as peer:
            reply = try_to_register(peer, node(name))
        refused += reply[:2] != b"v\0"
        creations.add(reply[2:])
        if number % 100 == 0:
            with quick(port, number) as peer:
                displaced += try_to_register(peer, node(keeper))[:2] != b"v\1"
    return {"refused": refused, "repeated": times - refused - len(creations), "displaced": displaced}


def ask_on(port: int, name: str, every: float) -> dict:
    """Look a node up again and again, until stdin ends.

    The worst time is without that in which this process waited for a core."""
    asked = failed = 0
    worst = 0.0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], every)[0]:
        asked += 1
        waited, start = held_back("self"), time.monotonic()
        try:
            _look_up(port, name, PATIENCE)
        except (OSError, AssertionError):
            failed += 1
        worst = max(worst, time.monotonic() - start - (held_back("self") - waited))
    return {"asked": asked, "failed": failed, "worst": round(worst * 1000, 1)}


def come_and_go(port: int, name: str, every: float) -> dict:
    """Register, close, and register again at once, until stdin ends."""
    came = refused = 0
    creations = set()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], every)[0]:
        came += 1
        with quick(port, came, patience=PATIENCE) as peer:
            reply = try_to_register(peer, node(name))
        refused += reply[:2] != b"v\0"
        creations.add(reply[2:])
    return {"came": came, "refused": refused, "repeated": came - refused - len(creations)}


def storm(port: int, kind: str, times: int) -> float:
    """Connections that come to nothing, as fast as they can be made; how long it took, in seconds."""
    data = {"half": b"\0\5zf", "reset": b"", "scan": b""}[kind]
    start = time.monotonic()
    for number in range(times):
        peer = quick(port, number)
        if data:
            peer.send(data)
        peer.reset() if kind == "reset" else peer.close()
    return round(time.monotonic() - start, 2)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
