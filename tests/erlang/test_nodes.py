"""Real nodes: erl, elixir and erl_call, with this program as the epmd that they start themselves.

Everything here runs over C's epmd too, so that "the way it does with C" is what both do.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gevent_epmd import client
from gevent_epmd.program.process.watch import gone
from support.daemons import end, serving_pid
from support.erlang import FRUGAL, Node
from support.paths import BUILT, C_EPMD, FOLDER, SOURCE
from support.patience import LONG, wait_until
from support.peer import look_up, names
from support.ports import answers, reserved_port
from support.programs import clean_environment, real, run

#: A host of our own name with an IPv6 address, whatever the machine's resolver knows.
INETRC = '{host, {0,0,0,0,0,0,0,1}, ["sixbox"]}.\n{lookup, [file, native]}.\n'


class Host:
    """A port of its own for the epmd that the nodes start, and the ways to start nodes."""

    def __init__(self, port: int, folder: Path, how: str, protocol: str) -> None:
        self.port = port
        self.how = how
        self.protocol = protocol
        self.epmd = {"C": [C_EPMD], "built": [BUILT], "folder": [FOLDER]}.get(how, SOURCE)
        self.at = "@sixbox" if protocol == "inet6_tcp" else ""
        inetrc = folder / "inetrc"
        inetrc.write_text(INETRC)
        self.environ = {"ERL_EPMD_PORT": str(port), "HOME": str(folder)}
        self.flags = ["-proto_dist", protocol, "-kernel", "inetrc", f'"{inetrc}"', "-setcookie", "biscuit"]
        self._erl = ["erl"]
        if how == "-epmd":
            self.flags += ["-epmd", shlex.join([*SOURCE, "-daemon"])]
        if how in ("BINDIR", "built", "folder"):
            self._erl = self._in_a_bindir(folder)
        self._nodes: list[Node] = []

    def _in_a_bindir(self, folder: Path) -> list[str]:
        """An ERTS bin directory in which epmd is ours, and the program that erl's script would run."""
        real_bin = next(Path("/usr/lib/erlang").glob("erts-*/bin"))
        ours = folder / "bin"
        ours.mkdir()
        for program in real_bin.iterdir():
            if program.name != "epmd":
                (ours / program.name).symlink_to(program)
        if self.epmd == [BUILT]:
            shutil.copy(real(BUILT), ours / "epmd")
        elif self.epmd == [FOLDER]:
            (ours / "epmd").symlink_to(real(FOLDER))
        else:
            (ours / "epmd").write_text(f'#!/bin/sh\nexec {shlex.join(self.epmd)} "$@"\n')
            (ours / "epmd").chmod(0o755)
        self.environ |= {"BINDIR": str(ours), "ROOTDIR": "/usr/lib/erlang", "EMU": "beam", "PROGNAME": "erl"}
        return [str(ours / "erlexec")]

    def erl(self, name: str) -> list[str]:
        kind = "-name" if "@" in name else "-sname"
        return [*self._erl, kind, name if "@" in name else f"{name}{self.at}", *self.flags]

    def start(self, name: str, *flags: str) -> Node:
        return self._started([*self.erl(name), *flags])

    def start_without_a_name(self) -> Node:
        return self._started([*self._erl, *self.flags])

    def _started(self, command: list[str]) -> Node:
        node = Node(command, self.environ)
        self._nodes.append(node)
        return node

    def start_epmd(self) -> None:
        assert run([*self.epmd, "-port", str(self.port), "-daemon"]).returncode == 0
        # C may not answer yet.
        wait_until(lambda: answers(self.port), "the mapper to answer")

    def registered(self) -> set[str]:
        if not answers(self.port):
            return set()
        return {line.split(" ")[0] for line in names(self.port)}

    def wait_for(self, *nodes: str) -> None:
        """Until just these are registered: that a process has ended reaches the mapper on its own way."""
        wait_until(lambda: self.registered() == set(nodes), f"{nodes} to be registered, and nobody else")

    def stop(self) -> None:
        for node in self._nodes:
            node.kill()
        with contextlib.suppress(AssertionError):
            pid = serving_pid(self.port)
            wait_until(lambda: not names(self.port), "the nodes' names to go")
            end(self.port, pid)


@pytest.fixture(params=["inet_tcp", "inet6_tcp"])
def protocol(request) -> str:
    return request.param


@pytest.fixture(params=["folder", "C"])
def host(request, protocol, tmp_path: Path):
    real("erl")
    with reserved_port() as port:
        host = Host(port, tmp_path, request.param, protocol)
        try:
            yield host
        finally:
            host.stop()


only_inet = pytest.mark.parametrize("protocol", ["inet_tcp"])


