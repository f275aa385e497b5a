"""Hosts for `epmd -check` to look at: `python -m support.check_scenes SCENE FORM` in namespaces.

Each scene is called with a form of ours, whose command looks, and which mostly serves, too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

from gevent_epmd import __version__
from gevent_epmd.wire import DEFAULT_PORT
from support.checking import BOX, call, check, main
from support.firewall import blocked_port
from support.forms import PROGRAMS, C, otp_of
from support.hostile import Hostile, playing
from support.neighbour import HERE_V4, HERE_V6, THERE_V4, Neighbour, forward_packets
from support.patience import wait_until
from support.peer import Peer, node, register, try_to_register
from support.ports import answers, reserved_port
from support.programs import clean_environment
from support.scenes import OTHER_V4, OTHER_V6
from support.strangers import ClosesAtOnce, Dripping, Endless, Http, Mute


@contextlib.contextmanager
def nodes(port: int, *ports: int):
    """Nodes that are registered with these ports, and named for their places: n0, n1, and so on."""
    with contextlib.ExitStack() as held:
        for number, at in enumerate(ports):
            held.enter_context(register(port, node(f"n{number}", at))[0])
        yield


@contextlib.contextmanager
def listening(host: str = "0.0.0.0"):
    """The port of somebody who listens there, as a node does, and has room for thousands."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=4096) as listener:
        yield listener.getsockname()[1]


def all_is_well(form) -> None:
    with form() as server, listening() as port, nodes(server.port, port):
        seen = check(form.command, server.port)
        assert seen.status == 0
        assert seen.codes("epmd") == {f"port {server.port}": ("ok", "answers")}
        assert seen.codes("address") == dict.fromkeys(
            ("127.0.0.1", "::1", OTHER_V4, OTHER_V6), ("ok", "answers")
        )
        assert seen.codes("name") == {BOX: ("ok", "found"), f"{BOX}.example": ("ok", "found")}
        assert seen.about("node", "n0")["seen"].startswith(
            f"accepts connections at {OTHER_V4}:{port}: process "
        )
        process = seen.about("process", f"process {server.pid}")
        assert (process["state"], process["code"]) == ("ok", "ours")
        assert process["seen"].startswith(f"gevent-epmd {__version__}, /"), process
        assert seen.codes("exposure") == {"other hosts": ("warning", "open")}


def c_is_well(form) -> None:
    with C() as server, listening() as port, nodes(server.port, port):
        seen = check(form.command, server.port)
        assert seen.status == 0
        process = seen.about("process", f"process {server.pid}")
        assert process["code"] == "c"
        assert f"C's epmd of OTP {otp_of(C.command[0])} (ERTS " in process["seen"]
        assert seen.codes("exposure") == {"other hosts": ("warning", "open")}


def options_of_what_runs(form) -> None:
    os.mkdir("/run/here")
    Path("/run/networks").write_text("ERL_EPMD_ALLOW=10.0.0.0/8\n")
    cases = (
        (["-loopback"], {}, {"other hosts": ("ok", "loopback")}),
        (["-allow", "10.0.0.0/8,fd00::/8"], {}, {"other hosts": ("ok", "allow")}),
        (["-port_file", "/run/here/port", "-allow", ""], {}, {"other hosts": ("ok", "allow")}),
        (["-allow_file", "/run/networks"], {}, {"other hosts": ("ok", "allow")}),
        (
            ["-relaxed_command_check"],
            {},
            {"other hosts": ("warning", "open"), "every user of this host": ("warning", "relaxed")},
        ),
        (
            ["-loopback"],
            {"ERL_EPMD_RELAXED_COMMAND_CHECK": ""},
            {"other hosts": ("ok", "loopback"), "every user of this host": ("warning", "relaxed")},
        ),
    )
    # Of an executable: that the options and the environment are those of the process behind the launcher.
    for options, environ, expected in cases if form is PROGRAMS["source"] else cases[2::3]:
        with form(*options, environ=environ) as server:
            if os.path.exists("/run/here/port"):
                os.rename("/run/here", "/run/gone")
            seen = check(form.command, server.port)
            assert seen.codes("exposure") == expected, options
            if "10.0.0.0/8,fd00::/8" in options:
                assert "10.0.0.0/8, fd00::/8" in seen.about("exposure")["seen"]


