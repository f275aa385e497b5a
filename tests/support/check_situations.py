"""Situations in which `epmd -check` was wrong, with real processes: `python -m support.check_situations SCENE
FORM` in namespaces.  Where a finding has advice, the scene follows it, and looks again.

Each scene is called with a form of ours, whose command looks, and which serves where C's does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

from gevent_epmd.wire import DEFAULT_PORT
from support.activation import launched, listening as bound
from support.check_scenes import listening, nodes
from support.checking import BOX, check, main
from support.forms import PROGRAMS, C, otp_of
from support.neighbour import HERE_V4, THERE_V4, Neighbour
from support.patience import PATIENCE, wait_until
from support.peer import Peer, names, node, register, try_to_register
from support.ports import answers, reserved_port
from support.procfs import serving, state
from support.programs import clean_environment, real, run
from support.scenes import OTHER_V4, forward, packets_blocked
from support.strangers import Http

#: A node that is a program of its own: it listens at the first port and registers as `x` with the second one,
#: each if it is not 0, then waits.
_NODE = """
import os, socket, sys, time
listening, registered, epmd = map(int, sys.argv[1:4])
if listening:
    own = socket.create_server((os.environ.get("NODE_AT", ""), listening))
if registered:
    held = socket.create_connection(("127.0.0.1", epmd))
    packet = b"x" + registered.to_bytes(2, "big") + b"M\\0\\0\\6\\0\\5\\0\\1x\\0\\0"
    held.sendall(len(packet).to_bytes(2, "big") + packet)
    assert held.recv(6)[1] == 0
