"""Runs the scenes in copies of a root that scripts/try-package has made, and prints what was seen in each."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from packages import scenes
from packages.scenes import ERLANG, LIBRARY, check
from support.patience import LONG, PATIENCE
from support.roots import Root, RootFailed, copied, entered

#: What in_root keeps from starting services; a root with systemd starts them.
POLICY = "usr/sbin/policy-rc.d"
#: An erlang-base with another version of the runtime, of the release before.
OLDER_ERLANG = "/root/older-erlang.deb"
#: Each of /bin, /sbin and /lib becomes a folder of its own.
UNMERGE = """\
cd "$1"
for folder in bin sbin lib lib64; do
    [ -L "$folder" ] || continue
    rm "$folder"
    cp -a -T "usr/$folder" "$folder"
done
"""


class AptHost(scenes.Host):
    """A root whose packages are in apt's cache."""

    def install(self, *packages: str) -> str:
        options = "-qy --no-install-recommends --allow-downgrades -o Dpkg::Use-Pty=0"
        return self.root.run(f'apt-get install {options} "$@"', *packages)

    def reinstall_erlang(self) -> str:
        return self.install("--reinstall", "erlang-base")

    def remove_erlang(self) -> str:
        return self.root.run("apt-get purge -qy erlang-base")

    def downgrade(self) -> str:
        return self.install(self.first)


def erlang_later(host: AptHost) -> list[str]:
    return [
        scenes.without_erlang(host),
        scenes.reinstall_of_erlang(host),
        ended(host, scenes.removal_of_erlang),
    ]


def ended(host: AptHost, scene: Callable[[scenes.Host], str]) -> str:
    host.end_all()
    return scene(host)


def erlang_first(host: AptHost) -> list[str]:
    host.install("erlang-base")
    before = host.root.run(scenes.SNAPSHOT)
    return [
        scenes.beside_a_running_c_epmd(host),
        scenes.reinstall_of_erlang(host),
        scenes.upgrade_and_downgrade(host),
        scenes.remove_and_purge(host, before),
    ]


def together(host: AptHost) -> list[str]:
    """With RabbitMQ, in one call of apt, and without systemd: the broker's node starts epmd."""
    host.install(host.first, "erlang-base", "rabbitmq-server")
    scenes.check_ours_in_place(host)
    host.root.run("rabbitmq-server -detached")
    host.root.until("epmd -names | grep -q '^name rabbit at port'", LONG)
    host.root.run(f"rabbitmqctl await_startup --timeout {PATIENCE:.0f}")
    return [broker(host)]


def broker(host: AptHost) -> str:
    said = host.root.run("rabbitmqctl status")
    (version,) = [line for line in said.splitlines() if line.startswith("RabbitMQ version")]
    _, executable = host.mapper()
    check(executable.startswith(LIBRARY), executable)
    check("rabbit" in host.names(), f"nodes: {host.names()}")
    return f"rabbitmqctl status: {version}; /proc/PID/exe of epmd: {executable}"


def systemd(host: AptHost) -> list[str]:
    """Debian's units start ours, and the broker that wants them finds it."""
    host.install("erlang-base", host.first, "rabbitmq-server", "needrestart")
    host.root.until("rabbitmqctl await_startup --timeout 60", LONG)
    check(unit(host) == host.mapper()[0], "epmd.service is not the one that serves")
    seen = [f"epmd.socket of erlang-base has started it; {broker(host)}"]
    running = host.mapper()
    command = scenes.check_hands_over(host.install(host.second), running[0])
    check(host.mapper()[0] == running[0], "the daemon was replaced")
    check("rabbit" in host.names(), f"nodes: {host.names()}")
    check_needrestart(host)
    host.root.run(command)
    host.root.until("epmd -names | grep -q '^name rabbit at port'")
    check(unit(host) == host.mapper()[0] != running[0], "it was not handed over")
    seen.append(f"upgrade: PID {running[0]} went on, needrestart names no service; {command!r} handed over")
    host.reinstall_erlang()
    host.root.until("rabbitmqctl await_startup --timeout 60", LONG)
    check(unit(host) == host.mapper()[0], "epmd.service is not the one that serves")
    seen.append(f"after apt install --reinstall erlang-base: {broker(host)}")
    command = scenes.check_hands_over(host.root.run("apt-get purge -qy gevent-epmd"), host.mapper()[0])
    host.root.run(command)
    host.root.until("epmd -names | grep -q '^name rabbit at port'")
    check(host.mapper()[1].startswith(ERLANG), host.mapper()[1])
    scenes.check_verified(host)
    seen.append(f"purge: {command!r} hands over to {host.mapper()[1]}")
    return seen


