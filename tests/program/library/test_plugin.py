"""The pytest plugin and its mappers, in runs of pytest that are processes of their own."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gevent_epmd import client
from gevent_epmd.program.process.watch import gone
from gevent_epmd.testing import EpmdProcess, MapperFailedError, process, running
from support.forms import C
from support.patience import LONG, PATIENCE, wait_until
from support.ports import answers
from support.programs import clean_environment, real, run
from support.scenes import run_apart

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v"]
#: Half of what a run takes is to load the plugins of other projects.
FEW_PLUGINS = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_PLUGINS": "gevent_epmd.testing.plugin,xdist.plugin",
}

#: A mapper that fails at every DUMP.
FAILING = """
from gevent_epmd.program import cli
from gevent_epmd.server import registry
registry.Registry.dump_reply = None
cli.main()
"""


@pytest.fixture(autouse=True)
def _mappers_are_not_measured(monkeypatch) -> None:
    """Under coverage each would take four times as long to start, and runs nothing that others do not."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.mark.measured
def test_mapper_of_a_test(epmd) -> None:
    assert epmd.names() == []
    with epmd.register("foo", 4711), epmd.register("bar", 4712, hidden=True, extra=b"e"):
        assert epmd.names() == [("bar", 4712), ("foo", 4711)]
        assert epmd.wait_for("bar") == 4712
        assert client.port_please("bar", port=epmd.port).extra == b"e"
        with pytest.raises(client.RefusedError):
            epmd.register("foo", 1)
        with pytest.raises(
            TimeoutError, match=r"^foo: still registered after 0\.1 s; registered nodes: bar, foo$"
        ):
            epmd.wait_gone("foo", timeout=0.1)
    epmd.wait_gone("foo")
    epmd.wait_gone("bar")
    with pytest.raises(TimeoutError, match=r"^foo: not registered after 0\.1 s; registered nodes: none$"):
        epmd.wait_for("foo", timeout=0.1)
    assert "got ALIVE2_REQ" in epmd.log()
    assert answers(epmd.port)
    assert answers(epmd.port, "::1")


@pytest.mark.measured
def test_killed_node_is_gone_for_all(epmd_session) -> None:
    registration = epmd_session.register("foo", 4711)
    epmd_session.kill_node("foo")
    assert epmd_session.names() == []
    assert registration.lost()
    registration.close()
    with pytest.raises(LookupError, match="foo"):
        epmd_session.kill_node("foo")


def test_host_with_more_addresses_than_an_epmd_takes(tmp_path: Path) -> None:
    name = socket.gethostname()
    (tmp_path / "hosts").write_text("".join(f"10.77.1.{n} {name}\n" for n in range(1, 21)))
    script = """
from gevent_epmd.testing import EpmdProcess, process
assert len(process._addresses_of_the_name()) == 20
with EpmdProcess() as epmd, epmd.register("foo", 1): print(epmd.names() == [("foo", 1)])
"""
    over = f"ip addr add 10.77.1.0/24 dev lo; mount --bind {tmp_path}/hosts /etc/hosts"
    done = run_apart([sys.executable, "-c", script], prepare=over)
    assert done.stdout == b"True\n", done.stderr


@pytest.mark.measured
def test_restart_is_at_the_same_port_without_nodes(epmd) -> None:
    registration = epmd.register("foo", 4711)
    port, pid = epmd.port, epmd.pid
    epmd.restart()
    assert (epmd.port, epmd.names()) == (port, [])
    assert epmd.pid != pid
    assert registration.lost()
    with pytest.raises(RuntimeError, match="already"):
        epmd.start()


def test_mapper_that_ends_late_on_a_slow_machine(monkeypatch) -> None:
    """It was told to end, and its port is closed when it is told again."""
    monkeypatch.setattr(running, "_PATIENCE_IF_BUSY", 0.003)
    for _ in range(3):
        with EpmdProcess():
            pass


