"""The command line and the environment -> one Options (C: main() of epmd.c).

C's options have one dash, are read from left to right with later ones winning, and an interactive
one ends the line.  docopt knows none of that, so `_two_dashes` makes of such a line one that docopt
reads.  USAGE is what people see, and what both are made from.

Source: ERTS Reference Manual, epmd(1); the options that it leaves out are in main() of epmd.c.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from docopt import DocoptExit, docopt

from ..conventions import ValueProblem, default_port, read_number
from ..server.settings import DEFAULT_PACKET_TIMEOUT, Settings
from ..wire import MOST_PORT

if TYPE_CHECKING:
    from ..server.networks import Network

_MOST_SECONDS = _MOST_PID = 2**31 - 1
#: The -port_file that is no file.
STDOUT = "-"

USAGE = """\
usage: epmd [options]...
       epmd [options]... (-names | -dump | -started | -kill | -stop Name)
       epmd (--help | --version | --licences)

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

Serving, not in C's epmd:
    -loopback                Listen on loopback only. ERL_EPMD_LOOPBACK in the environment does the same.
    -allow List              Answer other hosts only if they are in these networks, separated by commas.
    -idle_exit Seconds       End when no node has been registered for so long.
    -pid_exit Pids           End as soon as one of these processes has ended; commas between them.
    -port_file Path          Write the port to this file once requests are answered, and remove the file
                             at the end; - is stdout. With it, -port 0 takes any free port.

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

Interactive, not in C's epmd:
    -host Host               With -names or -started: ask the epmd of another host.
    -json                    With -names or -dump: print JSON.
    --help                   Print this text.
    --version                Print the version.
    --licences               Print the licences of all that this epmd is made of.
"""

_INTERACTIVE = ("-names", "-dump", "-started", "-kill", "-stop", "--help", "--version", "--licences")
#: What needs no epmd, nor a good environment.
_ABOUT_ITSELF = ("--help", "--version", "--licences")
_OPTION_LINE = re.compile(r"^    (--?\w+)(?:, (-\w+))?(?: ([A-Z]\w*))?(?=  )", re.MULTILINE)


class UsageError(Exception):
    """The line is not one that USAGE describes; the text says what is wrong with it."""


class Options(NamedTuple):
    """What was asked for: the settings of the mapper to serve or to ask, and what only the program knows.

    `command` is the interactive option without its dashes, or None for serving; `stop_name` is the name that
    goes with `stop`.  `port_file` is an absolute path without symbolic links, or STDOUT, or empty."""

    settings: Settings = Settings()
    daemon: bool = False
    systemd: bool = False
    command: str | None = None
    stop_name: str = ""
    pid_exit: tuple[int, ...] = ()
    port_file: str = ""
    host: str = ""
    json: bool = False


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of a command line (without the program's name) and an environment.

    Raises UsageError, and ValueProblem."""
    found = _docopt(_two_dashes(arguments))
    command = next((c for c in _INTERACTIVE if found[_dashes(c)]), None)
    options = Options(
        settings=_settings(found, {} if command in _ABOUT_ITSELF else environ),
        daemon=bool(found["--daemon"]),
        systemd=bool(found["--systemd"]),
        command=command.lstrip("-") if command else None,
        stop_name="".join(found["--stop"]),
        pid_exit=_processes(found["--pid_exit"]),
        port_file=_port_file(found["--port_file"]),
        host=_host(found["--host"]),
        json=bool(found["--json"]),
    )
    _must_go_together(options, loopback=bool(found["--loopback"]))
    return options


