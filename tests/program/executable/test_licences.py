"""`epmd --licences`: what each form prints, and from where."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.marks import forms
from support.paths import BUILT, FOLDER, SOURCE
from support.programs import real, run

EVERYWHERE = {"Python", "gevent-epmd", "docopt-ng", "gevent", "greenlet"}
IN_EXECUTABLES = {"libev", "pyinstaller", "zlib"}
HEADING = re.compile(r"^={72}\n(.+) (\S+): (.+)\n={72}\n", re.MULTILINE)


def licences(command: list[str]) -> dict[str, str]:
    """The texts by name, as they are printed."""
    done = run([*command, "--licences"])
    assert (done.returncode, done.stderr) == (0, b"")
    before, *rest = HEADING.split(done.stdout.decode())
    assert before == ""
    return dict(zip(rest[::4], rest[3::4], strict=True))


@forms(processes_only=True, c=False, at="ours")
def test_names_what_it_is_made_of(ours) -> None:
    found = licences(ours)
    assert found.keys() >= EVERYWHERE
    assert (found.keys() >= IN_EXECUTABLES) == (ours != SOURCE)
    for name, text in found.items():
        assert re.search(r"copyright|PYTHON SOFTWARE FOUNDATION|All files in libev", text, re.IGNORECASE), (
            name
        )
        assert len(text) > 800, name


def test_is_one_file_in_the_executables() -> None:
    text = Path(real(FOLDER)).with_name("_internal").joinpath("licences.txt").read_bytes()
    for executable in (BUILT, FOLDER):
        assert run([real(executable), "--licences"]).stdout == text


def test_one_file_does_not_unpack_it(tmp_path: Path) -> None:
    """What is unpacked at every start costs time at every start."""
    real(BUILT)
    readers = pytest.importorskip("PyInstaller.archive.readers")
    assert not [name for name in readers.CArchiveReader(BUILT).toc if "licence" in name and "." in name]
    done = run([BUILT, "--licences"], environ={"TMPDIR": str(tmp_path)})
    assert done.stdout
    assert list(tmp_path.iterdir()) == []


def test_file_is_missing(tmp_path: Path) -> None:
    shutil.copytree(Path(real(FOLDER)).parent, tmp_path / "epmd")
    (tmp_path / "epmd" / "_internal" / "licences.txt").unlink()
    done = run([str(tmp_path / "epmd" / "epmd"), "--licences"])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"epmd: cannot read the licences: ")
    assert done.stderr.count(b"\n") == 1