def test_closed_mapper_holds_nothing(epmd) -> None:
    registration, pid = epmd.register("foo", 4711), epmd.pid
    epmd.close()
    epmd.close()
    assert gone(pid)
    assert not answers(epmd.port)
    assert registration._sock.fileno() == -1
    with pytest.raises(RuntimeError, match="not running"):
        epmd.log()


@pytest.mark.measured
def test_registration_that_is_closed_is_forgotten(epmd_session) -> None:
    """A test may register nodes for as long as it likes."""
    kept = epmd_session.register("kept", 4711)
    for _ in range(10):
        with epmd_session.register("foo", 4712):
            pass
    assert set(epmd_session._registrations) == {kept}
    kept.close()
    kept.close()
    assert not epmd_session._registrations


def test_unclosed_registration_lives_though_nobody_refers_to_it(epmd) -> None:
    epmd.register("foo", 4711)
    gc.collect()
    assert epmd.names() == [("foo", 4711)]


@pytest.mark.measured
def test_end_that_a_test_wants(epmd) -> None:
    client.kill(port=epmd.port)
    assert epmd.wait_ended() == 0
    assert not epmd.serves
    epmd.start()
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.01 s"):
        epmd.wait_ended(0.01)
    os.kill(epmd.pid, signal.SIGKILL)
    assert epmd.wait_ended() == -signal.SIGKILL


@pytest.mark.measured
def test_crash_and_pause_are_meant(epmd) -> None:
    registration, pid, port = epmd.register("foo", 4711), epmd.pid, epmd.port
    epmd.crash()
    assert gone(pid)
    assert registration._sock.fileno() == -1
    with pytest.raises(RuntimeError, match="not running"):
        epmd.crash()
    epmd.start()
    assert (epmd.port, epmd.names()) == (port, [])
    epmd.resume()
    epmd.pause()
    epmd.check()
    with pytest.raises(client.TooLateError):
        client.names(port=port, timeout=0.1)
    epmd.resume()
    assert epmd.names() == []
    epmd.pause()
    epmd.restart()
    assert epmd.names() == []
    epmd.pause()


#: How a mapper ends, or stays, without a word of the test, and what the report says.
ENDS = {
    "stopped": (lambda epmd: os.kill(epmd.pid, signal.SIGSTOP), "was stopped, as by SIGSTOP"),
    "killed": (lambda epmd: os.kill(epmd.pid, signal.SIGKILL), "exited with status -9"),
    "told to end": (lambda epmd: client.kill(port=epmd.port), "was shut down, for example by a KILL request"),
}


@pytest.mark.measured("check-stopped", "close-told to end", "close-killed")
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("asked", [EpmdProcess.check, EpmdProcess.close])
def test_end_that_a_test_does_not_want(how: str, asked) -> None:
    end, said = ENDS[how]
    epmd = EpmdProcess()
    epmd.start()
    assert epmd.names() == []
    pid = epmd.pid
    end(epmd)
    with pytest.raises(MapperFailedError, match=rf"{said}:\n(.*\n)*.*got EPMD_NAMES_REQ"):
        asked(epmd)
    assert gone(pid)
    assert not epmd.serves
    epmd.close()


@pytest.mark.measured
def test_several_nodes(epmd_session) -> None:
    assert epmd_session.address == (epmd_session.host, epmd_session.port)
    with socket.create_connection(epmd_session.address):
        pass
    with epmd_session.register("foo", 4711), epmd_session.register("bar", 4712):
        assert epmd_session.wait_for("foo", "bar") == (4711, 4712)
        with pytest.raises(TimeoutError, match=r"^baz, qux: not registered"):
            epmd_session.wait_for("foo", "baz", "qux", timeout=0)
        with pytest.raises(TimeoutError, match=r"^foo, bar: still registered"):
            epmd_session.wait_gone("baz", "foo", "bar", timeout=0)
        other = client.register("other", 4713, port=epmd_session.port)
        epmd_session.clear()
        assert epmd_session.names() == []
        assert other.lost()
        other.close()
    epmd_session.wait_gone("foo", "bar", "other", timeout=0)


