"""Ends by signals, where there is more to do than to die of them.

Process 1, which this program is in a container that holds nothing else: the kernel keeps from it every
signal that it has not asked for, and so `docker stop` waits in vain for C's epmd.  In the executable
process 1 is the launcher, which asks for them and passes them on; but it cannot end by one itself, and makes
a 1 of the status of a child that does.

And whoever leaves something behind that must not stay, as a port file is.
"""

from __future__ import annotations

import os
import signal

from . import at_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The signals that people send, and that end any other process.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def exit_by_signals() -> None:
    """From the very start let each signal end this process as it would end another, but for those that are
    ignored; the status is what a shell would say.  For process 1, or its child in the executable."""
    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)


def watch_signals(loop: Any) -> None:
    """The same while the loop waits, since Python calls a handler of its own only when the loop returns; and
    do what is to be done at the end before any process ends by a signal."""
    for number in _ENDING:
        handler = signal.getsignal(number)
        if handler is _exit or (handler == signal.SIG_DFL and not at_end.is_empty()):
            watcher = loop.signal(number)
            watcher.start(_end, number)
            _watchers.append(watcher)


def _end(number: int) -> None:
    at_end.run()
    if signal.getsignal(number) is _exit:
        os._exit(128 + number)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _exit(number: int, _frame: object = None) -> None:
    os._exit(128 + number)


#: A watcher that nobody refers to is stopped.
_watchers: list[Any] = []
