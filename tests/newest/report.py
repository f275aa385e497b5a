"""Writes the end of docs/compatibility.md from the records that scripts/try-newest leaves by its roots."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
SERVICES = ("rabbitmq-server", "ejabberd")

HEADING = "## Runs on newer releases of Debian\n"
INTRODUCTION = f"""\
{HEADING}
<!-- Made by scripts/try-newest --write-docs -->

`scripts/try-newest SUITE` tries a commit on another release of Debian. It makes a root of that suite with
debootstrap, and runs `scripts/run`, `scripts/build` and `scripts/test` in it from a fresh clone. Then the
executable takes the place of C's `epmd`, and RabbitMQ and ejabberd, as the suite packages them, run on it.
Each column is a run; `PYTHON=python3.15 scripts/try-newest sid` takes another Python than the default one.

Unstable suites change daily, so this is not part of CI.
"""


def table(records: dict[str, dict]) -> str:
    """A column for each record, with versions first and then the steps."""
    seen = list(records.values())
    versions = dict.fromkeys(name for record in seen for name in record["versions"])
    names = dict.fromkeys(one["name"] for record in seen for one in steps(record))
    rows = [
        ["", *records],
        ["---"] * (1 + len(records)),
        ["run on", *(record["date"] for record in seen)],
        *([name, *(record["versions"].get(name) or "-" for record in seen)] for name in versions),
        *([title(name), *(cell(record, name) for record in seen)] for name in names),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def title(name: str) -> str:
    if name in SERVICES:
        return f"{name} on the executable"
    return f"`{name}`" if name.startswith("scripts/") else name


def steps(record: dict) -> list[dict]:
    return record.get("online", []) + record.get("offline", [])


def cell(record: dict, name: str) -> str:
    found = [one for one in steps(record) if one["name"] == name]
    if not found:
        return "not packaged" if name in SERVICES else "not run"
    seen = escaped(found[0]["seen"])
    return seen if found[0]["passed"] else f"**failed**: {seen}"


def details(records: dict[str, dict]) -> str:
    """The tests that were skipped or failed, and why, in a table for each record."""
    sections = []
    for title, record in records.items():
        rows = [row(detail) for one in steps(record) for detail in one["details"]]
        if rows:
            heading = f"### Skipped or failed: {title}\n\n| result | test | reason |\n| --- | --- | --- |\n"
            sections.append(heading + "".join(rows))
    return "\n".join(sections)


def row(detail: str) -> str:
    """A line of pytest's summary as a row: what became of a test, which one, and why.

    With skipped tests a place in a file is given, with failed ones a test.
    """
    parts = r"([A-Z]+(?: \[\d+\])?) (\S+?(?:\[.*?\])?)(?:(?:: | - )(.*))?"
    result, test, reason = re.fullmatch(parts, detail).groups(default="")
    return f"| {result.lower()} | `{escaped(test)}` | {escaped(reason)} |\n"


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def page(records: dict[str, dict]) -> str:
    return "\n".join(part for part in (INTRODUCTION, table(records), details(records)) if part)


def read(paths: list[str]) -> dict[str, dict]:
    """The records, by the names of their roots, the oldest Python first."""
    records = {Path(path).stem: json.loads(Path(path).read_text(encoding="utf-8")) for path in paths}
    return dict(sorted(records.items(), key=lambda record: python_of(record[1])))


def python_of(record: dict) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", record["versions"].get("Python") or "")]


if __name__ == "__main__":
    by_hand = DOCS.read_text(encoding="utf-8").partition(HEADING)[0]
    DOCS.write_text(by_hand + page(read(sys.argv[1:])), encoding="utf-8")
