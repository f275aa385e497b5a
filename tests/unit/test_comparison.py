"""What scripts/compare makes of what it has seen: verdicts, masks, and the page of differences."""

from __future__ import annotations

import pytest

from comparison import wire
from comparison.calls import CALLS
from comparison.masks import in_any_order, masked
from comparison.rows import DELIBERATE, DIFFERENT, NOT_PLAYED, SAME, Row, Seen, side_by_side
from support import differences
from support.differences import DIFFERENCES
from support.forms import C, Source
from support.paths import ROOT

LISTED = DIFFERENCES[0].scene


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


def test_log_in_any_order_keeps_words_and_bytes() -> None:
    def logged(*texts: str) -> str:
        return "".join(f"{'' if text.startswith('*') else 'epmd: TIME: '}{text}\r\n" for text in texts)

    port, line = ("got 4 bytes", "***** b'PORT'"), ("got 5 bytes", "***** b'abc\\n\\x00'")
    whole = ("got 9 bytes", "***** b'PORTabc\\n\\x00'")
    assert in_any_order(logged(*port, "a", *line, "b")) == in_any_order(logged("b", *whole, "a"))
    assert in_any_order(logged(*port, "a")) != in_any_order(logged(*whole, "a"))
    assert in_any_order(logged("a", "b")) != in_any_order(logged("a", "c"))


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
