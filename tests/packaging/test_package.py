"""The Debian package: what is in it, and what comes and goes with it in an overlay of this host's root.

`scripts/try-package` does more of this, in a root of another release, with what that release packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import floor
from packages import scenes
from support import markdown
from support.paths import C_EPMD, FOLDER, ROOT
from support.patience import LONG, wait_until
from support.programs import real, run
from support.roots import OVERLAY, Root, RootFailed, entered
from support.units import TARGET, TARGETS, check_service, complaints, in_own_cgroup

PACKAGE = ROOT / "scripts" / "package"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
#: Compression is most of what a package takes to make and to install, and it is all dpkg's.
PLAIN = {"EPMD_DEB_COMPRESSION": "none"}
#: Of lintian's checks, those that take long and find nothing: of the spelling in binaries there are only
#: hints, shellcheck reads the scripts, and there is no JavaScript.
UNCHECKED = "binaries/spelling,shell/non-posix/bash-centric,languages/javascript/embedded"
#: Leaves to dpkg what it has of erlang-base, and of what this and ours, $1, need directly: each call would
#: read the lists of files of all packages. What the scripts of erlang-base call takes long, and has no effect
#: on what is tested.
FEW_PACKAGES = """\
cd /var/lib/dpkg
mkdir -p /root/dpkg/info /root/dpkg/triggers /root/dpkg/updates /usr/local/sbin
cp info/format info/erlang-base.* /root/dpkg/info
cp diversions /root/dpkg
needed=$(dpkg-deb -f "$1" Depends; dpkg-query -W -f '${Depends}' erlang-base)
needed=$(echo "$needed" | sed 's/([^)]*)//g; s/[,|]/ /g' | xargs -n 1 | sort -u)
for package in $needed; do
    for list in info/$package.list info/$package:*.list; do [ ! -e "$list" ] || : >"/root/dpkg/$list"; done
done
{
    dpkg-query -s erlang-base
    echo
    dpkg-query -s $needed | grep -v -e ^Depends: -e ^Pre-Depends:
} >/root/dpkg/status
mount --bind /root/dpkg /var/lib/dpkg
echo force-unsafe-io >>/etc/dpkg/dpkg.cfg
for name in adduser deb-systemd-helper; do ln -s -f /bin/true "/usr/local/sbin/$name"; done
"""
#: Makes, in a folder, a package of what is installed as erlang-base, and one with another version of the
#: runtime.
REPACK = """\
mkdir -p "$1/erlang/DEBIAN"
cd "$1/erlang"
diverted=$(dpkg-divert --list)
dpkg -L erlang-base | while read -r file; do
    case $diverted in
    *" of $file to "*) kept=$(dpkg-divert --truename "$file") ;;
    *) kept=$file ;;
    esac
    if [ -f "$kept" ] || { [ -L "$kept" ] && [ ! -d "$kept" ]; }; then echo "$kept"; fi
done | tar -C / -cf - -T - --no-recursion 2>/dev/null | tar xf -
for name in preinst postinst prerm postrm md5sums; do
    file=/var/lib/dpkg/info/erlang-base.$name
    ! test -e "$file" || cp "$file" "DEBIAN/$name"
