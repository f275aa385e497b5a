"""The variables of the options of our own that serve: a node that starts its epmd can pass nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import usage
from gevent_epmd.program.options import Given, ValueProblem, read_options
from support.daemons import daemon
from support.forms import Source
from support.marks import forms
from support.paths import ROOT
from support.patience import wait_until, whole_seconds
from support.peer import ask
from support.ports import answers, reserved_port
from support.programs import outcome, run

ALLOW_FILE = ROOT / "docs" / "examples" / "default-epmd"
#: A value of each, and one that is invalid.
VALUES = {
    "allow": ("10.0.0.0/8", "nonsense"),
    "allow_register": ("10.0.0.0/8, fd00::/8", "10.0.0.1/8"),
    "allow_file": (str(ALLOW_FILE), "/nowhere/allow"),
    "not_local": ("127.0.0.6, 10.0.0.7", "127.0.0.6/8"),
    "user": ("nobody:nogroup", "no:such"),
    "idle_exit": ("60", "soon"),
    "packet_timeout": ("5", "0"),
    "pid_exit": ("1,2", "self"),
    "port_file": ("/port", "/nowhere/port"),
    "pid_file": ("/pid", "/nowhere/pid"),
    "metrics_file": ("/epmd.prom", "/nowhere/epmd.prom"),
}
#: Those that are not looked up before it listens.
BAD = {name: bad for name, (_, bad) in VALUES.items() if name != "user"}

each_bad = pytest.mark.parametrize("name", BAD)


def variable(name: str) -> str:
    return f"ERL_EPMD_{name.upper()}"


def test_each_option_that_serves_has_one() -> None:
    [own] = [options for title, options in usage.sections() if title.startswith("Serving, not in C's epmd")]
    with_a_value = {option.spellings[0].lstrip("-") for option in own if option.value}
    assert with_a_value | {"packet_timeout"} == VALUES.keys()
    for name, (value, _) in VALUES.items():
        by_variable = read_options([], {variable(name): value})
        by_line = read_options([f"-{name}", value], {})
        for field, given in by_line._asdict().items():
            if isinstance(given, Given) and given.where:
                by_line = by_line._replace(**{field: given._replace(where=variable(name))})
        assert by_variable == by_line._replace(must_serve=False) != read_options([], {})
        # Nobody waits for the metrics, nor for the networks.
        assert by_line.must_serve == (name in ("port_file", "pid_file"))


@pytest.mark.measured
@pytest.mark.parametrize("name", VALUES)
def test_line_counts_more_and_nothing_counts_as_not_set(name: str) -> None:
    value, bad = VALUES[name]
    line = [f"-{name}", value]
    assert read_options(line, {variable(name): bad}) == read_options(line, {})
    assert read_options([], {variable(name): ""}) == read_options([], {})


#: Two values of each option that has one and serves.
TWICE = {
    "port": ("1", "5000"),
    "address": ("127.0.0.5", "127.0.0.6"),
    "packet_timeout": ("1", "2"),
    "delay_accept": ("1", "2"),
    "delay_write": ("1", "2"),
    "allow": ("192.0.2.0/24", "10.0.0.0/8"),
    "allow_register": ("192.0.2.0/24", "10.0.0.0/8"),
    "allow_file": (str(ROOT / "LICENSE"), str(ALLOW_FILE)),
    "not_local": ("127.0.0.6", "127.0.0.7"),
    "user": ("daemon", "nobody:nogroup"),
    "idle_exit": ("1", "60"),
    "pid_exit": ("3", "1,2"),
    "port_file": ("/other", "/port"),
    "pid_file": ("/other", "/pid"),
    "metrics_file": ("/other", "/epmd.prom"),
}


#: The options of which each value adds to those before.
MERGED = ("allow", "allow_register", "not_local", "pid_exit")


@pytest.mark.measured
def test_last_one_counts_of_each_option() -> None:
    sections = [options for title, options in usage.sections() if title.startswith(("Serving", "Debugging"))]
    with_a_value = {option.spellings[0].lstrip("-") for own in sections for option in own if option.value}
    assert with_a_value == TWICE.keys()
    for name, (first, last) in TWICE.items():
        only = read_options([f"-{name}", f"{first},{last}" if name in MERGED else last], {})
        assert read_options([f"-{name}", first, f"-{name}", last], {}) == only, name
        assert only != read_options([f"-{name}", first], {})


@pytest.mark.measured
@each_bad
def test_fault_names_the_variable(name: str) -> None:
    with pytest.raises(ValueProblem, match=f"^{variable(name)}: "):
        read_options([], {variable(name): BAD[name]})


#: What a switch may be set to, and whether it is on then.
SWITCH = dict.fromkeys(("", "1", "true", "yes", "on", "YES", "True"), True) | dict.fromkeys(
    ("0", "false", "no", "off", "OFF"), False
)


@pytest.mark.parametrize("value", SWITCH)
def test_switch(value: str) -> None:
    options = read_options([], {"ERL_EPMD_LOOPBACK": value})
    assert (options.settings.addresses is None) == SWITCH[value]
    assert options.listen_names == (("ERL_EPMD_LOOPBACK",) if SWITCH[value] else ())


@pytest.mark.measured
@pytest.mark.parametrize("value", ["2", "maybe", "127.0.0.1", " "])
def test_switch_that_is_neither_on_nor_off(value: str) -> None:
    said = f'^ERL_EPMD_LOOPBACK: "{value}" is none of 1, yes, true, on, 0, no, false, off$'
    for line in [], ["-systemd"]:
        with pytest.raises(ValueProblem, match=said):
            read_options(line, {"ERL_EPMD_LOOPBACK": value})
    for line in ["-loopback"], ["-address", "::1"], ["-names"], ["--help"]:
        assert read_options(line, {"ERL_EPMD_LOOPBACK": value}) == read_options(line, {})


BOTH = {"ERL_EPMD_LOOPBACK": "1", "ERL_EPMD_ADDRESS": "10.0.0.1"}
REGISTER = {"ERL_EPMD_ALLOW_REGISTER": "10.0.0.0/8"}


@pytest.mark.measured
def test_variables_that_exclude_each_other() -> None:
    """As the options do; one on the line counts more than both."""
    said = "^ERL_EPMD_LOOPBACK and ERL_EPMD_ADDRESS cannot be used together$"
    for line in [], ["-daemon"], ["-allow", "10.0.0.0/8"]:
        with pytest.raises(ValueProblem, match=said):
            read_options(line, BOTH)
    for line in ["-loopback"], ["-address", "::1"]:
        assert read_options(line, BOTH) == read_options(line, {})
    assert read_options(["-names"], BOTH) == read_options(["-names"], {})
    assert read_options([], BOTH | {"ERL_EPMD_LOOPBACK": "0"}).settings.addresses == ("10.0.0.1",)
    assert read_options([], BOTH | {"ERL_EPMD_ADDRESS": ""}).settings.addresses is None
    read_options(["-systemd"], BOTH)  # neither has an effect


@pytest.mark.measured
@pytest.mark.parametrize(
    ("line", "environ", "which"),
    [
        (["-loopback", "-allow_register", "10.0.0.0/8"], {}, "-allow_register has no effect with -loopback"),
        (["-allow_register", "::/0"], BOTH, "-allow_register has no effect with ERL_EPMD_LOOPBACK"),
        ([], BOTH | REGISTER, "ERL_EPMD_ALLOW_REGISTER has no effect with ERL_EPMD_LOOPBACK"),
        (["-loopback"], REGISTER, ""),
        (["-loopback", "-allow", "10.0.0.0/8"], {}, ""),
        (["-loopback", "-allow_register", "10.0.0.0/8", "-systemd"], {}, ""),
    ],
)
def test_nodes_of_other_hosts_cannot_reach_loopback(line: list[str], environ: dict, which: str) -> None:
    environ = environ | {"ERL_EPMD_ADDRESS": ""}
    if not which:
        read_options(line, environ)
        return
    with pytest.raises(ValueProblem, match=f"^{which}$"):
        read_options(line, environ)


@pytest.mark.measured
def test_lists_are_joined() -> None:
    for option, lists, joined in (
        ("-allow", ("10.0.0.0/8", "192.0.2.0/24,::1"), "10.0.0.0/8,192.0.2.0/24,::1"),
        ("-allow_register", ("10.0.0.0/8", "", "::1"), "10.0.0.0/8,::1"),
        ("-pid_exit", ("1", "2,3"), "1,2,3"),
    ):
        line = [word for text in lists for word in (option, text)]
        assert read_options(line, {}) == read_options([option, joined], {})


def test_address_that_is_none_names_its_variable(ours) -> None:
    for address in ("localhost", "127.0.0.300"):
        with reserved_port() as port:
            call = [*ours, "-port", str(port), "-daemon"]
            said = f': cannot parse IP address "{address}"\r\n'
            out, err, status = outcome(call, environ={"ERL_EPMD_ADDRESS": address})
            assert (out, status) == (b"", 1)
            assert err.decode().endswith(f": ERL_EPMD_ADDRESS{said}")
            assert re.search(r" \d{4}" + re.escape(said), outcome(call, "-address", address)[1].decode())
            assert outcome(call[:-1], "-names", environ={"ERL_EPMD_ADDRESS": address})[2] == 1


@pytest.mark.measured
@pytest.mark.parametrize("name", ["port_file", "pid_file"])
def test_daemon_has_no_stdout(name: str) -> None:
    with pytest.raises(ValueProblem, match=f"^{variable(name)} -: a daemon has no stdout"):
        read_options(["-daemon"], {variable(name): "-"})


@pytest.mark.parametrize("name", ["idle_exit", "port_file", "allow_file"])
@pytest.mark.parametrize("option", ["-daemon", "-d"])
def test_bad_value(ours, name: str, option: str) -> None:
    """For a quick line and for any other; which values are bad is for `test_fault_names_the_variable`."""
    with reserved_port() as port:
        out, err, status = outcome(ours, "-port", str(port), option, environ={variable(name): BAD[name]})
    assert (out, status) == (b"", 1)
    assert err.startswith(f"epmd: {variable(name)}: ".encode())
    assert err.count(b"\n") == 1


def test_who_asks_is_not_told(ours) -> None:
    environ = {variable(name): bad for name, (_, bad) in VALUES.items()}
    with Source() as server:
        call = [*ours, "-port", str(server.port)]
        for line in ["-names"], ["-started"], ["-d", "-names"], ["-dump"]:
            expected = outcome(call, *line)
            assert expected[2] == 0, line
            assert outcome(call, *line, environ=environ) == expected, line


@forms(processes_only=True, c=False)
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
    seconds = whole_seconds(1)
    with form(environ={"ERL_EPMD_IDLE_EXIT": str(seconds)}) as server:
        wait_until(lambda: server.ended() == 0, "it to end")
        assert f"no node for {seconds} second" in server.log()


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
