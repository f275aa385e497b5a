"""Ends the process by a signal in the two cases in which the default action is not sufficient, reports on
SIGUSR1, and lets SIGHUP do something else if the caller wants that.

- The process is process 1, for example in a container. The kernel does not deliver a signal to process 1
  unless the process handles it. `docker stop` therefore waits in vain for C's epmd. In the one-file
  executable process 1 is the launcher, which handles the signals and passes them on. The launcher cannot end
  by a signal itself: if one ends the child, its status is 1.
- The process must do something first, such as remove a port file.

SIGUSR1, which operators send to daemons to learn something, is ignored from the beginning of a start, and
causes a report once the event loop runs.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import posix  # not os: the child of process 1 imports this for a quick line

from . import at_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The signals that people and service managers send to end a process.
_ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGHUP)
#: Other signals whose default action ends a process that has not failed. As process 1 it does not get them.
_ODD = (
    _signal.SIGUSR2,
    _signal.SIGALRM,
    _signal.SIGVTALRM,
    _signal.SIGPROF,
    _signal.SIGXCPU,
    _signal.SIGIO,
    _signal.SIGPWR,
)


def exit_by_signals() -> None:
    """Make each signal that is not ignored end this process, with the status that a shell would report.

    For process 1, or its child in the one-file executable. Call this at the start of the process.
    """
    for number in _ENDING:
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _exit)


def ignore_requests_for_reports() -> None:
    """Keep SIGUSR1 from ending a process that cannot report yet."""
    _signal.signal(_signal.SIGUSR1, _signal.SIG_IGN)


def watch_signals(loop: Any, report: Callable[[], object], hang_up: Callable[[], None] | None = None) -> None:
    """Call `report` on SIGUSR1, and run the clean-up before a signal ends the process.

    With `hang_up`, SIGHUP calls that instead, even if it was ignored. Call this after everything was added to
    `at_end`. The handlers are watchers: Python would call others only when the event loop returns.
    """
    _watch(loop, _signal.SIGUSR1, report)
    for number in _ENDING if posix.getpid() == 1 else _ENDING + _ODD:
        handler = _signal.getsignal(number)
        if number == _signal.SIGHUP and hang_up is not None:
            _watch(loop, number, hang_up)
        elif handler is _exit or (handler == _signal.SIG_DFL and not at_end.is_empty()):
            _watch(loop, number, _end, number)


def _watch(loop: Any, number: int, call: Callable[..., object], *arguments: int) -> None:
    watcher = loop.signal(number)
    watcher.start(call, *arguments)
    _watchers.append(watcher)


def _end(number: int) -> None:
    at_end.run()
    if _signal.getsignal(number) is _exit:
        posix._exit(128 + number)
    _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)


def _exit(number: int, _frame: object = None) -> None:
    posix._exit(128 + number)


#: Without this reference a watcher would be garbage-collected, which stops it.
_watchers: list[Any] = []
