"""The groups of scenes, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from comparison import life, log, traffic
from comparison.commands import commands
from comparison.rows import Form, Row
from comparison.wire import wire


class Plan(NamedTuple):
    """How much random traffic, from which seed; `batch` is the only one of it to play, if not None."""

    connections: int
    seed: int
    batch: int | None = None


Group = Callable[[Form, Form, Plan], Iterator[Row]]

GROUPS: dict[str, Group] = {
    "wire": wire,
    "commands": commands,
    "traffic": traffic.rows,
    "log": log.rows,
    "life": life.rows,
}
