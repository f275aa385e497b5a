"""The groups of scenes about the log and about a daemon's life, as scripts/compare plays them."""

from __future__ import annotations

import pytest

from comparison import life, log
from comparison.rows import DELIBERATE, DIFFERENT, Row, Seen, side_by_side
from support.forms import Built, C, Folder, Process, Source
from support.marks import forms
from support.programs import real


@pytest.fixture(scope="session")
def log_of_c(made) -> list[Seen]:
    """Played once, for all forms of ours."""
    real(C.command[0])
    return made.value("log-of-c", lambda: log.play(C))


@pytest.fixture(scope="session")
def life_of_c(made) -> list[Seen]:
    real(C.command[0])
    return made.value("life-of-c", lambda: life.play(C))


def compare(group: str, of_c: list[Seen], of_ours: list[Seen], form: type[Process]) -> None:
    played = {seen.scene for seen in of_ours}
    both = {C: [seen for seen in of_c if seen.scene in played], form: of_ours}
    rows: list[Row] = list(side_by_side(group, lambda side: both[side], C, form))
    assert len(rows) == len(of_ours)
    assert [row for row in rows if row.verdict == DIFFERENT] == []
    assert any(row.verdict == DELIBERATE for row in rows)


# The launcher has no part in the log.
@pytest.mark.slow(10)
@pytest.mark.parametrize(("form", "every"), [(Source, 1), (Folder, 3)], ids=["Source", "Folder"])
def test_log(form: type[Process], every: int, log_of_c: list[Seen]) -> None:
    """In the folder the same code writes it: every third play will do."""
    real(form.command[0])
    compare(log.GROUP, log_of_c, log.play(form, every), form)


#: All from source, and of the executables what the launcher or the bundle may have a part in.
LIVES = {
    Source: life.PLAYS,
    Built: (life.signals, life.signals_to_a_daemon, life.belongings, life.statuses, life.zombies),
    Folder: (life.belongings, life.zombies, life.syslog),
}


@pytest.mark.slow(10)
@forms(*LIVES)
def test_life(form: type[Process], life_of_c: list[Seen]) -> None:
    """How each form starts, detaches, and ends."""
    real(form.command[0])
    played = life.play(form, LIVES[form])
    assert len(played) == len(life_of_c) or form is not Source
    compare(life.GROUP, life_of_c, played, form)
