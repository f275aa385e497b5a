"""Whatever bytes an option or a variable has: a result, a line on stderr or the usage, and no traceback."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gevent_epmd.program.options import USAGE, known_options
from support.paths import BUILT, SOURCE
from support.patience import LONG, PATIENCE, wait_until
from support.programs import clean_environment, outcome, real, run
from support.scenes import run_apart
from support.strangers import Odd

#: What no option and no variable is meant to have.
RUBBISH = [
    b"\xff\xfe", b"a\nb", b"\x1b[31m\r\x08", b"", b"-", b"0", b"-1", b"%s{0}", "\u0663".encode(),
    "\u202e\u009b\u2028".encode(), b"\xed\xb3\xbf", b"/", b"127.0.0.1%lo", b"9" * 5000, b"a" * 70_000,
    b"," * 300,
]  # fmt: skip
VARIABLES = sorted(set(re.findall(r"\bERL_EPMD_\w+", USAGE)) | {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"})
#: Not -check, which takes a second and more, and threads: it is played below, in processes of its own.
CALLS = [
    [], ["-daemon"], ["-systemd"], ["-names"], ["-dump"], ["-started"], ["-kill"], ["-stop", "foo"],
    ["-json", "-names"], ["-json", "-dump"], ["-host", "127.0.0.1", "-names"], ["-host", "::1", "-started"],
    ["--help"], ["--version"], ["--licences"], ["-help"],
]  # fmt: skip

PORT = "4369"  # in a network of its own
#: Makes each of the calls that stdin has, in a child of its own: an argument list and an environment a line.
#: There is an epmd that has a node: nobody who starts serves, and nobody ends it.
#: What a child would import or compile takes more time than the call itself, so it is done before.
DRIVER = """
import ipaddress, json, os, subprocess, sys, tempfile
from gevent_epmd import client
from gevent_epmd.client import answers
from gevent_epmd.program import calls, cli, occupant, options, start
from gevent_epmd.server import log

options.read_options(["-d"], {})

server = subprocess.Popen([sys.executable, "-m", "gevent_epmd"], stdin=subprocess.DEVNULL)
while not client.started():
    assert server.poll() is None
node = client.register("foo", 1)
for line in sys.stdin:
    arguments, environ = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ.update(environ)
            sys.argv[1:] = arguments
            status = 99
            try:
                status = cli.main()
            except SystemExit:
                status = 98
            except BaseException:
                import traceback
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        err.seek(0)
        said = err.read().decode("latin-1")
    print(json.dumps([status, said]), flush=True)
