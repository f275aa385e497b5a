"""What a program that we are embedded in may have patched, as it was."""

from __future__ import annotations

import select
import sys


def poll() -> select.poll:
    """A select.poll.  The patched one gives way to the loop even where it is told not to wait, and we look
    in callbacks of the loop, which must not."""
    monkey = sys.modules.get("gevent.monkey")
    original: type[select.poll] = monkey.get_original("select", "poll") if monkey else select.poll
    return original()