def _settings(found: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    return Settings(
        port=_port(found, environ),
        addresses=_addresses(found, environ),
        relaxed=bool(found["--relaxed_command_check"]) or "ERL_EPMD_RELAXED_COMMAND_CHECK" in environ,
        allow=_networks(found["--allow"]),
        packet_timeout=_numbers(found, "packet_timeout") or DEFAULT_PACKET_TIMEOUT,
        idle_exit=_numbers(found, "idle_exit"),
        delay_accept=_numbers(found, "delay_accept"),
        delay_write=_numbers(found, "delay_write"),
        debug=found["--debug"],
    )


def _must_go_together(options: Options, *, loopback: bool) -> None:
    """Raises ValueProblem for an option of our own where it would do nothing."""
    if options.host and options.command not in ("names", "started"):
        raise ValueProblem("-host goes with -names and -started")
    if options.json and options.command not in ("names", "dump"):
        raise ValueProblem("-json goes with -names and -dump")
    if loopback and options.systemd:
        raise ValueProblem("-loopback: with -systemd it is systemd that says where to listen")
    if options.settings.port == 0 and options.command:
        raise ValueProblem("-port 0 is for serving")
    if options.port_file and options.command:
        raise ValueProblem("-port_file is for serving")
    if options.port_file == STDOUT and options.daemon:
        raise ValueProblem("-port_file -: a daemon has no stdout")


def _known_options() -> dict[str, bool]:
    """Each option of USAGE: does a value follow it?"""
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
        if word not in known:
            raise UsageError(f'unknown option "{word}"')
        if known[word] and not rest:
            raise UsageError(f"{word} needs a value")
        line.append(_dashes(word) + (f"={rest.pop(0)}" if known[word] else ""))
        if word in _INTERACTIVE and rest:
            raise UsageError(f"{word} must be the last option")
    return line


def _dashes(option: str) -> str:
    name = option.lstrip("-")
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _docopt(line: list[str]) -> dict[str, Any]:
    # Without the descriptions, which take docopt 2 ms to read, and of the usage the first line alone: that
    # only one option is interactive is known already, and each of them would cost docopt 0.4 ms.
    pattern = USAGE.split("\n", 1)[0]
    options = "\n".join(match.group() for match in _OPTION_LINE.finditer(USAGE))
    doubled = re.sub(r"(?<![\w-])-(?=\w\w)", "--", f"{pattern}\n\noptions:\n{options}\n")
    try:
        return docopt(doubled, line, default_help=False)
    except DocoptExit as error:  # pragma: no cover - _two_dashes lets through what docopt reads
        raise UsageError("this line is not understood") from error


def _port(found: dict[str, Any], environ: Mapping[str, str]) -> int:
    # Nobody could know which port it is, but for the file.
    least = 0 if found["--port_file"] else 1
    values = [read_number("-port", value, MOST_PORT, least) for value in found["--port"]]
    return values[-1] if values else default_port(environ, least)


def _addresses(found: dict[str, Any], environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """What the line says counts more than the environment, and there loopback more than a list."""
    if found["--loopback"] and found["--address"]:
        raise ValueProblem("-loopback and -address exclude each other")
    if found["--loopback"] or ("ERL_EPMD_LOOPBACK" in environ and not found["--address"]):
        return None
    return _list((found["--address"] or [environ.get("ERL_EPMD_ADDRESS", "")])[-1])


def _list(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"[ ,]+", text.strip(" ,"))) if text.strip(" ,") else ()


def _networks(values: list[str]) -> tuple[Network, ...] | None:
    if not values:
        return None
    from ..server.networks import read_network

    try:
        return tuple(map(read_network, _list(values[-1])))
    except ValueError as error:
        raise ValueProblem(f"-allow: {error}") from None


def _host(values: list[str]) -> str:
    # An unset variable of a script would else ask the local epmd, and believe that it was another's answer.
    if "" in values:
        raise ValueProblem("-host: the host is empty")
    return values[-1] if values else ""


def _port_file(values: list[str]) -> str:
    if "" in values:
        raise ValueProblem("-port_file: the path is empty")
    if not values or values[-1] == STDOUT:
        return "".join(values[-1:])
    path = os.path.realpath(values[-1])
    # A daemon could say it in syslog alone.  What is no file, as a device, must not be replaced, or removed.
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueProblem(f"-port_file: {path} is no file (- is stdout)")
    if not os.path.isdir(os.path.dirname(path)):
        raise ValueProblem(f"-port_file: there is no folder for {path}")
    return path


def _processes(values: list[str]) -> tuple[int, ...]:
    if not values:
        return ()
    return tuple(read_number("-pid_exit", pid, _MOST_PID) for pid in _list(values[-1]) or ("",))


def _numbers(found: dict[str, Any], name: str) -> int:
    """The last value of an option, each of which must be a number; 0 if there is none."""
    return [0, *(read_number("-" + name, value, _MOST_SECONDS) for value in found["--" + name])][-1]