"""


#: For one option and one value: the start, where most values are read, and so many of the other calls; other
#: ones for the next, in turn.
OTHERS = int(os.environ.get("EPMD_HOSTILE_CALLS", "1"))


def some_calls(place: int) -> list[list[bytes]]:
    start, *others = [[os.fsencode(word) for word in call] for call in CALLS]
    return [start, *(others[(place + number) % len(others)] for number in range(OTHERS))]


def lines(value: bytes, turn: int) -> list[tuple[list[bytes], dict[str, bytes]]]:
    """Every option and every variable with this value, for some calls."""
    at = [b"-port", PORT.encode()]
    found = []
    for place, (option, takes_a_value) in enumerate(known_options().items(), turn):
        if takes_a_value:
            found += [([option.encode(), value, *at, *call], {}) for call in some_calls(place)]
        elif value:
            found.append(([option.encode() + value, *at], {}))
    for place, variable in enumerate(VARIABLES, turn):
        found += [
            (call if variable == "ERL_EPMD_PORT" else [*at, *call], {variable: value})
            for call in some_calls(place)
        ]
    found += [([value], {}), ([*at, b"-stop", value], {}), ([b"-host", value, *at, b"-names"], {})]
    return found


def test_every_option_and_variable_meets_every_call() -> None:
    """With some value, and each value meets every call; EPMD_HOSTILE_CALLS=15 plays all of each."""
    played = [(turn, line) for turn, value in enumerate(RUBBISH) for line in lines(value, turn)]
    for call in CALLS:
        words = [os.fsencode(word) for word in call]
        tail = words or [b"-port", PORT.encode()]
        ended = [(turn, line) for turn, line in played if line[0][-len(tail) :] == tail or line[0] == words]
        assert {turn for turn, _ in ended} == {*range(len(RUBBISH))}, call
        for option, takes_a_value in known_options().items():
            met = any(line[0][:1] == [option.encode()] for _, line in ended)
            assert met or not takes_a_value, (option, call)
        assert {variable for _, line in ended for variable in line[1]} == {*VARIABLES}, call


def assert_calm(call, status: int, said: str) -> None:
    assert status in (0, 1), (call, status, said)
    assert "Traceback" not in said, (call, said)
    rest = said.removeprefix(USAGE)
    assert rest.count("\n") <= 1, (call, said)
    assert not rest or rest.startswith("epmd: "), (call, said)
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f]*", rest.removesuffix("\r\n")), (call, said)


#: So many processes play them: with one for each value, the servers cost more than the calls.
SHARES = 4


@pytest.mark.parametrize("share", range(SHARES))
def test_every_option_and_variable_with_rubbish(share: int, tmp_path: Path) -> None:
    turns = range(share, len(RUBBISH), SHARES)
    calls = [line for turn in turns for line in lines(RUBBISH[turn], turn)]
    text = "".join(
        json.dumps([[*map(os.fsdecode, words)], {k: os.fsdecode(v) for k, v in more.items()}]) + "\n"
        for words, more in calls
    )
    done = run_apart(
        [sys.executable, "-c", DRIVER], input=text.encode(), stdin=None, cwd=tmp_path, timeout=LONG
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(calls), done.stderr
    for call, (status, said) in zip(calls, results, strict=True):
        assert_calm(call, status, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [b"\xff", b"", b"a\nb", b"\x1b[31m", b"127.0.0.1%lo", b"a" * 70_000])
def test_check_of_rubbish(value: bytes) -> None:
    # An invalid port is refused before anything is looked at, so one of them will do.
    ports = [[b"-port", value, b"-check"]] if value == b"\xff" else []
    for line in [b"-host", value, b"-check"], *ports:
        done = run_apart([*map(os.fsencode, SOURCE), *line], timeout=PATIENCE)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


#: PyInstaller's launcher ends with status 255 and a complaint of its own: it hands the line to Python by
#: functions that take UTF-8 (PEP 741).
NOT_UTF8 = pytest.mark.xfail(
    sys.version_info >= (3, 14), reason="executables of Python 3.14 and newer take UTF-8 alone"
)


@pytest.mark.parametrize("value", [pytest.param(b"\xff", marks=NOT_UTF8), b"a\nb", b"\x1b[31m"])
def test_rubbish_in_the_executable(value: bytes) -> None:
    for line in ([b"-port", value], [b"-foo" + value], [b"-address", value]):
        done = run([os.fsencode(real(BUILT)), *line])
        assert_calm(line, done.returncode, done.stderr.decode("latin-1"))
        assert done.returncode == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--help", "abc"),
        ("--licences", "abc"),
        ("--version", "abc"),
        ("--version", ""),
        ("--version", "70966"),
    ],
)
def test_text_about_itself_needs_no_good_environment(ours, option: str, value: str) -> None:
    done = run([*ours, option], environ={"ERL_EPMD_PORT": value})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"epmd" in done.stdout


HOSTILE_REPLY = (
    "name \x1b[31m\r\x07é\u009b at port 1\nname ok at port 2\n".encode() + b"name \xff at port 3\n"
)


def test_other_hosts_cannot_write_to_the_terminal(ours) -> None:
    with Odd(b"\0\0\x11\x11" + HOSTILE_REPLY) as odd:
        out, err, status = outcome(ours, "-port", str(odd.port), "-host", "127.0.0.1", "-names")
    assert (err, status) == (b"", 0)
    _, *listed = out.decode().split("\n")
    assert listed == [r"name \x1b[31m\r\x07é\x9b at port 1", "name ok at port 2", r"name \xff at port 3", ""]


def test_json_cannot_write_to_the_terminal(ours) -> None:
    with Odd(b"\0\0\x11\x11" + HOSTILE_REPLY) as odd:
        out = outcome(ours, "-port", str(odd.port), "-host", "127.0.0.1", "-json", "-names")[0]
    assert out.decode().removesuffix("\n").isprintable()
    names = [each["name"] for each in json.loads(out)["nodes"]]
    assert names == ["\x1b[31m\r\x07é\x9b", "ok", "\udcff"]


def test_this_host_is_printed_as_it_is(command) -> None:
    with Odd(b"\0\0\x11\x11" + HOSTILE_REPLY) as odd:
        out = outcome(command, "-port", str(odd.port), "-names")[0]
    assert out.partition(b"\n")[2] == HOSTILE_REPLY


def test_output_that_does_not_block_is_whole(ours) -> None:
    """As programs that start others leave their pipes, and terminals."""
    text = b"name foo at port 4711\n" * 16_000
    with Odd(b"\0\0\x11\x11" + text) as odd:
        call, reading = filling(ours, odd.port)
        with os.fdopen(reading, "rb") as pipe:
            out = pipe.read()
        assert call.wait(PATIENCE) == 0
    assert out.partition(b"\n")[2] == text


def filling(ours: list[str], port: int) -> tuple[subprocess.Popen[bytes], int]:
    """A call that has filled its output, which does not block, and the end from which that can be read."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    call = subprocess.Popen([*ours, "-port", str(port), "-names"], stdout=writing, env=clean_environment())
    wait_until(lambda: is_full(writing), "the pipe to be full")
    os.close(writing)
    return call, reading


def is_full(pipe: int) -> bool:
    return not select.select([], [pipe], [], 0)[1]


def test_reader_that_leaves_an_output_that_does_not_block(ours) -> None:
    with Odd(b"\0\0\x11\x11" + b"name foo at port 4711\n" * 16_000) as odd:
        call, reading = filling(ours, odd.port)
        os.close(reading)
        assert call.wait(PATIENCE) == -signal.SIGPIPE, "as C"
