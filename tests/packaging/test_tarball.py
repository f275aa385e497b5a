"""dist/*.tar.gz: what is in it installs itself, with neither a checkout nor a Python."""

from __future__ import annotations

import shutil
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


@pytest.fixture
def unpacked(tarball: Path, tmp_path: Path) -> Path:
    assert run([real("tar"), "-xzf", str(tarball), "-C", str(tmp_path)]).returncode == 0
    return tmp_path / tarball.name.removesuffix(".tar.gz")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(real(tool))
    return {"PATH": str(folder)}


def test_installs_without_a_checkout_and_without_python(unpacked: Path, bare: dict, tmp_path: Path) -> None:
    of_c = tmp_path / "erlang" / "erts-15.0" / "bin" / "epmd"
    of_c.parent.mkdir(parents=True)
    of_c.write_text("C's epmd")
    install = [
        str(unpacked / "install"),
        "--prefix",
        str(tmp_path / "prefix"),
        "--erlang",
        str(tmp_path / "erlang"),
    ]
    done = run(install, environ=bare)
    assert (done.returncode, done.stderr) == (0, b"")
    shutil.rmtree(unpacked, ignore_errors=False)
    for epmd in (tmp_path / "prefix" / "bin" / "epmd", of_c):
        done = run([sys.executable, str(ROOT / "build" / "smoke.py"), str(epmd)])
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"gevent" in run([str(epmd), "--licences"]).stdout


def test_uninstalls(unpacked: Path, bare: dict, tmp_path: Path) -> None:
    (tmp_path / "prefix").mkdir()
    install = [str(unpacked / "install"), "--prefix", str(tmp_path / "prefix")]
    assert run(install, environ=bare).returncode == 0
    assert (tmp_path / "prefix" / "bin" / "epmd").exists()
    done = run([*install, "--uninstall"], environ=bare)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list((tmp_path / "prefix").iterdir()) == []


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
