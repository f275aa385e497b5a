"""The units in docs/systemd: what systemd says of them, and the executable as a service of a real systemd."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from support.paths import FOLDER, ROOT
from support.patience import LONG, whole_seconds
from support.programs import real, run
from support.units import TARGET, TARGETS, check_service, complaints, in_own_cgroup

UNITS = ROOT / "docs" / "systemd"
SYSTEMD = "/lib/systemd/systemd"
#: Where Debian's erlang-base puts its units.
DEBIAN = Path("/lib/systemd/system")
IN_PLACE = "/usr/local/bin/epmd"
COPY = "/usr/local/lib/gevent-epmd/install"

#: In namespaces of its own: a network, processes that end with it, and folders that nobody else sees.
BOOT = """\
ip link set lo up
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /run/units /run/outside /run/gevent-epmd
# systemd sets the host's name from its file.
hostname >/run/hostname
[ ! -e /etc/hostname ] || mount --bind /run/hostname /etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >/run/hosts
mount --bind /run/hosts /etc/hosts
cp "$1"/units/* /run/units
mount --bind "$1"/gevent-epmd /run/gevent-epmd
mount --bind "$1"/programs /usr/local/bin
mount --bind "$1" /run/outside
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
# Where administrators put drop-ins, and systemctl masks units.
mount -t tmpfs tmpfs /etc/systemd/system
exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units \
    SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none \
    "$2" --system --unit=check.service
"""
#: Calls that, the third word, with the first two. The systemd ends even if this shell is killed.
APART = "mount -t cgroup2 cgroup2 /sys/fs/cgroup\n" + in_own_cgroup(
    "setpriv --pdeathsig KILL unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child=KILL"
    ' sh -e -c "$3" sh "$1" "$2"'
)
#: What forks, and starts its epmd by itself, as releases do.
RELEASE = """\
[Unit]
DefaultDependencies=no

[Service]
Type=forking
Environment=HOME=/run ERL_CRASH_DUMP=/dev/null
ExecStart=/bin/sh -e /run/units/release
"""
RELEASE_STARTS = """\
/usr/local/bin/epmd -daemon
exec erl -detached -noinput -sname a -start_epmd false -setcookie biscuit -eval '
    F = fun F() -> filelib:is_file("/run/stop") andalso halt(), timer:sleep(50), F() end, F().'
"""
#: The variable is for longer than a node takes to start.
CHECKS_OF_A_RELEASE = """\
is() { [ "$(systemctl show "$1" -p "$2" --value)" = "$3" ]; }
processes() { cat /sys/fs/cgroup/system.slice/release.service/cgroup.procs; }
play() {
    rm -f /run/stop
    systemctl start release.service
    until epmd -names | grep 'name a at port'; do sleep 0.05; done
    is release.service ActiveState active
    touch /run/stop
    until [ "$(processes | wc -l)" -le 1 ]; do sleep 0.05; done
}

: without the variable the unit stays active when its node has ended, for the sake of its epmd
play
[ "$(readlink "/proc/$(processes)/exe")" = "$(readlink -f /usr/local/bin/epmd)" ]
is release.service ActiveState active
epmd -kill
until is release.service ActiveState inactive; do sleep 0.05; done

: with it the unit ends with its node
mkdir /run/units/release.service.d
cp /run/outside/drop-ins/release.service.d/epmd.conf /run/units/release.service.d
sed -i 's/=[0-9]*$/=SECONDS/' /run/units/release.service.d/epmd.conf
systemctl daemon-reload
play
tail -s 0.2 -f /dev/null --pid "$(processes)"
until is release.service ActiveState inactive; do sleep 0.05; done
is release.service Result success
! epmd -started
""".replace("SECONDS", str(whole_seconds(8)))
CHECKS = """\
export HOME=/run ERL_CRASH_DUMP=/dev/null
is() { [ "$(systemctl show "$1" -p "$2" --value)" = "$3" ]; }
node() { erl -noinput -sname "$1" -start_epmd false -setcookie biscuit -eval "$2"; }

: only the sockets are there, and the first who asks starts the service
is epmd.service ActiveState inactive
ss -ltnH 'sport = 4369' | awk '{print $4}' | sort | tr '\\n' ' ' >/run/heard
grep -Fx '127.0.0.1:4369 127.0.1.1:4369 [::1]:4369 ' /run/heard
epmd -names
is epmd.service ActiveState active
is epmd.service StatusText 'Processing port mapping requests...'
main=$(systemctl show epmd.service -p MainPID --value)
[ "$(readlink "/proc/$main/exe")" = "$(readlink -f /usr/local/bin/epmd)" ]
: there is no process but the one that serves
[ "$(cat "/sys/fs/cgroup/system.slice/epmd.service/cgroup.procs")" = "$main" ]
[ "$(systemctl show epmd.service -p User --value)" = epmd ]
if grep '^Uid:.0' "/proc/$main/status"; then false; fi

: a node registers
node a 'receive stop -> ok end.' &
until epmd -names | grep 'name a at port'; do sleep 0.05; done

: systemd keeps its connection, and one descriptor more
until is epmd.service NFileDescriptorStore 2; do sleep 0.05; done

: and is found, where the host has the name that Debian gives it
host=$(hostname)
node b "{ok, {127,0,1,1}} = inet:getaddr('$host', inet), pong = net_adm:ping('a@$host'), halt()."

: it is there at the first answer after a restart, and keeps its connection
connected() { ss -tnHe state established 'dport = 4369' | sed 's/.*ino:\\([0-9]*\\).*/\1/'; }
inode=$(connected)
[ "$inode" ]
systemctl restart epmd.service
epmd -names | grep 'name a at port'
[ "$(systemctl show epmd.service -p MainPID --value)" != "$main" ]

