"""scripts/release: what it refuses, and that what it makes works."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import FOLDER, ROOT
from support.patience import LONG
from support.programs import real, run

NOBODY = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
#: Takes the place of what makes the artefacts: one of them is another one each time, if the test wants it.
ARTEFACTS = """\
#!/bin/sh
mkdir -p "$1"
echo same >"$1/same"
cat VARYING >"$1/other" 2>/dev/null || echo same >"$1/other"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit, which has no tag, and all that scripts/release needs until it builds."""
    folder = tmp_path / "checkout"
    for name in ("scripts/release", "scripts/_environment", "build/pythons", "lib/gevent_epmd/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    init = folder / "lib" / "gevent_epmd" / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "1.2.3"', init.read_text()))
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3, 2026-11-30\n\n- More.\n")
    (folder / "scripts" / "artefacts").write_text(ARTEFACTS)
    (folder / "scripts" / "artefacts").chmod(0o755)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder: Path, *command: str) -> None:
    subprocess.run([real("git"), *command], cwd=folder, env={**os.environ, **NOBODY}, check=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")


def refused(checkout: Path) -> str:
    """What the last line says."""
    done = run([str(checkout / "scripts" / "release")], environ=NOBODY)
    assert (done.returncode, done.stdout) == (1, b"")
    assert not (checkout / "dist" / "release").exists()
    return done.stderr.decode().splitlines()[-1]


def test_tree_with_changes(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.3")
    (checkout / "build" / "pythons").write_text("3.14\n")
    assert refused(checkout) == "release: there are changes that are not committed:  M build/pythons"
    git(checkout, "checkout", "--quiet", ".")
    (checkout / "more").touch()
    assert refused(checkout) == "release: there are changes that are not committed: ?? more"


def test_commit_without_a_tag(checkout: Path) -> None:
    assert refused(checkout) == "release: this commit has no tag v1.2.3"
    git(checkout, "tag", "v1.2.3")
    (checkout / "more").touch()
    commit(checkout)
    assert refused(checkout) == "release: this commit has no tag v1.2.3"


def test_tag_of_another_version(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.30")
    said = "release: the tag v1.2.30 does not match the version, 1.2.3 (lib/gevent_epmd/__init__.py)"
    assert refused(checkout) == said


def test_version_whose_changes_are_not_closed(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3, unreleased\n")
    commit(checkout)
    git(checkout, "tag", "v1.2.3")
    assert refused(checkout) == "release: CHANGELOG.md calls 1.2.3 unreleased"


def test_changelog_has_the_heading_that_is_looked_for() -> None:
    version = re.search(r'__version__ = "(.*)"', (ROOT / "lib/gevent_epmd/__init__.py").read_text())[1]
    assert re.search(rf"^## {re.escape(version)}, ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_folder_that_is_no_checkout(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    done = run(
        [str(checkout / "scripts" / "release")], environ={"GIT_CEILING_DIRECTORIES": str(checkout.parent)}
    )
    assert (done.returncode, done.stderr) == (1, b"release: this is not a git checkout\n")


def test_artefact_that_differs(checkout: Path) -> None:
    artefacts = checkout / "scripts" / "artefacts"
    artefacts.write_text(artefacts.read_text().replace("VARYING", "/proc/sys/kernel/random/uuid"))
    commit(checkout)
    git(checkout, "tag", "v1.2.3")
    assert refused(checkout) == "release: made twice, these are not the same bytes: other"


def test_wrong_usage(checkout: Path) -> None:
    done = run([str(checkout / "scripts" / "release"), "--bogus"])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"usage: scripts/release [--dry-run]")


@pytest.mark.slow(40)
def test_dry_run_makes_all_and_tries_it() -> None:
    real(FOLDER)
    done = run(
        [str(ROOT / "scripts" / "release"), "--dry-run"],
        environ={
            "SOURCE_DATE_EPOCH": "1700000000",
            "PIP_RETRIES": "1",
            # Compression is most of what it takes, and others'.
            "EPMD_DEB_COMPRESSION": "none",
            "EPMD_GZIP_LEVEL": "1",
        },
        timeout=LONG,
    )
    if done.returncode and not os.environ.get("CI") and b"connection broken" in done.stderr:
        pytest.skip("the packages are out of reach: no network")
    assert done.returncode == 0, done.stderr.decode()
    folder = ROOT / "dist" / "release"
    made = {re.sub(r"\d+\.\d+\.\d+", "VERSION", path.name) for path in folder.iterdir()}
    machine = os.uname().machine
    assert {name for name in made if not name.endswith(".deb")} == {
        f"gevent-epmd-VERSION-linux-{machine}",
        f"gevent-epmd-VERSION-linux-{machine}.cdx.json",
        f"gevent-epmd-VERSION-linux-{machine}.tar.gz",
        "gevent_epmd-VERSION-py3-none-any.whl",
        "gevent_epmd-VERSION.tar.gz",
        "SHA256SUMS",
    }
    lines = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert lines == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }
    for name in lines:
        assert name.encode() in done.stdout
