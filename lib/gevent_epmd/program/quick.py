"""Runs the most frequent command lines without docopt: those of node starts, health checks and scripts.

These are `[-port N] -names`, `[-port N] -started`, and `[-port N] -daemon` if an epmd already answers. Every
other command line, and each of these with an invalid value, is left to `cli`.

Invariants: the results and messages are the same as on the full path, because both use
`conventions.read_number`, `calls.call` and `exchange.is_an_epmd`; tests/program/command/test_quick.py
compares them. Besides our own modules this imports only os, `_socket` and time: every start of every Erlang
node pays for each further module.

C's counterpart: the same options in main() of epmd.c.
"""

from __future__ import annotations

import os
import sys

from ..client import exchange
from ..conventions import MOST_SECONDS, ValueProblem, default_port, read_number
from ..wire import MOST_PORT
from . import calls, is_one_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The last option of a quick command line, and the command that it stands for.
_LAST = {"-names": "names", "-started": "started", "-daemon": "daemon"}

#: A variable with this prefix can make `-daemon` listen elsewhere, or do more than find the port in use.
_OF_SERVING = "ERL_EPMD_"
_HARMLESS = frozenset(("ERL_EPMD_PORT", "ERL_EPMD_RELAXED_COMMAND_CHECK", "ERL_EPMD_USER"))
#: Harmless if their values are numbers.
_NUMBERS = frozenset(("ERL_EPMD_IDLE_EXIT", "ERL_EPMD_PACKET_TIMEOUT"))
#: Set by systemd. If it passed the port's socket, asking this port would only ask this process.
_OF_SYSTEMD = "LISTEN_PID"

#: Time limit for the running epmd's answer, in seconds. After that the full path asks, and waits for longer.
_PATIENCE = 0.5


def answer(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Run a quick command line and return its exit status. Returns None for every other command line."""
    if len(arguments) not in (1, 3) or arguments[-1] not in _LAST:
        return None
    port = _port(arguments[:-1], environ)
    if port is None:
        return None
    command = _LAST[arguments[-1]]
    if command == "daemon":
        return 0 if _is_served(port, environ) else None
    _empty_folder()
    return calls.call(calls.Ask(command, port))


def _empty_folder() -> None:
    """In the one-file form, remove what was unpacked, because all that the call needs is loaded.

    If a waiting call is killed together with its launcher, nothing else removes these files.
    """
    if is_one_file():
        from .executable import launcher

        launcher.empty(sys._MEIPASS)  # type: ignore[attr-defined]


def _port(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Return the port to ask, or None if it is invalid. The full path reports the error."""
    try:
        if not arguments:
            return default_port(environ)
        return read_number("-port", arguments[1], MOST_PORT) if arguments[0] == "-port" else None
    except ValueProblem:
        return None


def _is_number(name: str, seconds: str) -> bool:
    try:
        read_number(name, seconds, MOST_SECONDS)
    except ValueProblem:
        return False
    return True


def _is_served(port: int, environ: Mapping[str, str]) -> bool:
    """Return whether `-daemon` without further options would find that an epmd already serves the port.

    Such a start binds 0.0.0.0 first, and then asks at 127.0.0.1 who holds the port. If a variable is set that
    would change this, or whose value the full path would check first, this returns False.
    """
    if environ.get(_OF_SYSTEMD) == str(os.getpid()):
        return False
    for name in environ.keys() - _HARMLESS:
        if name.startswith(_OF_SERVING) and not (name in _NUMBERS and _is_number(name, environ[name])):
            return False
    return exchange.is_an_epmd(exchange.Target("127.0.0.1", port, _PATIENCE))
