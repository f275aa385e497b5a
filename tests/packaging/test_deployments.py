"""docs/examples for whole systems: images, init scripts, a firewall; with the programs that read them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from gevent_epmd.program.options import read_options
from support.forms import Source
from support.paths import FOLDER, ROOT
from support.patience import LONG
from support.programs import real, run
from support.scenes import firewall_admits_the_cluster_only, firewall_bans, run_scene

EXAMPLES = ROOT / "docs" / "examples"

# --- Images ---

#: What an image has that stands for one with Erlang.
PROGRAMS = ("sh", "find", "ln")
ERTS = "opt/erlang/lib/erlang/erts-99/bin"
BUILDAH = """\
buildah() { command buildah --root "$1/store" --runroot "$1/run" --storage-driver vfs "${@:2}"; }
"""
BUILD = """\
buildah "$1" build --isolation chroot --pull-never "${@:2}"
"""
USER = """\
buildah "$1" inspect --type image --format '{{.OCIv1.Config.User}}' "$2"
"""
#: Runs a command in an image.
RUN_IN = """\
container=$(buildah "$1" from --pull-never "$2")
buildah "$1" run --isolation chroot "$container" -- "${@:3}"
"""


def bash(script: str, *arguments: object) -> str:
    done = run(["bash", "-e", "-c", BUILDAH + script, "bash", *map(str, arguments)], timeout=LONG)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def copy_with_libraries(program: Path, root: Path, to: str) -> None:
    """Into a root, with what the dynamic linker loads for it."""
    for line in run(["ldd", str(program)]).stdout.decode().splitlines():
        found = [word for word in line.split() if word.startswith("/")]
        if found and not Path(found[-1]).is_relative_to(Path(FOLDER).parent):
            target = root / found[0].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found[-1], target)
    if to:
        shutil.copy(program, root / to)


def base_image(folder: Path) -> None:
    """Build localhost/erlang: the libraries that the executable needs, a shell, and a runtime of Erlang."""
    root = folder / "base" / "root"
    for made in ("bin", ERTS, "tmp", "usr/local/bin"):
        (root / made).mkdir(parents=True)
    for program in PROGRAMS:
        copy_with_libraries(Path(real(program)), root, f"bin/{program}")
    for file in [Path(FOLDER), *Path(FOLDER).parent.rglob("*.so*")]:
        copy_with_libraries(file, root, "")
    (root / ERTS / "epmd").write_text("#!/bin/sh\necho C\n")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    (folder / "base" / "Dockerfile").write_text("FROM scratch\nADD root /\nUSER nobody\n")
    bash(BUILD, folder, "-t", "localhost/erlang", folder / "base")


def tar_balls(folder: Path) -> Path:
    """As scripts/portable names them; that for musl has a program that needs no C library at all."""
    context = folder / "portable"
    plain, musl = (folder / f"gevent-epmd-9.9-linux-x86_64{libc}" for libc in ("", "-musl"))
    shutil.copytree(Path(FOLDER).parent, plain, symlinks=True)
    musl.mkdir()
    (musl / "epmd").write_text('#!/bin/sh\necho "for musl: $1"\n')
    (musl / "epmd").chmod(0o755)
    context.mkdir()
    for tree in (plain, musl):
        # Without compression, which would be most of the work: ADD looks at the content.
        bash('tar -c -f "$1" -C "$2" "$3"', context / f"{tree.name}.tar.gz", folder, tree.name)
    return context


@pytest.mark.slow
def test_image_with_erlang(tmp_path: Path) -> None:
    """Its epmd is replaced, for glibc and for musl, and its user stays."""
    if os.geteuid():
        pytest.skip("without user namespaces, building an image needs root")
    for program in ("buildah", "ldd", FOLDER):
        real(program)
    base_image(tmp_path)
    context = tar_balls(tmp_path)
    for libc, said in (("", "epmd "), ("-musl", "for musl: --version")):
        arguments = ("BASE=localhost/erlang", f"LIBC={libc}", "RUN_AS=nobody")
        options = [word for argument in arguments for word in ("--build-arg", argument)]
        file = EXAMPLES / "Dockerfile.in-image"
        image = f"localhost/new{libc}"
        # The build runs what it has put there.
        assert f"\n{said}" in bash(BUILD, tmp_path, *options, "-t", image, "-f", file, context)
        assert bash(USER, tmp_path, image).strip() == "nobody"
    assert bash(RUN_IN, tmp_path, "localhost/new", f"/{ERTS}/epmd", "--version").startswith("epmd ")


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))


def test_compose() -> None:
    """What its services are asked to do can be asked of the images."""
    (compose,) = documents("compose.yml")
    services = compose["services"]
    read_options([], services["rabbitmq"]["environment"])
    read_options(services["epmd"]["command"], {})
    assert read_options(services["epmd"]["healthcheck"]["test"][2:], {}).command == "started"
    assert services["app"]["network_mode"] == "service:epmd"
    assert {*services["app"]["depends_on"]} <= {*services}


def test_rabbitmq_cluster() -> None:
    cluster, policy = documents("rabbitmq-cluster.yml")
    (container,) = cluster["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "rabbitmq", "the operator's name of it"
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    assert read_options([], environ).settings.allow
    # The label that the operator gives the pods.
    labels = {"app.kubernetes.io/name": cluster["metadata"]["name"]}
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    (among, of_clients) = policy["spec"]["ingress"]
    assert among["from"] == [{"podSelector": {"matchLabels": labels}}]
    ports = {port["port"] for port in among["ports"]}
    assert 4369 in ports
    assert not ports & {port["port"] for port in of_clients["ports"]}


# --- Init scripts and firewall ---

#: In namespaces of its own, with the script where it belongs.
SYSV = """\
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /usr/local
mkdir /usr/local/bin
ln -s "$2" /usr/local/bin/epmd
cp "$3/default-epmd" /run/default
if [ -e /etc/default/epmd ]; then
    mount --bind /run/default /etc/default/epmd
