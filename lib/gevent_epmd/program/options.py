"""The command line and the environment -> one Options (C: main() of epmd.c).

C's options have one dash, are read from left to right with later ones winning, and an interactive
one ends the line.  docopt knows none of that, so `_two_dashes` makes of such a line one that docopt
reads.  USAGE is what people see, and what both are made from.

Source: ERTS Reference Manual, epmd(1); the options that it leaves out are in main() of epmd.c.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..conventions import MOST_SECONDS, ValueProblem, default_port, read_number
from ..server.settings import DEFAULT_PACKET_TIMEOUT, Settings
from ..wire import MOST_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    from ..server.networks import Network
else:
    from ..records import NamedTuple


_MOST_PID = 2**31 - 1
#: The -port_file or -pid_file that is no file.
STDOUT = "-"
#: The options that name a file to write.
_FILES = ("port_file", "pid_file")

USAGE = """\
usage: epmd [options]...
       epmd [options]... (-names | -dump | -started | -kill | -stop Name | -check)
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

Serving, not in C's epmd (in the environment: ERL_EPMD_ and the name in capitals, as ERL_EPMD_ALLOW):
    -loopback                Listen on loopback only. ERL_EPMD_LOOPBACK in the environment does the same.
    -allow List              Answer other hosts only if they are in these networks, separated by commas.
    -allow_register List     Let nodes of hosts in these networks register too, and ask.
    -user Name[:Group]       Started as root: bind the port, give up all rights of root, serve as this user.
    -idle_exit Seconds       End when no node has been registered for so long.
    -pid_exit Pids           End as soon as one of these processes has ended; commas between them.
    -port_file Path          Write the port to this file once requests are answered, and remove the file
                             at the end; - is stdout. With it, -port 0 takes any free port.
    -pid_file Path           Write the number of the process that serves to this file, in the same way.

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
    -check                   Find out what is wrong with this host's epmd and nodes, and what to do about it.
                             Status 1 if something is wrong.
    -host Host               With -names, -started or -check: ask the epmd of another host.
    -json                    With -names, -dump or -check: print JSON.
    --help                   Print this text.
    --version                Print the version.
    --licences               Print the licences of all that this epmd is made of.
"""

_INTERACTIVE = (
    "-names",
    "-dump",
    "-started",
    "-kill",
    "-stop",
    "-check",
    "--help",
    "--version",
    "--licences",
)
#: What needs no epmd, nor a good environment.
_ABOUT_ITSELF = ("--help", "--version", "--licences")
_OPTION_LINE = r"(?m)^    (--?\w+)(?:, (-\w+))?(?: ([A-Z][\w:[\]]*))?(?=  )"


class UsageError(Exception):
    """The line is not one that USAGE describes; the text says what is wrong with it."""


class Given(NamedTuple):
    """A value of an option, and where it is from: the option, or its variable."""

    where: str
    value: str


class Options(NamedTuple):
    """What was asked for: the settings of the mapper to serve or to ask, and what only the program knows.

    `command` is the interactive option without its dashes, or None for serving; `stop_name` is the name that
    goes with `stop`.  `port_file` and `pid_file` are absolute paths without symbolic links, or STDOUT, or
    empty; `must_serve` tells that the line names one of them, so that a port in use is a failure: whoever
    waits for the file would wait in vain.  `user` is Name or Name:Group, not looked up yet."""

    settings: Settings = Settings()
    daemon: bool = False
    systemd: bool = False
    command: str | None = None
    stop_name: str = ""
    pid_exit: tuple[int, ...] = ()
    port_file: str = ""
    pid_file: str = ""
    must_serve: bool = False
    user: Given | None = None
    host: str = ""
    json: bool = False


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of a command line (without the program's name) and an environment.

    Raises UsageError, and ValueProblem."""
    found = _plain(arguments) or _docopt(_two_dashes(arguments))
    command = next((c for c in _INTERACTIVE if found[_dashes(c)]), None)
    if command in _ABOUT_ITSELF:
        environ = {}
    # Whoever asks an epmd is not told what is wrong with the settings of one that would serve.
    own = _Own(found, {} if command else environ)
    daemon = bool(found["--daemon"])
    files = [own.file(name, daemon=daemon) for name in _FILES]
    options = Options(
        settings=_settings(found, environ, own, least_port=0 if files[0] else 1),
        daemon=daemon,
        systemd=bool(found["--systemd"]),
        command=command.lstrip("-") if command else None,
        stop_name="".join(found["--stop"]),
        pid_exit=own.processes("pid_exit"),
        port_file=files[0],
        pid_file=files[1],
        must_serve=any(found[f"--{name}"] for name in _FILES),
        user=own.user("user"),
        host=_host(found["--host"]),
        json=bool(found["--json"]),
    )
    _must_go_together(options, loopback=bool(found["--loopback"]))
    return options


def _settings(found: dict[str, Any], environ: Mapping[str, str], own: _Own, least_port: int) -> Settings:
    return Settings(
        port=_port(found, environ, least_port),
        addresses=_addresses(found, environ),
        relaxed=bool(found["--relaxed_command_check"]) or "ERL_EPMD_RELAXED_COMMAND_CHECK" in environ,
        allow=own.networks("allow"),
        allow_register=own.networks("allow_register") or (),
        packet_timeout=_seconds(found, "packet_timeout") or DEFAULT_PACKET_TIMEOUT,
        idle_exit=own.number("idle_exit"),
        delay_accept=_seconds(found, "delay_accept"),
        delay_write=_seconds(found, "delay_write"),
        debug=found["--debug"],
    )


