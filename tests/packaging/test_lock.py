"""The lock files: they name all that is asked for, for every supported Python, and pip takes nothing else."""

from __future__ import annotations

import hashlib
import re
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wanted
from support.paths import ROOT
from support.patience import LONG
from support.programs import run
from support.pythons import quick_python

LOCKS = ROOT / "build" / "locks"
PYTHONS = (ROOT / "build" / "pythons").read_text().split()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
NAMES = ["run", *EXTRAS]


def entries(text: str) -> list[list[str]]:
    """The requirements of a lock file, each as a list: what it is, and its hashes."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [re.split(r" \\\n +", entry) for entry in re.split(r"\n(?! )", "\n".join(lines))]


def locked(name: str) -> list[Requirement]:
    return [Requirement(entry[0]) for entry in entries((LOCKS / f"{name}.txt").read_text())]


def applies(requirement: Requirement, python: str) -> bool:
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    return requirement.marker is None or requirement.marker.evaluate(where)


def test_there_is_one_for_each_extra() -> None:
    assert sorted(path.name for path in LOCKS.iterdir()) == sorted(f"{name}.txt" for name in NAMES)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", NAMES)
def test_names_what_is_asked_for(name: str, python: str) -> None:
    found = {canonicalize_name(one.name): one for one in locked(name) if applies(one, python)}
    for line in wanted.requirements(*([] if name == "run" else [name])):
        asked = Requirement(line)
        (version,) = found[canonicalize_name(asked.name)].specifier
        assert version.version in asked.specifier, f"{line}: call scripts/lock"


@pytest.mark.parametrize("name", NAMES)
def test_each_package_has_hashes_and_no_address(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    for what, *hashes in entries(text):
        assert [one.operator for one in Requirement(what).specifier] == ["=="], what
        assert hashes, what
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), what
    assert "://" not in text
    assert "index" not in text


@pytest.mark.parametrize("name", NAMES)
def test_all_lock_the_same_versions(name: str) -> None:
    everything = (ROOT / "build" / "constraints.txt").read_text()
    versions = {one.name: one.specifier for one in [Requirement(what) for (what,) in entries(everything)]}
    assert {one.name: one.specifier for one in locked(name)}.items() <= versions.items()


def test_scripts_let_pip_verify_hashes() -> None:
    calls = [
        line.strip()
        for path in sorted((ROOT / "scripts").iterdir())
        for line in path.read_text().splitlines()
        if re.search(r"\bpip\b.*\b(install|download|wheel)\b", line) and not line.startswith("#")
    ]
    assert calls
    assert all("--require-hashes" in call for call in calls)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One that asks for one package, and locks what is in `wheels`; no network is needed."""
    folder = tmp_path / "checkout"
    for name in ("scripts", "build"):
        shutil.copytree(ROOT / name, folder / name)
    wheel = make_wheel(tmp_path / "wheels", "docopt-ng", "0.9.0")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "build" / "locks" / "run.txt").write_text(f"docopt-ng==0.9.0 \\\n    --hash=sha256:{digest}\n")
    (folder / "setup.py").write_text("raise SystemExit('this is as far as it should get')\n")
    (folder / "pyproject.toml").write_text("")
    return folder


def make_wheel(folder: Path, name: str, version: str) -> Path:
    stem = f"{name.replace('-', '_')}-{version}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path


def set_up(checkout: Path):
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(checkout.parent / "wheels"),
        "PYTHON": str(quick_python(checkout.parent / "python")),
    }
    done = run([str(checkout / "scripts" / "run")], environ=offline, timeout=LONG)
    assert done.returncode == 1
    return done.stderr.decode()


@pytest.mark.slow(10)
def test_package_of_the_right_name_and_the_wrong_content_is_refused(checkout: Path) -> None:
    said = set_up(checkout)
    assert "the package could not be installed" in said
    assert "DO NOT MATCH" not in said
    packages = next((checkout / ".venv").glob("lib/*/site-packages"))
    assert (packages / "docopt_ng-0.9.0.dist-info").is_dir()

    shutil.rmtree(packages / "docopt_ng-0.9.0.dist-info")
    with zipfile.ZipFile(next((checkout.parent / "wheels").iterdir()), "a") as archive:
        archive.writestr("docopt.py", "raise SystemExit('taken over')\n")
    said = set_up(checkout)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in said
    assert "the packages could not be installed" in said
    assert not list(packages.glob("docopt*"))
