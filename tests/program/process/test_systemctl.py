"""Whether systemd is there, and how the program runs systemctl."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gevent_epmd.program.process import systemd

pytestmark = pytest.mark.measured

#: Ends with a status of its own, and shows how it was called.
SYSTEMCTL = f"""#!{sys.executable} -IS
import os, sys
print(sys.argv[1:], sorted(os.environ), os.environ["LC_ALL"], flush=True)
sys.exit("no such unit")
"""


def test_systemctl_is_run_without_the_variables_of_the_caller(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    status, said = systemd.systemctl("show", "a b.service")
    assert (status, said.splitlines()) == (
        1,
        ["['show', 'a b.service'] ['LC_ALL', 'PATH'] C", "no such unit"],
    )


def test_no_systemctl(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        systemd.systemctl("show")


def test_is_running() -> None:
    assert systemd.is_running() == Path("/run/systemd/system").is_dir()
