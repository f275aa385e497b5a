"""Erlang's own client, and nodes that start: what an epmd meets in life."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.load import NoCompilerError, WrongReplyError, cpu_ns, per_request
from support.programs import clean_environment

#: Of the nodes that start: C's epmd may refuse a name whose last owner has just ended.
_NUMBERS = itertools.count()


@functools.cache
def compiled() -> str:
    """The folder with the module `asks`.  Raises NoCompilerError."""
    if shutil.which("erl") is None or shutil.which("erlc") is None:
        raise NoCompilerError(
            "erl or erlc is missing: install erlang-base, or leave these cells out (--only)"
        )
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder)
    subprocess.run(["erlc", "-o", folder, str(Path(__file__).with_name("asks.erl"))], check=True)
    return folder


class Client:
    """An Erlang runtime with one scheduler, which asks the epmd at this port."""

    def __init__(self, port: int, core: int) -> None:
        flags = ["-noshell", "-boot", "start_clean", "-pa", compiled(), "-run", "asks", "main"]
        self._process = subprocess.Popen(
            ["erl", "+S", "1:1", "+sbwt", "none", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(ERL_EPMD_PORT=str(port)),
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            text=True,
        )

    def measure(
        self, kind: str, nodes: int, connections: int, seconds: float, server: int
    ) -> dict[str, float]:
        """As `load.measure`.  Raises WrongReplyError."""
        spent, own = cpu_ns(server), cpu_ns(self._process.pid)
        self._process.stdin.write(f"{kind} {connections} {int(seconds * 1000)} {nodes}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        try:
            count, took, p50, p99 = map(int, answer.split())
        except ValueError:
            raise WrongReplyError(answer.strip() or "the Erlang runtime ended") from None
        spent, own = cpu_ns(server) - spent, cpu_ns(self._process.pid) - own
        times = {"took": took * 1e3, "p50": p50 * 1e3, "p99": p99 * 1e3}
        return per_request({"requests": count, **times, "cpu": spent, "load_cpu": own})

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def start_nodes(
    epmd: list[str], port: int, count: int, connections: int, server: int, cores: set[int]
) -> dict[str, float]:
    """Start so many nodes, each of which calls `epmd -daemon`, registers and ends, so many at a time.  As
    `load.measure`; times are those of a whole start."""

    daemon = ["-epmd", shlex.join([*epmd, "-daemon"])]

    def start(number: int) -> float:
        begin = time.perf_counter_ns()
        flags = ["-noshell", "-sname", f"start{number}", *daemon, "-eval", "halt()."]
        done = subprocess.run(
            ["erl", *flags],
            env=clean_environment(ERL_EPMD_PORT=str(port)),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise WrongReplyError(f"a node did not start: {done.stdout!r} {done.stderr!r}")
        return time.perf_counter_ns() - begin

    spent, begin = cpu_ns(server), time.perf_counter_ns()
    with ThreadPoolExecutor(connections) as pool:
        took = sorted(pool.map(start, (next(_NUMBERS) for _ in range(count))))
    all_took = time.perf_counter_ns() - begin
    found = {"requests": count, "took": all_took, "p50": took[count // 2], "p99": took[count * 99 // 100]}
    return per_request({**found, "cpu": cpu_ns(server) - spent, "load_cpu": 0})
