"""The interactive calls: sends one request, prints the reply, and returns the exit status.

Invariants: all output goes through `write`, so that the bytes of a node's name reach stdout unchanged. A
function imports what only rare calls need, because every start of an Erlang node imports this module.

C's counterpart: epmd_cli.c.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import posix  # not os, see `environment`
import time

from .. import wire
from ..client import exchange
from ..conventions import printable
from . import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from .options import Options

    Ask: TypeAlias = "Options | Quick"

#: The status of a monitoring plugin that cannot tell.
UNKNOWN = 3
#: C rejects a longer name, because its buffer has a fixed size. In bytes.
_LONGEST_STOP_NAME = 1000
#: The priority of an error in the journal. Source: sd-daemon(3).
_ERROR = 3
#: Time between two attempts to write to a full stdout, in seconds.
_PAUSE = 0.01


class Quick:
    """A call whose line was read without `options`. It has those fields of Options that calls read."""

    host = stop_name = ""
    json = nagios = False
    accept: tuple[str, ...] = ()

    def __init__(self, command: str, port: int) -> None:
        self.command = command
        self.port = port


def call(ask: Ask) -> int:
    """Make the call and return the exit status."""
    # Without this, `epmd -names | head -1` would not end as it does with C's epmd: silently, by SIGPIPE.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    try:
        return _CALLS[ask.command](ask)
    except exchange.NoEpmdError as error:
        say(2, str(error))
    except exchange.EpmdError as error:
        # C prints errors to stdout. It has no -host, so errors about another host go to stderr.
        say(2 if ask.host else 1, str(error))
    return 1


def _target(ask: Ask) -> exchange.Target:
    # C waits forever, so health checks of an epmd that hangs would pile up.
    target = exchange.Target(ask.host, ask.port, exchange.TIMEOUT)
    if ask.host:
        target.find()
    return target


def _started(ask: Ask) -> int:
    try:
        return 0 if exchange.is_an_epmd(_target(ask)) else 1
    except exchange.NoEpmdError:  # the host is not found
        return 1


def _list(ask: Ask) -> int:
    tag = wire.NAMES_REQ if ask.command == "names" else wire.DUMP_REQ
    with exchange.Listing(_target(ask), tag) as listing:
        if ask.json:
            return _list_json(listing.port, exchange.joined(listing.pieces()), tag)
        # All of it before any is written: the time limit must not cut off a slow reader of stdout.
        text = exchange.joined(_until_the_end_or_a_reset(listing.pieces()))
    write(1, f"epmd: up and running on port {listing.port} with data:\n".encode())
    write(1, _harmless(text) if ask.host or posix.isatty(1) else text)
    return 0


def _harmless(text: bytes) -> bytes:
    """Return a listing with escaped control characters, so that a name cannot control the terminal."""
    shown = text.decode("utf-8", "backslashreplace")
    if "\0" in shown:
        lines = [line.removesuffix("\n") for line in shown.split("\0")]  # DUMP has a NUL after each line
    else:
        lines = _lines_of_names(shown)
    return "\n".join(map(printable, lines)).encode()


def _lines_of_names(text: str) -> list[str]:
    """Return the lines of NAMES. A line end belongs to a name unless another line follows it."""
    first, *others = text.split("\n")
    lines = [first]
    for line in others:
        if not line or line.startswith("name "):
            lines.append(line)
        else:
            lines[-1] += f"\n{line}"
    return lines


def _until_the_end_or_a_reset(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a listing until the connection is closed or, as in C, reset."""
    try:
        yield from pieces
    except exchange.BrokenError:
        pass


def _list_json(port: int, text: bytes, tag: int) -> int:
    from ..client import answers

    if tag == wire.NAMES_REQ:
        found = {"nodes": [node._asdict() for node in answers.parse_names(text)]}
    else:
        dump = answers.parse_dump(text)._asdict()
        found = {kind: [node._asdict() for node in nodes] for kind, nodes in dump.items()}
    _write_json({"port": port} | found)
    return 0


def _write_json(found: dict[str, Any]) -> None:
    import json

    line = json.dumps(found, ensure_ascii=False)
    if not line.isprintable():
        # A byte that is not UTF-8, or a character that controls a terminal, becomes a JSON escape.
        line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
    write(1, f"{line}\n".encode())


def _kill(ask: Ask) -> int:
    if exchange.kill_answer(_target(ask)) != wire.KILL_OK:
        write(1, b"Killing not allowed - living nodes in database.\n")
        return 1
    write(1, b"Killed\n")
    return 0


def _stop(ask: Ask) -> int:
    import os

    name = os.fsencode(ask.stop_name)
    if len(name) > _LONGEST_STOP_NAME:
        write(1, b"epmd: Name too long!")
        return 1
    write(1, exchange.stop_answer(_target(ask), name) + b"\n")
    return 0


def _check(ask: Ask) -> int:
    from .check import findings, look, report

    if unknown := report.unknown(ask.accept):
        text = f"-accept: {unknown[0]} is not a code of -check"
        say(2, text)
        return tell_nagios(text) if ask.nagios else 1
    start = time.monotonic()
    try:
        sight = look.look(ask.host, ask.port, report.show_progress)
    except Exception as error:
        if not ask.nagios:
            raise
        return tell_nagios(repr(error))
    report.show_progress()
    found = findings.findings(sight, ask.accept)
    if ask.nagios:
        status, line = report.nagios(sight, found, time.monotonic() - start)
        write(1, line.encode())
        return status
    if ask.json:
        _write_json(report.as_object(sight, found))
    else:
        text = report.as_text(found, report.width_of(1), is_coloured=report.has_colours(1))
        write(1, text.encode())
    return findings.status(found)


def tell_nagios(problem: str) -> int:
    """Print why nothing is known, and return the status. Monitoring systems show stdout only."""
    write(1, f"EPMD UNKNOWN - {printable(problem)}\n".encode())
    return UNKNOWN


def _help(_ask: Ask) -> int:
    from .options import USAGE

    write(1, USAGE.encode())
    return 0


def _version(_ask: Ask) -> int:
    from .. import __version__

    write(1, f"epmd {__version__}\n".encode())
    return 0


def _licences(_ask: Ask) -> int:
    from .executable import licences

    try:
        text = licences.text()
    except (ImportError, OSError) as error:
        say(2, f"cannot read the licences: {error}")
        return 1
    write(1, text.encode())
    return 0


_CALLS: dict[str, Callable[[Ask], int]] = {
    "names": _list,
    "dump": _list,
    "started": _started,
    "kill": _kill,
    "stop": _stop,
    "check": _check,
    "help": _help,
    "version": _version,
    "licences": _licences,
}


def say(descriptor: int, text: str, *, priority: int = _ERROR) -> None:
    """Write one line that begins with `epmd: `, with control characters of the text escaped.

    The priority is for stderr, if that is the journal of systemd.
    """
    beginning = ""
    if descriptor == 2 and (stream := environment().get("JOURNAL_STREAM")):
        from ..server.log import is_journal

        beginning = f"<{priority}>" if is_journal(2, stream) else ""
    write(descriptor, f"{beginning}epmd: {printable(text)}\n".encode())


def write(descriptor: int, data: bytes | bytearray) -> None:
    """Write all of the data, or as much as the descriptor accepts."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(descriptor, view) :]
        except BlockingIOError:
            # Another program has made the pipe or terminal non-blocking, and it is full. The module select,
            # which could wait for it, may no longer be importable in the one-file form.
            time.sleep(_PAUSE)
        except OSError:
            return  # as in C, a full disk changes neither other output nor the exit status