open(sys.argv[4], "w").close()
time.sleep(600)
"""


@contextlib.contextmanager
def program(listens: int, registers: int, epmd: int, *more: str, at: str = ""):
    """Such a process, once it is ready; it listens at this address, or at all."""
    ready = Path(f"/run/ready-{listens}-{registers}")
    command = [sys.executable, "-c", _NODE, f"{listens}", f"{registers}", f"{epmd}", f"{ready}", *more]
    with subprocess.Popen(command, env=clean_environment(NODE_AT=at)) as process:
        try:
            wait_until(ready.exists, "the node")
            yield process
        finally:
            process.kill()
            ready.unlink(missing_ok=True)


@contextlib.contextmanager
def activated(command: list[str], sockets: list[socket.socket], **environ: str):
    """An epmd that serves the sockets of systemd."""
    line = launched([*command, "-systemd"], sockets)
    passed = [sock.fileno() for sock in sockets]
    environment = clean_environment(**environ)
    with subprocess.Popen(line, env=environment, pass_fds=passed, start_new_session=True) as process:
        try:
            wait_until(lambda: answers(DEFAULT_PORT), "it to answer")
            yield process
        finally:
            os.kill(serving(process), signal.SIGTERM)


@contextlib.contextmanager
def started(command: list[str], *options: str, **environ: str):
    """An epmd at the default port."""
    line = [*command, *options]
    with subprocess.Popen(line, env=clean_environment(**environ), start_new_session=True) as process:
        try:
            wait_until(lambda: answers(DEFAULT_PORT), "it to answer")
            yield process
        finally:
            process.terminate()


def said_of(finding: dict[str, str]) -> str:
    return f"{finding['seen']} -> {finding['to_do']}"


def codes_of(seen, *but: str) -> set[tuple[str, str]]:
    """The topics and codes of what is not ok."""
    found = [f for f in seen.findings if f["state"] != "ok"]
    return {(f["topic"], f["code"]) for f in found if f["code"] not in but}


# --- Where a node registered from, and who holds it ---


def node_of_another_host(form) -> None:
    with form("-allow_register", "10.78.0.0/24") as server, contextlib.closing(Neighbour()) as neighbour:
        with neighbour.inside():
            peer = Peer(server.port, HERE_V4)
        assert try_to_register(peer, node("far", 9999))[1] == 0
        seen = check(form.command, server.port)
        assert seen.codes("node") == {"far": ("ok", "remote")}
        assert f"registered from {THERE_V4}" in seen.about("node")["seen"]
        assert seen.node("far")["peer"] == THERE_V4
        peer.close()


def epmd_of_a_container(form) -> None:
    """Its port is published here, and so it answers; whoever is here cannot register."""
    for there in ([*form.command, "-port", f"{DEFAULT_PORT}"], [*C.command]):
        with contextlib.closing(Neighbour()) as neighbour, contextlib.ExitStack() as stack:
            with neighbour.inside():
                server = subprocess.Popen(there, env=clean_environment(), start_new_session=True)
                stack.callback(server.wait, PATIENCE)
                stack.callback(server.kill)
                wait_until(lambda: answers(DEFAULT_PORT), "the container's to answer")
                stack.enter_context(register(DEFAULT_PORT, node("inner", 9999))[0])
            forward(stack, f"0.0.0.0:{DEFAULT_PORT}", f"{THERE_V4}:{DEFAULT_PORT}")
            seen = check(form.command, DEFAULT_PORT)
            assert seen.codes("epmd") == {f"port {DEFAULT_PORT}": ("warning", "forwarder")}
            assert "systemd-socket-proxyd" in seen.about("epmd")["seen"]
            assert seen.codes("node") == {"inner": ("ok", "remote")}
            with Peer(DEFAULT_PORT) as peer:
                assert try_to_register(peer, node("mine")) == b"", "it says so, and it is so"


def node_behind_a_tunnel(form) -> None:
    """What holds its registration is a forwarder, which nobody must end."""
    with form() as server, contextlib.ExitStack() as stack, reserved_port() as tunnel:
        forward(stack, f"127.0.0.1:{tunnel}", f"127.0.0.1:{server.port}")
        stack.enter_context(register(tunnel, node("far", 9999))[0])
        seen = check(form.command, server.port)
        assert seen.codes("node") == {"far": ("ok", "remote")}
        assert "behind a forwarder" in seen.about("node")["seen"]


def dead_node_on_a_dual_stack_socket(form) -> None:
    """The two ends of its connection are of two families.  Following the advice frees the name."""
    with (
        activated(form.command, [bound("::", DEFAULT_PORT, dual=True)]),
        program(0, 9999, DEFAULT_PORT) as held,
    ):
        seen = check(form.command, DEFAULT_PORT)
        assert seen.codes("node") == {"x": ("wrong", "dead")}
        told = re.match(r"End process (\d+), ", seen.about("node")["to_do"])
        assert int(told[1]) == held.pid
        os.kill(int(told[1]), signal.SIGTERM)
        held.wait(PATIENCE)
        wait_until(lambda: not check(form.command, DEFAULT_PORT).codes("node"), "the name to be free")


def stopped_node(form) -> None:
    """The kernel accepts for it."""
    with C() as server, reserved_port() as port, program(port, port, server.port) as held:
        assert check(form.command, server.port).codes("node") == {"x": ("ok", "answers")}
        os.kill(held.pid, signal.SIGSTOP)
        wait_until(lambda: state(held.pid) == "T", "it to stop")
        seen = check(form.command, server.port)
        assert seen.codes("node") == {"x": ("wrong", "stopped")}
        assert seen.about("node")["to_do"] == f"Continue the process: kill -CONT {held.pid}"
        os.kill(held.pid, signal.SIGCONT)
        wait_until(lambda: state(held.pid) != "T", "it to go on")
        seen = check(form.command, server.port)
        assert seen.codes("node") == {"x": ("ok", "answers")}
        assert (seen.node("x")["pid"], seen.node("x")["holder"]) == (held.pid, held.pid)


def port_of_a_node_is_another_programs(form) -> None:
    with C() as server, reserved_port() as port, program(port, 0, server.port) as other:
        with program(0, port, server.port) as held:
            seen = check(form.command, server.port)
            assert seen.codes("node") == {"x": ("warning", "taken")}
            said = said_of(seen.about("node"))
            assert f"another program: process {other.pid}, " in said
            assert f"End process {held.pid}, which holds" in said
        wait_until(lambda: not check(form.command, server.port).codes("node"), "the name to be free")


def who_has_the_name(form) -> None:
    """The name on its command line leads to another host."""
    with C() as server, reserved_port() as port:
        for name, code in (("x@there", ("warning", "host")), (f"x@{BOX}", ("ok", "answers"))):
            with program(port, port, server.port, "-name", name):
                seen = check(form.command, server.port)
                assert seen.codes("node") == {"x": code}
                assert f"named {name}" in seen.about("node")["seen"]
                assert seen.node("x")["own_name"] == name
            wait_until(lambda: not names(server.port), "the name to be free")


def old_node(form) -> None:
    """It is told to be upgraded, and then is in order."""
    with form() as server, listening() as port:
        with register(server.port, node("old", port, highest=5))[0]:
            seen = check(form.command, server.port)
            assert seen.codes("node") == {"old": ("warning", "version")}
            assert seen.node("old")["highest_version"] == 5
        wait_until(lambda: not names(server.port), "the name to be free")
        with register(server.port, node("old", port))[0]:
            assert check(form.command, server.port).codes("node") == {"old": ("ok", "answers")}


# --- Who may ask: following the advice closes the epmd to others, and nodes still find each other ---


def sockets_of_systemd(form) -> None:
    """C's takes no other advice than a drop-in for the socket unit; ours takes its -allow from anywhere."""
    for command in (list(C.command), list(form.command)):
        everywhere = [bound("0.0.0.0", DEFAULT_PORT), bound("::", DEFAULT_PORT)]
        with activated(command, everywhere):
            seen = check(form.command, DEFAULT_PORT)
            assert codes_of(seen) == {("exposure", "open")}
            to_do = seen.about("exposure")["to_do"]
        for sock in everywhere:
            sock.close()
        if command == list(C.command):
            wanted = re.findall(r"ListenStream=\[?([\d.:]+?)\]?:4369", to_do)
            assert wanted == ["127.0.0.1", "127.0.1.1", "::1"]
            sockets, environ = [bound(host, DEFAULT_PORT) for host in wanted], {}
        else:
            sockets = [bound("0.0.0.0", DEFAULT_PORT), bound("::", DEFAULT_PORT)]
            environ = dict(re.findall(r"Environment=(\w+)=([\d./]+)", to_do))
        with activated(command, sockets, **environ), contextlib.closing(Neighbour()) as neighbour:
            seen = check(form.command, DEFAULT_PORT)
            assert codes_of(seen) == set(), seen.findings
            with neighbour.inside():
                assert not answers(DEFAULT_PORT, HERE_V4)
        for sock in sockets:
            sock.close()