def check_needrestart(host: AptHost) -> None:
    """It would restart a service for the replaced files, but for the file that tells it not to."""
    config = "/etc/needrestart/conf.d/gevent-epmd.conf"
    check("epmd.service" not in (said := host.root.run("needrestart -b -r l")), said)
    host.root.run(f"mv {config} /root")
    check("epmd.service" in (said := host.root.run("needrestart -b -r l")), said)
    host.root.run(f"mv /root/gevent-epmd.conf {config}")


def unit(host: AptHost) -> int:
    return int(host.root.run("systemctl show epmd.service -p MainPID --value"))


def release_upgrade(host: AptHost) -> list[str]:
    """Another version of the runtime comes, and the one that was there goes."""
    host.install(OLDER_ERLANG, host.first)
    old = host.runtimes()
    host.start_node("a")
    host.install("erlang-base")
    new = host.runtimes()
    check(len(new) == 1 and new != old, f"{old} became {new}")
    scenes.check_ours_in_place(host)
    diverted = host.root.run("dpkg-divert --list '*/erts-*'")
    check(diverted.count("\n") == 1 and new[0] in diverted, diverted)
    host.end_all()
    host.start_node("a")
    check(host.mapper()[1].startswith(LIBRARY), host.mapper()[1])
    return [f"{old[0]} became {new[0]}, whose nodes start ours"]


SCENES: dict[str, Callable[[AptHost], list[str]]] = {
    "ours before erlang-base": erlang_later,
    "ours after erlang-base": erlang_first,
    "ours after erlang-base, /usr unmerged": erlang_first,
    "ours, erlang-base and rabbitmq-server together": together,
    "erlang-base of another release": release_upgrade,
    "systemd": systemd,
}


def play(name: str, base: Path, first: Path, second: Path) -> list[str]:
    """What was seen in a scene; raises RootFailed."""
    log = (
        base.with_name(f"{base.name}.logs")
        / f"{name.replace('/', '').replace(' ', '-').replace(',', '')}.log"
    )
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    folder = copied(base, base.with_name(f"{base.name}.copy"))
    if "unmerged" in name:
        subprocess.run(["sh", "-e", "-c", UNMERGE, "sh", folder], check=True)
    if name == "systemd":
        (folder / POLICY).unlink()
    try:
        with entered(folder, log, systemd=name == "systemd") as root:
            return SCENES[name](host(root, first, second))
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def host(root: Root, first: Path, second: Path) -> AptHost:
    return AptHost(root, first, second)


def main(base: Path, first: Path, second: Path, *names: str) -> int:
    failed = 0
    for name in names or SCENES:
        if SCENES[name] is release_upgrade and not (base / OLDER_ERLANG[1:]).exists():
            continue
        start = time.monotonic()
        try:
            seen, passed = play(name, base, first, second), True
        except RootFailed as failure:
            seen, passed = [str(failure)], False
        failed += not passed
        sys.stdout.write(f"{name}: {'passed' if passed else 'FAILED'}, {time.monotonic() - start:.0f} s\n")
        sys.stdout.writelines(f"    {line}\n" for line in seen)
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:4]), *sys.argv[4:]))
