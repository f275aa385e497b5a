"""-user: started as root, it serves as another user, and there is no way back."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gevent_epmd.program.process.watch import gone
from support.activation import launched, listening
from support.daemons import daemon, listening_at
from support.forms import Built, Folder, Source
from support.marks import by_form, forms
from support.paths import BUILT, SOURCE
from support.patience import PATIENCE, wait_until
from support.peer import ask, barrier, names, node, register
from support.ports import answers, reserved_port
from support.procfs import processes_at, serving
from support.programs import clean_environment, outcome, real, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may serve as another user")

#: The users and groups of a mount namespace of the test's own.
#: Root's group is the first of one user, and among those of another.
PASSWD = """\
root:x:0:0::/:/bin/sh
mapper:x:4711:4712::/:/bin/false
wheel:x:4715:0::/:/bin/false
admin:x:4716:4712::/:/bin/false
"""
GROUP = "root:x:0:admin\nmapper:x:4712:\nbeside:x:4713:mapper\nother:x:4714:\n"
AMONG = 'mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/group" /etc/group; shift; exec "$@"'


@pytest.fixture
def among(tmp_path: Path) -> list[str]:
    """The beginning of a command line that knows these users."""
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return [real("unshare"), "--mount", "sh", "-e", "-c", AMONG, "sh", str(tmp_path)]


def rights(pid: int) -> dict[str, list[str]]:
    """Users, groups and capabilities of a process, as /proc names them."""
    return rights_in(Path(f"/proc/{pid}/status").read_text())


def rights_in(status: str) -> dict[str, list[str]]:
    lines = (line.split(":", 1) for line in status.splitlines())
    return {name: value.split() for name, value in lines if name in RIGHTS or name.startswith("Cap")}


RIGHTS = ("Uid", "Gid", "Groups", "NoNewPrivs")
NONE = ["0" * 16]


def given_up(uid: int, gid: int, *groups: int) -> dict[str, list[str]]:
    """What `rights` gives of somebody who has nothing of root's left."""
    capabilities = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), NONE)
    ids = {"Uid": [str(uid)] * 4, "Gid": [str(gid)] * 4, "Groups": [str(group) for group in groups]}
    return capabilities | ids | {"NoNewPrivs": ["1"]}


#: What may be named, and whose rights that gives.
WHO = {
    "mapper": given_up(4711, 4712, 4712, 4713),
    "mapper:other": given_up(4711, 4714, 4713, 4714),
    "mapper:9": given_up(4711, 9, 9, 4713),
    "4711": given_up(4711, 4712, 4712, 4713),
    "12345:other": given_up(12345, 4714, 4714),
    "12345:12346": given_up(12345, 12346, 12346),
}


#: Becomes each of these in a process of its own, as a start does, and prints what /proc tells of it, or what
#: is wrong. A start takes five times as long.
BECOME = """
import os, sys
from gevent_epmd.conventions import ValueProblem
from gevent_epmd.program.options import Given
from gevent_epmd.program.process import privileges
for who in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    try:
        privileges.look_up(Given("-user", who)).take_on()
    except ValueProblem as problem:
        said = str(problem)
    else:
        with open("/proc/self/status") as status: said = status.read()
    print(said, end="\\f", flush=True)
    os._exit(0)
"""


def become(before: list[str], *who: str) -> list[str]:
    """What BECOME prints of each, in a command line that begins so."""
    out, err, status = outcome([*before, sys.executable, "-c", BECOME], *who)
    assert (err, status) == (b"", 0)
    return out.decode().split("\f")[:-1]


def test_whom_it_serves_as(among: list[str]) -> None:
    assert dict(zip(WHO, map(rights_in, become(among, *WHO)), strict=True)) == WHO