@pytest.mark.measured
def test_shown(epmd) -> None:
    assert repr(epmd) == f"<EpmdProcess at port {epmd.port}: running with pid {epmd.pid}>"
    epmd.pause()
    assert repr(epmd) == f"<EpmdProcess at port {epmd.port}: paused with pid {epmd.pid}>"
    epmd.crash()
    assert repr(epmd) == f"<EpmdProcess at port {epmd.port}: not running>"


def test_factory_of_several(epmd_factory, epmd) -> None:
    first, second = epmd_factory(), epmd_factory("-packet_timeout", "1")
    assert len({epmd.port, first.port, second.port}) == 3
    with first as same, first.register("foo", 1):
        assert same is first
        assert second.names() == []
    with socket.create_connection(second.address, timeout=PATIENCE) as sock:
        assert sock.recv(1) == b""


@pytest.mark.measured
def test_factory_of_c(epmd_factory) -> None:
    """With the options that it knows; what a test can do with it is the same."""
    epmd = epmd_factory("-packet_timeout", "5", command=[real(C.command[0])])
    port, pid = epmd.port, epmd.pid
    with epmd.register("foo", 4711):
        assert epmd.wait_for("foo") == 4711
        epmd.kill_node("foo")
        assert epmd.names() == []
    epmd.check()
    epmd.restart()
    assert (epmd.port, epmd.names()) == (port, [])
    assert gone(pid)
    client.kill(port=port)
    assert epmd.wait_ended() == 0
    with pytest.raises(TypeError, match="list of str"):
        epmd_factory(command="epmd")
    with pytest.raises(MapperFailedError, match="did not start"):
        epmd_factory("-nonsense", command=[C.command[0]])


def test_c_ends_with_the_process_that_started_it() -> None:
    script = f"""
import os, signal
from gevent_epmd.testing import EpmdProcess
with EpmdProcess(command=[{real(C.command[0])!r}]) as epmd:
    print(epmd.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run([sys.executable, "-c", script])
    wait_until(lambda: gone(int(done.stdout)), "C's epmd to end")


@pytest.mark.measured
def test_old_pytest_is_named(pytester: pytest.Pytester, monkeypatch) -> None:
    """It has no hooks that the fixtures need, and all other tests run."""
    monkeypatch.setattr(pytest, "__version__", "7.1.3")
    pytester.makepyfile("def test_used(epmd): pass\ndef test_other(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["the fixtures of gevent-epmd need pytest 8 or later, and this is 7.1.3"])


FACTORY = """
import os, signal, pytest

@pytest.fixture(scope="module")
def wide(epmd_factory):
    made = epmd_factory("-packet_timeout", "5")
    yield made
    assert made.names() == [], "it ends after the fixture"

@pytest.fixture
def narrow(epmd_factory): return epmd_factory()

pids = []
def test_wide(wide): os.kill(wide.pid, signal.SIGKILL)
def test_other(): pass
def test_wide_is_fresh(wide): assert wide.names() == []
def test_narrow(narrow, epmd_factory):
    pids.extend((narrow.pid, epmd_factory().pid))
def test_narrow_has_gone():
    for pid in pids:
        with pytest.raises(ProcessLookupError): os.kill(pid, 0)
def test_stopped(epmd_factory): os.kill(epmd_factory().pid, signal.SIGSTOP)
def test_log(narrow):
    narrow.register("loud", 1)
    assert False
