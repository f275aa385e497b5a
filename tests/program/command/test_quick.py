"""Quick lines: the same as the full way does, and with few imports."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import example, given, settings, strategies as st

from gevent_epmd.program import line, options, quick
from support.forms import C, InProcess, Source
from support.paths import ROOT
from support.peer import node, register
from support.ports import reserved_port
from support.programs import real, run
from support.strangers import Http

#: Makes each of the calls that the argument lists, in a child each, by the quick way and by the full way, and
#: prints what came of either: stdout, stderr, status.  The status is 200 where the line is not a quick one.
DRIVER = """
import json, os, sys, tempfile
from gevent_epmd.program import cli, quick

def outcome(arguments, environ, answer):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ.update(environ)
            sys.argv[1:] = arguments
            quick.answer = answer
            os._exit(cli.main())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return [file.seek(0) or file.read().decode("latin-1") for file in (out, err)] + [status]

right = quick.answer

def quickly(arguments, environ):
    status = right(arguments, environ)
    os._exit(200 if status is None else status)

seen = []
for arguments, environ in json.loads(sys.argv.pop(1)):
    fast = outcome(arguments, environ, quickly)
    seen.append([fast, fast if fast[2] == 200 else outcome(arguments, environ, lambda *_: None)])
json.dump(seen, sys.stdout)
"""


#: The options of our own that only matter to an epmd that serves.
SERVING = (
    "ALLOW",
    "ALLOW_REGISTER",
    "NOT_LOCAL",
    "USER",
    "IDLE_EXIT",
    "PACKET_TIMEOUT",
    "PID_EXIT",
    "PORT_FILE",
    "PID_FILE",
)


def played(calls: list) -> list:
    done = run([sys.executable, "-c", DRIVER, json.dumps(calls)])
    assert done.stderr == b""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ports():
    """Ports at which there is an epmd with two nodes, C's, one of another protocol, and nobody."""
    with Source() as ours, C() as c, Http() as stranger, reserved_port() as nobody:
        names = ("foo", "a\r\nb\x1b[2J", "ö" * 255)
        held = [register(port, node(name))[0] for port in (ours.port, c.port) for name in names]
        yield [ours.port, c.port, stranger.port, nobody]
        for peer in held:
            peer.close()


def test_quick_lines_do_what_the_full_way_does(ports: list[int]) -> None:
    served = [str(port) for port in ports[:2]]
    spellings = st.sampled_from(
        [*map(str, ports), f"00{served[0]}", "", "0", "65536", "abc", "1_0", "٣", "-1", " 1"]
    )
    lines = st.one_of(
        st.tuples(st.sampled_from(["-names", "-started"])),
        st.tuples(st.just("-port"), spellings, st.sampled_from(["-names", "-started"])),
        # Only where an epmd answers, or with an invalid port: elsewhere the full way would serve.
        st.tuples(st.just("-port"), st.sampled_from([*served, "0", "abc"]), st.just("-daemon")),
        st.tuples(st.just("-daemon"), st.just("-port"), st.sampled_from([*served, "0", "abc"])),
        st.tuples(st.sampled_from(["-daemon", "-names", "-d"]), st.sampled_from(["-names", "-started"])),
        st.tuples(
            st.sampled_from(["-port", "-d", "-names"]),
            spellings,
            st.sampled_from(["-names", "-started", "-dump", "-json", "--help", "-stop"]),
        ),
    )
    # Whoever asks is not told what is wrong with the settings of an epmd that would serve.
    serving = {f"ERL_EPMD_{name}": st.sampled_from(["", "1", "nonsense"]) for name in SERVING}
    environs = st.fixed_dictionaries(
        {},
        optional={
            "ERL_EPMD_PORT": spellings.filter(bool),
            "ERL_EPMD_RELAXED_COMMAND_CHECK": st.just(""),
            **serving,
        },
    )
    answered = 0

    @settings(max_examples=12, database=None)
    @given(st.lists(st.tuples(lines, environs), min_size=5, max_size=25))
    def compare(calls: list) -> None:
        nonlocal answered
        for call, (fast, full) in zip(calls, played(calls), strict=True):
            answered += fast[2] != 200
            assert fast == full, call

    compare()
    assert answered > 20


