"""Reads the command line and the environment into one Options.

Invariants: C's options have one dash and are read from left to right. A later one overrides an earlier one,
and an interactive option ends the command line. docopt supports none of this, so `line` reads the words
first. USAGE is the only list of options: the program shows it to users, and reads its options from it.

C's counterpart: main() of epmd.c. Source: ERTS Reference Manual, epmd(1); main() also has the undocumented
options.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence

from ..conventions import MOST_SECONDS, ValueProblem, read_number
from ..records import NamedTuple
from ..server.settings import DEFAULT_PACKET_TIMEOUT, Settings
from . import line
from .line import UsageError
from .process.files import STDOUT, resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..server.networks import Network

_MOST_PID = 2**31 - 1
_LOOPBACK_VARIABLE = "ERL_EPMD_LOOPBACK"
ADDRESS_VARIABLE = "ERL_EPMD_ADDRESS"
#: The values of a variable that is a switch.
_ON = ("1", "yes", "true", "on")
_OFF = ("0", "no", "false", "off")
#: How many descriptors an older systemd keeps, if the unit says nothing: the next limit is smaller.
_MOST_STORED = 1 << 20
#: The variables that -allow_file reads.
_IN_ALLOW_FILE = ("ERL_EPMD_ALLOW", "ERL_EPMD_ALLOW_REGISTER")
_LARGEST_ALLOW_FILE = 1 << 20
#: The options that name a file for whoever waits for it.
_FILES = ("port_file", "pid_file")

USAGE = """\
usage: epmd [options]...
       epmd [options]... (-names | -dump | -started | -kill | -stop Name | -check)
       epmd (--help | --version | --licences)

The Erlang port mapper daemon tells Erlang nodes on which ports the nodes of this host listen.
Without an interactive option, epmd serves in the foreground.

Serving:
    -address List            Listen on these IP addresses (separated by commas) and on loopback.
                             Default: ERL_EPMD_ADDRESS, or else all addresses of this host.
    -port No                 The TCP port to serve or to ask. Default: ERL_EPMD_PORT, or else 4369.
    -daemon                  Serve in the background; return once requests are answered.
                             Log errors to syslog.
    -relaxed_command_check   Allow -kill while nodes are registered, and allow -stop.
                             ERL_EPMD_RELAXED_COMMAND_CHECK in the environment has the same effect.
    -systemd                 Serve the sockets that systemd passes, and notify systemd when ready.

Serving, not in C's epmd (environment variable: ERL_EPMD_ and the name in capitals, as ERL_EPMD_ALLOW):
    -loopback                Listen on loopback only. ERL_EPMD_LOOPBACK=1 has the same effect.
    -allow List              Answer other hosts only if they are in these networks (separated by commas).
    -allow_register List     Accept registrations, and requests, from hosts in these networks too.
    -allow_file File         Read ERL_EPMD_ALLOW and ERL_EPMD_ALLOW_REGISTER from this file of variables, as
                             /etc/default/epmd, and again at SIGHUP, which ends or drops nothing then.
    -takeover                Take the place of the epmd that serves the port, C's or this one; its nodes
                             stay registered. Without one, start as ever.
    -not_local List          Treat peers with these addresses of this host (separated by commas) as other
                             hosts, because they are behind a proxy: 127.0.0.6 is that of a service mesh.
    -user Name[:Group]       Bind the port as root, drop root privileges, then serve as this user.
    -idle_exit Seconds       Shut down when for this many seconds no node has been registered, and nobody
                             of this host has connected.
    -pid_exit Pids           Shut down as soon as one of these processes ends (separated by commas).
    -port_file Path          Write the port to this file once requests are answered, and remove the file
                             at exit; - is stdout. With this option, -port 0 takes any free port.
    -pid_file Path           Write the process ID of the server to this file, in the same way.
    -metrics_file Path       Write the numbers of nodes, requests and connections to this file every 15
                             seconds and at exit, for Prometheus. SIGUSR1 writes and logs them at once.

Debugging:
    -d, -debug               Log each request to stderr, and remember only 5 recently unregistered names.
                             Twice: also log connections and packets. Three times: also log the tables.
    -packet_timeout Seconds  Close a connection whose request is incomplete after this time.
                             Default: ERL_EPMD_PACKET_TIMEOUT, or else 60.
    -delay_accept Seconds    Simulate a busy server: wait this long before handling a new connection.
    -delay_write Seconds     Simulate a busy server: wait this long before each reply.

