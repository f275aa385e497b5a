"""Timers of the port mapper: connection deadlines, the order in which connections make room, and idle exit.

Invariants:
- Each start of a timer creates a new one: a libev timer that was stopped resumes with the time that was left.
- No timer is started, or started again, while nothing waits for it.

C's counterpart: the timeouts in do_read and around select in epmd_srv.c. C has no idle exit.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from .events import TIMED_OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .registry import Peer

#: How long a deadline is extended after the process was suspended, and the idle exit before it ends the
#: process, in seconds.
_GRACE = 0.1
#: A timer that is this late, in seconds, shows that the process or its host was suspended.
_STOPPED = 1.0


class Deadlines:
    """Aborts each connection that reaches its deadline.

    All connections get the same number of seconds, so deadlines expire in the order of `add`, and a single
    timer for the earliest one is enough.
    """

    def __init__(self, loop: Any, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._table: OrderedDict[Peer, float] = OrderedDict()
        self._timer: Any = None
        self._was_stopped = False

    def add(self, connection: Peer) -> None:
        """Set the connection's deadline. A second call does not change it."""
        if connection not in self._table:
            self._table[connection] = time.monotonic() + self._seconds
            if self._timer is None:
                self._start_timer(self._seconds)

    def discard(self, connection: Peer) -> None:
        """Remove the connection's deadline."""
        self._table.pop(connection, None)

    def stop(self) -> None:
        """Stop the timer: no connection is aborted any more."""
        if self._timer is not None:
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
                # The event loop runs timers before it reads. The grace period lets it read requests that
                # arrived in time.
                self._was_stopped = True
                self._start_timer(_GRACE)
                return
            del self._table[connection]
            connection.abort(TIMED_OUT)
        self._was_stopped = False


class Unregistered(OrderedDict["Any", None]):
    """The waiting connections without a registered node, the longest unused one first.

    A subclass of OrderedDict, because every connection goes through `len` and `discard`, and they run in C.
    """

    def add(self, connection: Peer) -> None:
        """Add a connection as unused from now on. One that is already here keeps its place."""
        self.setdefault(connection)

    def renew(self, connection: Peer) -> None:
        """Move the connection to the end: it has made its request, so it was in use until now."""
        self[connection] = None
        self.move_to_end(connection)

    def discard(self, connection: Peer) -> None:
        """Remove a connection whose node was registered, or that has ended."""
        self.pop(connection, None)

    def oldest(self) -> Any | None:
        """Return the connection to close first to make room, or None if there is none."""
        return next(iter(self), None)


class IdleExit:
    """Calls `end` once, for `seconds`, no node has been registered and nobody of this host has connected.

    Whoever has just been told that there is an epmd may need a moment to connect again. `is_pending` returns
    whether a connection waits to be accepted.
    """

    def __init__(
        self, loop: Any, seconds: float, end: Callable[[], None], is_pending: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._end = end
        self._is_pending = is_pending
        self._timer: Any = None
        #: When the last node went or the last peer came, and when the timer is due.
        self._since = self._due = 0.0
        #: Whether the time is over, and what has arrived meanwhile is being served.
        self._is_last_look = False

    def look(self, nodes: int) -> None:
        """Start or stop the timer, at the start and at every change of the number of live nodes."""
        if nodes:
            self.stop()
        elif self._timer is None:
            self.renew()
            self._start(self._seconds)

    def renew(self) -> None:
        """Start the count again, without the cost of another timer."""
        self._since = time.monotonic()
        self._is_last_look = False

    def stop(self) -> None:
        """Stop the timer until the next `look`."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _start(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._timer = self._loop.timer(seconds)
        # Without `update`, time counts from the start of the loop's iteration, and the timer fires early.
        self._timer.start(self._over, update=True)

    def _over(self) -> None:
        self.stop()
        now = time.monotonic()
        left = self._since + self._seconds - now
        if left > 0:
            self._start(left)
        elif not self._is_last_look or now - self._due > _GRACE or self._is_pending():
            # The loop runs timers before it reads, and may have been suspended since a node connected.
            self._is_last_look = True
            self._start(_GRACE)
        else:
            self._end()
