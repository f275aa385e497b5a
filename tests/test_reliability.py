"""What kills, blocks or confuses C's epmd leaves ours serving: every scene of `scripts/soak`, in short."""

from __future__ import annotations

import os
import shutil

import pytest
import soak.families  # noqa: F401 - they put themselves into the list
from forms import BUILT, ROOT, real, run
from soak.play import SCENES, Scale, play

#: Played once: what they need is not everywhere, or it is the same code in every form.
_ONCE = ("fuzz-protocol",)


@pytest.mark.parametrize("which", ["source", "built"])
@pytest.mark.parametrize("name", SCENES)
def test_it_cannot_be_knocked_over(name: str, which: str) -> None:
    if which == "built":
        real(BUILT)
        if name in _ONCE:
            pytest.skip("the same for every form")
    if name == "clock" and shutil.which("cc") is None:
        pytest.skip("no C compiler to make the clock with")
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