Interactive (must be the last option):
    -names                   List the registered nodes and their ports.
    -dump                    List the registered nodes and recently unregistered names, for debugging.
    -started                 Print nothing; exit with status 0 if an epmd answers, else with status 1.
    -kill                    Shut down the running epmd. While nodes are registered, it accepts this only if
                             it was started with -relaxed_command_check.
    -stop Name               Unregister this node by force. The running epmd accepts this only if it was
                             started with -relaxed_command_check.

Interactive, not in C's epmd:
    -check                   Diagnose this host's epmd and nodes, and print a remedy for each problem.
                             Exit with status 1 if something is wrong.
    -host Host               With -names, -started or -check: ask the epmd of another host.
    -json                    With -names, -dump or -check: print JSON.
    -nagios                  With -check: print one line, and exit with 0 (ok), 1 (warning), 2 (critical)
                             or 3 (unknown), as a plugin of Nagios does.
    -accept Codes            With -check: do not warn of these (separated by commas), as -accept open.
    --help                   Print this text.
    --version                Print the version.
    --licences               Print the licences of everything in this epmd.
"""

_OPTION_LINE = r"(?m)^    (--?\w+)(?:, (-\w+))?(?: ([A-Z][\w:[\]]*))?(?=  )"


class Given(NamedTuple):
    """The value of an option. `where` is the option or variable that it comes from."""

    where: str
    value: str


#: The value of an option that is not given.
ABSENT = Given("", "")


class Options(NamedTuple):
    """The result of reading the command line and the environment.

    `settings` are those of the mapper to serve or to ask. The other fields concern only the program.

    `command` is the interactive option without its dashes, or "" for serving. `host` is "" for this host.
    `stop_name` is the name that goes with `stop`. `nagios` and `accept` are for `check`: print a line for
    Nagios, and accept these warnings. `user` is Name or Name:Group, not looked up yet.

    The values of `port_file` and `pid_file` are absolute paths without symbolic links in the folder, STDOUT,
    or "". `must_serve` is True if the command line names one of them. A port in use is then a failure: a
    program that waits for the file would wait in vain. `metrics_file` is a path of the same kind, or "".

    `takeover` is "any" to take over from any epmd, "other" from one that runs another program, or "".

    `store` is how many descriptors the unit's descriptor store keeps, or 0 if it is not to be used.

    `listen_names` are the options and variables that say where to listen, except the port. `port_name` is
    that of the port, or "" for the default.

    `networks` reads the networks of `settings` again, if there is an -allow_file.
    """

    settings: Settings = Settings()
    daemon: bool = False
    systemd: bool = False
    command: str = ""
    stop_name: str = ""
    pid_exit: tuple[int, ...] = ()
    port_file: Given = ABSENT
    pid_file: Given = ABSENT
    metrics_file: Given = ABSENT
    must_serve: bool = False
    user: Given = ABSENT
    takeover: str = ""
    store: int = 0
    host: str = ""
    json: bool = False
    nagios: bool = False
    accept: tuple[str, ...] = ()
    listen_names: tuple[str, ...] = ()
    port_name: str = ""
    networks: Networks | None = None

    @property
    def port(self) -> int:
        return self.settings.port


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Return the options of a command line (without the program's name) and an environment.

    Raises UsageError for a command line that does not match USAGE, UsageWanted for -help, and ValueProblem
    for an invalid value.
    """
    found = _found(arguments)
    command = next((c for c in line.INTERACTIVE if found[_dashed(c)]), "")
    if command in line.ABOUT_ITSELF:
        environ = {}
    # An interactive call must not fail because of a variable that is meant for an epmd that serves.
    serving = {} if command else environ
    networks = Networks(found, serving)
    own = networks.read()
    daemon = bool(found["--daemon"])
    files = [own.file(name, daemon=daemon) for name in _FILES]
    place = _Place(found, serving)
    # A script that passes an unset variable must not take the local epmd's reply for another host's.
    host = _Own(found, {}).not_empty("host", "host").value
    options = Options(
        settings=_settings(found, environ, own, place, least_port=0 if files[0].value else 1),
        daemon=daemon,
        systemd=bool(found["--systemd"]),
        command=command.lstrip("-"),
        stop_name="".join(found["--stop"]),
        pid_exit=own.processes("pid_exit"),
        port_file=files[0],
        pid_file=files[1],
        metrics_file=own.file("metrics_file", daemon=daemon),
        must_serve=any(found[f"--{name}"] for name in _FILES),
        user=own.not_empty("user", "user"),
        takeover=own.takeover(),
        store=own.store() if found["--systemd"] else 0,
        host=host,
        json=bool(found["--json"]),
        nagios=bool(found["--nagios"]),
        accept=tuple(code for value in found["--accept"] for code in _list(value)),
        listen_names=place.names,
        port_name="-port" if found["--port"] else "ERL_EPMD_PORT" if "ERL_EPMD_PORT" in serving else "",
        networks=networks if networks.path else None,
    )
    _must_go_together(options)
    if not options.systemd:
        place.must_have_an_effect(own)
    return options


