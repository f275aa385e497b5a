"""The folder form: one process, as C's, that needs no place to write to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.daemons import daemon
from support.forms import Folder, Process
from support.paths import BUILT, FOLDER
from support.patience import PATIENCE, wait_until
from support.peer import ask, names, node, register, scenes_of_trouble
from support.ports import answers, reserved_port
from support.procfs import children, processes_at
from support.programs import clean_environment, real, run

NODES = 500

AS_PROCESS_1 = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]

#: A root that cannot be written to and has no /tmp, no /dev/shm and, unless it is asked for, no /proc.
BARE_ROOT = """\
root=$1 folder=$2 proc=$3
shift 3
mount -t tmpfs tmpfs "$root"
mkdir "$root/usr" "$root/opt" "$root/dev"
mount --rbind /usr "$root/usr"
for path in /bin /sbin /lib /lib64; do
    if [ -L "$path" ]; then cp -P "$path" "$root"; elif [ -d "$path" ]; then
        mkdir "$root$path"
        mount --rbind "$path" "$root$path"
    fi
done
mount --bind "$folder" "$root/opt"
touch "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
if [ "$proc" ]; then
    mkdir "$root/proc"
    mount --rbind /proc "$root/proc"
fi
mount -o remount,ro "$root"
exec chroot "$root" "$@"
"""


def in_bare_root(root: Path, executable: str = FOLDER, *, proc: bool = True) -> list[str]:
    """An executable's command in such a root, which each call makes anew; as an ordinary user."""
    folder = str(Path(real(executable)).parent)
    shell = ["sh", "-e", "-c", BARE_ROOT, "sh", str(root), folder, "1" if proc else ""]
    if os.geteuid():
        return [real("unshare"), "--map-root-user", "--mount", *shell, "/opt/epmd"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    return [real("unshare"), "--mount", *shell, *nobody, "/opt/epmd"]


def test_launcher_executes_itself_once() -> None:
    """It leaves its variables to what it executes. A library that needs another one makes it do so."""
    if len([*Path(real(FOLDER)).with_name("_internal").glob("*.so*")]) > 1:
        pytest.skip("this Python needs other libraries")
    with Folder() as server:
        assert b"_PYI_" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_serves_where_nothing_can_be_written(tmp_path: Path) -> None:
    class Bare(Process):
        command = tuple(in_bare_root(tmp_path))

    with Bare() as server, ExitStack() as stack:
        for number in range(NODES):
            stack.enter_context(register(server.port, node(f"n{number}"))[0])
        listing = run([*Bare.command, "-port", str(server.port), "-names"])
        assert listing.stdout.count(b"name n") == NODES
        assert run([*Bare.command, "-port", str(server.port), "-started"]).returncode == 0


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "no-proc"])
def test_daemon_where_nothing_can_be_written(tmp_path: Path, *, proc: bool) -> None:
    command = in_bare_root(tmp_path, proc=proc)
    with daemon(command) as (port, _):
        assert run([*command, "-port", str(port), "-names"]).returncode == 0
        assert run([*command, "-port", str(port), "-kill"]).stdout == b"Killed\n"


def test_one_file_names_the_folder_form_where_it_cannot_unpack(tmp_path: Path) -> None:
    done = run([*in_bare_root(tmp_path, BUILT), "-names"])
    assert (done.returncode, done.stdout) == (255, b"")
    assert re.fullmatch(rb"\[PYI-\d+:ERROR\] Cannot unpack: use the folder form!\n", done.stderr)


