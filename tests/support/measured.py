"""Measuring coverage, and whether the data of a process is lost: `python -m support.measured FOLDER`.

A process that is killed while it writes its data leaves a file without any. `coverage combine` ignores it,
and the report would lack lines that were run.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from support.paths import ROOT


def measure() -> Callable[[], None]:
    """Measure this process from now on, and those that it starts.  Returns what ends it and writes the data.

    pytest calls this when it has collected the tests, because that takes three times as long under coverage.
    So a process that a test starts must run what modules do when they are imported.
    """
    import coverage

    measuring = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measuring.start()

    def end() -> None:
        measuring.stop()
        measuring.save()

    return end


def lost(folder: Path) -> Iterator[str]:
    """Yield the names of the files that hold no data, and not because none of our code ran."""
    for path in sorted(folder.glob("data.*")):
        try:
            with contextlib.closing(sqlite3.connect(path)) as data:
                # The hash of the data comes last.
                whole = data.execute(
                    "SELECT 1 FROM file UNION SELECT 1 FROM meta WHERE key = 'hash'"
                ).fetchone()
        except sqlite3.DatabaseError:
            whole = None
        if not whole:
            yield path.name


if __name__ == "__main__":
    if names := list(lost(Path(sys.argv[1]))):
        sys.exit(f"coverage: the data of {len(names)} processes that were killed is lost: {', '.join(names)}")
