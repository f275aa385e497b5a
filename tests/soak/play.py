"""The scenes by name, and how one is played, in a network of its own where it needs one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import NamedTuple

from support.forms import PROGRAMS, C, Process
from support.paths import TESTS
from support.patience import LONG, PATIENCE
from support.scenes import run_apart

#: What a scene has measured, by what it is.
Figures = dict[str, object]

#: A form of an epmd that is a program: a class whose instances are running servers.
Form = type[Process]

#: Longer than any scene lasts, in seconds.
_LONGEST = 3 * LONG


class Scale(NamedTuple):
    """How much of everything: for `scripts/soak`, or for the tests.

    `scripts/soak` judges the times that docs/reliability.md promises.  The tests report them and judge none:
    they run on machines of any speed, beside anything else.
    """

    short: bool

    def of(self, much: int, little: int) -> int:
        return little if self.short else much

    def promised(self, seconds: float) -> float:
        """The most that something may take, in seconds, where so many are promised."""
        return PATIENCE if self.short else seconds


class Scene(NamedTuple):
    """`play` gives figures, or raises AssertionError or OSError; `network` says that it is played in a
    network namespace of its own."""

    title: str
    play: Callable[[Form, Scale], Figures]
    network: bool


SCENES: dict[str, Scene] = {}


def scene(title: str, *, network: bool = False):
    """Puts a function into the list, under its own name."""

    def put(function):
        SCENES[function.__name__.replace("_", "-")] = Scene(title, function, network)
        return function

    return put


def form_of(which: str) -> Form:
    """One of PROGRAMS, or the path of a C epmd."""
    return PROGRAMS.get(which) or type("C", (C,), {"command": (which,)})


def play(name: str, which: str, scale: Scale) -> Figures:
    """Raises AssertionError or OSError with what went wrong."""
    if not SCENES[name].network:
        return SCENES[name].play(form_of(which), scale)
    command = [sys.executable, "-m", "soak.play", name, which, *(["short"] if scale.short else [])]
    done = run_apart(command, environ={"PYTHONPATH": str(TESTS)}, timeout=_LONGEST)
    said = done.stderr.decode().strip().splitlines()
    assert done.returncode == 0, said[-1] if said else f"status {done.returncode}"
    return json.loads(done.stdout)


def variant(form: Form, **changes: object) -> Form:
    """The form with other class attributes, such as `prepare`."""
    return type(form.__name__, (form,), changes)


def main() -> None:
    import soak.families  # noqa: F401 - they put themselves into the list of the module soak.play
    from soak import play as module  # and this one is __main__

    name, which, *short = sys.argv[1:]
    print(json.dumps(module.SCENES[name].play(form_of(which), Scale(bool(short)))))


if __name__ == "__main__":
    main()
