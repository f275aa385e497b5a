"""Whether the parent process is the launcher, by what /proc shows."""

from __future__ import annotations

import os

import pytest

from gevent_epmd.program.executable import launcher

pytestmark = pytest.mark.measured

OWN = b"epmd\0-names\0"
EMULATED = b"/usr/bin/qemu-aarch64-static\0/usr/bin/epmd\0-names\0"


@pytest.mark.parametrize(
    ("parent", "as_the_kernel_has_it", "expected"),
    [
        (OWN, OWN, True),
        (b"/sbin/init\0", OWN, False),
        (b"/usr/bin/qemu-aarch64-static\0./epmd\0-names\0", EMULATED, True),
    ],
    ids=["launcher", "init", "emulated"],
)
def test_parent(parent: bytes, as_the_kernel_has_it: bytes, expected, monkeypatch) -> None:
    shown = {"self": OWN, str(launcher.pid): parent, f"self/task/{os.getpid()}": as_the_kernel_has_it}
    monkeypatch.setattr(launcher, "_command_line", shown.__getitem__)
    assert launcher._is_launcher() is expected


def test_the_kernel_shows_one_command_line_in_both_places() -> None:
    assert launcher._command_line("self") == launcher._command_line(f"self/task/{os.getpid()}") != b""
