"""Writes the daemon's log lines to stderr, or to syslog when it is detached.

Levels are C's: lines of level 0 are always logged, those of level 1 to 3 with as many -d. Lines for `tty`
never go to syslog.

Invariants:
- A peer cannot forge log lines: control characters are escaped.
- Errors that a peer can trigger repeatedly go through `complain`, which is rate-limited to one line per
  second and kind.
- Logging never blocks for long: a line for which stderr or syslog has no room is dropped.

C's counterpart: dbg_printf, dbg_tty_printf, dbg_print_buf and print_names of epmd.c and epmd_srv.c.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable

from ..conventions import printable

_DUMPED = 1024
_ROW = 16
_SECONDS_BETWEEN_COMPLAINTS = 1.0

_SYSLOG = "/dev/log"
_LOG_USER_ERR = 1 << 3 | 3
_PATIENCE_IN_US = 10_000


class Log:
    """The log of one process. `level` is how often -d was given; a detached daemon sets `to_syslog`."""

    def __init__(self, level: int = 0, *, to_syslog: bool = False) -> None:
        self.level = level
        self._complaints: dict[str, tuple[float, int]] = {}
        self._syslog = _open_syslog() if to_syslog else None

    def say(self, level: int, text: str) -> None:
        """Log to stderr or syslog (C: dbg_printf)."""
        if self.level < level:
            return
        if self._syslog:
            self._syslog(f"epmd: {printable(text)}")
        else:
            self._line(text)

    def fail(self, text: str) -> None:
        """Log at level 0 why a start fails.

        This goes to stderr even if other lines go to syslog, because the caller is still waiting, and a
        container has no syslog.
        """
        self.say(0, text)
        if self._syslog:
            self._line(text)

    def tty(self, level: int, text: str) -> None:
        """Log to stderr only (C: dbg_tty_printf)."""
        if self.level >= level and not self._syslog:
            self._line(text)

    def seconds(self) -> None:
        """Log the time, at level 3 (C: current_time).

        C logs it whenever it reads the clock, which is also every few seconds while idle. This program sleeps
        while idle.
        """
        if self.level >= 3:
            self.say(3, f"time in seconds: {int(time.time())}")

    def complain(self, kind: str, *details: object) -> None:
        """Log at level 0 what a peer did: `kind` is a text with a %s for each detail; bytes are a name.

        Without -d, each kind is rate-limited to one line per second, and the next line counts the dropped
        ones. Use few kinds, because each is remembered.
        """
        now = time.monotonic()
        last, missed = self._complaints.get(kind, (float("-inf"), 0))
        if not self.level and now - last < _SECONDS_BETWEEN_COMPLAINTS:
            self._complaints[kind] = (last, missed + 1)
            return
        self._complaints[kind] = (now, 0)
        more = f" (and {missed} more like this)" if missed else ""
        self.say(0, kind % tuple(shown(d) if isinstance(d, bytes) else d for d in details) + more)

    def failed(self, error: BaseException) -> None:
        """Log at level 0 an internal error."""
        self.complain("internal error: %s", repr(error))

    def packet(self, data: bytes) -> None:
        """Log the bytes that were received or sent, at level 2 (C: dbg_print_buf)."""
        if self.level < 2 or self._syslog:
            return
        self._line(f"got {len(data)} bytes")
        for start in range(0, min(len(data), _DUMPED), _ROW):
            self._row(_hex_row(data[:_DUMPED], start))
        if len(data) > _DUMPED:
            self._row("......and more")

    def tables(self, active: Iterable[tuple[str, int, int, int]], unused: Iterable[tuple[str, int]]) -> None:
        """Log all nodes, at level 3 (C: print_names).

        `active` yields name, creation, port and descriptor of each node, `unused` name and creation.
        """
        if self.level < 3 or self._syslog:
            return
        rows = [f'    active name     "{n}#{c}" at port {p}, fd = {fd}' for n, c, p, fd in active]
        rows.append(f"    reg calculated count  : {len(rows)}")
        late = [f'    old/unused name "{n}#{c}"' for n, c in unused]
        rows += [*late, f"    unreg counter         : {len(late)}"]
        rows.append(f"    unreg calculated count: {len(late)}")
        for row in rows:
            self._row(printable(row))

    def hold_terminal(self) -> None:
        """Open the terminal that is stderr now, for a process that will lose the right to open it."""
        _terminal()

    def _line(self, text: str) -> None:
        self._put(f"epmd: {time.ctime()}: {printable(text)}")

    def _row(self, text: str) -> None:
        self._put(f"***** {text}")

    def _put(self, text: str) -> None:
        from select import PIPE_BUF, POLLOUT

        from . import unpatched

        # A full or closed stderr must neither end the process nor block it. A pipe that is ready for writing
        # takes PIPE_BUF bytes without blocking.
        line = text.encode("utf-8", "surrogateescape")[: PIPE_BUF - 2]
        poll = unpatched.poll()
        poll.register(2, POLLOUT)
        try:
            if poll.poll(0):
                os.write(_terminal() or 2, line + b"\r\n")
        except OSError:
            pass


#: The terminal that is stderr: its device, and our own descriptor of it.
_way_to_terminal: tuple[int, int] | None = None


def _terminal() -> int | None:
    """Return a non-blocking descriptor of the terminal that is stderr, or None if stderr is not a terminal.

    A terminal that is ready for writing may take less than a line. Descriptor 2 cannot be made non-blocking,
    because it is shared with the shell.
    """
    global _way_to_terminal
    if not os.isatty(2):
        return None
    device = os.fstat(2).st_rdev
    if _way_to_terminal is None or _way_to_terminal[0] != device:
        if _way_to_terminal is not None:
            os.close(_way_to_terminal[1])
            _way_to_terminal = None
        try:
            descriptor = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return None  # the terminal belongs to another user
        _way_to_terminal = device, descriptor
    return _way_to_terminal[1]


def _open_syslog() -> Callable[[str], None]:
    """Return a function that sends a line as syslog(3) does, but waits only briefly for a slow logger."""
    import _socket  # only a detached daemon needs it

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", 0, _PATIENCE_IN_US))
    impatient_until = 0.0

    def send(text: str) -> None:
        nonlocal impatient_until
        line = f"<{_LOG_USER_ERR}>{time.strftime('%b %e %T')} epmd: {text}"
        # The socket has room for net.unix.max_dgram_qlen lines. A logger that reads frees it immediately. For
        # one that does not, wait at most once a second.
        flags = _socket.MSG_DONTWAIT if time.monotonic() < impatient_until else 0
        try:
            # By path each time, so that lines reach a logger that was restarted.
            sock.sendto(line.encode("utf-8", "surrogateescape"), flags, _SYSLOG)
        except BlockingIOError:
            impatient_until = time.monotonic() + 1
        except OSError:
            pass  # no logger is running

    return send


def shown(name: bytes) -> str:
    """Return a name as log lines show it."""
    return name.decode("utf-8", "backslashreplace")


def _hex_row(data: bytes, start: int) -> str:
    row = data[start : start + _ROW]
    half = _ROW // 2
    left, right = (" ".join(f"{byte:02x}" for byte in part) for part in (row[:half], row[half:]))
    text = "".join(chr(byte) if 32 <= byte <= 126 else "." for byte in row)
    return f"{start:08x}  {left:<23}  {right:<23}  |{text}|"