def test_one_file_names_the_folder_form_where_there_is_no_room(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=1m tmpfs "$1"; export TMPDIR="$1"; shift; exec "$@"'
    prefix = [real("unshare"), "--map-root-user", "--mount", "sh", "-e", "-c", script, "sh", str(tmp_path)]
    done = run([*prefix, real(BUILT), "-names"])
    assert done.returncode == 255
    assert re.search(rb"Cannot unpack \S+: use the folder form!\n", done.stderr)


@pytest.mark.parametrize("options", ["ro", "noexec", "size=4k,nr_inodes=1"])
def test_folder_for_temporary_files_does_not_matter(options: str, tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o {options} tmpfs "$1"; export TMPDIR="$1"; shift; exec "$@"'
    prefix = [real("unshare"), "--map-root-user", "--mount", "sh", "-e", "-c", script, "sh", str(tmp_path)]
    with daemon([*prefix, real(FOLDER)]) as (port, _):
        assert run([*prefix, FOLDER, "-port", str(port), "-names"]).returncode == 0


@pytest.mark.parametrize("first", [[], AS_PROCESS_1], ids=["", "as process 1"])
@pytest.mark.parametrize("option", ["-names", "-started", "-daemon"])
def test_quick_line_takes_little_of_the_folder(option: str, first: list[str], tmp_path: Path) -> None:
    """It is answered by modules that the launcher runs first, and imports no library of the folder."""
    shutil.copytree(Path(real(FOLDER)).parent, tmp_path / "epmd", symlinks=True)
    for path in (tmp_path / "epmd" / "_internal").rglob("*"):
        if path.is_file() and not path.name.startswith(("lib", "base_library", "_socket")):
            path.unlink()
    with Folder() as server:
        held, _ = register(server.port, node("foo"))
        done = run([*first, str(tmp_path / "epmd" / "epmd"), "-port", str(server.port), option])
        expected = run([FOLDER, "-port", str(server.port), option])
        assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, b"")
        held.close()


#: How often a daemon's start opens its executable: the launcher for its parts, and once for all modules.
OPENED = 8


def test_daemon_reads_its_modules_at_once(tmp_path: Path) -> None:
    """Each one that it would read for itself would take a two-hundredth of the time until it serves."""
    calls = tmp_path / "calls"
    traced = [real("strace"), "-D", "-f", "-o", str(calls), "-e", "trace=openat"]
    with daemon([*traced, real(FOLDER)]) as (port, _):
        pass
    wait_until(lambda: not processes_at(port), "strace to end, when its list is complete")
    assert 0 < calls.read_text().count(f'"{FOLDER}"') <= OPENED


def test_one_process_that_is_called_as_it_was_started(tmp_path: Path) -> None:
    with Folder(environ={"TMPDIR": str(tmp_path)}) as server:
        process = Path(f"/proc/{server.process.pid}")
        assert children(server.process.pid) == []
        assert (process / "comm").read_text() == "epmd\n"
        assert (process / "cmdline").read_bytes().startswith(f"{FOLDER}\0-port\0".encode())
        assert list(tmp_path.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A copy that has been moved, to a folder with blanks in its name."""
    shutil.copytree(Path(real(FOLDER)).parent, tmp_path / "copy", symlinks=True)
    return (tmp_path / "copy").rename(tmp_path / "a b  c") / "epmd"


def test_ways_to_start_it(elsewhere: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "epmd").symlink_to("../through/epmd")
    (tmp_path / "through").symlink_to("a b  c")
    (programs / "other").symlink_to(elsewhere)
    expected = run([FOLDER, "--version"]).stdout
    assert expected.startswith(b"epmd ")
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    for command in (str(elsewhere), "a b  c/epmd", "./programs/epmd", str(programs / "other")):
        done = run([command, "--version"], cwd=tmp_path)
        assert (done.stdout, done.stderr) == (expected, b""), command
    assert run(["sh", "-c", "epmd --version"], environ=path).stdout == expected
    with daemon([real("env"), f"PATH={path['PATH']}", "epmd"]) as (port, pid):
        assert os.readlink(f"/proc/{pid}/exe") == str(elsewhere)
        assert run([str(programs / "epmd"), "-port", str(port), "-started"]).returncode == 0


@pytest.mark.parametrize("options", [[], ["-d", "-d", "-d"]], ids=["quiet", "debug"])
def test_serves_on_when_the_folder_is_removed(elsewhere: Path, options: list[str]) -> None:
    class Copy(Process):
        command = (str(elsewhere),)

    with Copy(*options) as server:
        shutil.rmtree(elsewhere.parent)
        scenes_of_trouble(server.port)
        wait_until(lambda: not names(server.port), "the last node to go")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL"])
def test_signal_is_in_the_status(name: str) -> None:
    with Folder() as server:
        server.process.send_signal(signal.Signals[name])
        assert server.process.wait(PATIENCE) == -signal.Signals[name]
        assert not answers(server.port)


def test_signal_at_any_moment_of_the_start() -> None:
    with reserved_port() as port:
        for moment in range(20):
            process = subprocess.Popen(
                [real(FOLDER), "-port", str(port)], env=clean_environment(), stderr=subprocess.DEVNULL
            )
            time.sleep(moment * 0.01)  # the moment to look at, and nothing to wait for
            process.terminate()
            assert process.wait(PATIENCE) == -signal.SIGTERM
            assert not answers(port)


#: Starts the command as its child, and shows how that ended.
PARENT = "import subprocess, sys; print(subprocess.call(sys.argv[1:]))"


def test_child_of_process_1_is_ended_by_the_signal() -> None:
    """Process 1 is not its launcher here: its end must be seen as C's is."""
    with reserved_port() as port:
        unshare = [real("unshare"), "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
        process = subprocess.Popen(
            [*unshare, sys.executable, "-c", PARENT, real(FOLDER), "-port", str(port)],
            env=clean_environment(),
            stdout=subprocess.PIPE,
        )
        try:
            wait_until(lambda: answers(port), "it to answer")
            (first,) = children(process.pid)
            os.kill(*children(first), signal.SIGTERM)
            assert process.communicate(timeout=PATIENCE)[0] == b"-15\n"
        finally:
            process.kill()
            process.wait(PATIENCE)


def test_is_process_1_itself() -> None:
    with reserved_port() as port:
        unshare = [real("unshare"), "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
        process = subprocess.Popen([*unshare, real(FOLDER), "-port", str(port)], env=clean_environment())
        try:
            wait_until(lambda: answers(port), "it to answer")
            (first,) = children(process.pid)
            assert children(first) == []
            assert ask(port, b"d")[4:] == b""
            os.kill(first, signal.SIGTERM)
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        finally:
            process.kill()
            process.wait(PATIENCE)
