"""What scripts/try-newest records of its steps, and the page that is made from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from newest import report, steps
from support.patience import PATIENCE

VERSIONS = {"Python": "3.14.0", "ejabberd": ""}
PASSED = {"name": "scripts/test", "passed": True, "seconds": 600, "seen": "9 passed, 1 skipped"}
DETAILS = [
    "SKIPPED [1] tests/test_x.py:1: no such Python",
    "FAILED tests/test_x.py::test_y[a - b] - it is a | b",
]
PAGE = """
|  | broken | sid |
| --- | --- | --- |
| run on | 2026-01-03 | 2026-01-02 |
| Python | 3.13.5 | 3.14.0 |
| ejabberd | - | - |
| `scripts/test` | 9 passed, 1 skipped | 9 passed, 1 skipped |
| ejabberd on the executable | not packaged | **failed**: a \\| b |

### Skipped or failed: sid

| result | test | reason |
| --- | --- | --- |
| skipped [1] | `tests/test_x.py:1` | no such Python |
| failed | `tests/test_x.py::test_y[a - b]` | it is a \\| b |
"""


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(steps, "RECORDS", tmp_path / "records")
    return tmp_path / "records"


def test_step_that_works(records: Path) -> None:
    def action(log: steps.Log) -> steps.Seen:
        return steps.Seen(
            log.run(sys.executable, "-c", "import os; print(os.environ['WORD'])", WORD="said").strip()
        )

    one = steps.step("scripts/a step", action)
    assert (one.name, one.passed, one.seen) == ("scripts/a step", True, "said")
    said = (records / "scripts-a-step.log").read_text()
    assert said.splitlines() == [f"$ {sys.executable} -c import os; print(os.environ['WORD'])", "said"]


@pytest.mark.parametrize(
    ("code", "patience", "why"),
    [
        ("print('one', flush=True); raise SystemExit('two')", PATIENCE, "status 1: two (see x.log)"),
        ("while True: pass", 0.1, "took more than 0 s (see x.log)"),
    ],
    ids=["status", "patience"],
)
def test_step_that_fails(code: str, patience: float, why: str) -> None:
    def action(log: steps.Log) -> steps.Seen:
        log.run(sys.executable, "-c", code, patience=patience)
        pytest.fail("it went on")

    one = steps.step("x", action)
    assert not one.passed
    assert one.seen.endswith(why)


def test_waiting_has_an_end() -> None:
    def action(_: steps.Log) -> steps.Seen:
        steps.wait_until(lambda: False, "better days", patience=0)
        pytest.fail("it went on")

    assert steps.step("x", action).seen == "waited 0 s in vain for better days"


def test_record_keeps_both_phases(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "record.json"
    one = steps.Step("x", passed=True, seconds=1, seen="y")
    steps.record(path, {"online": steps.as_record([one])})
    steps.record(path, {"offline": []})
    assert json.loads(path.read_text()) == {
        "online": [{"name": "x", "passed": True, "seconds": 1, "seen": "y", "details": []}],
        "offline": [],
    }


def test_page(tmp_path: Path) -> None:
    failed = {"name": "ejabberd", "passed": False, "seconds": 1, "seen": "a | b", "details": []}
    sid = {
        "date": "2026-01-02",
        "versions": VERSIONS,
        "online": [],
        "offline": [PASSED | {"details": DETAILS}, failed],
    }
    broken = {"date": "2026-01-03", "versions": {"Python": "3.13.5"}, "online": [PASSED | {"details": []}]}
    for name, record in (("sid", sid), ("broken", broken)):
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    page = report.page(report.read([str(tmp_path / "sid.json"), str(tmp_path / "broken.json")]))
    assert page == report.INTRODUCTION + PAGE
