"""scripts/install: what it puts where, and that all of it can be taken back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.daemons import end, listening_at
from support.forms import Process
from support.made import Made
from support.paths import C_EPMD, FOLDER, ROOT
from support.patience import LONG, wait_until
from support.peer import names, node, register
from support.ports import answers, reserved_port
from support.programs import real, run

INSTALL = ROOT / "scripts" / "install"
FIRST = b"#!/bin/sh\necho first\n"
SECOND = b"#!/bin/sh\necho second\n"
PLACES = ["pre fix/bin/epmd", "erl ang/erts-1.2/bin/epmd", "erl ang/erts-13.1.5/bin/epmd"]
MARKER = ".gevent-epmd"
KEPT = ".c-original"
OLD = 1_000_000_000
C_CONTENT = [None, b"C's epmd 0", b"C's epmd 1"]


def put_c(place: Path, number: int) -> None:
    place.write_bytes(b"C's epmd %d" % number)
    place.chmod(0o555 - number)
    os.utime(place, (OLD, OLD + number))


class Host:
    """A prefix, an Erlang root with its emulators, and an executable to install, all in one folder."""

    def __init__(self, folder: Path, places: list[str], made: Made) -> None:
        self.folder = folder
        self.names = places
        self._made = made
        self.tree = folder / "tree"
        self.prefix = self.tree / "pre fix"
        self.erlang = self.tree / "erl ang"
        self.places = [self.tree / place for place in places]
        self.library = self.prefix / "lib" / "gevent-epmd"
        self.executable = folder / "new epmd"
        self.build(FIRST)
        self.prefix.mkdir(parents=True)
        for number, place in enumerate(self.places[1:]):
            place.parent.mkdir(parents=True)
            put_c(place, number)
        (self.erlang / "bin").mkdir()
        link = self.erlang / "bin" / "epmd"
        link.symlink_to(os.path.relpath(self.places[-1], link.parent))
        os.utime(link, (OLD, OLD), follow_symlinks=False)
        (self.erlang / "erts-without" / "bin").mkdir(parents=True)

    def build(self, content: bytes) -> None:
        """An executable and what belongs to it, both with this content."""
        self.executable.write_bytes(content)
        self.executable.chmod(0o700)
        inner = self.folder / "_internal" / "in side" / "lib.so"
        inner.parent.mkdir(parents=True, exist_ok=True)
        inner.write_bytes(content)

    def build_real(self) -> None:
        """An executable that serves."""
        shutil.copytree(Path(real(FOLDER)).parent, self.folder / "new", symlinks=True)
        self.executable = self.folder / "new" / "epmd"

    def install(self, *options: str, before: list[str] | None = None, environ=None, **how):
        """Install, or what the options say, in the prefix and in Erlang."""
        where = ["--prefix", str(self.prefix), "--erlang", str(self.erlang)]
        return self.call(*where, *options, before=before, environ=environ, **how)

    def call(self, *options: str, before: list[str] | None = None, environ=None, **how):
        environ = {"EPMD_EXECUTABLE": str(self.executable)} | (environ or {})
        return run([*(before or []), str(INSTALL), *options], environ=environ, **how)

    def begin_installed(self) -> None:
        """What `install` makes of a new host, copied from another one: that costs a tenth."""

        def install(folder: Path) -> None:
            assert_done(Host(folder, self.names, self._made).install())

        other = self._made.once(f"installed-{len(self.names)}", install)
        shutil.rmtree(self.tree)
        run(["cp", "-a", str(other / "tree"), str(self.tree)])
        places = (self.library / "installed").read_text()
        (self.library / "installed").write_text(places.replace(str(other), str(self.folder)))

    def keep(self, name: str) -> None:
        """Keep the tree as it is now, for `go_back`: a copy costs less than an installation."""
        run(["cp", "-a", str(self.tree), str(self.folder / name)])

    def go_back(self, name: str) -> None:
        shutil.rmtree(self.tree)
        run(["cp", "-a", str(self.folder / name), str(self.tree)])

    def snapshot(self) -> dict:
        """All that must be the same again after an uninstall."""
        return {path: what[0] for path, what in self.exact_snapshot().items()}

    def exact_snapshot(self) -> dict:
        """All that must be the same where nothing was done."""
        return {str(path.relative_to(self.tree)): self._look_at(path) for path in self.tree.rglob("*")}

    @staticmethod
    def _look_at(path: Path) -> tuple:
        status = path.lstat()
        same = (status.st_mode, status.st_uid, status.st_gid)
        exact = (status.st_ino, status.st_mtime_ns, status.st_nlink)
        if stat.S_ISLNK(status.st_mode):
            return (*same, status.st_mtime_ns, os.readlink(path)), exact
        if stat.S_ISREG(status.st_mode):
            return (*same, status.st_mtime_ns, path.read_bytes()), exact
        return same, exact

    def assert_installed(self, content: bytes = FIRST) -> None:
        for place in self.places:
            assert_links_to(place, self.library, content)
        beside = [place + MARKER for place in self.names] + [place + KEPT for place in self.names[1:]]
        assert {path for path in self.snapshot() if "epmd." in path} == set(beside)

    def assert_c_is_kept(self, before: dict) -> None:
        after = self.snapshot()
        assert [after[place + KEPT] for place in self.names[1:]] == [
            before[place] for place in self.names[1:]
        ]

    def shims(self, script: str, *commands: str) -> dict[str, str]:
        """An environment in which this runs before each call of these commands; $n counts the calls."""
        folder = self.folder / "shims"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "count").write_text("0\n")
        for command in commands:
            (folder / command).write_text(
                f"#!/bin/sh\nPATH=${{PATH#*:}}\nread -r n <'{folder}/count'\n"
                f"n=$((n + 1))\necho $n >'{folder}/count'\n"
                f'{script}\nexec {command} "$@"\n'
            )
            (folder / command).chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}

    def shim_calls(self) -> int:
        return int((self.folder / "shims" / "count").read_text())


def assert_links_to(place: Path, library: Path, content: bytes) -> None:
    """The place has a relative link to the library, and what it leads to is whole."""
    assert not os.readlink(place).startswith("/")
    found = place.resolve(strict=True)
    assert found.parent.parent == library
    assert found.read_bytes() == content
    assert (found.parent / "_internal" / "in side" / "lib.so").read_bytes() == content
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in found.parent.rglob("*")}
    assert modes == {"epmd": "0o755", "_internal": "0o755", "in side": "0o755", "lib.so": "0o644"}
    assert found.parent.stat().st_mode & 0o7777 == 0o755


@pytest.fixture
def host(tmp_path: Path, made: Made) -> Host:
    return Host(tmp_path, PLACES, made)


@pytest.fixture
def small_host(tmp_path: Path, made: Made) -> Host:
    """With one emulator: a second one takes the same steps again."""
    return Host(tmp_path, PLACES[:2], made)


def assert_done(call) -> None:
    assert (call.returncode, call.stderr) == (0, b""), call


def assert_refused(call, why: bytes) -> None:
    assert (call.returncode, call.stdout) == (1, b""), call
    assert call.stderr.startswith(b"install: ")
    assert call.stderr.count(b"\n") == 1
    assert why in call.stderr


def powerless() -> list[str]:
    """What makes a command of root's ask for permission like anybody's."""
    return [] if os.geteuid() else [real("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]


def test_install_and_uninstall(host: Host) -> None:
    before = host.snapshot()
    call = host.install()
    assert_done(call)
    prefix, *erlang = (str(place) for place in host.places)
    assert call.stdout.decode().splitlines() == [
        f"{prefix}: installed",
        *(f"{place}: installed; what was there is kept as {place}.c-original" for place in erlang),
    ]
    host.assert_installed()
    assert (host.erlang / "bin" / "epmd").is_symlink()
    assert (host.erlang / "bin" / "epmd").read_bytes() == FIRST
    host.assert_c_is_kept(before)
    call = host.install("--uninstall")
    assert_done(call)
    assert call.stdout.decode().splitlines() == [
        f"{prefix}: removed",
        *(f"{place}: the original is put back" for place in erlang),
    ]
    assert host.snapshot() == before


def test_twice_changes_nothing(host: Host) -> None:
    host.begin_installed()
    once = host.exact_snapshot()
    call = host.install()
    assert_done(call)
    assert call.stdout.decode().splitlines() == [f"{place}: is up to date" for place in host.places]
    assert host.exact_snapshot() == once


def test_prefix_only(host: Host) -> None:
    before = host.snapshot()
    assert_done(host.call(f"--prefix={host.prefix}"))
    new = {path for path in host.snapshot().keys() - before.keys() if "/lib/gevent-epmd/" not in path}
    assert new == {"pre fix/bin", PLACES[0], PLACES[0] + MARKER, "pre fix/lib", "pre fix/lib/gevent-epmd"}
    assert host.snapshot().items() >= before.items()
    # What was installed where this is not told of stays.
    assert_done(host.install())
    call = host.call("--prefix", str(host.prefix), "--uninstall")
    assert_done(call)
    others = ", ".join(str(place) for place in host.places[1:])
    assert call.stdout.decode().splitlines()[1:] == [f"{host.library}: stays, for {others}"]
    assert not host.places[0].exists()
    assert_links_to(host.places[1], host.library, FIRST)
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


def test_upgrade(host: Host) -> None:
    before = host.snapshot()
    host.begin_installed()
    kept = {path: what for path, what in host.exact_snapshot().items() if path.endswith(KEPT)}
    host.build(SECOND)
    assert_done(host.install())
    host.assert_installed(SECOND)
    assert host.exact_snapshot().items() >= kept.items()
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


@pytest.mark.parametrize("target", ["../../erl ang/erts-1.2/bin/epmd", "nowhere", "/"])
def test_links_are_put_back_as_links(host: Host, target: str) -> None:
    for place in host.places[::2]:
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
    before = host.snapshot()
    assert_done(host.install())
    for place in host.places:
        assert_links_to(place, host.library, FIRST)
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


def test_ways_to_name_a_root(host: Host) -> None:
    (host.tree / "link").symlink_to("erl ang")
    (host.erlang / "erts-link").symlink_to("erts-1.2")
    before = host.snapshot()
    roots = ["erl ang/", str(host.erlang), "link", "link//", "./link/../erl ang"]
    where = ["--prefix", "pre fix//", *(option for root in roots for option in ("--erlang", root))]
    call = host.call(*where, cwd=host.tree)
    assert_done(call)
    assert call.stdout.count(b"\n") == 3
    host.assert_installed()
    assert_done(host.call(*where, "--uninstall", cwd=host.tree))
    assert host.snapshot() == before


def test_folders_that_were_made(host: Host) -> None:
    before = host.snapshot()
    deep = host.tree / "a" / "b c"
    assert_done(host.call("--prefix", str(deep), environ={}))
    assert (deep / "bin" / "epmd").read_bytes() == FIRST
    host.build(SECOND)
    assert_done(host.call("--prefix", str(deep)))
    assert_done(host.call("--prefix", str(deep), "--uninstall"))
    assert host.snapshot() == before


def test_folders_that_were_there_or_are_in_use_stay(host: Host) -> None:
    (host.tree / "empty" / "bin").mkdir(parents=True)
    before = host.snapshot()
    for prefix in (host.prefix, host.tree / "empty"):
        assert_done(host.call("--prefix", str(prefix)))
    other = host.prefix / "bin" / "other"
    other.touch()
    for prefix in (host.prefix, host.tree / "empty"):
        assert_done(host.call("--prefix", str(prefix), "--uninstall"))
    other.unlink()
    other.parent.rmdir()
    assert host.snapshot() == before


def test_nothing_to_uninstall(host: Host) -> None:
    before = host.exact_snapshot()
    call = host.install("--uninstall")
    assert_done(call)
    assert call.stdout.decode().splitlines() == [
        f"{place}: nothing was installed here" for place in host.places
    ]
    assert_done(host.call("--uninstall", "--prefix", str(host.tree / "missing")))
    assert host.exact_snapshot() == before


def with_content(place: Path) -> None:
    place.unlink()
    place.write_bytes(b"somebody else's")


def with_link(place: Path) -> None:
    place.unlink()
    place.symlink_to("epmd.same")
    place.with_name("epmd.same").write_bytes(FIRST)


@pytest.mark.parametrize(("number", "replace"), [(0, with_content), (2, with_link)])
def test_foreign_replacement_is_left_alone(host: Host, number: int, replace) -> None:
    host.begin_installed()
    replace(host.places[number])
    before = host.exact_snapshot()
    for build, options in [(FIRST, []), (SECOND, []), (FIRST, ["--uninstall"])]:
        host.build(build)
        assert_refused(host.install(*options), b"bin/epmd: has changed since the installation")
        assert host.exact_snapshot() == before


def test_foreign_replacement_of_the_kind_that_the_message_asks_for(host: Host) -> None:
    host.begin_installed()
    place = host.places[1]
    with_content(place)
    for ending in (MARKER, KEPT):
        Path(f"{place}{ending}").unlink()
    assert_done(host.install())
    host.assert_installed()
    assert_done(host.install("--uninstall"))
    assert place.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("by", ["checkout", "copy"])
def test_force_takes_a_place_back(host: Host, by: str) -> None:
    """What an upgrade has put there is kept, instead of what was there.  The installed copy does it too."""
    if by == "copy":
        host.build_real()
    before = host.snapshot()
    assert_done(host.install())
    for place in (host.places[0], host.places[2]):
        with_content(place)
    new = host.snapshot()[PLACES[2]]
    if by == "copy":
        shutil.rmtree(host.folder / "new")
        call = run([str(host.library / "install"), "--force", "--erlang", str(host.erlang)])
    else:
        call = host.install("--force")
    assert_done(call)
    prefix, first, second = map(str, host.places)
    again = "installed again; what was there is kept as"
    assert call.stdout.decode().splitlines() == [
        f"{prefix}: {again} {prefix}.c-original",
        f"{first}: is up to date",
        f"{second}: {again} {second}.c-original",
    ]
    after = host.snapshot()
    assert {place.resolve().name for place in host.places} == {"epmd"}
    assert len({place.resolve() for place in host.places}) == 1
    assert after[PLACES[2] + KEPT] == new
    assert not [path for path in after if ".gevent-" in path.removesuffix(MARKER)]
    assert_done(host.install("--uninstall"))
    after = host.snapshot()
    assert after.pop(PLACES[0])[-1] == b"somebody else's"
    assert after == before | {PLACES[2]: new, "pre fix/bin": after["pre fix/bin"]}


def test_uninstall_with_force_leaves_what_is_there(host: Host) -> None:
    before = host.snapshot()
    host.begin_installed()
    with_content(host.places[2])
    new = host.snapshot()[PLACES[2]]
    call = host.install("--force", "--uninstall")
    assert_done(call)
    assert f"{host.places[2]}: left as it is; what was kept is removed" in call.stdout.decode()
    assert host.snapshot() == before | {PLACES[2]: new}


def test_runtime_that_an_upgrade_has_removed(host: Host) -> None:
    """The package manager leaves what it does not know."""
    host.begin_installed()
    old, folder = host.places[2], host.places[2].parent
    old.unlink()
    new = host.erlang / "erts-99" / "bin" / "epmd"
    new.parent.mkdir(parents=True)
    new.write_bytes(b"newest")
    call = host.install("--force")
    assert_done(call)
    assert f"{old}: its runtime is gone, and so is what was kept of it" in call.stdout.decode()
    assert not folder.parent.exists()
    assert_links_to(new, host.library, FIRST)
    assert_done(host.install("--uninstall"))
    assert new.read_bytes() == b"newest"
    assert not host.library.exists()


@pytest.mark.parametrize("again", [True, False])
def test_ours_was_removed(host: Host, *, again: bool) -> None:
    before = host.snapshot()
    host.begin_installed()
    for place in host.places:
        place.unlink()
    if again:
        assert_done(host.install())
        host.assert_installed()
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


def test_mode_is_mended(host: Host) -> None:
    host.begin_installed()
    host.places[1].chmod(0o600)
    assert_done(host.install())
    host.assert_installed()


def test_original_is_missing(host: Host) -> None:
    host.begin_installed()
    Path(f"{host.places[2]}{KEPT}").unlink()
    before = host.exact_snapshot()
    assert_refused(host.install("--uninstall"), b"epmd.c-original: is missing")
    assert host.exact_snapshot() == before


def test_running_programs_go_on(host: Host) -> None:
    class Old(Process):
        command = (str(host.places[1]),)

    host.places[1].unlink()
    shutil.copy(real(C_EPMD), host.places[1])
    before = host.snapshot()
    with Old() as old:
        assert_done(host.install())
        assert answers(old.port)
        # Ours runs while it is replaced and removed.
        host.build_real()
        assert_done(host.install())
        with Old() as ours:
            host.executable = host.folder / "new epmd"
            host.build(SECOND)
            assert_done(host.install())
            assert_done(host.install("--uninstall"))
            assert answers(ours.port)
        assert answers(old.port)
    assert host.snapshot() == before


def test_take_over(host: Host) -> None:
    """The installed one serves, and the node that was registered before keeps its connection."""
    host.build_real()
    with reserved_port() as port:
        environ = {"ERL_EPMD_PORT": str(port)}
        call = host.install("--take-over", environ=environ)
        assert_done(call)
        assert call.stdout.decode().splitlines()[-1] == "no epmd is running"
        assert run([real(C_EPMD), "-daemon"], environ=environ).returncode == 0
        wait_until(lambda: answers(port), "C's epmd to answer")
        with register(port, node("n"))[0] as held:
            call = host.install("--take-over", environ=environ)
            assert call.returncode == 0
            assert b"took over 1 node from process" in call.stderr
            assert held.is_open()
            assert names(port) == ["n at port 4711"]
        [serving] = listening_at(port)
        assert os.readlink(f"/proc/{serving}/exe") == str(host.places[0].resolve())
        end(port, serving)


# --- What cannot be done is not half done ---


@pytest.mark.parametrize("uninstall", [[], ["--uninstall"]])
@pytest.mark.parametrize(
    ("root", "why"),
    [
        ("missing", b"missing: no such folder"),
        ("new epmd", b"new epmd: not a folder"),
        ("tree/pre fix", b"pre fix: no erts-*/bin/epmd in it"),
        ("tree/erl ang/erts-1.2", b"erts-1.2: no erts-*/bin/epmd in it"),
    ],
)
def test_wrong_erlang_root(host: Host, root: str, why: bytes, uninstall: list[str]) -> None:
    before = host.exact_snapshot()
    assert_refused(host.install("--erlang", str(host.folder / root), *uninstall), why)
    assert host.exact_snapshot() == before


def test_prefix_in_a_file(host: Host) -> None:
    before = host.exact_snapshot()
    assert_refused(host.install("--prefix", f"{host.executable}/deeper"), b"new epmd: not a folder")
    assert host.exact_snapshot() == before


@pytest.mark.parametrize("unwritable", ["pre fix", "erl ang/erts-13.1.5/bin"])
def test_unwritable_folder(host: Host, unwritable: str) -> None:
    folder = host.tree / unwritable
    folder.chmod(0o555)
    before = host.exact_snapshot()
    assert_refused(host.install(before=powerless()), f"{unwritable}: not writable".encode())
    assert host.exact_snapshot() == before
    folder.chmod(0o755)
    assert_done(host.install(before=powerless()))
    (host.places[0].parent if unwritable == "pre fix" else folder).chmod(0o555)
    installed = host.exact_snapshot()
    assert_refused(host.install("--uninstall", before=powerless()), b"bin: not writable")
    assert host.exact_snapshot() == installed


def test_what_is_in_the_way(host: Host) -> None:
    kept = Path(f"{host.places[2]}{KEPT}")
    kept.touch()
    before = host.exact_snapshot()
    assert_refused(host.install(), b"epmd.c-original: already exists")
    assert_refused(host.install("--uninstall"), b"epmd.c-original: already exists")
    assert host.exact_snapshot() == before
    kept.unlink()
    host.places[0].mkdir(parents=True)
    before = host.exact_snapshot()
    assert_refused(host.install(), b"pre fix/bin/epmd: is a folder")
    assert host.exact_snapshot() == before


def test_wrong_executable(host: Host) -> None:
    before = host.exact_snapshot()
    host.executable.chmod(0o600)
    assert_refused(host.install(), b"new epmd: not an executable file")
    host.executable.unlink()
    assert_refused(host.install(), b"new epmd: not an executable file")
    assert host.exact_snapshot() == before


def test_no_space(host: Host) -> None:
    """A limit of the size of a file stands in for a full disk: the copy fails in its middle."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    host.build(b"much" * 8192)
    before = host.snapshot()
    # Python ignores the signal of the limit; so shall the script, to see an error instead.
    assert_refused(host.install(preexec_fn=limit, restore_signals=False), b"File too large")
    assert host.snapshot() == before


