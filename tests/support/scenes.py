"""What needs a network of its own: `python -m support.scenes SCENE FORM` in a network namespace.

`run_scene` makes such a namespace, with loopback, and runs a scene there.  Where a scene has to do with
strangers, they are in another namespace.  A scene fails by an exception.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from gevent_epmd.protocol import PORT2_NOT_FOUND
from support.activation import DualStack
from support.erlang import Node
from support.firewall import blocked_port
from support.forms import FORMS, Process
from support.markdown import blocks
from support.neighbour import HERE_V4, HERE_V6, THERE_V4, THERE_V6, Neighbour, forward_packets
from support.paths import ROOT, TESTS
from support.patience import IN_VAIN, PATIENCE, wait_until
from support.peer import Peer, ask, names, node, register, try_to_register
from support.ports import answers, listening_inodes, reserved_port
from support.programs import clean_environment, real, run

#: Addresses that are this host's but no loopback.
OTHER_V4, OTHER_V6 = "10.77.0.1", "fd77::1"
SET_UP = {
    "plain": f"ip addr add {OTHER_V4}/32 dev lo; ip addr add {OTHER_V6}/128 dev lo nodad",
    "without IPv6": "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
    "IPv6 alone": f"ip -4 address flush dev lo; ip addr add {OTHER_V6}/128 dev lo nodad",
    "without IPv4": "ip -4 address flush dev lo",
    "without an address": "ip address flush dev lo",
}


def run_scene(scene, form, network: str = "plain") -> None:
    me = [sys.executable, "-m", "support.scenes", scene.__name__, form.__name__]
    done = run_apart(me, network, environ={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 0, done.stderr.decode()


def run_apart(command: list[str], network: str = "plain", prepare: str = ":", **how):
    """Run a program to its end in a network namespace of its own, as root of it, after a line of shell that
    may mount something; in a process namespace too, so that nobody whom it has started outlives it."""
    real("ip")
    script = f'ip link set lo up; {SET_UP[network]}; {prepare}; exec "$@"'
    alone = ["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return run([real("unshare"), *alone, "sh", "-e", "-c", script, "sh", *command], **how)


def strangers_may_only_look_up(form) -> None:
    """A stranger is on another host, or uses an address of ours that is not the one it connects to."""
    with form("-relaxed_command_check") as server, contextlib.closing(Neighbour()) as neighbour:
        holder, _ = register(server.port, node("foo"))
        for host, own in (("127.0.0.1", HERE_V4), ("::1", HERE_V6)):
            may_only_look_up(server.port, host, own)
            with neighbour.inside():
                may_only_look_up(server.port, own)
            with Peer(server.port, own, source=own) as local:
                assert try_to_register(local, node("bar"))[1] == 0, "this host's own address is local"
            with Peer(server.port, own, source=host) as local:
                assert try_to_register(local, node("baz"))[1] == 0, "loopback is local"
        assert holder.is_open()
        holder.close()


def assert_complaint(server, text: str, host: str) -> None:
    """It is in the log, and says whose it was."""
    peer = re.escape(f"[{host}]" if ":" in host else host)
    assert re.search(rf": {text} from {peer}:\d+(?: \(and \d+ more like this\))?\r?$", server.log(), re.M), (
        text
    )


def may_only_look_up(port: int, host: str, source: str = "") -> None:
    for packet in (node("bar").packet(), b"d", b"k", b"sfoo"):
        assert ask(port, packet, host, source) == b"", packet
    assert ask(port, b"zbar", host, source) == PORT2_NOT_FOUND
    assert ask(port, b"zfoo", host, source).startswith(b"w\0")
    assert ask(port, b"n", host, source).endswith(b"name foo at port 4711\n")


def it_serves_without_ipv6(form) -> None:
    for options in ([], ["-address", "127.0.0.1"], ["-address", "127.0.0.5"]):
        serves_but_not_over_ipv6(form, options)


def it_serves_a_wildcard_without_ipv6(form) -> None:
    serves_but_not_over_ipv6(form, ["-address", "0.0.0.0"])


def serves_but_not_over_ipv6(form, options: list[str]) -> None:
    with form(*options) as server:
        assert not names(server.port)
        assert not answers(server.port, "::1")


def missing_ipv6_is_worth_no_line(form) -> None:
    with form("-address", "127.0.0.1") as server:
        assert server.log() == ""


def an_asked_for_ipv6_address_is_missed(form) -> None:
    for address in ("::1", "127.0.0.1,::1"):
        patience = IN_VAIN if form.is_c else PATIENCE  # C's of OTP 25 serves
        ended = run([*form.command, "-port", "4369", "-address", address], timeout=patience)
        assert (ended.returncode, ended.stdout) == (1, b"")
        assert b"failed to bind on ipaddr ::" in ended.stderr


def dual_stack_sockets_know_who_is_local(form) -> None:
    assert issubclass(form, Process)
    with form("-systemd") as server, contextlib.closing(Neighbour()) as neighbour:
        holder, _ = register(server.port, node("foo"))
        may_only_look_up(server.port, "127.0.0.1", HERE_V4)
        may_only_look_up(server.port, "::1", HERE_V6)
        with neighbour.inside():
            may_only_look_up(server.port, HERE_V4)
            may_only_look_up(server.port, HERE_V6)
        with Peer(server.port, HERE_V4, source=HERE_V4) as peer:
            assert try_to_register(peer, node("bar"))[:2] == b"v\0"
        holder.close()


def loopback_is_all_there_is(form) -> None:
    for options, environ in ((["-loopback"], {}), ([], {"ERL_EPMD_LOOPBACK": ""})):
        with form(*options, environ=environ) as server:
            assert answers(server.port)
            assert answers(server.port, "127.0.1.1")
            assert answers(server.port, "::1")
            assert not answers(server.port, "127.0.0.2")
            assert not answers(server.port, OTHER_V4)
            assert not answers(server.port, OTHER_V6)


def loopback_is_ipv6_alone(form) -> None:
    command = [*form.command, "-loopback", "-port", "0", "-port_file", "-"]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        assert answers(port, "::1")
        assert ask(port, b"k", "::1") == b"OK"
        assert process.wait(PATIENCE) == 0


def loopback_is_ipv4_alone(form) -> None:
    with form("-loopback") as server:
        assert answers(server.port)
        assert answers(server.port, "127.0.1.1")


def there_is_no_loopback_address(form) -> None:
    ended = run([*form.command, "-loopback"])
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.endswith(b"failed to bind on any loopback address\r\n")


def nodes_find_each_other_by_debians_own_name(form) -> None:
    """The hosts file is what Debian and Ubuntu make: the host's own name is 127.0.1.1."""
    name = socket.gethostname().partition(".")[0]
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        hosts.flush()
        assert run([real("mount"), "--bind", hosts.name, "/etc/hosts"]).returncode == 0
        for options, environ in ((["-loopback"], {}), ([], {"ERL_EPMD_LOOPBACK": "1"})):
            with form(*options, environ=environ) as server, contextlib.ExitStack() as stack:
                for own in ("a", "b"):
                    command = [real("erl"), "-sname", own, "-start_epmd", "false", "-setcookie", "biscuit"]
                    erl = Node(command, {"ERL_EPMD_PORT": str(server.port)})
                    stack.callback(erl.halt)
                assert erl.eval(f'inet:getaddr("{name}", inet)') == "{ok,{127,0,1,1}}"
                assert erl.eval(f"net_adm:ping('a@{name}')") == "pong"


