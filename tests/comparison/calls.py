"""The command lines that `commands` compares, as a table: every option in every form, alone and with others,
with each variable, and with nobody, somebody, or a relaxed epmd at the port.

PORT in an argument or a variable is the number of a port that belongs to the call alone, or to its epmd.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

NO_NUMBER = "an invalid port or time"
_DAEMON = "`-daemon` that cannot serve"
_TWICE = "an address that is given twice"
_WILDCARD = "a wildcard address"
_LOOPBACK_TWICE = "a loopback address that is given twice"
_BAD_VARIABLE = "an invalid address in `ERL_EPMD_ADDRESS`"
_14_ADDRESSES = "14 addresses"
_MOST_ADDRESSES = "the maximum number of addresses"
_TWO_DASHES = "`--help`, `--version` and `--licences`"

_PORT_VARIABLE, _ADDRESS_VARIABLE = "ERL_EPMD_PORT", "ERL_EPMD_ADDRESS"
_RELAXED, _RELAXED_VARIABLE = "-relaxed_command_check", "ERL_EPMD_RELAXED_COMMAND_CHECK"

Variables = tuple[tuple[str, str], ...]
Words = tuple[str, ...]


class Place(NamedTuple):
    """Who is at the port: an epmd that was called with `options` and `variables` and knows `names`, or
    nobody where `options` is None."""

    title: str
    options: Words | None = None
    variables: Variables = ()
    names: Words = ()

    @property
    def relaxed(self) -> bool:
        return bool(self.variables) or _RELAXED in (self.options or ())


_NAMES = ("foo", "bar")

NOBODY = Place("nobody there")
EMPTY = Place("an epmd without nodes", ())
NODES = Place("an epmd with nodes", (), names=_NAMES)
RELAXED = Place("a relaxed epmd without nodes", (_RELAXED,))
RELAXED_NODES = Place("a relaxed epmd with nodes", (_RELAXED,), names=_NAMES)
RELAXED_BY_VARIABLE = Place("an epmd with nodes, relaxed by ''", (), ((_RELAXED_VARIABLE, ""),), _NAMES)
PLACES = (NOBODY, EMPTY, NODES, RELAXED, RELAXED_NODES, RELAXED_BY_VARIABLE)


class Call(NamedTuple):
    """`bad_value`: the line has a value that cannot be, of which C says the usage and ours a line of its
    own. `apart`: C would serve or ask at a port that may be somebody else's, so the call gets a network of
    its own. `difference` as in Seen."""

    words: Words
    place: Place = NOBODY
    variables: Variables = ()
    bad_value: bool = False
    apart: bool = False
    difference: str = ""

    @property
    def title(self) -> str:
        variables = [f"{name}={value!r}" for name, value in self.variables]
        return (
            " ".join([*variables, "epmd", *(word or "''" for word in self.words)]) + f", {self.place.title}"
        )

    @property
    def asks(self) -> bool:
        """Whether this is an interactive call, or would be one."""
        return bool({"-names", "-dump", "-started", "-kill", "-stop"}.intersection(self.words))

    @property
    def may_leave_a_daemon(self) -> bool:
        return self.place is NOBODY and "-daemon" in self.words and not self.asks and not self.bad_value

    @property
    def plays_busy(self) -> bool:
        return any(word.startswith("-delay_") for word in self.words)

    @property
    def alters(self) -> bool:
        """Whether the epmd at the port may be another one afterwards."""
        if self.words[-1:] == ("-kill",):
            return bool(self.place.relaxed or not self.place.names)
        return self.words[-2:-1] == ("-stop",) and self.place.relaxed and self.words[-1] in self.place.names


_AT = ("-port", "PORT")
_ASKED = (("-names",), ("-dump",), ("-started",), ("-kill",))
_STOPS = (("-stop", "foo"), ("-stop", "nobody"), ("-stop", ""), ("-stop", "-names"), ("-stop", "n" * 1001))
INTERACTIVE = [
    *(Call((*_AT, *asked), place) for place in PLACES for asked in (*_ASKED, *_STOPS)),
    *(Call((*flags, *_AT, "-names"), NODES) for flags in (("-d",), ("-debug",), ("-d", "-d", "-d"))),
    *(Call((flag, *_AT, "-names"), NODES) for flag in ("-daemon", "-systemd", _RELAXED)),
    *(Call((flag, *_AT, "-names")) for flag in ("-d", "-daemon", "-systemd", _RELAXED)),
    Call((_RELAXED, *_AT, "-stop", "foo"), NODES),
    Call((_RELAXED, *_AT, "-kill"), NODES),
]

_UNKNOWN = (
    "-foo",
    "foo",
    "",
    "-",
    "--",
    "-help",
    "-h",
    "--names",
    "-dd",
    "-nam",
    "-Names",
    "-port=1",
)
_TAKE_A_VALUE = ("-port", "-address", "-packet_timeout", "-delay_accept", "-delay_write", "-stop")
_TAKE_NONE = ("-d", "-debug", "-daemon", _RELAXED, "-systemd")
_AFTER = (*((option, "1") for option in _TAKE_A_VALUE), *((option,) for option in _TAKE_NONE), ("x",))
USAGE = [
    *(Call((*_AT, word)) for word in _UNKNOWN),
    *(Call((*_AT, word, "-names"), EMPTY) for word in _UNKNOWN),
    *(Call((*_AT, option)) for option in _TAKE_A_VALUE),
    *(Call((*_AT, *asked, *asked), EMPTY) for asked in (*_ASKED, ("-stop", "foo"))),
    *(Call((*_AT, *asked, *after), EMPTY) for asked in _ASKED for after in _AFTER),
    *(Call((*_AT, "-stop", "foo", *after), RELAXED_NODES) for after in (*_ASKED, ("-d",), ("x",))),
    Call((*_AT, "-daemon", "-foo")),
    Call((*_AT, "--help"), difference=_TWO_DASHES),
    Call((*_AT, "--version"), difference=_TWO_DASHES),
    Call((*_AT, "--licences"), difference=_TWO_DASHES),
    *(Call((*_AT, word, "-names"), EMPTY) for word in ("--help", "--version", "--licences")),
    Call((*_AT, "-daemon", "-port")),
]

_TIMES = ("-packet_timeout", "-delay_accept", "-delay_write")
_NO_NUMBERS = ("0", "x", "", "-names", "-", "+", "0x10", ".5", "\u0663")
#: C reads as far as it can, and drops what does not fit.
_HALF_NUMBERS = ("4369x", "-1", "70966", " 4369", "+4369", "4369.5", "1_0", "65536")
_HALF_TIMES = ("5x", "-5", " 5", "1e3", "9" * 30)
NUMBERS = [
    *(Call((*_AT, option, bad), bad_value=True) for option in ("-port", *_TIMES) for bad in _NO_NUMBERS),
    *(Call((*_AT, option, bad, "-names"), EMPTY, bad_value=True) for option in _TIMES for bad in ("0", "x")),
    Call(("-port", "x", *_AT), bad_value=True),
    Call(("-port", "x", *_AT, "-names"), EMPTY, bad_value=True),
    Call(("-port", "0", "-foo"), bad_value=True),
    *(Call(("-port", bad), apart=True, difference=NO_NUMBER) for bad in _HALF_NUMBERS),
    *(Call(("-port", bad, "-names"), apart=True, difference=NO_NUMBER) for bad in _HALF_NUMBERS),
    *(
        Call((*_AT, option, bad, "-names"), EMPTY, difference=NO_NUMBER)
        for option in _TIMES
        for bad in _HALF_TIMES
    ),
    *(Call(("-port", spelt, "-names"), EMPTY) for spelt in ("0PORT", "00000000000PORT")),
    *(Call((*_AT, option, "1", option, "2", "-names"), EMPTY) for option in _TIMES),
    *(Call((*_AT, option, "005", "-names"), EMPTY) for option in _TIMES),
    Call(("-port", "1", *_AT, "-names"), EMPTY),
    Call(("-port", "1", *_AT)),
]


def _addresses(count: int) -> str:
    return ",".join(f"127.0.0.{host}" for host in range(2, 2 + count))


_ADDRESSES = (
    "127.0.0.1", "::1", "127.0.0.1,::1", "127.0.0.5", "127.0.0.5,127.0.0.6",
    "127.0.0.5 127.0.0.6", " ,127.0.0.5,, 127.0.0.6 ,", "", " , ", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.5",
)  # fmt: skip
_NO_ADDRESSES = (
    "nonsense", "localhost", "127.0.0.300", "127.0.0.1,x", "x,127.0.0.1", "127.1", "127.0.0.05", "::1::",
    "-names", "203.0.113.7", "127.0.0.5;127.0.0.6", "*", "127.0.0.1/8", "::1%lo", "2001:db8::7",
)  # fmt: skip
ADDRESSES = [
    *(Call((*_AT, "-address", addresses)) for addresses in _ADDRESSES),
    *(Call((*_AT, "-address", addresses)) for addresses in _NO_ADDRESSES),
    Call((*_AT, "-address", _addresses(13))),
    Call((*_AT, "-address", _addresses(14)), difference=_14_ADDRESSES),
    Call((*_AT, "-address", _addresses(15)), difference=_MOST_ADDRESSES),
    Call((*_AT, "-address", "127.0.0.1,127.0.0.1"), difference=_LOOPBACK_TWICE),
    Call((*_AT, "-address", "nonsense", "-address", "127.0.0.5")),
    Call((*_AT, "-address", "127.0.0.5", "-address", "nonsense")),
    Call((*_AT, "-address", "127.0.0.5", "-address", "")),
    Call((*_AT, "-address", "127.0.0.5"), EMPTY),
    Call((*_AT, "-address", "nonsense", "-names"), EMPTY),
    Call((*_AT, "-address", "127.0.0.5,127.0.0.5"), difference=_TWICE),
    Call((*_AT, "-address", "127.0.0.5,127.0.0.6,127.0.0.5"), difference=_TWICE),
    Call((*_AT, "-address", "0.0.0.0"), difference=_WILDCARD),
    Call((*_AT, "-address", "::"), difference=_WILDCARD),
]

SERVING = [
    Call(_AT),
    # Relaxed, so that it is ended without many requests, which the log would be full of.
    *(Call((*_AT, _RELAXED, *["-d"] * times)) for times in (1, 2, 3, 4)),
    Call((*_AT, _RELAXED, "-debug")),
    Call(("-d", *_AT, _RELAXED, "-debug")),
    Call((*_AT, _RELAXED)),
    Call((*_AT, _RELAXED, _RELAXED)),
    Call((*_AT, "-systemd")),
    Call((*_AT, "-systemd", "-systemd", "-d")),
    Call((*_AT, "-systemd"), EMPTY),
    *(Call((*_AT, _RELAXED, option, "1")) for option in _TIMES),
    *(Call((*_AT, _RELAXED, option, "2", option, "1")) for option in _TIMES),
    Call((*_AT, "-delay_accept", "1", "-packet_timeout", "1", _RELAXED, "-delay_write", "1")),
    Call((*_AT, "-daemon")),
    Call((*_AT, "-daemon", "-daemon")),
    Call((*_AT, "-d", "-daemon", _RELAXED)),
    Call(("-daemon", *_AT, "-address", "127.0.0.5")),
    Call((*_AT, "-daemon", "-address", "nonsense"), difference=_DAEMON),
    Call((*_AT, "-daemon", "-address", "203.0.113.7"), difference=_DAEMON),
    Call((*_AT, "-daemon", "-systemd"), difference=_DAEMON),
    Call((*_AT, "-daemon", "-packet_timeout", "x"), bad_value=True),
    *(Call((*_AT, *options), EMPTY) for options in ((), ("-d",), ("-daemon",), ("-daemon", "-d"))),
]

_NO_PORTS = ("", "0", "abc", "70966", "-1", "PORTx")
VARIABLES = [
    *(Call(asked, EMPTY, ((_PORT_VARIABLE, "PORT"),)) for asked in (*_ASKED, ("-stop", "foo"))),
    *(Call(asked, NOBODY, ((_PORT_VARIABLE, "PORT"),)) for asked in (*_ASKED, ("-stop", "foo"))),
    *(Call(options, NOBODY, ((_PORT_VARIABLE, "PORT"),)) for options in ((), ("-daemon",), (_RELAXED, "-d"))),
    *(Call((*_AT, "-names"), EMPTY, ((_PORT_VARIABLE, value),)) for value in ("1", *_NO_PORTS)),
    *(Call(_AT, NOBODY, ((_PORT_VARIABLE, value),)) for value in ("1", *_NO_PORTS)),
    *(Call(("-foo",), NOBODY, ((_PORT_VARIABLE, value),)) for value in _NO_PORTS),
    *(
        Call(words, NOBODY, ((_PORT_VARIABLE, value),), apart=True, difference=NO_NUMBER)
        for value in _NO_PORTS
        for words in ((), ("-names",), ("-started",), ("-kill",), ("-stop", "foo"))
    ),
    *(
        Call(_AT, NOBODY, ((_ADDRESS_VARIABLE, value),))
        for value in ("127.0.0.5", "127.0.0.5 127.0.0.6", "", " , ", "203.0.113.7")
    ),
    *(
        Call(_AT, NOBODY, ((_ADDRESS_VARIABLE, value),), difference=_BAD_VARIABLE)
        for value in ("nonsense", "127.0.0.1,x")
    ),
    *(
        Call((*_AT, "-names"), NODES, ((_ADDRESS_VARIABLE, value),))
        for value in ("127.0.0.5", "", "nonsense")
    ),
    Call((*_AT, "-address", "127.0.0.6"), NOBODY, ((_ADDRESS_VARIABLE, "nonsense"),)),
    Call((*_AT, "-address", ""), NOBODY, ((_ADDRESS_VARIABLE, "127.0.0.5"),)),
    Call((*_AT, "-address", "nonsense"), NOBODY, ((_ADDRESS_VARIABLE, "127.0.0.5"),)),
    Call((*_AT, "-daemon"), NOBODY, ((_ADDRESS_VARIABLE, "127.0.0.5"),)),
    Call((*_AT, "-daemon"), NOBODY, ((_ADDRESS_VARIABLE, "nonsense"),), difference=_DAEMON),
    *(Call(_AT, NOBODY, ((_RELAXED_VARIABLE, value),)) for value in ("1", "", "0", "false")),
    Call((*_AT, "-daemon"), NOBODY, ((_RELAXED_VARIABLE, ""),)),
    Call((*_AT, _RELAXED), NOBODY, ((_RELAXED_VARIABLE, "1"),)),
    *(
        Call((*_AT, *asked), NODES, ((_RELAXED_VARIABLE, value),))
        for asked in (("-kill",), ("-stop", "foo"), ("-names",))
        for value in ("", "1")
    ),
]


def _once(calls: Iterable[Call]) -> list[Call]:
    """The calls without those that are there already under another heading."""
    return list({call.title: call for call in calls}.values())


CALLS = _once([*INTERACTIVE, *USAGE, *NUMBERS, *ADDRESSES, *SERVING, *VARIABLES])
