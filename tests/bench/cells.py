"""What is measured: the cells, and how one is measured on servers that are asked in turn."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import erlang, load
from support.forms import C, Process
from support.patience import PATIENCE

HERE = Path(__file__).parent

KINDS = tuple(load.KINDS)
CONNECTIONS = (1, 8, 64)
#: C selects on 1,024 descriptors: it cannot have more nodes, and not many connections beside so many.
FOR_BOTH = (10, 100, 1000)
OURS_ALONE = (15000,)
#: With Erlang's own client; a node has 10 to 1,000 others.
FOR_ERLANG = (10, 1000)
ERLANG_CONNECTIONS = (1, 8)
_MOST_FOR_C = 1010
_WITH_OTHERS = 900


class Bare(Process):
    """The least that a server can do; see bare.py."""

    command = (sys.executable, "-S", str(HERE / "bare.py"))


class Cell(NamedTuple):
    """`kind` is a request, `nodes` how many are registered, `connections` how many are open at a time, and
    `by_erlang` is whether Erlang's own client asks, rather than load.c."""

    kind: str
    nodes: int
    connections: int
    by_erlang: bool = False

    def __str__(self) -> str:
        client = "Erlang's client, " if self.by_erlang else ""
        return f"{self.kind}, {client}{self.nodes:,} nodes, {self.connections} at a time"


#: One measurement: see load.measure, and `other`, how many cores everything else on the machine used.
Result = dict[str, float]


class Others:
    """Measures what else the machine does."""

    def __init__(self) -> None:
        self._idle, self._start = self._idle_seconds(), time.monotonic()

    @staticmethod
    def _idle_seconds() -> float:
        """The idle time of all cores so far."""
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[1])

    def cores(self, ours: float) -> float:
        """How many cores were busy since the start of the measurement, but for `ours`."""
        took = time.monotonic() - self._start
        idle = (self._idle_seconds() - self._idle) / took
        return max(0.0, (os.cpu_count() or 1) - idle - ours)


class Cores(NamedTuple):
    """The servers on one, the load generator on another; the same for both where there is one."""

    server: int
    load: int

    @classmethod
    def found(cls) -> Cores:
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])

    def pin_server(self) -> None:
        os.sched_setaffinity(0, {self.server})


class Side:
    """A server with some nodes, which are kept by a process of their own."""

    def __init__(self, form: type[Process], nodes: int, cores: Cores) -> None:
        self._cores = cores
        self._form = form
        self._client: erlang.Client | None = None
        self._exits = contextlib.ExitStack()
        pinned = type(form.__name__, (form,), {"prepare": staticmethod(cores.pin_server)})
        try:
            self.server = self._exits.enter_context(pinned())
            self.process = self.server.pid
            self.idle = memory(self.process)["VmRSS"]
            if form is not Bare:
                self._exits.enter_context(held_nodes(self.server.port, nodes))
            self.per_node = (memory(self.process)["VmRSS"] - self.idle) / nodes
        except BaseException:
            self.close()
            raise

    def measure(self, cell: Cell, seconds: float) -> Result:
        """Ask for so many seconds.  Ends everything where a reply is wrong."""
        others = Others()
        try:
            result = self._ask(cell, seconds)
        except (load.WrongReplyError, load.NoCompilerError) as error:
            sys.exit(f"bench: {cell}, {self._form.__name__}: {error}")
        return result | {"other": others.cores(result["busy"] + result["load_busy"])}

    def _ask(self, cell: Cell, seconds: float) -> Result:
        if not cell.by_erlang:
            return load.measure(
                cell.kind,
                cell.nodes,
                self.server.port,
                cell.connections,
                seconds,
                self.process,
                self._cores.load,
                PATIENCE,
            )
        if self._client is None:
            self._client = erlang.Client(self.server.port, self._cores.load)
            self._exits.callback(self._client.close)
        return self._client.measure(cell.kind, cell.nodes, cell.connections, seconds, self.process)

    def start_nodes(self, count: int, connections: int) -> Result:
        """Start so many nodes, so many at a time, which find this epmd."""
        others = Others()
        cores = {self._cores.server, self._cores.load}
        try:
            result = erlang.start_nodes(
                [*self._form.command], self.server.port, count, connections, self.process, cores
            )
        except (load.WrongReplyError, load.NoCompilerError) as error:
            sys.exit(f"bench: start of nodes, {self._form.__name__}: {error}")
        return result | {"other": others.cores(0.0)}

    def close(self) -> None:
        self._exits.close()