def second_start_without_ipv4(form) -> None:
    """The running one can be asked at ::1 alone."""
    line = [*form.command, "-port", "4369", "-daemon"]
    for options in ([], ["-loopback"]):
        for _ in range(2):
            assert run([*line, *options]).stderr == b""
        assert run([*line, *options]).returncode == 0
        assert ask(4369, b"k", "::1") == b"OK"


def first_address_of_a_host_is_dead(form) -> None:
    """Its packets are dropped, and those of the second one are not."""
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write("127.0.0.8 two\n127.0.0.9 two\n")
        hosts.flush()
        assert run([real("mount"), "--bind", hosts.name, "/etc/hosts"]).returncode == 0
        first, second = (at[0] for *_, at in socket.getaddrinfo("two", 1, type=socket.SOCK_STREAM))
        with form("-address", second) as server, blocked_port(first, server.port):
            for call in ("-names", "-started"):
                done = run([*form.command, "-port", str(server.port), "-host", "two", call])
                assert (done.returncode, done.stderr) == (0, b""), "the first one took all the time"


def firewall_on_loopback(form) -> None:
    """It drops or rejects what comes from the port, at one address or at both."""
    line = [*form.command, "-port", "4369", "-daemon"]
    for options in ([], ["-loopback"]):
        with packets_blocked("127.0.0.1", "127.0.1.1", "::1"):
            done = run([*line, *options])
            assert (done.returncode, done.stdout) == (1, b"")
            said = b"cannot serve: port 4369 does not answer on loopback (timed out): "
            assert done.stderr.endswith(said + b"does a firewall block it?\r\n"), done.stderr
            assert not listening_inodes(4369)
    for half in (["127.0.0.1", "127.0.1.1"], ["::1"]):
        with packets_blocked(*half):
            done = run(line)
            assert (done.returncode, done.stderr) == (0, b""), "nodes of the other family can ask"
            assert run([*form.command, "-names"]).returncode == 0
            assert run([*form.command, "-kill"]).stdout == b"Killed\n"


