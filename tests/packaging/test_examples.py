"""docs/examples: each file does here what it does where it is meant for, as far as that can be had here."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gevent_epmd.program.options import read_options
from support.erlang import common_test, exunit_passed
from support.paths import FOLDER, ROOT, SOURCE
from support.patience import LONG, PATIENCE, wait_until
from support.ports import answers
from support.procfs import children
from support.programs import clean_environment, content, real, run

EXAMPLES = ROOT / "docs" / "examples"
WITH_EPMD = str(EXAMPLES / "with-epmd")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """With the executable on PATH, and folders of its own."""
    programs, temporary = tmp_path / "programs", tmp_path / "temporary"
    programs.mkdir()
    temporary.mkdir()
    (programs / "epmd").symlink_to(real(FOLDER))
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TMPDIR": str(temporary),
        "HOME": str(tmp_path),
        "EPMD_EXECUTABLE": FOLDER,
    }


@pytest.mark.parametrize("status", [0, 7])
def test_with_epmd(environ: dict[str, str], status: int, tmp_path: Path) -> None:
    script = f"epmd -names && echo $ERL_EPMD_PORT; exit {status}"
    done = run([WITH_EPMD, "sh", "-c", script], environ=environ)
    up, port = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (status, b"")
    assert up == f"epmd: up and running on port {port} with data:"
    assert not answers(int(port))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_with_epmd_that_is_killed_by_its_command(environ: dict[str, str], tmp_path: Path) -> None:
    done = run([WITH_EPMD, "sh", "-c", "epmd -kill; exit 0"], environ=environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Killed\n", b"")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_with_epmd_and_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    done = run([WITH_EPMD], environ=environ)
    assert (done.returncode, done.stderr) == (2, b"usage: with-epmd COMMAND...\n")
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(1, 129), (9, -9), (15, 143)])
def test_with_epmd_that_is_ended(environ: dict[str, str], tmp_path: Path, number: int, status: int) -> None:
    port_file = tmp_path / "port"
    script = f"echo $ERL_EPMD_PORT >{port_file}.new; mv {port_file}.new {port_file}; sleep 1000"
    process = subprocess.Popen(
        [WITH_EPMD, "sh", "-c", script], env=clean_environment(**environ), start_new_session=True
    )
    wait_until(port_file.exists, "the command to run")
    # As a terminal or a CI runner does it.
    os.killpg(process.pid, number)
    assert process.wait(PATIENCE) == status
    wait_until(lambda: not answers(int(port_file.read_text())), "the epmd to end")
    wait_until(lambda: not list((tmp_path / "temporary").iterdir()), "its folder to go")


@pytest.mark.parametrize("found", [True, False])
def test_with_epmd_and_an_epmd_that_is_not_ours(found: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """As C's, which knows no such option."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    if found:
        (programs / "epmd").write_text("#!/bin/sh\nexit 1\n")
        (programs / "epmd").chmod(0o755)
    done = run(["/bin/sh", WITH_EPMD, "true"], environ={"PATH": str(programs)})
    what = f"{programs}/epmd" if found else "no epmd on PATH"
    said = f"with-epmd: {what} is not gevent-epmd: put that first on PATH\n"
    assert (done.returncode, done.stderr.decode()) == (1, said)


#: Two tests that would clash in one epmd, and one that shows when a peer is gone.
EPMD_CASE = """
ExUnit.start()
Code.require_file({helper!r})

for number <- 1..2 do
  defmodule Module.concat(["Cluster#{{number}}Test"]) do
    use EpmdCase, async: true

    test "two peers find each other", %{{epmd: epmd}} do
      {{one, _}} = EpmdCase.start_peer(epmd, :one)
      {{_, two}} = EpmdCase.start_peer(epmd, :two)
      assert :peer.call(one, :net_adm, :ping, [two]) == :pong
      {{:ok, names}} = :peer.call(one, :net_adm, :names, [{{127, 0, 0, 1}}])
      assert names |> Enum.map(&to_string(elem(&1, 0))) |> Enum.sort() == ["one", "two"]
    end
  end
end
"""