def options_and_sockets_disagree(form) -> None:
    """It serves the sockets, and says so; the check advises nothing that has no effect."""
    with (
        bound("0.0.0.0", DEFAULT_PORT) as sock,
        activated([*form.command, "-loopback"], [sock], ERL_EPMD_ADDRESS="10.0.0.1"),
    ):
        seen = check(form.command, DEFAULT_PORT)
        assert ("exposure", "open") in codes_of(seen)
        assert "-loopback" not in seen.about("exposure")["to_do"]


def open_to_others(form) -> None:
    """The host's own name is 127.0.1.1."""
    for command in (list(C.command), list(form.command)):
        with started(command):
            to_do = check(form.command, DEFAULT_PORT).about("exposure")["to_do"]
        for options, environ in _ways(to_do):
            with started(command, *options, **environ):
                seen = check(form.command, DEFAULT_PORT)
                assert codes_of(seen) == set(), (to_do, seen.findings)


def _ways(to_do: str) -> list[tuple[list[str], dict[str, str]]]:
    """The options and the variables with which to restart an epmd, each way that is advised."""
    told = re.match(r"Restart it with (.*?)\. ", f"{to_do} ")
    ways = told[1].split(", or ")
    assert ways
    return [
        (way.split() if way[0] == "-" else [], {} if way[0] == "-" else dict([way.split("=", 1)]))
        for way in ways
    ]


