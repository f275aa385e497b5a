"""The jobs of docs/examples for GitHub and GitLab, and the action: valid, and run as the runners run them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gevent_epmd import client
from gevent_epmd.testing import EpmdProcess
from support.erlang import common_test, exunit_passed
from support.paths import ROOT, SOURCE
from support.patience import LONG, wait_until
from support.ports import answers
from support.programs import real, run
from support.pythons import quick_python
from support.types import schema_status

EXAMPLES = ROOT / "docs" / "examples"
ACTION = ROOT / ".github" / "actions" / "setup-epmd"
OURS = "OWNER/gevent-epmd"
SCHEMAS = {
    ACTION / "action.yml": "github-actions",
    EXAMPLES / "github-actions.yml": "github-workflows",
    EXAMPLES / "gitlab-ci.yml": "gitlab-ci",
}
#: For each tool, a test of a node that has its name only in the job's epmd.
PROJECT = {
    "mix.exs": """
        defmodule App.MixProject do
          use Mix.Project
          def project, do: [app: :app, version: "0.1.0"]
        end
    """,
    "test/test_helper.exs": "ExUnit.start()",
    "test/app_test.exs": """
        defmodule AppTest do
          use ExUnit.Case
          test "a node of its own", do: assert {:ok, _} = Node.start(:app_test, :shortnames)
        end
    """,
    "rebar.config": "{erl_opts, []}.",
    "src/app.app.src": '{application, app, [{vsn, "0.1.0"}, {applications, [kernel, stdlib]}]}.',
    "test/app_SUITE.erl": """
        -module(app_SUITE).
        -export([all/0, a_node_of_its_own/1]).
        all() -> [a_node_of_its_own].
        a_node_of_its_own(_) -> {ok, [{"tester", _}]} = net_adm:names().
    """,
    "test_app.py": "def test_app(epmd): assert epmd.names() == []",
}
#: What each job says at its end, if its test has run.
PASSED = {"rebar3": "All 1 tests passed.", "pytest": "1 passed"}
#: As GitHub's: it runs each step in a shell, and gives the next ones what is in its files then.  The action
#: looks for this name.
WORKER = """\
#!/bin/sh
set -eu
export GITHUB_ENV="$RUNNER_TEMP/env" GITHUB_PATH="$RUNNER_TEMP/path" GITHUB_OUTPUT="$RUNNER_TEMP/output"
for step; do
    : >"$GITHUB_ENV" >"$GITHUB_PATH" >"$GITHUB_OUTPUT"
    bash -e "$step"
    while read -r line; do export "$line"; done <"$GITHUB_ENV"
    while read -r line; do PATH=$line:$PATH; done <"$GITHUB_PATH"
done
echo "the port was ${ERL_EPMD_PORT:-}"
"""


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


GITHUB = read(EXAMPLES / "github-actions.yml")["jobs"]
GITLAB = read(EXAMPLES / "gitlab-ci.yml")


def test_are_valid() -> None:
    for path, schema in SCHEMAS.items():
        assert schema_status(schema, path) == 0, path


def test_inputs_are_mapped() -> None:
    """In both directions: a composite action does not get its inputs by itself."""
    action = read(ACTION / "action.yml")
    (step,) = action["runs"]["steps"]
    script = (ACTION / "setup-epmd").read_text(encoding="utf-8")
    assert step["env"] == {f"INPUT_{name.upper()}": f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    assert {*re.findall(r"\bINPUT_\w+", script)} == {*step["env"]}
    assert "${{" not in step["run"], "a shell would obey what is in it"
    assert {one["value"] for one in action["outputs"].values()} == {
        f"${{{{ steps.{step['id']}.outputs.port }}}}"
    }


@pytest.mark.parametrize(
    "path", [path for path in SCHEMAS if path.parent == EXAMPLES], ids=lambda path: path.name
)
def test_variables_are_those_that_are_set(path: Path) -> None:
    """What a line uses is set by the file, by a line before, or by the system."""
    text = path.read_text(encoding="utf-8")
    used = {*re.findall(r"\$\{?([A-Z]\w+)", text)}
    assert used <= {*re.findall(r"^ *(\w+): ", text, re.MULTILINE), *re.findall(r"- (\w+)=", text)}


class Runner:
    """Runs jobs in one folder for temporary files, as GitHub's does in the same host's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = folder / "temporary"
        self._temporary.mkdir()
        self._worker = folder / "Runner.Worker"
        self._worker.write_text(WORKER)
        self._worker.chmod(0o755)
        self._project = folder / "project"
        write_project(self._project)

    def run(self, *steps: dict[str, Any], **environ: str) -> subprocess.CompletedProcess[bytes]:
        scripts = []
        for number, step in enumerate(steps):
            scripts.append(str(self._folder / f"step{number}"))
            Path(scripts[-1]).write_text(script_of(step))
        own = {"RUNNER_TEMP": str(self._temporary), "HOME": str(self._folder)}
        return run([str(self._worker), *scripts], environ=own | environ, cwd=self._project, timeout=LONG)