@forms(processes_only=True, c=False)
def test_foreground(form, among: list[str]) -> None:
    started = type(form.__name__, (form,), {"command": (*among, *form.command)})
    with started("-user", "mapper", "-d") as server:
        assert rights(server.pid) == WHO["mapper"]
        held, _ = register(server.port, node("foo"))
        assert names(server.port) == ["foo at port 4711"]
        # Of the one-file form the launcher stays, which only waits, and removes the folder.
        as_root = [pid for pid in processes_at(server.port) if rights(pid)["Uid"][0] == "0"]
        assert as_root == ([server.process.pid] if form is Built else [])
        held.close()


def test_daemon(ours, among: list[str]) -> None:
    with daemon([*among, *ours], "-user", "mapper:other") as (port, pid):
        assert processes_at(port) == [pid], "nobody is left who is root"
        assert rights(pid) == WHO["mapper:other"]
        with register(port, node("foo"))[0]:
            barrier(port)
        wait_until(lambda: not names(port), "foo to go")


@forms(Source, at="ours")
def test_variable(ours, among: list[str]) -> None:
    with daemon([*among, *ours], environ={"ERL_EPMD_USER": "mapper"}) as (_, pid):
        assert rights(pid) == WHO["mapper"]


@by_form("option", {Source: ["", "-daemon"], Built: [""]}, at="ours")
def test_sockets_of_systemd(ours, option: str, among: list[str]) -> None:
    with (
        listening("127.0.0.1") as sock,
        subprocess.Popen(
            launched([*among, *ours, "-systemd", "-user", "mapper", *option.split()], [sock]),
            env=clean_environment(),
            pass_fds=[sock.fileno()],
            start_new_session=True,
        ) as process,
    ):
        port = sock.getsockname()[1]
        wait_until(lambda: answers(port), "it to answer")
        pid = serving(process)
        if option:
            assert process.wait(PATIENCE) == 0
            # The test has the same socket.
            pid = next(pid for pid in listening_at(port) if rights(pid)["Uid"][0] == "4711")
        assert rights(pid) == WHO["mapper"]
        assert ask(port, b"k") == b"OK"
        wait_until(lambda: gone(pid), "it to end")