def they_find_each_other(host, *nodes: Node) -> None:
    names_of = [node.eval("node()") for node in nodes]
    for node in nodes:
        assert [node.eval(f"net_adm:ping({name})") for name in names_of] == ["pong"] * len(nodes)
        assert node.eval("length(nodes())") == f"{len(nodes) - 1}"
    b = nodes[1]
    listed = ",".join(f'"{name}"' for name in sorted(host.registered()))
    assert b.eval("{ok, Names} = net_adm:names(), lists:sort([N || {N, _} <- Names])") == f"[{listed}]"
    port = int(b.eval('{ok, Names} = net_adm:names(), element(2, lists:keyfind("b", 1, Names))'))
    assert look_up(host.port, "b")[2:4] == port.to_bytes(2, "big")


#: How a node comes to its epmd. What it does with it is the same for all of ours, as the other tests show.
@pytest.mark.parametrize(
    ("host", "protocol"), [(way, "inet_tcp") for way in ("-epmd", "BINDIR", "built")], indirect=["host"]
)
def test_way_to_the_epmd(host) -> None:
    a, b = host.start("a"), host.start("b")
    they_find_each_other(host, a, b)
    a.halt()
    host.wait_for("b")


def test_life_of_a_cluster(host, tmp_path: Path) -> None:
    """One after the other, with the same nodes: their starts are what costs."""
    nodes = [host.start(name) for name in "abc"]
    a = nodes[0]
    they_find_each_other(host, *nodes)
    they_share_names_and_call_each_other(*nodes)
    if host.protocol == "inet_tcp":
        world_is_every_node_of_the_host(nodes, tmp_path)
        erl_call_finds(host, a)
    taken_name_is_refused(host, "a")
    mesh_survives_the_loss_of_the_mapper(host, nodes)
    hidden = hidden_node_is_listed(host, nodes)
    a.halt()
    host.wait_for("b", "c", "h")
    again = host.start("a")
    assert host.registered() == {"a", "b", "c", "h"}, "its name may come back"
    assert again.eval(f"net_adm:ping({hidden.eval('node()')})") == "pong"
    again.halt()
    host.wait_for("b", "c", "h")


def they_share_names_and_call_each_other(a: Node, b: Node, c: Node) -> None:
    names_of = [node.eval("node()") for node in (a, b, c)]
    assert b.eval("global:sync()") == "ok"
    assert b.eval("global:register_name(here, self())") == "yes"
    assert c.eval("node(global:whereis_name(here))") == names_of[1]
    assert a.eval(f"rpc:call({names_of[2]}, erlang, node, [])") == names_of[2]
    assert a.eval("element(1, rpc:multicall(erlang, length, [[x, y]]))") == "[2,2,2]"


def world_is_every_node_of_the_host(nodes: list[Node], folder: Path) -> None:
    """net_adm asks for IPv4 addresses alone."""
    machine = nodes[0].eval("node()").strip("'").partition("@")[2]
    (folder / ".hosts.erlang").write_text(f"'{machine}'.\n")
    assert nodes[0].eval(f'file:set_cwd("{folder}")') == "ok"
    listed = ",".join(node.eval("node()") for node in nodes)
    assert nodes[0].eval("lists:sort(net_adm:world())") == f"[{listed}]"


def erl_call_finds(host, node: Node) -> None:
    call = [real("erl_call"), "-sname", "a", "-c", "biscuit", "-a", "erlang node"]
    done = run(call, environ=host.environ)
    assert done.stdout.decode().strip().strip("'") == node.eval("node()").strip("'")
    assert done.returncode == 0


def taken_name_is_refused(host, name: str) -> None:
    before = host.registered()
    second = run([*host.erl(name), "-noshell", "-eval", "halt()."], environ=FRUGAL | host.environ)
    assert second.returncode == 1
    assert b"seems to be in use by another Erlang node" in second.stdout + second.stderr
    assert host.registered() == before


def mesh_survives_the_loss_of_the_mapper(host, nodes: list[Node]) -> None:
    for node in nodes:
        assert node.eval("net_kernel:monitor_nodes(true)") == "ok"
    ports = set(names(host.port))
    pid = serving_pid(host.port)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), "the mapper to be gone")
    host.start_epmd()
    wait_until(lambda: set(names(host.port)) == ports, "all nodes to be back")
    for node in nodes:
        assert node.eval("length(nodes())") == f"{len(nodes) - 1}"
        assert node.eval("receive Message -> Message after 0 -> unbroken end") == "unbroken"