def write_project(folder: Path) -> None:
    for path, text in PROJECT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def script_of(step: dict[str, Any]) -> str:
    """What a step runs; nothing, if it is what this host has already."""
    if "run" in step:
        return step["run"]
    if not step["uses"].startswith(f"{OURS}/"):
        return ""
    folder = step["uses"].removeprefix(f"{OURS}/").partition("@")[0]
    assert ROOT / folder == ACTION
    action = read(ACTION / "action.yml")
    inputs = {name: one["default"] for name, one in action["inputs"].items()} | step.get("with", {})
    lines = [f"export INPUT_{name.upper()}={shlex.quote(value)}" for name, value in inputs.items()]
    return "\n".join([*lines, f"export GITHUB_ACTION_PATH={ACTION}", action["runs"]["steps"][0]["run"]])


def port_of(done: subprocess.CompletedProcess[bytes]) -> int:
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return int(re.search(rb"^the port was (\d+)$", done.stdout, re.MULTILINE)[1])


def wait_until_gone(port: int) -> None:
    try:
        wait_until(lambda: not answers(port), "the epmd to end with the job")
    finally:
        with contextlib.suppress(client.EpmdError):
            client.kill(port=port)


@pytest.fixture
def by_path(tmp_path: Path) -> dict[str, str]:
    """The action's inputs for an executable, which is that of the checkout."""
    program = tmp_path / "ours"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(SOURCE)} "$@"\n')
    program.chmod(0o755)
    return {"path": str(program)}


def setup_epmd(inputs: dict[str, str]) -> dict[str, Any]:
    return {"uses": f"{OURS}/.github/actions/setup-epmd@main", "with": inputs}


def test_action(by_path: dict[str, str], tmp_path: Path) -> None:
    """The epmd lives on from step to step, with the options that are given, and ends with the worker."""
    runner = Runner(tmp_path)
    # Twice, so that the second one is another epmd, and the first is not the following steps' any more.
    steps = [
        setup_epmd(by_path),
        {"run": "echo $ERL_EPMD_PORT >first"},
        setup_epmd(by_path | {"options": "-d -d"}),
    ]
    look = {"run": "epmd -names; epmd --version; cat first; epmd -port $(cat first) -started"}
    done = runner.run(*steps, look)
    port = port_of(done)
    up, version, first = done.stdout.decode().splitlines()[:3]
    assert up == f"epmd: up and running on port {port} with data:"
    assert version.startswith("epmd ")
    assert int(first) != port
    wait_until_gone(int(first))
    wait_until_gone(port)


