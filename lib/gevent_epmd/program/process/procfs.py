"""Reads from /proc which processes listen at a port or hold a connection to it: which program and version,
which user, which options.

Invariant: nothing here needs more privileges than an ordinary user has. /proc shows less of another user's
processes.

Source: proc(5).
"""

from __future__ import annotations

import _socket
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ...conventions import ValueProblem
from ...server.networks import plain_host
from ..line import INTERACTIVE, OWN_VARIABLES, UsageError
from ..options import Options, read_options

#: build/epmd.spec puts this text into the executables, in front of the version.
MARK = b"\ngevent-epmd version "

OURS, C, OTHER = "ours", "C", "other"

#: C's epmd selects on at most this many descriptors.
C_DESCRIPTORS = 1024
#: The addresses of sockets that listen on all addresses.
ANY = ("0.0.0.0", "::")

_ESTABLISHED, _LISTEN = "01", "0A"
_DELETED = " (deleted)"
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
#: The names of C's program: the last two are those that our package and scripts/install give it.
_NAMES_OF_C = ("epmd", "epmd.erlang", "epmd.c-original")
NAMES_FOR_PYTHON = ("epmd", "epmd.py", "gevent_epmd")
_ERTS = re.compile(
    r"/erts-([0-9]+)([0-9.]*)/bin/epmd(?:\.erlang|\.c-original)?(?: \(deleted\))?$", re.MULTILINE
)
#: Since OTP 23: ERTS 13 belongs to OTP 25, ERTS 14 to OTP 26, and so on.
_OTP_OF_ERTS = 12
_VERSION = re.compile(re.escape(MARK) + rb"([0-9A-Za-z.+]+)\n")
_OUR_PACKAGE = re.compile(r"gevent_epmd-([0-9A-Za-z.+]+)\.dist-info")
#: The options that control who may do what (True if a value follows), and their variables.
_TELLING = {"-allow": True, "-allow_register": True, "-allow_file": True, "-relaxed_command_check": False}
_TELLING_VARIABLES = {OWN_VARIABLES + option[1:].upper() for option in _TELLING}
#: In bytes. More than the size of our executables, so that a larger program is read only in part.
_LARGEST = 64 << 20
#: In bytes: how much of a program is in memory at once, and more than the length of what is looked for.
_PIECE, _OVERLAP = 1 << 20, 256
#: How many words of a command line may contain the program's name: more than one for `python -m gevent_epmd`.
_FIRST_WORDS = 4


class Listener(NamedTuple):
    """A listening TCP socket of this network namespace."""

    host: str
    uid: int
    inode: int


class Connection(NamedTuple):
    """A TCP connection of this network namespace: this end, the other one, and the inode of its socket."""

    local: tuple[str, int]
    remote: tuple[str, int]
    inode: int


class Process(NamedTuple):
    """A process. `about` gives what every user may see of each, down to `line`, and `processes` the rest too,
    of those that hold some of the listening sockets.

    `path` and `user` may be "", and `since`, the start time in seconds since the epoch, None. `state` is the
    letter of proc(5). `line` has the words of its command line.

    `kind` is OURS, C or OTHER. `version` is the version of an epmd, or "" if it is unknown. `options` are
    those options of an epmd that control who may do what, or None if they are unknown. `knows_environ` is
    False if its environment, which can set options too, cannot be read. `environ` are the variables of an
    epmd in it. `sockets` has the inodes of the listening sockets.

    `is_deleted` is True if the file of the program was removed or replaced after the start. `descriptors` are
    the numbers of open files and of those that it may open, each None if it is unknown. `unit` is the service
    unit of systemd that it belongs to, or "".
    """

    pid: int
    path: str = ""
    user: str = ""
    since: float | None = None
    state: str = ""
    line: tuple[str, ...] = ()
    kind: str = ""
    version: str = ""
    options: Options | None = None
    knows_environ: bool = False
    environ: dict[str, str] = {}  # noqa: RUF012 - never changed
    sockets: frozenset[int] = frozenset()
    is_deleted: bool = False
    descriptors: tuple[int | None, int | None] = (None, None)
    unit: str = ""

    def is_stopped(self) -> bool:
        """Return whether it is stopped by a signal or a debugger."""
        return self.state in ("T", "t")

    def most_descriptors(self) -> int | None:
        """Return how many descriptors it can use, or None if that is unknown; C's epmd uses no more than
        it selects on."""
        limit = self.descriptors[1]
        return min(limit or C_DESCRIPTORS, C_DESCRIPTORS) if self.kind == C else limit


def listeners() -> dict[int, list[Listener]] | None:
    """Return the listening sockets by port, or None if /proc cannot be read."""
    sockets = _sockets(_LISTEN)
    if sockets is None:
        return None
    found: dict[int, list[Listener]] = {}
    for fields in sockets:
        host, port = _end(fields[1])
        found.setdefault(port, []).append(Listener(host, int(fields[7]), int(fields[9])))
    return found


