"""The groups of scenes, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from comparison.commands import commands
from comparison.rows import Form, Row
from comparison.wire import wire


class Plan(NamedTuple):
    """How much random traffic, and from which seed."""

    connections: int
    seed: int


Group = Callable[[Form, Form, Plan], Iterator[Row]]

GROUPS: dict[str, Group] = {
    "wire": wire,
    "commands": commands,
}
