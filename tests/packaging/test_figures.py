"""The figures in README.md are those of the tables that they are taken from.

These are what scripts/bench --write-docs wrote last, and the start-up times of docs/operators.md.
"""

from __future__ import annotations

import pytest

from support import markdown
from support.paths import ROOT

OPERATORS = ROOT / "docs" / "operators.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = {row[0]: row[1:] for row in markdown.rows((ROOT / "docs" / "benchmarks" / "README.md").read_text())}
#: {cell: (throughput, CPU time), ours as multiples of C's}, where C's was measured too.
RATIOS = {
    cell: (row[0], row[1]) for cell, row in TABLES.items() if "at a time" in cell and row[0] and len(row) > 5
}
#: The cells that README.md names by themselves.
NAMED = ("lookup, 10 nodes, 1 at a time", "register, 10 nodes, 1 at a time")


def test_throughput() -> None:
    lookup, register = (RATIOS[cell][0] for cell in NAMED)
    assert f"| {lookup} and {register} of C's |" in README


def test_cells_in_which_c_is_faster() -> None:
    slower = {
        cell: float(ratio) for cell, (ratio, _) in RATIOS.items() if float(ratio) < 1 and cell not in NAMED
    }
    worst = min(slower, key=slower.__getitem__)
    assert f"C is faster in {len(slower)} more cells, down to {slower[worst]:.2f} ({worst})." in README


def test_cpu_time() -> None:
    small = [
        cpu for cell, (_, cpu) in RATIOS.items() if ", 10 nodes," in cell and not cell.startswith("names")
    ]
    assert len(small) == 6
    assert f"| {min(small)} to {max(small)} of C's |" in README
    lookup, names = (RATIOS[f"{kind}, 1,000 nodes, 8 at a time"][1] for kind in ("lookup", "names"))
    assert f"a look-up takes {lookup} of C's CPU time, and a listing {names}." in README


def test_memory() -> None:
    idle, node = TABLES["ours, 15,000 nodes"][:2]
    c_idle, c_node = TABLES["C, 1,000 nodes"][:2]
    ours, c = (f"{one} MB and {float(other):.0f} KB" for one, other in ((idle, node), (c_idle, c_node)))
    assert f"| {ours} | {c} |" in README


START_UP = {
    "`-names`": "`epmd -names`",
    "`erl`, an epmd is running": "`erl` starts and finds an epmd",
    "`-daemon` to the first answer": "`-daemon` to its first answer",
}


@pytest.mark.parametrize("start", START_UP)
def test_start_up(start: str) -> None:
    (row,) = [row for row in markdown.rows(markdown.section(OPERATORS, "Start-up")) if row[0] == start]
    one_file, folder, c = (cell.split()[0] for cell in row[1:])
    assert f"| {START_UP[start]} | {folder} ms installed, {one_file} ms as one file | {c} ms |" in README
