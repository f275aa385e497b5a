"""Addresses, limits and number syntax that server, clients and command line share.

Imports only `wire`, because `epmd -names` imports this module at every start of a node.

Source: ERTS Reference Manual, epmd(1), "Environment variables". C's counterpart: main() of epmd.c.
"""

from __future__ import annotations

from .wire import DEFAULT_PORT, MOST_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The most sockets that one epmd listens on.
MAX_LISTEN_SOCKETS = 16

#: An epmd always listens on these, in addition to any addresses that are configured.
LOOPBACK = ("127.0.0.1", "::1")
#: An epmd that is limited to loopback listens on these. Debian and Ubuntu give 127.0.1.1 to the host's own
#: name, and nodes look for the epmd at that address.
LOOPBACK_ALONE = ("127.0.0.1", "127.0.1.1", "::1")

#: The longest time that an option or a variable may name, in seconds.
MOST_SECONDS = 2**31 - 1

#: The digits of a 32-bit number. A longer one cannot be valid, and int() raises an error of its own for
#: thousands of digits.
MOST_DIGITS = 10

#: The ports that event loops serve, each with the identifier of the loop's thread: a call in this thread that
#: blocks it would never be answered.
served_by_threads: set[tuple[int, int]] = set()


class EpmdError(Exception):
    """Base of all errors of this package. The message gives the reason."""


class ValueProblem(ValueError):
    """An option or a variable has an invalid value. The message names it."""


def read_number(where: str, value: str, most: int, least: int = 1) -> int:
    """Read a number as C does: ASCII digits, leading zeros allowed.

    `where` is the option or variable, for the message. Raises ValueProblem.
    """
    # int() alone would accept "1_0", " 10 " and digits of any script.
    digits = value.lstrip("0") or value[-1:]
    if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS and least <= int(digits) <= most:
        return int(digits)
    raise ValueProblem(f'{where}: "{value}" is not a number from {least} to {most}')


def default_port(environ: Mapping[str, str], least: int = 1) -> int:
    """Return the port to use if no option sets one: ERL_EPMD_PORT, or else 4369.

    Raises ValueProblem if the variable is invalid.
    """
    return read_number("ERL_EPMD_PORT", environ.get("ERL_EPMD_PORT", str(DEFAULT_PORT)), MOST_PORT, least)


def printable(text: str) -> str:
    """Escape control characters, so that a name can neither forge a log line nor control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
