"""What counting costs: `python -m bench.counting`, in tests.

Times the statements that count a look-up, and the CPU time of a look-up, in turns and by the clocks of the
CPU, so that both meet the same machine.  Two servers, one of which counts, differ by less than their noise.
"""

from __future__ import annotations

import socket
import statistics
import time
import timeit
from pathlib import Path

from gevent_epmd.protocol import Port2Request
from gevent_epmd.server import connection
from gevent_epmd.wire import frame
from support.forms import Source
from support.peer import node, register

ROUNDS, LOOK_UPS, TURNS = 31, 1_500, 200_000
#: A request that has arrived when the connection is accepted, and one that has not: what must be there, the
#: lines of server/connection.py, and one statement that does the same.
WAYS = {
    "the request arrives with the connection": (
        "class Mapper: pass\nmapper, first, _BARE = Mapper(), bytes(4), 3\nmapper.looked_up = 0",
        ("if len(first) > _BARE:", "mapper.looked_up += 1"),
        "if len(first) > _BARE: mapper.looked_up += 1",
    ),
    "the request arrives later": (
        "class Any: pass\nself, tag = Any(), 122\nself._mapper = Any()\nself._mapper.events = Any()\n"
        "self._mapper.events.counts = Any()\n"
        "self._mapper.events.counts.requests = {tag: 0}",
        ("self._mapper.events.counts.requests[tag] += 1",),
        "self._mapper.events.counts.requests[tag] += 1",
    ),
}


def main() -> None:
    assert not unknown_lines(), "the program has changed"
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    look_ups = []
    with Source() as server, register(server.port, node("a"))[0]:
        look_up(server.port)
        for _ in range(ROUNDS):
            start = cpu(server.pid)
            look_up(server.port)
            look_ups.append((cpu(server.pid) - start) / LOOK_UPS)
            for way, (prepared, _, statement) in WAYS.items():
                found[way].append(timed(statement, prepared) - timed("pass", prepared))
    print(f"a look-up: {statistics.median(look_ups) * 1e6:.1f} us of CPU time")
    for way, costs in found.items():
        parts = sorted(100 * cost / look_up for cost, look_up in zip(costs, look_ups, strict=True))
        median = statistics.median(parts)
        cost = statistics.median(costs) * 1e9
        print(f"{way}: {cost:.0f} ns, {median:.2f} % ({parts[0]:.2f} to {parts[-1]:.2f} in {ROUNDS} rounds)")


def unknown_lines() -> list[str]:
    """The lines that the program does not have."""
    source = Path(connection.__file__).read_text(encoding="utf-8")
    return [line for _, lines, _ in WAYS.values() for line in lines if line not in source]


def look_up(port: int) -> None:
    request = frame(Port2Request(b"a").packet())
    for _ in range(LOOK_UPS):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request)
            while sock.recv(100):
                pass


def cpu(pid: int) -> float:
    """The CPU time of a process, in seconds.  Source: Documentation/scheduler/sched-stats.rst."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def timed(statement: str, prepared: str) -> float:
    return timeit.timeit(statement, prepared, timer=time.thread_time, number=TURNS) / TURNS


if __name__ == "__main__":
    main()
