"""Files that are there for as long as a process lives."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from gevent_epmd.program.process.files import OwnFile, resolved

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must mind whose link it is")

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


def test_file_that_is_written_again(path: Path) -> None:
    file = OwnFile(str(path))
    before = len(os.listdir("/proc/self/fd"))
    for content in (b"one", b"two", b"three"):
        file.write(content)
        assert path.read_bytes() == content
        assert len(os.listdir("/proc/self/fd")) == before + 2
    path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(FileNotFoundError):
        file.write(b"lost")
    path.parent.mkdir()
    file.write(b"four")
    assert os.listdir(path.parent) == ["file"]
    file.remove()
    assert os.listdir(path.parent) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_that_has_no_room(path: Path) -> None:
    """The system writes as much as it can, and reports no error. What is there stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = OwnFile(str(path))
    file.write(b"whole")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="No space left"):
            file.write(b"more than 10 bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file"]
    file.remove()
    assert os.listdir(path.parent) == []


def test_nothing_is_left_open_by_which_the_file_could_be_written(path: Path) -> None:
    """Whoever takes the process over after -user could write into what others trust, because it is root's."""
    file = OwnFile(str(path))
    file.write(b"4711")
    ways = [int(way) for way in os.listdir("/proc/self/fd") if leads_to(f"/proc/self/fd/{way}", path)]
    assert len(ways) == 1
    for how, what in (os.write, b"1"), (os.ftruncate, 0), (os.fchmod, 0o777):
        with pytest.raises(OSError, match="Bad file descriptor"):
            how(ways[0], what)
    file.remove()
    assert [way for way in os.listdir("/proc/self/fd") if leads_to(f"/proc/self/fd/{way}", path.parent)] == []


def leads_to(way: str, path: Path) -> bool:
    try:
        return os.readlink(way) == str(path)
    except OSError:
        return False  # the descriptor of the listing


def test_folder_is_resolved_and_its_last_part_is_not(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "to_b").symlink_to("a/./b/")
    (tmp_path / "far").symlink_to(tmp_path / "to_b")
    (tmp_path / "a" / "b" / "file").symlink_to("/etc/passwd")
    monkeypatch.chdir(tmp_path)
    expected = str(tmp_path / "a" / "b" / "file")
    for given in ("a/b/file", "to_b/file", "far//file", "far/../b/./file", f"{tmp_path}/to_b/file"):
        assert resolved(given) == expected
    assert resolved("to_b") == str(tmp_path / "to_b")
    assert resolved("no/such/../file") == str(tmp_path / "no" / "file")
    assert resolved("/file") == resolved("/../file") == "/file"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="Too many levels") as raised:
        resolved(str(tmp_path / "one" / "file"))
    assert raised.value.errno == errno.ELOOP


def test_folder_of_a_relative_path_that_was_removed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError):
        resolved("file")
    assert resolved("/file") == "/file"


@as_root
def test_root_follows_its_own_links_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder")
    assert resolved(str(link / "file")) == str(tmp_path / "folder" / "file")
    os.lchown(link, 12345, 12345)
    with pytest.raises(PermissionError, match=f"root does not follow the link {link} of another user"):
        resolved(str(link / "file"))
    assert resolved(str(link)) == str(link)


@as_root
def test_root_does_not_enter_a_link_that_has_taken_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "victim").mkdir()
    path = resolved(str(tmp_path / "folder" / "file"))
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").symlink_to("victim")
    with pytest.raises(NotADirectoryError):
        OwnFile(path).write(b"4711")
    assert os.listdir(tmp_path / "victim") == []


def test_folder_that_was_moved_meanwhile(tmp_path: Path) -> None:
    """Nothing of another folder is removed, which has its name now."""
    (tmp_path / "folder").mkdir()
    file = OwnFile(str(tmp_path / "folder" / "file"))
    file.write(b"4711")
    (tmp_path / "folder").rename(tmp_path / "moved")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"precious")
    file.remove()
    assert os.listdir(tmp_path / "moved") == []
    assert (tmp_path / "folder" / "file").read_bytes() == b"precious"
