"""What holds for every unit test: it starts no process."""

from __future__ import annotations

import os
import subprocess

import pytest


def _refuse(*_: object, **__: object) -> None:
    pytest.fail("a unit test starts no process: see tests/README.md")


@pytest.fixture(autouse=True)
def _no_process(monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", _refuse)
    for name in ("fork", "forkpty", "posix_spawn", "system"):
        monkeypatch.setattr(os, name, _refuse)
