"""How long tests wait, and that no test has a limit of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import patience
from support.patience import PATIENCE, SLOWNESS, VARIABLE, slowness, wait_until, whole_seconds

TESTS = Path(__file__).parents[1]
#: Projects of their own, which know nothing of this one.
EXAMPLES = TESTS / "examples"
#: What waits for a process, a thread, a socket or a condition; and which of its arguments is the limit.
WAITS = {
    "wait": 0,
    "join": 0,
    "communicate": 1,
    "settimeout": 0,
    "create_connection": 1,
    "select": 3,
    "wait_until": 2,
    "until": 1,
    "run": None,
    "run_apart": None,
    "in_a_box": None,
    "outcome": None,
    "result": 0,
}
CLOCKS = ("monotonic", "perf_counter", "time")


def limits(source: str) -> Iterator[int]:
    """The lines in which something is waited for, or has to be over, in a time that is a number."""
    lines = source.splitlines()
    for found in ast.walk(ast.parse(source)):
        is_one = (isinstance(found, ast.Call) and _has_a_limit(found)) or (
            isinstance(found, ast.Compare) and _is_soon_enough(found)
        )
        if is_one and "# the rate" not in lines[found.lineno - 1]:
            yield found.lineno


def _has_a_limit(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in WAITS:
        return False
    place = WAITS[name]
    given = call.args[place : place + 1] if place is not None else []
    given += [keyword.value for keyword in call.keywords if keyword.arg in ("timeout", "patience")]
    return any(isinstance(value, ast.Constant) and _is_a_time(value.value) for value in given)


def _is_a_time(value: object) -> bool:
    """Not to wait at all is no limit."""
    return isinstance(value, int | float) and value > 0


def _is_soon_enough(compared: ast.Compare) -> bool:
    """`monotonic() - start < 5`, alone or in a chain."""
    sides = [compared.left, *compared.comparators]
    return any(
        isinstance(how, ast.Lt | ast.LtE) and _reads_a_clock(left) and isinstance(right, ast.Constant)
        for left, how, right in zip(sides, compared.ops, sides[1:], strict=False)
    )


def _reads_a_clock(expression: ast.expr) -> bool:
    if not (isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Sub)):
        return False
    calls = [found.func for found in ast.walk(expression) if isinstance(found, ast.Call)]
    return any(isinstance(called, ast.Attribute) and called.attr in CLOCKS for called in calls)


MODULES = [path for path in sorted(TESTS.rglob("*.py")) if EXAMPLES not in path.parents]


def test_no_test_has_a_limit_of_its_own() -> None:
    """It comes from support.patience: a number of seconds is right on one machine."""
    texts = {path.relative_to(TESTS): path.read_text(encoding="utf-8") for path in MODULES}
    found = [f"{path}:{line}" for path, text in texts.items() for line in limits(text)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(20)",
        "run(command, timeout=60)",
        "wait_until(condition, 'it', 5)",
        "wait_until(condition, 'it', patience=5)",
        "socket.create_connection(there, timeout=5)",
        "assert time.monotonic() - start < 3",
        "assert 0.9 < time.monotonic() - start < 30",
    ],
)
def test_limit_is_seen(line: str) -> None:
    assert [*limits(line)] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(PATIENCE)",
        "mapper.wait(0)",
        "wait_until(condition, 'it')",
        "call(timeout=0.5)",
        "assert time.monotonic() - start > 0.9",
        "', '.join(words)",
        "self._done.wait(1)  # the rate",
        "time.time() % 1 < 0.05",
    ],
)
def test_what_is_no_limit(line: str) -> None:
    assert [*limits(line)] == []


def test_machine_is_measured_once(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE)
    found = slowness()
    assert found >= 1
    monkeypatch.setattr(patience, "_seconds_of_the_loop", lambda: pytest.fail("measured again"))
    assert slowness() == pytest.approx(found, abs=0.1)


@pytest.mark.parametrize(("said", "meant"), [("4", 4), ("0.5", 1), ("1", 1)])
def test_slowness_that_is_told(monkeypatch, said: str, meant: float) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert slowness() == meant


@pytest.mark.parametrize(("seconds", "times"), [(0.07, 1), (0.01, 1), (0.28, 4), (3600, 20)])
def test_slowness_that_is_measured(monkeypatch, seconds: float, times: float) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(patience, "_seconds_of_the_loop", lambda: seconds)
    assert slowness() == pytest.approx(times)


def test_limits_are_for_what_hangs() -> None:
    assert PATIENCE >= 60 * SLOWNESS
    assert whole_seconds(3) >= 3
    assert whole_seconds(0.1) >= 1


def test_waiting_has_an_end() -> None:
    with pytest.raises(AssertionError, match="waited 0 s in vain for: better days"):
        wait_until(lambda: False, "better days", patience=0)