def open_to_others_where_nodes_look(form) -> None:
    """The host's own name is an address that others reach: loopback alone would not do."""
    with started(form.command):
        to_do = check(form.command, DEFAULT_PORT).about("exposure")["to_do"]
    ((options, _),) = _ways(to_do)
    with started(form.command, *options), contextlib.closing(Neighbour()) as neighbour:
        assert codes_of(check(form.command, DEFAULT_PORT)) == set()
        with neighbour.inside():
            assert not answers(DEFAULT_PORT, HERE_V4)
    with started(list(C.command)):
        assert "firewall" in check(form.command, DEFAULT_PORT).about("exposure")["to_do"]


def everybody_is_allowed(form) -> None:
    for networks, is_open in (
        ("0.0.0.0/0,::/0", True),
        ("0.0.0.0/1,128.0.0.0/1", True),
        ("10.0.0.0/8", False),
    ):
        with form("-allow", networks) as server:
            assert (("exposure", "open") in codes_of(check(form.command, server.port))) == is_open, networks


def name_is_not_served(form) -> None:
    """Where the own name leads nobody listens; each epmd takes the advice for its kind."""
    for command, options, environ in (
        (list(C.command), [], {"ERL_EPMD_ADDRESS": "127.0.0.1"}),
        (list(C.command), ["-address", "127.0.0.1"], {}),
        (list(form.command), ["-loopback"], {}),
        (list(form.command), [], {"ERL_EPMD_LOOPBACK": "1"}),
        (list(form.command), ["-address", "127.0.0.1"], {}),
    ):
        with started(command, *options, **environ):
            seen = check(form.command, DEFAULT_PORT)
            assert ("name", "refused") in codes_of(seen)
            to_do = seen.about("name", BOX)["to_do"]
        if without := re.search(r"without ([-\w]+),", to_do):
            options, environ = [word for word in options if word != without[1]], {}
        if variable := re.search(r"(ERL_EPMD_ADDRESS)=([\d.,]+\d)", to_do):
            environ = {variable[1]: variable[2]}
        if address := re.search(r"with (-address) ([\d.,]+\d)", to_do):
            options = [address[1], address[2]]
        with started(command, *options, **environ):
            assert codes_of(check(form.command, DEFAULT_PORT), "open") == set(), (command, to_do)


# --- Strangers, and what does not answer ---


def stranger_on_another_address(form) -> None:
    """Of a process of its own: three lines about it were about the epmd."""
    code = (
        "import socket; s = socket.create_server(('10.77.0.1', 4369)); open('/run/up', 'w')\n"
        "while True: s.accept()[0].close()"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as stranger, started(form.command, "-loopback"):
        try:
            wait_until(Path("/run/up").exists, "the stranger")
            seen = check(form.command, DEFAULT_PORT)
            assert seen.codes("exposure") == {"other hosts": ("ok", "loopback")}
            assert seen.about("process", f"process {stranger.pid}")["code"] == "other"
            assert "answers like an epmd" not in str(seen.findings)
            to_do = seen.about("address", OTHER_V4)["to_do"]
            assert "-allow" not in to_do
            assert f"End process {stranger.pid} " in to_do
        finally:
            stranger.kill()
        stranger.wait(PATIENCE)
        assert codes_of(check(form.command, DEFAULT_PORT)) == set()


def busy_epmd(form) -> None:
    """It does not answer in time, and is not stopped."""
    for command in (list(C.command), list(form.command)):
        with subprocess.Popen([*command, "-delay_accept", "5"], start_new_session=True) as process:
            try:
                wait_until(lambda: b":4369 " in run([real("ss"), "-Hltn"]).stdout, "it to listen")
                seen = check(form.command, DEFAULT_PORT)
                assert seen.codes("epmd") == {f"port {DEFAULT_PORT}": ("wrong", "mute")}
                assert "kill -CONT" not in str(seen.findings)
                assert "-delay_accept" in seen.about("epmd")["to_do"]
            finally:
                process.kill()


def culprit_has_the_port(form) -> None:
    """The advice names it, but where it is process 1, which nobody must end."""
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 4369)); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code]) as culprit:
        wait_until(lambda: b":4369 " in run([real("ss"), "-Hltn"]).stdout, "it to listen")
        seen = check(form.command, DEFAULT_PORT)
        found = seen.about("process", f"process {culprit.pid}")
        assert (found["state"], found["code"]) == ("wrong", "other")
        for finding in (found, seen.about("epmd")):
            assert f"End process {culprit.pid} " in finding["to_do"]
        culprit.kill()
    with Http() as there:
        assert os.getpid() == 1
        seen = check(form.command, there.port)
        assert seen.about("process")["code"] == "other"
        assert "End " not in str(seen.findings)