def there_is_no_proc(form) -> None:
    """As in a bare chroot: what was asked over the network is told all the same."""
    hidden = ["unshare", "--mount", "sh", "-e", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh"]
    with (
        form() as server,
        listening() as port,
        listening("127.0.0.9") as elsewhere,
        nodes(server.port, port, elsewhere),
    ):
        seen = check([*hidden, *form.command], server.port)
        assert seen.codes("epmd") == {f"port {server.port}": ("ok", "answers")}
        assert seen.codes("process") == {}
        assert seen.codes("node") == {"n0": ("ok", "answers"), "n1": ("wrong", "refused")}
        assert seen.codes("exposure") == {"other hosts": ("warning", "open")}
        assert "its -allow, which cannot be read" in seen.about("exposure")["seen"]


def own_name_is_127_0_1_1(form) -> None:
    """As on Debian and Ubuntu: an epmd on the two usual loopback addresses is not found."""
    with form("-address", "127.0.0.1") as server:
        seen = check(form.command, server.port)
        assert seen.status == 1
        assert seen.codes("name") == {BOX: ("wrong", "refused")}
        assert "127.0.1.1" in seen.about("name")["seen"]
        assert "-loopback" in seen.about("name")["to_do"]
    for options in (["-loopback"], []):
        with form(*options) as server:
            seen = check(form.command, server.port)
            assert (seen.status, seen.codes("name")) == (0, {BOX: ("ok", "found")})


def own_name_is_not_found(form) -> None:
    with form() as server:
        seen = check(form.command, server.port)
        assert seen.status == 0
        assert seen.codes("name") == {BOX: ("warning", "nxdomain")}
        assert BOX in seen.about("name")["to_do"]


def own_name_is_elsewhere(form) -> None:
    """The name has the address of another host, where there is no epmd, or another one than here."""
    with form() as server, contextlib.closing(Neighbour()) as neighbour:
        seen = check(form.command, server.port)
        assert (seen.status, seen.codes("name")) == (1, {BOX: ("wrong", "refused")})
        assert "not an address of this host" in seen.about("name")["to_do"]
        command = [*form.command, "-port", str(server.port), "-address", THERE_V4]
        with neighbour.inside():
            there = subprocess.Popen(command, env=clean_environment(), start_new_session=True)
        with there:
            wait_until(lambda: answers(server.port, THERE_V4), "the neighbour's to answer")
            seen = check(form.command, server.port)
            there.terminate()
        assert (seen.status, seen.codes("name")) == (0, {BOX: ("warning", "foreign")})


def ipv6_alone(form) -> None:
    """127.0.0.1 is missing, and that is nothing to complain about."""
    with served_over_ipv6(form), listening("::1") as port, Peer(DEFAULT_PORT, "::1") as held:
        assert try_to_register(held, node("n0", port))[1] == 0
        seen = check(form.command, DEFAULT_PORT)
        assert seen.status == 0, seen.findings
        assert seen.codes("address") == {"::1": ("ok", "answers"), OTHER_V6: ("ok", "answers")}
        assert seen.codes("name") == {BOX: ("warning", "ipv6")}
        assert seen.about("node")["seen"].startswith(f"accepts connections at [::1]:{port}: process ")


@contextlib.contextmanager
def served_over_ipv6(form):
    """A server whom nobody can ask over IPv4."""
    with subprocess.Popen(form.command, env=clean_environment(), start_new_session=True) as process:
        try:
            wait_until(lambda: answers(DEFAULT_PORT, "::1"), "it to answer")
            yield
        finally:
            process.terminate()


def ports_of_nodes(form) -> None:
    """One on every address, one on loopback alone, one that is dead, one that is blocked, one without a port
    on purpose, and one on an address alone that is not that of the host's name."""
    with (
        form() as server,
        listening() as everywhere,
        listening("127.0.0.1") as loopback,
        blocked_port(OTHER_V4) as blocked,
        reserved_port() as dead,
        listening("127.0.0.9") as elsewhere,
        nodes(server.port, everywhere, loopback, dead, blocked, 0, elsewhere),
    ):
        seen = check(form.command, server.port)
        assert seen.status == 1
        assert seen.codes("node") == {
            "n0": ("ok", "answers"),
            "n1": ("warning", "elsewhere"),
            "n2": ("wrong", "dead"),
            "n3": ("wrong", "blocked"),
            "n4": ("ok", "no_port"),
            "n5": ("warning", "elsewhere"),
        }
        assert f"TCP port {blocked}" in seen.about("node", "n3")["to_do"]
        assert os.getpid() == 1
        assert seen.about("node", "n2")["to_do"].startswith("Process 1 holds the registration, and ")
        assert f"127.0.0.9:{elsewhere} only" in seen.about("node", "n5")["seen"]


def dead_nodes_at_ports_that_the_kernel_chooses(form) -> None:
    """The kernel may connect a socket to itself there, which is no node that answers."""
    first = 40_000
    with form() as server, nodes(server.port, *range(first, first + 64)):
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{first} {first + 63}")
        for _ in range(3):
            assert {*check(form.command, server.port).codes("node").values()} == {("wrong", "dead")}


def from_another_host(form) -> None:
    with form() as server, contextlib.closing(Neighbour()) as neighbour, contextlib.ExitStack() as stack:
        everywhere, loopback = stack.enter_context(listening()), stack.enter_context(listening("127.0.0.1"))
        blocked = stack.enter_context(blocked_port(HERE_V4))
        stack.enter_context(nodes(server.port, everywhere, loopback, blocked))
        with neighbour.inside():
            seen = check(form.command, server.port, "-host", HERE_V4)
            assert seen.codes("address") == {HERE_V4: ("ok", "answers")}
            assert seen.codes("node") == {
                "n0": ("ok", "answers"),
                "n1": ("wrong", "refused"),
                "n2": ("wrong", "blocked"),
            }
            assert seen.status == 1
            assert "asked" in seen.codes("exposure")["this host"]
            assert check(form.command, server.port, "-host", HERE_V6).about("address")["state"] == "ok"
            # By a name that has both addresses.
            seen = check(form.command, server.port, "-host", "both.example")
            both = (f"resolves to {HERE_V4}, {HERE_V6}", f"resolves to {HERE_V6}, {HERE_V4}")
            assert seen.about("name")["seen"] in both
            assert seen.codes("address") == {HERE_V4: ("ok", "answers"), HERE_V6: ("ok", "answers")}


def from_another_host_in_vain(form) -> None:
    with contextlib.closing(Neighbour()) as neighbour:
        for options, code in ((["-loopback"], "refused"), (["-allow", "10.99.0.0/16"], "closed")):
            with form(*options) as server, neighbour.inside():
                seen = check(form.command, server.port, "-host", HERE_V4)
                assert seen.codes("address") == {}
                assert seen.codes("epmd") == {f"port {server.port}": ("wrong", code)}
            advice = seen.about("epmd")["to_do"]
            if code == "refused":
                assert advice.startswith(f"Run `epmd -check` on {HERE_V4}: ")
                with form(*options) as server:
                    assert check(form.command, server.port).about("exposure")["code"] == "loopback"
            else:
                assert advice.startswith("If it is an epmd with -allow, add this host")
                with form("-allow", f"10.99.0.0/16,{THERE_V4}") as server, neighbour.inside():
                    assert check(form.command, server.port, "-host", HERE_V4).status == 0
        forward_packets()
        with neighbour.inside():
            # No host has the first address; the router has no route to the second one.
            for host, codes in (("10.78.0.77", ("unreachable", "timeout")), ("10.9.9.9", ("unreachable",))):
                seen = check(form.command, 4369, "-host", host)
                assert seen.status == 1
                assert seen.about("epmd")["code"] in codes
                assert host in seen.about("epmd")["seen"]


def strangers(form) -> None:
    """Each is named, also to whoever looks from elsewhere."""
    for stranger, code in (
        (Http, "stranger"),
        (Mute, "mute"),
        (ClosesAtOnce, "closed"),
        (Dripping, "mute"),
        (Endless, "stranger"),
    ):
        with stranger() as there:
            seen = check(form.command, there.port)
            assert seen.status == 1
            assert seen.codes("epmd") == {f"port {there.port}": ("wrong", code)}, stranger
            assert "127.0.0.1" in seen.about("epmd")["seen"]
            process = seen.about("process", f"process {os.getpid()}")
            assert process["seen"].startswith(os.path.realpath("/proc/self/exe"))
            seen = check(form.command, there.port, "-host", "127.0.0.1")
            assert seen.codes("epmd") == {f"port {there.port}": ("wrong", code)}, stranger


_HOSTILE_NAMES = ["a\r\nb\x1b[2J", "\u202e\u009b", "ö" * 200, 'quote"\\', "name x at port 1"]


def names_control_no_terminal(form) -> None:
    with form() as server, listening() as port, contextlib.ExitStack() as held:
        for name in _HOSTILE_NAMES:
            held.enter_context(register(server.port, node(name, port))[0])
        for options in ([], ["-host", "127.0.0.1"]):
            done = call(form.command, "-port", str(server.port), *options, "-check")
            out = done.stdout.decode()
            assert done.stderr == b""
            assert all(line.isprintable() for line in out.splitlines() if line)
            assert out.count("\n") == len(out.splitlines())
            assert r"a\r\nb\x1b[2J" in out
            assert set(check(form.command, server.port, *options).codes("node")) == set(_HOSTILE_NAMES)


#: What an epmd may list that is none, or wants harm.
_HOSTILE_LISTS = {
    "not UTF-8": b"name \xff\x1b[2J at port 1\n",
    "no port": b"name a at port 4294967295\nname b at port 65536\nname c at port 0\n",
    "no lines": b"name " * 1000,
    "long": b"name %b at port 1\n" % (b"x" * 100_000),
}


def list_of_one_that_wants_harm(form) -> None:
    for title, listed in _HOSTILE_LISTS.items():
        with Hostile(playing([b"\0\0\x11\x11" + listed], 0, "closes")) as hostile:
            check(form.command, hostile.port, "-host", "127.0.0.1")
            done = call(form.command, "-port", str(hostile.port), "-check")
            assert done.stdout.decode().replace("\n", "").isprintable(), title


if __name__ == "__main__":
    main(globals(), {form.__name__: form for form in [*PROGRAMS.values(), C]})