@pytest.mark.parametrize(
    "environ",
    [
        {"ERL_EPMD_USER": "nosuch"},
        {"ERL_EPMD_IDLE_EXIT": "60", "ERL_EPMD_USER": "nobody"},
        {"ERL_EPMD_RELAXED_COMMAND_CHECK": "", "ERL_EPMD_IDLE_EXIT": "2147483647"},
        {"ERL_EPMD_PACKET_TIMEOUT": "5"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
    ],
    ids=str,
)
def test_daemon_with_variables_of_an_epmd_that_serves_is_quick(ports: list[int], environ) -> None:
    [(quick, full)] = played([[["-port", str(ports[0]), "-daemon"], environ]])
    assert quick == full == ["", "", 0]


@pytest.mark.parametrize("seconds", ["", "0", "soon", "2147483648"])
def test_bad_number_takes_the_full_way(ports: list[int], seconds: str) -> None:
    for name in ("IDLE_EXIT", "PACKET_TIMEOUT"):
        [(quick, _)] = played([[["-port", str(ports[0]), "-daemon"], {f"ERL_EPMD_{name}": seconds}]])
        assert quick[2] == 200


@pytest.mark.parametrize("variable", ["ERL_EPMD_ADDRESS", "ERL_EPMD_LOOPBACK", "ERL_EPMD_ANYTHING_NEW"])
def test_daemon_that_is_to_listen_elsewhere_takes_the_full_way(ports: list[int], variable: str) -> None:
    line = ["-port", str(ports[0]), "-daemon"]
    (plain, _), (other, _) = played([[line, {}], [line, {variable: "127.0.0.5"}]])
    assert (plain[2], other[2]) == (0, 200)


@pytest.mark.measured
def test_which_line_of_a_daemon_is_quick() -> None:
    """The same in this process, where it costs little under coverage."""
    with InProcess() as server:
        line = ["-port", str(server.port), "-daemon"]
        for environ in {}, {"ERL_EPMD_IDLE_EXIT": "60", "ERL_EPMD_USER": "nobody"}:
            assert quick.answer(line, environ) == 0
        for environ in {"ERL_EPMD_LOOPBACK": "1"}, {"ERL_EPMD_IDLE_EXIT": "soon"}:
            assert quick.answer(line, environ) is None


KNOWN = options.known_options()
#: What may be a value and what may not, with the options.
WORDS = st.sampled_from([*KNOWN, *KNOWN, "5000", "", "abc", "-", "--port", "a=b"])


def test_quick_lines_know_a_part_of_the_options() -> None:
    assert line.QUICK.items() <= KNOWN.items()
    assert {*line.INTERACTIVE} <= {*KNOWN}


@settings(max_examples=250, database=None)
@given(st.lists(WORDS, max_size=6))
@example(["-port", "-daemon", "-daemon"])
@example(["-port", "1", "-d", "-port", "2", "-debug", "-d", "-names"])
@example(["-check", "-host", "-json", "-json"])
def test_line_is_read_as_docopt_reads_it(words: list[str]) -> None:
    try:
        read = line.read(words, KNOWN)
    except line.UsageError:
        return
    found = options._Found(("-debug" if option == "-d" else option, value) for option, value in read)
    assert options._docopt(read) == found
    try:
        quick = line.read(words, line.QUICK)
    except line.UsageError:
        return
    assert quick == read


IMPORTS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
before = set(sys.modules)
from gevent_epmd.program import cli
status = cli.main()
sys.stderr.write(" ".join(sorted(set(sys.modules) - before)))
"""
#: All that a quick line may import: each module more is paid for at every start of every Erlang node.
ALLOWED = {"__future__", "_socket", "gevent_epmd"} | {
    f"gevent_epmd.{module}"
    for module in (
        "wire",
        "conventions",
        "client",
        "client.exchange",
        "program",
        "program.cli",
        "program.calls",
        "program.line",
        "program.quick",
    )
}


ENVIRONMENT = """
import sys
sys.path.insert(0, sys.argv[1])
from gevent_epmd.program import environment
without = environment()
assert "os" not in sys.modules
import os
assert without == dict(os.environ)
os.environ["LATER"] = "1"
assert environment()["LATER"] == "1"
print(ascii(without["ERL_EPMD_ADDRESS"]))
"""


def test_environment_is_that_of_os_without_it() -> None:
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", ENVIRONMENT, str(ROOT / "lib")]
    done = run(command, environ={"ERL_EPMD_ADDRESS": "\udcff=ö"})
    assert (done.stdout, done.stderr) == (b"'\\udcff=\\xf6'\n", b"")


@pytest.fixture(params=["alone", "child of process 1"])
def before(request) -> list[str]:
    """The beginning of a command line, which makes its parent the one that is named."""
    if request.param == "alone":
        return []
    apart = [real("unshare"), "--map-root-user", "--pid", "--fork", "--kill-child"]
    # Without the second command the shell would run the first in its own place.
    return [*apart, "sh", "-c", '"$@"; exit $?', "sh"]


@pytest.mark.parametrize("option", ["-names", "-started", "-daemon"])
def test_quick_line_imports_nothing_else(ports: list[int], option: str, before: list[str]) -> None:
    command = [sys.executable, "-I", "-S", "-c", IMPORTS, str(ROOT / "lib"), "-port", str(ports[0]), option]
    done = run([*before, *command])
    assert done.returncode == 0
    assert set(done.stderr.decode().split()) == ALLOWED
