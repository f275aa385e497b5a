"""scripts/compare: its groups find nothing between C and ours, and do find what is wrong on purpose."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from comparison import __main__ as program, commands, differences, groups, wire
from comparison.calls import CALLS
from comparison.differences import DIFFERENCES
from comparison.masks import masked
from comparison.rows import DELIBERATE, DIFFERENT, NOT_PLAYED, SAME, Form, Row, Seen, side_by_side
from support.forms import ROOT, Built, C, Folder, Process, Source, real
from support.wire_cases import CASES

LISTED = DIFFERENCES[0].scene

#: The executables take longer to start and read their line with the same code: every third call will do.
CALLS_OF = {Source: CALLS, Built: CALLS[::3], Folder: CALLS[1::3]}


@pytest.fixture(scope="module")
def c_plays() -> dict[str, list[Seen]]:
    """What C does in each group's scenes: played once, for all forms of ours."""
    real(C.command[0])
    return {"wire": list(wire.play(C)), "commands": list(commands.play(C))}


def different(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.verdict == DIFFERENT]


@pytest.mark.parametrize("form", [Source, Folder], ids=lambda form: form.__name__)
def test_wire(form: type[Process], c_plays) -> None:
    rows = list(side_by_side("wire", lambda side: c_plays["wire"] if side is C else wire.play(side), C, form))
    assert different(rows) == []
    assert len(rows) == 2 * len(CASES)


@pytest.mark.parametrize("form", CALLS_OF, ids=lambda form: form.__name__)
def test_commands(form: type[Process], c_plays) -> None:
    calls = CALLS_OF[form]
    titles = {call.title for call in calls}
    of_c = [seen for seen in c_plays["commands"] if seen.scene in titles]
    rows = list(
        side_by_side("commands", lambda side: of_c if side is C else commands.play(side, calls), C, form)
    )
    assert different(rows) == []
    assert len(rows) == len(calls)


def test_matrix_is_large_enough() -> None:
    assert len(CALLS) >= 150
    assert len({call.title for call in CALLS}) == len(CALLS)


def test_documentation_is_made_from_the_list() -> None:
    assert (ROOT / "docs" / "differences.md").read_text(encoding="utf-8") == differences.page()


@pytest.mark.parametrize(
    ("c", "ours", "difference", "verdict"),
    [
        ("a", "a", "", SAME),
        ("a", "b", "", DIFFERENT),
        ("a", "b", LISTED, DELIBERATE),
        ("a", "a", LISTED, DIFFERENT),
        ("a", "b", "a difference that nobody listed", DIFFERENT),
        (NOT_PLAYED, NOT_PLAYED, "", DIFFERENT),
        (f"{NOT_PLAYED}: why", "b", LISTED, DIFFERENT),
        ("a", f"{NOT_PLAYED}: why", LISTED, DIFFERENT),
    ],
)
def test_verdict(c: str, ours: str, difference: str, verdict: str) -> None:
    assert Row("group", "scene", c, ours, difference).verdict == verdict


def test_a_scene_that_one_side_does_not_play_is_different() -> None:
    scenes = {C: [Seen("one", "a"), Seen("two", "a")], Source: [Seen("two", "a"), Seen("three", "a")]}
    rows = side_by_side("group", scenes.__getitem__, C, Source)
    assert {row.scene: row.verdict for row in rows} == {"one": DIFFERENT, "two": SAME, "three": DIFFERENT}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epmd: Sun Nov  2 11:20:41 2026: a", "epmd: TIME: a"),
        ("<foo> at port 4711, fd = 12", "<foo> at port 4711, fd = FD"),
        ("port 4369, 14369 and 43690", "port PORT, 14369 and 43690"),
        ("epmd: 4711 of 12", "epmd: 4711 of 12"),
        ("got garbage  from 127.0.0.1:4370\r\nmore", "got garbage \r\nmore"),
        ("got garbage  from [fe80::1%lo]:9", "got garbage "),
        ("a name from 127.0.0.1:9 (and 3 more like this)\n", "a name (and 3 more like this)\n"),
        ("from 127.0.0.1:9 or from 127.0.0.1", "from 127.0.0.1:9 or from 127.0.0.1"),
    ],
)
def test_masks(text: str, expected: str) -> None:
    assert masked(text, 4369) == expected


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (b"v\0\0\0\0\4", b"v\0(CREATION)"),
        (b"v\0\0\0\0\3", b"v\0\0\0\0\3"),
        (b"v\1\0\0\0\x63", b"v\1\0\0\0\x63"),
        (b"y\0\0\3", b"y\0(CREATION)"),
        (b"y\0\0\0", b"y\0\0\0"),
        (b"y\0\0\4", b"y\0\0\4"),
    ],
)
def test_only_a_creation_that_may_be_is_masked(reply: bytes, shown: bytes) -> None:
    assert wire.shown(reply, 4369) == repr(shown)


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
