"""What `epmd -check` advises, followed to the letter: `python -m support.check_cures SCENE FORM` in
namespaces.

Each scene makes something wrong, does what the remedy says, and looks again.  The remedies about systemd are
in tests/packaging/test_systemd_units.py, and others are followed by the scenes of `check_situations`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from gevent_epmd.wire import DEFAULT_PORT
from support.activation import listening as bound
from support.check_scenes import listening, nodes
from support.check_situations import activated, codes_of, program, started
from support.checking import BOX, LOCALHOST, check, main
from support.forms import PROGRAMS, C
from support.neighbour import HERE_V4, THERE_V4, Neighbour
from support.paths import ROOT
from support.patience import IN_VAIN, PATIENCE, wait_until
from support.peer import long_nodes, names, node, register, slow_reader
from support.ports import answers, reserved_port
from support.procfs import state
from support.programs import clean_environment, real, run
from support.scenes import OTHER_V4, forward, reaches

PORT = DEFAULT_PORT


def commands_in(to_do: str) -> list[str]:
    """What stands between backticks."""
    return re.findall("`(.+?)`", to_do)


def shell(command: str) -> None:
    done = run(["sh", "-e", "-c", command])
    assert done.returncode == 0, done.stderr


def nft(*rule: str) -> None:
    done = run([real("nft"), *rule])
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def nobody_else(form, *options: str):
    """An epmd of ours about which there is nothing to say."""
    with started(form.command, "-loopback", *options):
        yield


# --- Who may ask ---


def cluster(form) -> None:
    """Its networks in -allow of ours, and a firewall in front of C's: its hosts may ask, others may not."""
    with contextlib.closing(Neighbour(78)) as member, contextlib.closing(Neighbour(79)) as other:
        networks = f"{member.there_v4}/32"
        with started(form.command):
            to_do = check(form.command, PORT).about("exposure")["to_do"]
        allow = re.search("with (-allow) ([^ ,]+)[.] In a cluster, admit only its hosts: -allow", to_do)
        with started(form.command, allow[1], f"{allow[2]},{networks}"):
            assert codes_of(check(form.command, PORT)) == set()
            may_ask(member, other)
        with started(list(C.command)):
            to_do = check(form.command, PORT).about("exposure")["to_do"]
            assert to_do.startswith(
                f"Let a firewall close TCP port {PORT} to other hosts (in a cluster, admit"
            )
            rules = (ROOT / "docs/examples/firewall.nft").read_text(encoding="utf-8")
            Path("/run/rules").write_text(rules.replace("10.0.0.0/8", networks))
            nft("-f", "/run/rules")
            (accept,) = re.findall("then use `epmd -check (.+?)`", to_do)
            assert codes_of(check(form.command, PORT, *accept.split())) == set()
            may_ask(member, other)


def may_ask(member: Neighbour, other: Neighbour) -> None:
    with member.inside():
        assert answers(PORT, member.here_v4)
    with other.inside():
        assert not (reaches(other.here_v4, PORT, IN_VAIN) and answers(PORT, other.here_v4))


def options_that_open(form) -> None:
    """What is no fault is accepted, once it is limited; what is one goes with its option."""
    with started(form.command, "-allow", "10.78.0.0/24", "-allow_register", "10.78.0.0/24"):
        seen = check(form.command, PORT)
        assert codes_of(seen) == {("exposure", "register")}
        (accept,) = commands_in(seen.about("exposure", "nodes on other hosts")["to_do"])
        assert codes_of(check(form.command, PORT, *accept.split()[2:])) == set()
    with nobody_else(form, "-relaxed_command_check"):
        to_do = check(form.command, PORT).about("exposure", "every user of this host")["to_do"]
    assert to_do.startswith("Start the epmd without -relaxed_command_check ")
    with nobody_else(form):
        assert codes_of(check(form.command, PORT)) == set()
    # Its own address counts as a stranger's.
    proxied = ["-not_local", OTHER_V4]
    with started(form.command, "-allow", "10.78.0.0/24", *proxied):
        seen = check(form.command, PORT)
        to_do = seen.about("address", OTHER_V4)["to_do"]
        assert to_do == "Add this address to its -allow or ERL_EPMD_ALLOW."
    with started(form.command, "-allow", f"10.78.0.0/24,{OTHER_V4}", *proxied):
        assert codes_of(check(form.command, PORT)) == set()