@contextlib.contextmanager
def packets_blocked(*hosts: str):
    """Drop what port 4369 of these addresses sends, as a firewall might that drops what it receives."""
    rules = [
        ["ip", "-6" if ":" in host else "-4", "rule", "add", "pref", "1", "from", host, "ipproto", "tcp",
         "sport", "4369", "blackhole"]
        for host in hosts
    ]  # fmt: skip
    for family in ("-4", "-6"):
        # The rule for local addresses comes first, until it is moved.
        run(["ip", family, "rule", "add", "pref", "9", "lookup", "local"])
        run(["ip", family, "rule", "delete", "pref", "0"])
    try:
        for rule in rules:
            assert run(rule).returncode == 0
        yield
    finally:
        for rule in rules:
            assert run([word.replace("add", "delete") for word in rule]).returncode == 0


def only_the_allowed_may_ask(form) -> None:
    """A peer at another address of this host than it connects to counts as one of another host."""
    with form("-allow", "10.77.0.0/16, fd99::/16", "-packet_timeout", "600") as server:
        holder, _ = register(server.port, node("foo"))
        may_only_look_up(server.port, "127.0.0.1", OTHER_V4)
        for packet in (b"n", b"zfoo", node("bar").packet()):
            assert ask(server.port, packet, "::1", OTHER_V6) == b"", packet
        with Peer(server.port, "::1", source=OTHER_V6) as barred:
            assert barred.read_all() == b"", "it is closed without a request"
        assert_complaint(server, "ALIVE2_REQ from non local address", OTHER_V4)
        assert_complaint(server, "closing a connection that is not allowed", OTHER_V6)
        for host in ("127.0.0.1", "::1", OTHER_V6):
            assert ask(server.port, b"zfoo", host).startswith(b"w\0"), "this host may always"
        holder.close()


def peers_of_a_proxy_are_no_local_ones(form) -> None:
    """Neither those that the proxy gives an address of loopback nor those with an address of this host."""
    proxy = f"127.0.0.6,{OTHER_V4}, {OTHER_V6}"
    for options, environ in ((["-not_local", proxy], {}), ([], {"ERL_EPMD_NOT_LOCAL": proxy})):
        with form("-relaxed_command_check", *options, environ=environ) as server:
            holder, _ = register(server.port, node("foo"))
            may_only_look_up(server.port, "127.0.0.1", "127.0.0.6")
            may_only_look_up(server.port, OTHER_V4, OTHER_V4)
            may_only_look_up(server.port, OTHER_V6, OTHER_V6)
            assert_complaint(server, "ALIVE2_REQ from non local address", "127.0.0.6")
            for host in ("127.0.0.1", "127.0.0.7", "::1"):
                with Peer(server.port, host, source=host) as local:
                    assert try_to_register(local, node("bar"))[:2] == b"v\0"
                wait_until(lambda port=server.port: len(names(port)) == 1, "bar to go")
            holder.close()
    with form("-not_local", proxy, "-allow", "10.99.0.0/16") as server:
        assert ask(server.port, b"n", "127.0.0.1", "127.0.0.6") == b""
        assert len(ask(server.port, b"n")) == 4
    with (
        form("-not_local", proxy, "-allow_register", "127.0.0.6") as server,
        Peer(server.port, source="127.0.0.6") as peer,
    ):
        assert try_to_register(peer, node("far"))[:2] == b"v\0"
        assert ask(server.port, b"k", source="127.0.0.6") == b""