done
dpkg-query -s erlang-base | grep -v -e ^Status: -e ^Conffiles: >DEBIAN/control
dpkg-deb -Znone --root-owner-group -b . ../erlang.deb
old=$(basename usr/lib/erlang/erts-*)
mv "usr/lib/erlang/$old" usr/lib/erlang/erts-99.0
sed -i "s|/$old/|/erts-99.0/|" usr/lib/erlang/bin/erl usr/lib/erlang/erts-99.0/bin/erl
ln -s -f ../erts-99.0/bin/epmd usr/lib/erlang/bin/epmd
sed -i "s|^Version: .*|&+newer|" DEBIAN/control
(cd usr && find . -type f | sed 's|^\\./|usr/|') | xargs md5sum >DEBIAN/md5sums
dpkg-deb -Znone --root-owner-group -b . ../newer-erlang.deb
"""
#: Makes a package fail: $1 becomes $2, after the change $3.
BREAK = """\
rm -rf /root/broken
dpkg-deb -R "$1" /root/broken
cd /root/broken
eval "$3"
dpkg-deb -Znone --root-owner-group -b . "$2"
"""
FAIL_AT_END = "echo 'exit 1' >>DEBIAN/{}"
CONFLICT = "touch usr/bin/erl"
#: A maintainer's name, for the characters that mean something to sed and to scripts/package.
ODD_NAME = r"A & B / C \\ | D @version@"
STATE = "dpkg-query -W -f '${Status} ${Version}' gevent-epmd"
#: What scripts/install leaves in a place that it has taken.
TAKEN = """\
cd "$1"
ln -s /usr/local/lib/gevent-epmd/current/epmd epmd.link
mv epmd epmd.c-original
mv epmd.link epmd
echo link >epmd.gevent-epmd
"""
TRIGGER = "dpkg-trigger --no-await /usr/lib/erlang && dpkg --configure -a"


@pytest.fixture(scope="session")
def debs(made) -> list[Path]:
    """The package, and one of a newer version."""
    real(FOLDER)
    real("dpkg-deb")
    real("dpkg-shlibdeps")

    def newer(folder: Path) -> None:
        environ = {"DEBFULLNAME": ODD_NAME, "DEBEMAIL": "a&b@example.org"} | same_needs(debs[0], folder)
        build(folder, "--version", "9.9~rc1", **environ)

    debs: list[Path] = []
    for name, make in (("deb", build), ("newer-deb", newer)):
        debs += made.once(name, make).glob("*.deb")
    return debs


def build(folder: Path, *options: str, **environ: str) -> Path:
    command = ["sh", "-c", 'umask "$0"; exec "$@"', environ.pop("UMASK", "022"), str(PACKAGE), *options]
    environ = {"EPMD_EXECUTABLE": FOLDER, **PLAIN, **environ}
    done = run([*command, "--to", str(folder)], environ=environ, timeout=LONG)
    assert done.returncode == 0, done.stderr.decode()
    return Path(done.stdout.decode().strip())


def same_needs(deb: Path, folder: Path) -> dict[str, str]:
    """An environment in which dpkg-shlibdeps, which takes most of the time, says what it said of this one."""
    stand_in = folder / "bin" / "dpkg-shlibdeps"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\necho 'shlibs:Depends={field(deb, 'Depends')}'\n")
    stand_in.chmod(0o755)
    return {"PATH": f"{stand_in.parent}:{os.environ['PATH']}"}


def field(deb: Path, name: str) -> str:
    return run(["dpkg-deb", "-f", str(deb), name]).stdout.decode().strip()


def test_same_bytes_again(debs: list[Path], tmp_path: Path) -> None:
    """Whatever the umask, the locale, the time of the files and whoever builds it."""
    copy = tmp_path / "copy"
    shutil.copytree(Path(FOLDER).parent, copy, symlinks=True, copy_function=shutil.copyfile)
    (copy / "epmd").chmod(0o700)
    environ = {"EPMD_EXECUTABLE": str(copy / "epmd"), "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "UMASK": "077"}
    again = build(tmp_path, **environ, **same_needs(debs[0], tmp_path))
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(debs[0].read_bytes()).digest()


def test_names_and_fields(debs: list[Path]) -> None:
    architecture = run([real("dpkg"), "--print-architecture"]).stdout.decode().strip()
    assert debs[1].name == f"gevent-epmd_9.9~rc1_{architecture}.deb"
    assert field(debs[0], "Architecture") == architecture
    version = run([real(FOLDER), "--version"]).stdout.decode().split()[1]
    assert field(debs[0], "Version") == re.sub(r"\.?(a|b|rc|dev)(\d)", r"~\1\2", version)
    # What its symbols need, whatever the host has on which the package is made.
    needed = max(floor.floors(Path(FOLDER).parent).values(), key=floor.parsed)
    assert field(debs[0], "Depends").startswith(f"libc6 (>= {needed})")
    assert "erlang" not in field(debs[0], "Depends")


def test_files(debs: list[Path]) -> None:
    """All of them root's, of one time, and nobody else may write to them."""
    lines = run(["dpkg-deb", "-c", str(debs[0])]).stdout.decode().splitlines()
    assert {line.split()[1] for line in lines} == {"root/root"}
    assert len({tuple(line.split()[3:5]) for line in lines}) == 1
    assert {line.split()[0] for line in lines} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}
    files = {line.split()[5].removeprefix("./") for line in lines}
    assert files >= {
        "usr/bin/epmd",
        "usr/bin/gevent-epmd",
        "usr/share/man/man1/epmd.1.gz",
        "usr/share/man/man1/gevent-epmd.1.gz",
        "usr/share/bash-completion/completions/epmd",
        "usr/share/zsh/vendor-completions/_epmd",
        "usr/share/fish/vendor_completions.d/epmd.fish",
        "usr/share/doc/gevent-epmd/copyright",
        "usr/share/doc/gevent-epmd/changelog.gz",
        "etc/needrestart/conf.d/gevent-epmd.conf",
        "etc/default/epmd",
    }
    # None of erlang-base's, which are under these names.
    assert not {name for name in files if re.fullmatch(r".*/systemd/system/epmd\.(service|socket)", name)}


