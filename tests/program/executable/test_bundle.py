"""The single executable: no orphan, no litter, and nothing imported once it serves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gevent_epmd.program.process.watch import gone
from support.daemons import daemon
from support.forms import Built, Source
from support.paths import BUILT, SOURCE
from support.patience import PATIENCE, wait_until
from support.peer import Peer, ask, names, node, register, scenes_of_trouble
from support.ports import answers, reserved_port
from support.procfs import children, serving
from support.programs import clean_environment, content, real, run
from support.strangers import Mute

#: Where this Python has the extension modules that are not built in.
DYNLOAD = next(Path(path) for path in sys.path if path.endswith("/lib-dynload"))

#: Starts an epmd from source as the launcher starts the real process: as its child, by the same command line,
#: with an executable, and a folder that has not yet got everything out of it.
LAUNCHER = """
import os, posix, subprocess, sys
posix._exit = os._exit  # coverage saves what it has measured there
if "CHILD" not in os.environ:
    sys.exit(subprocess.call(sys.orig_argv, env={**os.environ, "CHILD": ""}))
sys.frozen = "one-file"
sys.executable = sys.argv.pop(1)
sys._MEIPASS = sys.argv.pop(1)
from gevent_epmd.program.executable import launcher
launcher.watch()
"""
PROGRAM = """
from gevent_epmd.program.cli import main
sys.exit(main())
"""
#: In Debian's Python 3.13 the extension modules that a call needs are built in, so that the launcher makes no
#: folder for extension modules, and the first import that looks there finds none.
ALL_BUILT_IN = """
import importlib.util, ipaddress, json
import gevent_epmd.program.calls, gevent_epmd.program.process.signals, gevent_epmd.program.start
[dynload] = [path for path in sys.path if path.endswith("/lib-dynload")]
sys.path[sys.path.index(dynload)] = sys._MEIPASS + "/lib-dynload"
assert importlib.util.find_spec("resource") is None
"""


@pytest.fixture(params=["source", "all-built-in", Built])
def launcher(request, tmp_path: Path):
    """A launcher's command line, and where its folder is to be looked for."""
    folder = tmp_path / "temp"
    folder.mkdir()
    if request.param is Built:
        return [real(BUILT)], folder
    late = {"lib/more/late.so": b""}
    if request.param == "all-built-in":
        late |= {f"lib-dynload/{path.name}": path.read_bytes() for path in DYNLOAD.iterdir()}
    with zipfile.ZipFile(tmp_path / "executable", "w") as packed:
        for name, content in late.items():
            packed.writestr(name, content)
        packed.writestr("for-any-line", "")
        packed.writestr("for-serving", "\n".join(late))
    (folder / "_MEI" / "lib").mkdir(parents=True)
    (folder / "_MEI" / "lib" / "early.so").write_text("")
    program = LAUNCHER + (ALL_BUILT_IN if request.param == "all-built-in" else "") + PROGRAM
    command = [SOURCE[0], "-c", program, str(tmp_path / "executable"), str(folder / "_MEI")]
    return command, folder


@pytest.fixture
def start() -> Iterator[Callable[[list[str], Path, int], subprocess.Popen]]:
    """Starts an executable, and waits until it serves. What a failed test leaves is ended by its group."""
    started = []

    def start(command: list[str], folder: Path, port: int) -> subprocess.Popen:
        process = subprocess.Popen(
            [*command, "-port", str(port)],
            env=clean_environment(TMPDIR=str(folder)),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        wait_until(lambda: process.poll() is not None or answers(port), "it to answer")
        assert process.poll() is None, "it cannot serve"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


def test_killed_launcher_takes_all_with_it(launcher, start) -> None:
    command, folder = launcher
    with reserved_port() as port:
        process = start(command, folder, port)
        assert list(folder.rglob("*.so")) == [], "the folder is emptied once all is loaded"
        assert process.pid in watched_by(serving(process)), "the kernel tells of its end at once"
        held, _ = register(port, node("foo"))
        process.kill()
        assert held.read_all() == b""
        wait_until(lambda: not answers(port), "the port to be free")
        wait_until(lambda: not list(folder.iterdir()), "the folder to go")
        process.wait(PATIENCE)
        held.close()


def watched_by(pid: int) -> list[int]:
    """The processes of whose end the kernel tells this one (pidfd_open(2))."""
    lines = []
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has closed a connection in between
            lines += info.read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("Pid:")]


