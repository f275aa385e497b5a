"""What is measured: the cells, and how one is measured on servers that are asked in turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.forms import C, Process
from support.patience import PATIENCE

HERE = Path(__file__).parent

KINDS = ("lookup", "register", "names")
CONNECTIONS = (1, 8, 64)
#: C selects on 1,024 descriptors: it cannot have more nodes, and not many new ones beside so many.
FOR_BOTH = (10, 100, 1000)
OURS_ALONE = (5000, 15000)
_MOST_FOR_C = 1010
_WITH_NEW_ONES = 900


class Bare(Process):
    """The least that a server can do; see bare.py."""

    command = (sys.executable, "-S", str(HERE / "bare.py"))


class Cell(NamedTuple):
    """`kind` is a request, `nodes` how many are registered, `connections` how many are open at a time."""

    kind: str
    nodes: int
    connections: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.nodes:,} nodes, {self.connections} at a time"


#: One measurement: see load.measure.
Result = dict[str, float]


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
        plan = {
            "kind": cell.kind,
            "nodes": cell.nodes,
            "connections": cell.connections,
            "seconds": seconds,
            "port": self.server.port,
            "server": self.process,
            "cores": [self._cores.load],
        }
        asked = subprocess.run(
            [sys.executable, "-S", str(HERE / "load.py"), json.dumps(plan)],
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE,
            check=False,
        )
        if asked.returncode:
            sys.exit(f"{cell}, {type(self.server).__name__}: {asked.stderr}")
        result: Result = json.loads(asked.stdout)
        return result

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
    every = (Cell(kind, n, c) for n in FOR_BOTH + OURS_ALONE for kind in KINDS for c in CONNECTIONS)
    return [cell for cell in map(_possible, every) if pattern in str(cell)]


def _possible(cell: Cell) -> Cell:
    too_many = cell.nodes <= _MOST_FOR_C < cell.nodes + cell.connections and cell.kind == "register"
    return cell._replace(nodes=_WITH_NEW_ONES) if too_many else cell


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
    return [name for name in names if name != "bare" or cell.kind == "lookup"]


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
