"""The data of coverage that a killed process has not written is missed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from support.measured import lost


def test_file_without_data_is_found(tmp_path: Path) -> None:
    coverage = pytest.importorskip("coverage")
    whole = coverage.CoverageData(str(tmp_path / "data.host.pid1"))
    whole.add_lines({"lib/gevent_epmd/wire.py": [1]})
    whole.close()
    (tmp_path / "data.host.pid2").touch()
    (tmp_path / "data.host.pid3").write_bytes(b"SQLite format 3\0")
    for pid, values in ((4, ""), (5, "INSERT INTO meta VALUES ('hash', '1')")):
        with closing(sqlite3.connect(tmp_path / f"data.host.pid{pid}")) as without_files:
            without_files.executescript(
                f"CREATE TABLE file (id integer); CREATE TABLE meta (key text, value text); {values}"
            )
    assert list(lost(tmp_path)) == [f"data.host.pid{number}" for number in (2, 3, 4)]