else
    cp -a /etc/default /run/etc-default
    cp /run/default /run/etc-default/epmd
    mount --bind /run/etc-default /etc/default
fi
sed 's/^user=.*/user=nobody/' "$3/sysv-epmd" >/run/epmd
chmod 755 /run/epmd
epmd() { /usr/local/bin/epmd "$@"; }
if /run/epmd status; then false; fi
/run/epmd start
pid=$(cat /run/epmd.pid)
[ "$(stat -c %U "/proc/$pid")" = nobody ]
epmd -started
: a second start is none
/run/epmd start
[ "$(cat /run/epmd.pid)" = "$pid" ]
/run/epmd status
: a reload ends nothing
/run/epmd reload
epmd -started
[ "$(cat /run/epmd.pid)" = "$pid" ]
: a restart
/run/epmd restart
epmd -started
[ "$(cat /run/epmd.pid)" != "$pid" ]
/run/epmd stop
if epmd -started; then false; fi
[ ! -e /run/epmd.pid ]
/run/epmd stop
"""


def test_sysv_script() -> None:
    if os.geteuid():
        pytest.skip("-user needs root")
    real(FOLDER)
    real("start-stop-daemon")
    apart = [real("unshare"), "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    environ = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    inside = ["sh", "-e", "-x", "-c", SYSV, "sh", "", FOLDER, str(EXAMPLES)]
    done = run([*apart, *inside], environ=environ, timeout=LONG)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


@pytest.mark.parametrize("name", ["openrc-epmd", "sysv-epmd", "with-epmd"])
def test_scripts(name: str) -> None:
    # OpenRC reads the variables, and defines what the script calls.
    excluded = "SC1091,SC2034,SC3043"
    done = run([real("shellcheck"), "-s", "sh", "-e", excluded, str(EXAMPLES / name)])
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("scene", [firewall_admits_the_cluster_only, firewall_bans])
def test_firewall(scene) -> None:
    """Over a link to another host."""
    real("nft")
    run_scene(scene, Source)
