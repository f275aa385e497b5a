"""scripts/compare, bench and soak say in a line what they cannot be asked for."""

from __future__ import annotations

import sys

import pytest

from support.paths import ROOT
from support.patience import LONG
from support.programs import run

BAD = {
    "comparison nosuch": b'compare: "nosuch" is not one of wire, ',
    "comparison --ours x": b'compare: --ours: "x" is not one of source, built, folder\n',
    "comparison --connections abc": b'compare: --connections: "abc" is not a number\n',
    "comparison --c /nowhere": b"compare: --c: /nowhere is not a program\n",
    "bench --only nosuch": b'bench: no cell has "nosuch" in what it is called\n',
    "bench --rounds abc": b'bench: --rounds: "abc" is not a number\n',
    "soak nosuch": b'soak: "nosuch" is not one of ',
    "soak --ours x": b'soak: --ours: "x" is not one of source, built, folder\n',
    "soak --against /nowhere": b"soak: --against: /nowhere is not a program\n",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_line(line: str) -> None:
    done = run(
        [sys.executable, "-m", *line.split()],
        environ={"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'build'}"},
        timeout=LONG,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(BAD[line])
    assert done.stderr.count(b"\n") == 1
