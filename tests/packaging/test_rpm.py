"""The RPM: what comes and goes with it beside a package that stands for Erlang's, in an overlay of this root.

There is no Fedora or RHEL here: what their own packages and SELinux make of it has not been tried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import C_EPMD, FOLDER, ROOT
from support.patience import LONG
from support.programs import real, run
from support.roots import OVERLAY, Root, entered

#: Makes the package of Erlang's that has the epmd, as Fedora names it: $2 is its version, $3 that of the
#: runtime, $4 C's epmd, which differs from version to version.
STAND_IN = """\
cd "$1"
cat >erlang.spec <<END
%global __os_install_post %{nil}
%global _binary_payload w1.gzdio
%global debug_package %{nil}
Name: erlang-erts
Version: $2
Release: 1
Summary: stands for Erlang's
License: none
AutoReqProv: no
%description
It has an epmd.
%install
top=%{buildroot}/usr/lib64/erlang
mkdir -p \\$top/erts-$3/bin \\$top/bin %{buildroot}/usr/bin
cp "$4" \\$top/erts-$3/bin/epmd
printf "\\n%s\\n" "$2" >>\\$top/erts-$3/bin/epmd
touch \\$top/erts-$3/bin/erlexec
ln -s ../erts-$3/bin/epmd \\$top/bin/epmd
ln -s ../lib64/erlang/bin/epmd %{buildroot}/usr/bin/epmd
%files
/usr/lib64/erlang
/usr/bin/epmd
END
set -- --define "_topdir $1" --define "_rpmdir $1" --define "_rpmfilename erlang-$2.rpm"
rpmbuild -bb --quiet "$@" erlang.spec
"""
#: What this host has of Erlang is not RPM's.
BARE = (
    "rm -rf /usr/lib/erlang /usr/bin/epmd /usr/share/man/man1/epmd.1.gz; mkdir -p /var/lib/rpm; rpm --initdb"
)
RUNTIME = "/usr/lib64/erlang/erts-{}/bin"
OURS = r"/usr/lib/gevent-epmd/[^/]+/epmd"


@pytest.fixture(scope="module")
def rpms(made) -> dict[str, Path]:
    """Ours in two versions, and three of the package that stands for Erlang's."""
    real(FOLDER)
    real("rpmbuild")
    return {path.stem: path for path in made.once("rpms", build).glob("*.rpm")}


