"""The lines that every start of a node, every health check and every script uses, without docopt.

`[-port N] -names`, `[-port N] -started`, and `[-port N] -daemon` where an epmd answers already.  Every other
line, and every one of these that is wrong, goes on to the full way.  What is decided and said is what the
full way calls: `conventions.read_number`, `calls.call`, `exchange.must_be_an_epmd`;
tests/program/test_quick.py compares both ways.

Imports os, `_socket` and time beside our own: each module more is paid for at every start of every Erlang
node.
"""

from __future__ import annotations

import sys

from ..client import exchange
from ..conventions import MOST_SECONDS, ValueProblem, default_port, read_number
from ..wire import MOST_PORT
from . import calls, is_one_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The options that end a quick line.
_LAST = {"-names": "names", "-started": "started", "-daemon": "daemon"}

#: Set, one of these makes `-daemon` listen elsewhere, or have more to do than to find the port in use.
_OF_SERVING = "ERL_EPMD_"
_HARMLESS = frozenset(("ERL_EPMD_PORT", "ERL_EPMD_RELAXED_COMMAND_CHECK", "ERL_EPMD_USER"))
#: Harmless where it is a number.
_IDLE_EXIT = "ERL_EPMD_IDLE_EXIT"

#: How long a running epmd may take to answer until the full way asks, in seconds.
_PATIENCE = 1.0


def answer(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """The exit status of a quick line, after what it says was said; None for every other line."""
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
    """In the one-file form, remove what was unpacked: all that the call needs is loaded.  A call that waits
    may be killed together with its launcher, and then nobody else would remove it."""
    if is_one_file():
        from . import launcher

        launcher.empty(sys._MEIPASS)  # type: ignore[attr-defined]


def _port(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """The port to ask; None where it is invalid, which the full way explains."""
    try:
        if not arguments:
            return default_port(environ)
        return read_number("-port", arguments[1], MOST_PORT) if arguments[0] == "-port" else None
    except ValueProblem:
        return None


def _is_number(seconds: str) -> bool:
    try:
        read_number(_IDLE_EXIT, seconds, MOST_SECONDS)
    except ValueProblem:
        return False
    return True


def _is_served(port: int, environ: Mapping[str, str]) -> bool:
    """Whether a `-daemon` without further options would find its port in use by an epmd: it binds 0.0.0.0
    first, and asks who has the port at 127.0.0.1.  A variable that would change that, or whose value the full
    way would check first, leaves the line to that."""
    for name in environ.keys() - _HARMLESS:
        if name.startswith(_OF_SERVING) and not (name == _IDLE_EXIT and _is_number(environ[name])):
            return False
    try:
        exchange.must_be_an_epmd(exchange.Target("127.0.0.1", port, _PATIENCE))
    except exchange.EpmdError:
        return False
    return True