def hidden_node_is_listed(host, nodes: list[Node]) -> Node:
    """It comes after the others, and finds them."""
    hidden = host.start("h", "-hidden")
    assert host.registered() == {"a", "b", "c", "h"}
    assert hidden.eval(f"net_adm:ping({nodes[0].eval('node()')})") == "pong"
    assert nodes[0].eval("{length(nodes()), length(nodes(hidden))}") == "{2,1}"
    return hidden


@only_inet
def test_long_names(host) -> None:
    a, b = host.start("a@127.0.0.1"), host.start("b@127.0.0.1")
    assert a.eval("net_adm:ping('b@127.0.0.1')") == "pong"
    assert b.eval("nodes()") == "['a@127.0.0.1']"
    assert host.registered() == {"a", "b"}


@only_inet
def test_client_module_of_erlang(host) -> None:
    """What `erl_epmd` says, called by hand in a node that has no name."""
    host.start_epmd()
    node = host.start_without_a_name()
    assert node.eval("element(1, erl_epmd:start_link())") == "ok"
    assert node.eval("{ok, Creation} = erl_epmd:register_node(foo, 4711, inet), Creation >= 4") == "true"
    assert node.eval("erl_epmd:register_node(foo, 4711, inet)") == "{error,already_registered}"
    assert node.eval("erl_epmd:names({127,0,0,1})") == '{ok,[{"foo",4711}]}'
    assert node.eval('erl_epmd:port_please("foo", {127,0,0,1})') == "{port,4711,6}"
    assert node.eval('erl_epmd:port_please("bar", {127,0,0,1})') == "noport"
    node.halt()
    host.wait_for()


@only_inet
def test_elixir_node_joins(host, tmp_path: Path) -> None:
    a = host.start("a")
    name = a.eval("node()").strip("'")
    code = f"""
        true = Node.connect(:"{name}")
        IO.inspect({{Node.self(), Node.list()}})
        :rpc.call(:"{name}", :erlang, :nodes, []) |> IO.inspect()
    """
    # The mapper runs already.  --erl is split at every blank, which a command for -epmd holds.
    # With this inetrc OTP 29 names the host localhost, and this node must be of the same host.
    flags = ["-setcookie biscuit -start_epmd false -kernel inetrc", f'"{tmp_path / "inetrc"}"']
    command = [real("elixir"), "--sname", "e", "--erl", " ".join(flags), "-e", code]
    environ = FRUGAL | {k: host.environ[k] for k in ("ERL_EPMD_PORT", "HOME")}
    done = run(command, environ=environ)
    assert done.returncode == 0, done.stderr.decode()
    machine = name.partition("@")[2]
    assert done.stdout.decode().splitlines()[-2:] == [f"{{:e@{machine}, [:{name}]}}", f"[:e@{machine}]"]
    host.wait_for("a")


@pytest.mark.slow
@only_inet
def test_many_nodes_at_once(host) -> None:
    count = 6
    command = ["-noshell", "-eval", "receive stop -> ok end."]
    nodes = [
        subprocess.Popen(
            [*host.erl(f"n{number}"), *command],
            stdin=subprocess.PIPE,
            env=clean_environment(**FRUGAL | host.environ),
            start_new_session=True,
        )
        for number in range(count)
    ]
    try:
        expected = {f"n{number}" for number in range(count)}
        wait_until(lambda: host.registered() == expected, "all nodes", LONG)
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGKILL)
            node.communicate()


#: Makes a node what one of OTP 23.2.6 is: it does not notice the end of the connection of its registration.
FORGETFUL = "sys:replace_state(erl_epmd, fun(State) -> setelement(2, State, -1) end)"


@only_inet
def test_lost_node_is_registered_from_outside(host) -> None:
    """docs/troubleshooting.md: a node that does not register again after a restart of its epmd."""
    lost = host.start("lost")
    name = lost.eval("node()")
    (line,) = names(host.port)
    node_port = int(line.split()[-1])
    lost.eval(FORGETFUL)
    end(host.port, serving_pid(host.port))
    host.start_epmd()
    rescue = host.start("rescue")
    # The node itself has reconnected after two seconds if it does so at all.
    lost.eval("timer:sleep(3000)")
    assert host.registered() == {"rescue"}
    assert rescue.eval(f"net_adm:ping({name})") == "pang"
    with client.register("lost", node_port, port=host.port):
        assert rescue.eval(f"net_adm:ping({name})") == "pong"
    host.wait_for("rescue")
    answer = rescue.eval(f'rpc:call({name}, erl_epmd, register_node, ["lost", {node_port}])')
    assert re.fullmatch(r"\{ok,\d+\}", answer)
    host.wait_for("lost", "rescue")
    assert host.start("other").eval(f"net_adm:ping({name})") == "pong"
    lost.halt()
    host.wait_for("other", "rescue")
