"""Folders that one-file executables have left: which of them are removed, by the module alone."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from gevent_epmd.program.executable.leftovers import MARK, sweep

pytestmark = pytest.mark.measured

#: Of process 2^32 - 1, which there cannot be.
_DEAD = "_MEIffffffff{:06d}"


def leave(folder: Path, name: str, *, mark: bool = True, old: bool = True) -> Path:
    left = folder / name
    (left / "lib").mkdir(parents=True)
    (left / "lib" / "late.so").write_bytes(b"code")
    if mark:
        (left / MARK).touch()
    if old:
        os.utime(left, (0, 0))
    return left


def test_only_what_is_dead_old_marked_and_unused_is_removed(tmp_path: Path) -> None:
    dead, used = leave(tmp_path, _DEAD.format(0)), leave(tmp_path, _DEAD.format(1))
    others = [
        leave(tmp_path, _DEAD.format(2), mark=False),
        leave(tmp_path, _DEAD.format(3), old=False),
        leave(tmp_path, f"_MEI{os.getpid():08x}000000"),
        leave(tmp_path, "other"),
    ]
    with (used / "lib" / "late.so").open() as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        sweep(str(tmp_path / "_MEIown"))
    assert not dead.exists()
    assert all(folder.is_dir() for folder in (used, *others))
    sweep(str(tmp_path / "_MEIown"))
    assert not used.exists()


def test_what_cannot_be_removed_or_read_is_no_failure(tmp_path: Path) -> None:
    sweep(str(tmp_path / "missing" / "_MEIown"))
    kept = leave(tmp_path, _DEAD.format(0))
    (kept / "lib" / "link").symlink_to(tmp_path)
    (tmp_path / "stays").touch()
    os.utime(kept, (0, 0))
    sweep(str(tmp_path / "_MEIown"))
    assert (tmp_path / "stays").exists(), "no link is followed"
