"""Counts what the connections of one port mapper did, for whoever monitors it. No I/O.

`events` counts what it hears of, and `connection` the requests. Those that `connection.serve` answers are
attributes of the mapper.
"""

from __future__ import annotations

from ..wire import ALIVE2_REQ, DUMP_REQ, KILL_REQ, NAMES_REQ, PORT2_REQ, STOP_REQ

#: The kind of request that each tag stands for.
KINDS = {
    ALIVE2_REQ: "alive2",
    PORT2_REQ: "port2",
    NAMES_REQ: "names",
    DUMP_REQ: "dump",
    KILL_REQ: "kill",
    STOP_REQ: "stop",
}


class Counts:
    """Numbers of events since the mapper was created. They only grow."""

    __slots__ = ("barred", "crowded_out", "denied", "malformed", "refused", "requests", "timed_out", "unread")

    def __init__(self) -> None:
        #: Complete requests by their tag, including those that were denied, but not those of `serve`.
        self.requests = dict.fromkeys(KINDS, 0)
        #: Registrations that were refused; requests that were not permitted, or were invalid or incomplete.
        self.refused = self.denied = self.malformed = 0
        #: Connections that were closed: `allow` excludes the peer, it was too slow, others needed room, or
        #: too much was unread.
        self.barred = self.timed_out = self.crowded_out = self.unread = 0
