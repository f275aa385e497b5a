"""The load generator: asks an epmd for so many seconds, and says what it cost.

load.c asks, since a generator in Python is busier than the server.  It is compiled when it is first needed,
and runs as a process of its own.  This module has the requests, and what must be answered: a reply that is
not what was expected raises WrongReplyError.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

#: How long the generator waits between the connection and its request, in s.  One at a time, a server that
#: accepts at once has then accepted 9 of 10 connections before their request comes; with Erlang's client 4 of
#: 10, and with 10 us none.
PAUSE = 20e-6
#: Between one pair of addresses many connections, of held nodes or in TIME_WAIT, make it slow to find a free
#: port.  Servers listen on every address, so each connection goes to the next of these.
HOSTS = [f"127.0.0.{last}" for last in range(1, 251)]
#: The reply to a registration: tag, result, and a creation, which nobody can know.
REGISTERED_SIZE = 6


class Request(NamedTuple):
    """`reply` is all that must come before the server closes; or, for a registration, which it does not
    close, only how the reply must begin."""

    packet: bytes
    reply: bytes
    closes: bool = True

    def for_load(self) -> bytes:
        """As load.c reads it."""
        parts = (_u32(len(self.packet)), self.packet, _u32(len(self.reply)), self.reply, _u32(self.closes))
        return b"".join(parts)


class WrongReplyError(Exception):
    """The epmd did not answer what it should."""


class NoCompilerError(Exception):
    """There is no C compiler, or it cannot compile the load generator."""


def _u32(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


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


def unknown(_nodes: int, _port: int) -> list[Request]:
    """Look-ups of nodes that are not there."""
    return [Request(frame(b"z" + node_name("none", n)), b"w\1") for n in range(512)]


def registrations(_nodes: int, _port: int) -> list[Request]:
    """Names come back, as those of nodes do, but not before their last owner has been noticed to be gone."""
    return [Request(frame(b"x" + node_fields("new", n)), b"v\0", closes=False) for n in range(512)]


def listings(nodes: int, port: int) -> list[Request]:
    lines = [b"name %b at port %d\n" % (node_name("held", n), node_port(n)) for n in reversed(range(nodes))]
    reply = port.to_bytes(4, "big") + b"".join(lines)
    return [Request(frame(b"n"), reply)]


KINDS: dict[str, Callable[[int, int], list[Request]]] = {
    "lookup": lookups,
    "unknown": unknown,
    "register": registrations,
    "names": listings,
}


def cpu_ns(process: int) -> int:
    """The CPU time that a process has had, in ns; the clock ticks of /proc/PID/stat are 10 ms."""
    total = 0
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/schedstat", encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total


@functools.cache
def program() -> str:
    """The compiled load generator.  Raises NoCompilerError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompilerError("cc is missing: install gcc and libc6-dev, which compile tests/bench/load.c")
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder)
    path, source = os.path.join(folder, "load"), os.path.join(os.path.dirname(__file__), "load.c")
    done = subprocess.run(
        [compiler, "-O2", "-o", path, source], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise NoCompilerError(f"cc cannot compile tests/bench/load.c: {done.stderr}")
    return path


def measure(
    kind: str,
    nodes: int,
    port: int,
    connections: int,
    seconds: float,
    server: int,
    core: int,
    patience: float,
) -> dict[str, float]:
    """`server` is the process that serves, `core` where the generator runs, `patience` the seconds that it
    may take beyond what it was asked to take.  Latencies are in us, CPU times in us for a request.  Raises
    WrongReplyError and NoCompilerError."""
    numbers = (port, connections, int(seconds * 1e9), int(PAUSE * 1e9), server)
    asked = subprocess.run(
        [program(), *map(str, numbers)],
        input=b"".join(request.for_load() for request in KINDS[kind](nodes, port)),
        capture_output=True,
        timeout=seconds + patience,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        check=False,
    )
    if asked.returncode:
        raise WrongReplyError(asked.stderr.decode(errors="replace").strip())
    return per_request(json.loads(asked.stdout))


def per_request(found: dict[str, float]) -> dict[str, float]:
    """What the load found, all in ns, as a result."""
    count, took = found["requests"], found["took"]
    return {
        "requests": count,
        "rate": count / took * 1e9,
        "p50": found["p50"] / 1e3,
        "p99": found["p99"] / 1e3,
        "cpu": found["cpu"] / count / 1e3,
        "busy": found["cpu"] / took,
        "load_cpu": found["load_cpu"] / count / 1e3,
        "load_busy": found["load_cpu"] / took,
    }
