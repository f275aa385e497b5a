"""scripts/compare: its groups find nothing between C and ours, and do find what is wrong on purpose."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable

import pytest

from comparison import __main__ as program, commands, groups, wire
from comparison.calls import CALLS, Call
from comparison.rows import DELIBERATE, DIFFERENT, NOT_PLAYED, SAME, Form, Row, Seen, side_by_side
from support.differences import DIFFERENCES
from support.forms import Built, C, Folder, Process, Source
from support.marks import forms
from support.paths import ROOT
from support.programs import real
from support.wire_cases import CASES

LISTED = DIFFERENCES[0].scene


@functools.cache
def refused() -> dict[str, Seen]:
    """What ours does with each line that it refuses. To read a line needs no process."""
    return {call.title: seen for call in CALLS if (seen := commands.refused(call))}


@functools.cache
def alike() -> list[list[Call]]:
    """All other calls; those that ask the same of the same epmd are together."""
    found: dict[object, list[Call]] = {}
    for call in CALLS:
        if call.title not in refused():
            found.setdefault(commands.asked(call) or call, []).append(call)
    return [*found.values()]


@functools.cache
def calls_of(form: type[Process]) -> list[Call]:
    """Each is for one form, and most for the quickest. The launcher passes the words on.

    Of those that are alike two are played, and of the refused ones some, which show what a program does that
    refuses its line.
    """
    played = [call for calls in alike() for call in calls[:1] + calls[1:][-1:]]
    wrong = [call for call in CALLS if call.title in refused()][::24]
    if form is Built:
        return [*played[::12], *wrong[::4]]
    return [call for n, call in enumerate(played) if (n % 8 == 0) == (form is Source)] + wrong


#: test_wire of program/serving plays all of them against every form, C's too.
SOME_CASES = CASES[::4]


@pytest.fixture(scope="session")
def c_plays(made) -> dict[str, list[Seen]]:
    """What C does in each group's scenes: played once, for all forms of ours."""
    real(C.command[0])
    return made.value(
        "plays-of-c", lambda: {"wire": list(wire.play(C, SOME_CASES)), "commands": list(commands.play(C))}
    )


def different(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.verdict == DIFFERENT]


@pytest.mark.slow
def test_wire(c_plays) -> None:
    def play(side: type[Process]) -> Iterable[Seen]:
        return c_plays["wire"] if side is C else wire.play(side, SOME_CASES)

    rows = list(side_by_side("wire", play, C, Source))
    assert different(rows) == []
    assert len(rows) == len(wire.MODES) * len(SOME_CASES)


@pytest.mark.slow(20)
@forms(Source, Folder, Built)
def test_commands(form: type[Process], c_plays) -> None:
    calls = calls_of(form)
    titles = {call.title for call in calls}
    of_c = [seen for seen in c_plays["commands"] if seen.scene in titles]
    rows = list(
        side_by_side("commands", lambda side: of_c if side is C else commands.play(side, calls), C, form)
    )
    assert different(rows) == []
    assert len(rows) == len(calls)


def test_refused_lines(c_plays) -> None:
    of_c = [seen for seen in c_plays["commands"] if seen.scene in refused()]
    rows = list(side_by_side("commands", lambda side: of_c if side is C else refused().values(), C, Source))
    assert different(rows) == []
    assert len(rows) == len(refused()) > len(CALLS) // 3


def test_lines_that_ours_reads_alike(c_plays) -> None:
    """C does the same for them."""
    of_c = {seen.scene: seen.what for seen in c_plays["commands"]}
    for calls in alike():
        assert len({of_c[call.title] for call in calls}) == 1, calls


def broken(change: str) -> Form:
    """Ours from source, with something changed before it starts."""
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'lib')!r})\n{change}\n"
    program += "from gevent_epmd.program import cli; sys.exit(cli.main())"
    return type("Broken", (Source,), {"command": (sys.executable, "-c", program)})


def call_titled(title: str):
    return [call for call in CALLS if call.title == title]


_REFUSED = "epmd -port PORT -kill, an epmd with nodes"
_REFUSAL_IS_SUCCESS = """
from gevent_epmd.program import calls
real = calls._kill
calls._CALLS["kill"] = lambda options: real(options) and 0
"""
_OLDEST_FIRST = """
from gevent_epmd.server.registry import Registry
Registry.live = lambda self: iter(self._live.values())
"""
_NO_OLD_CREATION = """
from gevent_epmd import protocol
real = protocol.alive2_reply
protocol.alive2_reply = lambda highest, creation: real(highest, creation) if highest > 5 else b"y\\0\\0\\0"
"""


def test_wrong_status_is_found() -> None:
    form = broken(_REFUSAL_IS_SUCCESS)
    rows = list(side_by_side("commands", lambda side: commands.play(side, call_titled(_REFUSED)), C, form))
    assert [row.scene for row in different(rows)] == [_REFUSED]
    assert was_played(rows)


def was_played(rows: list[Row]) -> bool:
    """A program that is more broken than it should be is different in any case."""
    return not any(row.ours.startswith(NOT_PLAYED) for row in rows)


@pytest.mark.parametrize(
    ("change", "title"),
    [
        (_OLDEST_FIRST, "NAMES newest first"),
        (_NO_OLD_CREATION, "ALIVE2 of an old node"),
    ],
)
def test_wrong_reply_is_found(change: str, title: str) -> None:
    cases = [case for case in CASES if case.title in (title, "PORT2 of nobody")]
    rows = list(side_by_side("wire", lambda side: wire.play(side, cases), C, broken(change)))
    assert [row.scene for row in different(rows)] == [f"{title}, {mode}" for mode in wire.MODES]
    assert was_played(rows)


def test_program_shows_what_differs_and_says_so_in_its_status(monkeypatch, capsys) -> None:
    real(C.command[0])
    rows = {
        "good": [Row("good", "one", "a", "a"), Row("good", "two", "a", "b", LISTED)],
        "bad": [Row("bad", "three", "a|b", "c", more="seed 7")],
    }
    for group in rows:
        monkeypatch.setitem(groups.GROUPS, group, lambda _c, _ours, _plan, group=group: iter(rows[group]))
    monkeypatch.setattr(sys, "argv", ["compare", "good"])
    assert program.main() == 0
    out = capsys.readouterr().out
    assert "one" not in out
    assert f"| good: two | a | b | {DELIBERATE}: {LISTED} |" in out
    assert f"good: 1 {SAME}" in out
    monkeypatch.setattr(sys, "argv", ["compare", "--all", "good", "bad"])
    assert program.main() == 1
    out = capsys.readouterr().out
    assert f"| good: one | a | a | {SAME} |" in out
    assert f"| bad: three | a\\|b | c | {DIFFERENT} |\n    C:    'a|b'\n    ours: 'c'\n    seed 7\n" in out