@pytest.mark.measured
@pytest.mark.parametrize("launcher", ["source"], indirect=True)
def test_launcher_that_was_killed_before_its_child_could_look(launcher) -> None:
    """The child has another parent then, which has another command line.  The executable's launcher cannot be
    left out: scripts/soak kills it at all moments."""
    command, folder = launcher
    orphan = 'import os, sys; os.environ["CHILD"] = ""; os.execvp(sys.argv[1], sys.argv[1:])'
    with reserved_port() as port:
        done = run([SOURCE[0], "-c", orphan, *command, "-port", str(port)])
        assert done.returncode == 1
        assert not answers(port)
        assert list(folder.iterdir()) == []


@pytest.mark.measured("source--names")
@pytest.mark.parametrize("call", [["-started"], ["-names"], ["-daemon"], []], ids=lambda call: " ".join(call))
def test_launcher_that_is_killed_while_its_child_asks(launcher, call: list[str]) -> None:
    """Whoever is at the port does not answer, and is waited for."""
    command, folder = launcher
    with Mute() as mute, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "-port", str(mute.port), *call],
            env=clean_environment(TMPDIR=str(folder)),
            start_new_session=True,
            stdout=said,
            stderr=said,
        )
        mute.wait_for_a_connection()
        child = children(process.pid)[0]
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: gone(child), "its child to end")
        assert content(said) == b"", "it ends with its launcher, not at the limit of its call"
    assert list(folder.iterdir()) == []


#: A child whose launcher has ended, and that removes something at its end.
LEFT_ALONE = """
import signal, sys
from gevent_epmd.program.executable import launcher
from gevent_epmd.program.process import at_end
sys._MEIPASS = sys.argv[1]
launcher.pid = 0
at_end.add(lambda: print(signal.getitimer(signal.ITIMER_REAL), flush=True))
launcher.watch()
while True:
    signal.pause()
"""


@pytest.mark.measured
def test_no_look_at_the_launcher_comes_while_its_child_cleans_up(tmp_path: Path) -> None:
    done = run([SOURCE[0], "-c", LEFT_ALONE, str(tmp_path)])
    assert (done.returncode, done.stdout, done.stderr) == (1, b"(0.0, 0.0)\n", b"")


def test_proc_of_another_namespace() -> None:
    """There the launcher's number is another process's."""
    apart = [real("unshare"), "--map-root-user", "--pid", "--fork", "--kill-child"]
    with reserved_port() as port:
        done = run([*apart, real(BUILT), "-port", str(port), "-names"])
        assert (done.returncode, done.stderr) == (1, b"epmd: Cannot connect to local epmd\n")


def test_child_does_not_wait_for_a_launcher_that_was_killed() -> None:
    """As it would for ever, between fork and exec (build/epmd.spec); the moment is too short to be hit."""
    linked = run([real("readelf"), "-W", "--dyn-syms", real(BUILT)]).stdout
    assert b" sem_post@" in linked
    assert b" sem_wait@" not in linked


def test_sigalrm_is_what_it_was(tmp_path: Path, start) -> None:
    """It stands for the look at the launcher, until it serves."""
    with reserved_port() as port:
        process = start([real(BUILT)], tmp_path, port)
        pid = serving(process)
        os.kill(pid, signal.SIGALRM)
        wait_until(lambda: gone(pid), "it to end, as by any other signal")
        process.wait(PATIENCE)


