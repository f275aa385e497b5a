"""Which version of Erlang/OTP the C epmd is of that the tests meet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.forms import otp_of
from support.paths import BUILT
from support.programs import real


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A program that asks as C's does, in a folder as that of OTP 27."""
    program = tmp_path / "erts-15.2.7" / "bin" / "epmd"
    program.parent.mkdir(parents=True)
    shutil.copy(real(BUILT), program)
    return program


def test_version_is_that_of_the_installation_behind_links_and_wrappers(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    for name, exec_ in (("wrapper", "exec "), ("launcher", "")):
        wrapper = tmp_path / name
        wrapper.write_text(f'#!/bin/sh\n{exec_}"{tmp_path}/link" "$@"\n')
        wrapper.chmod(0o755)
        assert otp_of(str(wrapper)) == 27


def test_version_of_a_copy_elsewhere_must_be_named(copy: Path, tmp_path: Path, monkeypatch) -> None:
    moved = copy.rename(tmp_path / "epmd")
    with pytest.raises(LookupError, match="set EPMD_C_OTP"):
        otp_of(str(moved))
    monkeypatch.setenv("EPMD_C_OTP", "28")
    assert otp_of(str(moved)) == 28
