"""The groups of scenes about the log and about a daemon's life, as scripts/compare plays them."""

from __future__ import annotations

import pytest

from comparison import groups
from comparison.rows import DELIBERATE, DIFFERENT
from support.forms import BUILT, C_EPMD, Built, C, Source, real


@pytest.mark.parametrize("ours", [Source, Built], ids=lambda form: form.__name__)
@pytest.mark.parametrize("group", ["log", "life"])
def test_same_as_c(group: str, ours) -> None:
    real(C_EPMD)
    if ours is Built:
        real(BUILT)
    rows = list(groups.GROUPS[group](C, ours, groups.Plan(0, 0)))
    assert [row for row in rows if row.verdict == DIFFERENT] == []
    assert any(row.verdict == DELIBERATE for row in rows)
