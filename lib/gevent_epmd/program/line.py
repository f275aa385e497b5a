"""Reads a command line into options with their values, from left to right, as C's epmd does.

Imports nothing but `conventions`, because `epmd -names` imports this module at every start of a node.

C's counterpart: the loop over the arguments in main() of epmd.c.
"""

from __future__ import annotations

from ..conventions import default_port, read_number
from ..wire import MOST_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    #: An option, and its value, or None.
    Word = tuple[str, str | None]

#: The options of the command lines that every start of a node runs, and whether a value follows. `options`
#: reads all of them from USAGE, and a test compares.
QUICK = {"-port": True, "-names": False, "-started": False, "-daemon": False}

#: The variables of an epmd begin with this.
OWN_VARIABLES = "ERL_EPMD_"

#: The options that ask no epmd. An invalid variable must not keep them from working.
ABOUT_ITSELF = ("--help", "--version", "--licences")
#: The options that end a line.
INTERACTIVE = ("-names", "-dump", "-started", "-kill", "-stop", "-check", *ABOUT_ITSELF)
#: The options that may follow -check, which C's epmd does not have.
_AFTER_CHECK = frozenset(("-json", "-nagios", "-accept", "-host", "-port"))
#: C's option for the usage text. It is not in USAGE, because it is an error: the text goes to stderr.
_USAGE_OPTION = "-help"


class UsageError(Exception):
    """The command line does not match USAGE. The text gives the reason."""


class UsageWanted(Exception):
    """The command line asks for the usage text as C's epmd understands it: with -help, as an error."""


def read(arguments: Sequence[str], known: Mapping[str, bool]) -> list[Word]:
    """Return the options of a line. `known` are all options; the value is True if an argument follows one.

    Raises UsageError for a line that C's epmd would not accept either, and UsageWanted.
    """
    found: list[Word] = []
    last = ""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == _USAGE_OPTION:
            raise UsageWanted
        if word not in known:
            raise UsageError(f'unknown option "{word}"')
        if known[word] and not rest:
            raise UsageError(f"{word} needs a value")
        found.append((word, rest.pop(0) if known[word] else None))
        if word in INTERACTIVE:
            last = word
        if last and rest and not (last == "-check" and rest[0] in _AFTER_CHECK):
            but = ", but for those about it" if last == "-check" else ""
            raise UsageError(f"{last} must be the last option{but}")
    return found


def port(values: Sequence[str], environ: Mapping[str, str], least: int = 1) -> int:
    """Return the last value of -port, or else the default. Raises ValueProblem if one is invalid."""
    numbers = [read_number("-port", value, MOST_PORT, least) for value in values]
    return numbers[-1] if numbers else default_port(environ, least)
