"""Timers of the port mapper: deadlines of connections, the order in which connections make room, idle exit.

Every timer is made anew when it is started: a libev timer that was stopped continues with the time that was
left.  No timer runs while nothing waits for it.

C's counterpart: the time-outs in do_read and select of epmd_srv.c; idle exit is ours.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Abortable(Protocol):
        """A connection, as far as timers know it."""

        def abort(self, reason: str) -> None:
            """End it now."""


#: How long to wait for input after the process was stopped before a deadline counts, in seconds.
_GRACE = 0.1
#: A timer that is this late, in seconds, tells that the process, or its host, was stopped.
_STOPPED = 1.0


class Deadlines:
    """Aborts the connections whose time is over.

    All connections get the same number of seconds, so their deadlines end in the order of `add`, and one
    timer for the first of them is enough."""

    def __init__(self, loop: Any, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._table: OrderedDict[Abortable, float] = OrderedDict()
        self._timer: Any = None
        self._was_stopped = False

    def add(self, connection: Abortable) -> None:
        """Set the connection's deadline; a second call does not change it."""
        if connection not in self._table:
            self._table[connection] = time.monotonic() + self._seconds
            if self._timer is None:
                self._start_timer(self._seconds)

    def discard(self, connection: Abortable) -> None:
        """Remove the connection's deadline."""
        self._table.pop(connection, None)

    def stop(self) -> None:
        """Abort nobody from here on."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _start_timer(self, seconds: float) -> None:
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._sweep)

    def _sweep(self) -> None:
        self.stop()
        now = time.monotonic()
        while self._table:
            connection, deadline = next(iter(self._table.items()))
            if deadline > now:
                self._start_timer(deadline - now)
                break
            if now - deadline > _STOPPED and not self._was_stopped:
                # The loop calls timers before it reads: a request that arrived in time is read in the
                # meantime.
                self._was_stopped = True
                self._start_timer(_GRACE)
                return
            del self._table[connection]
            connection.abort("closing because timed out on receive")
        self._was_stopped = False


class Unregistered(OrderedDict["Any", None]):
    """The connections that wait and are not a node's, the one that has been of no use for longest first.

    An OrderedDict itself: `len` and `discard`, which every connection comes through, are C then."""

    def add(self, connection: Abortable) -> None:
        """The connection is of no use from now on; one that is here already keeps its place."""
        self.setdefault(connection)

    def renew(self, connection: Abortable) -> None:
        """The connection was of use until now: it has made its request."""
        self[connection] = None
        self.move_to_end(connection)

    def discard(self, connection: Abortable) -> None:
        """The connection is a node's, or has ended."""
        self.pop(connection, None)

    def oldest(self) -> Any | None:
        """The connection that makes room first; None if there is none."""
        return next(iter(self), None)


class IdleExit:
    """Calls `end` when no node has been registered for this many seconds."""

    def __init__(self, loop: Any, seconds: float, end: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._end = end
        self._timer: Any = None

    def look(self, nodes: int) -> None:
        """To be called with the number of live nodes at the start, and whenever it changes."""
        if nodes:
            self.stop()
        elif self._timer is None:
            self._timer = self._loop.timer(self._seconds)
            # Without `update` the timer starts at the beginning of the loop's iteration, and ends early.
            self._timer.start(self._end, update=True)

    def stop(self) -> None:
        """Stop counting until the next `look`."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
