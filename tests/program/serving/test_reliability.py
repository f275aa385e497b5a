"""What kills, blocks or confuses C's epmd leaves ours serving: every scene of `scripts/soak`, in short."""

from __future__ import annotations

import os

import pytest

import soak.families  # noqa: F401 - they put themselves into the list
from soak.play import SCENES, Scale, play
from support.forms import PROGRAMS
from support.paths import ROOT
from support.programs import real, run

#: Those in which the launcher of the one-file form has a part.
_LAUNCHED = ("signals", "signals-to-process-1", "restart", "orphans", "killed-calls")
#: Those in which the folder has one: how it starts and ends, what it cannot load once descriptors have run
#: out, and its stand-ins for modules that describe errors.
_BUNDLED = (
    "signals",
    "signals-to-process-1",
    "orphans",
    "flood-of-256",
    "storms",
    "stuck-syslog",
    "no-syslog",
)
_BUNDLED += ("stuck-stderr", "fuzz-socket")
#: That whose code no other measured test reaches.
_MEASURED = {"signals-to-process-1": pytest.mark.measured}
PLAYED = [
    # A start that is killed is one process from source, as of the folder.
    *(pytest.param("source", name, marks=_MEASURED.get(name, ())) for name in SCENES if name != "orphans"),
    *(("folder", name) for name in _BUNDLED),
    *(("built", name) for name in _LAUNCHED),
]


@pytest.mark.slow(12)
@pytest.mark.parametrize(("which", "name"), PLAYED)
def test_it_cannot_be_knocked_over(which: str, name: str) -> None:
    real(PROGRAMS[which].command[0])
    if SCENES[name].network:
        need_namespaces()
    play(name, which, Scale(short=True))


def need_namespaces() -> None:
    """In CI they are permitted."""
    permitted = run([real("unshare"), "--map-root-user", "--net", "true"]).returncode == 0
    if not permitted and not os.environ.get("CI"):
        pytest.skip("network namespaces are not permitted here")


def test_every_promise_is_written_down() -> None:
    """docs/reliability.md names each scene, and no other."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(SCENES)