def get_ready(host: Host, *, upgrade: bool) -> bytes:
    """An installed host with something newer, or one without; what shall be installed then."""
    if upgrade:
        host.begin_installed()
        host.build(SECOND)
        return SECOND
    return FIRST


CHANGING = ("cp", "chmod", "dd", "ln", "mv", "mkdir")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("upgrade", "expected"),
    [
        # Three mkdir; dd and mv of the list; two cp, chmod and mv of the content; cp, mv, dd and mv of the
        # longer list; dd, mv and chmod of the script; ln and mv of the link in use; dd, mv, ln and mv in each
        # place, and cp and mv of the original.
        pytest.param(False, 28, id="fresh"),
        # mkdir, two cp, chmod and mv of the content; cp, mv, ln and mv of the link in use.
        pytest.param(True, 9, id="upgrade"),
    ],
)
def test_failure_of_any_step(small_host: Host, expected: int, *, upgrade: bool) -> None:
    """Each call of a command that changes something fails once: all is done afterwards, or nothing."""
    host = small_host
    content = get_ready(host, upgrade=upgrade)
    before = host.snapshot()
    host.keep("before")
    failures = number = 0
    while number == 0 or host.shim_calls() >= number:
        number += 1
        call = host.install(environ=host.shims(f"[ $n = {number} ] && exit 1", *CHANGING))
        if call.returncode:
            failures += 1
            assert_refused(call, str(host.tree).encode())
            assert host.snapshot() == before, f"after call {number} failed"
        else:
            host.assert_installed(content)
            host.go_back("before")
    assert failures == expected


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_while_it_copies(host: Host, name: str) -> None:
    before = host.snapshot()
    # The copy is there, and its command is not yet at its end, when the signal comes, as from a terminal.
    environ = host.shims(f'[ $n = 2 ] && cp "$@" && kill -{name[3:]} 0', "cp")
    call = host.install(environ=environ, start_new_session=True)
    assert call.returncode == 128 + signal.Signals[name]
    assert call.stdout == b""
    assert host.snapshot() == before


