"""Files that are there for as long as a process lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gevent_epmd.program.files import OwnFile

pytestmark = pytest.mark.measured


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_file_takes_the_place_of_what_is_there(path: Path) -> None:
    path.symlink_to("elsewhere")
    file = OwnFile(str(path))
    file.write(b"new")
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file"]
    file.remove()
    file.remove()
    assert os.listdir(path.parent) == []


def test_other_files_stay(path: Path) -> None:
    """Also those that get a number that is free again: the first file's is not, as long as it is open."""
    file = OwnFile(str(path))
    file.remove()
    file.write(b"same")
    number = path.stat().st_ino
    for _ in range(50):
        path.unlink()
        path.write_bytes(b"same")
        assert path.stat().st_ino != number
    file.remove()
    assert path.read_bytes() == b"same"


def test_file_that_somebody_has_removed(path: Path) -> None:
    file = OwnFile(str(path))
    file.write(b"text")
    path.unlink()
    file.remove()
    assert os.listdir(path.parent) == []


def test_failure_leaves_nothing_behind(path: Path) -> None:
    path.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IsADirectoryError):
        OwnFile(str(path)).write(b"text")
    with pytest.raises(FileNotFoundError):
        OwnFile(str(path / "no" / "file")).write(b"text")
    assert os.listdir(path.parent) == ["file"]
    assert len(os.listdir("/proc/self/fd")) == before