def test_action_that_cannot(by_path: dict[str, str], tmp_path: Path) -> None:
    """It stops the job, and tells why."""
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho usage: epmd >&2\nexit 1\n")
    other.chmod(0o755)
    runner = Runner(tmp_path)
    done = runner.run(setup_epmd({"path": str(other)}), {"run": "echo went on"})
    said = f"::error title=setup-epmd::{other} is not gevent-epmd\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (1, said, b"")
    # Nor an old Python.
    (tmp_path / "python3").symlink_to(other)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = runner.run(setup_epmd({}), {"run": "echo went on"}, PATH=path)
    assert done.returncode == 1
    assert done.stdout.decode().startswith("::error title=setup-epmd::python3 must be Python 3.11 or later")
    with EpmdProcess() as epmd:
        done = runner.run(setup_epmd(by_path | {"port": str(epmd.port)}), {"run": "echo went on"})
        said = f"there is already a epmd running at port {epmd.port}"
    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.stderr.decode()


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """The environment of a job: this repository is where the examples say, and the tools are on PATH."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone, of which a job could make another")
    mix = str(Path(real("mix")).resolve().parent)
    python = tmp_path / "python"
    python.mkdir()
    quick_python(python / "python3", with_uv=True)
    repositories = ("https://github.com/OWNER/gevent-epmd", "https://gitlab.com/OWNER/gevent-epmd.git")
    environ = common_test(f"{python}:/usr/local/bin:/usr/bin:/bin:{mix}")
    for number, repository in enumerate(repositories):
        environ[f"GIT_CONFIG_KEY_{number}"] = f"url.file://{ROOT}.insteadOf"
        environ[f"GIT_CONFIG_VALUE_{number}"] = repository
    # What is used once is not worth compiling.
    return environ | {"GIT_CONFIG_COUNT": str(len(repositories)), "PIP_NO_COMPILE": "1"}


@pytest.mark.slow(10)
def test_github(host: dict[str, str], tmp_path: Path) -> None:
    """Both jobs in one, with what they have in common once; that of pytest is GitLab's."""
    mix, rebar3 = (GITHUB[name]["steps"] for name in ("mix", "rebar3"))
    done = Runner(tmp_path).run(*mix, *(step for step in rebar3 if step not in mix), **host)
    for name in ("mix", "rebar3"):
        assert_passed(name, done)
    wait_until_gone(port_of(done))


def assert_passed(job: str, done: subprocess.CompletedProcess[bytes]) -> None:
    said = done.stdout.decode() + done.stderr.decode()
    if done.returncode and not os.environ.get("CI") and "connection broken" in said:
        pytest.skip("the packages are out of reach: no network")
    assert done.returncode == 0, said
    assert exunit_passed(1, done.stdout) if job == "mix" else PASSED[job] in said, said


@pytest.mark.slow(20)
def test_gitlab(host: dict[str, str], tmp_path: Path) -> None:
    """But for the jobs of mix and rebar3, which are GitHub's."""
    if os.geteuid():
        pytest.skip("a folder of our own over /opt needs root")
    write_project(tmp_path / "project")
    before = [line for line in GITLAB[".epmd"]["before_script"] if "apt-get" not in line]
    lines = [*before, *GITLAB["pytest"]["script"], "epmd -names", "echo the port was $ERL_EPMD_PORT"]
    script = "\n".join(["mount -t tmpfs tmpfs /opt", *lines])
    apart = [real("unshare"), "--mount", "sh", "-e", "-c", script]
    own = {"HOME": str(tmp_path), **GITLAB["variables"]}
    done = run(apart, environ=host | own, cwd=tmp_path / "project", timeout=LONG)
    assert_passed("pytest", done)
    assert f"epmd: up and running on port {port_of(done)} with data:\n" in done.stdout.decode()
    wait_until_gone(port_of(done))


def test_jobs_are_the_same_on_both_forges() -> None:
    """So what runs here for one need not run for the other."""
    scripts = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in GITHUB.items()}
    jobs = {name: job for name, job in GITLAB.items() if "script" in job}
    assert [job["extends"] for job in jobs.values()] == [".epmd"] * len(jobs)
    assert {name: job["script"] for name, job in jobs.items()} == {
        "mix": scripts["mix"],
        "rebar3": scripts["rebar3"],
        "pytest": ["/opt/epmd/bin/pytest"],
    }
    github, gitlab = (
        re.search(r"pip (install .*)@ git\+", "\n".join(lines))
        for lines in (scripts["pytest"], GITLAB[".epmd"]["before_script"])
    )
    assert github[1] == gitlab[1].replace(" -q", "")
    assert scripts["pytest"][-1] == "pytest"


def test_script_of_the_action() -> None:
    done = run([real("shellcheck"), str(ACTION / "setup-epmd")])
    assert (done.returncode, done.stdout) == (0, b"")
    assert shutil.which(str(ACTION / "setup-epmd"))