@forms(Source, Folder, at="ours")
def test_port_for_root_alone(ours, tmp_path: Path) -> None:
    """In a network of its own, where the ports below 1024 are root's, whatever the host has set."""
    script = """
        ip link set lo up
        echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        grep -qx 1024 /proc/sys/net/ipv4/ip_unprivileged_port_start
        "$@" -port 369 -daemon -user nobody -pid_file "$0/pid"
        "$@" -port 369 -names
        grep '^Uid' "/proc/$(cat "$0/pid")/status"
        "$@" -port 369 -kill
    """
    real("ip")
    apart = [real("unshare"), "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = run([*apart, "sh", "-e", "-c", script, str(tmp_path), *ours])
    said = b"epmd: up and running on port 369 with data:\nUid:" + b"\t65534" * 4 + b"\nKilled\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_nobody_is_accepted_before(tmp_path: Path) -> None:
    """Bound as root, accepted as the user, as the kernel sees it; somebody asks from the very beginning."""
    traced = [real("strace"), "-D", "-f", "-o", str(tmp_path / "calls"), "-e", "trace=bind,setresuid,accept4"]
    with reserved_port() as port:
        early = threading.Thread(target=wait_until, args=(lambda: answers(port), "an early answer"))
        early.start()
        call = [*traced, *SOURCE, "-port", str(port), "-daemon", "-user", "12345:12345", "-loopback"]
        assert outcome(call) == (b"", b"", 0)
        early.join(PATIENCE)
        assert ask(port, b"k") == b"OK"
    wait_until(lambda: not processes_at(port), "strace to end, when its list is complete")
    calls = re.findall(r"\b(bind|setresuid|accept4)\(.*= [0-9]", (tmp_path / "calls").read_text())
    changed = calls.index("setresuid")
    assert set(calls[:changed]) == {"bind"}
    assert set(calls[changed + 1 :]) == {"accept4"}


#: What may not be named, and what is wrong with it.
BAD = {
    "nosuch": 'there is no user "nosuch"',
    "mapper:nosuch": 'there is no group "nosuch"',
    "mapper:": 'there is no group ""',
    ":mapper": 'there is no user ""',
    "4294967295": 'there is no user "4294967295"',
    "mapper:4294967295": 'there is no group "4294967295"',
    "-1": 'there is no user "-1"',
    "12345": "no user has the ID 12345, so name a group too, as 12345:12345",
    "root": "root is root: name an unprivileged user",
    "0:mapper": "0 is root: name an unprivileged user",
    "mapper:root": "mapper:root is in the group of root: name an unprivileged group",
    "mapper:0": "mapper:0 is in the group of root: name an unprivileged group",
    "wheel": "wheel is in the group of root: name an unprivileged group",
    "admin": "admin is in the group of root: name an unprivileged group",
    "admin:other": "admin:other is in the group of root: name an unprivileged group",
}


def test_who_cannot_be_meant(among: list[str]) -> None:
    assert become(among, *BAD) == [f"-user: {wrong}" for wrong in BAD.values()]


def test_who_cannot_be_meant_by_the_option_and_the_variable(among: list[str]) -> None:
    with reserved_port() as port:
        call = [*among, *SOURCE, "-port", str(port)]
        out, err, status = outcome([*call, "-d"], "-user", "12345")
        assert (out, status) == (b"", 1)
        assert err.endswith(f": cannot serve: -user: {BAD['12345']}\r\n".encode())
        variable = outcome([*call, "-daemon"], environ={"ERL_EPMD_USER": "admin"})[1]
        assert variable.endswith(f": cannot serve: ERL_EPMD_USER: {BAD['admin']}\r\n".encode())
        assert processes_at(port) == []


@by_form("option", {Source: ["", "-daemon"], Built: ["-daemon"], Folder: ["-daemon"]}, at="ours")
def test_unknown_user(ours, option: str) -> None:
    with reserved_port() as port:
        out, err, status = outcome(ours, "-port", str(port), "-user", "nosuch", *option.split())
        assert (out, status) == (b"", 1)
        assert err.count(b"\n") == 1
        assert b'cannot serve: -user: there is no user "nosuch"' in err
        assert not answers(port)


def somebody(*options: str) -> list[str]:
    """The beginning of a command line that runs with fewer rights."""
    return [real("setpriv"), *options]


ORDINARY = ("--reuid", "12345", "--regid", "12345", "--clear-groups")


def test_who_is_not_root() -> None:
    with readable_source() as source, reserved_port() as port:
        out, err, status = outcome([*somebody(*ORDINARY), *source, "-port", str(port)], "-user", "nobody")
        assert (out, status) == (b"", 1)
        assert b"cannot serve: -user: only root can serve as another user\r\n" in err
        assert processes_at(port) == []


@forms(Source, at="ours")
def test_port_in_use_is_no_failure_whoever_asks(ours) -> None:
    """A node of an ordinary user inherits the variable, and the epmd runs already."""
    with Source() as server, readable_source():
        call = [*ours, "-port", str(server.port), "-daemon"]
        assert outcome(call, environ={"ERL_EPMD_USER": "nosuch"}) == (b"", b"", 0)
        ordinary = [*somebody(*ORDINARY[:2]), *call]
        assert outcome(ordinary, environ={"ERL_EPMD_USER": "nobody"}) == (b"", b"", 0)


@contextlib.contextmanager
def readable_source() -> Iterator[list[str]]:
    """The program from source, if an ordinary user can read it."""
    if run([*somebody(*ORDINARY), *SOURCE, "--version"]).returncode:
        pytest.skip("the source, or Python, is for root alone here")
    yield SOURCE


@forms(processes_only=True, c=False)
def test_files_in_a_folder_of_the_user(form, tmp_path: Path) -> None:
    folder = tmp_path / "of the user"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    options = ("-port_file", str(folder / "port"), "-pid_file", str(folder / "pid"))
    with within_reach(tmp_path), form("-user", "12345:12345", *options) as server:
        assert int((folder / "port").read_text()) == server.port
        assert int((folder / "pid").read_text()) == server.pid
        assert (folder / "pid").stat().st_uid == 0, "start-stop-daemon trusts no other"
        for name in ("port", "pid"):
            flags = flags_of_descriptors(server.pid, folder / name)
            assert flags, "without one, another file could get its inode"
            assert all(os.O_PATH & flag and not flag & os.O_ACCMODE for flag in flags)
        assert ask(server.port, b"k") == b"OK"
        wait_until(lambda: server.ended() == 0, "it to end")
        assert "not removed" not in server.log()
    assert list(folder.iterdir()) == []


def flags_of_descriptors(pid: int, path: Path) -> list[int]:
    """How the process has opened this file: the flags of each descriptor."""
    found = []
    for way in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has closed a connection in between
            if os.readlink(way) == str(path):
                info = Path(f"/proc/{pid}/fdinfo/{way.name}").read_text()
                found.append(int(re.search(r"^flags:\s+([0-7]+)$", info, re.MULTILINE)[1], 8))
    return found


@pytest.mark.parametrize("option", ["-pid_file", "-port_file"])
@pytest.mark.parametrize("kind", ["daemon", "foreground"])
def test_link_that_the_user_has_placed(option: str, kind: str, tmp_path: Path) -> None:
    """Root must not write where the link leads: neither at the start, nor at the end."""
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    victim.write_text("precious")
    victim.chmod(0o600)
    (folder / "file").symlink_to(victim)
    os.lchown(folder / "file", 12345, 12345)
    with within_reach(tmp_path), reserved_port() as port:
        call = [*SOURCE, "-port", str(port), "-user", "12345:12345", option, str(folder / "file")]
        out, err, status = outcome([*call, "-daemon"] if kind == "daemon" else call)
        said = f"epmd: {option}: {folder}/file is a symbolic link, which root does not follow\n"
        assert (out, err, status) == (b"", said.encode(), 1)
        variable = {f"ERL_EPMD_{option[1:].upper()}": str(folder / "file")}
        assert (
            said[6:].replace(option, f"ERL_EPMD_{option[1:].upper()}").encode()
            in outcome([*call[:-2], "-daemon"], environ=variable)[1]
        )
        assert not answers(port)
    assert victim.read_text() == "precious"
    assert victim.stat().st_mode & 0o777 == 0o600
    assert (folder / "file").is_symlink()


def test_link_at_the_place_of_the_metrics(tmp_path: Path) -> None:
    """Without -user: with it, it is the user who writes them."""
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    (folder / "file").symlink_to(victim)
    for path in (folder, folder / "file"):
        os.lchown(path, 12345, 12345)
    with reserved_port() as port:
        call = [*SOURCE, "-port", str(port), "-daemon", "-metrics_file", str(folder / "file")]
        said = f"epmd: -metrics_file: {folder}/file is a symbolic link, which root does not follow\n"
        assert outcome(call) == (b"", said.encode(), 1)
    assert victim.read_text() == "precious"


def test_link_of_the_user_on_the_way(tmp_path: Path) -> None:
    """To a folder of root's, in which a file of this name would appear, and be removed at the end."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").symlink_to("victim")
    os.lchown(tmp_path / "run", 12345, 12345)
    with reserved_port() as port:
        call = [*SOURCE, "-port", str(port), "-daemon", "-user", "12345:12345"]
        out, err, status = outcome(call, "-pid_file", str(tmp_path / "run" / "pid"))
        said = f"epmd: -pid_file: root does not follow the link {tmp_path}/run of another user\n"
        assert (out, err, status) == (b"", said.encode(), 1)
    assert list((tmp_path / "victim").iterdir()) == []


@contextlib.contextmanager
def within_reach(folder: Path) -> Iterator[None]:
    """Let every user go through the folders of pytest for as long as this lasts."""
    closed = [path for path in (folder, *folder.parents) if not path.stat().st_mode & 0o001]
    modes = [path.stat().st_mode for path in closed]
    try:
        for path, mode in zip(closed, modes, strict=True):
            path.chmod(mode | 0o001)
        yield
    finally:
        for path, mode in zip(closed, modes, strict=True):
            path.chmod(mode)


@forms(Source)
def test_files_in_a_folder_of_root_alone(form, tmp_path: Path) -> None:
    """They are written; who may not remove them says so.  Emptied they cannot be either: who could do that
    could write another number as well."""
    port, pid = tmp_path / "port", tmp_path / "pid"
    with (
        within_reach(tmp_path),
        form("-user", "12345:12345", "-port_file", str(port), "-pid_file", str(pid)) as server,
    ):
        written = {path: path.read_text() for path in (port, pid)}
        assert written == {port: f"{server.port}\n", pid: f"{server.pid}\n"}
        assert ask(server.port, b"k") == b"OK"
        wait_until(lambda: server.ended() == 0, "it to end")
        for path in (port, pid):
            said = f": -{path.name}_file: cannot remove {path}: Permission denied\r\n"
            assert said in server.log()
            assert path.read_text() == written[path]


#: Rights that root may lack, or have: how it is started, and what of them is left.
ODD = {
    "kept on a change of the user": (("--securebits", "+no_setuid_fixup"), {}),
    "inheritable": (("--inh-caps", "+net_raw,+setpcap"), {}),
    "ambient": (("--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"), {}),
    "without that of the bounding set": (("--bounding-set", "-setpcap"), {"CapBnd": None}),
    "groups": (("--groups", "0,9,4713"), {}),
}


@pytest.mark.parametrize("how", ODD)
def test_odd_roots(how: str) -> None:
    options, left = ODD[how]
    [said] = become(somebody(*options), "12345:12346")
    expected = WHO["12345:12346"] | left
    found = rights_in(said)
    assert {name: value for name, value in found.items() if expected[name] is not None} == {
        name: value for name, value in expected.items() if value is not None
    }


def test_terminal_of_another_user_that_nobody_reads() -> None:
    """Who may not open it again writes to it in small pieces, each when there is room."""
    reading, writing = os.openpty()
    with readable_source() as source, reserved_port() as port, os.fdopen(reading, "rb") as terminal:
        os.fchmod(writing, 0o600)
        call = [*somebody(*ORDINARY), *source, "-port", str(port), "-d", "-d", "-d", "-loopback"]
        process = subprocess.Popen(
            call, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing, env=clean_environment()
        )
        os.close(writing)
        try:
            wait_until(lambda: answers(port), "it to answer")
            for number in range(300):
                assert ask(port, b"zfoo") == b"w\1", f"look-up {number} was not answered"
            text = b""
            while text.count(b"\n") <= 20:
                text += terminal.read1(1 << 20)
            said = text.split(b"\n")
            # What has room comes whole; the terminal makes a line end of two bytes of a line feed.
            assert all(
                line.startswith((b"epmd: ", b"***** ")) and line.endswith(b"\r\r") for line in said[:20]
            )
            os.set_blocking(terminal.fileno(), False)
            while terminal.read(1 << 20):
                pass
            assert ask(port, b"zfoo") == b"w\1"
            wait_until(lambda: b"zfoo" in (terminal.read(1 << 20) or b""), "it to go on with a new line")
        finally:
            process.terminate()
            process.wait(PATIENCE)


@forms(Source, at="ours")
@pytest.mark.parametrize(
    ("right", "option"), [("setgid", []), ("setuid", ["-daemon"])], ids=["foreground", "daemon"]
)
def test_root_that_may_not_change_the_user(ours, right: str, option: list[str], tmp_path: Path) -> None:
    """As in a container without that right: one line, and nobody serves."""
    with reserved_port() as port:
        call = [*somebody("--bounding-set", f"-{right}"), *ours, "-port", str(port), *option]
        out, err, status = outcome(call, "-user", "12345:12345", "-pid_file", str(tmp_path / "pid"))
        assert (out, status) == (b"", 1)
        assert err.count(b"\n") == 1
        assert b"cannot serve: [Errno 1] Operation not permitted; -user: cannot change the user" in err
        assert list(tmp_path.iterdir()) == []
        wait_until(lambda: not processes_at(port), "the daemon to end, after it has told why")


def test_launcher_that_is_killed(tmp_path: Path) -> None:
    """The epmd ends with it, as ever; of the folder of root's it can remove nothing, and nothing is in it."""
    with reserved_port() as port:
        process = subprocess.Popen(
            [real(BUILT), "-port", str(port), "-user", "12345:12345"],
            env=clean_environment(TMPDIR=str(tmp_path)),
            start_new_session=True,
        )
        wait_until(lambda: answers(port), "it to answer")
        pid = serving(process)
        assert pid != process.pid
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: gone(pid), "it to end")
    assert [list(folder.iterdir()) for folder in tmp_path.iterdir()] == [[]]