def firewall_on_loopback(form) -> None:
    """Of this host, although something listens."""
    with started(form.command, "-loopback"):
        with packets_blocked("127.0.0.1", "127.0.1.1", "::1"):
            seen = check(form.command, DEFAULT_PORT)
            assert seen.codes("epmd") == {f"port {DEFAULT_PORT}": ("wrong", "timeout")}
            assert "this host's firewall" in seen.about("epmd")["to_do"]
        assert codes_of(check(form.command, DEFAULT_PORT)) == set()


def epmd_at_another_port(form) -> None:
    """ERL_EPMD_PORT differs between the nodes and the shell."""
    with reserved_port() as port, started(form.command):
        seen = check(form.command, port)
        assert ("port", "other_port") in codes_of(seen)
        told = re.search(r"set ERL_EPMD_PORT=(\d+)", seen.about("epmd")["to_do"])
        assert codes_of(check(form.command, int(told[1])), "open") == set()


def names_of_cs_program(form) -> None:
    """Those that our package and scripts/install give it."""
    original = Path(os.path.realpath(real(C.command[0])))
    erts = original.parents[1].name
    for name in ("epmd.erlang", "epmd.c-original"):
        copy = Path("/run", erts, "bin", name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, copy)
        with started([str(copy)]) as process:
            found = check(form.command, DEFAULT_PORT).about("process", f"process {process.pid}")
            assert found["code"] == "c"
            assert f"OTP {otp_of(str(original))} (ERTS {erts.removeprefix('erts-')})" in found["seen"]


# --- systemd, Erlang, and how full it is ---


def units_of_systemd(form) -> None:
    """A masked, a failed and an inactive unit; `systemctl` is a script here that prints what the real one
    prints."""
    os.makedirs("/run/systemd/system")
    script = Path("/run/bin/systemctl")
    script.parent.mkdir(exist_ok=True)
    for load, active, result, code, advice in (
        (
            "masked",
            "inactive",
            "success",
            "masked",
            "systemctl unmask epmd.socket && systemctl start epmd.socket",
        ),
        ("loaded", "failed", "service-start-limit-hit", "failed", "systemctl reset-failed epmd.socket"),
        ("loaded", "inactive", "success", "inactive", "systemctl start epmd.socket"),
    ):
        values = {"Id": "epmd.socket", "LoadState": load, "ActiveState": active, "Result": result}
        shown = "".join(f"{name}={value}\\n" for name, value in values.items())
        shown += "\\nId=epmd.service\\nLoadState=not-found\\n"
        script.write_text(f"#!/bin/sh\nprintf '{shown}'\n")
        script.chmod(0o755)
        seen = check(form.command, DEFAULT_PORT)
        assert ("unit", code) in codes_of(seen)
        assert advice in seen.about("epmd")["to_do"]
        assert "epmd -daemon" not in seen.about("epmd")["to_do"]


def erlang_was_upgraded(form) -> None:
    """`erl` would start another epmd than the one that runs."""
    root = Path("/run/otp")
    for folder in ("bin", "releases", "erts-99.1/bin"):
        (root / folder).mkdir(parents=True)
    (root / "bin/erl").write_text("#!/bin/sh\n")
    (root / "bin/erl").chmod(0o755)
    (root / "releases/start_erl.data").write_text("99.1 111\n")
    shutil.copy(os.path.realpath(real(C.command[0])), root / "erts-99.1/bin/epmd")
    Path("/run/bin").mkdir()
    os.symlink("/run/otp/bin/erl", "/run/bin/erl")
    with C() as server:
        seen = check(form.command, server.port)
        assert ("process", "outdated") in codes_of(seen)
        outdated = next(f for f in seen.findings if f["code"] == "outdated")
        assert "OTP 111 (ERTS 99.1)" in outdated["seen"]
        assert f"OTP {otp_of(C.command[0])} " not in outdated["seen"]
    with started([str(root / "erts-99.1/bin/epmd")]):
        assert ("process", "outdated") not in codes_of(check(form.command, DEFAULT_PORT))