@pytest.fixture(scope="session")
def unpacked(debs: list[Path], made) -> Path:
    return made.once("unpacked-deb", lambda to: run(["dpkg-deb", "-x", str(debs[0]), str(to)]))


#: What pages lead to that is not for those who use the package.
OF_THE_CHECKOUT = {
    "CONTRIBUTING.md",
    "systemd/gevent-epmd-keep@.path",
    "systemd/gevent-epmd-keep@.service",
    "architecture.md",
    "README.md",
    "completion",
    "epmd.1",
}


def test_pages_and_what_they_lead_to(unpacked: Path) -> None:
    """All of docs that is not about the checkout; a link leads to what is installed, or out of docs."""
    folder = unpacked / "usr/share/doc/gevent-epmd"
    pages = {path.name for path in folder.glob("*.md")}
    assert pages == {path.name for path in (ROOT / "docs").glob("*.md")} - {"architecture.md"} | {
        "SECURITY.md"
    }
    for page in pages:
        for link in markdown.links(folder / page):
            target = link.partition("#")[0]
            if target and not re.match(r"\w+:|\.\./", link) and target not in OF_THE_CHECKOUT:
                assert os.path.lexists(folder / target), (page, link)
    for path in (ROOT / "docs/examples").rglob("*"):
        assert os.path.lexists(folder / "examples" / path.relative_to(ROOT / "docs/examples")), path


@pytest.mark.slow(10)
def test_lintian(debs: list[Path]) -> None:
    """Nothing that build/debian/lintian-overrides does not explain."""
    plain = ",".join(f"uses-no-compression-for-{part}-tarball" for part in ("control", "data"))
    how = [
        "--allow-root",
        "--pedantic",
        "--fail-on",
        "error,warning,pedantic",
        "--suppress-tags",
        plain,
        "-X",
        UNCHECKED,
    ]
    done = run([real("lintian"), *how, str(debs[0])], timeout=LONG)
    assert (done.returncode, done.stdout.decode()) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_maintainer_scripts(debs: list[Path], script: str, tmp_path: Path) -> None:
    run(["dpkg-deb", "--control", str(debs[0]), str(tmp_path)])
    text = (tmp_path / script).read_text()
    assert not re.search(r"@\w+@", text)
    done = run([real("shellcheck"), str(tmp_path / script)])
    assert done.returncode == 0, done.stdout.decode()


class OverlayHost(scenes.Host):
    """This host's root, with what it has of Erlang as packages."""

    def __init__(self, root: Root, first: Path, second: Path, of_erlang: Path) -> None:
        super().__init__(root, first, second)
        root.run(FEW_PACKAGES, self.first)
        for deb in of_erlang.glob("*.deb"):
            root.put(deb, f"/root/{deb.name}")

    def install(self, *packages: str) -> str:
        found = ["/root/erlang.deb" if package == "erlang-base" else package for package in packages]
        return self.root.run('dpkg -i "$@"', *found)

    def reinstall_erlang(self) -> str:
        return self.install("erlang-base")

    def change(self, package: str, how: str) -> str:
        """The path of the package with a change."""
        changed = f"/root/changed-{hashlib.sha256(how.encode()).hexdigest()[:8]}.deb"
        self.root.run(BREAK, package, changed, how)
        return changed


