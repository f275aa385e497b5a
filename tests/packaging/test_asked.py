"""scripts/compare, bench and soak say in a line what they cannot be asked for."""

from __future__ import annotations

import runpy
import sys

import pytest

BAD = {
    "comparison nosuch": 'compare: "nosuch" is not one of wire, ',
    "comparison --ours x": 'compare: --ours: "x" is not one of source, built, folder',
    "comparison --connections abc": 'compare: --connections: "abc" is not a number',
    "comparison --c /nowhere": "compare: --c: /nowhere is not a program",
    "bench --only nosuch": 'bench: no cell has "nosuch" in what it is called',
    "bench --rounds abc": 'bench: --rounds: "abc" is not a number',
    "soak nosuch": 'soak: "nosuch" is not one of ',
    "soak --ours x": 'soak: --ours: "x" is not one of source, built, folder',
    "soak --against /nowhere": "soak: --against: /nowhere is not a program",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_line(line: str, monkeypatch, capfd) -> None:
    tool, *options = line.split()
    monkeypatch.setattr(sys, "argv", [tool, *options])
    # Another test may have imported it, of which runpy would warn.
    monkeypatch.delitem(sys.modules, f"{tool}.__main__", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(tool, run_name="__main__", alter_sys=True)
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith(BAD[line])
    assert "\n" not in end.value.code
    assert capfd.readouterr() == ("", "")