@pytest.fixture
def from_source(tmp_path: Path) -> dict[str, str]:
    """With the program first on PATH, and in a job that has an epmd already: here, one that is gone."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "epmd").write_text(f'#!/bin/sh\nexec {shlex.join(SOURCE)} "$@"\n')
    (programs / "epmd").chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(tmp_path), "ERL_EPMD_PORT": "1"}


def test_epmd_case(from_source: dict[str, str], tmp_path: Path) -> None:
    helper = str(EXAMPLES / "epmd_case.exs").replace("'", '"')
    text = EPMD_CASE.format(helper="HELPER").replace("'HELPER'", f'"{helper}"')
    (tmp_path / "cluster.exs").write_text(text)
    done = run([real("elixir"), "cluster.exs"], environ=from_source, cwd=tmp_path)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert exunit_passed(2, done.stdout)
    assert done.stderr == b""
    assert not list(tmp_path.glob("epmd-*")), "the files of the ports are gone"


#: Test cases that would clash in one epmd, some that do not run, and one that has no epmd of ours.
CTH_EPMD = """
-module(ends_SUITE).
-compile([export_all, nowarn_export_all]).

suite() -> [{ct_hooks, [cth_epmd]}, {timetrap, {seconds, list_to_integer(os:getenv("PATIENCE"))}}].
all() -> [{group, both}, skipped, fails, hides, without].
groups() -> [{both, [parallel], [one, other]}].

init_per_testcase(Case, Config) ->
    {_, Port} = proplists:get_value(epmd, Config),
    ok = file:write_file(os:getenv("PORTS"), [Port, "\\n"], [append]),
    init(Case, Config).

init(skipped, _) -> {skip, "on purpose"};
init(fails, _) -> error("on purpose");
init(_, Config) -> Config.

one(Config) ->
    {_, Node} = cth_epmd:start_peer(Config, same, ["-hidden"]),
    'same@127.0.0.1' = Node.

other(Config) -> one(Config).
skipped(_) -> error(runs).
fails(_) -> error(runs).
hides(Config) ->
    {_, Own} = proplists:get_value(epmd, Config),
    {ok, Text} = file:read_file(os:getenv("PORTS")),
    [wait_gone(Port) || Port <- string:lexemes(binary_to_list(Text), "\\n"), Port =/= Own],
    os:putenv("PATH", "/nowhere").

wait_gone(Port) ->
    case gen_tcp:connect("127.0.0.1", list_to_integer(Port), []) of
        {ok, Socket} -> gen_tcp:close(Socket), timer:sleep(20), wait_gone(Port);
        {error, econnrefused} -> ok
    end.

without(_) -> error(runs).
"""


def test_common_test_hook(from_source: dict[str, str], tmp_path: Path) -> None:
    """The suite that its first comment shows, and one whose test cases end in other ways."""
    hook = (EXAMPLES / "cth_epmd.erl").read_text()
    shown = "\n".join(re.findall(r"^%% {4} ?(.*)$", hook, re.MULTILINE))
    for name, text in {"cth_epmd": hook, "cluster_SUITE": shown, "ends_SUITE": CTH_EPMD}.items():
        (tmp_path / f"{name}.erl").write_text(text)
    ports = tmp_path / "ports"
    environ = (
        from_source | common_test(from_source["PATH"]) | {"PORTS": str(ports), "PATIENCE": f"{PATIENCE:.0f}"}
    )
    suites = ["-suite", "cluster_SUITE", "ends_SUITE", "-logdir", "."]
    # The tests' own node is distributed, and would start C's epmd.
    done = run([WITH_EPMD, "ct_run", "-noshell", *suites], environ=environ, cwd=tmp_path, timeout=LONG)
    said = done.stdout.decode() + done.stderr.decode()
    assert "cluster_SUITE: TEST COMPLETE, 1 ok, 0 failed of 1 test cases" in said, said
    assert "ends_SUITE: TEST COMPLETE, 3 ok, 1 failed, 2 skipped of 6 test cases" in said, said
    assert said.count("no epmd of gevent-epmd is on PATH") == 1
    assert "CRASH REPORT" not in said
    assert len({*ports.read_text().split()}) == 5


def test_two_nodes_of_a_test(environ: dict[str, str]) -> None:
    test = str(EXAMPLES / "cluster_test.exs")
    done = run([WITH_EPMD, real("elixir"), test], environ=environ, timeout=LONG)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert exunit_passed(1, done.stdout)


def example(name: str) -> dict[str, Any]:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def instruction(name: str) -> list[str]:
    """The program of the Dockerfile's last instruction of this name."""
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    return json.loads(re.findall(rf"^{name} .*?(\[.*\])$", text, re.MULTILINE)[-1])


