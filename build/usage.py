"""The usage text, parsed: the manual page, docs/options.md and the completions are generated from it."""

from __future__ import annotations

import re
from typing import NamedTuple

from gevent_epmd.program.line import INTERACTIVE
from gevent_epmd.program.options import USAGE

ENDS_THE_LINE = INTERACTIVE
#: The environment variables that are read.  The usage text names some of them, but explains none.
VARIABLES = {
    "ERL_EPMD_PORT": "The default of -port.",
    "ERL_EPMD_ADDRESS": "The default of -address.",
    "ERL_EPMD_LOOPBACK": "1, yes, true, on, or set to nothing: the same as -loopback. 0, no, false, off: no "
    "effect. Any other value is an error, and so is ERL_EPMD_ADDRESS beside it. -address on the command line "
    "takes precedence.",
    "ERL_EPMD_TAKEOVER": "1, yes, true, on: the same as -takeover, but an epmd that runs this program file "
    "already stays. 0, no, false, off, or set to nothing: no effect.",
    "ERL_EPMD_ALLOW, ERL_EPMD_ALLOW_REGISTER, ERL_EPMD_ALLOW_FILE, ERL_EPMD_NOT_LOCAL, ERL_EPMD_USER, "
    "ERL_EPMD_IDLE_EXIT, ERL_EPMD_PID_EXIT, ERL_EPMD_PORT_FILE, ERL_EPMD_PID_FILE, ERL_EPMD_METRICS_FILE, "
    "ERL_EPMD_PACKET_TIMEOUT": "The defaults of the options of these names, for an epmd that is to serve. A "
    "variable that is set to nothing counts as not set. If only the variable names a file, a port that is "
    "already in use is not an error.",
    "ERL_EPMD_RELAXED_COMMAND_CHECK": "If set, even to nothing, the same as -relaxed_command_check.",
    "ERL_EPMD_FDSTORE": "1, yes, true, on: keep the nodes' connections in the descriptor store of the unit, "
    "also if FDSTORE is not set, as by systemd before version 254. 0, no, false, off: do not. Used only with "
    "-systemd.",
    "LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, NOTIFY_SOCKET, FDSTORE": "Set by systemd; used only with "
    "-systemd. If systemd passes the socket of the port to serve, a start without -systemd is an error.",
    "TMPDIR": "Where the one-file executable unpacks itself; must not be mounted noexec. "
    "The folder form unpacks nothing. Default: /tmp.",
}
_FIRST_LINE = re.compile(r"    (-.*?)(?: ([A-Z][\w:[\]]*))?  +(\S.*)")

_NAME = re.compile(r"(?<![\w-])(--?[a-z]\w*(?: \d+)?|(?:ERL_EPMD|LISTEN|NOTIFY)_\w+)(?!\w)")


class Option(NamedTuple):
    """An option. `spellings` include their dashes. `value` is the name of its value, or empty."""

    spellings: tuple[str, ...]
    value: str
    text: str

    @property
    def in_short(self) -> str:
        return self.text.split(". ")[0].rstrip(".")


def synopsis() -> list[str]:
    return [line[7:].removeprefix("epmd ") for line in USAGE.split("\n\n")[0].splitlines()]


def introduction() -> str:
    return USAGE.split("\n\n")[1].replace("\n", " ")


def sections() -> list[tuple[str, list[Option]]]:
    """Return the options under their headings."""
    return [_section(paragraph.splitlines()) for paragraph in USAGE.strip().split("\n\n")[2:]]


def mark(text: str, code: str) -> str:
    """The text with each option and variable in it wrapped by `code`, a replacement for re.sub."""
    return _NAME.sub(code, text)


def options() -> list[Option]:
    return [option for _, section in sections() for option in section]


def _section(lines: list[str]) -> tuple[str, list[Option]]:
    found: list[Option] = []
    for line in lines[1:]:
        if match := _FIRST_LINE.fullmatch(line):
            found.append(Option(tuple(match[1].split(", ")), match[2] or "", match[3]))
        else:
            found[-1] = found[-1]._replace(text=f"{found[-1].text} {line.strip()}")
    return lines[0].rstrip(":"), found
