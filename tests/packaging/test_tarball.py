"""dist/*.tar.gz: what is in it installs itself, with neither a checkout nor a Python."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from support.paths import FOLDER, ROOT
from support.patience import LONG
from support.programs import real, run

#: All that may be on PATH: GNU coreutils, findutils, sed, grep, util-linux, and bash.
TOOLS = [
    *("bash", "cat", "chmod", "cp", "cut", "dd", "find", "flock", "grep", "ln", "mkdir", "mv"),
    *("readlink", "rm", "rmdir", "sed", "sha256sum", "sort", "stat"),
]


def make(folder: Path) -> Path:
    # Compression is most of what it takes, and it is all gzip's.
    command = [str(ROOT / "scripts" / "tarball"), "--to", str(folder)]
    done = run(command, environ={"EPMD_GZIP_LEVEL": "1"}, timeout=LONG)
    assert (done.returncode, done.stderr) == (0, b"")
    return Path(done.stdout.decode().strip())


@pytest.fixture(scope="module")
def tarball(tmp_path_factory) -> Path:
    real(FOLDER)
    return make(tmp_path_factory.mktemp("tarball"))


@pytest.fixture(scope="module")
def unpacked(tarball: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    assert run([real("tar"), "-xzf", str(tarball), "-C", str(folder)]).returncode == 0
    return folder / tarball.name.removesuffix(".tar.gz")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(real(tool))
    return {"PATH": str(folder)}


def test_installs_and_uninstalls_without_checkout_and_python(
    unpacked: Path, bare: dict, tmp_path: Path
) -> None:
    of_c = tmp_path / "erlang" / "erts-15.0" / "bin" / "epmd"
    of_c.parent.mkdir(parents=True)
    of_c.write_text("C's epmd")
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    where = ["--prefix", str(prefix), "--erlang", str(tmp_path / "erlang")]
    away = unpacked.with_name("moved")
    done = run([str(unpacked / "install"), *where], environ=bare)
    assert (done.returncode, done.stderr) == (0, b"")
    unpacked.rename(away)
    try:
        done = run([sys.executable, str(ROOT / "build" / "smoke.py"), str(of_c)])
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"gevent" in run([str(prefix / "bin" / "epmd"), "--licences"]).stdout
    finally:
        away.rename(unpacked)
    done = run([str(unpacked / "install"), *where, "--uninstall"], environ=bare)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(prefix.iterdir()) == []
    assert of_c.read_text() == "C's epmd"


def test_help_is_not_that_of_a_checkout(unpacked: Path, bare: dict) -> None:
    done = run([str(unpacked / "install"), "--help"], environ=bare)
    assert done.stdout.startswith(b"usage: ./install [--prefix DIR]")
    assert b"the epmd beside this script" in done.stdout
    assert b"scripts/" not in done.stdout


def test_runs_where_it_is_unpacked(unpacked: Path) -> None:
    done = run([sys.executable, str(ROOT / "build" / "smoke.py"), str(unpacked / "epmd")])
    assert (done.returncode, done.stderr) == (0, b"")
    for file in ("LICENSE", "licences.txt", "doc/epmd.1", "doc/operators.md", "doc/systemd/epmd.socket"):
        assert (unpacked / file).stat().st_size, file


def test_is_the_same_each_time_and_nobodys(tarball: Path, tmp_path: Path) -> None:
    assert make(tmp_path).read_bytes() == tarball.read_bytes()
    with tarfile.open(tarball) as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", 0)}
    assert {oct(member.mode) for member in members if not member.issym()} == {"0o755", "0o644"}