def repack(folder: Path) -> None:
    done = run(["sh", "-e", "-c", REPACK, "sh", str(folder)])
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def host(debs: list[Path], made, tmp_path: Path) -> Iterator[OverlayHost]:
    if os.geteuid():
        pytest.skip("a root of its own needs root")
    for program in ("unshare", "nsenter", "pivot_root", "ip", "erl", "dpkg-divert", "pgrep"):
        real(program)
    if not Path(C_EPMD).resolve().is_relative_to(scenes.ERLANG):
        pytest.skip(f"{C_EPMD} is not erlang-base's")
    folder = tmp_path / "root"
    folder.mkdir()
    of_erlang = made.once("erlang-debs", repack)
    mount = [real("unshare"), "--mount", "sh", "-e", "-c", OVERLAY, "sh", str(ROOT), str(folder)]
    done = run(mount)
    if done.returncode:
        pytest.skip(f"no overlay of this root: {done.stderr.decode()}")
    with entered(folder, tmp_path / "log", overlay=True) as root:
        yield OverlayHost(root, *debs, of_erlang)


@pytest.mark.slow(30)
def test_comes_and_goes_beside_erlang(host: OverlayHost) -> None:
    before = host.root.run(scenes.SNAPSHOT)
    scenes.beside_a_running_c_epmd(host)
    scenes.reinstall_of_erlang(host)
    scenes.upgrade_and_downgrade(host)
    host.reinstall_erlang()
    host.end_all()
    host.start_node("a")
    scenes.remove_and_purge(host, before)


@pytest.mark.slow(25)
def test_erlang_comes_and_goes_beside_it(host: OverlayHost) -> None:
    host.remove_erlang()
    scenes.without_erlang(host)
    host.end_all()
    scenes.removal_of_erlang(host)
    old = host.runtimes()
    said = host.root.run("dpkg -i /root/newer-erlang.deb")
    assert "gevent-epmd" in said
    assert host.runtimes() == ["/usr/lib/erlang/erts-99.0/bin"] != old
    scenes.check_ours_in_place(host)
    host.start_node("a")
    assert host.mapper()[1].startswith(scenes.LIBRARY)
    host.root.run("dpkg --purge gevent-epmd")
    assert not host.root.run("dpkg --verify erlang-base")
    assert host.root.run("readlink -f /usr/bin/epmd").strip() == "/usr/lib/erlang/erts-99.0/bin/epmd"


@pytest.mark.slow(30)
def test_failures_leave_what_was_there(host: OverlayHost) -> None:
    before = host.root.run(scenes.SNAPSHOT)

    def fails(package: str, how: str) -> None:
        assert host.root.call("dpkg -i $1", host.change(package, how)).status == 1

    for how in (FAIL_AT_END.format("preinst"), CONFLICT):
        fails(host.first, how)
        host.root.call("dpkg --purge gevent-epmd")
        scenes.check_gone(host, before)
    host.install(host.first)
    for how in (FAIL_AT_END.format("preinst"), CONFLICT):
        fails(host.second, how)
        assert host.root.run(STATE) == "install ok installed 0.1.0"
        scenes.check_ours_in_place(host)
        host.root.run("epmd --version")
    # The new version is there, and dpkg is told that it is not configured.
    fails(host.second, "sed -i 's/^taken=/exit 1/' DEBIAN/postinst")
    host.root.run("epmd --version")
    host.install(host.second)
    scenes.check_ours_in_place(host)
    host.root.run("echo exit 1 >>/var/lib/dpkg/info/gevent-epmd.prerm")
    assert host.root.call("dpkg --remove gevent-epmd").status == 1
    scenes.check_ours_in_place(host)
    host.install(host.second)
    host.root.run("dpkg --purge gevent-epmd")
    scenes.check_gone(host, before)


