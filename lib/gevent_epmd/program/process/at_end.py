"""Clean-up that runs before the process exits: after a KILL request, a signal, or the end of the launcher.

Invariants: there is one stack for the whole process. Code that creates something temporary adds a call that
removes it. Code that ends the process calls `run` first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_stack: list[Callable[[], object]] = []


def add(call: Callable[[], object]) -> None:
    """Register a call that `run` makes before the process exits."""
    _stack.append(call)


def is_empty() -> bool:
    """Return whether no call is registered."""
    return not _stack


def run() -> None:
    """Make the registered calls, the last one first. Each call is made only once."""
    while _stack:
        _stack.pop()()
