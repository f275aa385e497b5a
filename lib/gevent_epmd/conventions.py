"""What server, clients and command line agree on beside the wire: addresses, limits, how numbers are spelled.

Imports nothing but numbers: `epmd -names` at the start of a node comes through here.

Source: ERTS Reference Manual, epmd(1), "Environment variables"; main() of epmd.c.
"""

from __future__ import annotations

from .wire import DEFAULT_PORT, MOST_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The sockets that one epmd listens on, at most.
MAX_LISTEN_SOCKETS = 16

#: Listened on whatever addresses are named.
LOOPBACK = ("127.0.0.1", "::1")
#: Listened on where loopback is all that is wanted.  Debian and Ubuntu give 127.0.1.1 to the host's own name,
#: and its nodes look for the epmd there.
LOOPBACK_ALONE = ("127.0.0.1", "127.0.1.1", "::1")

#: The longest time that an option or a variable may name.
MOST_SECONDS = 2**31 - 1

#: Numbers longer than this cannot be valid, and Python refuses to read very long ones.
_MOST_DIGITS = 10


class ValueProblem(ValueError):
    """An option or a variable has an invalid value; the text tells which."""


def read_number(where: str, value: str, most: int, least: int = 1) -> int:
    """A number as C reads it: ASCII digits, leading zeros allowed.  `where` is the option or variable.
    Raises ValueProblem."""
    # int() alone would accept "1_0", " 10 " and the digits of every script.
    digits = value.lstrip("0") or value[-1:]
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS and least <= int(digits) <= most:
        return int(digits)
    raise ValueProblem(f'{where}: "{value}" is not a number from {least} to {most}')


def default_port(environ: Mapping[str, str], least: int = 1) -> int:
    """The port where none is named: ERL_EPMD_PORT, or 4369.  Raises ValueProblem for an invalid variable."""
    return read_number("ERL_EPMD_PORT", environ.get("ERL_EPMD_PORT", str(DEFAULT_PORT)), MOST_PORT, least)


def printable(text: str) -> str:
    """The text with its control characters escaped, so that no name can forge a line or control a
    terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