: and after a kill
kill -KILL "$(systemctl show epmd.service -p MainPID --value)"
epmd -names | grep 'name a at port'

: and after a take-over, which is a restart, also by a caller that ignores the end of its children
(trap '' CHLD; exec epmd -takeover 2>&1) | grep -F 'by a restart of epmd.service'
epmd -names | grep 'name a at port'
[ "$(connected)" = "$inode" ]
kill %1
wait %1 || true

: a stop is a success
systemctl stop epmd.socket epmd.service
is epmd.service ActiveState inactive
is epmd.service Result success

: the examples of drop-ins
cp -r /run/outside/drop-ins/* /run/units
rm /run/units/epmd.socket.d/loopback.conf
systemctl daemon-reload
systemctl start epmd.socket
ss -ltnH 'sport = 4369' | grep -F '*:4369'
epmd -names
main=$(systemctl show epmd.service -p MainPID --value)
grep -zx 'ERL_EPMD_ALLOW=10.0.0.0/8' "/proc/$main/environ"

: a reload does not end it, though there is nothing to read again
systemctl reload epmd.service
epmd -names
is epmd.service MainPID "$main"
grep -Fx 'epmd_up{port="4369"} 1' /run/epmd/epmd.prom
[ "$(stat -c %a /run/epmd /run/epmd/epmd.prom | tr '\\n' ' ')" = '755 644 ' ]
systemctl stop epmd.socket epmd.service

: the drop-in of loopback after that of all addresses
cp /run/outside/drop-ins/epmd.socket.d/loopback.conf /run/units/epmd.socket.d
systemctl daemon-reload
systemctl start epmd.socket
ss -ltnH 'sport = 4369' | awk '{print $4}' | sort | tr '\\n' ' ' | grep -Fx "$(cat /run/heard)"
systemctl stop epmd.socket epmd.service
: nothing is left in its /tmp
! ls -d /tmp/systemd-private-*-epmd.service-*/tmp/*
"""
#: A unit that systemd stops and restarts together with epmd, as Debian's ejabberd.
BROKER = """\
[Unit]
DefaultDependencies=no
Requires=epmd.service
BindsTo=epmd.service
PartOf=epmd.service
After=epmd.service

[Service]
ExecStart=/bin/sleep infinity
"""
#: Erlang's folders are copied, because scripts/install changes them.
HAND_OVER = """\
export HOME=/run ERL_CRASH_DUMP=/dev/null EPMD_EXECUTABLE=/run/gevent-epmd/epmd
is() { [ "$(systemctl show "$1" -p "$2" --value)" = "$3" ]; }
serving() { readlink "/proc/$(systemctl show epmd.service -p MainPID --value)/exe"; }
connected() { ss -tnHe state established 'dport = 4369' | sed 's/.*ino:\\([0-9]*\\).*/\1/'; }
until_registered() { until epmd -names | grep 'name a at port'; do sleep 0.05; done; }
mount -t tmpfs tmpfs /usr/local
mkdir /usr/local/bin
for erts in /usr/lib/erlang/erts-*/bin /usr/lib/erlang/bin; do
    copy=$(mktemp -d /run/erts.XXXXXX)
    chmod 755 "$copy"
    cp -a "$erts/." "$copy"
    mount --bind "$copy" "$erts"
