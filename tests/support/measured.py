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
    """Yield the names of the files that hold no data. Every whole one names the files of the package."""
    for path in sorted(folder.glob("data.*")):
        try:
            with contextlib.closing(sqlite3.connect(path)) as data:
                ((files,),) = data.execute("SELECT count(*) FROM file")
        except sqlite3.DatabaseError:
            files = 0
        if not files:
            yield path.name


if __name__ == "__main__":
    if names := list(lost(Path(sys.argv[1]))):
        sys.exit(f"coverage: the data of {len(names)} processes that were killed is lost: {', '.join(names)}")