def test_asked_while_it_runs(request): assert request.getfixturevalue("narrow").names() == []
"""


@pytest.mark.measured
def test_factory_in_every_scope(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FACTORY)
    result = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=7, failed=1, errors=2)
    result.stdout.fnmatch_lines(["*::test_wide ERROR*", "*::test_stopped ERROR*"])
    result.stdout.fnmatch_lines(["*exited with status -9*", "*was stopped, as by SIGSTOP*"])
    result.stdout.fnmatch_lines(["*registering 'loud:*"])


ASKED = """
def test_first(epmd_session): pass
def test_other(): pass
def test_last(epmd_session): assert epmd_session.log().count("EPMD_NAMES_REQ") == 1
"""


@pytest.mark.measured
def test_session_is_asked_only_by_tests_that_use_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ASKED)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_name_is_free_when_its_registration_is_closed(epmd_session) -> None:
    for _ in range(100):
        with epmd_session.register("foo", 4711):
            pass
        assert epmd_session.names() == []


@pytest.mark.measured("wait_gone")
@pytest.mark.parametrize("wait", ["wait_for", "wait_gone"])
def test_wait_keeps_its_limit(wait: str) -> None:
    """Also if the mapper does not answer, and does not know the node."""
    with EpmdProcess() as epmd:
        epmd.pause()
        with pytest.raises(TimeoutError, match=r"registered after 0\.2 s; the epmd does not answer$"):
            getattr(epmd, wait)("foo", timeout=0.2)
        epmd.crash()
        with pytest.raises(client.NoEpmdError):
            getattr(epmd, wait)("foo", timeout=PATIENCE)


@pytest.mark.measured
def test_environment(epmd, monkeypatch) -> None:
    monkeypatch.setenv("FOO", "bar")
    monkeypatch.delenv("ERL_ZFLAGS", raising=False)
    assert epmd.environ == os.environ | {"ERL_EPMD_PORT": str(epmd.port), "ERL_ZFLAGS": "-start_epmd false"}
    monkeypatch.setenv("ERL_ZFLAGS", "+S 1")
    assert epmd.environ["ERL_ZFLAGS"] == "+S 1 -start_epmd false"


def test_environment_of_the_mapper(monkeypatch, tmp_path: Path) -> None:
    """What is for another epmd is not for this one, and what is relative stays where it was."""
    for variable in ("ERL_EPMD_PORT", "ERL_EPMD_ADDRESS", "LISTEN_FDS"):
        monkeypatch.setenv(variable, "nonsense")
    (tmp_path / "socket.py").write_text("raise ImportError")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "docopt.py").write_text("raise OSError('here')")
    monkeypatch.chdir(tmp_path)
    with EpmdProcess():
        pass
    monkeypatch.setenv("PYTHONPATH", "here")
    with pytest.raises(MapperFailedError, match="OSError: here"):
        EpmdProcess().start()


@pytest.mark.measured
def test_mapper_that_does_not_start() -> None:
    epmd = EpmdProcess("-nonsense")
    with pytest.raises(MapperFailedError, match="unknown option"):
        epmd.start()
    assert not epmd.serves


@pytest.mark.measured
def test_mapper_that_plays_busy_is_ended_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr(running, "_PATIENCE_IF_BUSY", 0.2)
    with EpmdProcess("-delay_accept", "600") as epmd:
        pid = epmd.pid
        epmd.check()
    assert gone(pid)


def test_own_name_leads_to_it(epmd_session) -> None:
    with socket.create_connection((socket.gethostname(), epmd_session.port), timeout=PATIENCE) as sock:
        sock.sendall(b"\0\1n")
        assert len(sock.recv(4)) == 4


@pytest.fixture
def where(monkeypatch):
    """The options, where the host's own name leads to these addresses."""

    def where(*addresses: str) -> tuple[str, ...]:
        monkeypatch.setattr(process, "_addresses_of_the_name", lambda: set(addresses))
        return process._where.__wrapped__()

    return where


@pytest.mark.measured
def test_where_it_listens(where) -> None:
    assert where() == where("127.0.0.1", "127.0.1.1", "::1") == where("192.0.2.1") == ()
    options = where("127.0.0.5", "192.0.2.1")
    assert options == ("-address", "127.0.0.5", "-allow", "127.0.0.1")
    with EpmdProcess(*options) as epmd:
        assert [answers(epmd.port, f"127.0.{n}") for n in ("0.5", "0.1", "0.6")] == [True, True, False]