def build(folder: Path) -> None:
    environ = {"EPMD_EXECUTABLE": FOLDER, "EPMD_RPM_PAYLOAD": "w0.gzdio"}
    for name, options in (("first", []), ("second", ["--version", "9.9~rc1"])):
        command = [str(ROOT / "scripts" / "package"), "rpm", "--to", str(folder), *options]
        done = run(command, environ=environ, timeout=LONG)
        assert done.returncode == 0, done.stderr.decode()
        Path(done.stdout.decode().strip()).rename(folder / f"{name}.rpm")
    for version, runtime in (("25.1", "13.1"), ("25.2", "13.1"), ("26.0", "14.0")):
        arguments = [str(folder), version, runtime, os.path.realpath(C_EPMD)]
        done = run(
            ["sh", "-e", "-c", STAND_IN, "sh", *arguments], environ={"HOME": str(folder)}, timeout=LONG
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def root(rpms: dict[str, Path], tmp_path: Path) -> Iterator[Root]:
    if os.geteuid():
        pytest.skip("a root of its own needs root")
    for program in ("unshare", "nsenter", "pivot_root", "ip", "rpm", C_EPMD):
        real(program)
    folder = tmp_path / "root"
    folder.mkdir()
    mount = [real("unshare"), "--mount", "sh", "-e", "-c", OVERLAY, "sh", str(ROOT), str(folder)]
    if (done := run(mount)).returncode:
        pytest.skip(f"no overlay of this root: {done.stderr.decode()}")
    with entered(folder, tmp_path / "log", overlay=True) as root:
        for name, path in rpms.items():
            root.put(path, f"/root/{name}.rpm")
        root.run(BARE)
        yield root


def put(root: Root, name: str, *options: str) -> str:
    """Install or upgrade.  The root's own programs are no packages of RPM's, so nothing is asked for them."""
    return root.run('rpm -U --nodeps "$@"', *options, f"/root/{name}.rpm")


def leads_to_ours(root: Root, *places: str) -> bool:
    return all(re.fullmatch(OURS, root.run("readlink -f $1", place).strip()) for place in places)


def check_taken(root: Root, runtime: str, version: str) -> None:
    """Each way to an epmd leads to ours, and C's of this version is kept."""
    folder = RUNTIME.format(runtime)
    assert leads_to_ours(root, "/usr/bin/epmd", f"{folder}/epmd")
    assert root.run("tail -n 1 $1/epmd.erlang", folder).strip() == version
    root.run("$1/epmd.erlang -port 1 -names || test $? = 1", folder)
    assert root.run("find /usr/lib64/erlang /usr/bin -name '*.gevent-new'") == ""


def hand_over_of(said: str) -> str:
    (line,) = [line for line in said.splitlines() if "hand over" in line]
    return line


@pytest.mark.slow(15)
def test_comes_and_goes_with_erlang(root: Root) -> None:
    """An upgrade of Erlang does not bring C's back, nor does anything of ours stay when it is removed."""
    put(root, "erlang-25.1")
    root.run("epmd -daemon")
    pid = root.only("epmd")
    said = put(root, "first")
    assert f"PID {pid}, was not replaced; to hand over: epmd -takeover -daemon" in said
    check_taken(root, "13.1", "25.1")
    root.run("epmd -names && kill $1 && epmd --version", str(pid))
    # Of the same runtime, and of another one.
    assert "hand over" not in put(root, "erlang-25.2")
    check_taken(root, "13.1", "25.2")
    root.run("epmd -daemon")
    put(root, "erlang-26.0")
    check_taken(root, "14.0", "26.0")
    assert root.run("ls /usr/lib64/erlang").split() == ["bin", "erts-14.0"]
    # Of ours: the one that runs is named, and what was configured stays.
    root.run("echo ERL_EPMD_IDLE_EXIT=60 >>/etc/default/epmd")
    assert "epmd -takeover" in hand_over_of(put(root, "second"))
    assert root.run("ls /usr/lib/gevent-epmd").split() == ["9.9~rc1", "current"]
    root.run("grep -x ERL_EPMD_IDLE_EXIT=60 /etc/default/epmd && epmd -names && gevent-epmd --version")
    check_taken(root, "14.0", "26.0")
    put(root, "first", "--oldpackage")
    check_taken(root, "14.0", "26.0")
    # Removed, it leaves what was there before.
    assert "kill" in hand_over_of(root.run("rpm -e gevent-epmd"))
    assert root.run("rpm -V --nodeps erlang-erts") == ""
    names = "-name '*gevent-epmd*' -o -name '*.erlang' -o -name epmd.rpmsave"
    assert root.run(f"find /usr /etc -xdev -maxdepth 5 {names}") == "/etc/default/epmd.rpmsave\n"


@pytest.mark.slow(15)
def test_without_erlang_and_what_others_have_put_there(root: Root) -> None:
    put(root, "first")
    assert leads_to_ours(root, "/usr/bin/epmd", "/usr/bin/gevent-epmd")
    put(root, "erlang-25.1")
    check_taken(root, "13.1", "25.1")
    place = RUNTIME.format("13.1") + "/epmd"
    # A wrapper stays, with what it may call; a place that scripts/install has taken stays too.
    root.run("rm $1; printf '#!/bin/sh\\n' >$1", place)
    assert f"{place} was replaced by hand and stays" in put(root, "second")
    assert f"{place} was replaced by hand and stays, as does" in root.run("rpm -e gevent-epmd")
    root.run("rm $1; ln -s /usr/local/lib/gevent-epmd/current/epmd $1; mv $1.erlang $1.c-original", place)
    root.run("touch $1.gevent-epmd", place)
    how = "/usr/local/lib/gevent-epmd/install --uninstall --erlang /usr/lib64/erlang\n"
    assert f"{place} was installed by scripts/install and stays; remove it with {how}" in put(root, "first")
    root.run("rm $1*; touch $1.c; mv $1.c $1", place)
    root.run("rpm -e --nodeps erlang-erts")
    assert not root.run("find / -xdev -maxdepth 3 -path /usr/lib64/erlang")
    assert leads_to_ours(root, "/usr/bin/epmd")
    root.run("rpm -e gevent-epmd")
    assert root.run("find /usr -xdev -maxdepth 5 -name '*epmd*' -path '*bin*'") == ""


#: Kills the script that calls it first.
LN = """\
mv /usr/bin/ln /usr/bin/ln.real
cat >/usr/bin/ln <<'END'
#!/bin/sh
[ ! -e /root/first ] || { rm /root/first; kill -9 "$PPID"; }
exec ln.real "$@"
END
chmod 755 /usr/bin/ln
touch /root/first
"""


@pytest.mark.slow
def test_scriptlet_that_is_killed_in_an_upgrade(root: Root) -> None:
    """rpm goes on nevertheless, and removes the version before."""
    put(root, "erlang-25.1")
    put(root, "first")
    root.run(LN)
    assert "scriptlet failed" in put(root, "second")
    check_taken(root, "13.1", "25.1")
    assert root.run("ls /usr/lib/gevent-epmd").split() == ["9.9~rc1", "current"]


@pytest.mark.slow
def test_what_cannot_be_given_back_keeps_the_package(root: Root) -> None:
    """There is an epmd, and a second removal is one."""
    put(root, "erlang-25.1")
    put(root, "first")
    place = RUNTIME.format("13.1") + "/epmd"
    root.run("mount --bind $1.erlang $1.erlang", place)
    done = root.call("rpm -e gevent-epmd")
    assert done.status == 1
    assert f"gevent-epmd: {place} cannot be given back" in done.output
    assert leads_to_ours(root, place)
    root.run("$1 --version && umount $1.erlang && rpm -e gevent-epmd && rpm -V --nodeps erlang-erts", place)


def test_what_it_needs(rpms: dict[str, Path]) -> None:
    """Nothing of its own bundle, and nothing that is needed by pages and examples only."""
    needed = run([real("rpm"), "-qp", "--requires", str(rpms["first"])]).stdout.decode()
    assert "libc.so.6" in needed
    assert not re.search(r"libpython|bash|elixir|/usr/bin/", needed)
    provided = run([real("rpm"), "-qp", "--provides", str(rpms["first"])]).stdout.decode()
    assert all("gevent-epmd" in line for line in provided.splitlines())
    files = run([real("rpm"), "-qpl", str(rpms["first"])]).stdout.decode().split()
    # Those of Erlang's packages: RPM installs no two packages that have the same file.
    assert not {"/usr/bin/epmd", "/usr/share/man/man1/epmd.1.gz"} & set(files)
    assert not [name for name in files if re.search(r"systemd/system/epmd\.(service|socket)$", name)]
    scripts = run([real("rpm"), "-qp", "--scripts", "--filetriggers", str(rpms["first"])]).stdout.decode()
    assert not re.search(r"@\w+@|%%", scripts)
    changes = run([real("rpm"), "-qp", "--changelog", str(rpms["first"])]).stdout.decode()
    assert re.match(r"\* \w{3} \w{3} \d\d \d{4} .* - [\d.]+-1\n- ", changes)
