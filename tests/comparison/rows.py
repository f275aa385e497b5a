"""What a comparison finds: a row for each scene, what either side did, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from support.differences import WORDS, is_listed
from support.forms import Process

SAME = "same"
DELIBERATE = "deliberate difference"
DIFFERENT = "DIFFERENT"

#: How `what` starts where a side could not play a scene, which is never as it should be.
NOT_PLAYED = "(not played)"

#: A form of an epmd that is a program: a class whose instances are running servers.
Form = type[Process]


class Seen(NamedTuple):
    """What one side did in a scene, masked; and the title of the deliberate difference, if the scene
    is one in which the sides must differ."""

    scene: str
    what: str
    difference: str = ""


class Row(NamedTuple):
    """`more` is for a reader who wants to see it again: a seed, a command.  `reworded` is what C's side did
    in the words of the newest version, where its own are others."""

    group: str
    scene: str
    c: str
    ours: str
    difference: str = ""
    more: str = ""
    reworded: str = ""

    @property
    def verdict(self) -> str:
        """A listed difference that is none is a mistake, too: it would hide one."""
        if self.c.startswith(NOT_PLAYED) or self.ours.startswith(NOT_PLAYED):
            return DIFFERENT
        if self.difference and not is_listed(self.difference):
            return DIFFERENT
        if ((self.reworded or self.c) == self.ours) == bool(self.difference):
            return DIFFERENT
        return DELIBERATE if self.title else SAME

    @property
    def title(self) -> str:
        """Which deliberate difference shows here, if any."""
        return self.difference or (WORDS if self.reworded else "")


def side_by_side(group: str, play: Callable[[Form], Iterable[Seen]], c: Form, ours: Form) -> Iterator[Row]:
    """The rows of a group whose scenes are played on one side after the other."""
    theirs = {seen.scene: seen for seen in play(c)}
    for seen in play(ours):
        other = theirs.pop(seen.scene, Seen(seen.scene, NOT_PLAYED))
        yield _row(group, other, seen, c)
    for seen in theirs.values():
        yield Row(group, seen.scene, seen.what, NOT_PLAYED, seen.difference)


def seen_in(plays: Sequence[Callable[[Form], Iterable[Seen]]], form: Form, threads: int) -> list[Seen]:
    """What one side does in several plays, so many of them at the same time."""
    with ThreadPoolExecutor(threads) as pool:
        return [seen for played in pool.map(lambda play: list(play(form)), plays) for seen in played]


def at_once(group: str, play: Callable[[Form], Iterable[Seen]], c: Form, ours: Form) -> Iterator[Row]:
    """The same, of a group that waits more than it works: both sides are played at the same time."""
    with ThreadPoolExecutor(2) as pool:
        played = {form: pool.submit(play, form) for form in (c, ours)}
        yield from side_by_side(group, lambda form: played[form].result(), c, ours)


def _row(group: str, of_c: Seen, of_ours: Seen, c: Form) -> Row:
    """Of one scene.  Not every version of C's differs in every scene that is one of a difference."""
    difference = of_ours.difference
    if is_listed(difference) and not c.differs_in(difference):
        difference = ""
    reworded = c.in_new_words(of_c.what)
    return Row(
        group,
        of_c.scene,
        of_c.what,
        of_ours.what,
        difference,
        reworded="" if reworded == of_c.what else reworded,
    )