def forwarded_port(form) -> None:
    """It is closed to others, then the forwarding ends, and the port is this host's."""
    with (
        contextlib.closing(Neighbour()) as neighbour,
        contextlib.ExitStack() as stack,
        reserved_port() as port,
    ):
        with neighbour.inside():
            container = stack.enter_context(started_there(form))
        with contextlib.ExitStack() as published:
            forward(published, f"0.0.0.0:{PORT}", f"{THERE_V4}:{PORT}")
            to_do = check(form.command, PORT).about("exposure")["to_do"]
            assert to_do.startswith("Let the forwarder listen on 127.0.0.1 only")
        with contextlib.ExitStack() as published:
            forward(published, f"127.0.0.1:{PORT}", f"{THERE_V4}:{PORT}")
            seen = check(form.command, PORT)
            assert seen.about("exposure")["code"] == "loopback"
            to_do = seen.about("epmd")["to_do"]
            assert "start it with another ERL_EPMD_PORT. To free the port, end the forwarding" in to_do
            line = [*form.command, "-daemon", "-port", f"{port}"]
            assert run(line).returncode == 0
            register(port, node("mine"))[0].close()
            run([*form.command, "-port", f"{port}", "-kill"])
        # The container's is on no address of this host now, and its process can be seen.
        seen = check(form.command, PORT)
        (found,) = (f for f in seen.findings if f["code"] == "other_network")
        assert found["subject"] == f"process {container.pid}"
        (enter,) = commands_in(found["to_do"])
        assert enter == f"nsenter -t {container.pid} -n epmd -check"
        with neighbour.inside():
            inside = check(form.command, PORT)
        inner = check([*enter.split()[:-2], *form.command], PORT)
        assert inner.codes("epmd") == inside.codes("epmd") == {f"port {PORT}": ("ok", "answers")}
        told = seen.about("epmd")["to_do"]
        (daemon,) = commands_in(told)
        assert daemon == "epmd -daemon"
        assert run([*form.command, *daemon.split()[1:]]).returncode == 0
        assert codes_of(check(form.command, PORT), "open") == set()
        run([*form.command, "-kill"])


@contextlib.contextmanager
def started_there(form):
    process = subprocess.Popen([*form.command], env=clean_environment(), start_new_session=True)
    try:
        wait_until(lambda: answers(PORT), "the container's to answer")
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


# --- Firewalls ---


FILTER = """
table inet wall {{
    chain input {{
        type filter hook input priority 0; policy accept;
        tcp dport {{ {epmd}, {node} }} drop
    }}
}}
"""


def firewall(form) -> None:
    """On loopback, then between the hosts, then in front of a node; and one that rejects."""
    with (
        started(form.command, "-allow", "10.78.0.0/24"),
        listening() as port,
        nodes(PORT, port),
        contextlib.closing(Neighbour()) as neighbour,
    ):
        Path("/run/rules").write_text(FILTER.format(epmd=PORT, node=port))
        nft("-f", "/run/rules")
        to_do = check(form.command, PORT).about("epmd")["to_do"]
        assert to_do.startswith("Let this host's firewall accept everything on the interface lo")
        nft("insert", "rule", "inet", "wall", "input", "iifname", "lo", "accept")
        assert codes_of(check(form.command, PORT)) == set()
        with neighbour.inside():
            to_do = check(form.command, PORT, "-host", HERE_V4).about("epmd")["to_do"]
            assert to_do.startswith("Open this TCP port in the firewall between the hosts")
        nft("insert", "rule", "inet", "wall", "input", "tcp", "dport", f"{PORT}", "accept")
        with neighbour.inside():
            to_do = check(form.command, PORT, "-host", HERE_V4).about("node")["to_do"]
            assert to_do.startswith(f"Open TCP port {port} in the firewall.")
        nft("insert", "rule", "inet", "wall", "input", "tcp", "dport", f"{port}", "accept")
        with neighbour.inside():
            assert codes_of(check(form.command, PORT, "-host", HERE_V4)) == set()
        rejected = ["ip", "daddr", OTHER_V4, "tcp", "dport", f"{PORT}", "reject", "with", "icmp"]
        nft("insert", "rule", "inet", "wall", "input", *rejected, "host-unreachable")
        seen = check(form.command, PORT)
        assert seen.about("address", OTHER_V4)["to_do"] == "Check the routes and the firewall of this host."
        nft("flush", "ruleset")
        assert codes_of(check(form.command, PORT)) == set()