@pytest.mark.slow(15)
def test_what_others_have_put_there_stays(host: OverlayHost) -> None:
    """A place that scripts/install has taken, and a file that somebody has put in the place of ours."""
    (folder,) = host.runtimes()
    root = host.root
    root.run(TAKEN, folder)
    how = "/usr/local/lib/gevent-epmd/install --uninstall --erlang /usr/lib/erlang\n"
    said = host.install(host.first)
    assert f"{folder}/epmd was installed by scripts/install and stays; remove it with {how}" in said
    assert "erts" not in root.run("dpkg-divert --list")
    root.run("rm $1/epmd.gevent-epmd && mv $1/epmd.c-original $1/epmd", folder)
    root.run(TRIGGER)
    scenes.check_ours_in_place(host)
    root.run("rm $1/epmd && echo other >$1/epmd", folder)
    said = root.run(TRIGGER)
    assert f"{folder}/epmd was replaced by hand and stays" in said
    assert root.run("cat $1/epmd", folder) == "other\n"
    # What it may call stays with it.
    said = root.run("dpkg --remove gevent-epmd")
    assert f"{folder}/epmd was replaced by hand and stays, as does" in said
    assert root.run("cat $1/epmd", folder) == "other\n"
    root.run("$1/epmd.erlang -port 1 -names || test $? = 1", folder)
    assert "epmd" not in root.run("dpkg-divert --list")


#: Calls every epmd that a node or a unit could start, and notes what cannot be started.
CALL_ALL = """\
while :; do
    for epmd in /usr/bin/epmd /usr/lib/erlang/erts-*/bin/epmd; do
        said=$($epmd -port 1 -names 2>&1)
        [ $? = 1 ] || echo "$epmd: $said" >>/root/failures
    done
    echo >>/root/rounds
done </dev/null >/dev/null 2>&1 &
"""


@pytest.mark.slow(20)
def test_no_moment_without_an_epmd(host: OverlayHost) -> None:
    """Nodes may start at any time.  /usr/bin/epmd, which they do not use, is missing during its removal."""
    root = host.root
    root.run("touch /root/rounds /root/failures")
    root.run(CALL_ALL)
    root.until("test -s /root/rounds")
    for deb in (host.first, host.second, host.second):
        host.install(deb)
    assert root.run("cat /root/failures") == ""
    root.run("dpkg --remove gevent-epmd")
    assert "/usr/lib/erlang" not in root.run("cat /root/failures")
    root.run("truncate -s 0 /root/rounds")
    root.until("test -s /root/rounds")


