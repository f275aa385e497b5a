"""What was measured -> a page in Markdown and a chart in SVG.

`results` is what `--json` writes: `about` (facts as texts), `pythons` (the Python of each of ours), `scenes`
(see cells.measure), `starts` (see cells.measure_starts) and `startup` (ms by what was started, by whom).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.cells import Cell, Result, start_title

Results = dict[str, Any]
Rounds = dict[str, list[Result]]

HOW = """\
Each cell is measured in turns (C, ours, C, ours ...) for {seconds} s at a time, {rounds} times each; the
servers run on one core, and who asks on another. A request is a connection: open, send, read to the end,
compare with what must come, close. Figures are medians; a ratio is the median of the ratios of neighbouring
rounds, since the machine gets faster and slower.

"Erlang's client" is a runtime that calls `erl_epmd`, as all nodes do. In the other cells a C program asks,
which is so light that the server has more to do. It connects, sends {pause:.0f} us later, when an idle server
has accepted, and reads. "lookup" is for a node that is registered, each in turn, "unknown" for one that is
not, "register" a registration and its end, "names" the list of all nodes.

"CPU" is the time that the server's process had, by the kernel's own books, for a request. "Busy" is how much
of its core the server had, and how much of its own who asks: where the latter is near 100 % and the server
is not, the throughput is that of who asks, and CPU is what tells the servers apart. The bare loop is a Python
program that accepts, reads, says always the same and closes.

"Other load" is what everything else on the machine used meanwhile: in half of the rounds {other:.2f} cores or
less, in the worst {worst:.2f}. It takes from the throughput, and hardly from the ratios of the CPU time.
"""


#: Of fewer nodes nobody can tell what one takes.
_ENOUGH = 1000


def page(results: Results) -> str:
    """Everything."""
    about = results["about"]
    parts = [
        "# Benchmarks",
        f"Made by `{about['command']}` on {about['date']}.",
        "\n".join(f"- {name}: {text}" for name, text in about.items() if name not in ("command", "date")),
    ]
    if results["scenes"] or results["starts"]:
        parts += [HOW.format(**results["how"], **other_load(results))]
    if results["scenes"]:
        parts += ["## Requests", "![throughput, ours/C](throughput.svg)", requests_table(results)]
        parts += ["## Memory", memory_table(results)]
    if results["starts"]:
        parts += ["## Nodes that start", starts_table(results)]
    if results["startup"]:
        parts += ["## Start-up of the program", startup_table(results)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def other_load(results: Results) -> dict[str, float]:
    """How many cores everything else used, in the median and in the worst round."""
    cells = [cell for scene in results["scenes"] for cell in scene["cells"]] + results["starts"]
    # The bare loop and a start of nodes have no generator whose time could be taken off.
    rounds = [result for cell in cells for side in cell["rounds"].values() for result in side]
    others = [result["other"] for result in rounds if result["load_busy"]] or [0.0]
    return {"other": median(others), "worst": max(others)}


def measured(results: Results) -> Iterator[tuple[Cell, Rounds]]:
    for scene in results["scenes"]:
        for cell in scene["cells"]:
            yield Cell(**cell["cell"]), cell["rounds"]


def middle(rounds: list[Result], key: str) -> float:
    return median(result[key] for result in rounds)


def ratio(rounds: Rounds, key: str, side: str = "ours") -> float | None:
    """Ours, or that of another side, by C's."""
    if "C" not in rounds or side == "C":
        return None
    return median(ours[key] / c[key] for c, ours in zip(rounds["C"], rounds[side], strict=True))


#: What is in a row of a server, after its name.
_COLUMNS = ["throughput, of C's", "CPU, of C's", "req/s", "p50 us", "p99 us", "CPU us", "busy, asker's"]


def requests_table(results: Results) -> str:
    rows = []
    for cell, rounds in measured(results):
        for side in rounds:
            ratios = [_ratio(ratio(rounds, key, side)) for key in ("rate", "cpu")]
            rows.append([str(cell), name_of(side, results), *ratios, *_absolute(rounds[side])])
    return _table(["cell", "server", *_COLUMNS], rows)


def name_of(side: str, results: Results) -> str:
    """What the tables call a server: ours by its Python."""
    return {"C": "C", "bare": "bare loop"}.get(side) or results["pythons"][side]