def test_it_listens_on_loopback_alone(monkeypatch) -> None:
    monkeypatch.setattr(process, "_where", tuple)  # this host's name leads nowhere else
    with EpmdProcess() as epmd:
        assert [answers(epmd.port, f"127.0.{n}") for n in ("0.1", "1.1", "0.2")] == [True, True, False]
        assert answers(epmd.port, "::1")


class Project:
    """A folder of tests, and runs of pytest on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("pytest.ini", "[pytest]\n")
        self.write("conftest.py", "")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def run(self, *options: str, environ: dict[str, str] = FEW_PLUGINS) -> str:
        done = run(
            [*PYTEST, *options],
            environ=environ,
            cwd=self.folder,
            stderr=subprocess.STDOUT,
            timeout=LONG,
        )
        return done.stdout.decode()

    def start(self, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*PYTEST, *options],
            cwd=self.folder,
            env=clean_environment(**FEW_PLUGINS),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def outcomes(output: str) -> dict[str, list[str]]:
    """{test: its outcomes} of a run with -v."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        if line.startswith("test_it.py::"):
            name, outcome = line.removeprefix("test_it.py::").split()[:2]
            found.setdefault(name, []).append(outcome)
    return found


@pytest.mark.slow
def test_failure_inside_fails_the_test_that_caused_it(project) -> None:
    project.write(
        "conftest.py",
        f"""
import sys
from gevent_epmd.testing import EpmdProcess
EpmdProcess.command = (sys.executable, "-c", {FAILING!r})
""",
    )
    project.write(
        "test_it.py",
        """
import os, pytest, signal
from gevent_epmd import client

def dump(epmd):
    with pytest.raises(client.BadAnswerError):
        client.dump(port=epmd.port)

def test_first(epmd, epmd_session): assert epmd.port != epmd_session.port
def test_own(epmd): dump(epmd)
def test_own_died(epmd): os.kill(epmd.pid, signal.SIGSEGV)
def test_own_ended(epmd): client.kill(port=epmd.port)
def test_own_stopped(epmd): os.kill(epmd.pid, signal.SIGSTOP)
def test_own_meant(epmd): epmd.crash()
def test_between(epmd, epmd_session): epmd.register("foo", 1)
def test_shared(epmd_session): dump(epmd_session)
def test_shared_again(epmd_session): dump(epmd_session)
def test_good(epmd_session): assert epmd_session.names() == []
def test_shared_died(epmd_session): os.kill(epmd_session.pid, signal.SIGSEGV)
def test_as_good_as_new(epmd_session): assert epmd_session.names() == []
def test_shared_ended(epmd_session): client.kill(port=epmd_session.port)
def test_shared_stopped(request):
    os.kill(request.getfixturevalue("epmd_session").pid, signal.SIGSTOP)
def test_shared_meant(epmd_session): epmd_session.crash()
def test_shared_paused(epmd_session): epmd_session.pause()
def test_other(epmd): pass
def test_closed(epmd_session): epmd_session.close()
def test_own_closed(epmd): epmd.close()
def test_last(epmd, epmd_session): assert epmd.names() == epmd_session.names() == []
""",
    )
    output = project.run()
    own = ["own", "own_died", "own_ended", "own_stopped"]
    bad = [*own, "shared", "shared_again", "shared_died", "shared_ended", "shared_stopped"]
    found = outcomes(output)
    assert len(found) == 20, output
    assert {name for name, what in found.items() if "ERROR" in what} == {f"test_{name}" for name in bad}, (
        output
    )
    assert found.pop("test_closed") == ["FAILED"], output
    assert all(what[0] == "PASSED" for what in found.values()), output
    assert re.search(r"^test_it.py:\d+: RuntimeError$", output, re.MULTILINE), "the line that closes it"
    for said in ("internal error", "status -11", "by a KILL request", "as by SIGSTOP"):
        assert said in output


def test_log_is_shown_where_a_test_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import pytest
def test_good(epmd_session): assert epmd_session.register("quiet", 1)
def test_own(epmd):
    epmd.register("loud", 1)
    assert False