#: From source, on a file system that takes half a second to remove a file.
SLOW_TO_REMOVE = """
import os, sys, time
from gevent_epmd.program.cli import main
unlink = os.unlink
os.unlink = lambda *path, **how: time.sleep(0.5) or unlink(*path, **how)
sys.exit(main())
"""


def test_nothing_is_left_when_the_caller_hears_of_a_failure(tmp_path: Path) -> None:
    with reserved_port() as port:
        call = [*somebody("--bounding-set", "-setuid"), sys.executable, "-c", SLOW_TO_REMOVE]
        options = ["-port", str(port), "-daemon", "-user", "12345:12345", "-pid_file", str(tmp_path / "pid")]
        assert outcome(call, *options)[2] == 1
        assert list(tmp_path.iterdir()) == []


WITHOUT_CTYPES = [
    sys.executable,
    "-c",
    "import sys; sys.modules['_ctypes'] = None; from gevent_epmd.program.cli import main; sys.exit(main())",
]


def test_python_without_ctypes() -> None:
    """The kernel takes the capabilities; what only prctl could do is left."""
    with daemon(WITHOUT_CTYPES, "-user", "12345:12346") as (_, pid):
        found = rights(pid)
        expected = WHO["12345:12346"] | {"CapBnd": found["CapBnd"], "NoNewPrivs": ["0"]}
        assert found == expected


