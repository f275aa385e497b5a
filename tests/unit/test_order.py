"""The long tests are dealt to the workers, at the beginning of what each gets from xdist."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from support.order import longest_first


def item(name: str) -> SimpleNamespace:
    """A test that takes as many seconds as its name says; none without a number."""
    args = (int(name),) if name.isdigit() else ()
    return SimpleNamespace(name=name, get_closest_marker=lambda _: SimpleNamespace(args=args))


@pytest.mark.parametrize(
    ("workers", "names", "ordered"),
    [
        (1, "a 10 b 30", "30 10 a b"),
        (2, "a 10 b 30 c 20 d e", "30 10 a b 20 c d e"),
        (2, "10 30 20", "30 20 10"),
        (3, "a b", "a b"),
        (4, "", ""),
    ],
)
def test_pieces_begin_with_the_longest(workers: int, names: str, ordered: str) -> None:
    found = longest_first([item(name) for name in names.split()], workers)
    assert [one.name for one in found] == ordered.split()
