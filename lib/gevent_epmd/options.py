"""The command line and the environment -> one Options (C: main() of epmd.c).

C's options have one dash, are read from left to right with later ones winning, and an interactive
one ends the line.  docopt knows none of that, so `_two_dashes` makes of such a line one that docopt
reads.  USAGE is what people see, and what both are made from.

Source: ERTS Reference Manual, epmd(1); the options that it leaves out are in main() of epmd.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from docopt import DocoptExit, docopt

DEFAULT_PORT = 4369
DEFAULT_PACKET_TIMEOUT = 60
_MOST_PORT = 65535
_MOST_SECONDS = 2**31 - 1

USAGE = """\
usage: epmd [options]...
       epmd [options]... (-names | -dump | -started | -kill | -stop Name)

The Erlang port mapper daemon: it tells Erlang nodes at which port the other nodes of this host listen.
Without an interactive option it serves, in the foreground.

Serving:
    -address List            Listen on these IP addresses, separated by commas, and on loopback.
                             Default: ERL_EPMD_ADDRESS, or else every address of this host.
    -port No                 The TCP port to serve or to ask. Default: ERL_EPMD_PORT, or else 4369.
    -daemon                  Serve detached from the terminal; return once requests are answered.
                             Errors go to syslog.
    -relaxed_command_check   Let -kill work while nodes are registered, and let -stop work at all.
                             ERL_EPMD_RELAXED_COMMAND_CHECK in the environment does the same.
    -systemd                 Serve the sockets that systemd hands over, and tell it when ready.

Debugging:
    -d, -debug               Log each request on stderr and remember only 5 names of late nodes.
                             Twice: connections and packets too. Three times: the tables too.
    -packet_timeout Seconds  Close a connection that has not sent its request by then. Default: 60.
    -delay_accept Seconds    Play a busy server: wait before a new connection is looked at.
    -delay_write Seconds     Play a busy server: wait before each reply.

Interactive, the last on the line:
    -names                   List the registered nodes and their ports.
    -dump                    The same, with the names of late nodes, for debugging.
    -started                 Say nothing; status 0 if an epmd answers, 1 if none does.
    -kill                    End the running epmd, if no node is registered or its check is relaxed.
    -stop Name               Unregister this node by force, if the check is relaxed.
"""

_INTERACTIVE = ("names", "dump", "started", "kill", "stop")
_OPTION_LINE = re.compile(r"^    -(\w+)(?:, -(\w+))?(?: ([A-Z]\w*))?(?=  )", re.MULTILINE)


class UsageError(Exception):
    """The line is not one that USAGE describes; the text says what is wrong with it."""


class ValueProblem(Exception):
    """An option or a variable has a value that it cannot have; the text says which."""


class Options(NamedTuple):
    """What was asked for.  Times are seconds; `command` is the interactive option without its
    dash, or None for serving; `stop_name` is the name that goes with `stop`."""

    port: int = DEFAULT_PORT
    addresses: tuple[str, ...] = ()
    debug: int = 0
    daemon: bool = False
    relaxed: bool = False
    systemd: bool = False
    packet_timeout: int = DEFAULT_PACKET_TIMEOUT
    delay_accept: int = 0
    delay_write: int = 0
    command: str | None = None
    stop_name: str = ""


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of a command line (without the program's name) and an environment.

    Raises UsageError, and ValueProblem."""
    found = _docopt(_two_dashes(arguments))
    # -stop may come with an empty name, which is no False.
    command = next((c for c in _INTERACTIVE if found["--" + c] not in (None, False)), None)
    return Options(
        port=_numbers(found, "port", _MOST_PORT) or _default_port(environ),
        addresses=_addresses(found["--address"], environ),
        debug=found["--debug"],
        daemon=bool(found["--daemon"]),
        relaxed=bool(found["--relaxed_command_check"]) or "ERL_EPMD_RELAXED_COMMAND_CHECK" in environ,
        systemd=bool(found["--systemd"]),
        packet_timeout=_numbers(found, "packet_timeout") or DEFAULT_PACKET_TIMEOUT,
        delay_accept=_numbers(found, "delay_accept"),
        delay_write=_numbers(found, "delay_write"),
        command=command,
        stop_name=found["--stop"] or "",
    )


def _known_options() -> dict[str, bool]:
    """Each option of USAGE without its dash: does a value follow it?"""
    known = {}
    for name, alias, value in _OPTION_LINE.findall(USAGE):
        known.update({spelling: bool(value) for spelling in (name, alias) if spelling})
    return known


def _two_dashes(arguments: Sequence[str]) -> list[str]:
    """`-port 5000 -d` -> `--port=5000 -d`.  Raises UsageError for what C would not read either."""
    known = _known_options()
    line: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name = word[1:]
        if not word.startswith("-") or name not in known:
            raise UsageError(f'unknown option "{word}"')
        if known[name] and not rest:
            raise UsageError(f"{word} needs a value")
        line.append(_dashes(name) + (f"={rest.pop(0)}" if known[name] else ""))
        if name in _INTERACTIVE and rest:
            raise UsageError(f"{word} must be the last option")
    return line


def _dashes(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _docopt(line: list[str]) -> dict[str, Any]:
    # Without the descriptions: docopt takes twice as long to read them (2 ms).
    pattern = USAGE.split("\n\n", 1)[0]
    options = "\n".join(match.group() for match in _OPTION_LINE.finditer(USAGE))
    doubled = re.sub(r"(?<![\w-])-(?=\w\w)", "--", f"{pattern}\n\noptions:\n{options}\n")
    try:
        return docopt(doubled, line, default_help=False)
    except DocoptExit as error:  # pragma: no cover - _two_dashes lets through what docopt reads
        raise UsageError("this line is not understood") from error


def _default_port(environ: Mapping[str, str]) -> int:
    return _number("ERL_EPMD_PORT", environ.get("ERL_EPMD_PORT", str(DEFAULT_PORT)), _MOST_PORT)


def _addresses(values: list[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    text = values[-1] if values else environ.get("ERL_EPMD_ADDRESS", "")
    return tuple(re.split(r"[ ,]+", text.strip(" ,"))) if text.strip(" ,") else ()


def _numbers(found: dict[str, Any], name: str, most: int = _MOST_SECONDS) -> int:
    """The last value of an option, each of which must be a number; 0 if there is none."""
    return [0, *(_number("-" + name, value, most) for value in found["--" + name])][-1]


def _number(where: str, value: str, most: int) -> int:
    # int() alone would take "1_0", " 10 " and the digits of every script.
    digits = value.lstrip("0")
    if digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= most:
        return int(digits)
    raise ValueProblem(f'{where}: "{value}" is not a number from 1 to {most}')