def _sockets(state: str) -> list[list[str]] | None:
    """Return the fields of the TCP sockets in this state, or None if /proc cannot be read."""
    found, known = [], False
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                # Most sockets of a busy host are in other states: only these lines are split.
                rows = [line.split() for line in file if f" {state} " in line]
            found += [fields for fields in rows if fields[3] == state]
        except (OSError, ValueError, IndexError):
            continue  # no IPv6, or no /proc
        known = True
    return found if known else None


def _end(text: str) -> tuple[str, int]:
    """Convert one end of a socket: 32-bit words in this machine's byte order, and the port."""
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)]
    family = _socket.AF_INET if len(words) == 1 else _socket.AF_INET6
    return _socket.inet_ntop(family, b"".join(words)), int(port, 16)


def processes(sockets: Iterable[Listener], held: Mapping[int, list[int]] | None = None) -> list[Process]:
    """Return the processes that hold these sockets, as far as this user may see them. `held` are the
    `owners`, if they are known already."""
    inodes = {sock.inode for sock in sockets}
    held = owners(inodes) if held is None else held
    of = {inode: held[inode] for inode in inodes & held.keys()}
    pids = sorted({pid for each in of.values() for pid in each})
    return [_process(pid, frozenset(inode for inode in of if pid in of[inode])) for pid in pids]


def connections(port: int) -> list[Connection]:
    """Return the established TCP connections of which one end has this port, in this network namespace."""
    digits = f"{port:04X}"
    return [
        Connection(_plain_end(fields[1]), _plain_end(fields[2]), int(fields[9]))
        for fields in _sockets(_ESTABLISHED) or ()
        if digits in (fields[1][-4:], fields[2][-4:])
    ]


def _plain_end(text: str) -> tuple[str, int]:
    """As `_end`, but the ends of dual-stack and of IPv4 sockets are comparable."""
    host, port = _end(text)
    return plain_host(host), port


def socket_of(pid: int, descriptor: int) -> int:
    """Return the inode of a socket of a process, or 0 if it is none or may not be seen."""
    found = _SOCKET.fullmatch(_link(f"/proc/{pid}/fd/{descriptor}"))
    return int(found[1]) if found else 0


def owners(inodes: set[int]) -> dict[int, list[int]]:
    """Return the process IDs that hold each of these sockets, by inode."""
    found: dict[int, list[int]] = {}
    for pid in _all_processes() if inodes else ():
        for inode in sockets_of(pid) & inodes:
            found.setdefault(inode, []).append(pid)
    return found


def named_epmd() -> list[int]:
    """Return the processes whose command line, which every user may see, is that of an epmd which serves."""
    own = os.getpid()
    return [pid for pid in _all_processes() if pid != own and _serves(command_line(pid))]


def _serves(line: list[str]) -> bool:
    names = [os.path.basename(word) for word in line[:_FIRST_WORDS]]
    if names and names[0].startswith("python"):
        names = [name for name in names if name in NAMES_FOR_PYTHON]
    return (
        bool(names)
        and names[0] in (*_NAMES_OF_C, *NAMES_FOR_PYTHON)
        and not set(INTERACTIVE).intersection(line)
    )


def _all_processes() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []


def sockets_of(pid: int) -> set[int]:
    """Return the inodes of the sockets of a process, as far as this user may see them."""
    try:
        return {int(match[1]) for _, link in open_files(pid) if (match := _SOCKET.fullmatch(link))}
    except OSError:
        return set()


def open_files(pid: int) -> Iterator[tuple[int, str]]:
    """Yield the descriptors of a process, each with what its link in /proc shows. Raises OSError."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield int(name), os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue  # closed meanwhile


def _process(pid: int, sockets: frozenset[int]) -> Process:
    """Return what can be known of a process that holds these sockets."""
    known = about(pid)
    kind, version = _kind(known)
    words = _words(f"/proc/{pid}/environ")
    environ = dict(word.partition("=")[::2] for word in words or ())
    return known._replace(
        kind=kind,
        version=version,
        options=None if kind == OTHER else _options(known.line, environ),
        knows_environ=words is not None,
        environ={name: environ[name] for name in sorted(environ) if name.startswith(OWN_VARIABLES)},
        sockets=sockets,
        is_deleted=_link(f"/proc/{pid}/exe").endswith(_DELETED),
        descriptors=_descriptors(pid),
        unit=unit(pid),
    )


def about(pid: int) -> Process:
    """Return what every user may see of a process."""
    state, since = _stat(pid)
    return Process(pid, program(pid), _user_of(pid), since, state, tuple(command_line(pid)))


def _descriptors(pid: int) -> tuple[int | None, int | None]:
    """Return how many files a process has open and may open."""
    try:
        used = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        used = None
    limit = _found(pid, "limits", rb"^Max open files\s+([0-9]+)")
    return used, int(limit) if limit else None


def user_name(uid: int) -> str:
    """Return the name of a user, or the uid as text if the user has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _user_of(pid: int) -> str:
    """Return the effective user of a process. The owner of its folder may be root, as after -user."""
    uid = _found(pid, "status", rb"^Uid:\s+[0-9]+\s+([0-9]+)")
    return user_name(int(uid)) if uid else ""