done
c=$(readlink -f /usr/bin/epmd)
cp -a /etc/default /run
mount --bind /run/default /etc/default
cp /run/outside/default-epmd /etc/default/epmd

: a node registers with the epmd of C
epmd -names
[ "$(serving)" = "$c" ]
erl -noinput -sname a -start_epmd false -setcookie biscuit -eval 'receive stop -> ok end.' &
until_registered

: nothing changes as long as it is not installed, or the unit keeps no descriptors
refused() { if /run/gevent-epmd/epmd -takeover 2>&1; then false; else [ "$(serving)" = "$c" ]; fi; }
refused | grep -F 'has no FileDescriptorStoreMax=: see'
mkdir -p /run/units/epmd.service.d
cp /run/outside/drop-ins/epmd.service.d/store.conf /run/units/epmd.service.d
systemctl daemon-reload
refused | grep -F 'starts another program, /usr/bin/epmd'

: a reload does not end the epmd of C
! systemctl reload epmd.service
[ "$(serving)" = "$c" ]
epmd -names | grep 'name a at port'

: killed at any step before its last one, it leaves the epmd of C as it was
/run/outside/checkout/scripts/install --erlang /usr/lib/erlang
case $(serving) in "$c"*) ;; *) exit 1 ;; esac
inode=$(connected)
[ "$inode" ]
systemctl start broker.service
broker=$(systemctl show broker.service -p MainPID --value)
main=$(systemctl show epmd.service -p MainPID --value)
for step in write:when=1 write:when=2 sendmsg:when=1 sendmsg:when=2 wait4:when=2 write:when=3; do
    strace -o /run/calls -e inject=$step:signal=KILL epmd -takeover || [ $? = 137 ]
    grep -F 'killed by SIGKILL' /run/calls
    epmd -names | grep 'name a at port'
    is epmd.service MainPID "$main"
    until is epmd.service NFileDescriptorStore 0; do sleep 0.05; done
done
grep -F '"e", 1)' /run/calls

: it says so if it takes too long
strace -o /run/calls -e inject=sendmsg:delay_exit=2000000:when=2 epmd -takeover 2>&1 |
    grep -F 'took longer than 1 s'
is epmd.service MainPID "$main"
until is epmd.service NFileDescriptorStore 0; do sleep 0.05; done

: killed after it has told its guard to restart the unit, it changes nothing
is_ours() { case $(serving) in /usr/local/lib/gevent-epmd/*) ;; *) false ;; esac; }
until is_ours; do
    # On a slow machine it gives up in time, and can be tried again.
    epmd -takeover &
    until pgrep -f '^systemctl restart' || ! kill -0 $!; do :; done
    kill -KILL $! || true
    until is_ours || ! pgrep -f '^systemctl restart'; do sleep 0.05; done
done

: this epmd has taken the place of the epmd of C, the node keeps its connection, and the broker goes on
epmd -names | grep 'name a at port'
[ "$(connected)" = "$inode" ]
is broker.service MainPID "$broker"
epmd -takeover -daemon 2>&1 | grep -F 'took over 1 node from process'
is broker.service MainPID "$broker"
epmd -names | grep 'name a at port'

: who may ask is read from its file, and by a reload again
main=$(systemctl show epmd.service -p MainPID --value)
grep -zx ERL_EPMD_ALLOW_FILE=/etc/default/epmd "/proc/$main/environ"
systemctl reload epmd.service
epmd -names | grep 'name a at port'
is epmd.service MainPID "$main"

: an upgrade of Erlang overwrites the link, which comes back without the checkout
systemctl start gevent-epmd-keep@usr-lib-erlang.path
place=$(echo /usr/lib/erlang/erts-*/bin/epmd)
cp -T "$place.c-original" /run/newer
echo >>/run/newer
cp -a -T --remove-destination /run/newer "$place"
touch /usr/lib/erlang/bin/start.boot
until [ -L "$place" ]; do sleep 0.05; done
until systemctl is-active gevent-epmd-keep@usr-lib-erlang.service | grep -x inactive; do sleep 0.05; done
is gevent-epmd-keep@usr-lib-erlang.service Result success
cmp "$place.c-original" /run/newer
is gevent-epmd-keep@usr-lib-erlang.path ActiveState active