def nodes_of_other_hosts_may_register_and_no_more(form) -> None:
    """Of these networks, and whatever the check of STOP and KILL; they may ask, whatever -allow says."""
    networks = "10.78.0.0/24, fd78::2"
    for options in ([], ["-allow", "10.99.0.0/16"]):
        with (
            form("-allow_register", networks, "-relaxed_command_check", *options) as server,
            contextlib.closing(Neighbour()) as neighbour,
        ):
            for own, there in ((HERE_V4, THERE_V4), (HERE_V6, THERE_V6)):
                with neighbour.inside():
                    peer = Peer(server.port, own, source=there)
                assert try_to_register(peer, node("far"))[:2] == b"v\0"
                assert ask(server.port, b"zfar").startswith(b"w\0")
                with neighbour.inside():
                    assert ask(server.port, b"n", own).endswith(b"name far at port 4711\n")
                    for packet in (b"d", b"k", b"sfar"):
                        assert ask(server.port, packet, own) == b"", packet
                assert names(server.port) == ["far at port 4711"]
                assert keepalive_of(server.port, there)
                peer.close()
                wait_until(lambda port=server.port: not names(port), "far to go")
            with Peer(server.port, HERE_V4, source=HERE_V4) as local:
                assert try_to_register(local, node("near"))[:2] == b"v\0"
                assert not keepalive_of(server.port, HERE_V4), "the end of a local node is always seen"
            may_not_register(server.port, "::1", OTHER_V6)
            may_not_register(server.port, "127.0.0.1", OTHER_V4)


def may_not_register(port: int, host: str, source: str) -> None:
    assert ask(port, node("bar").packet(), host, source) == b""


def keepalive_of(port: int, peer: str) -> bool:
    """Whether the kernel asks this registered peer now and then whether it is there."""
    address = f"[{peer}]" if ":" in peer else peer
    call = [real("ss"), "-Htno", "state", "established", f"sport = :{port} and dst {address}"]
    found = run(call).stdout.decode()
    assert peer in found
    return "timer:(keepalive," in found


@contextlib.contextmanager
def two_containers():
    """Two hosts that are not this one, and reach each other through it."""
    forward_packets()
    with contextlib.closing(Neighbour(78)) as one, contextlib.closing(Neighbour(79)) as other:
        yield one, other


NETWORKS = "10.78.0.0/24,10.79.0.0/24"


def start_node(stack: contextlib.ExitStack, port: int, *options: str) -> Node:
    command = [real("erl"), *options, "-start_epmd", "false", "-setcookie", "biscuit"]
    erl = Node(command, {"ERL_EPMD_PORT": str(port), "HOME": "/nonexistent"})
    stack.callback(erl.kill)
    return erl


