"""Group "traffic": random requests and connections, fed to C's epmd and to ours, and compared.

Strategy: traffic comes in batches.  Each is made from the seed and its number (`traffic_steps`), is played
to a fresh server of either side (`traffic_play`), and what either made of each step is compared.  Where
they differ, steps are taken away for as long as they still do, and what is left is shown.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from comparison.rows import Form, Row
from comparison.traffic_play import DELIBERATE, FAILS, Seen, play
from comparison.traffic_steps import CONNECTIONS, Batch, Step, batch_of, heard
from gevent_epmd.protocol import ProtocolError, parse_request
from support.forms import PROGRAMS

if TYPE_CHECKING:
    from comparison.groups import Plan

#: How many batches are played at once: while one side of one waits, another works.
_AT_ONCE = 2
#: How many differing batches are made smaller, and how long that may take for each, in seconds.
_SHRUNK = 3
_SHRINK_SECONDS = 60.0
#: How many steps are shown, from the last one back, and how many characters of a request or a reply.
_SHOWN_STEPS = 30
_SHOWN = 150

NOT_PLAYED = Seen(state="not played")


class Played(NamedTuple):
    """A batch, and what either side made of each step.  Where they differ and must not, the batch ends
    with the first such step."""

    batch: Batch
    c: list[Seen]
    ours: list[Seen]
    differs: bool


def rows(c: Form, ours: Form, plan: Plan) -> Iterator[Row]:
    """A row for each batch, and then one for each deliberate difference that was met."""
    numbers = range(-(-plan.connections // CONNECTIONS)) if plan.batch is None else [plan.batch]
    met: Counter[str] = Counter()
    differing = 0
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for played in pool.map(lambda number: play_both(c, ours, batch_of(plan.seed, number)), numbers):
            met.update(seen.difference for seen in played.ours if seen.difference)
            if played.differs:
                differing += 1
                yield _differing_row(c, ours, played, shrink=differing <= _SHRUNK)
            else:
                yield _row(played)
    finally:
        pool.shutdown(cancel_futures=True)
    for difference, times in sorted(met.items()):
        theirs, mine = DELIBERATE[difference]
        yield Row("traffic", f"{difference}, {times} times", repr(theirs), repr(mine), difference)


def play_both(c: Form, ours: Form, batch: Batch) -> Played:
    """Play it to both, and cut it off after the first step where they differ and must not."""
    of_c, of_ours = _play_to(c, batch), _play_to(ours, batch)
    pairs = zip_longest(of_c, of_ours, fillvalue=NOT_PLAYED)
    for number, (theirs, mine) in enumerate(pairs):
        if _differ(theirs, mine):
            end = number + 1
            cut = batch._replace(steps=batch.steps[:end])
            return Played(cut, _filled(of_c, end), _filled(of_ours, end), differs=True)
    return Played(batch, of_c, of_ours, differs=False)


def _play_to(form: Form, batch: Batch) -> list[Seen]:
    """What each step came to, and one more: what became of the server."""
    seen: list[Seen] = []
    try:
        with form(*batch.options) as server:
            seen = play(server, batch)
            ended = server.ended()
    except AssertionError as error:
        # It does not start, or its log says that something failed inside.
        return [*seen, Seen(state=str(error))]
    return [*seen, Seen(state="serves" if ended is None else f"ended with {ended}")]


def _filled(seen: list[Seen], size: int) -> list[Seen]:
    return (seen + [NOT_PLAYED] * size)[:size]


def _differ(c: Seen, ours: Seen) -> bool:
    if c.state.startswith(FAILS) or ours.state.startswith(FAILS):
        return True
    if c.difference or ours.difference:
        same_scene = (c.difference, c.state) == (ours.difference, ours.state)
        return not same_scene or (c.reply, ours.reply) != DELIBERATE[c.difference]
    return c != ours


def _scene(batch: Batch) -> str:
    return f"batch {batch.number} of seed {batch.seed}"


def _row(played: Played) -> Row:
    c, ours = (_summary(played.batch, seen) for seen in (played.c, played.ours))
    return Row("traffic", _scene(played.batch), c, ours)


def _summary(batch: Batch, seen: list[Seen]) -> str:
    common = [one for one in seen if not one.difference]
    checksum = zlib.crc32(repr(common).encode())
    return f"{batch.connections} connections, {checksum:08x}"


# What differs.


def _differing_row(c: Form, ours: Form, played: Played, *, shrink: bool) -> Row:
    scene = _scene(played.batch)
    smallest = _shrunk(c, ours, played) if shrink else played
    lines = [_command(c, ours, played.batch), f"options: {' '.join(played.batch.options) or 'none'}"]
    if shrink and smallest is None:
        lines.append("played again, the two did not differ: it is a matter of time")
    smallest = smallest or played
    lines.append(f"{len(smallest.batch.steps)} steps; what comes of them, where it is not the same for both:")
    lines += _shown_steps(smallest)
    return Row(
        "traffic",
        scene,
        _shown_seen(smallest.c[-1]),
        _shown_seen(smallest.ours[-1]),
        more="\n    ".join(lines),
    )


def _command(c: Form, ours: Form, batch: Batch) -> str:
    form = next(name for name, program in PROGRAMS.items() if issubclass(ours, program))
    where = f"--c {c.command[0]} --ours {form} --seed {batch.seed} --batch {batch.number}"
    return f"seed {batch.seed}, batch {batch.number}; again: scripts/compare {where} traffic"


def _shrunk(c: Form, ours: Form, played: Played) -> Played | None:
    """With as few steps as were found that differ still; None if even all of them do not again."""
    end = time.monotonic() + _SHRINK_SECONDS
    smallest = play_both(c, ours, played.batch)
    if not smallest.differs:
        return None
    size = len(smallest.batch.steps) // 2
    while size:
        smallest = _without(c, ours, smallest, size, end)
        size //= 2
    return smallest


def _without(c: Form, ours: Form, smallest: Played, size: int, end: float) -> Played:
    """Without each run of so many steps that is not needed for a difference."""
    start = 0
    while start < len(smallest.batch.steps) and time.monotonic() < end:
        steps = smallest.batch.steps
        tried = play_both(c, ours, smallest.batch._replace(steps=steps[:start] + steps[start + size :]))
        if tried.differs:
            smallest = tried
        else:
            start += size
    return smallest


def _shown_steps(played: Played) -> Iterator[str]:
    # There may be one more of what was seen: what became of the server.
    steps = list(enumerate(zip(played.batch.steps, played.c, played.ours, strict=False), 1))
    for number, (step, c, ours) in steps[-_SHOWN_STEPS:]:
        yield f"{number}. connection {step.label}: {_shown_step(step)}"
        if c != ours:
            yield f"   C:    {_shown_seen(c)}"
            yield f"   ours: {_shown_seen(ours)}"


def _shown_step(step: Step) -> str:
    data = f" {_short(step.data)}" if step.data else ""
    meaning = f" = {_meaning(step.data)}" if step.do in ("ask", "leave", "kill") else ""
    return f"{step.do}{f' by {step.how}' if step.how else ''}{data}{meaning}"


def _meaning(data: bytes) -> str:
    """What the bytes are to us."""
    try:
        packet = heard([data])
        return _cut(str(parse_request(packet)) if packet else "not whole" if packet is None else "no packet")
    except ProtocolError as error:
        return str(error)


def _shown_seen(seen: Seen) -> str:
    deliberate = f" ({seen.difference})" if seen.difference else ""
    return f"{_short(seen.reply)}, {_cut(seen.state)}{deliberate}"


def _short(data: bytes) -> str:
    return _cut(repr(data)) if len(data) <= _SHOWN else f"{len(data)} bytes {_cut(repr(data))}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