def test_capabilities_that_stay_are_an_error() -> None:
    """As there, and the kernel was told to leave them."""
    with reserved_port() as port:
        call = [*somebody("--securebits", "+no_setuid_fixup"), *WITHOUT_CTYPES]
        done = run([*call, "-port", str(port), "-user", "12345:12346"])
        assert done.returncode == 1
        assert b"cannot serve: -user: cannot drop the user ID of root" in done.stderr


@forms(Source, Built, at="ours")
def test_terminal_of_root(ours) -> None:
    """A log line waits for no terminal, for which a way of its own to it is needed; who is not root any more
    cannot open it."""
    reading, writing = os.openpty()
    with reserved_port() as port, os.fdopen(reading, "rb"):
        terminal = os.ttyname(writing)
        process = subprocess.Popen(
            [*ours, "-port", str(port), "-user", "12345:12345"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writing,
            env=clean_environment(),
            start_new_session=True,
        )
        os.close(writing)
        try:
            wait_until(lambda: answers(port), "it to answer")
            ways = set()
            for way in Path(f"/proc/{serving(process)}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it has closed a connection in between
                    ways |= {int(way.name)} if os.readlink(way) == terminal else set()
            assert 2 in ways
            assert len(ways) == 2
            assert ask(port, b"k") == b"OK"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait(PATIENCE)