def test_signal_to_the_script_alone(host: Host) -> None:
    """It waits for the command that it called, which could still write a file otherwise."""
    before = host.snapshot()
    reached = host.folder / "reached"
    script = f"if [ $n = 1 ]; then touch '{reached}'; while [ -e '{reached}' ]; do sleep 0.02; done; fi"
    environ = host.shims(script, "cp") | {"EPMD_EXECUTABLE": str(host.executable)}
    command = [INSTALL, "--prefix", host.prefix, "--erlang", host.erlang]
    with subprocess.Popen(command, env=os.environ | environ, start_new_session=True) as process:
        wait_until(reached.exists, "the first copy")
        process.terminate()
        reached.unlink()  # then the copy goes on
    assert process.returncode == 128 + signal.SIGTERM
    wait_until(lambda: not group_is_there(process.pid), "what it called to end")
    assert host.snapshot() == before


def group_is_there(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("options", [[], ["--uninstall"]])
def test_signal_while_it_renames_comes_too_late(host: Host, options: list[str]) -> None:
    untouched = host.snapshot()
    if options:
        host.begin_installed()
    # The first two renames of an installation prepare it.
    reached = 2 if options else 4
    environ = host.shims(f"[ $n = {reached} ] && kill -INT 0 && kill -TERM 0", "mv")
    assert_done(host.install(*options, environ=environ, start_new_session=True))
    assert host.shim_calls() >= reached
    if options:
        assert host.snapshot() == untouched
    else:
        host.assert_installed()


def install_as_before(host: Host) -> None:
    """As the older script left it: a copy in each place."""
    for place in host.places:
        place.parent.mkdir(exist_ok=True)
        original = "none"
        if place.exists():
            original = "kept"
            place.rename(f"{place}{KEPT}")
        place.write_bytes(FIRST)
        place.chmod(0o755)
        note = f"sha256 {hashlib.sha256(FIRST).hexdigest()}\noriginal {original}\n"
        Path(f"{place}{MARKER}").write_text(f"{note}folders {int(original == 'none')}\n")


def test_what_the_older_script_installed_is_taken_over(host: Host) -> None:
    before = host.snapshot()
    install_as_before(host)
    host.build(SECOND)
    assert_done(host.install())
    host.assert_installed(SECOND)
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


def test_what_the_older_script_installed_is_uninstalled(host: Host) -> None:
    before = host.snapshot()
    install_as_before(host)
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


def begin(host: Host, what: str) -> None:
    if what == "older script":
        install_as_before(host)
    elif what != "fresh":
        host.begin_installed()
    if what == "force":
        with_content(host.places[1])


@pytest.mark.slow(10)
@pytest.mark.parametrize("what", ["fresh", "upgrade", "older script", "uninstall", "force"])
def test_killed_at_any_step(small_host: Host, what: str) -> None:
    """Whatever was reached, each place has what was there or what is new, whole; it can be called again.

    A kill leaves the tree as it was before the step: copies of it are made in a call that is not killed.
    """
    host = small_host
    untouched = host.snapshot()
    begin(host, what)
    old = [place.read_bytes() if place.exists() else None for place in host.places]
    # What replaces the content is played by an upgrade.
    new = FIRST if what == "force" else SECOND
    host.build(new)
    options = [f"--{what}"] if what in ("uninstall", "force") else []
    environ = host.shims(f"cp -a '{host.tree}' '{host.folder}'/$n", *CHANGING, "rm", "rmdir")
    assert_done(host.install(*options, environ=environ))
    count = host.shim_calls()
    assert count > 5
    again = ["--force"] if what == "force" else []
    # What the older script left is upgraded by the same steps: every second of them will do.
    for number in range(1, count + 1, 2 if what == "older script" else 1):
        host.go_back(str(number))
        for place, content, original in zip(host.places, old, C_CONTENT, strict=False):
            now = place.read_bytes() if place.exists() else None
            expected = (content, original if what == "uninstall" else new)
            assert now in expected, f"{place}, call {number}"
            if place.is_symlink():
                assert_links_to(place, host.library, now)
        # In turns: an installation, and the opposite.
        if number // 2 % 2 and number < count - 1:
            assert_done(host.install(*again))
            host.assert_installed(new)
            if not again:
                host.assert_c_is_kept(untouched)
            continue
        assert_done(host.install("--uninstall", *again))
        if again:
            assert host.places[1].read_bytes() == old[1]
            put_c(host.places[1], 0)
        clear_leftovers(host)
        assert host.snapshot() == untouched, f"call {number}"


@pytest.mark.parametrize("step", [4, 20])
def test_killed(small_host: Host, step: int) -> None:
    """No lock and no process is left, and the same call goes on, after which nothing is left of the first."""
    host = small_host
    before = host.snapshot()
    environ = host.shims(f"[ $n = {step} ] && kill -KILL 0", *CHANGING)
    assert host.install(environ=environ, start_new_session=True).returncode == -signal.SIGKILL
    assert_done(host.install())
    host.assert_installed()
    assert_done(host.install("--uninstall"))
    clear_leftovers(host)
    assert host.snapshot() == before


def clear_leftovers(host: Host) -> None:
    """What a script that was killed could not remove: nobody's, and in nobody's way."""
    for folder in ("bin", "lib"):
        with contextlib.suppress(OSError):
            (host.prefix / folder).rmdir()


def test_old_folders_go_once_nothing_runs_from_them(host: Host) -> None:
    host.begin_installed()
    running = host.places[1].resolve().parent
    program = shutil.copy(real("sleep"), running / "program")
    with subprocess.Popen([program, "infinity"]) as old:
        try:
            for content in (b"#1", b"#2", b"#3"):
                host.build(content)
                assert_done(host.install())
                assert running.exists()
            # It, the last one before this one, and this one.
            assert len(list(host.library.glob("*/epmd"))) == 4
        finally:
            old.kill()
    assert_done(host.install())
    assert [path.resolve().read_bytes() for path in host.library.glob("*/epmd")] == [b"#3", b"#3"]


def starts_that_fail(places: list[Path], done: threading.Event) -> list[object]:
    """What went wrong in any of the starts of these epmds until it is done."""
    failed: list[object] = []
    while not done.is_set():
        for place in places:
            try:
                call = run([str(place), "--version"])
            except OSError as error:
                failed.append(error)
            else:
                failed.extend([call] if call.returncode or call.stderr else [])
    return failed


@pytest.mark.slow
def test_starts_during_an_upgrade(host: Host) -> None:
    """Each finds a whole epmd, by the link that it was started through."""
    host.build_real()
    assert_done(host.install())
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(starts_that_fail, host.places, done)
        try:
            (host.folder / "new" / "_internal" / "more").touch()
            assert_done(host.install())
        finally:
            done.set()
    assert starting.result() == []


# --- Two at once ---

#: How often two calls are made at once: the machine decides which of their steps meet.
ROUNDS = int(os.environ.get("EPMD_INSTALL_ROUNDS", "1"))


def at_once(host: Host, *calls: list[str]) -> None:
    environ = os.environ | {"EPMD_EXECUTABLE": str(host.executable)}
    started = [
        subprocess.Popen(
            [INSTALL, "--erlang", host.erlang, *options],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for options in calls
    ]
    said = [process.communicate(timeout=LONG)[1] for process in started]
    assert [process.returncode for process in started] == [0] * len(calls), said
    assert said == [b""] * len(calls)


@pytest.mark.parametrize("against", ["install", "uninstall", "the same"])
def test_two_at_once(host: Host, against: str) -> None:
    """EPMD_INSTALL_ROUNDS=60 plays more; without the locks, few rounds are enough to lose C's epmd."""
    before = host.snapshot()
    first, second = (["--prefix", str(host.tree / name)] for name in ("pre fix", "other"))
    for _ in range(ROUNDS):
        if against == "the same":
            at_once(host, first, first)
            host.assert_installed()
        elif against == "uninstall":
            at_once(host, first)
            at_once(host, [*first, "--uninstall"], second)
        else:
            at_once(host, first, second)
            for number, place in enumerate(host.places[1:]):
                assert place.read_bytes() == FIRST
                assert Path(f"{place}{KEPT}").read_bytes() == b"C's epmd %d" % number
        at_once(host, [*first, "--uninstall"], [*(first if against == "the same" else second), "--uninstall"])
        clear_leftovers(host)
        assert host.snapshot() == before


# --- What another user, another package, or another host has to do with it ---


def only_root() -> None:
    if os.geteuid():
        pytest.skip("only root can be led astray")


def test_prefix_of_another_user(host: Host) -> None:
    """Whose owner could put a link in root's way, or a program in the place of the one that root tries."""
    only_root()
    before = host.exact_snapshot()
    os.chown(host.prefix, 65534, -1)
    assert_refused(host.install(), b"pre fix: belongs to user nobody; install as that user, or elsewhere")
    os.chown(host.prefix, 0, -1)
    host.prefix.chmod(0o777)
    assert_refused(host.install(), b"pre fix: any user can write to it; install elsewhere")
    host.prefix.chmod(0o755)
    assert host.exact_snapshot() == before


def test_links_in_a_folder_of_another_user(host: Host, tmp_path: Path) -> None:
    only_root()
    secret = tmp_path / "secret"
    secret.write_text("root's")
    place = host.places[1]
    os.chown(place.parent, 65534, -1)
    for ending in ("", MARKER, KEPT, ".gevent-before"):
        Path(f"{place}{ending}.gevent-new").symlink_to(secret)
    assert_done(host.install())
    assert_done(host.install("--uninstall"))
    assert secret.read_text() == "root's"
    assert place.read_bytes() == b"C's epmd 0"


def test_record_of_another_user_is_no_program(host: Host, tmp_path: Path) -> None:
    host.begin_installed()
    record = Path(f"{host.places[1]}{MARKER}")
    record.write_text(f"original kept\nfolders places[$(touch {tmp_path}/done)]\n")
    assert_done(host.install("--uninstall"))
    assert not (tmp_path / "done").exists()
    assert host.places[1].read_bytes() == b"C's epmd 0"


#: The programs that a host has of these, that which knows the package, and the advice.
PACKAGED = [
    (["dpkg-query", "rpm"], "dpkg-query", "apt remove gevent-epmd"),
    (["dpkg-query", "rpm", "dnf", "yum"], "rpm", "dnf remove gevent-epmd"),
    (["rpm", "zypper"], "rpm", "zypper remove gevent-epmd"),
    (["rpm"], "rpm", "rpm -e gevent-epmd"),
    (["dpkg-query", "rpm"], "", "rm {}"),
    ([], "", "rm {}"),
]
#: What scripts/install calls before it changes anything.
LOOKS = (
    "bash",
    "basename",
    "cat",
    "cut",
    "dirname",
    "find",
    "flock",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sort",
    "stat",
)


def only(folder: Path, stand_ins: dict[str, str]) -> dict[str, str]:
    """An environment in which there are these scripts of sh and LOOKS alone."""
    folder.mkdir()
    for name in {*LOOKS} - {*stand_ins}:
        (folder / name).symlink_to(real(name))
    for name, script in stand_ins.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize(("there", "knows", "advice"), PACKAGED)
def test_link_of_the_package_is_not_taken(host: Host, there: list, knows: str, advice: str) -> None:
    place = host.places[1]
    place.unlink()
    place.symlink_to("/usr/lib/gevent-epmd/current/epmd")
    environ = only(host.folder / "bin", {name: f"exit {int(name != knows)}" for name in there})
    before = host.exact_snapshot()
    shown = advice.format(str(place).replace(" ", "\\ "))
    why = f"is a link of another gevent-epmd; remove that first ({shown})"
    assert_refused(host.install(environ=environ), why.encode())
    assert host.exact_snapshot() == before


@pytest.mark.parametrize(("there", "how"), [({}, "install"), ({"apk": ""}, "apk add")])
def test_tools_of_busybox_are_named(host: Host, there: dict, how: str) -> None:
    """They know neither `readlink -m` nor `find -printf`."""
    lacks = {"readlink": '[ "$1" != -m ] && exec /bin/readlink "$@"', "find": "exit 1"}
    environ = only(host.folder / "bin", there | lacks)
    why = f"the tools of busybox do not do: {how} coreutils findutils"
    assert_refused(host.install(environ=environ), why.encode())


@pytest.mark.parametrize("call", ["--version", "-port"])
def test_executable_that_does_not_run_here(host: Host, call: str) -> None:
    """As with an older C library; what is installed goes on."""
    host.begin_installed()
    before = host.snapshot()
    host.build(b'#!/bin/sh\n[ "$1" != %s ] || { echo "GLIBC_2.99 not found" >&2; exit 1; }\n' % call.encode())
    assert_refused(host.install(), b"epmd: does not run on this host: GLIBC_2.99 not found")
    assert host.snapshot() == before


def test_executable_that_runs_no_more_is_uninstalled(host: Host) -> None:
    before = host.snapshot()
    host.begin_installed()
    host.places[0].resolve().write_text("no program")
    assert_done(host.install("--uninstall"))
    assert host.snapshot() == before


def test_prefix_that_is_not_utf_8(host: Host) -> None:
    before = host.exact_snapshot()
    for name in (b"\xff", b"a\xc3", b"\xed\xa0", b"\xe2\x28\xa1"):
        prefix = os.fsdecode(bytes(host.tree) + b"/" + name)
        assert_refused(host.call("--prefix", prefix), b"has a byte that is not UTF-8 in its name")
        assert host.exact_snapshot() == before
    assert_done(host.call("--prefix", str(host.tree / "\u00e9\u20ac\U0001f600")))


def without_proc() -> list[str]:
    hide = ["--mount", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$@"', "sh"]
    return [real("unshare"), *([] if not os.geteuid() else ["--map-root-user"]), *hide]


@pytest.mark.parametrize("prefix", [list, without_proc])
def test_folder_that_is_replaced_meanwhile(host: Host, prefix) -> None:
    """Nothing is put into another folder than the one that is locked."""
    folder = host.places[1].parent
    script = f"[ $n = 1 ] && mv '{folder}' '{folder}.old' && mkdir '{folder}'"
    call = host.install(before=prefix(), environ=host.shims(script, "cp"))
    assert_refused(call, b"erts-1.2/bin: was replaced in the meantime")
    assert list(folder.iterdir()) == []


def test_folder_with_a_line_end_in_its_name(host: Host) -> None:
    before = host.snapshot()
    for prefix in ("a\nb", "a\n"):
        assert_refused(host.call("--prefix", str(host.tree / prefix)), b"one has a line end in its name")
    # What a name without one leads to.
    (host.tree / "a\n").mkdir()
    (host.prefix / "bin").symlink_to("../a\n")
    assert_refused(host.install(), b"one has a line end in its name")
    (host.prefix / "bin").unlink()
    (host.tree / "a\n").rmdir()
    assert host.snapshot() == before


def test_without_proc(host: Host) -> None:
    before = host.snapshot()
    without = without_proc()
    assert_done(host.install(before=without))
    host.assert_installed()
    assert_done(host.install("--uninstall", before=without))
    assert host.snapshot() == before


# --- The command line, and what is installed ---


@pytest.mark.parametrize(
    "options",
    [
        ["--prefix"],
        ["--prefix", ""],
        ["--prefix="],
        ["--erlang", "--uninstall"],
        ["--take-over", "--uninstall"],
        ["--bogus"],
        ["-x"],
        ["more"],
    ],
)
def test_wrong_usage(host: Host, options: list[str]) -> None:
    before = host.exact_snapshot()
    call = host.install(*options)
    assert (call.returncode, call.stdout) == (1, b"")
    assert b"\nusage: scripts/install [--prefix DIR]" in call.stderr
    assert host.exact_snapshot() == before


def test_help(host: Host) -> None:
    call = host.install("--help")
    assert_done(call)
    assert call.stdout.startswith(b"usage: scripts/install [--prefix DIR]")


QUICK_BUILD = """\
#!/bin/sh
cd "${0%/*}/../dist"
echo "# built" | tee -a epmd >>gevent-epmd/epmd
chmod 755 epmd gevent-epmd/epmd
echo talk
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A source tree whose scripts/build is quick."""
    folder = tmp_path / "check out"
    for name in ("scripts", "lib/inner", "lib/__pycache__", "build", "dist/gevent-epmd"):
        (folder / name).mkdir(parents=True)
    for name in ("scripts/install", "scripts/_keeping", "scripts/_environment", "build/pythons"):
        shutil.copy(ROOT / name, folder / name)
    build = folder / "scripts" / "build"
    build.write_text(QUICK_BUILD)
    build.chmod(0o755)
    for name in ("epmd.py", "setup.py", "build/constraints.txt", "lib/inner/server.py"):
        (folder / name).touch()
        os.utime(folder / name, (OLD, OLD))
    return folder


def builds(checkout: Path) -> int:
    """How often it was built until it is installed."""
    prefix = checkout / "prefix"
    call = run([str(checkout / "scripts" / "install"), "--prefix", str(prefix)])
    assert call.returncode == 0, call
    assert call.stdout.count(b"\n") == 1
    return (prefix / "bin" / "epmd").read_bytes().count(b"built")


def test_builds_what_is_missing_or_old(checkout: Path) -> None:
    assert builds(checkout) == 1
    (checkout / "lib" / "__pycache__" / "server.pyc").touch()
    assert builds(checkout) == 1
    times = 1
    for name in ("epmd.py", "setup.py", "build/constraints.txt", "lib/inner/server.py"):
        os.utime(checkout / "dist" / "epmd", (OLD, OLD))
        os.utime(checkout / name, (OLD + 1, OLD + 1))
        times += 1
        assert builds(checkout) == times, name
        assert builds(checkout) == times, name
        os.utime(checkout / name, (OLD, OLD))


def test_build_fails(host: Host, checkout: Path) -> None:
    (checkout / "scripts" / "build").write_text("#!/bin/sh\nexit 3\n")
    before = host.exact_snapshot()
    call = run([str(checkout / "scripts" / "install"), "--prefix", str(host.prefix)])
    assert_refused(call, b"scripts/build failed")
    assert host.exact_snapshot() == before