: it keeps it in every restart
systemctl restart epmd.service
epmd -names | grep 'name a at port'
[ "$(connected)" = "$inode" ]

: and after a kill, and one of the next ones while they start
main() { systemctl show epmd.service -p MainPID --value; }
for moment in 0 0.03 0.1; do
    killed=$(main)
    kill -KILL "$killed"
    until next=$(main); [ "$next" != 0 ] && [ "$next" != "$killed" ]; do sleep 0.02; done
    sleep $moment
done
kill -KILL "$(main)"
epmd -names | grep 'name a at port'
[ "$(connected)" = "$inode" ]

: uninstalled, the epmd of C serves after a stop, and the node registers again
/run/outside/checkout/scripts/install --erlang /usr/lib/erlang --uninstall
systemctl stop epmd.service
systemctl start epmd.service
until_registered
[ "$(serving)" = "$c" ]
kill %1
wait %1 || true
"""
#: With the units of Debian: each remedy of `epmd -check` is followed as it is printed.
ADVICE = """\
is() { [ "$(systemctl show "$1" -p "$2" --value)" = "$3" ]; }
look() { /usr/local/bin/epmd -check >/run/seen || true; cat /run/seen; }
well() { look; if grep -e ^wrong -e ^warning /run/seen; then false; fi; }
remedy() { look; grep -F -A1 "$1" /run/seen | grep -F -m 1 -e '->' >/run/remedy; cat /run/remedy; }
commands() { grep -o '`[^`]*`' /run/remedy | tr -d '`'; }
cure() { remedy "$1"; sh -e -c "$(commands | head -n 1)"; }
heard() { [ "$(ss -ltnH 'sport = 4369' | awk '{print $4}' | sort | tr '\\n' ' ')" = "$1 " ]; }
again() { systemctl daemon-reload; systemctl stop epmd.service epmd.socket; systemctl start epmd.socket; }
drop_in() { mkdir -p "/run/units/$1.d"; printf "$3\\n" >"/run/units/$1.d/$2.conf"; }
of_check=/etc/systemd/system/epmd
drop_in epmd.service limit '[Unit]\\nStartLimitIntervalSec=0'
again

