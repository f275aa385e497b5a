"""Whether coverage has lost the data of a process: `python -m support.measured FOLDER`.

A process that is killed while it writes its data leaves a file without any. `coverage combine` ignores it,
and the report would lack lines that were run.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path


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
