"""What the documentation shows does what it says: its examples run as they are."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from gevent_epmd.program.processes import gone
from support.forms import ROOT, exunit_passed, real, run, wait_until

TESTING = (ROOT / "docs" / "testing.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TESTING, re.MULTILINE | re.DOTALL)


def is_for_pytest(block: str) -> bool:
    return "\ndef test_" in block


def test_there_are_examples_of_each_kind() -> None:
    assert len(blocks("python")) == 6
    assert sum(map(is_for_pytest, blocks("python"))) == 2
    assert len(blocks("sh")) == 1


@pytest.mark.parametrize("block", blocks("python"))
def test_python_example(block: str, tmp_path: Path) -> None:
    name = "test_it.py" if is_for_pytest(block) else "it.py"
    (tmp_path / name).write_text(block)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    if "erl" in block:
        real("erl")
    how = ["-m", "pytest", "-q"] if is_for_pytest(block) else ["-W", "error"]
    done = run([sys.executable, *how, name], cwd=tmp_path, timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_mix_example(ours, tmp_path: Path) -> None:
    """In an environment that has nothing but a folder to be at home in, and the commands."""
    real("mix")
    epmd = ours if len(ours) == 1 else [str(Path(sys.executable).with_name("epmd"))]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "epmd").symlink_to(epmd[0])
    project = shutil.copytree(ROOT / "tests" / "examples" / "mix_project", tmp_path / "project")
    (script,) = blocks("sh")
    script += "epmd -port $ERL_EPMD_PORT -dump; echo; echo $$"
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    clean = ["env", "-i", f"PATH={path}", f"HOME={tmp_path}", "LANG=C.UTF-8"]
    done = run([*clean, "sh", "-e", "-c", script], cwd=project, timeout=120)
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    assert exunit_passed(3, done.stdout)
    assert "name <sample>," in said.replace("name     <", "name <"), (
        "it was this mapper that the node went to"
    )
    assert gone(int(said.splitlines()[-1]))
    wait_until(lambda: not (project / "epmd.port").exists(), "the mapper to end")
