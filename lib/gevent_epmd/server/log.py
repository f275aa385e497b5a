"""Where the daemon says what it does: stderr, or syslog when it is detached.

Levels are C's: 0 is always said, 1 to 3 with as many -d.  `tty` is for what has no place in syslog.
A peer must not be able to write the log: control characters are escaped, and what a peer can bring
about without end goes through `complain`, which says each kind of thing once a second.
Nobody waits for a log: a line for which stderr or syslog has no room is lost.

Source: dbg_printf, dbg_tty_printf, dbg_print_buf and print_names of epmd.c and epmd_srv.c.
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
    """`level` is how often -d was given; `to_syslog` what a detached daemon wants."""

    def __init__(self, level: int = 0, *, to_syslog: bool = False) -> None:
        self.level = level
        self._complaints: dict[str, tuple[float, int]] = {}
        self._syslog = _open_syslog() if to_syslog else None

    def say(self, level: int, text: str) -> None:
        """For stderr and syslog alike (C: dbg_printf)."""
        if self.level < level:
            return
        if self._syslog:
            self._syslog(f"epmd: {printable(text)}")
        else:
            self._line(text)

    def fail(self, text: str) -> None:
        """Level 0, for why a start fails: for stderr too where everything else goes to syslog, since the
        caller still waits there, and a container has no syslog."""
        self.say(0, text)
        if self._syslog:
            self._line(text)

    def tty(self, level: int, text: str) -> None:
        """For stderr alone (C: dbg_tty_printf)."""
        if self.level >= level and not self._syslog:
            self._line(text)

    def seconds(self) -> None:
        """The time, at level 3 (C: current_time).  C says it whenever it looks at its clock, which it does
        every few seconds while nothing happens, too; this one sleeps then."""
        if self.level >= 3:
            self.say(3, f"time in seconds: {int(time.time())}")

    def complain(self, kind: str, *details: object) -> None:
        """Level 0, for what a peer did: a text with a %s for each detail, of which bytes are a name.
        Without -d each kind is said once a second at most, and how many were left out goes with the
        next.  There must be few kinds: each is remembered."""
        now = time.monotonic()
        last, missed = self._complaints.get(kind, (float("-inf"), 0))
        if not self.level and now - last < _SECONDS_BETWEEN_COMPLAINTS:
            self._complaints[kind] = (last, missed + 1)
            return
        self._complaints[kind] = (now, 0)
        more = f" (and {missed} more like this)" if missed else ""
        self.say(0, kind % tuple(shown(d) if isinstance(d, bytes) else d for d in details) + more)

    def failed(self, error: BaseException) -> None:
        """Level 0, for what must not happen: a mistake in this program."""
        self.complain("internal error: %s", repr(error))

    def packet(self, data: bytes) -> None:
        """The bytes that came or went, at level 2 (C: dbg_print_buf)."""
        if self.level < 2 or self._syslog:
            return
        self._line(f"got {len(data)} bytes")
        for start in range(0, min(len(data), _DUMPED), _ROW):
            self._row(_hex_row(data[:_DUMPED], start))
        if len(data) > _DUMPED:
            self._row("......and more")

    def tables(self, active: Iterable[tuple[str, int, int, int]], unused: Iterable[tuple[str, int]]) -> None:
        """All nodes, at level 3 (C: print_names).  `active` are name, creation, port and descriptor,
        `unused` name and creation."""
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
        """Open the terminal that is stderr now, for a process that may not open it later."""
        _terminal()

    def _line(self, text: str) -> None:
        self._put(f"epmd: {time.ctime()}: {printable(text)}")

    def _row(self, text: str) -> None:
        self._put(f"***** {text}")

    def _put(self, text: str) -> None:
        from select import PIPE_BUF, POLLOUT

        from . import unpatched

        # A stderr that is full or gone must neither end anything nor keep it waiting: a pipe that can be
        # written takes so many bytes at once.
        line = text.encode("utf-8", "surrogateescape")[: PIPE_BUF - 2]
        poll = unpatched.poll()
        poll.register(2, POLLOUT)
        try:
            if poll.poll(0):
                os.write(_terminal() or 2, line + b"\r\n")
        except OSError:
            pass


#: Our own way to the terminal that is stderr: its device, and a descriptor.
_way_to_terminal: tuple[int, int] | None = None


def _terminal() -> int | None:
    """A descriptor of the terminal that is stderr, on which no write waits; None where stderr is none.

    A terminal that takes a byte need not take a line, and that it shall not wait cannot be said of
    descriptor 2: that is shared with the shell."""
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
            return None  # another user's terminal
        _way_to_terminal = device, descriptor
    return _way_to_terminal[1]


def _open_syslog() -> Callable[[str], None]:
    """What syslog(3) does, but for a logger that is slow, which that one waits for."""
    import _socket  # only a detached daemon needs it

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", 0, _PATIENCE_IN_US))
    impatient_until = 0.0

    def send(text: str) -> None:
        nonlocal impatient_until
        line = f"<{_LOG_USER_ERR}>{time.strftime('%b %e %T')} epmd: {text}"
        # There is room for net.unix.max_dgram_qlen lines.  One who reads them makes more in no time, and one
        # who does not is waited for once a second.
        flags = _socket.MSG_DONTWAIT if time.monotonic() < impatient_until else 0
        try:
            # By its path each time: a logger that was started again is found again.
            sock.sendto(line.encode("utf-8", "surrogateescape"), flags, _SYSLOG)
        except BlockingIOError:
            impatient_until = time.monotonic() + 1
        except OSError:
            pass  # nobody listens

    return send


def shown(name: bytes) -> str:
    """A name for a log line."""
    return name.decode("utf-8", "backslashreplace")


def _hex_row(data: bytes, start: int) -> str:
    row = data[start : start + _ROW]
    half = _ROW // 2
    left, right = (" ".join(f"{byte:02x}" for byte in part) for part in (row[:half], row[half:]))
    text = "".join(chr(byte) if 32 <= byte <= 126 else "." for byte in row)
    return f"{start:08x}  {left:<23}  {right:<23}  |{text}|"