def _must_go_together(options: Options, *, loopback: bool) -> None:
    """Raises ValueProblem for an option of our own where it would do nothing."""
    if options.host and options.command not in ("names", "started", "check"):
        raise ValueProblem("-host goes with -names, -started and -check")
    if options.json and options.command not in ("names", "dump", "check"):
        raise ValueProblem("-json goes with -names, -dump and -check")
    if loopback and options.systemd:
        raise ValueProblem("-loopback: with -systemd it is systemd that says where to listen")
    if options.settings.port == 0 and options.command:
        raise ValueProblem("-port 0 is for serving")
    _check_files(options)


def _check_files(options: Options) -> None:
    for name, path in zip(_FILES, (options.port_file, options.pid_file), strict=True):
        if path and options.command:
            raise ValueProblem(f"-{name} is for serving")
    if options.port_file == options.pid_file not in ("", STDOUT):
        raise ValueProblem(f"-port_file and -pid_file are both {options.pid_file}")


def _known_options() -> dict[str, bool]:
    """Each option of USAGE: does a value follow it?"""
    import re

    known = {}
    for name, alias, value in re.findall(_OPTION_LINE, USAGE):
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


def _plain(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What docopt finds in `[-port N] -daemon`, which every node runs; None for every other line.

    docopt, and what it imports, would take 6 ms of such a start."""
    if list(arguments[-1:]) != ["-daemon"] or len(arguments) not in (1, 3):
        return None
    if list(arguments[:-2]) not in ([], ["-port"]):
        return None
    return _Absent({"--daemon": True, "--port": list(arguments[1:-1]), "--debug": 0})


class _Absent(dict[str, "Any"]):
    """Options of a line, with [] for all that are not there, which is false and the end of a list."""

    def __missing__(self, _option: str) -> list[str]:
        return []


def _docopt(line: list[str]) -> dict[str, Any]:
    import re

    from docopt import DocoptExit, docopt

    # Without the descriptions, which take docopt 2 ms to read, and of the usage the first line alone: that
    # only one option is interactive is known already, and each of them would cost docopt 0.4 ms.
    pattern = USAGE.split("\n", 1)[0]
    options = "\n".join(match.group() for match in re.finditer(_OPTION_LINE, USAGE))
    doubled = re.sub(r"(?<![\w-])-(?=\w\w)", "--", f"{pattern}\n\noptions:\n{options}\n")
    try:
        return docopt(doubled, line, default_help=False)
    except DocoptExit as error:  # pragma: no cover - _two_dashes lets through what docopt reads
        raise UsageError("this line is not understood") from error


def _port(found: dict[str, Any], environ: Mapping[str, str], least: int) -> int:
    # 0 only where a file tells which port it is: nobody could know otherwise.
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
    return tuple(word for word in text.replace(",", " ").split(" ") if word)


def _host(values: list[str]) -> str:
    # An unset variable of a script would else ask the local epmd, and believe that it was another's answer.
    if "" in values:
        raise ValueProblem("-host: the host is empty")
    return values[-1] if values else ""


class _Own:
    """The options of our own that serve: each has a variable, of which a value that is empty counts as none.

    All methods take an option's name without its dash, and raise ValueProblem for a value that is invalid."""

    def __init__(self, found: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._found = found
        self._environ = environ

    def _given(self, name: str) -> list[Given]:
        """Each value on the line, of which the last counts, or else the variable's."""
        if self._found[f"--{name}"]:
            return [Given(f"-{name}", value) for value in self._found[f"--{name}"]]
        variable = f"ERL_EPMD_{name.upper()}"
        return [Given(variable, value)] if (value := self._environ.get(variable)) else []

    def _not_empty(self, name: str, what: str) -> Given | None:
        given = self._given(name)
        for where, value in given:
            if not value:
                raise ValueProblem(f"{where}: the {what} is empty")
        return given[-1] if given else None

    def number(self, name: str) -> int:
        """Seconds; 0 for none."""
        return _last_number(self._given(name))

    def networks(self, name: str) -> tuple[Network, ...] | None:
        given = self._given(name)
        if not given:
            return None
        from ..server.networks import read_network

        where, value = given[-1]
        try:
            return tuple(map(read_network, _list(value)))
        except ValueError as error:
            raise ValueProblem(f"{where}: {error}") from None

    def processes(self, name: str) -> tuple[int, ...]:
        given = self._given(name)
        if not given:
            return ()
        where, value = given[-1]
        return tuple(read_number(where, pid, _MOST_PID) for pid in _list(value) or ("",))

    def user(self, name: str) -> Given | None:
        return self._not_empty(name, "user")

    def file(self, name: str, *, daemon: bool) -> str:
        """The absolute path of a file to write; STDOUT, or empty for none."""
        given = self._not_empty(name, "path")
        if given is None:
            return ""
        if given.value == STDOUT:
            if daemon:
                raise ValueProblem(f"{given.where} {STDOUT}: a daemon has no stdout")
            return STDOUT
        path = os.path.realpath(given.value)
        # A daemon could say it in syslog alone.  What is no file, as a device, must not be replaced, or
        # removed.
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueProblem(f"{given.where}: {path} is no file (- is stdout)")
        if not os.path.isdir(os.path.dirname(path)):
            raise ValueProblem(f"{given.where}: there is no folder for {path}")
        return path


def _seconds(found: dict[str, Any], name: str) -> int:
    """What an option of C's is given; 0 for nothing."""
    return _last_number([Given(f"-{name}", value) for value in found[f"--{name}"]])


def _last_number(given: list[Given]) -> int:
    """The last value, each of which must be a number; 0 if there is none."""
    return [0, *(read_number(where, value, MOST_SECONDS) for where, value in given)][-1]
