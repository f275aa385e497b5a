"""The groups of scenes about the log and about a daemon's life, as scripts/compare plays them."""

from __future__ import annotations

import pytest

from comparison import groups
from comparison.rows import DELIBERATE, DIFFERENT
from support.forms import C_EPMD, Built, C, Folder, Source, real

#: The launcher has no part in the log.
PLAYED = [("log", Source), ("log", Folder), ("life", Source), ("life", Built), ("life", Folder)]


@pytest.mark.parametrize(("group", "ours"), PLAYED, ids=lambda value: getattr(value, "__name__", value))
def test_same_as_c(group: str, ours) -> None:
    real(C_EPMD)
    real(ours.command[0])
    rows = list(groups.GROUPS[group](C, ours, groups.Plan(0, 0)))
    assert [row for row in rows if row.verdict == DIFFERENT] == []
    assert any(row.verdict == DELIBERATE for row in rows)