#: Starts a systemd that sees Debian's units of epmd, those in /root/units, and nothing else of this host's.
BOOT = """\
cp $(dpkg -L erlang-base | grep '/systemd/system/epmd') /root/units
cp -R /usr/lib/systemd/system/gevent-epmd.* /usr/lib/systemd/system/epmd.service.d /root/units
"""
BOOT += in_own_cgroup("""\
unshare --mount --pid --cgroup --fork --kill-child=KILL sh -e -c '
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /etc/systemd/system
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup /sys/fs/cgroup
    export SYSTEMD_UNIT_PATH=/etc/systemd/system:/root/units
    export SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none
    exec env container=test /lib/systemd/systemd --system --unit=check.service
'""")
CHECKS = """\
[ "$(systemctl show epmd.service -p ActiveState --value)" = inactive ]
epmd -names
main=$(systemctl show epmd.service -p MainPID --value)
readlink "/proc/$main/exe" | grep -x '/usr/lib/gevent-epmd/[^/]*/epmd'
[ "$(stat -c %U "/proc/$main")" = epmd ]
erl -noinput -sname a -setcookie biscuit &
until epmd -names | grep 'name a at port'; do sleep 0.05; done

: a reload bars a host, and drops nobody
ip addr add 10.9.9.8/32 dev lo
ip addr add 10.9.9.9/32 dev lo
ip route replace local 10.9.9.9 dev lo src 10.9.9.8 table local
epmd -host 10.9.9.9 -names
sed -i 's|^#ERL_EPMD_ALLOW=.*|ERL_EPMD_ALLOW=192.0.2.0/24|' /etc/default/epmd
systemctl reload epmd.service
while epmd -host 10.9.9.9 -started; do sleep 0.05; done
[ "$(systemctl show epmd.service -p MainPID --value)" = "$main" ]
epmd -names | grep 'name a at port'

: an upgrade goes on
dpkg -i /root/second.deb >/root/upgrade 2>&1
[ "$(systemctl show epmd.service -p MainPID --value)" = "$main" ]
epmd -names | grep 'name a at port'
grep -x "gevent-epmd: .*PID $main, .*hand over: epmd -takeover" /root/upgrade
epmd -takeover
epmd -names | grep 'name a at port'
again=$(systemctl show epmd.service -p MainPID --value)
[ "$again" != "$main" ]
[ "$(readlink "/proc/$again/exe")" = "$(readlink -f /usr/bin/epmd)" ]
systemctl stop epmd.socket epmd.service
[ "$(systemctl show epmd.service -p Result --value)" = success ]

: those of the package take their names, and listen on loopback only
[ "$(systemctl show epmd.service -p StartLimitIntervalUSec --value)" = 0 ]
systemctl enable --now gevent-epmd.socket
systemctl show epmd.service epmd.socket -p Id --value | xargs >/root/ids
grep -x 'gevent-epmd.service gevent-epmd.socket' /root/ids
ss -ltnH 'sport = 4369' | awk '{print $4}' | sort | xargs >/root/heard
grep -Fx '127.0.0.1:4369 127.0.1.1:4369 [::1]:4369' /root/heard
until epmd -names | grep 'name a at port'; do sleep 0.05; done
main=$(systemctl show epmd.service -p MainPID --value)
readlink "/proc/$main/exe" | grep -x '/usr/lib/gevent-epmd/[^/]*/epmd'

: they are gone with the package, and those of erlang-base are back
dpkg --purge gevent-epmd >/root/purged 2>&1
cat /root/purged
[ ! "$(find /etc/systemd/system -type l)" ]
epmd -names | grep 'name a at port'
command=$(sed -n "s/^gevent-epmd: .*PID $main, .*hand over: //p" /root/purged)
rm -r /root/units/gevent-epmd.* /root/units/epmd.service.d
systemctl daemon-reload
sh -e -c "$command"
until epmd -names | grep 'name a at port'; do sleep 0.05; done
readlink "/proc/$(systemctl show epmd.service -p MainPID --value)/exe" | grep erts
"""


@pytest.mark.slow(20)
def test_units_of_erlang_base(host: OverlayHost) -> None:
    """They start ours, upgrade or not; a restart hands over.  Those of the package can take their names."""
    real("/lib/systemd/systemd")
    host.install(host.first)
    ours = "gevent-epmd.service gevent-epmd.socket epmd.service"
    assert complaints(host.root.run(f"systemd-analyze verify {ours}")) == []
    units = {f"{target}.target": TARGET for target in TARGETS}
    units |= {"check.service": check_service("/root/units/check", "/root/said"), "check": CHECKS}
    host.root.run("mkdir /root/units")
    for name, text in units.items():
        host.root.run('printf %s "$2" >"/root/units/$1"', name, text)
    done = host.root.call(BOOT)
    if host.root.call("test -e /root/said").status:
        pytest.skip(f"a systemd of our own does not start here: {done.output}")
    assert done.status == 0, host.root.call("cat /root/said").output + done.output


ADMINISTRATED = """\
mkdir -p /root/target/var/lib/dpkg/info /root/target/var/lib/dpkg/updates
touch /root/target/var/lib/dpkg/status
mkdir -p /root/target/usr/lib/erlang/erts-1.2/bin
cp /bin/true /root/target/usr/lib/erlang/erts-1.2/bin/epmd
"""
CHROOTLESS = "dpkg --root=/root/target --force-script-chrootless --force-depends"