def copied() -> tuple[str, str]:
    """What the Dockerfile copies out of the checkout, and to where."""
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    source, target = re.search(r"^COPY --from=build /src/(\S+) (\S+)$", text, re.MULTILINE).groups()
    return source, target


#: As in a container: the process is number 1, of another user, in a root in which nothing can be written.
CONTAINER = """\
ip link set lo up
mount -t tmpfs tmpfs /usr/local
mkdir -p /usr/local/bin "$2"
mount --bind "$1" "$2"
sh -e -c "$3"
mount -o remount,ro /usr/local
mount -o remount,bind,ro /
mount -t tmpfs -o ro,mode=0 tmpfs /dev/shm
mount -t tmpfs -o ro,mode=0 tmpfs /tmp
mount -t proc proc /proc
shift 3
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all "$@"
"""


def test_image(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("a root that cannot be written to needs root")
    apart = [real("unshare"), "--mount", "--pid", "--fork", "--net", "--kill-child=KILL"]
    source, target = copied()
    real(FOLDER)
    container = [str(ROOT / source), target, shlex.join(instruction("RUN"))]
    inside = ["sh", "-e", "-c", CONTAINER, "sh", *container, *instruction("ENTRYPOINT")]
    with (tmp_path / "stderr").open("w+b") as stderr:
        process = subprocess.Popen(
            [*apart, *inside],
            env=clean_environment(PATH=os.environ["PATH"]),
            start_new_session=True,
            stderr=stderr,
        )
        try:
            wait_until(lambda: process.poll() is not None or healthy(process), "the health check")
            assert process.poll() is None, content(stderr)
            os.kill(number_one(process), 15)
            # It cannot end by the signal, which number 1 may not.
            assert process.wait(PATIENCE) == 143
            assert content(stderr) == b""
        finally:
            kill_container(process)


def kill_container(process: subprocess.Popen) -> None:
    if process.poll() is None:
        # Number 1 does not end with its parent: the change of its user has cleared its parent-death signal.
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait(PATIENCE)


def number_one(process: subprocess.Popen) -> int:
    return children(process.pid)[0]


def healthy(process: subprocess.Popen) -> bool:
    try:
        first = number_one(process)
        program = Path(f"/proc/{first}/comm").read_text()
    except (IndexError, FileNotFoundError):
        return False  # not there yet, or not any more
    # Before that, what the check writes would be in the way of making the root one that cannot be written to.
    if program != "epmd\n":
        return False
    inside = ["nsenter", "--target", str(first), "--mount", "--net", "--pid"]
    return run([*inside, *instruction("HEALTHCHECK")]).returncode == 0


def test_dockerfile_copies_what_is_there() -> None:
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    source, target = copied()
    assert str(ROOT / source / "epmd") == FOLDER
    *_, leads_to, link = instruction("RUN")
    assert os.path.normpath(f"{link}/../{leads_to}") == f"{target}/epmd"
    assert instruction("ENTRYPOINT")[0] == link
    command = re.search(r"^RUN PYTHON=\S+ /src/(\S+) (\S+)$", text, re.MULTILINE)
    assert os.access(ROOT / command[1], os.X_OK)
    assert f"[{command[2]}]" in (ROOT / command[1]).read_text(encoding="utf-8")


def test_commands_of_the_pod() -> None:
    (sidecar,) = example("pod.yml")["spec"]["initContainers"]
    assert sidecar["securityContext"]["readOnlyRootFilesystem"], "as test_image runs it"
    probes = [sidecar[f"{kind}Probe"]["exec"]["command"] for kind in ("startup", "liveness")]
    for command in (sidecar["command"], *probes):
        assert command[0] == instruction("ENTRYPOINT")[0]
        read_options(command[1:], {})


def test_node_that_starts_no_epmd(environ: dict[str, str]) -> None:
    """What the pod's variable does: without it, this node would start an epmd and register."""
    (app,) = example("pod.yml")["spec"]["containers"]
    (flags,) = (variable["value"] for variable in app["env"] if variable["name"] == "ERL_FLAGS")
    alone = [real("unshare"), "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    node = [real("erl"), "-noinput", "-sname", "a", "-eval", "halt()."]
    done = run([*alone, *node], environ=environ | {"ERL_FLAGS": flags})
    assert done.returncode == 1
    assert b"econnrefused" in done.stdout + done.stderr