# --- Names ---


def names_of_the_host(form) -> None:
    cured = set()
    with started(form.command, "-allow", "10.78.0.0/24"):
        for name, hosts, code in (
            (BOX, "", "nxdomain"),
            ("x" * 64, "", "nxdomain"),
            (BOX, f"{THERE_V4} {BOX}", "unreachable"),
            (BOX, f"fd77::1 {BOX}", "ipv6"),
            ("10.77.0.1", "", "ip_address"),
            ("(none)", "", "nxdomain"),
        ):
            be_named(name, hosts)
            seen = check(form.command, PORT)
            assert codes_of(seen) == {("name", code)}, (name, hosts)
            to_do = seen.about("name", name)["to_do"]
            if name == "(none)":
                assert "`127.0.1.1 NAME` to /etc/hosts" in to_do
                cured.add((BOX, f"127.0.1.1 {BOX}"))
            elif lines := [line for line in commands_in(to_do) if line.startswith("127.0.1.1 ")]:
                cured.add((name, lines[0]))
            elif "Give the host a" in to_do:
                cured.add((BOX, f"127.0.1.1 {BOX}"))
            else:
                assert to_do.startswith("Correct /etc/hosts or the DNS") or "an IPv4 address" in to_do
                cured.add((name, f"127.0.1.1 {name}"))
        for name, hosts in cured:
            be_named(name, hosts)
            assert codes_of(check(form.command, PORT)) == set(), (name, hosts)
    be_named(BOX, f"{OTHER_V4} {BOX}")
    with nobody_else(form):
        to_do = check(form.command, PORT).about("name", BOX)["to_do"]
        assert to_do.endswith(f"Or give {BOX} another address in /etc/hosts.")
        be_named(BOX, f"127.0.1.1 {BOX}")
        assert codes_of(check(form.command, PORT)) == set()


def be_named(name: str, hosts: str) -> None:
    Path("/proc/sys/kernel/hostname").write_text(name)
    Path("/etc/hosts").write_text(f"{LOCALHOST}{hosts}\n")


# --- Nodes ---


def nodes_that_are_mended(form) -> None:
    with nobody_else(form), reserved_port() as port:
        for at, name in (("127.0.0.9", "x@127.0.0.9"), ("127.0.0.1", "x@localhost")):
            with program(port, port, PORT, at=at):
                seen = check(form.command, PORT)
                assert seen.codes("node") == {"x": ("warning", "elsewhere")}
                told = seen.about("node")["to_do"]
                assert told.startswith(f"Name it x@{at}, or make it listen on all addresses")
            wait_until(lambda: not names(PORT), "the name to be free")
            with program(port, port, PORT, "-name", name, at=at):
                assert codes_of(check(form.command, PORT)) == set(), name
            wait_until(lambda: not names(PORT), "the name to be free")
        with program(port, port, PORT):
            assert codes_of(check(form.command, PORT)) == set()
    # It leads nowhere, and is corrected.
    with nobody_else(form), reserved_port() as port, program(port, port, PORT, "-name", "x@there.example"):
        to_do = check(form.command, PORT).about("node")["to_do"]
        assert to_do.startswith("Correct there.example in /etc/hosts")
        be_named(BOX, f"127.0.1.1 {BOX} there.example")
        assert codes_of(check(form.command, PORT)) == set()
    with started(list(C.command)), listening() as port:
        for length, code in ((255, "lookup"), (254, "answers")):
            with register(PORT, node("n" * length, port))[0]:
                seen = check(form.command, PORT)
                assert seen.about("node")["code"] == code
                assert code == "answers" or seen.about("node")["to_do"].startswith("Use a shorter name")
            wait_until(lambda: not names(PORT), "the name to be free")


# --- The epmd ---


