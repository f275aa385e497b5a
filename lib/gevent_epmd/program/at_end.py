"""What to do before the process ends, whatever ends it: a KILL request, a signal, a launcher that is gone.

One stack for the process, since a process ends once: whoever makes something that must not stay adds how to
remove it; whoever ends the process calls `run` first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_stack: list[Callable[[], object]] = []


def add(call: Callable[[], object]) -> None:
    """Let this be called before the process ends."""
    _stack.append(call)


def is_empty() -> bool:
    """Whether there is nothing to do."""
    return not _stack


def run() -> None:
    """Call what was added, the last first, and each once."""
    while _stack:
        _stack.pop()()