: C under a socket unit that listens on every address, then on one too few
heard '*:4369'
cure 'other hosts: may ask'
well
heard '127.0.0.1:4369 127.0.1.1:4369 [::1]:4369'
mv $of_check.socket.d/zz-epmd-check.conf $of_check.socket.d/override.conf
sed -i /127.0.1.1/d $of_check.socket.d/override.conf
again
cure 'no epmd answers at 127.0.1.1'
well
heard '127.0.0.1:4369 127.0.1.1:4369 [::1]:4369'
sed -i /::1/d $of_check.socket.d/*.conf
again
cure '::1: nothing listens here'
well

: a unit that is masked
systemctl stop epmd.service epmd.socket
systemctl mask epmd.socket
cure 'port 4369: no epmd answers'
well

: one that has failed too often
drop_in epmd.service zz '[Unit]\\nStartLimitIntervalSec=1h\\n[Service]\\nExecStart=\\nExecStart=/bin/false'
again
until is epmd.socket ActiveState failed; do epmd -names || sleep 0.05; done
rm /run/units/epmd.service.d/zz.conf
systemctl daemon-reload
cure 'port 4369: no epmd answers'
well

: one that is inactive
systemctl stop epmd.service epmd.socket
cure 'epmd.socket: is inactive'
well

: another unit has the port
systemctl stop epmd.service epmd.socket
printf '[Socket]\\nListenStream=127.0.0.1:4369\\nAccept=yes\\n' >/run/units/odd.socket
printf '[Service]\\nExecStart=/bin/true\\n' >/run/units/odd@.service
systemctl start odd.socket
remedy 'port 4369: no epmd answers'
sh -c "$(commands)" >/run/sockets
grep -F 127.0.0.1:4369 /run/sockets | grep -F odd.socket
systemctl stop odd.socket
systemctl start epmd.socket
well

: this epmd on every address: its networks, and those of a cluster
cp -r /run/gevent-epmd /run/old
drop_in epmd.service zz '[Service]\\nExecStart=\\nExecStart=/run/old/epmd -systemd'
rm $of_check.socket.d/*
again
cure 'other hosts: may ask'
well
grep -F 'if they are in 127.0.0.0/8;' /run/seen
sed -i 's|127.0.0.0/8|&,10.0.0.0/8|' $of_check.service.d/*
systemctl daemon-reload
systemctl restart epmd.service
well
grep -F 'if they are in 127.0.0.0/8, 10.0.0.0/8;' /run/seen

: a file that names everybody takes precedence over a drop-in
echo ERL_EPMD_ALLOW=0.0.0.0/0 >/run/networks
drop_in epmd.service file '[Service]\\nEnvironment=ERL_EPMD_ALLOW_FILE=/run/networks'
systemctl daemon-reload
systemctl restart epmd.service
remedy 'other hosts: may ask'
grep -F 'Set ERL_EPMD_ALLOW=127.0.0.0/8 in /run/networks' /run/remedy
echo ERL_EPMD_ALLOW=127.0.0.0/8 >/run/networks
sh -e -c "$(commands | head -n 1)"
well

: a variable that names everybody, then an option
rm $of_check.service.d/*
drop_in epmd.service file '[Service]\\nEnvironment=ERL_EPMD_ALLOW=0.0.0.0/0'
systemctl daemon-reload
systemctl restart epmd.service
remedy 'other hosts: may ask'
grep -F 'Set ERL_EPMD_ALLOW=127.0.0.0/8 where epmd.service sets it' /run/remedy
sh -e -c "$(commands | head -n 1)" | grep 0.0.0.0/0
sed -i 's|0.0.0.0/0|127.0.0.0/8|' /run/units/epmd.service.d/file.conf
sh -e -c "$(commands | tail -n 1)"
well
drop_in epmd.service zz '[Service]\\nExecStart=\\nExecStart=/run/old/epmd -systemd -allow 0.0.0.0/0'
systemctl daemon-reload
systemctl restart epmd.service
remedy 'other hosts: may ask'
grep -F 'Set -allow 127.0.0.0/8 in ExecStart of epmd.service' /run/remedy
sed -i 's|0.0.0.0/0|127.0.0.0/8|' /run/units/epmd.service.d/zz.conf
systemctl daemon-reload
systemctl restart epmd.service
well

: its file was replaced
rm /run/old/epmd
cp /run/gevent-epmd/epmd /run/old/epmd
remedy 'was removed or replaced after its start'
sh -e -c "$(commands | grep restart)"
well

: units of another name
cp /run/units/epmd.socket /run/units/epmd@.socket
cp /run/units/epmd.service /run/units/epmd@.service
sed -i 's/epmd.socket/epmd@%i.socket/' /run/units/epmd@.service
systemctl stop epmd.service epmd.socket
systemctl daemon-reload
systemctl start epmd@a.socket
cure 'other hosts: may ask'
well
[ -f /etc/systemd/system/epmd@a.socket.d/zz-epmd-check.conf ]
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Copies of the units, to start the executable where it is now."""
    for unit in UNITS.iterdir():
        text = unit.read_text(encoding="utf-8")
        text = text.replace(IN_PLACE, real(FOLDER)).replace(COPY, str(ROOT / "scripts" / "install"))
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return tmp_path


def test_systemd_has_nothing_to_say_of_them(installed: Path) -> None:
    names = sorted(unit.name for unit in installed.iterdir())
    assert names == ["epmd.service", "epmd.socket", "gevent-epmd-keep@.path", "gevent-epmd-keep@.service"]
    verify = [real("systemd-analyze"), "verify", "--man=no", *(str(installed / name) for name in names)]
    done = run(verify)
    assert (done.returncode, complaints((done.stdout + done.stderr).decode())) == (0, [])


def test_exposure() -> None:
    analyze = [real("systemd-analyze"), "security", "--offline=true", "--threshold=10", "--no-pager"]
    done = run([*analyze, str(UNITS / "epmd.service")])
    said = done.stdout.decode()
    assert done.returncode == 0, "more than 1.0 of 10.0: " + said[-200:]
    told = re.search(r"exposure (\S+) of 10 \(systemd (\d+)\)", (ROOT / "docs" / "operators.md").read_text())
    if f"systemd {told[2]} " in run([analyze[0], "--version"]).stdout.decode():
        assert f"for epmd.service: {told[1]} " in said


def test_docs_say_where_it_listens() -> None:
    streams = re.findall(r"^ListenStream=(.+)$", (UNITS / "epmd.socket").read_text(), re.MULTILINE)
    assert streams == ["127.0.0.1:4369", "127.0.1.1:4369", "[::1]:4369"]
    docs = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    assert all(f"`{stream}`" in docs for stream in streams)


def test_service_of_a_real_systemd(tmp_path: Path) -> None:
    shutil.copytree(UNITS, tmp_path / "units")
    boot(tmp_path, "epmd.socket", CHECKS)


@pytest.mark.slow
def test_hand_over_and_roll_back_with_the_units_of_debian(tmp_path: Path) -> None:
    """As docs/operators.md tells it: a node that runs meanwhile is registered with each epmd in turn."""
    if not (DEBIAN / "epmd.service").exists():
        pytest.skip("Debian's erlang-base is missing, which has these units")
    real("strace")
    (tmp_path / "units").mkdir()
    for unit in ("epmd.service", "epmd.socket"):
        shutil.copy(DEBIAN / unit, tmp_path / "units")
    (tmp_path / "units" / "broker.service").write_text(BROKER)
    for kind in ("path", "service"):
        text = (UNITS / f"gevent-epmd-keep@.{kind}").read_text(encoding="utf-8")
        (tmp_path / "units" / f"gevent-epmd-keep@.{kind}").write_text(text.replace("sleep 10", "sleep 0.1"))
    for name in ("scripts", "build"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    boot(tmp_path, "epmd.socket", HAND_OVER)


@pytest.mark.slow
def test_advice_of_check_is_followed(tmp_path: Path) -> None:
    if not (DEBIAN / "epmd.service").exists():
        pytest.skip("Debian's erlang-base is missing, which has these units")
    (tmp_path / "units").mkdir()
    for unit in ("epmd.service", "epmd.socket"):
        shutil.copy(DEBIAN / unit, tmp_path / "units")
    boot(tmp_path, "epmd.socket", ADVICE)


@pytest.mark.slow
def test_unit_that_forks_ends_with_its_node(tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "release.service").write_text(RELEASE)
    (tmp_path / "units" / "release").write_text(RELEASE_STARTS)
    boot(tmp_path, "basic.target", CHECKS_OF_A_RELEASE)


def boot(folder: Path, wants: str, checks: str) -> None:
    """Boot a systemd of our own that has the units in this folder, and the program in its place, and make
    these checks there."""
    for program in ("erl", "ss", "systemctl", SYSTEMD, FOLDER):
        real(program)
    if os.geteuid():
        pytest.skip("a systemd of our own needs root")
    units, programs = folder / "units", folder / "programs"
    shutil.copytree(ROOT / "docs" / "examples" / "drop-ins", folder / "drop-ins")
    shutil.copy(ROOT / "docs" / "examples" / "default-epmd", folder)
    programs.mkdir()
    shutil.copytree(Path(FOLDER).parent, folder / "gevent-epmd", symlinks=True)
    (programs / "epmd").symlink_to("/run/gevent-epmd/epmd")
    for target in TARGETS:
        (units / f"{target}.target").write_text(TARGET)
    (units / "check.service").write_text(check_service("/run/units/check", "/run/outside/said", wants))
    (units / "check").write_text(checks)
    script = ["sh", "-e", "-c", APART, "sh", str(folder), SYSTEMD, BOOT]
    done = run([real("unshare"), "--mount", *script], timeout=2 * LONG)
    said = folder / "said"
    if not said.exists():
        pytest.skip(f"a systemd of our own does not start here: {done.stderr.decode()}")
    assert done.returncode == 0, said.read_text()
