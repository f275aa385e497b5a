"""The workflows of the forge: valid, of all supported Pythons, with no right that they do not need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support.paths import ROOT
from support.types import schema_status

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.iterdir())
#: What each job may write, beyond reading the repository.
RIGHTS = {("release.yml", "attest"): {"id-token", "attestations"}, ("release.yml", "draft"): {"contents"}}
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def jobs(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text())["jobs"]


def steps() -> list[tuple[Path, dict]]:
    return [(path, step) for path in WORKFLOWS for job in jobs(path).values() for step in job["steps"]]


def test_are_valid(tmp_path: Path, capsys) -> None:
    assert schema_status("github-workflows", *WORKFLOWS) == 0
    broken = [tmp_path / path.name for path in WORKFLOWS]
    for path, copy in zip(WORKFLOWS, broken, strict=True):
        copy.write_text(path.read_text().replace("runs-on", "runs-where"))
    assert schema_status("github-workflows", *broken) == 1, "it can fail"
    said = capsys.readouterr().out
    assert all(str(path) in said for path in broken)


def test_every_supported_python_is_tested() -> None:
    matrix = jobs(FOLDER / "tests.yml")["tests"]["strategy"]["matrix"]
    supported = (ROOT / "build" / "pythons").read_text().split()
    assert matrix["python"] == supported
    made_with = [step["with"].get("python-version") for _, step in steps() if "with" in step]
    assert {*filter(None, made_with)} <= {*supported, "${{ matrix.python }}"}


def test_actions_are_pinned_by_commit_and_by_one_only() -> None:
    used = [
        line.partition("uses:")[2].strip() for path in WORKFLOWS for line in path.read_text().splitlines()
    ]
    pins = {pin for pin in used if pin and not pin.startswith("./.github/actions/")}
    assert pins
    assert [pin for pin in pins if not PINNED.fullmatch(pin)] == []
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_may_write_more_than_it_needs(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    assert settings["permissions"] in ({}, {"contents": "read"})
    for name, job in settings["jobs"].items():
        writes = {right for right, how in job.get("permissions", {}).items() if how != "read"}
        assert writes == RIGHTS.get((path.name, name), set())
        if writes:
            builds = [step["run"] for step in job["steps"] if "scripts/" in step.get("run", "")]
            assert builds == [], "what has rights runs nobody else's code"


def test_scripts_that_are_run_are_there() -> None:
    lines = [line for _, step in steps() for line in step.get("run", "").splitlines()]
    scripts = {word for line in lines for word in line.split() if word.startswith(("scripts/", ".ci/"))}
    assert scripts == {"scripts/release", ".ci/run"}
    assert all((ROOT / script).is_file() for script in scripts)


def test_texts_of_others_are_not_put_into_commands() -> None:
    """A branch or a tag may have a name that a shell obeys."""
    assert [step["run"] for _, step in steps() if "${{" in step.get("run", "")] == []