def _settings(
    found: dict[str, Any], environ: Mapping[str, str], own: _Own, place: _Place, least_port: int
) -> Settings:
    c_own = _Own(found, {})  # options of C's, which have no variables
    return Settings(
        # Port 0 needs a file that names the chosen port. Without the file, no client could find the port.
        port=line.port(found["--port"], environ, least_port),
        addresses=place.addresses,
        relaxed=bool(found["--relaxed_command_check"]) or "ERL_EPMD_RELAXED_COMMAND_CHECK" in environ,
        allow=own.networks("allow"),
        allow_register=own.networks("allow_register") or (),
        not_local=own.networks("not_local") or (),
        packet_timeout=own.number("packet_timeout") or DEFAULT_PACKET_TIMEOUT,
        idle_exit=own.number("idle_exit"),
        delay_accept=c_own.number("delay_accept"),
        delay_write=c_own.number("delay_write"),
        debug=found["--debug"] or 0,
    )


def _must_go_together(options: Options) -> None:
    """Raise ValueProblem for an option of our own that would have no effect."""
    if options.host and options.command not in ("names", "started", "check"):
        raise ValueProblem("-host can be used only with -names, -started and -check")
    if options.json and options.command not in ("names", "dump", "check"):
        raise ValueProblem("-json can be used only with -names, -dump and -check")
    if (options.nagios or options.accept) and options.command != "check":
        raise ValueProblem(f"{'-nagios' if options.nagios else '-accept'} can be used only with -check")
    if options.nagios and options.json:
        raise ValueProblem("-nagios and -json cannot be used together")
    if options.port == 0 and options.command:
        raise ValueProblem("-port 0 cannot be used with an interactive option")
    if options.takeover == "any" and options.systemd:
        raise ValueProblem("-takeover cannot be used with -systemd: systemd passes the sockets")
    if options.takeover == "any" and options.command:
        raise ValueProblem("-takeover cannot be used with an interactive option")
    _check_files(options)


def _check_files(options: Options) -> None:
    if options.networks is not None and options.command:
        raise ValueProblem("-allow_file cannot be used with an interactive option")
    named: dict[str, str] = {}
    for where, path in (options.port_file, options.pid_file, options.metrics_file):
        if path and options.command:
            raise ValueProblem(f"{where} cannot be used with an interactive option")
        if path in named:
            raise ValueProblem(f"{named[path]} and {where} name the same file: {path}")
        if path not in ("", STDOUT):
            named[path] = where
    if options.metrics_file.value == STDOUT:
        raise ValueProblem(
            f"{options.metrics_file.where} {STDOUT}: stdout is not a file that can be replaced"
        )


def known_options() -> dict[str, bool]:
    """Return the options of USAGE; the value is True if an argument follows the option."""
    import re

    known = {}
    for name, alias, value in re.findall(_OPTION_LINE, USAGE):
        known.update({spelling: bool(value) for spelling in (name, alias) if spelling})
    return known


class _Found(dict[str, "Any"]):
    """The options of a line as docopt returns them, by names with two dashes: how often, or all values."""

    def __init__(self, words: Iterable[line.Word]) -> None:
        for word, value in words:
            name = _dashed(word)
            self[name] = self.get(name, 0) + 1 if value is None else [*self[name], value]

    def __missing__(self, _option: str) -> list[str]:
        return []


def _dashed(option: str) -> str:
    """Return the option as docopt spells it: with one dash if its name is a letter, else with two."""
    name = option.lstrip("-")
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _found(arguments: Sequence[str]) -> dict[str, Any]:
    try:
        # docopt and its imports would add 6 ms to a start by a node.
        return _Found(line.read(arguments, line.QUICK))
    except UsageError:
        return _docopt(line.read(arguments, known_options()))


