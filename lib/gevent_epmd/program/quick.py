"""Runs the most frequent command lines without docopt: those of node starts, health checks and scripts.

These are `-names`, `-started`, and `-daemon` if an epmd already answers, with or without `-port N`. Every
other command line, and each of these with an invalid value, is left to `cli`.

Invariants: the results and messages are the same as on the full path, because both use `line`, `calls.call`
and `exchange.is_an_epmd`; tests/program/command/test_quick.py compares them. Besides our own modules this
imports only posix, `_socket` and time: every start of every Erlang node pays for each further module.

C's counterpart: the same options in main() of epmd.c.
"""

from __future__ import annotations

import posix  # not os, see `environment`

from ..client import exchange
from ..conventions import MOST_SECONDS, ValueProblem, read_number
from . import calls, is_one_file, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Any other variable of an epmd can make `-daemon` listen elsewhere, or do more than find the port in use.
_HARMLESS = frozenset(("ERL_EPMD_PORT", "ERL_EPMD_RELAXED_COMMAND_CHECK", "ERL_EPMD_USER"))
#: Harmless if their values are numbers.
_NUMBERS = frozenset(("ERL_EPMD_IDLE_EXIT", "ERL_EPMD_PACKET_TIMEOUT"))
#: Set by systemd. If it passed the port's socket, asking this port would only ask this process.
_OF_SYSTEMD = "LISTEN_PID"

#: Time limit for the running epmd's answer, in seconds. After that the full path asks, and waits for longer.
_PATIENCE = 0.5


def answer(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Run a quick command line and return its exit status. Returns None for every other command line."""
    try:
        words = line.read(arguments, line.QUICK)
        port = line.port([value for _, value in words if value is not None], environ)
    except (line.UsageError, line.UsageWanted, ValueProblem):
        return None
    given = dict(words)
    if "-names" in given or "-started" in given:
        if is_one_file():
            from .executable import launcher

            # Nothing else does if a waiting call is killed.
            launcher.empty()
        return calls.call(calls.Quick("names" if "-names" in given else "started", port))
    return 0 if "-daemon" in given and _is_served(port, environ) else None


def _is_served(port: int, environ: Mapping[str, str]) -> bool:
    """Return whether `-daemon` without further options would find that an epmd already serves the port.

    Such a start binds 0.0.0.0 first, and then asks at 127.0.0.1 who holds the port. If a variable is set that
    would change this, or whose value the full path would check first, this returns False.
    """
    if environ.get(_OF_SYSTEMD) == str(posix.getpid()):
        return False
    try:
        for name in environ.keys() - _HARMLESS:
            if name in _NUMBERS:
                read_number(name, environ[name], MOST_SECONDS)
            elif name.startswith(line.OWN_VARIABLES):
                return False
    except ValueProblem:
        return False
    return exchange.is_an_epmd(exchange.Target("127.0.0.1", port, _PATIENCE))
