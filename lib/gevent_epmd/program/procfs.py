"""What /proc tells of the processes that listen at a port: who they are, which epmd, how they were started.

Nothing here needs a right that an ordinary user has not; of another user's process /proc tells less.

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

from ..conventions import ValueProblem
from .options import Options, UsageError, read_options

#: What build/epmd.spec puts into the executables, in front of the version.
MARK = b"\ngevent-epmd version "

OURS, C, OTHER = "ours", "C", "other"

#: What a socket that listens everywhere has for its address.
ANY = ("0.0.0.0", "::")

_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
_ERTS = re.compile(r"/erts-([0-9]+)([0-9.]*)/bin/epmd$", re.MULTILINE)
#: ERTS 13 is of OTP 25, and so on, since OTP 23.
_OTP_OF_ERTS = 12
_VERSION = re.compile(re.escape(MARK) + rb"([0-9A-Za-z.+]+)\n")
_OUR_PACKAGE = re.compile(r"gevent_epmd-([0-9A-Za-z.+]+)\.dist-info")
#: The options that tell who may do what (does a value follow?), and their variables.
_TELLING = {"-allow": True, "-relaxed_command_check": False}
_TELLING_VARIABLES = {f"ERL_EPMD_{option[1:].upper()}" for option in _TELLING}
#: More than our executables have; who has more is another program.
_LARGEST = 64 << 20
#: Where the name of the program may be in a command line: python -m gevent_epmd, for one.
_FIRST_WORDS = 4


class Listener(NamedTuple):
    """A listening TCP socket of this network namespace."""

    host: str
    uid: int
    inode: int


class Process(NamedTuple):
    """A process that has some of the sockets, by their inodes.

    `kind` is OURS, C or OTHER, `version` of the first two its version, or empty; `path` is what it runs, or
    empty; `since` is in seconds since the epoch, or None.  `state` is the letter of proc(5).  `options` are
    those of an epmd that tell who may do what, None where they cannot be told; `knows_environ` says whether
    its environment, which has options too, can be read."""

    pid: int
    user: str
    path: str
    kind: str
    version: str
    since: float | None
    state: str
    options: Options | None
    knows_environ: bool
    sockets: frozenset[int]


def listeners() -> dict[int, list[Listener]] | None:
    """The sockets that listen, by port; None where /proc does not tell."""
    found: dict[int, list[Listener]] = {}
    known = False
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                for port, listener in _listening(file):
                    found.setdefault(port, []).append(listener)
        except (OSError, ValueError, IndexError):
            continue  # no IPv6, or no /proc
        known = True
    return found if known else None


def _listening(lines: Iterable[str]) -> Iterator[tuple[int, Listener]]:
    for line in lines:
        fields = line.split()
        if fields[3] == _LISTEN:
            host, _, port = fields[1].partition(":")
            yield int(port, 16), Listener(_host(host), int(fields[7]), int(fields[9]))


def _host(digits: str) -> str:
    """An address as /proc/net/tcp writes it: words of 32 bits in the order of this machine's bytes."""
    words = [int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)]
    return _socket.inet_ntop(_socket.AF_INET if len(words) == 1 else _socket.AF_INET6, b"".join(words))


def processes(sockets: Iterable[Listener]) -> list[Process]:
    """The processes that have these sockets, as far as this user may see."""
    owners = _owners({sock.inode for sock in sockets})
    pids = sorted({pid for each in owners.values() for pid in each})
    return [_process(pid, frozenset(inode for inode in owners if pid in owners[inode])) for pid in pids]