def _kind(process: Process) -> tuple[str, str]:
    """Return which program a process runs (OURS, C or OTHER) and its version."""
    if version := version_in(f"/proc/{process.pid}/exe"):
        return OURS, version
    name = os.path.basename(process.path)
    words = map(os.path.basename, process.line[:_FIRST_WORDS])
    if name.startswith("python") and any("epmd" in word for word in words):
        return _of_python(process.pid)
    # The path is not sufficient: the program may have been started through the dynamic linker.
    if erts := _ERTS.search(f"{process.path}\n{os.fsdecode(_read(f'/proc/{process.pid}/maps'))}"):
        return C, _otp(erts)
    return (C, "") if name in _NAMES_OF_C else (OTHER, "")


def kind_of_file(path: str) -> tuple[str, str]:
    """Return which program an executable file is (OURS, C or OTHER) and its version."""
    if version := version_in(path):
        return OURS, version
    erts = _ERTS.search(path)
    return (C, _otp(erts)) if erts else (OTHER, "")


def _otp(erts: re.Match[str]) -> str:
    return f"OTP {int(erts[1]) + _OTP_OF_ERTS} (ERTS {erts[1]}{erts[2]})"


def version_in(path: str) -> str:
    """Return the version of our executable, or "" if the file is another one or cannot be read."""
    try:
        with open(path, "rb") as file:
            end = b""
            for _ in range(_LARGEST // _PIECE):
                piece = file.read(_PIECE)
                if match := _VERSION.search(end + piece):
                    return match[1].decode()
                if len(piece) < _PIECE:
                    break
                end = piece[-_OVERLAP:]
    except OSError:
        pass
    return ""


def _of_python(pid: int) -> tuple[str, str]:
    """Return OURS and the version if a Python process that is named epmd is this program.

    It has loaded gevent from a folder in which this package is installed too.
    """
    folder = _found(pid, "maps", rb" (/\S*)/gevent/\S*$")
    try:
        # Read the folder as that process sees it, because it may run in a container.
        names = " ".join(os.listdir(f"/proc/{pid}/root{folder}")) if folder else ""
    except OSError:
        return OTHER, ""
    package = _OUR_PACKAGE.search(names)
    return (OURS, package[1]) if package else (OTHER, "")


def _options(line: Iterable[str], environ: dict[str, str]) -> Options | None:
    """Read those options of an epmd that control who may do what, from its command line and environment.

    Others name files and users, and could be read only where that process runs.
    """
    kept: list[str] = []
    words = iter(line)
    for word in words:
        if word in _TELLING:
            kept += [word, next(words, "")] if _TELLING[word] else [word]
    try:
        return read_options(kept, {name: environ[name] for name in _TELLING_VARIABLES & environ.keys()})
    except (UsageError, ValueProblem):
        return None


def _stat(pid: int) -> tuple[str, float | None]:
    """Return the state of a process and its start time in seconds since the epoch, or "" and None."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    try:
        now = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
        age = now - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return fields[0].decode(), time.time() - age
    except (IndexError, ValueError, OSError):
        return "", None


def innermost_pid(pid: int) -> int:
    """Return the process ID in the innermost PID namespace of the process, or 0 if it is unknown."""
    return int(_found(pid, "status", rb"NSpid:.*\s([0-9]+)$") or 0)


def program(pid: int) -> str:
    """Return the path of the program that a process runs, or "" if it is unknown."""
    return _link(f"/proc/{pid}/exe").removesuffix(_DELETED)


def unit(pid: int) -> str:
    """Return the service unit of systemd to which a process belongs, or "" if there is none."""
    # The line for version 2 of control groups, or for systemd in version 1.
    return _found(pid, "cgroup", rb"^[0-9]+:(?:name=systemd)?:/.*?([^/\n]+\.service)$")


def network_of(pid: int) -> str:
    """Return the network namespace of a process, or "" if this user may not see it."""
    return _link(f"/proc/{pid}/ns/net")


def parent(pid: int) -> int:
    """Return the process ID of the parent, or 0 if it is unknown."""
    return int(_found(pid, "status", rb"PPid:\s+([0-9]+)$") or 0)


def _found(pid: int, file: str, pattern: bytes) -> str:
    """Return what a pattern finds in a file of a process, or ""."""
    found = re.search(pattern, _read(f"/proc/{pid}/{file}"), re.MULTILINE)
    return os.fsdecode(found[1]) if found else ""


def command_line(pid: int) -> list[str]:
    """Return the words of a process's command line, or [] if it cannot be read."""
    return _words(f"/proc/{pid}/cmdline") or []


def _words(path: str) -> list[str] | None:
    """Return the NUL-terminated strings in a file, or None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