@pytest.mark.slow(20)
def test_root_that_is_installed_from_outside(host: OverlayHost) -> None:
    """As mmdebstrap does it: no maintainer script runs in the root, and none may touch the host's."""
    host.root.run(ADMINISTRATED)
    before = host.root.run(scenes.SNAPSHOT)
    epmd = "/root/target/usr/lib/erlang/erts-1.2/bin/epmd"
    host.root.run(f"{CHROOTLESS} -i $1", host.first)
    assert host.root.run("readlink $1", epmd) == f"{scenes.LIBRARY}/current/epmd\n"
    host.root.run("cmp /bin/true $1.erlang", epmd)
    host.root.run(f"test -x /root/target{scenes.LIBRARY}/current/epmd")
    assert host.root.run(scenes.SNAPSHOT) == before
    host.root.run(f"{CHROOTLESS} --purge gevent-epmd")
    host.root.run("cmp /bin/true $1", epmd)
    assert host.root.run("find /root/target -name '*gevent*' -o -name '*.erlang'") == ""


#: Prints what root is told of the epmds that run.
TOLD = """\
. "$1"
removing=$2
running | while read -r pid file; do hand_over "$pid"; done
"""


@pytest.mark.parametrize("whose", ["root", "nobody", "nobody, of a file of Erlang's"])
def test_root_copies_nothing_that_a_user_has_chosen(whose: str, tmp_path: Path) -> None:
    """Any user can call a program epmd, with any arguments."""
    if os.geteuid():
        pytest.skip("only root sees the programs of other users")
    epmd = tmp_path / ("erts-1.2/bin" if "Erlang" in whose else "bin") / "epmd"
    epmd.parent.mkdir(parents=True)
    for folder in (*epmd.parents[:-2], epmd.parent):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o111)
    shutil.copy(real("sh"), epmd)
    user = [] if whose == "root" else [real("setpriv"), "--reuid=65534", "--clear-groups"]
    plain = ("5000", "/a.b:c,d=e-f_g")
    with contextlib.ExitStack() as stack:
        started = {
            words: stack.enter_context(running_shell([*user, str(epmd), "-s", *words], epmd))
            for words in (plain, ("$(reboot)",), ("a;reboot",), ("\x1b[2J",), ("a\nb",))
        }
        tell = ["sh", "-c", TOLD, "sh", str(ROOT / "build/package/functions")]
        told, told_at_removal = (run([*tell, removing]).stdout.decode() for removing in ("", "yes"))
    for words, pid in started.items():
        lines = [line for line in told.splitlines() if f"PID {pid}," in line]
        if whose == "nobody":
            assert lines == []
            continue
        start = lines[0].split("to hand over: ")[1]
        if words == plain:
            options = " ".join(plain)
            assert start == f"epmd -takeover -s {options}{'' if whose == 'root' else ' -user nobody'}"
            user_name = "" if whose == "root" else "runuser -u nobody -- "
            kills = f"to hand over: kill {pid} && sleep 1 && {user_name}epmd -s {options}\n"
            assert kills in told_at_removal
        else:
            assert start == f"kill {pid}, and start epmd again with the options in /proc/{pid}/cmdline"


@contextlib.contextmanager
def running_shell(command: list[str], executable: Path) -> Iterator[int]:
    """The process ID of a shell that runs until nobody writes to its input any more."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_until(lambda: os.readlink(f"/proc/{process.pid}/exe") == str(executable), "it to run")
        yield process.pid


def test_maintainer_of_any_name(debs: list[Path]) -> None:
    assert field(debs[1], "Maintainer") == f"{ODD_NAME} <a&b@example.org>"
    done = run([str(PACKAGE)], environ={"EPMD_EXECUTABLE": FOLDER, "DEBFULLNAME": "A\nDepends: b"})
    said = b"package: DEBFULLNAME or DEBEMAIL: has a control character\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_root_that_fails_says_so(tmp_path: Path) -> None:
    real("unshare")
    if os.geteuid():
        pytest.skip("a root of its own needs root")
    with pytest.raises(RootFailed), entered(tmp_path / "missing", tmp_path / "log"):
        pytest.fail("it was entered")
