"""How the C epmds of several versions of Erlang/OTP differ, as the list of differences says it."""

from __future__ import annotations

import pytest

from comparison.rows import DELIBERATE, DIFFERENT, SAME as AGREED, Row, Seen, side_by_side
from support import differences
from support.differences import DIFFERENCES, SAME, VERSIONS, WORDS, Difference
from support.forms import C, Source
from support.marks import forms

CHANGED = next(d.scene for d in DIFFERENCES if d.of(25) != SAME == d.of(29))


def of_version(monkeypatch, otp: int) -> type[C]:
    monkeypatch.setattr(C, "otp", lambda: otp)
    return C


@pytest.mark.parametrize(
    ("otp", "does"), [(24, "a"), (25, "a"), (26, "a"), (27, SAME), (28, SAME), (29, "b"), (30, "b")]
)
def test_version_that_is_no_column_is_as_the_last_one_before(otp: int, does: str) -> None:
    assert Difference("scene", {25: "a", 27: SAME, 29: "b"}, "ours").of(otp) == does


def test_each_difference_is_one_in_some_version() -> None:
    for difference in DIFFERENCES:
        assert any(difference.of(otp) != SAME for otp in VERSIONS), difference
        assert isinstance(difference.c, str) or {*difference.c} <= {*VERSIONS}, difference


@pytest.mark.parametrize("otp", VERSIONS)
def test_failure_is_expected_only_of_the_versions_that_differ(otp: int, monkeypatch) -> None:
    monkeypatch.setattr(C, "command", ("/bin/sh",))  # some program that is there
    of_version(monkeypatch, otp)
    of_c = next(parameter for parameter in forms(but_not_c=CHANGED).args[1] if parameter.values[0].is_c)
    assert [mark.name for mark in of_c.marks] == (["xfail"] if differences.differs(CHANGED, otp) else [])


OLD_LOG = "got NAMES_REQ, sent NAMES_RESP, got ALIVE2_REQ, sent ALIVE2_RESP, got EPMD_KILL_REQ"


NEW_LOG = "got EPMD_NAMES_REQ, sent NAMES_RESP, got ALIVE2_REQ, sent EPMD_ALIVE2_RESP, got EPMD_KILL_REQ"


@pytest.mark.parametrize(
    ("otp", "of_c", "of_ours", "difference", "verdict", "title"),
    [
        (25, "a", "b", CHANGED, DELIBERATE, CHANGED),
        (25, "a", "a", CHANGED, DIFFERENT, CHANGED),
        (29, "a", "a", CHANGED, AGREED, ""),
        (29, "a", "b", CHANGED, DIFFERENT, ""),
        (25, OLD_LOG, NEW_LOG, "", DELIBERATE, WORDS),
        (25, OLD_LOG, f"{NEW_LOG}, and more", "", DIFFERENT, WORDS),
        (25, OLD_LOG, NEW_LOG, CHANGED, DIFFERENT, CHANGED),
        (25, OLD_LOG, OLD_LOG, "", DIFFERENT, WORDS),
        (29, OLD_LOG, NEW_LOG, "", DIFFERENT, ""),
        (29, NEW_LOG, NEW_LOG, "", AGREED, ""),
    ],
)
def test_verdict_goes_by_version(
    otp: int, of_c: str, of_ours: str, difference: str, verdict: str, title: str, monkeypatch
) -> None:
    seen = {C: [Seen("scene", of_c, difference)], Source: [Seen("scene", of_ours, difference)]}
    (row,) = side_by_side("group", seen.__getitem__, of_version(monkeypatch, otp), Source)
    assert (row.verdict, row.title) == (verdict, title)
    assert row == Row("group", "scene", of_c, of_ours, row.difference, reworded=row.reworded)


def test_page_has_a_column_a_version() -> None:
    rows = [line for line in differences.page().splitlines() if line.startswith("|")]
    assert len(rows) == 2 * len(differences.PARTS) + len(DIFFERENCES)
    assert {row.replace("\\|", "").count("|") for row in rows} == {3 + len(VERSIONS)}
    assert [f"OTP {otp}" in rows[0] for otp in VERSIONS] == [True] * len(VERSIONS)
