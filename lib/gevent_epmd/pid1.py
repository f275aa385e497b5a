"""What is different for process 1, which this program is in a container that holds nothing else.

The kernel keeps from process 1 every signal that it has not asked for, and so `docker stop` waits in vain
for C's epmd.  In the executable process 1 is the launcher, which asks for them and passes them on; but it
cannot end by one itself, and makes a 1 of the status of a child that does.
"""

from __future__ import annotations

import os
import signal
from typing import Any

#: The signals that people send, and that end any other process.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def end_by_signals() -> None:
    """From the very start let each signal end this process as it would end another, but for those that are
    ignored; the status is what a shell would say.  For process 1, or its child in the executable."""
    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def watch_signals(loop: Any) -> None:
    """The same while the loop waits: a handler of Python's runs only when it comes back."""
    for number in _ENDING:
        if signal.getsignal(number) is _end:
            watcher = loop.signal(number)
            watcher.start(_end, number)
            _watchers.append(watcher)


def _end(number: int, _frame: object = None) -> None:
    os._exit(128 + number)


#: A watcher that nobody refers to is stopped.
_watchers: list[Any] = []
