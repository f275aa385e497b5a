"""What an administrator does with the Debian package, step by step, in any root that has dpkg.

A root is a `Host`: how packages come and go in it is its own, and what must be true afterwards is the same.
"""

from __future__ import annotations

import re
from pathlib import Path

from support.roots import Root, RootFailed

ERLANG = "/usr/lib/erlang"
LIBRARY = "/usr/lib/gevent-epmd"
#: Waits for its end, and for nothing else.
NODE = 'erl -noinput -sname "$1" -setcookie biscuit </dev/null >/dev/null 2>&1 &'
#: Looks a node up and connects to it, in a hundredth of the time that a node takes to start.
PING = 'test "$(erl_call -sname "$1" -c biscuit -a "erlang is_alive")" = true'
#: What every file is, whose, of which time and size; and the content of those that a diversion touches.
#: No maintainer script names what is deeper: of a host's 90,000 files, these are a tenth.
SNAPSHOT = """\
cd /
for where in "etc usr -maxdepth 3" "etc/systemd usr/lib/erlang usr/lib/systemd"; do
    find $where -xdev '(' -path usr/share/man -o -path etc/ld.so.cache -o -name __pycache__ ')' -prune -o \
        ! -type d -printf '%p %y %m %u:%g %T@ %s %l\\n'
done | LC_ALL=C sort -u
find usr/lib/erlang usr/share/man/man1 -name '*epmd*' -type f -exec sha256sum {} + | LC_ALL=C sort
dpkg-divert --list
"""


class Host:
    """A root with a package of ours, and a newer one."""

    def __init__(self, root: Root, first: Path, second: Path) -> None:
        self.root = root
        self.first, self.second = "/root/first.deb", "/root/second.deb"
        root.put(first, self.first)
        root.put(second, self.second)

    def install(self, *packages: str) -> str:
        """Install packages by name, or by the path of a file."""
        raise NotImplementedError

    def reinstall_erlang(self) -> str:
        raise NotImplementedError

    def remove_erlang(self) -> str:
        """Purge erlang-base, and leave what depends on it."""
        return self.root.run("dpkg --purge --force-depends erlang-base")

    def downgrade(self) -> str:
        return self.root.run("dpkg -i $1", self.first)

    def mapper(self) -> tuple[int, str]:
        """The PID of the one epmd, and the file that it runs from."""
        pid = self.root.only("epmd")
        return pid, self.root.run("readlink /proc/$1/exe", str(pid)).strip()

    def names(self) -> set[str]:
        return set(re.findall(r"^name (\S+) at port", self.root.call("epmd -names").output, re.MULTILINE))

    def start_node(self, name: str) -> None:
        self.root.run(NODE, name)
        self.root.until(f"epmd -names | grep -q '^name {name} at port'")

    def end(self, name: str) -> None:
        """End all processes of a name, and wait for it."""
        # Again and again: a node that has just registered may not listen to signals yet.
        self.root.run("while pkill -x $1; do sleep 0.05; done", name)

    def end_all(self) -> None:
        for name in ("beam.smp", "epmd"):
            self.end(name)

    def runtimes(self) -> list[str]:
        """The folders of erlang-base; other packages, such as erlang-dialyzer, may have files there too."""
        found = self.root.run(f"ls -d {ERLANG}/erts-*/bin/erlexec 2>/dev/null || true").split()
        return [path.removesuffix("/erlexec") for path in found]


def check(holds: object, otherwise: str) -> None:
    if not holds:
        raise RootFailed(otherwise)


def check_ours_in_place(host: Host) -> None:
    """Each way to an epmd leads to ours, and what erlang-base ships is kept beside it."""
    places = ["/usr/bin/epmd", *(f"{folder}/epmd" for folder in host.runtimes())]
    for place in places:
        found = host.root.run("readlink -f $1", place).strip()
        check(re.fullmatch(rf"{LIBRARY}/[^/]+/epmd", found), f"{place} leads to {found}")
    for folder in host.runtimes():
        check(
            not host.root.call("test -f $1/epmd.erlang -a ! -L $1/epmd.erlang", folder).status,
            f"{folder}: no C",
        )
    check_verified(host)
    check("gevent-epmd" in host.root.run("dpkg -S /usr/bin/epmd"), "dpkg -S does not name the package")
    check(not host.root.run(f"find /usr/bin {ERLANG} -name '*.gevent-new'"), "litter")


def check_verified(host: Host) -> None:
    """dpkg finds nothing to say of erlang-base, which stands for all of its files, nor of ours."""
    for package in ("erlang-base", "gevent-epmd"):
        if not host.root.call("dpkg-query -W -f '${Status}' $1 | grep -q ' installed$'", package).status:
            said = host.root.run("dpkg --verify $1", package)
            check(not said, f"dpkg --verify {package}: {said}")


def check_gone(host: Host, before: str) -> None:
    """Nothing of ours is left, and all else is what it was."""
    check_verified(host)
    check("epmd" not in host.root.run("dpkg-divert --list"), "a diversion is left")
    # dpkg's folder may be a mount of its own.
    where = "/etc /usr /var /var/lib/dpkg /run"
    left = host.root.run(f"find {where} -xdev -maxdepth 5 -name '*gevent-epmd*'")
    check(not left, f"left: {left}")
    after = host.root.run(SNAPSHOT)
    changed = set(before.splitlines()) ^ set(after.splitlines())
    check(not changed, f"changed: {sorted(changed)}")


