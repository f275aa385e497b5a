"""Writes the daemon's log lines to stderr, or to syslog when it is detached.

If stderr is the journal of systemd, a line has a priority instead of the time, which the journal adds, and of
the program's name, which it adds too.

Levels are C's: lines of level 0 are always logged, those of level 1 to 3 with as many -d. Lines for `tty`
never go to syslog.

Invariants:
- A peer cannot forge log lines: control characters are escaped.
- Errors that a peer can trigger repeatedly go through `complain`, which is rate-limited to one line per
  second and kind. The number of the lines that were dropped is logged when the second is over, or at the end.
- Logging never blocks for long: a line for which stderr or syslog has no room is dropped.

C's counterpart: dbg_printf, dbg_tty_printf, dbg_print_buf and print_names of epmd.c and epmd_srv.c.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from collections.abc import Iterable

from ..conventions import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from typing import Any

_DUMPED = 1024
_ROW = 16
_SECONDS_BETWEEN_COMPLAINTS = 1.0

#: Where the logger listens; FreeBSD's in the last place.
_SYSLOG = {"linux": "/dev/log", "darwin": "/var/run/syslog"}.get(sys.platform, "/var/run/log")
_LOG_USER_ERR = 1 << 3 | 3
#: The priorities of the journal: those of syslog. Source: sd-daemon(3).
ERROR, WARNING, NOTICE, INFO, DEBUG = range(3, 8)
_TRIES = 3
#: For a slow logger, 10 ms.
_PATIENCE = struct.pack("ll", 0, 10_000)


class _Complaint:
    """One kind of complaint: when the next line may be logged, and how many, and which last, were dropped."""

    __slots__ = ("details", "kind", "missed", "next", "priority")

    def __init__(self, kind: str, priority: int) -> None:
        self.kind = kind
        self.priority = priority
        self.next = float("-inf")
        self.missed = 0
        self.details: tuple[object, ...] = ()

    def text(self, details: tuple[object, ...]) -> str:
        return self.kind % tuple(shown(d) if isinstance(d, bytes) else d for d in details)


class Log:
    """The log of one process. `level` is how often -d was given; a detached daemon sets `to_syslog`.

    `journal` is the value of JOURNAL_STREAM.
    """

    def __init__(self, level: int = 0, *, to_syslog: bool = False, journal: str = "") -> None:
        self.level = level
        self._journal = journal
        self._complaints: dict[str, _Complaint] = {}
        self._loop: Any = None
        self._timer: Any = None
        self._syslog = _Syslog() if to_syslog else None

    def say(self, level: int, text: str, priority: int = WARNING) -> None:
        """Log to stderr or syslog (C: dbg_printf). `priority` is for the journal, at level 0."""
        if self.level < level:
            return
        if self._syslog:
            self._syslog(f"epmd: {printable(text)}")
        else:
            self._line(text, DEBUG if level else priority)

    def fail(self, text: str) -> None:
        """Log why a start fails: to stderr too, because the caller waits, and a container has no syslog."""
        self.say(0, text, ERROR)
        if self._syslog:
            self._line(text, ERROR)

    def tty(self, level: int, text: str) -> None:
        """Log to stderr only (C: dbg_tty_printf)."""
        if self.level >= level and not self._syslog:
            self._line(text, DEBUG)

    def complain(self, kind: str, *details: object, priority: int = WARNING) -> None:
        """Log at level 0 what a peer did: `kind` is a text with a %s for each detail; bytes are a name.

        Without -d, each kind is rate-limited to one line per second. Use few: each kind is remembered.
        """
        now = time.monotonic()
        complaint = self._complaints.setdefault(kind, _Complaint(kind, priority))
        if self.level or now >= complaint.next:
            complaint.next = now + _SECONDS_BETWEEN_COMPLAINTS
            # Not 0 if there is no timer, or if it is late.
            more = f" (and {complaint.missed} more like this)" if complaint.missed else ""
            complaint.missed, complaint.details = 0, ()
            self.say(0, complaint.text(details) + more, priority)
            return
        complaint.missed += 1
        complaint.details = details
        if self._timer is None and self._loop is not None:
            self._start_timer(complaint.next - now)

    def silence(self) -> None:
        """Log nothing from now on."""
        self.level = -1

    def count_in(self, loop: Any) -> None:
        """Use a timer of this event loop, until `finish`, to log how many complaints were dropped."""
        self._loop = loop

    def finish(self) -> None:
        """Log how many complaints were dropped, and use no timer from now on."""
        self._loop = None
        self._stop_timer()
        self._count(float("inf"))

    def _start_timer(self, seconds: float) -> None:
        # An embedding program that waits for its event loop to have nothing to do must not wait for this.
        self._timer = self._loop.timer(seconds, ref=False)
        self._timer.start(self._second_is_over, update=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _second_is_over(self) -> None:
        self._stop_timer()
        now = time.monotonic()
        self._count(now)
        waiting = [complaint.next for complaint in self._complaints.values() if complaint.missed]
        if waiting:
            self._start_timer(max(min(waiting) - now, 0))

    def _count(self, now: float) -> None:
        """Log each number of dropped complaints whose second is over."""
        # In a copy, because an embedding program's log may cause another complaint.
        for complaint in list(self._complaints.values()):
            if complaint.missed and now >= complaint.next:
                complaint.next = now + _SECONDS_BETWEEN_COMPLAINTS
                text = f"{complaint.missed} more like this: {complaint.text(complaint.details)}"
                # The details refer to a connection, which must not stay in memory.
                complaint.missed, complaint.details = 0, ()
                self.say(0, text, complaint.priority)

    def failed(self, error: BaseException) -> None:
        """Log at level 0 an internal error."""
        self.complain("internal error: %s", repr(error), priority=ERROR)

    def packet(self, data: bytes) -> None:
        """Log the bytes that were received or sent, at level 2 (C: dbg_print_buf)."""
        if self.level < 2 or self._syslog:
            return
        self._line(f"got {len(data)} bytes", DEBUG)
        self.rows(_hex_row(data[:_DUMPED], start) for start in range(0, min(len(data), _DUMPED), _ROW))
        if len(data) > _DUMPED:
            self.rows(["......and more"])

    def rows(self, rows: Iterable[str]) -> None:
        """Log the rows of a table, to stderr only."""
        beginning = f"<{DEBUG}>" if is_journal(2, self._journal) else ""
        for row in () if self._syslog else rows:
            self._put(f"{beginning}***** {printable(row)}")

    def hold_terminal(self) -> None:
        """Open the terminal that is stderr now, for a process that will lose the right to open it."""
        _way_out()

    def _line(self, text: str, priority: int) -> None:
        beginning = f"<{priority}>" if is_journal(2, self._journal) else f"epmd: {time.ctime()}: "
        self._put(beginning + printable(text))

    def _put(self, text: str) -> None:
        try:
            from select import PIPE_BUF, POLLOUT
        except ImportError:  # no descriptor is left, and the process ends for that reason
            os.write(2, text.encode("utf-8", "surrogateescape") + b"\r\n")
            return
        # A full or closed stderr must neither end the process nor block it. A pipe that is ready for writing
        # takes PIPE_BUF bytes without blocking.
        end = b"\n" if is_journal(2, self._journal) else b"\r\n"
        line = text.encode("utf-8", "surrogateescape")[: PIPE_BUF - len(end)] + end
        descriptor, size = _way_out()
        poll = unpatched_poll()
        poll.register(2, POLLOUT)
        try:
            while line and poll.poll(0) and (written := os.write(descriptor, line[:size])):
                line = line[written:]
        except OSError:
            pass


def is_journal(descriptor: int, stream: str) -> bool:
    """Return whether a descriptor is a connection to the journal of systemd.

    `stream` is the value of JOURNAL_STREAM, which is inherited even by processes whose output goes elsewhere.
    Source: systemd.exec(5).
    """
    if not stream:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False  # it is closed
    return stream == f"{status.st_dev}:{status.st_ino}"


def unpatched_poll() -> select.poll:
    """Return a select.poll as it was before gevent's monkey patching.

    gevent's switches to the hub even with a timeout of 0, which callbacks of the event loop must not do.
    """
    import select  # here, because a start pays for it

    monkey = sys.modules.get("gevent.monkey")
    original: type[select.poll] = monkey.get_original("select", "poll") if monkey else select.poll
    return original()


#: The terminal that is stderr: its device, and our own descriptor of it, or None if it cannot be opened.
_way_to_terminal: tuple[int, int | None] | None = None


def _way_out() -> tuple[int, int]:
    """Return the descriptor for log lines, and how many bytes it surely takes when it is ready for writing.

    A terminal that is ready may take less than a line, and then blocks. Descriptor 2 is shared with the
    shell, so this opens the terminal again to make it non-blocking, which only its user may do.
    """
    global _way_to_terminal
    from select import PIPE_BUF

    if not os.isatty(2):
        return 2, PIPE_BUF
    device = os.fstat(2).st_rdev
    if _way_to_terminal is None or _way_to_terminal[0] != device:
        if _way_to_terminal is not None and _way_to_terminal[1] is not None:
            os.close(_way_to_terminal[1])
        try:
            descriptor = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            descriptor = None
        _way_to_terminal = device, descriptor
    own = _way_to_terminal[1]
    return (2, 1) if own is None else (own, PIPE_BUF)


class _Syslog:
    """Sends lines as syslog(3) does, but waits only briefly for a slow logger.

    The logger's socket is one for datagrams, or a stream in which a NUL ends each line.
    """

    def __init__(self) -> None:
        import _socket  # only a detached daemon needs it

        self._socket = _socket
        self._kind: int = _socket.SOCK_DGRAM
        self._impatient_until = 0.0
        # Now, because there may be no descriptor left when there is something to log.
        self._sock: Any = self._open()

    def __call__(self, text: str) -> None:
        """Send a line. It is lost if no logger takes it."""
        line = f"<{_LOG_USER_ERR}>{time.strftime('%b %e %T')} epmd: {text}".encode("utf-8", "surrogateescape")
        # A connection may be broken, and the logger that is there now may have a socket of the other kind.
        for _ in range(_TRIES):
            was_connected = self._kind == self._socket.SOCK_STREAM and self._sock is not None
            try:
                self._send(line)
            except BlockingIOError:
                self._impatient_until = time.monotonic() + 1
            except OSError as error:
                self._close()
                if error.errno == errno.EPROTOTYPE:
                    is_stream = self._kind == self._socket.SOCK_STREAM
                    self._kind = self._socket.SOCK_DGRAM if is_stream else self._socket.SOCK_STREAM
                    continue
                if was_connected:
                    continue
            return

    def _send(self, line: bytes) -> None:
        if self._sock is None:
            self._sock = self._open()
        # A socket has room for some lines only. A logger that reads frees it immediately. For one that does
        # not, wait at most once a second.
        is_impatient = time.monotonic() < self._impatient_until
        flags = getattr(self._socket, "MSG_NOSIGNAL", 0) | (self._socket.MSG_DONTWAIT if is_impatient else 0)
        if self._kind == self._socket.SOCK_DGRAM:
            # By path each time, so that lines reach a logger that was restarted.
            self._sock.sendto(line, flags, _SYSLOG)
        elif self._sock.send(line + b"\0", flags) <= len(line):
            # The next line would become the end of this one.
            self._close()

    def _open(self) -> Any:
        sock = self._socket.socket(self._socket.AF_UNIX, self._kind)
        sock.setsockopt(self._socket.SOL_SOCKET, self._socket.SO_SNDTIMEO, _PATIENCE)
        try:
            if self._kind == self._socket.SOCK_STREAM:
                if time.monotonic() < self._impatient_until:
                    raise BlockingIOError
                sock.connect(_SYSLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def shown(name: bytes) -> str:
    """Return a name as log lines show it."""
    return name.decode("utf-8", "backslashreplace")


def _hex_row(data: bytes, start: int) -> str:
    row = data[start : start + _ROW]
    half = _ROW // 2
    left, right = (" ".join(f"{byte:02x}" for byte in part) for part in (row[:half], row[half:]))
    text = "".join(chr(byte) if 32 <= byte <= 126 else "." for byte in row)
    return f"{start:08x}  {left:<23}  {right:<23}  |{text}|"