def _docopt(words: list[line.Word]) -> dict[str, Any]:
    """Return what docopt finds in a line that `line.read` has read."""
    import re

    from docopt import DocoptExit, docopt

    # docopt gets the options without their descriptions, which it would read for 2 ms, and only the first
    # line of the usage: `line.read` has already checked that there is one interactive option at most.
    pattern = USAGE.split("\n", 1)[0]
    # It compares each of its options with all others, which takes 5 ms, so it gets those of this line only.
    on_line = {option for option, _ in words}
    known = re.finditer(_OPTION_LINE, USAGE)
    options = "\n".join(match.group() for match in known if not on_line.isdisjoint(match.groups()))
    doubled = re.sub(r"(?<![\w-])-(?=\w\w)", "--", f"{pattern}\n\noptions:\n{options}\n")
    given = [_dashed(option) + ("" if value is None else f"={value}") for option, value in words]
    try:
        found = _Found(())
        found.update(docopt(doubled, given, default_help=False))
        return found
    except DocoptExit as error:  # pragma: no cover - docopt reads what `line.read` lets through
        raise UsageError("cannot parse the command line") from error


class _Place:
    """Where to listen: `addresses` as in Settings, and `names`, the options and variables that say so.

    The command line takes precedence over the environment. Raises ValueProblem for an invalid variable.
    """

    def __init__(self, found: dict[str, Any], environ: Mapping[str, str]) -> None:
        given = [option for option in ("-loopback", "-address") if found[_dashed(option)]]
        loopback = bool(found["--loopback"])
        text = (found["--address"] or [""])[-1]
        if not given:
            loopback, text = _is_on(_LOOPBACK_VARIABLE, environ), environ.get(ADDRESS_VARIABLE, "")
        variables = [(_LOOPBACK_VARIABLE, loopback), (ADDRESS_VARIABLE, bool(text))]
        self.names = tuple(given or (name for name, is_set in variables if is_set))
        self.addresses = None if loopback else _list(text)
        self._is_on_line = bool(given)

    def must_have_an_effect(self, own: _Own) -> None:
        """Raise ValueProblem if one of the options keeps another from having an effect."""
        if len(self.names) > 1:
            raise ValueProblem(f"{' and '.join(self.names)} cannot be used together")
        if self.addresses is None:
            for where, _ in own.given("allow_register"):
                # -loopback on the line takes precedence over a variable.
                if not (self._is_on_line and where.startswith(line.OWN_VARIABLES)):
                    raise ValueProblem(f"{where} has no effect with {self.names[0]}")


def _is_on(variable: str, environ: Mapping[str, str]) -> bool:
    """Return whether a variable that is a switch is on: also if set to nothing, as those of C's epmd."""
    value = environ.get(variable, "no").lower()
    if value not in ("", *_ON, *_OFF):
        raise ValueProblem(f'{variable}: "{value}" is none of {", ".join(_ON + _OFF)}')
    return value not in _OFF


def _list(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.replace(",", " ").split(" ") if word)