def memory(process: int) -> dict[str, int]:
    """VmRSS and VmHWM (the most there has been), in bytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    lines = (line.split() for line in status if line.startswith("Vm"))
    return {name.rstrip(":"): int(kilobytes) * 1024 for name, kilobytes, *_ in lines}


@contextlib.contextmanager
def held_nodes(port: int, nodes: int) -> Iterator[None]:
    holder = subprocess.Popen(
        [sys.executable, "-S", str(HERE / "held.py"), str(port), str(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        if holder.stdout.readline().strip() != b"%d" % nodes:
            sys.exit("the nodes were not registered")
        yield
        holder.stdin.close()


class Progress:
    """Says on stderr what is being measured, and how much is left."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def __call__(self, text: str) -> None:
        self._done += 1
        print(f"{self._done}/{self._total} {text}", file=sys.stderr, flush=True)


Forms = dict[str, type[Process]]


def forms_for(nodes: int, ours: Forms) -> Forms:
    """Who is measured with so many nodes, by what the tables call them."""
    if nodes > _MOST_FOR_C:
        return ours
    # The limit of the machine does not depend on nodes.
    return {"C": C} | ours | ({"bare": Bare} if nodes == FOR_BOTH[0] else {})


def cells(pattern: str) -> list[Cell]:
    by_erlang = [
        Cell(kind, n, c, by_erlang=True) for n in FOR_ERLANG for kind in KINDS for c in ERLANG_CONNECTIONS
    ]
    by_load = [Cell(kind, n, c) for n in FOR_BOTH + OURS_ALONE for kind in KINDS for c in CONNECTIONS]
    return [cell for cell in map(_possible, by_erlang + by_load) if pattern in str(cell)]


def _possible(cell: Cell) -> Cell:
    too_many = cell.nodes <= _MOST_FOR_C < cell.nodes + cell.connections
    return cell._replace(nodes=_WITH_OTHERS) if too_many else cell


def measure(wanted: Iterable[Cell], ours: Forms, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """All cells with the same nodes on the same servers, each as many rounds, in turns: what else the
    machine does meets all alike.  A list of scenes: `nodes`, `memory` and `cells`."""
    wanted = list(wanted)
    scenes = {cell.nodes: forms_for(cell.nodes, ours) for cell in wanted}
    progress = Progress(rounds * sum(len(measured_by(cell, scenes[cell.nodes])) for cell in wanted))
    found = []
    for nodes, forms in scenes.items():
        with contextlib.ExitStack() as exits:
            cores = Cores.found()
            sides = {}
            for name, form in forms.items():
                sides[name] = Side(form, nodes, cores)
                exits.callback(sides[name].close)
            measured = [
                {"cell": cell._asdict(), "rounds": _rounds(cell, sides, rounds, seconds, progress)}
                for cell in wanted
                if cell.nodes == nodes
            ]
            found.append({"nodes": nodes, "memory": _memory(sides), "cells": measured})
    return found


def measured_by(cell: Cell, names: Iterable[str]) -> list[str]:
    """The bare loop knows one reply, that to a look-up."""
    return [name for name in names if name != "bare" or (cell.kind == "lookup" and not cell.by_erlang)]


#: How many starts in a round, and how many rounds: 50 starts.
STARTS, START_ROUNDS = 10, 5


def starts(pattern: str) -> list[int]:
    """How many nodes start at a time, in the cells whose title has the pattern in it."""
    return [c for c in ERLANG_CONNECTIONS if pattern in start_title(c)]


def start_title(connections: int) -> str:
    return f"start of a node, {connections} at a time"


def measure_starts(wanted: Iterable[int], ours: Forms, count: int, rounds: int) -> list[dict[str, Any]]:
    """Whole starts of nodes on servers without any other node.  As `cells` of `measure`."""
    wanted = list(wanted)
    forms: Forms = {"C": C} | ours
    progress = Progress(rounds * len(forms) * len(wanted))
    with contextlib.ExitStack() as exits:
        sides = {}
        for name, form in forms.items() if wanted else ():
            sides[name] = Side(form, 1, Cores.found())
            exits.callback(sides[name].close)
        found = []
        for connections in wanted:
            results: dict[str, list[Result]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, into in results.items():
                    into.append(sides[name].start_nodes(count, connections))
                    milliseconds = into[-1]["p50"] / 1000
                    progress(f"{start_title(connections)}: {name} {milliseconds:.0f} ms")
            found.append({"connections": connections, "rounds": results})
    return found


def _rounds(
    cell: Cell, sides: dict[str, Side], rounds: int, seconds: float, progress: Callable[[str], None]
) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {name: [] for name in measured_by(cell, sides)}
    for _ in range(rounds):
        for name, into in results.items():
            asked = cell._replace(nodes=1) if name == "bare" else cell
            into.append(sides[name].measure(asked, seconds))
            progress(f"{cell}: {name} {into[-1]['rate']:,.0f}/s, {into[-1]['cpu']:.0f} us CPU")
    return results


def _memory(sides: dict[str, Side]) -> dict[str, dict[str, float]]:
    return {
        name: {"idle": side.idle, "per_node": side.per_node, "peak": memory(side.process)["VmHWM"]}
        for name, side in sides.items()
        if name != "bare"
    }