def epmd_that_is_mended(form) -> None:
    with nobody_else(form) as _:
        pid = int(check(form.command, PORT).told["epmd"]["pid"])
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state(pid) == "T", "it to stop")
        to_do = check(form.command, PORT).about("epmd")["to_do"]
        shell(to_do.removeprefix("Continue the process: "))
        wait_until(lambda: state(pid) != "T", "it to go on")
        assert codes_of(check(form.command, PORT)) == set()
    delays = ["-delay_accept", "5"]
    with subprocess.Popen([*form.command, "-loopback", *delays], start_new_session=True) as process:
        wait_until(lambda: b":4369 " in run([real("ss"), "-Hltn"]).stdout, "it to listen")
        to_do = check(form.command, PORT).about("epmd")["to_do"]
        process.kill()
    without = re.match("Start the epmd without ([^,]+), which simulate", to_do)
    assert without[1] == delays[0]
    with nobody_else(form):
        assert codes_of(check(form.command, PORT)) == set()


def epmd_that_hangs(form) -> None:
    """C's, because of a reader; it is neither stopped nor ours, and a new one answers."""
    with started(list(C.command)), contextlib.ExitStack() as stack:
        for request in long_nodes(900):
            stack.enter_context(register(PORT, request)[0])
        stack.enter_context(slow_reader(PORT))
        to_do = check(form.command, PORT).about("epmd")["to_do"]
        assert "is not stopped, so it is busy or hangs. If it stays so, restart it" in to_do
    with started(list(C.command)):
        assert codes_of(check(form.command, PORT), "open") == set()


def several_epmds(form) -> None:
    """On different addresses, as systemd's sockets and a node's start make them."""
    with bound("127.0.0.1", PORT) as v4, bound("127.0.1.1", PORT) as named, bound(OTHER_V4, PORT) as other:
        with activated(form.command, [v4, named]):
            seen = check(form.command, PORT)
            assert ("address", "refused") in codes_of(seen)
            wanted = re.findall(r"ListenStream=([^\\]+)", seen.about("address", "::1")["to_do"])
            assert sorted(wanted) == ["127.0.0.1:4369", "127.0.1.1:4369", "[::1]:4369"]
            with activated(form.command, [other]):
                seen = check(form.command, PORT)
                assert ("process", "several") in codes_of(seen)
                assert seen.about("process", f"port {PORT}")["to_do"].startswith("Keep only one")
            other.close()
            assert ("process", "several") not in codes_of(check(form.command, PORT))
        with bound("::1", PORT) as v6, activated(form.command, [v4, named, v6]):
            assert codes_of(check(form.command, PORT)) == set()


def full_one_is_given_more(form) -> None:
    """Ours more descriptors; C's fewer nodes, or ours in its place."""
    limited = ["sh", "-c", 'ulimit -n "$1"; shift; exec "$@"', "sh"]
    for number, code in ((60, "full"), (200, "")):
        with (
            started([*limited, f"{number}", *form.command, "-loopback"]),
            listening() as port,
            nodes(PORT, *[port] * 35),
        ):
            seen = check(form.command, PORT)
            assert codes_of(seen) == ({("limits", code)} if code else set())
            assert not code or "`ulimit -n`" in seen.about("limits")["to_do"]
    few = started([*limited, "60", *C.command], ERL_EPMD_ADDRESS="127.0.1.1")
    with few as one, listening() as port, contextlib.ExitStack() as needed, contextlib.ExitStack() as idle:
        most = check(form.command, PORT).told["limits"]["most_nodes"]
        needed.enter_context(nodes(PORT, *[port] * (most - 10)))
        for number in range(10):
            idle.enter_context(register(PORT, node(f"idle{number}", port))[0])
        seen = check(form.command, PORT)
        assert codes_of(seen) == {("limits", "full")}
        to_do = seen.about("limits")["to_do"]
        assert to_do.startswith("End nodes that are not needed, or run gevent-epmd in its place: ")
        idle.close()
        wait_until(lambda: len(names(PORT)) == most - 10, "them to go")
        assert codes_of(check(form.command, PORT)) == set()
        for number in range(10):
            idle.enter_context(register(PORT, node(f"idle{number}", port))[0])
        done = run([*form.command, "-takeover", "-daemon", "-loopback"])
        assert done.returncode == 0, done.stderr
        seen = check(form.command, PORT)
        assert codes_of(seen) == set()
        assert seen.told["limits"]["nodes"] == most
        assert one.wait(PATIENCE), "it was killed"
        os.kill(int(seen.told["epmd"]["pid"]), signal.SIGTERM)


if __name__ == "__main__":
    main(globals(), {form.__name__: form for form in [*PROGRAMS.values(), C]})