class Networks:
    """Those of -allow and -allow_register, which the file `path` of -allow_file may set, and change.

    The command line takes precedence over the file, and the file over the environment: what the file no
    longer sets is again as the epmd was started. Raises ValueProblem.
    """

    def __init__(self, found: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._found = found
        self._environ = environ
        self._where, path = _Own(found, environ).not_empty("allow_file", "path")
        self.path = os.path.abspath(path) if path else ""
        if self.path:
            import ipaddress  # noqa: F401  # the executables cannot import anything while they serve

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self.path == other.path

    def read(self) -> _Own:
        """Return our own options, with what the file sets now. Raises ValueProblem."""
        if not self.path:
            return _Own(self._found, self._environ)
        try:
            variables = _variables(_content(self.path))
        except OSError as error:
            raise ValueProblem(f"{self._where}: cannot read {self.path}: {error.strerror}") from None
        return _Own(self._found, {**self._environ, **variables}, dict.fromkeys(variables, self.path))

    def changed(self, settings: Settings) -> Settings:
        """Return these settings with the networks that the file sets now. Raises ValueProblem."""
        own = self.read()
        return settings._replace(
            allow=own.networks("allow"), allow_register=own.networks("allow_register") or ()
        )


def _content(path: str) -> str:
    """Return what is in a file, of which nothing is read unless it is a regular one. Raises OSError."""
    import stat

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return os.read(descriptor, _LARGEST_ALLOW_FILE).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _variables(text: str) -> dict[str, str]:
    """Return those variables of an environment file, as of systemd or a shell, that -allow_file reads."""
    found = {}
    for entry in text.splitlines():
        name, is_set, value = entry.strip().removeprefix("export ").partition("=")
        if is_set and name in _IN_ALLOW_FILE:
            found[name] = value.strip().strip("\"'")
    return found


class _Own:
    """Reads our own options for serving. Each has a variable; one that is set to nothing counts as not set.

    Every method takes an option's name without its dash. It raises ValueProblem if the value is invalid.
    """

    def __init__(
        self, found: dict[str, Any], environ: Mapping[str, str], files: Mapping[str, str] | None = None
    ) -> None:
        self._found = found
        self._environ = environ
        #: The file that sets a variable, if it is not the environment.
        self._files = files or {}

    def given(self, name: str) -> list[Given]:
        """Return every value on the command line, or else the variable's."""
        if self._found[f"--{name}"]:
            return [Given(f"-{name}", value) for value in self._found[f"--{name}"]]
        variable = line.OWN_VARIABLES + name.upper()
        where = f"{variable} in {self._files[variable]}" if variable in self._files else variable
        return [Given(where, value)] if (value := self._environ.get(variable)) else []

    def not_empty(self, name: str, what: str) -> Given:
        """Return the last value, which is "" only if the option is absent."""
        given = self.given(name)
        for where, value in given:
            if not value:
                raise ValueProblem(f"{where}: the {what} is empty")
        return given[-1] if given else ABSENT

    def number(self, name: str) -> int:
        """Return the last number of seconds, or 0 if the option is absent. Every value must be a number."""
        return [0, *(read_number(where, value, MOST_SECONDS) for where, value in self.given(name))][-1]

    def networks(self, name: str) -> tuple[Network, ...] | None:
        """Return the networks of every list that is given, or None if the option is absent."""
        given = self.given(name)
        if not given:
            return None
        from ..server.networks import read_network

        networks: list[Network] = []
        for where, value in given:
            try:
                networks += map(read_network, _list(value))
            except ValueError as error:
                raise ValueProblem(f"{where}: {error}") from None
        return tuple(networks)

    def processes(self, name: str) -> tuple[int, ...]:
        """Return the processes of every list that is given."""
        return tuple(
            read_number(where, pid, _MOST_PID)
            for where, value in self.given(name)
            for pid in _list(value) or ("",)
        )

    def takeover(self) -> str:
        """Return "any" to take over from any epmd, "other" from one of another program, or "".

        Each node that starts its epmd passes the variable on: it must not replace this program by itself.
        """
        if self._found["--takeover"]:
            return "any"
        variable = "ERL_EPMD_TAKEOVER"
        return "other" if self._environ.get(variable) and _is_on(variable, self._environ) else ""

    def store(self) -> int:
        """Return how many descriptors systemd keeps. Before version 254, it does not say that it does."""
        variable = "ERL_EPMD_FDSTORE"
        most = self._environ.get("FDSTORE", "")
        if self._environ.get(variable):
            return int(most or _MOST_STORED) if _is_on(variable, self._environ) else 0
        return int(most) if most.isdecimal() else 0

    def file(self, name: str, *, daemon: bool) -> Given:
        """Return a file to write: its absolute path, STDOUT, or "" if the option is absent."""
        given = self.not_empty(name, "path")
        if given.value == STDOUT:
            if daemon:
                raise ValueProblem(f"{given.where} {STDOUT}: a daemon has no stdout")
            return given
        return given._replace(value=_path(*given)) if given.value else given


def _path(where: str, given: str) -> str:
    """Return the absolute path of a file to write.

    It is checked here, because a daemon could report the problem only to syslog.
    """
    try:
        path = resolved(given)
    except OSError as error:
        what = "the current folder does not exist" if error.errno == errno.ENOENT else error.strerror
        raise ValueProblem(f"{where}: {what}") from None
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or (os.path.exists(path) and not os.path.isfile(path)):
        raise ValueProblem(f"{where}: {path} is not a regular file (use - for stdout)")
    if os.geteuid() == 0 and os.path.islink(path):
        raise ValueProblem(f"{where}: {path} is a symbolic link, which root does not follow")
    if not os.path.isdir(folder):
        raise ValueProblem(f"{where}: the folder of {path} does not exist")
    return path