def test_none(epmd_session): assert False
def test_skipped(epmd): pytest.skip("no")
""")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    output = result.stdout.str()
    assert output.count("Captured epmd at port") == 1
    assert "registering 'loud:" in output
    assert "registering 'quiet:" not in output


def test_options_may_be_overridden(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
import pytest

@pytest.fixture(scope="session")
def epmd_options():
    return ["-address", "127.0.0.7", "-allow", "127.0.0.0/8"]
""")
    pytester.makepyfile("""
import socket
def test_it(epmd, epmd_session):
    for mapper in (epmd, epmd_session):
        socket.create_connection(("127.0.0.7", mapper.port)).close()
""")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.slow
def test_workers_have_their_own(project) -> None:
    project.write(
        "test_it.py",
        """
import os, pathlib, pytest
@pytest.mark.parametrize("number", range(4))
def test_it(epmd_session, epmd, worker_id, number):
    with open(f"{worker_id}.ports", "a") as file:
        print(epmd_session.port, epmd_session.pid, file=file)
    with epmd.register("foo", 1), epmd_session.register(f"foo", 1):
        epmd.wait_for("foo")
    epmd_session.wait_gone("foo")
""",
    )
    output = project.run("-n", "2")
    assert "4 passed" in output, output
    shared = [set(path.read_text().splitlines()) for path in project.folder.glob("*.ports")]
    assert all(len(mappers) == 1 for mappers in shared)
    assert len(set.union(*shared)) == len(shared) > 1
    for mapper in set.union(*shared):
        assert gone(int(mapper.split()[1]))


def test_it_costs_nothing_where_it_is_not_used(project) -> None:
    project.write(
        "test_it.py",
        """
import sys
def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("gevent_epmd")
    assert not pytestconfig.pluginmanager.has_plugin("gevent_epmd.watcher")
    loaded = {name for name in sys.modules if name.startswith("gevent")}
    assert loaded == {"gevent_epmd", "gevent_epmd.testing", "gevent_epmd.testing.plugin"}
def test_used(epmd):
    assert epmd.names() == []
    assert "gevent" not in sys.modules
""",
    )
    output = project.run(environ={})
    assert "2 passed" in output, output


HANGING = """
import os, pathlib, threading, pytest

@pytest.mark.parametrize("number", range({tests}))
def test_it(epmd, epmd_session, number):
    if {forks} and not os.fork():
        threading.Event().wait()
    path = pathlib.Path("aside" + str(os.getpid()))
    path.write_text(f"{{epmd.pid}} {{epmd_session.pid}}")
    path.replace(path.with_suffix(".pids"))
    threading.Event().wait()
"""


def workers_of(project, process: subprocess.Popen) -> set[int]:
    """The processes in which the tests run, where the run that was started is none of them."""
    return {int(path.stem.removeprefix("aside")) for path in project.folder.glob("*.pids")} - {process.pid}


@pytest.mark.slow(10)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
@pytest.mark.parametrize(("tests", "options"), [(1, ()), (2, ("-n", "2"))], ids=["alone", "workers"])
def test_nothing_is_left_of_a_run_that_is_ended(project, how, tests: int, options: tuple[str, ...]) -> None:
    """Also where a child of a test lives on."""
    project.write("test_it.py", HANGING.format(tests=tests, forks=how == signal.SIGKILL))
    process = project.start(*options)
    try:
        wait_until(lambda: len(list(project.folder.glob("*.pids"))) == tests, "all tests", LONG)
        mappers = [int(pid) for path in project.folder.glob("*.pids") for pid in path.read_text().split()]
        assert len(mappers) == 2 * tests
        assert not any(map(gone, mappers))
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
            process.wait(PATIENCE)
        else:
            # A worker that cannot move ends nothing: the mappers must watch the controller themselves.
            for worker in workers_of(project, process):
                os.kill(worker, signal.SIGSTOP)
            process.send_signal(how)
        wait_until(lambda: all(map(gone, mappers)), "all mappers to end")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
