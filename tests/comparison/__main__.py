"""Compare the C epmd with ours, side by side, and show where they differ.

usage: compare [options] [GROUP...]
       compare --write-docs

Groups: wire, commands, traffic, log, life; all of them if none is named. Status 1 if any scene is DIFFERENT.

options:
    --c PATH           The C epmd; if not given, EPMD_C names it, or else it is /usr/bin/epmd.
    --ours FORM        source, built or folder [default: source].
    --connections N    How many connections of random traffic [default: 100000].
    --seed N           Where random traffic starts [default: 1].
    --batch N          Play only this batch of the random traffic.
    --all              Show every scene, not only those that differ.
    --write-docs       Write docs/differences.md, and compare nothing.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator

from docopt import docopt

from comparison import groups
from comparison.rows import DIFFERENT, SAME, Row
from support import differences
from support.asked import choice, number, program
from support.forms import PROGRAMS, C
from support.paths import C_EPMD, ROOT
from support.programs import heed_signals

DOCS = ROOT / "docs" / "differences.md"
_WIDEST = 48


def cell(text: str) -> str:
    """A text on one line, short, for a Markdown table."""
    line = text.encode("unicode_escape").decode().replace("|", "\\|")
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."


def show(row: Row, *, everything: bool) -> None:
    if everything or row.verdict != SAME:
        verdict = f"{row.verdict}: {row.title}" if row.title else row.verdict
        print(
            f"| {row.group}: {cell(row.scene)} | {cell(row.c)} | {cell(row.ours)} | {verdict} |", flush=True
        )
    if row.verdict == DIFFERENT:
        print(f"    C:    {row.c!r}\n    ours: {row.ours!r}", flush=True)
        if row.more:
            print(f"    {row.more}", flush=True)


def compare(rows: Iterator[Row], *, everything: bool) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        show(row, everything=everything)
        found[row.group, row.verdict] += 1
    return found


def main() -> int:
    heed_signals()
    # As Ctrl-C does: whatever was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    asked = docopt(__doc__)
    if asked["--write-docs"]:
        DOCS.parent.mkdir(exist_ok=True)
        DOCS.write_text(differences.page(), encoding="utf-8")
        return 0
    c = type("C", (C,), {"command": (program("compare: --c", asked["--c"] or C_EPMD),)})
    ours = PROGRAMS[choice("compare: --ours", asked["--ours"], PROGRAMS)]
    chosen = [choice("compare", name, groups.GROUPS) for name in asked["GROUP"]] or list(groups.GROUPS)
    connections, seed, batch = (
        None if asked[option] is None else number(f"compare: {option}", asked[option], int)
        for option in ("--connections", "--seed", "--batch")
    )
    plan = groups.Plan(connections, seed, batch)
    print(f"C: {c.command[0]}, OTP {c.otp()}\n")
    print("| scene | C | ours | verdict |\n|---|---|---|---|", flush=True)
    found: Counter[tuple[str, str]] = Counter()
    for name in chosen:
        found += compare(groups.GROUPS[name](c, ours, plan), everything=asked["--all"])
    print()
    for (group, verdict), times in sorted(found.items()):
        print(f"{group}: {times} {verdict}")
    return int(any(verdict == DIFFERENT for _, verdict in found))


if __name__ == "__main__":
    sys.exit(main())
