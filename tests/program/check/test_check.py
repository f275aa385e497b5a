"""`epmd -check`: every form of ours looks at ours, at C's, and at what is none."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

import pytest

from gevent_epmd.program.check.finding import CODES
from support import check_scenes
from support.check_scenes import BOX, nodes
from support.checking import check, run_in_a_box
from support.firewall import blocked_port
from support.forms import PROGRAMS, Built, C, Folder, Source
from support.hostile import Hostile, playing
from support.marks import by_form, forms
from support.neighbour import HERE_V4, HERE_V6, THERE_V4
from support.paths import FOLDER, ROOT
from support.patience import RESOLVER_GIVES_UP, SLOWEST_RESOLVER, wait_until
from support.peer import node, register
from support.ports import answers, listening_inodes, reserved_port
from support.programs import few_descriptors, outcome, real, run
from support.scenes import OTHER_V4, run_apart
from support.strangers import BoundOnly

#: What is the same code in every form.
from_source = forms(Source, at="ours")
#: A scene, and the host where it plays: what its hosts file has beside localhost, and its network.
SCENES = [
    ("all_is_well", f"{OTHER_V4} {BOX}.example {BOX}", "plain"),
    ("c_is_well", f"{OTHER_V4} {BOX}", "plain"),
    ("options_of_what_runs", f"127.0.1.1 {BOX}", "plain"),
    ("own_name_is_127_0_1_1", f"127.0.1.1 {BOX}", "plain"),
    ("own_name_is_not_found", "", "plain"),
    ("own_name_is_elsewhere", f"{THERE_V4} {BOX}", "plain"),
    ("ipv6_alone", f"::1 {BOX}", "IPv6 alone"),
    ("ports_of_nodes", f"{OTHER_V4} {BOX}", "plain"),
    ("dead_nodes_at_ports_that_the_kernel_chooses", f"{OTHER_V4} {BOX}", "plain"),
    ("from_another_host", f"{HERE_V4} both.example\n{HERE_V6} both.example", "plain"),
    ("from_another_host_in_vain", "", "plain"),
    ("strangers", f"{OTHER_V4} {BOX}", "plain"),
    ("names_control_no_terminal", f"{OTHER_V4} {BOX}", "plain"),
    ("list_of_one_that_wants_harm", f"{OTHER_V4} {BOX}", "plain"),
]


#: What the executables do in their own way: they recognise themselves, ask for hosts, and have a launcher.
OTHER_FORMS = {
    "all_is_well": (Folder, Built),
    "options_of_what_runs": (Built,),
    "own_name_is_elsewhere": (Folder,),
    "from_another_host": (Folder,),
}
PLAYED = [
    pytest.param(form, *scene, id=f"{scene[0]}-{form.__name__}")
    for scene in SCENES
    for form in (Source, *OTHER_FORMS.get(scene[0], ()))
]


@pytest.mark.slow(10)
@pytest.mark.parametrize(("form", "scene", "hosts", "network"), PLAYED)
def test_scene(form, scene: str, hosts: str, network: str) -> None:
    run_in_a_box("support.check_scenes", getattr(check_scenes, scene), form, hosts, network)


def test_there_is_no_proc() -> None:
    """The launchers of the executables need it."""
    run_in_a_box("support.check_scenes", check_scenes.there_is_no_proc, Source, f"{OTHER_V4} {BOX}")


def test_nobody_is_there(ours) -> None:
    with reserved_port() as port:
        seen = check(ours, port)
        assert seen.status == 1
        assert seen.codes("epmd") == {f"port {port}": ("wrong", "refused")}
        assert seen.codes("address") == seen.codes("exposure") == {}
        assert "epmd -daemon" in seen.about("epmd")["to_do"]


@from_source
def test_bound_and_not_listening(ours) -> None:
    with BoundOnly() as there:
        assert check(ours, there.port).codes("epmd") == {f"port {there.port}": ("wrong", "refused")}


@pytest.mark.slow
@forms(processes_only=True)
def test_stopped(form) -> None:
    program = Folder.command if form.is_c else form.command
    with form() as server, server.stopped():
        seen = check([real(program[0]), *program[1:]], server.port)
        assert seen.status == 1
        assert seen.codes("epmd") == {f"port {server.port}": ("wrong", "mute")}
        process = seen.about("process", f"process {server.pid}")
        assert (process["state"], process["code"]) == ("wrong", "stopped")
        assert process["to_do"].endswith(f"kill -CONT {server.pid}")


@pytest.mark.slow(10)
@pytest.mark.parametrize("code", ["answers", "dead"])
@forms(Source)
def test_more_nodes_than_descriptors(form, code: str) -> None:
    """Each has a port of its own; the same where nobody listens."""
    limited = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *form.command]
    with contextlib.ExitStack() as stack, form() as server:
        sockets = [stack.enter_context(socket.socket()) for _ in range(300)]
        for sock in sockets:
            # A dead node's port stays bound: somebody else, who listens, would get it otherwise.
            sock.bind(("", 0))
            if code == "answers":
                sock.listen()
        stack.enter_context(nodes(server.port, *(sock.getsockname()[1] for sock in sockets)))
        found = check(limited, server.port).codes("node")
        assert len(found) == 300
        # How many it gets to in its time is a matter of the machine.
        assert {code} <= {met for _, met in found.values()} <= {code, "late"}


@pytest.mark.slow
@from_source
def test_thousand_blocked_ports_end_in_time(ours) -> None:
    """Those for which there was no time are told apart."""
    limited = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *ours]
    with blocked_port() as port, PROGRAMS["source"]() as server, nodes(server.port, *[port] * 1000):
        states = [*check(limited, server.port).codes("node").values()]
        assert len(states) == 1000
        assert set(states) == {("wrong", "blocked"), ("warning", "late")}


class Counting(socketserver.ThreadingTCPServer):
    """Lists no node, slowly, and knows how many asked at the same time."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self) -> None:
        super().__init__(("", 0), socketserver.BaseRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.now, self.most, self.lock = 0, 0, threading.Lock()

    def finish_request(self, request: socket.socket, _address: object) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        request.recv(100)
        # The client waits for the answer.
        select.select([request], [], [], 0.02)  # the rate
        with self.lock:
            self.now -= 1
        request.sendall(b"\0\0\x11\x11")


@from_source
def test_addresses_are_asked_one_after_another(ours) -> None:
    with Counting() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        seen = check(ours, port)
        server.shutdown()
        thread.join()
    assert ("ok", "answers") in seen.codes("epmd").values()
    assert server.most == 1


class FullC(C):
    """C's, with few descriptors: that of OTP 25 exits when they run out, later ones hang."""

    prepare = few_descriptors(64, 64)


def test_full_c_survives() -> None:
    """The check takes one connection at a time, as each node's look-up does. From elsewhere it needs room."""
    with FullC() as server, check_scenes.listening() as port, contextlib.ExitStack() as held:
        most = check(Source.command, server.port).told["limits"]["most_nodes"]
        for number in range(most):
            if number == most - 20:
                seen = check(Source.command, server.port, "-host", "127.0.0.1")
                assert set(seen.codes("node").values()) == {("ok", "answers")}, server.log()
            held.enter_context(register(server.port, node(f"n{number}", port))[0])
        seen = check(Source.command, server.port)
        assert set(seen.codes("node").values()) == {("ok", "answers")}, server.log()
        assert seen.about("limits")["code"] == "full"
        assert answers(server.port)


#: Runs a command, and writes to a file how much memory it took, in KB.
MEASURED = (
    "import pathlib, resource, subprocess, sys; status = subprocess.call(sys.argv[2:]); "
    "taken = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
    "pathlib.Path(sys.argv[1]).write_text(str(taken)); sys.exit(status)"
)


@pytest.mark.slow
@from_source
def test_list_of_more_nodes_than_are_tried(ours, tmp_path: Path) -> None:
    """100,000 are listed. The rest is counted, and takes little more memory than its text."""
    taken = []
    for count in (4096, 100_000):
        text = b"".join(b"name n%d at port 1\n" % number for number in range(count))
        with Hostile(playing([b"\0\0\x11\x11" + text], 0, "closes")) as hostile:
            seen = check([sys.executable, "-c", MEASURED, str(tmp_path / "taken"), *ours], hostile.port)
            taken.append(int((tmp_path / "taken").read_text()))
    assert len(seen.told["nodes"]) == 4096
    assert ("warning", "late") in seen.codes("node").values()
    assert seen.told["limits"]["nodes"] == 100_000
    assert taken[1] - taken[0] < 16 << 10, taken


@from_source
def test_name_that_c_cannot_look_up(ours) -> None:
    with C() as server, check_scenes.listening() as port:
        held, _ = register(server.port, node("n" * 255, port))
        for options in ([], ["-host", "127.0.0.1"]):
            seen = check(ours, server.port, *options)
            assert seen.codes("node") == {"n" * 255: ("wrong", "lookup")}
        held.close()


def test_text(ours) -> None:
    with reserved_port() as port:
        out, err, status = outcome(ours, "-port", str(port), "-check")
    lines = out.decode().splitlines()
    assert (err, status) == (b"", 1)
    assert re.match(
        rf"wrong    port {port}: no epmd answers at 127\.0\.0\.1, ::1.*: Connection refused$", lines[0]
    )
    assert lines[1].startswith("         -> ")
    assert lines[-1].startswith("epmd: 1 wrong, ")


@by_form("sink", {Source: [">&-"], Folder: [">/dev/full"]}, at="ours")
def test_status_without_a_reader(ours, sink: str) -> None:
    """It is that of what was found, as for other calls."""
    with reserved_port() as port, PROGRAMS["source"]("-loopback") as server:
        for asked, options in ((port, []), (server.port, ["-host", "127.0.0.1"])):
            call = [*ours, "-port", str(asked), *options, "-check"]
            done = run(["sh", "-c", f'"$@" {sink}', "sh", *call])
            assert (done.returncode, done.stderr) == (int(asked == port), b"")


@pytest.mark.parametrize(("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=str)
@from_source
def test_text_on_a_terminal(ours, environ: dict[str, str], is_coloured) -> None:
    """It is as wide as the terminal, and coloured."""
    ours_end, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    with reserved_port() as port:
        call = [*ours, "-port", str(port), "-check"]
        run(call, stdout=theirs, environ={"TERM": "xterm", **environ})
        os.close(theirs)
    said = said_on(ours_end).decode()
    assert ("\x1b[31;1mwrong" in said) == is_coloured
    lines = re.sub(r"\x1b\[[\d;]*m", "", said).splitlines()
    assert len(lines) > 4
    assert all(len(line) <= 60 or " " not in line[12:] for line in lines), "but for a long word"
    assert all(line.isprintable() for line in lines)


def said_on(terminal: int) -> bytes:
    said = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while more := os.read(terminal, 1 << 16):
            said += more
    os.close(terminal)
    return said


@from_source
def test_progress_on_a_terminal(ours) -> None:
    """It is gone at the end, and stdout has the table alone."""
    ours_end, theirs = pty.openpty()
    with reserved_port() as port:
        call = [*ours, "-port", str(port), "-check"]
        done = run(call, stderr=theirs)
        os.close(theirs)
    said = said_on(ours_end)
    assert b"\r\x1b[Kepmd: 1 of " in said
    assert said.endswith(b"\r\x1b[K")
    assert b"\x1b" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-host", "nowhere.example"]], ids=" ".join)
def test_name_server_that_does_not_answer(ours, options: list[str], tmp_path: Path) -> None:
    """Its own name is in no file there."""
    (tmp_path / "resolv.conf").write_text(f"nameserver 127.0.0.1\n{SLOWEST_RESOLVER}\n")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    silent = (
        "import socket, subprocess, sys; silent = socket.socket(type=socket.SOCK_DGRAM); "
        "silent.bind(('127.0.0.1', 53)); sys.exit(subprocess.call(sys.argv[1:]))"
    )
    over = (
        f'mount --bind {tmp_path}/resolv.conf "$(readlink -f /etc/resolv.conf)";'
        f" mount --bind {tmp_path}/hosts /etc/hosts; echo nowhere >/proc/sys/kernel/hostname"
    )
    start = time.monotonic()
    line = ["unshare", "--uts", "sh", "-e", "-c", f'{over}; exec "$@"', "sh", sys.executable, "-c", silent]
    done = run_apart([*line, *ours, *options, "-json", "-check"])
    assert time.monotonic() - start < RESOLVER_GIVES_UP
    found = json.loads(done.stdout)["findings"]
    codes = {finding["topic"]: (finding["code"], finding["seen"]) for finding in found}
    assert codes["name"][0] == "nxdomain"
    assert "no answer in 3 s" in codes["name"][1]


@pytest.fixture
def as_nobody():
    """The command of the folder form, as a user who may see nothing of root's processes."""
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(Path(real(FOLDER)).parent, Path(folder) / "epmd")
        yield [*(real("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"), f"{folder}/epmd/epmd"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-loopback"], ["-loopback", "-user", "nobody"]], ids=" ".join)
def test_process_of_another_user(as_nobody: list[str], options: list[str]) -> None:
    """It is known by its command line alone, and who opened its socket is not always whose it is."""
    with Folder(*options) as server:
        user = "nobody" if "-user" in options else "root"
        process = f"process {server.pid} of user {user}: {FOLDER} -port {server.port} "
        seen = check(as_nobody, server.port)
        assert seen.codes("process") == {f"port {server.port}": ("ok", "hidden")}
        assert (
            f"user root opened its socket, and this user may not see which process has it; perhaps {process}"
            in (seen.about("process")["seen"])
        )
        assert seen.codes("exposure") == {"other hosts": ("ok", "loopback")}
        assert "run `epmd -check` as root" in seen.about("process")["to_do"]
        as_root = check([real(FOLDER)], server.port)
        assert as_root.codes("process")[f"process {server.pid}"] == ("ok", "ours")
        with server.stopped():
            # Not at once, where another epmd that this user cannot look into runs for a moment.
            wait_until(
                lambda: f"kill -CONT {server.pid}" in check(as_nobody, server.port).about("epmd")["to_do"],
                "the process to be named",
            )


@pytest.mark.slow
def test_busy_epmd_of_another_user(as_nobody: list[str]) -> None:
    """It is not stopped, and no signal would help."""
    for command in (C.command, Folder.command):
        line = [*command, "-delay_accept", "9", "-port"]
        with reserved_port() as port, subprocess.Popen([*line, str(port)]) as process:
            try:
                wait_until(lambda port=port: listening_inodes(port), "it to listen")
                seen = check(as_nobody, port)
                assert seen.codes("epmd") == {f"port {port}": ("wrong", "mute")}
                assert "kill" not in str(seen.findings)
                assert "-delay_accept" in seen.about("epmd")["to_do"]
            finally:
                process.kill()


def test_node_of_another_user_is_not_dead(as_nobody: list[str]) -> None:
    with C() as server, check_scenes.listening() as port, nodes(server.port, port):
        assert check(as_nobody, server.port).codes("node") == {"n0": ("ok", "answers")}


def test_holder_of_another_user(as_nobody: list[str]) -> None:
    """Both ways to find it that are advised."""
    with C() as server, reserved_port() as dead, nodes(server.port, dead):
        advice = check(as_nobody, server.port).about("node")["to_do"]
        assert "as root, `epmd -check`, or `ss " in advice
        assert f"process {os.getpid()}" in check([FOLDER], server.port).about("node")["to_do"]
        sockets = run(["sh", "-c", advice.split("`")[3]]).stdout
        assert f"pid={os.getpid()},".encode() in sockets


def test_executable_that_was_replaced(tmp_path: Path) -> None:
    """An upgrade has removed what runs: it is known all the same."""
    copy = shutil.copytree(Path(real(FOLDER)).parent, tmp_path / "other")
    command = [str(copy / "epmd")]
    with reserved_port() as port, subprocess.Popen([*command, "-port", str(port)]) as process:
        try:
            wait_until(lambda: answers(port), "it to answer")
            shutil.rmtree(copy)
            seen = check([FOLDER], port)
            codes = {f["code"]: f["to_do"] for f in seen.findings if f["subject"] == f"process {process.pid}"}
            assert set(codes) == {"ours", "outdated"}
            assert codes["outdated"].startswith("Run `epmd -takeover -daemon` with its options")
            done = run([FOLDER, "-takeover", "-daemon", "-port", str(port)])
            assert done.returncode == 0, done.stderr
            assert "outdated" not in {f["code"] for f in check([FOLDER], port).findings}
        finally:
            process.terminate()
            run([FOLDER, "-port", str(port), "-kill"])


BAD = [
    ("-stop", "a", "-check"),
    ("-check", "-daemon"),
    ("-check", "-json", "-names"),
    ("-check", "x"),
    ("-check", "-accept"),
    ("-daemon", "-host", "x", "-checks"),
]


@pytest.mark.parametrize("line", BAD, ids=" ".join)
def test_bad_line(ours, line: tuple[str, ...]) -> None:
    out, err, status = outcome(ours, *line)
    assert (out, status) == (b"", 1)
    assert err.endswith(b": see epmd -help\n")


@pytest.fixture(scope="module")
def schema():
    from jsonschema import Draft202012Validator

    found = json.loads((ROOT / "docs" / "check.schema.json").read_text())
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


@from_source
def test_json_is_as_its_schema_says(ours, schema) -> None:
    """On one line, with and without an epmd, here and of another host, before and after -check."""
    with reserved_port() as port, PROGRAMS["source"]("-loopback") as server, contextlib.ExitStack() as held:
        held.enter_context(register(server.port, node("a", server.port))[0])
        for options in (
            ["-port", str(port), "-json", "-check"],
            ["-port", str(server.port), "-check", "-json"],
            ["-port", str(server.port), "-check", "-json", "-host", "127.0.0.1"],
            ["-port", str(server.port), "-check", "-json", "-accept", "taken,host"],
        ):
            out = outcome(ours, *options)[0]
            assert out.count(b"\n") == 1
            assert [error.message for error in schema.iter_errors(json.loads(out))] == []
        told, pid = json.loads(out), server.pid
    assert told["epmd"]["pid"] == pid
    assert told["epmd"]["options"] == ["-port", str(server.port), "-loopback"]
    assert sorted(told["epmd"]["listens_on"]) == ["127.0.0.1", "127.0.1.1", "::1"]
    assert told["nodes"][0]["pid"] == pid
    assert told["nodes"][0]["holder"] == os.getpid()


def test_topics_of_the_schema(schema) -> None:
    assert schema.schema["$defs"]["finding"]["properties"]["topic"]["enum"] == list(CODES)


def test_line_for_nagios(ours) -> None:
    with reserved_port() as port, PROGRAMS["source"]() as server:
        asked = {
            ("-port", str(port), "-nagios", "-check"): (2, b"EPMD CRITICAL - port "),
            ("-port", str(server.port), "-check", "-nagios"): (1, b"EPMD WARNING - other hosts"),
            ("-port", str(server.port), "-nagios", "-accept", "open,found", "-check"): (
                0,
                b"EPMD OK - an epmd ",
            ),
            ("-port", "0", "-nagios", "-check"): (3, b"EPMD UNKNOWN - -port: "),
            ("-nagios", "-check", "-json"): (3, b"EPMD UNKNOWN - "),
            ("-nagios", "-accept", "nosuchcode", "-check"): (3, b"EPMD UNKNOWN - -accept: nosuchcode is "),
        }
        for line, (status, said) in asked.items():
            done = outcome(ours, *line)
            assert done[2] == status, (line, done)
            assert done[0].startswith(said)
            assert done[0].count(b"\n") == bool(said)