def registrants(epmd: int, descriptors: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """The processes that hold registrations, by node: process id and path.  `descriptors` are those of the
    nodes' connections in the process `epmd`.  Without those that this user may not see."""
    ends = _connections()
    inodes = {ends_inode: ends for ends, ends_inode in ends.items()}
    held: dict[int, str] = {}
    for name, descriptor in descriptors.items():
        found = _SOCKET.fullmatch(_link(f"/proc/{epmd}/fd/{descriptor}"))
        local, remote = inodes.get(int(found[1]) if found else 0, ("", ""))
        other = ends.get((remote, local), 0)
        if other:
            held[other] = name
    return {held[inode]: (pids[0], _link(f"/proc/{pids[0]}/exe")) for inode, pids in _owners({*held}).items()}


def _connections() -> dict[tuple[str, str], int]:
    """Every TCP connection of this network namespace: (local end, remote end) -> inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in _read(f"/proc/net/{table}").decode("ascii", "replace").splitlines()[1:]:
            fields = line.split()
            found[(fields[1], fields[2])] = int(fields[9])
    return found


def _owners(inodes: set[int]) -> dict[int, list[int]]:
    """The processes that have each of these sockets."""
    found: dict[int, list[int]] = {}
    for pid in _all_processes() if inodes else ():
        for inode in _sockets_of(pid) & inodes:
            found.setdefault(inode, []).append(pid)
    return found


def _all_processes() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []


def _sockets_of(pid: int) -> set[int]:
    folder = f"/proc/{pid}/fd"
    try:
        links = [_link(f"{folder}/{name}") for name in os.listdir(folder)]
    except OSError:
        return set()
    return {int(match[1]) for link in links if (match := _SOCKET.fullmatch(link))}


def _process(pid: int, sockets: frozenset[int]) -> Process:
    folder = f"/proc/{pid}"
    path = _link(f"{folder}/exe").removesuffix(" (deleted)")
    kind, version = _kind(pid, path)
    environ = _words(f"{folder}/environ")
    state, since = _stat(_read(f"{folder}/stat"))
    options = None if kind == OTHER else _options(_words(f"{folder}/cmdline") or [], environ or [])
    knows = environ is not None
    return Process(pid, _user_of(folder), path, kind, version, since, state, options, knows, sockets)


def user_name(uid: int) -> str:
    """The name of a user, or the number where there is no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _user_of(path: str) -> str:
    try:
        return user_name(os.stat(path).st_uid)
    except OSError:
        return ""


def _kind(pid: int, path: str) -> tuple[str, str]:
    """Which program it is, and its version."""
    if match := _VERSION.search(_read(f"/proc/{pid}/exe", _LARGEST)):
        return OURS, match[1].decode()
    if os.path.basename(path).startswith("python") and _is_named_epmd(_words(f"/proc/{pid}/cmdline") or []):
        return _of_python(pid)
    # Not the path alone: the program may have been started by way of the dynamic linker.
    if erts := _ERTS.search(f"{path}\n{_maps(pid)}"):
        return C, f"OTP {int(erts[1]) + _OTP_OF_ERTS} (ERTS {erts[1]}{erts[2]})"
    return (C, "") if os.path.basename(path) == "epmd" else (OTHER, "")


def _of_python(pid: int) -> tuple[str, str]:
    """A Python program that is named epmd, and has loaded gevent from a folder in which this package is
    installed, too.  A program that embeds a mapper has another name."""
    folder = re.search(r" (/\S*)/gevent/\S*$", _maps(pid), re.MULTILINE)
    if folder is None:
        return OTHER, ""
    try:
        # As that process sees it: it may be in a container.
        names = " ".join(os.listdir(f"/proc/{pid}/root{folder[1]}"))
    except OSError:
        return OTHER, ""
    package = _OUR_PACKAGE.search(names)
    return (OURS, package[1]) if package else (OTHER, "")


def _maps(pid: int) -> str:
    return os.fsdecode(_read(f"/proc/{pid}/maps"))


def _options(line: list[str], environ: list[str]) -> Options | None:
    """The options of an epmd that was started so, those that tell who may do what.  Others could be read only
    where that process is: they name folders and users."""
    kept: list[str] = []
    words = iter(line)
    for word in words:
        if word in _TELLING:
            kept += [word, next(words, "")] if _TELLING[word] else [word]
    pairs = (word.partition("=")[::2] for word in environ)
    try:
        return read_options(kept, {name: value for name, value in pairs if name in _TELLING_VARIABLES})
    except (UsageError, ValueProblem):
        return None


def _is_named_epmd(line: list[str]) -> bool:
    return any("epmd" in os.path.basename(word) for word in line[:_FIRST_WORDS])


def _stat(stat: bytes) -> tuple[str, float | None]:
    """The state, and when it was started."""
    fields = stat.rpartition(b")")[2].split()
    try:
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return fields[0].decode(), time.time() - age
    except (IndexError, ValueError, OSError):
        return "", None


def _words(path: str) -> list[str] | None:
    """What ends with a NUL each; None where it cannot be read."""
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


def _read(path: str, most: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""
