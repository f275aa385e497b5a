"""Formats the findings of `epmd -check`: a table for people, or JSON. C's epmd has no counterpart."""

from __future__ import annotations

import os

from . import findings
from .findings import Finding
from .look import Sight

#: A longer subject does not widen the column.
_WIDEST = 30


def as_table(found: list[Finding]) -> str:
    """Return one line for each finding, its remedy below it, and a summary as the last line."""
    lines = [findings.escaped(finding) for finding in found]
    subjects = [_subject(line) for line in lines]
    width = max((len(subject) for subject in subjects if len(subject) <= _WIDEST), default=0)
    text = []
    for line, subject in zip(lines, subjects, strict=True):
        text.append(f"{line.state:7}  {subject:{width}}  {line.seen}\n")
        if line.to_do:
            text.append(f"{'':7}  -> {line.to_do}\n")
    return "".join(text) + _summary(found)


def _subject(finding: Finding) -> str:
    return f"node {finding.subject}" if finding.topic == "node" else finding.subject


def _summary(found: list[Finding]) -> str:
    counts = {
        state: sum(finding.state == state for finding in found)
        for state in (findings.WRONG, findings.WARNING)
    }
    warnings = findings.counted(counts[findings.WARNING], "warning")
    if counts[findings.WRONG]:
        return f"epmd: {counts[findings.WRONG]} wrong, {warnings}\n"
    return f"epmd: no problem found{f', {warnings}' if counts[findings.WARNING] else ''}\n"


def as_object(sight: Sight, found: list[Finding]) -> dict[str, object]:
    """Return the object that is printed as JSON. docs/troubleshooting.md describes it."""
    return {
        "host": sight.host,
        "port": sight.port,
        "status": findings.status(found),
        "findings": [finding._asdict() for finding in found],
    }


class Progress:
    """Shows the number of completed steps on stderr, if stderr is a terminal."""

    def __init__(self) -> None:
        self._shown = os.isatty(2)

    def tell(self, done: int, of: int) -> None:
        self._write(f"\r\x1b[Kepmd: {done} of {of} steps")

    def clear(self) -> None:
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._shown:
            try:
                os.write(2, text.encode())
            except OSError:
                self._shown = False  # the terminal is gone or not read
