"""The faults that scripts/plant plants can be planted, and what it makes of an outcome."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from plant.__main__ import BROKEN, CAUGHT, HANGS, NOT_CAUGHT, SKIPPED, first_failure, verdict
from plant.fault import Fault
from plant.faults import FAULTS
from plant.tree import Outcome
from support.paths import ROOT

#: Where at least a fault has to be.
PARTS = {
    "protocol",
    "wire",
    "conventions",
    "server/registry",
    "server/connection",
    "server/acceptor",
    "server/mapper",
    "server/timers",
    "server/listeners",
    "server/networks",
    "server/log",
    "server/settings",
    "server/embedding",
    "program/options",
    "program/quick",
    "program/calls",
    "program/process/daemon",
    "program/line",
    "program/process/files",
    "program/process/privileges",
    "program/occupant",
    "program/process/systemd",
    "program/process/signals",
    "client/exchange",
    "client/__init__",
    "testing/plugin",
    "testing/process",
    "scripts/install",
}
LEAST = 150


def test_each_fault_can_be_planted() -> None:
    assert {
        f"{fault.where}: {fault.breaks}": problem for fault in FAULTS if (problem := fault.problem(ROOT))
    } == {}


def test_tests_of_each_fault_are_there() -> None:
    """A word of each expression is one of a test's name; scripts/plant finds what is wrong else."""
    for fault in FAULTS:
        text = (ROOT / fault.tests_path).read_text(encoding="utf-8")
        words = re.findall(r"[\w-]+", fault.expression.lower())
        names = re.findall(r"^(?:def (test_\w+)|(Test\w+))", text, re.MULTILINE)
        tests = [name.lower() for pair in names for name in pair if name]
        assert tests, fault
        assert not words or any(word in name for word in words for name in tests) or "test_case" in tests, (
            fault
        )


def test_no_part_is_without_a_fault_and_none_is_there_twice() -> None:
    assert {fault.where for fault in FAULTS} >= PARTS
    assert len(FAULTS) >= LEAST
    for what in ([(f.where, f.breaks) for f in FAULTS], [(f.path, f.old, f.new) for f in FAULTS]):
        assert [each for each, times in Counter(what).items() if times > 1] == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"old": "x = 1", "new": "x = "}, "syntax"),
        ({"old": "x"}, "occurs 2 times"),
        ({"old": "y"}, "occurs 0 times"),
        ({"path": "no.py"}, "there is no no.py"),
        ({"tests": "unit/no.py: what"}, "there is no tests/unit/no.py"),
    ],
)
def test_fault_that_cannot_be_planted(tmp_path: Path, change: dict[str, str], problem: str) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("module.py", "tests/test_it.py"):
        (tmp_path / name).write_text("x = 1\nprint(x)\n")
    fault = Fault("a number", "module.py", "= 1", "= 2", "test_it.py: what")._replace(**change)
    assert problem in fault.problem(tmp_path)
    assert bool(problem) == bool(fault.problem(tmp_path))


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (None, "", HANGS),
        (1, "1 failed, 2 passed in 0.1s", CAUGHT),
        (0, "3 passed, 1 skipped in 0.1s", NOT_CAUGHT),
        (0, "1 skipped in 0.1s", SKIPPED),
        (-9, "", CAUGHT),
        (2, "1 error in 0.1s", BROKEN),
        (4, "not found", BROKEN),
        (5, "3 deselected in 0.1s", BROKEN),
    ],
)
def test_verdict(status: int | None, said: str, expected: str) -> None:
    assert verdict(Outcome(status, said)) == expected


SAID = """\
tests/test_it.py:5: in test_it
    assert one == 2
E   ResourceWarning: unclosed
During handling of the above exception, another exception occurred:
tests/test_it.py:6: in test_it
E   AssertionError: assert 1 | 2
E     where 1 = one
FAILED tests/test_it.py::test_it[a] - AssertionError
1 failed in 0.1s
"""


def test_why_it_was_caught() -> None:
    assert first_failure(SAID) == r"test_it[a]: AssertionError: assert 1 \| 2"
    scene = 'E   AssertionError: Traceback\nE     File "a", line 1, in it\nE       assert b()\nE   Error\n'
    assert first_failure(scene) == "assert b()"
    assert first_failure("1 skipped in 0.1s") == ""
