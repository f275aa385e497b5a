"""The command line: what is said where, and the exit status; ours and C's asking each other.

Each call is made with C's program too, where nothing else is said: same text, same status.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from gevent_epmd.conventions import ValueProblem
from gevent_epmd.program.line import UsageError, UsageWanted
from gevent_epmd.program.options import read_options
from support.differences import is_listed
from support.forms import Built, C, Folder, Source
from support.marks import forms
from support.paths import C_EPMD
from support.patience import IN_VAIN, PATIENCE
from support.peer import names, node, register
from support.ports import reserved_port
from support.programs import outcome, run
from support.scenes import run_apart
from support.strangers import Odd

#: Who calls, and who answers. Ours serve alike, so not each of ours calls each of them.
pairs = pytest.mark.parametrize(
    ("command", "form"),
    [
        pytest.param(caller, form, id=f"{caller.__name__}-{form.__name__}")
        for caller, form in (
            *((ours, ours) for ours in (Source, Built, Folder)),
            *((ours, C) for ours in (Source, Built, Folder)),
            *((C, form) for form in (Source, Folder, C)),
        )
    ],
    indirect=["command"],
)

CANNOT_CONNECT = b"epmd: Cannot connect to local epmd\n"
NO_EPMD = {
    ("-names",): (b"", CANNOT_CONNECT, 1),
    ("-dump",): (b"", CANNOT_CONNECT, 1),
    ("-kill",): (b"", CANNOT_CONNECT, 1),
    ("-stop", "foo"): (b"", CANNOT_CONNECT, 1),
    ("-started",): (b"", b"", 1),
    ("-d", "-d", "-d", "-names"): (b"", CANNOT_CONNECT, 1),
    ("-daemon", "-names"): (b"", CANNOT_CONNECT, 1),
    ("-packet_timeout", "1", "-names"): (b"", CANNOT_CONNECT, 1),
    ("-stop", "n" * 1001): (b"epmd: Name too long!", b"", 1),
    ("-stop", "-names"): (b"", CANNOT_CONNECT, 1),
}


@pytest.mark.parametrize("options", NO_EPMD, ids=" ".join)
def test_without_an_epmd(command, options: tuple[str, ...]) -> None:
    with reserved_port() as port:
        assert outcome(command, "-port", str(port), *options) == NO_EPMD[options]


def test_connection_to_itself_is_none(ours) -> None:
    """The kernel makes one, where nobody listens, with a port from the range from which it chooses them."""
    port = 40_000
    again = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do "$@"; done'
    chosen = f"echo {port} {port + 3} >/proc/sys/net/ipv4/ip_local_port_range"
    call = ["sh", "-c", again, "sh", *ours, "-port", str(port), "-names"]
    done = run_apart(call, prepare=chosen)
    assert (done.stdout, done.stderr) == (b"", 12 * CANNOT_CONNECT)


#: What control a terminal, and what a name of several lines shows there.
ODD = "a\x1b[2J\x07\x9b1m\nactive name     <x> at port 1, fd = 2\nb\u202e"
SHOWN = b"a\\x1b[2J\\x07\\x9b1m"


@pytest.mark.parametrize("option", ["-names", "-dump"])
def test_names_cannot_control_a_terminal(ours, option: str) -> None:
    with Source() as server, register(server.port, node(ODD))[0]:
        port = ["-port", str(server.port)]
        piped = outcome([C_EPMD], *port, option)
        assert outcome(ours, *port, option) == piped, "byte for byte"
        assert ODD.encode() in piped[0]
        shown = on_a_terminal([*ours, *port, option])
    lines = shown.decode().replace("\r\n", "\n")
    assert lines.replace("\n", "").isprintable()
    assert SHOWN in shown
    assert lines.startswith(f"epmd: up and running on port {server.port} with data:\n")
    assert "\\nb\\u202e" in lines


def on_a_terminal(command: list[str]) -> bytes:
    """What a program prints whose stdout is a terminal."""
    ours, theirs = os.openpty()
    try:
        assert run(command, stdout=theirs).returncode == 0
        return os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)


def test_c_lets_names_control_a_terminal() -> None:
    assert C.differs_in("names with control characters on a terminal")
    with Source() as server, register(server.port, node(ODD))[0]:
        assert b"\x1b[2J\x07" in on_a_terminal([C_EPMD, "-port", str(server.port), "-names"])


@pairs
def test_calls_of_an_empty_epmd(command, form) -> None:
    with form() as server:
        up = f"epmd: up and running on port {server.port} with data:\n".encode()
        for options, expected in {
            ("-names",): (up, b"", 0),
            ("-dump",): (up, b"", 0),
            ("-started",): (b"", b"", 0),
            ("-stop", "foo"): (b"epmd: local epmd responded with <>\n", b"", 1),
            ("-stop", ""): (b"epmd: local epmd responded with <>\n", b"", 1),
            ("-kill",): (b"Killed\n", b"", 0),
            ("-kill", ""): (b"", CANNOT_CONNECT, 1),
        }.items():
            call = [option for option in options if option or options[0] == "-stop"]
            assert outcome(command, "-port", str(server.port), *call) == expected, options


@pairs
def test_calls_of_an_epmd_with_nodes(command, form) -> None:
    with form() as server, ExitStack() as nodes:
        for request in (node("old"), node("foo"), node("узел", port=1)):
            nodes.enter_context(register(server.port, request)[0])
        up = f"epmd: up and running on port {server.port} with data:\n"
        listed = up + "name узел at port 1\nname foo at port 4711\nname old at port 4711\n"
        port = ["-port", str(server.port)]
        assert outcome(command, *port, "-names") == (listed.encode(), b"", 0)
        out, err, status = outcome(command, *port, "-dump")
        assert out.startswith(f"{up}active name     <узел> at port 1, fd = ".encode())
        assert out.endswith(b"\n\0")
        assert out.count(b"\n\0") == 3
        assert (err, status) == (b"", 0)
        refusal = b"Killing not allowed - living nodes in database.\n"
        assert outcome(command, *port, "-kill") == (refusal, b"", 1)
        assert outcome(command, *port, "-started") == (b"", b"", 0)


@pairs
def test_calls_of_a_relaxed_epmd(command, form) -> None:
    with form("-relaxed_command_check") as server, ExitStack() as nodes:
        for name in ("foo", "-names", "узел", "bar"):
            nodes.enter_context(register(server.port, node(name))[0])
        port = ["-port", str(server.port)]
        for name in ("-names", "узел"):
            assert outcome(command, *port, "-stop", name) == (b"STOPPED\n", b"", 0)
        assert outcome(command, *port, "-stop", "nobody") == (b"NOEXIST\n", b"", 0)
        assert names(server.port) == ["bar at port 4711", "foo at port 4711"]
        assert outcome(command, *port, "-kill") == (b"Killed\n", b"", 0)


@pairs
def test_environment_names_the_port(command, form) -> None:
    with form() as server:
        up = f"epmd: up and running on port {server.port} with data:\n".encode()
        port = str(server.port)
        for environ, options in (
            ({"ERL_EPMD_PORT": port}, []),
            ({"ERL_EPMD_PORT": "1"}, ["-port", port]),
            ({"ERL_EPMD_PORT": port, "ERL_EPMD_ADDRESS": "nonsense"}, []),
            ({}, ["-port", "1", "-port", port]),
            ({"ERL_EPMD_PORT": f"000000{port}"}, []),
            ({}, ["-port", f"000000{port}"]),
        ):
            assert outcome(command, *options, "-names", environ=environ) == (up, b"", 0)


USAGE_ERRORS = [
    ["-foo"],
    ["foo"],
    [""],
    ["-"],
    ["--"],
    ["-help"],
    ["--names"],
    ["-dd"],
    ["-nam"],
    ["-names=x"],
    ["-port"],
    ["-port=4369"],
    ["-address"],
    ["-packet_timeout"],
    ["-delay_accept"],
    ["-delay_write"],
    ["-stop"],
    ["-stop", "a", "b"],
    ["-stop", "a", "-d"],
    *([call, "-d"] for call in ("-names", "-dump", "-started", "-kill")),
    *([call, call] for call in ("-names", "-dump", "-started", "-kill")),
]

BAD_VALUES = [
    ["-port", "0"],
    ["-port", "x"],
    ["-port", ""],
    ["-port", "-names"],
    ["-packet_timeout", "0"],
    ["-packet_timeout", "x"],
    ["-delay_accept", "0"],
    ["-delay_accept", "soon"],
    ["-delay_write", "0"],
    ["-delay_write", "x"],
]

#: C takes these for numbers: it reads as far as it can and drops what does not fit.
BAD_VALUES_FOR_US_ALONE = [
    ["-port", "70966"],
    ["-port", "-1"],
    ["-port", "4369x"],
    ["-port", "1_0"],
    ["-port", "٣"],
    ["-port", " 1"],
    ["-port", "x", "-port", "4369"],
    ["-packet_timeout", "-5"],
    ["-packet_timeout", "9" * 30],
]


#: Of each kind one, and what a launcher might pass on in another way.
CALLED = [["-foo"], [""], ["-"], ["-help"], ["-port"], ["-stop", "a", "b"], ["-names", "-d"]]


@pytest.mark.parametrize("options", CALLED, ids=" ".join)
def test_usage(command, options: list[str]) -> None:
    out, err, status = outcome(command, *options)
    assert (out, status) == (b"", 1)
    if command == [C_EPMD] or options == ["-help"]:
        assert b"usage: epmd " in err
    else:
        assert is_one_line(err, "see epmd -help")


@pytest.mark.measured
@pytest.mark.parametrize("options", USAGE_ERRORS, ids=" ".join)
def test_usage_of_ours_as_it_is_read(options: list[str]) -> None:
    with pytest.raises(UsageWanted if options == ["-help"] else UsageError):
        read_options(options, {})


@forms(C, at="command")
@pytest.mark.parametrize("lines", [USAGE_ERRORS, BAD_VALUES], ids=["wrong lines", "bad values"])
def test_what_c_refuses(command, lines: list[list[str]]) -> None:
    for options in lines:
        out, err, status = outcome(command, *options)
        assert (out, status) == (b"", 1), options
        is_named = lines is BAD_VALUES and is_one_line(err, options[1])
        assert is_named or b"usage: epmd " in err, options


def test_what_is_wrong_is_not_lost_in_the_usage(ours) -> None:
    assert is_listed("a command line that is wrong")
    for options, reason in {
        ("-nams",): 'unknown option "-nams"',
        ("-d", "-port"): "-port needs a value",
        ("-names", "-d"): "-names must be the last option",
    }.items():
        assert outcome(ours, *options) == (b"", f"epmd: {reason}: see epmd -help\n".encode(), 1)
    out, err, status = outcome(ours, "-d", "-help")
    assert (out, err, status) == (b"", outcome(ours, "--help")[0], 1), "as of C, with our own text"


@pytest.mark.parametrize("options", [["-port", "x"], ["-port", ""], ["-delay_write", "0"]], ids=" ".join)
def test_bad_value(command, options: list[str]) -> None:
    assert options in BAD_VALUES
    out, err, status = outcome(command, *options)
    assert (out, status) == (b"", 1)
    if not is_one_line(err, options[1]):
        assert command == [C_EPMD]
        assert b"usage: epmd " in err


@pytest.mark.parametrize("options", [*BAD_VALUES, *BAD_VALUES_FOR_US_ALONE], ids=" ".join)
def test_bad_value_as_it_is_read(options: list[str]) -> None:
    with pytest.raises(ValueProblem, match=f"^{options[0]}: .*{re.escape(options[1])}"):
        read_options(options, {})


@pytest.mark.parametrize("options", [["-port", "70966"], ["-port", "٣"]], ids=" ".join)
def test_bad_value_that_c_takes(ours, options: list[str]) -> None:
    out, err, status = outcome(ours, *options)
    assert (out, status) == (b"", 1)
    assert is_one_line(err, options[1])


def is_one_line(err: bytes, about: str) -> bool:
    return err.startswith(b"epmd: ") and err.count(b"\n") == 1 and about.encode() in err


@pytest.mark.parametrize("value", ["abc", "", "0", "70966", "-1"])
def test_bad_port_in_the_environment_as_it_is_read(value: str) -> None:
    for call in ["-names"], []:
        with pytest.raises(ValueProblem, match=r"^ERL_EPMD_PORT: "):
            read_options(call, {"ERL_EPMD_PORT": value})


@pytest.mark.parametrize("value", ["abc", ""])
@pytest.mark.parametrize("call", [["-names"], []], ids=["asking", "serving"])
def test_bad_port_in_the_environment(ours, value: str, call: list[str]) -> None:
    out, err, status = outcome(ours, *call, environ={"ERL_EPMD_PORT": value})
    assert (out, status) == (b"", 1)
    assert is_one_line(err, "ERL_EPMD_PORT")


@forms(but_not_c="an invalid port or time", processes_only=True)
def test_bad_port_in_the_environment_is_no_random_port(form) -> None:
    patience = IN_VAIN if form.is_c else PATIENCE  # C serves, at some port
    assert outcome(list(form.command), "-d", environ={"ERL_EPMD_PORT": "abc"}, timeout=patience)[2] == 1


@pytest.mark.parametrize(
    "options",
    [
        ["-address", "nonsense"],
        ["-address", "203.0.113.7"],
        ["-address", "127.0.0.300"],
        ["-address", "127.0.0.1,x"],
    ],
    ids=" ".join,
)
def test_bad_address(command, options: list[str]) -> None:
    with reserved_port() as port:
        out, err, status = outcome(command, "-port", str(port), *options)
        assert (out, status) == (b"", 1)
        assert err.startswith(b"epmd: ")
        assert err.count(b"\n") == 1


NO_RESPONSE = b"epmd: no response from local epmd\n"
EMPTY = b"epmd: local epmd responded with <>\n"
ODD_ANSWERS = [
    (["-names"], b"", NO_RESPONSE, 1),
    (["-names"], b"\0\0", NO_RESPONSE, 1),
    (["-dump"], b"\0\0", NO_RESPONSE, 1),
    (["-started"], b"", b"", 1),
    (["-started"], b"\0\0\0\1", b"", 0),
    (["-kill"], b"", EMPTY, 1),
    (["-kill"], b"O", EMPTY, 1),
    (["-stop", "foo"], b"STOP", EMPTY, 1),
]


@pytest.mark.parametrize(("call", "says", "out", "status"), ODD_ANSWERS)
def test_what_answers_is_no_epmd(command, call, says: bytes, out: bytes, status: int) -> None:
    with Odd(says) as odd:
        assert outcome(command, "-port", str(odd.port), *call) == (out, b"", status)


@forms(but_not_c="another program at the port", processes_only=True)
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["-names"], b"HTTP/1.1 400"),
        (["-dump"], b"SSH-2.0-OpenSSH"),
        (["-started"], b"HTTP/1.1 400"),
        (["-kill"], b"XX"),
        (["-stop", "foo"], b"WHATEVER"),
    ],
    ids=lambda value: str(value),
)
def test_another_protocol_answers(form, call, says: bytes) -> None:
    with Odd(says) as odd:
        reason = b"epmd: invalid reply from local epmd: another program uses the port\n"
        out = b"" if call == ["-started"] else reason
        assert outcome([*form.command], "-port", str(odd.port), *call) == (out, b"", 1)


@pytest.mark.parametrize(
    ("call", "out"),
    [
        (["-names"], NO_RESPONSE),
        (["-started"], b""),
        (["-kill"], b"epmd: failed to read answer from local epmd\n"),
        (["-stop", "foo"], b"epmd: failed to read answer from local epmd\n"),
    ],
)
def test_what_answers_resets(command, call, out: bytes) -> None:
    with Odd(b"", reset=True) as odd:
        assert outcome(command, "-port", str(odd.port), *call) == (out, b"", 1)


def test_listing_that_ends_with_a_reset(command) -> None:
    with Odd(b"\0\0\0\1name foo", reset=True) as odd:
        expected = b"epmd: up and running on port 1 with data:\nname foo"
        assert outcome(command, "-port", str(odd.port), "-names") == (expected, b"", 0)


def test_output_that_nobody_takes(command) -> None:
    with Source() as server, register(server.port, node("foo"))[0], Path("/dev/full").open("wb") as full:
        how = {"stdout": full, "stderr": full}
        assert run([*command, "-port", str(server.port), "-names"], **how).returncode == 0


@pytest.mark.parametrize(
    ("option", "status"), [("--help", 0), ("--version", 0), ("--licences", 0), ("-nonsense", 1)]
)
def test_text_that_nobody_takes(ours, option: str, status: int) -> None:
    with Path("/dev/full").open("wb") as full:
        assert run([*ours, option], stdout=full, stderr=full).returncode == status
        if not status:
            done = run([*ours, option], stdout=full)
            assert done.stderr == b""
    each = ("<&-", ">&-", "2>&-") if option == "--version" else ()
    for closed in (*each, "<&- >&- 2>&-"):
        assert run(["sh", "-c", f'exec "$@" {closed}', "sh", *ours, option]).returncode == status


def test_broken_pipe_ends_it_as_it_ends_c(command) -> None:
    with Source() as server:
        reading, writing = os.pipe()
        os.close(reading)
        how = {"stdout": writing}
        assert run([*command, "-port", str(server.port), "-names"], **how).returncode == -13
        if command != [C_EPMD]:
            assert run([*command, "--help"], **how).returncode == -13
        os.close(writing)


def test_closed_standard_descriptors(command) -> None:
    with Source() as server:
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            shell = f'exec "$@" -port {server.port} -names {closed}'
            assert run(["sh", "-c", shell, "sh", *command]).returncode == 0
