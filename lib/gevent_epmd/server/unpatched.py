"""Original versions of functions that the embedding program may have monkey-patched."""

from __future__ import annotations

import select
import sys


def poll() -> select.poll:
    """Return an unpatched select.poll.

    gevent's version switches to the hub even with a timeout of 0. Callbacks of the event loop must not
    switch, and they use this.
    """
    monkey = sys.modules.get("gevent.monkey")
    original: type[select.poll] = monkey.get_original("select", "poll") if monkey else select.poll
    return original()
