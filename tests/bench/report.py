"""What was measured -> a page in Markdown and a chart in SVG.

`results` is what `--json` writes: `about` (facts as texts), `scenes` (see cells.measure) and `startup` (ms by
what was started, by whom).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.cells import Cell, Result

Results = dict[str, Any]
Rounds = dict[str, list[Result]]

HOW = """\
Each cell is measured in turns (C, ours, C, ours ...) for {seconds} s at a time, {rounds} times each, by a
load generator in a process of its own; the servers run on one core, the generator on another. A request is a
connection: open, send, read to the end, compare with what must come, close. Figures are medians; a ratio is
the median of the ratios of neighbouring rounds, since the machine gets faster and slower.

"CPU" is the time that the server's process had, by the kernel's own books, for a request. "Busy" is how much
of its core the server had, and the load generator of its: where the generator is near 100 % and the server
is not, the throughput is the generator's, and CPU is what tells the servers apart. The bare loop accepts,
reads, says always the same and closes: the limit of machine and generator, which a row of a server passes by
no more than the noise between rows.
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
    if results["scenes"]:
        parts += ["![throughput, ours/C](throughput.svg)", HOW.format(**results["how"])]
        parts += ["## Requests", requests_table(results)]
        parts += ["## The limit of the machine", limit_table(results)]
        parts += ["## Memory", memory_table(results)]
    if results["startup"]:
        parts += ["## Start-up", startup_table(results)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def measured(results: Results) -> Iterator[tuple[Cell, Rounds]]:
    for scene in results["scenes"]:
        for cell in scene["cells"]:
            yield Cell(**cell["cell"]), cell["rounds"]


def middle(rounds: list[Result], key: str) -> float:
    return median(result[key] for result in rounds)


def ratio(rounds: Rounds, key: str, side: str = "ours") -> float | None:
    """Ours, or that of another side, by C's."""
    if "C" not in rounds:
        return None
    return median(ours[key] / c[key] for c, ours in zip(rounds["C"], rounds[side], strict=True))


def requests_table(results: Results) -> str:
    sides = ["ours", *(["beside"] if "beside" in results["about"] else [])]
    columns = [f"{what} {side}/C" for side in sides for what in ("throughput", "CPU")]
    for side in ["C", *sides]:
        columns += [f"{side}: req/s", "p50 us", "p99 us", "CPU us", "busy, load's"]
    rows = []
    for cell, rounds in measured(results):
        ratios = [_ratio(ratio(rounds, key, side)) for side in sides for key in ("rate", "cpu")]
        figures = [figure for side in ["C", *sides] for figure in _absolute(rounds.get(side))]
        rows.append([str(cell), *ratios, *figures])
    return _table(["cell", *columns], rows)


def limit_table(results: Results) -> str:
    rows = [
        [f"bare loop, {cell.connections} at a time", *_absolute(rounds["bare"])]
        for cell, rounds in measured(results)
        if "bare" in rounds
    ]
    return _table(["", "req/s", "p50 us", "p99 us", "CPU us", "busy, load's"], rows)


def memory_table(results: Results) -> str:
    rows = [
        [f"{name}, {scene['nodes']:,} nodes", *_memory(memory)]
        for scene in results["scenes"]
        if scene["nodes"] >= _ENOUGH
        for name, memory in scene["memory"].items()
    ]
    return _table(["", "idle RSS, MB", "a registered node, KB", "most there was, MB"], rows)


def startup_table(results: Results) -> str:
    rows = [
        [cell, *(f"{median(took[name]):.0f}" for name in ("C", "ours"))]
        for cell, took in results["startup"].items()
    ]
    return _table(["ms", "C", "ours"], rows)


def _absolute(rounds: list[Result] | None) -> list[str]:
    if rounds is None:
        return [""] * 5
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

_ROW, _LEFT, _WIDTH = 20, 230, 420
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