def nodes_of_two_containers_share_an_epmd(form) -> None:
    """By a module of theirs that registers them with it, and asks it for the others."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        example = ROOT / "docs" / "examples" / "shared_epmd.erl"
        assert run([real("erlc"), "-Wall", "-Werror", "-o", folder, str(example)]).returncode == 0
        containers = stack.enter_context(two_containers())
        server = stack.enter_context(form("-allow_register", NETWORKS))
        nodes = []
        for name, container in zip(("a", "b"), containers, strict=True):
            module = ["-pa", folder, "-epmd_module", "shared_epmd", "-shared_epmd", container.here_v4]
            with container.inside():
                assert not answers(server.port)
                own = ["-name", f"{name}@{container.there_v4}"]
                nodes.append(start_node(stack, server.port, *own, *module))
        they_reach_each_other(server, nodes)
        found = nodes[0].eval("{ok, Found} = net_adm:names(), lists:sort([Name || {Name, _} <- Found])")
        assert found == '["a","b"]'
        with containers[1].inside():
            for packet in (b"k", b"d"):
                assert ask(server.port, packet, containers[1].here_v4) == b""
            own = ["-name", f"a@{containers[1].there_v4}", *module]
            said = said_by_a_node_that_does_not_start(server.port, *own)
            assert "seems to be in use by another Erlang node" in said
        server.kill_and_start_again("-allow_register", NETWORKS)
        wait_until(lambda: len(names(server.port)) == 2, "both to register with the next one")
        nodes[0].halt()
        wait_until(lambda: len(names(server.port)) == 1, "the one to go")


def said_by_a_node_that_does_not_start(port: int, *options: str) -> str:
    command = [real("erl"), *options, "-start_epmd", "false", "-setcookie", "biscuit", "-noinput"]
    environ = {"ERL_EPMD_PORT": str(port), "HOME": "/nonexistent", "ERL_CRASH_DUMP": "/dev/null"}
    done = run(command, environ=environ)
    assert done.returncode != 0
    return (done.stdout + done.stderr).decode()


def they_reach_each_other(server, nodes: list[Node]) -> None:
    assert sorted(line.split()[0] for line in names(server.port)) == ["a", "b"]
    first, second = (erl.eval("node()") for erl in nodes)
    assert nodes[0].eval(f"net_adm:ping({second})") == "pong"
    assert nodes[1].eval(f"erpc:call({first}, erlang, node, [])") == first


def nodes_of_two_containers_are_forwarded(form) -> None:
    """Without any code of theirs: what comes to 127.0.0.1 is forwarded to the epmd of the host, and the port
    of each node is published at the host, whose name they bear."""
    with contextlib.ExitStack() as stack:
        containers = stack.enter_context(two_containers())
        server = stack.enter_context(form("-allow_register", NETWORKS))
        nodes = []
        for name, container in zip(("a", "b"), containers, strict=True):
            own = stack.enter_context(reserved_port())
            forward(stack, f"{OTHER_V4}:{own}", f"{container.there_v4}:{own}")
            with container.inside():
                forward(stack, f"127.0.0.1:{server.port}", f"{container.here_v4}:{server.port}")
                listen = ["inet_dist_listen_min", f"{own}", "inet_dist_listen_max", f"{own}"]
                options = ["-name", f"{name}@{OTHER_V4}", "-kernel", *listen]
                nodes.append(start_node(stack, server.port, *options))
        they_reach_each_other(server, nodes)
        nodes[0].halt()
        wait_until(lambda: len(names(server.port)) == 1, "the one to go")


def forward(stack: contextlib.ExitStack, at: str, to: str) -> None:
    """Forward connections, as socat, or what publishes the port of a container, does."""
    command = [real("systemd-socket-activate"), "-l", at, real("/lib/systemd/systemd-socket-proxyd"), to]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    stack.callback(process.wait, PATIENCE)
    stack.callback(process.kill)
    wait_until(lambda: f" {at} " in run([real("ss"), "-Htln"]).stdout.decode(), f"somebody to listen at {at}")


def dual_stack_sockets_know_who_may_register(form) -> None:
    """An IPv4 peer is one, however its network was written."""
    for networks, may in (
        ("::ffff:10.78.0.0/120", True),
        ("::/0", False),
    ):
        with (
            form("-systemd", "-allow_register", networks) as server,
            contextlib.closing(Neighbour()) as neighbour,
        ):
            with neighbour.inside():
                peer = Peer(server.port, HERE_V4)
            assert (try_to_register(peer, node("far"))[:2] == b"v\0") == may, networks
            peer.close()


def dual_stack_sockets_know_who_is_allowed(form) -> None:
    """An IPv4 peer is one, however its network was written; ::/0 is the peers of IPv6."""
    for networks, v4, v6 in (
        ("10.77.0.0/16", True, False),
        ("::ffff:0:0/96", True, False),
        ("::/0", False, True),
        ("::ffff:10.99.0.0/112,fd77::/16", False, True),
    ):
        with form("-systemd", "-allow", networks) as server, contextlib.closing(Neighbour()) as neighbour:
            for host, source, may in (("127.0.0.1", OTHER_V4, v4), ("::1", OTHER_V6, v6)):
                assert (len(ask(server.port, b"n", host, source)) == 4) == may, (networks, source)
            with neighbour.inside():
                everybody = networks == "::ffff:0:0/96"
                assert (len(ask(server.port, b"n", HERE_V4)) == 4) == everybody, networks
            for host, source in (("127.0.0.1", "127.0.0.9"), (HERE_V4, HERE_V4), (HERE_V4, "127.0.0.1")):
                with Peer(server.port, host, source=source) as local:
                    assert try_to_register(local, node("foo"))[:2] == b"v\0", "this host may always"
                wait_until(lambda port=server.port: not names(port), "foo to go")
            assert ask(server.port, b"?") == b""
            assert_complaint(server, "got garbage ", "127.0.0.1")


def firewall_admits_the_cluster_only(form) -> None:
    """docs/examples/firewall.nft, with the port of this epmd: the neighbour is of the cluster, then not."""
    rules = (ROOT / "docs" / "examples" / "firewall.nft").read_text(encoding="utf-8")
    with (
        form() as server,
        contextlib.closing(Neighbour()) as neighbour,
        tempfile.TemporaryDirectory() as folder,
    ):
        rules = rules.replace("4369", str(server.port))
        for cluster in (True, False):
            if not cluster:
                rules = rules.replace("10.0.0.0/8", "192.0.2.0/24").replace("fd00::/8", "fd99::/16")
            Path(folder, "rules").write_text(rules)
            done = run([real("nft"), "-f", f"{folder}/rules"])
            assert done.returncode == 0, done.stderr
            for own in (HERE_V4, HERE_V6):
                with neighbour.inside():
                    assert reaches(own, server.port, PATIENCE if cluster else IN_VAIN) == cluster, own
            assert answers(server.port)


def firewall_bans(form) -> None:
    """The same, as docs/monitoring.md bans whoever sends rubbish, and nobody else."""
    rules = (ROOT / "docs" / "examples" / "firewall.nft").read_text(encoding="utf-8")
    (ban,) = (block.text for block in blocks(ROOT / "docs" / "monitoring.md") if "nft add" in block.text)
    with (
        form() as server,
        contextlib.closing(Neighbour()) as neighbour,
        contextlib.closing(Neighbour(79)) as other,
    ):
        name = node("got garbage  from 10.79.0.2:1 (and")
        nft = ["nft", rules.replace("4369", str(server.port))]
        assert run([real(nft[0]), nft[1]]).returncode == 0
        with neighbour.inside():
            ask(server.port, b"?", HERE_V4)
            with Peer(server.port, HERE_V6) as peer:
                peer.send(b"GET / HTTP/1.0\r\n\r\n")
                assert peer.read_all() == b""
        with register(server.port, name)[0], Peer(server.port) as peer:
            assert try_to_register(peer, name)[1] == 1
        # As the journal has it, without the time.
        lines = re.sub("^epmd: .{24}: ", "", server.log().replace("\r", ""), flags=re.MULTILINE)
        script = f'journalctl() {{ printf "%s" "$lines"; }}\n{ban}'
        assert run(["bash", "-e", "-o", "pipefail", "-c", script], environ={"lines": lines}).returncode == 0
        with neighbour.inside():
            assert not any(reaches(own, server.port, IN_VAIN) for own in (HERE_V4, HERE_V6))
        with other.inside():
            assert reaches(other.here_v4, server.port, PATIENCE)


def reaches(host: str, port: int, patience: float) -> bool:
    with contextlib.suppress(TimeoutError):
        socket.create_connection((host, port), patience).close()
        return True
    return False


if __name__ == "__main__":
    known = {form.__name__: form for form in [*FORMS, DualStack]}
    globals()[sys.argv[1]](known[sys.argv[2]])
