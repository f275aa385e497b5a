"""The order of tests: each worker begins with its part of the long ones, so that none is left for the end."""

from __future__ import annotations

import pytest


def longest_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Those that `slow` says take so many seconds, at the beginning of what xdist gives each worker.

    `--dist worksteal` cuts the list into equal pieces, one a worker, and later moves tests from the end of a
    piece.
    """
    long = sorted(filter(_seconds, items), key=_seconds, reverse=True)
    rest = [item for item in items if not _seconds(item)]
    ordered: list[pytest.Item] = []
    for number in range(workers):
        piece = (len(items) - len(ordered)) // (workers - number)
        rest = long[number::workers] + rest
        ordered += rest[:piece]
        rest = rest[piece:]
    return ordered


def _seconds(item: pytest.Item) -> int:
    mark = item.get_closest_marker("slow")
    return mark.args[0] if mark and mark.args else 0