def test_daemon_outlives_its_launcher(launcher) -> None:
    command, folder = launcher
    with reserved_port() as port:
        call = [*command, "-port", str(port), "-daemon"]
        done = run(call, environ={"TMPDIR": str(folder)})
        assert (done.returncode, done.stderr) == (0, b"")
        assert ask(port, b"k") == b"OK"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_signal_leaves_no_litter(name: str, tmp_path: Path, start) -> None:
    with reserved_port() as port:
        process = start([real(BUILT)], tmp_path, port)
        process.send_signal(signal.Signals[name])
        assert process.wait(PATIENCE) == -signal.Signals[name]
        assert not answers(port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.measured("source")
def test_end_by_kill_leaves_no_litter(launcher, start) -> None:
    command, folder = launcher
    with reserved_port() as port:
        process = start(command, folder, port)
        assert ask(port, b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
    # The launcher that is played removes nothing.
    assert [path.name for path in folder.iterdir()] == ([] if command == [BUILT] else ["_MEI"])


@pytest.mark.parametrize("options", [["-names"], ["-started"], ["-foo"], ["-port", "x"]], ids=" ".join)
def test_calls_leave_no_litter(options: list[str], tmp_path: Path) -> None:
    run([real(BUILT), *options], environ={"TMPDIR": str(tmp_path), "ERL_EPMD_PORT": "1"})
    assert list(tmp_path.iterdir()) == []


def test_daemon_has_no_launcher_and_no_folder(tmp_path: Path) -> None:
    with daemon([real("env"), f"TMPDIR={tmp_path}", real(BUILT)]) as (port, pid):
        assert list(tmp_path.iterdir()) == []
        assert Path(f"/proc/{pid}/comm").read_text() == "epmd\n"
        parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
        assert Path(f"/proc/{parent}/comm").read_text() != "epmd\n"
        scenes_of_trouble(port)
        assert answers(port)


def test_folder_for_temporary_files_is_read_only(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o ro none {tmp_path} && exec "$@"'
    prefix = [real("unshare"), "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    with daemon([*prefix, "env", f"TMPDIR={tmp_path}", real(BUILT)]) as (port, _):
        assert not names(port)


@pytest.fixture
def unpacked_to_ask(tmp_path: Path) -> dict[str, bytes]:
    """What the executable unpacks to ask an epmd: {name: content}."""
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        stalled.settimeout(PATIENCE)
        port = stalled.getsockname()[1]
        # A quick line would have removed them by then.
        command = [real(BUILT), "-port", str(port), "-dump"]
        process = subprocess.Popen(
            command, env=clean_environment(TMPDIR=str(tmp_path)), stdout=subprocess.PIPE, text=True
        )
        with stalled.accept()[0]:
            unpacked = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert "epmd: no response from local epmd" in process.communicate(timeout=PATIENCE)[0]
    return unpacked


def leave(parent: Path, name: str, files: dict[str, bytes], age: float = 3600) -> Path:
    """A folder as a launcher leaves it that is killed while it unpacks."""
    folder = parent / name
    (folder / "lib").mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_bytes(text)
    os.utime(folder, (time.time() - age,) * 2)
    return folder


#: The launcher's process ID is larger than any on Linux.
DEAD = "_MEI7fffffff00000{}"
MARKED = {"gevent-epmd.mark": b"", "lib/late.so": b"late"}


def test_folders_of_dead_launchers_are_swept(tmp_path: Path) -> None:
    """And nobody else's: each of the others lacks one thing."""
    folder = tmp_path / "temp"
    dead = leave(folder, DEAD.format(0), MARKED)
    others = [
        leave(folder, DEAD.format(1), MARKED, age=60),
        leave(folder, DEAD.format(2), {"libpython3.11.so.1.0": b""}),
        leave(folder, DEAD.format(3) + "0", MARKED),
        leave(folder, DEAD.format(3).replace("I", "J"), MARKED),
        leave(tmp_path, DEAD.format(4), MARKED),
        leave(folder, f"_MEI{os.getpid():08x}000000", MARKED),
    ]
    used = leave(folder, DEAD.format(5), MARKED)
    (folder / DEAD.format(6)).symlink_to(others[4])
    linked = leave(folder, DEAD.format(7), {"lib/late.so": b""})
    (linked / "gevent-epmd.mark").symlink_to("lib/late.so")
    os.utime(linked, (0, 0))
    if not os.geteuid():
        others.append(leave(folder, DEAD.format(8), MARKED))
        os.chown(others[-1], 65534, 65534)
    with (used / "lib" / "late.so").open("rb"), daemon([real("env"), f"TMPDIR={folder}", real(BUILT)]):
        assert not dead.exists()
        for other in (*others, used, linked):
            assert (other / "lib").is_dir(), other
    with daemon([real("env"), f"TMPDIR={folder}", real(BUILT)]):
        assert not used.exists(), "nothing uses it any more"


def test_signal_before_the_launcher_handles_signals_is_swept(tmp_path: Path) -> None:
    """Whatever it has unpacked by then begins with the mark."""
    calls = 0
    while not list(tmp_path.glob("_MEI*")):
        calls += 1
        process = subprocess.Popen([real(BUILT), "-names"], env=clean_environment(TMPDIR=str(tmp_path)))
        wait_until(lambda: list(tmp_path.glob("_MEI*/*")) or process.poll() is not None, "it to unpack")  # noqa: B023
        process.kill()
        process.wait(PATIENCE)
        # Its child, if there is one by now, removes the folder.
        wait_until(lambda: not children_of_session(tmp_path), "its child to end")
        assert calls < 100
    (folder,) = tmp_path.glob("_MEI*")
    assert (folder / "gevent-epmd.mark").exists()
    os.utime(folder, (0, 0))
    with daemon([real("env"), f"TMPDIR={tmp_path}", real(BUILT)]):
        assert not folder.exists()


def children_of_session(folder: Path) -> list[str]:
    """Processes whose folder for temporary files this is."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={folder}\0".encode() in environ.read_bytes():
                found.append(environ.parent.name)
    return found


def test_launcher_unpacks_no_more_than_a_quick_line_takes() -> None:
    """Any other library would cost each start of a node the time to write and to remove it."""
    readers = pytest.importorskip("PyInstaller.archive.readers")
    archive = readers.CArchiveReader(real(BUILT))
    files = [name for name, entry in archive.toc.items() if entry[-1] in "bx"]
    assert not [name for name in files if "/" in name], "a folder is made and removed, too"
    unpacked = {name.split(".")[0] for name in files}
    # libpython needs other libraries in some Pythons, and has _socket inside.
    modules = {name for name in unpacked if not name.startswith("lib")}
    assert {"base_library"} <= modules <= {"base_library", "_socket", "gevent-epmd"}
    assert files[0] == "gevent-epmd.mark"
    assert "libpython3" in unpacked


def test_who_asks_unpacks_no_more_than_that_takes(unpacked_to_ask: dict[str, bytes]) -> None:
    """What serving takes besides is more than a third as much again."""
    names = {name.split(".")[0] for name in unpacked_to_ask}
    assert {"libpython3", "base_library"} <= names
    assert not {"libstdc++", "_greenlet", "corecext", "resource"} & names


def test_it_brings_the_libraries_that_its_libraries_need(
    unpacked_to_ask: dict[str, bytes], tmp_path: Path
) -> None:
    """All but the C library, both to ask and to serve."""
    with zipfile.ZipFile(real(BUILT)) as packed:
        to_serve = {Path(name).name: packed.read(name) for name in packed.namelist()}
    for libraries in (unpacked_to_ask, unpacked_to_ask | to_serve):
        needed = {name for content in libraries.values() for name in needed_libraries(content, tmp_path)}
        missing = {name for name in needed - libraries.keys() if name.split(".")[0] not in C_LIBRARY}
        assert "libc.so.6" in needed
        assert not missing


C_LIBRARY = {"libc", "libm", "libdl", "libpthread", "librt", "libutil", "ld-linux-x86-64", "ld-linux-aarch64"}


def needed_libraries(content: bytes, folder: Path) -> list[str]:
    if not content.startswith(b"\x7fELF"):
        return []
    (folder / "library").write_bytes(content)
    dynamic = run([real("readelf"), "-d", str(folder / "library")]).stdout.decode()
    return re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)


def in_folder_of(size: int, folder: Path, command: list[str]):
    """Run a command with that many bytes for temporary files; stdout: its status, and what it leaves."""
    script = f'mount -t tmpfs -o size={size} none {folder} && "$@"; echo status $?; ls {folder}'
    prefix = [real("unshare"), "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return run([*prefix, "env", f"TMPDIR={folder}", *command])


def test_no_room_for_what_serving_takes(unpacked_to_ask: dict[str, bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(real(BUILT)) as packed:
        to_serve = sum(file.file_size for file in packed.infolist())
    # Enough to ask, and half of what serving takes besides.
    size = sum(map(len, unpacked_to_ask.values())) + to_serve // 2
    with reserved_port() as port:
        call = in_folder_of(size, tmp_path, [real(BUILT), "-port", str(port)])
        assert call.stdout == b"status 1\n", "and nothing is left"
        assert b"cannot serve: [Errno 28] No space left on device; set TMPDIR " in call.stderr
        assert not answers(port)


def test_no_room_for_what_any_line_takes(unpacked_to_ask: dict[str, bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(real(BUILT)) as packed:
        for_any_line = [packed.getinfo(name) for name in packed.read("for-any-line").decode().split()]
    if not for_any_line:
        pytest.skip("this Python has all of it inside")
    # Enough for the launcher, in whole pages, and half of what any line takes besides.
    late = {Path(file.filename).name: file.file_size for file in for_any_line}
    early = [len(content) for name, content in unpacked_to_ask.items() if name not in late]
    size = sum(-(-size // 4096) * 4096 for size in early) + sum(late.values()) // 2
    with reserved_port() as port:
        quick = in_folder_of(size, tmp_path, [real(BUILT), "-port", str(port), "-names"])
        assert (quick.stdout, quick.stderr) == (b"status 1\n", b"epmd: Cannot connect to local epmd\n")
        call = in_folder_of(size, tmp_path, [real(BUILT), "-port", str(port), "-dump"])
        assert call.stdout == b"status 1\n", "and nothing is left"
        message = rb"epmd: cannot start: \[Errno 28\] No space left on device; set TMPDIR .*\n"
        assert re.fullmatch(message, call.stderr)


def clear(folder: Path) -> None:
    """What tmpreaper and its like do to what they find."""
    for path in folder.iterdir():
        shutil.rmtree(path)


@pytest.fixture
def other_file_system():
    """A folder on a file system that is not the one of the other tests' folders."""
    if os.stat("/dev/shm").st_dev == os.stat(tempfile.gettempdir()).st_dev:
        pytest.skip("there is only one file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_daemon_does_without_its_folder(other_file_system: Path) -> None:
    with daemon([real("env"), f"TMPDIR={other_file_system}", real(BUILT)]) as (port, _):
        clear(other_file_system)
        scenes_of_trouble(port)
        assert answers(port)


def test_foreground_goes_on_where_its_folder_is_cleared(other_file_system: Path, start) -> None:
    with reserved_port() as port:
        process = start([real(BUILT)], other_file_system, port)
        assert list(other_file_system.iterdir()), "it unpacks here"
        clear(other_file_system)
        scenes_of_trouble(port)
        assert ask(port, b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
    assert list(other_file_system.iterdir()) == []


AUDIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from gevent_epmd.program import cli
from gevent_epmd.program import run

def hook(event, arguments):
    if serving and event == "import":
        sys.__stderr__.write(f"late import: {arguments[0]}\\\\n")

serving = []
run.Events.serving = lambda self: serving.append(True)
sys.addaudithook(hook)
sys.exit(cli.main())
"""


#: The network of who may register has none of the test's peers in it.
AUDITED = {
    "quiet": [],
    "debug": ["-d", "-d", "-d"],
    "-allow_register": ["-allow_register", "10.99.0.0/16"],
    "-not_local": ["-not_local", "127.0.0.6"],
    "-user": ["-user", "12345:12345", "-pid_file", "-"],
}


@pytest.mark.parametrize("how", AUDITED)
def test_nothing_is_imported_once_it_serves(how: str, tmp_path: Path) -> None:
    if how == "-user" and os.geteuid():
        pytest.skip("only root may serve as another user")
    said = tmp_path / "stderr"
    with reserved_port() as port, said.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", AUDIT, "-port", str(port), "-packet_timeout", "1", *AUDITED[how]],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=clean_environment(),
            start_new_session=True,
        )
        wait_until(lambda: answers(port), "it to answer")
        with Peer(port) as idle:
            scenes_of_trouble(port)
            assert idle.read_all() == b"", "it times out, or has to make room"
        assert ask(port, b"k") == b"OK"
        assert process.wait(PATIENCE) == 0
    log = said.read_text()
    assert "no room for a connection" in log
    assert "late import" not in log
    assert "internal error" not in log


def test_pid_1_has_no_zombies_and_ends_by_term() -> None:
    """In a process namespace: the executable is PID 1, and one that detaches is its descendant."""
    with reserved_port() as port, reserved_port() as other:
        unshare = [real("unshare"), "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
        process = subprocess.Popen(
            [*unshare, real(BUILT), "-port", str(port)], env=clean_environment(), start_new_session=True
        )
        try:
            wait_until(lambda: answers(port), "it to answer")
            first = children(process.pid)[0]
            inside = ["nsenter", "-t", str(first), "-U", "--preserve-credentials", "-p", "-m"]
            assert run([*inside, BUILT, "-port", str(other), "-daemon"]).returncode == 0
            assert answers(other)
            assert ask(other, b"k") == b"OK"
            os.kill(first, signal.SIGTERM)
            wait_until(lambda: not answers(port), "it to end")
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait(PATIENCE)


def test_quick_line_as_pid_1() -> None:
    """The launcher is PID 1, and its child handles the signals that end it."""
    apart = [real("unshare"), "--map-root-user", "--pid", "--fork", "--kill-child"]
    with Source() as server:
        done = run([*apart, real(BUILT), "-port", str(server.port), "-started"])
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("rounds", [4])
def test_daemon_under_a_shell_that_is_pid_1(rounds: int) -> None:
    """Started and ended again and again by a PID 1 that gets whatever is left of each."""
    with reserved_port() as port:
        script = f"""
            for i in $(seq {rounds}); do
                {real(BUILT)} -port {port} -daemon || exit 1
                {BUILT} -port {port} -names >/dev/null || exit 2
                {BUILT} -port {port} -kill >/dev/null || exit 3
            done
            # The last one may end just now.
            cat /proc/[0-9]*/stat 2>/dev/null || true
        """
        unshare = [real("unshare"), "--map-root-user", "--pid", "--fork", "--mount-proc"]
        done = run([*unshare, "sh", "-c", script])
        assert done.returncode == 0
        states = [line.rsplit(")", 1)[1].split()[0] for line in done.stdout.decode().splitlines()]
        # Each daemon that was ended is its PID 1's child; dash reaps them, as it reaps all.
        assert states.count("Z") <= 1
