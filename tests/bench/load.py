"""The load generator: asks an epmd for so many seconds, and says what it cost; a process of its own.

Reads a plan as JSON from its first argument, prints a result as JSON.  A request is a connection of its
own: open, send, read to the end, compare, close.  A reply that is not what was expected ends the run
with status 1.

What it costs is nearly all the kernel's: over loopback, connect() does the work of both ends.
"""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import time
from _socket import AF_INET, MSG_WAITALL, SOCK_STREAM, socket
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import NamedTuple

#: Between one pair of addresses many connections, of held nodes or in TIME_WAIT, make it slow to find a free
#: port.  Servers listen on every address, so each connection goes to the next of these.
HOSTS = [f"127.0.0.{last}" for last in range(1, 251)]
#: A reply up to this size fits into the socket's buffers; one wake-up, when it is complete, is enough.
_FITS = 1 << 15
#: The reply to a registration: tag, result, and a creation, which nobody can know.
REGISTERED_SIZE = 6


class Request(NamedTuple):
    """`reply` is all that must come before the server closes; or, for a registration, which it does not
    close, only how the reply must begin."""

    packet: bytes
    reply: bytes
    closes: bool = True

    def size(self) -> int:
        """How much to read at most: where the server closes one byte more, so that this is waited for."""
        return len(self.reply) + 1 if self.closes else REGISTERED_SIZE

    def check(self, reply: bytes) -> None:
        """Raises WrongReplyError."""
        right = reply == self.reply if self.closes else reply.startswith(self.reply)
        if not right or len(reply) != self.size() - self.closes:
            raise WrongReplyError(f"{self.packet!r} was answered by {len(reply)} bytes: {reply[:100]!r}")


class WrongReplyError(Exception):
    """The epmd did not answer what it should."""


def frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


def node_name(kind: str, number: int) -> bytes:
    return b"%b-%05d@bench" % (kind.encode(), number)


def node_port(number: int) -> int:
    return 20000 + number


def node_fields(kind: str, number: int) -> bytes:
    """What a registration and the reply to a look-up have in common."""
    name = node_name(kind, number)
    numbers = b"M\0\0\6\0\5"  # a normal node over TCP that speaks versions 5 and 6
    return node_port(number).to_bytes(2, "big") + numbers + frame(name) + b"\0\0"


def lookups(nodes: int, _port: int) -> list[Request]:
    """Every node once, in an order that does not favour either end of a list."""
    order = sorted(range(nodes), key=lambda number: number * 7919 % nodes)
    pairs = [(b"z" + node_name("held", n), b"w\0" + node_fields("held", n)) for n in order]
    return [Request(frame(packet), reply) for packet, reply in pairs]


def registrations(_nodes: int, _port: int) -> list[Request]:
    """Names come back, as those of nodes do, but not before their last owner has been noticed to be gone."""
    return [Request(frame(b"x" + node_fields("new", n)), b"v\0", closes=False) for n in range(512)]


def listings(nodes: int, port: int) -> list[Request]:
    lines = [b"name %b at port %d\n" % (node_name("held", n), node_port(n)) for n in reversed(range(nodes))]
    reply = port.to_bytes(4, "big") + b"".join(lines)
    return [Request(frame(b"n"), reply)]


KINDS: dict[str, Callable[[int, int], list[Request]]] = {
    "lookup": lookups,
    "register": registrations,
    "names": listings,
}


def one_at_a_time(requests: Iterator[Request], port: int, end: int) -> list[int]:
    """The latency of each request, in ns."""
    latencies = []
    hosts = cycle(HOSTS)
    now = time.perf_counter_ns()
    while now < end:
        start, request = now, next(requests)
        sock = _ask(request, next(hosts), port)
        reply = sock.recv(request.size(), MSG_WAITALL)
        sock.close()
        now = time.perf_counter_ns()
        request.check(reply)
        latencies.append(now - start)
    return latencies


def many_at_a_time(requests: Iterator[Request], port: int, end: int, connections: int) -> list[int]:
    """The same, with so many connections open at any time."""
    latencies: list[int] = []
    hosts = cycle(HOSTS)
    poll = select.epoll()
    waiting: dict[int, tuple[socket, Request, int]] = {}
    while True:
        while len(waiting) < connections and (now := time.perf_counter_ns()) < end:
            request = next(requests)
            sock = _ask(request, next(hosts), port)
            poll.register(sock.fileno(), _complete(request))
            waiting[sock.fileno()] = sock, request, now
        if not waiting:
            return latencies
        for descriptor, _ in poll.poll():
            sock, request, start = waiting.pop(descriptor)
            reply = sock.recv(request.size(), MSG_WAITALL)
            sock.close()
            latencies.append(time.perf_counter_ns() - start)
            request.check(reply)


def _ask(request: Request, host: str, port: int) -> socket:
    sock = socket(AF_INET, SOCK_STREAM)
    sock.connect((host, port))
    sock.send(request.packet)
    return sock


def _complete(request: Request) -> int:
    """What to wait for.  Of a reply that does not fit into the buffers the beginning must do."""
    return select.EPOLLRDHUP if request.closes and request.size() < _FITS else select.EPOLLIN


def cpu_ns(process: int) -> int:
    """The CPU time that a process has had, in ns; the clock ticks of /proc/PID/stat are 10 ms."""
    total = 0
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/schedstat", encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total


def measure(
    kind: str, nodes: int, port: int, connections: int, seconds: float, server: int
) -> dict[str, float]:
    """`server` is the process that serves.  Latencies are in us, CPU times in us for a request."""
    requests = cycle(KINDS[kind](nodes, port))
    spent, own, start = cpu_ns(server), time.process_time_ns(), time.perf_counter_ns()
    end = start + int(seconds * 1e9)
    if connections == 1:
        latencies = one_at_a_time(requests, port, end)
    else:
        latencies = many_at_a_time(requests, port, end, connections)
    took = time.perf_counter_ns() - start
    spent, own = cpu_ns(server) - spent, time.process_time_ns() - own
    latencies.sort()
    count = len(latencies)
    return {
        "requests": count,
        "rate": count / took * 1e9,
        "p50": latencies[count // 2] / 1e3,
        "p99": latencies[count * 99 // 100] / 1e3,
        "cpu": spent / count / 1e3,
        "busy": spent / took,
        "load_cpu": own / count / 1e3,
        "load_busy": own / took,
    }


def main() -> None:
    plan = json.loads(sys.argv[1])
    os.sched_setaffinity(0, plan.pop("cores"))
    gc.disable()
    try:
        print(json.dumps(measure(**plan)))
    except (WrongReplyError, OSError) as error:
        sys.exit(f"wrong reply: {error}")


if __name__ == "__main__":
    main()
