"""The variables of the options of our own that serve: a node that starts its epmd can pass nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import usage
from gevent_epmd.program.options import ValueProblem, read_options
from support.daemons import daemon
from support.forms import Built, Folder, Source, answers, outcome, reserved_port, run, wait_until
from support.peer import ask

#: A value of each, and one that is invalid.
VALUES = {
    "allow": ("10.0.0.0/8", "nonsense"),
    "allow_register": ("10.0.0.0/8, fd00::/8", "10.0.0.1/8"),
    "not_local": ("127.0.0.6, 10.0.0.7", "127.0.0.6/8"),
    "user": ("nobody:nogroup", "no:such"),
    "idle_exit": ("60", "soon"),
    "pid_exit": ("1,2", "self"),
    "port_file": ("/port", "/nowhere/port"),
    "pid_file": ("/pid", "/nowhere/pid"),
}
#: Those that are not looked up before it listens.
BAD = {name: bad for name, (_, bad) in VALUES.items() if name != "user"}

each_program = pytest.mark.parametrize("form", [Source, Built, Folder], ids=lambda form: form.__name__)
each_bad = pytest.mark.parametrize("name", BAD)


def variable(name: str) -> str:
    return f"ERL_EPMD_{name.upper()}"


def test_each_option_that_serves_has_one() -> None:
    [own] = [options for title, options in usage.sections() if title.startswith("Serving, not in C's epmd")]
    with_a_value = {option.spellings[0].lstrip("-") for option in own if option.value}
    assert with_a_value == VALUES.keys()
    for name, (value, _) in VALUES.items():
        by_variable = read_options([], {variable(name): value})
        by_line = read_options([f"-{name}", value], {})
        if by_line.user:
            by_line = by_line._replace(user=by_line.user._replace(where=variable(name)))
        assert by_variable == by_line._replace(must_serve=False) != read_options([], {})
        assert by_line.must_serve == name.endswith("_file")


@pytest.mark.parametrize("name", VALUES)
def test_line_counts_more_and_nothing_counts_as_not_set(name: str) -> None:
    value, bad = VALUES[name]
    line = [f"-{name}", value]
    assert read_options(line, {variable(name): bad}) == read_options(line, {})
    assert read_options([], {variable(name): ""}) == read_options([], {})


@each_bad
def test_fault_names_the_variable(name: str) -> None:
    with pytest.raises(ValueProblem, match=f"^{variable(name)}: "):
        read_options([], {variable(name): BAD[name]})


@pytest.mark.parametrize("name", ["port_file", "pid_file"])
def test_daemon_has_no_stdout(name: str) -> None:
    with pytest.raises(ValueProblem, match=f"^{variable(name)} -: a daemon has no stdout"):
        read_options(["-daemon"], {variable(name): "-"})


@each_bad
@pytest.mark.parametrize("option", ["-daemon", "-d"])
def test_bad_value(ours, name: str, option: str) -> None:
    with reserved_port() as port:
        out, err, status = outcome(ours, "-port", str(port), option, environ={variable(name): BAD[name]})
    assert (out, status) == (b"", 1)
    assert err.startswith(f"epmd: {variable(name)}: ".encode())
    assert err.count(b"\n") == 1


@pytest.mark.parametrize("line", [["-names"], ["-started"], ["-d", "-names"], ["-dump"]], ids=" ".join)
def test_who_asks_is_not_told(ours, line: list[str]) -> None:
    environ = {variable(name): bad for name, (_, bad) in VALUES.items()}
    with Source() as server:
        call = [*ours, "-port", str(server.port)]
        assert outcome(call, *line, environ=environ) == outcome(call, *line)
        assert outcome(call, *line, environ=environ)[2] == 0


@each_program
def test_variables_at_work(form, tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("port_file", "pid_file")}
    with form(environ={variable(name): str(path) for name, path in paths.items()}) as server:
        wait_until(paths["pid_file"].exists, "the last of the files")
        assert {name: int(path.read_text()) for name, path in paths.items()} == {
            "port_file": server.port,
            "pid_file": server.pid,
        }
        assert ask(server.port, b"k") == b"OK"
        wait_until(lambda: server.ended() == 0, "it to end")
    assert list(tmp_path.iterdir()) == []
    with form(environ={"ERL_EPMD_IDLE_EXIT": "1"}) as server:
        wait_until(lambda: server.ended() == 0, "it to end")
        assert "no node for 1 seconds" in server.log()


def test_second_epmd_that_inherits_them_is_no_failure(ours, tmp_path: Path) -> None:
    """Each node starts an epmd, and all of them have the variables."""
    path = tmp_path / "pid"
    environ = {"ERL_EPMD_PID_FILE": str(path), "ERL_EPMD_IDLE_EXIT": "600", "ERL_EPMD_ALLOW": "10.0.0.0/8"}
    with daemon(ours, environ=environ) as (port, pid):
        assert outcome(ours, "-port", str(port), "-daemon", environ=environ) == (b"", b"", 0)
        assert answers(port)
        assert int(path.read_text()) == pid
        named = run([*ours, "-port", str(port), "-daemon", "-pid_file", str(path)])
        assert named.returncode == 1, "on the line, somebody waits for it"
        assert b"already a epmd running" in named.stderr
        assert int(path.read_text()) == pid