def starts_table(results: Results) -> str:
    """`erl -sname` from its start to its end, which calls `epmd -daemon`, registers, and halts."""
    rows = []
    for cell in results["starts"]:
        title = start_title(cell["connections"])
        for side, rounds in cell["rounds"].items():
            ratios = [_ratio(ratio(cell["rounds"], key, side)) for key in ("rate", "cpu")]
            times = [f"{middle(rounds, 'p50') / 1000:.0f}", f"{middle(rounds, 'p99') / 1000:.0f}"]
            figures = [f"{middle(rounds, 'rate'):.1f}", *times, f"{middle(rounds, 'cpu'):.0f}"]
            rows.append([title, name_of(side, results), *ratios, *figures])
    columns = ["starts/s", "p50 ms", "p99 ms", "the epmd's CPU us"]
    return _table(["cell", "server", *_COLUMNS[:2], *columns], rows)


def memory_table(results: Results) -> str:
    rows = [
        [f"{scene['nodes']:,} nodes", name_of(name, results), *_memory(memory)]
        for scene in results["scenes"]
        if scene["nodes"] >= _ENOUGH
        for name, memory in scene["memory"].items()
    ]
    return _table(["", "server", "idle RSS, MB", "a registered node, KB", "most there was, MB"], rows)


def startup_table(results: Results) -> str:
    rows = [
        [cell, *(f"{median(took[name]):.0f}" for name in ("C", "ours"))]
        for cell, took in results["startup"].items()
    ]
    return _table(["ms", "C", "ours"], rows)


def _absolute(rounds: list[Result]) -> list[str]:
    numbers = [f"{middle(rounds, key):,.0f}" for key in ("rate", "p50", "p99")]
    busy = f"{middle(rounds, 'busy'):.0%}, {middle(rounds, 'load_busy'):.0%}"
    return [*numbers, f"{middle(rounds, 'cpu'):.1f}", busy]


def _memory(memory: dict[str, float]) -> list[str]:
    idle, peak = (f"{memory[key] / 1e6:.1f}" for key in ("idle", "peak"))
    return [idle, f"{memory['per_node'] / 1e3:.1f}", peak]


def _ratio(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else "Not measured."


# --- The chart: a bar a cell, to the right of the middle line where ours is faster; each further line
# --- is twice as fast, or half.

_ROW, _LEFT, _WIDTH = 20, 320, 420
# In between: to be read on a light background and on a dark one.
_TEXT, _LINE, _FASTER, _SLOWER = "#7d8590", "#7d859060", "#2f9e8f", "#d9822b"


def chart(results: Results) -> str:
    """The ratios of throughput as SVG."""
    bars = [(str(cell), found) for cell, rounds in measured(results) if (found := ratio(rounds, "rate"))]
    powers = [math.log2(found) for _, found in bars] or [0.0]
    low, high = min(-1, math.floor(min(powers))), max(1, math.ceil(max(powers)))
    scale = _WIDTH / (high - low)
    height = _ROW * (len(bars) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 60}" height="{height}"'
        f' font-family="sans-serif" font-size="12" fill="{_TEXT}">',
        "<title>Throughput, ours by C's</title>",
    ]
    for power in range(low, high + 1):
        lines += _grid_line(_LEFT + (power - low) * scale, height, f"{2.0**power:g}")
    for index, (name, found) in enumerate(bars):
        lines += _bar(_ROW * (index + 1), name, found, _LEFT - low * scale, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _grid_line(x: float, height: int, label: str) -> list[str]:
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_ROW - 4}" y2="{height - _ROW}" stroke="{_LINE}"/>',
        f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle">{label}</text>',
    ]


def _bar(y: int, name: str, found: float, one: float, scale: float) -> list[str]:
    end = one + math.log2(found) * scale
    colour = _FASTER if found >= 1 else _SLOWER
    left, width = min(one, end), abs(end - one)
    return [
        f'<text x="{_LEFT - 10}" y="{y + 12}" text-anchor="end">{name}</text>',
        f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 6}" fill="{colour}"/>',
        f'<text x="{max(one, end) + 5:.1f}" y="{y + 12}">{found:.2f}</text>',
    ]
