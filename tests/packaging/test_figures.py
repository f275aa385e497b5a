"""The figures in README.md are those of the tables that they are taken from.

These are what scripts/bench --write-docs wrote last, and the start-up times of docs/install.md.
"""

from __future__ import annotations

import pytest

from support import markdown
from support.paths import ROOT

INSTALL = ROOT / "docs" / "install.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = markdown.rows((ROOT / "docs" / "benchmarks" / "README.md").read_text(encoding="utf-8"))
#: The Python that a newcomer has is compiled with the defaults; Debian's is faster.
PLAIN = ", not the system's"
#: {cell: (throughput, CPU time), ours as multiples of C's}, where C's was measured too.
RATIOS = {
    row[0]: (row[2], row[3]) for row in ROWS if "at a time" in row[0] and row[1].endswith(PLAIN) and row[2]
}


def by_erlang(kind: str, nodes: str = "10") -> tuple[str, str, str, str]:
    """Throughput and CPU time with Erlang's client, one and eight at a time."""
    cells = [f"{kind}, Erlang's client, {nodes} nodes, {count} at a time" for count in (1, 8)]
    one, eight = (RATIOS[cell] for cell in cells)
    return one[0], eight[0], one[1], eight[1]


@pytest.mark.parametrize(("kind", "title"), {"lookup": "a look-up", "register": "a registration"}.items())
def test_with_erlangs_client(kind: str, title: str) -> None:
    one, eight, cpu_one, cpu_eight = by_erlang(kind)
    figures = f"{one} and {eight} of C's throughput, {cpu_one} and {cpu_eight} of its CPU time"
    assert f"| {title} by Erlang's client, 1 and 8 at a time | {figures} | | `scripts/bench` |" in README


def test_many_nodes() -> None:
    lookup, names = (by_erlang(kind, "1,000")[3] for kind in ("lookup", "names"))
    assert f"8 clients, a look-up takes {lookup} of C's CPU time, and a listing {names}." in README


def test_cells_that_cost_more() -> None:
    """Also with a client that is not Erlang's."""
    requests = {cell: float(cpu) for cell, (_, cpu) in RATIOS.items() if not cell.startswith("start")}
    dearer = [cpu for cpu in requests.values() if cpu > 1]
    start = RATIOS["start of a node, 1 at a time"][1]
    assert f"In {len(dearer)} of {len(requests)} cells C takes less CPU time: " in README
    assert (
        f"ours takes up to {max(dearer):.2f} times as much, and {start} times in the start of a node."
        in README
    )


def test_both_pythons_are_measured() -> None:
    servers = {row[1].split(", ", 1)[-1] for row in ROWS if "at a time" in row[0] and "Python" in row[1]}
    assert servers == {"the system's", "not the system's"}


def test_memory() -> None:
    found = {(row[0], row[1].split(", ", 1)[-1]): row[2:] for row in ROWS if row[0].endswith("00 nodes")}
    idle, node = found["15,000 nodes", "not the system's"][:2]
    c_idle, c_node = found["1,000 nodes", "C"][:2]
    ours, c = (f"{one} MB and {float(other):.0f} KB" for one, other in ((idle, node), (c_idle, c_node)))
    assert f"| {ours} | {c} |" in README


START_UP = {
    "`-names`": "`epmd -names`",
    "`erl`, an epmd is running": "`erl` starts and finds an epmd",
    "`-daemon` to the first answer": "`-daemon` to its first answer",
}


@pytest.mark.parametrize("start", START_UP)
def test_start_up(start: str) -> None:
    (row,) = [row for row in markdown.rows(markdown.section(INSTALL, "Start-up")) if row[0] == start]
    one_file, folder, c = (cell.split()[0] for cell in row[1:])
    assert f"| {START_UP[start]} | {folder} ms installed, {one_file} ms as one file | {c} ms |" in README