def full_epmd(form) -> None:
    """C's with a lower limit, and ours, until they refuse."""
    limited = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh"]
    with contextlib.ExitStack() as stack, started([*limited, *form.command]), listening() as port:
        first = check(form.command, DEFAULT_PORT).told["limits"]
        assert (first["nodes"], first["most_descriptors"]) == (0, 100)
        stack.enter_context(nodes(DEFAULT_PORT, *[port] * first["most_nodes"]))
        with Peer(DEFAULT_PORT) as peer:
            assert try_to_register(peer, node("more"))[1] == 1, "one more is refused"
        seen = check(form.command, DEFAULT_PORT)
        assert ("limits", "full") in codes_of(seen)
        assert f"of {first['most_nodes']} possible ones" in seen.about("limits")["seen"]


# --- Budgets ---


class _Dns(socketserver.BaseRequestHandler):
    """Gives each name an address, and another name each time, until it is corrected."""

    asked = 0
    is_correct = False

    def handle(self) -> None:
        query, sock = self.request
        type(self).asked += 1
        number = 0 if self.is_correct else self.asked
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        target = (
            b"".join(bytes((len(part),)) + part for part in (b"n%d" % number, b"endless", b"example")) + b"\0"
        )
        cname = b"\xc0\x0c\0\5\0\1\0\0\0\1" + len(target).to_bytes(2, "big") + target
        records, count = cname, 1
        if question[-4:-2] == b"\0\1":
            records, count = cname + target + b"\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1", 2
        header = query[:2] + b"\x81\x80\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0"
        sock.sendto(header + question + records, self.client_address)


def canonical_names_without_end(form) -> None:
    """Each look-up gives a new one."""
    Path("/run/resolv.conf").write_text("nameserver 127.0.0.1\n")
    target = os.path.realpath("/etc/resolv.conf")
    assert run([real("mount"), "--bind", "/run/resolv.conf", target]).returncode == 0
    with socketserver.ThreadingUDPServer(("127.0.0.1", 53), _Dns) as dns, form() as server:
        threading.Thread(target=dns.serve_forever, daemon=True).start()
        seen = check(form.command, server.port)
        assert ("name", "late") in codes_of(seen)
        assert 0 < _Dns.asked < 60
        assert seen.about("name", "canonical names")["to_do"].startswith("Correct the DNS")
        _Dns.is_correct = True
        assert ("name", "late") not in codes_of(check(form.command, server.port))
        dns.shutdown()


def many_own_addresses(form) -> None:
    for number in range(100):
        run([real("ip"), "address", "add", f"10.66.0.{number + 1}/32", "dev", "lo"])
    with form() as server:
        seen = check(form.command, server.port)
        assert len(seen.codes("address")) < 70
        left = next(f for f in seen.findings if (f["topic"], f["code"]) == ("address", "late"))
        assert left["seen"].startswith("not asked: 10.66.0.")
        assert left["state"] == "ok"


def many_silent_addresses(form) -> None:
    """Of another host: those that were not asked are not mute."""
    run([real("ip"), "address", "add", "10.66.1.0/24", "dev", "lo"])
    hosts = "".join(f"10.66.1.{number} many.example\n" for number in range(1, 80))
    Path("/etc/hosts").write_text(hosts)
    with socket.create_server(("", DEFAULT_PORT)) as silent:
        start = time.monotonic()
        seen = check(form.command, DEFAULT_PORT, "-host", "many.example")
        assert silent.fileno() >= 0
    assert seen.status == 1
    assert "kill -CONT" not in str(seen.findings)
    assert "and 47 more" in seen.about("name")["seen"]
    assert time.monotonic() - start < PATIENCE


if __name__ == "__main__":
    main(globals(), {form.__name__: form for form in [*PROGRAMS.values(), C]})