def check_hands_over(said: str, pid: int) -> str:
    """It says in one line how to hand over from this process; gives the command."""
    lines = [line for line in said.splitlines() if "hand over" in line]
    check(len(lines) == 1, f"lines: {lines}")
    found = re.fullmatch(rf"gevent-epmd: .*, PID {pid}, .*; to hand over: (.*)", lines[0])
    check(found, lines[0])
    return found[1]


def check_goes_on(host: Host, running: tuple[int, str], nodes: set[str]) -> None:
    """The same process serves, and knows these nodes; new ones find them."""
    pid, executable = host.mapper()
    check(pid == running[0], f"{running} became {pid}, {executable}")
    check(host.names() == nodes, f"nodes: {host.names()}")
    for node in nodes:
        host.root.run(PING, node)


def without_erlang(host: Host) -> str:
    """Ours works by itself, and Erlang comes later."""
    said = host.install(host.first)
    check("hand over" not in said, said)
    host.root.run("epmd -daemon && epmd -names && epmd -started && gevent-epmd --version")
    running = host.mapper()
    check(running[1].startswith(LIBRARY), running[1])
    host.install("erlang-base")
    check_ours_in_place(host)
    check(host.mapper() == running, "the daemon was replaced")
    host.start_node("a")
    check_goes_on(host, running, {"a"})
    return f"{running[1]} served before erlang-base came and goes on, two nodes meet over it"


def reinstall_of_erlang(host: Host) -> str:
    """C's new file goes to the diverted place."""
    kept = host.root.run(
        f"sha256sum {ERLANG}/erts-*/bin/epmd.erlang; stat -c %i {ERLANG}/erts-*/bin/epmd.erlang"
    )
    host.reinstall_erlang()
    again = host.root.run(
        f"sha256sum {ERLANG}/erts-*/bin/epmd.erlang; stat -c %i {ERLANG}/erts-*/bin/epmd.erlang"
    )
    check(kept.split()[0] == again.split()[0] and kept != again, "C's file did not come anew")
    check_ours_in_place(host)
    return "C's file came anew in the diverted place, ours stays in all others"


def upgrade_and_downgrade(host: Host) -> str:
    """The daemon and its node go on over both."""
    host.end_all()
    host.start_node("a")
    running = host.mapper()
    check(running[1].startswith(LIBRARY), running[1])
    check_hands_over(host.install(host.second), running[0])
    check_goes_on(host, running, {"a"})
    check_ours_in_place(host)
    check("hand over" not in host.downgrade(), "it is the version that runs")
    check_goes_on(host, running, {"a"})
    check_ours_in_place(host)
    version = host.root.run("dpkg-query -W -f '${Version}' gevent-epmd")
    found = host.root.run(f"ls {LIBRARY}").split()
    check(found == [version, "current"], f"{LIBRARY}: {found}")
    return f"PID {running[0]} and its node go on"


def remove_and_purge(host: Host, before: str) -> str:
    """C's is back at once; the daemon goes on."""
    running = host.mapper()
    check_hands_over(host.root.run("dpkg --remove gevent-epmd"), running[0])
    check_goes_on(host, running, {"a"})
    host.install(host.first)
    check_ours_in_place(host)
    host.root.run("dpkg --purge gevent-epmd")
    check_gone(host, before)
    check_goes_on(host, running, {"a"})
    host.end_all()
    host.start_node("a")
    check(host.mapper()[1].startswith(f"{ERLANG}/erts-"), "C's does not serve")
    host.end_all()
    return "/etc and /usr are what they were, dpkg --verify is silent, no diversion is left, C's epmd serves"


def beside_a_running_c_epmd(host: Host) -> str:
    """C's goes on, and hands over by the command that is named."""
    host.start_node("a")
    running = host.mapper()
    check(running[1].startswith(f"{ERLANG}/erts-"), running[1])
    command = check_hands_over(host.install(host.first), running[0])
    check_goes_on(host, running, {"a"})
    check_ours_in_place(host)
    host.root.run(command)
    host.root.until("epmd -names | grep -q '^name a at port'")
    running = host.mapper()
    check(running[1].startswith(LIBRARY), running[1])
    check_goes_on(host, running, {"a"})
    host.end_all()
    return f"C's went on; after {command!r} node a is registered with ours"


def removal_of_erlang(host: Host) -> str:
    """What was in the place of its files goes with them; ours serves on without."""
    host.root.run("epmd -daemon")
    host.remove_erlang()
    check(not host.runtimes(), f"left: {host.runtimes()}")
    left = host.root.run(f"ls -d {ERLANG}/erts-*/bin/epmd* 2>/dev/null || true")
    check(not left, f"left: {left}")
    check("erts" not in host.root.run("dpkg-divert --list"), "a diversion is left")
    host.root.run("epmd -daemon && epmd -names")
    host.end_all()
    host.install("erlang-base")
    check_ours_in_place(host)
    return "its diversion and folder went with it, and it came back diverted"
