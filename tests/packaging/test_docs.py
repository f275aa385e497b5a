"""What the documents show does what they say: links lead somewhere, and code blocks run as they are.

Commands of console blocks are played in namespaces of their own: in a network that nobody else has, in a root
that can only be read, with C's epmd running as on a host where it is to be replaced.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gevent_epmd.program.options import read_options
from gevent_epmd.program.process.watch import gone
from support import markdown
from support.erlang import exunit_passed
from support.markdown import Block, Command, all_blocks, documents, name_of
from support.paths import FOLDER, ROOT
from support.patience import LONG, wait_until
from support.programs import real, run

README = ROOT / "README.md"
#: A call in a text: up to what ends it in a shell, in Markdown, or in a sentence.
CALL = re.compile(r"(?<![\w.-])epmd ((?:[^\S\n]*-[^|&>`\n)#,;]+)+)")
each_document = pytest.mark.parametrize("path", documents(), ids=name_of)

# --- Links, and calls in the text ---


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in markdown.links(path):
        if re.match(r"\w+:", link):
            assert link.startswith("https://"), link
            continue
        where, _, anchor = link.partition("#")
        target = (path.parent / where).resolve() if where else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in markdown.anchors(target), link


def test_every_document_can_be_reached_from_the_readme() -> None:
    """But for templates, which the forge shows."""
    reached, new = set(), [README]
    while new:
        path = new.pop()
        reached.add(path)
        targets = {(path.parent / link.partition("#")[0]).resolve() for link in markdown.links(path)}
        new += [target for target in targets - reached if target.suffix == ".md" and target.is_file()]
    assert [name_of(path) for path in {*documents()} - reached if path.parent.name != ".github"] == []


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("folder", ["program", "support"])
def test_every_module_of_the_tests_is_told(folder: str) -> None:
    told = set(re.findall(r"`(\w+)`", markdown.section(ROOT / "tests" / "README.md", "What is where")))
    modules = {path.stem for path in (ROOT / "tests" / folder).rglob("*.py")} - {"__init__", "conftest"}
    assert modules - told == set()
    assert {name for name in told if name.startswith("test_")} - {
        path.stem for path in (ROOT / "tests").rglob("*.py")
    } == set()


def test_tests_that_hold_the_promises_are_there() -> None:
    named = re.findall(
        r"`((?:tests/[\w/]+/)?test_\w+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    )
    assert len(named) > 20
    for file, function in named:
        folder, _, name = file.rpartition("/")
        (path,) = (ROOT / (folder or "tests/program")).rglob(name)
        assert f"\ndef {function}(" in path.read_text(encoding="utf-8"), (file, function)


@each_document
def test_calls_can_be_made(path: Path) -> None:
    for call in CALL.findall(path.read_text(encoding="utf-8")):
        # $$ is the shell's own number, and a command before this one makes the folder.
        plain = call.replace('"', "").replace("$$", "1").replace(" PID", " 1").replace("/run/epmd/", "/run/")
        read_options(shlex.split(plain), {})


def test_anchors_are_those_of_the_forges() -> None:
    headings = ["A `b_c`: d, e!", "a [link](x)", "Same", "Same", "Two  blanks"]
    assert [*markdown._anchors(headings)] == ["a-b_c-d-e", "a-link", "same", "same-1", "two--blanks"]


# --- Code blocks ---

PARSERS = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads, "text": str}


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    """What is indented would be no block for `markdown`, and no fence is left open."""
    for path in documents():
        assert "```" not in markdown.prose(path), path
        for block in markdown.blocks(path):
            assert block.language in {"python", "sh", "console", *PARSERS}, block
            PARSERS.get(block.language, str)(block.text)
    assert len(all_blocks("python")) >= 8
    assert len(all_blocks("console")) >= 10


@pytest.mark.parametrize("block", all_blocks("sh", "console"), ids=str)
def test_shell_can_read_it(block: Block) -> None:
    for text in markdown.typed_in(block):
        done = run(["bash", "-n", "-c", text])
        assert (done.returncode, done.stderr) == (0, b""), text


FOR_PYTEST = [block for block in all_blocks("python") if "\ndef test_" in block.text]


@pytest.mark.parametrize(
    "block", [block for block in all_blocks("python") if block not in FOR_PYTEST], ids=str
)
def test_python_example(block: Block, tmp_path: Path) -> None:
    done = run([sys.executable, "-W", "error", "-c", block.text], cwd=tmp_path, timeout=LONG)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_examples_for_pytest(tmp_path: Path) -> None:
    assert len(FOR_PYTEST) >= 4
    if any('"erl"' in block.text for block in FOR_PYTEST):
        real("erl")
    for number, block in enumerate(FOR_PYTEST):
        (tmp_path / f"test_{number}.py").write_text(block.text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, timeout=LONG)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


(MIX_TEST,) = (block for block in all_blocks("sh") if "mix test" in block.text)


@pytest.mark.parametrize("found", ["echo usage >&2; exit 1", None])
def test_mix_example_with_an_epmd_that_is_not_ours(found: str | None, tmp_path: Path) -> None:
    """As C's, which knows no such option and would print its usage."""
    (tmp_path / "sh").symlink_to("/bin/sh")
    if found:
        (tmp_path / "epmd").write_text(f"#!/bin/sh\n{found}\n")
        (tmp_path / "epmd").chmod(0o755)
    done = run(["/bin/sh", "-c", MIX_TEST.text], environ={"PATH": str(tmp_path)})
    epmd = f"{tmp_path}/epmd" if found else ""
    assert (done.returncode, done.stderr.decode()) == (1, f"{epmd} is not gevent-epmd\n")


def test_examples_stop_at_the_first_error() -> None:
    """Also where the error is in an assignment, whose status `export` hides."""
    for block in all_blocks("sh"):
        if len(block.text.splitlines()) > 1 and re.search(r"^epmd -", block.text, re.MULTILINE):
            assert block.text.startswith("set -e\n"), block
        assert not re.search(r"export \w+=\$\(", block.text), block


def test_mix_example(tmp_path: Path) -> None:
    """In an environment that has nothing but a folder to be at home in, and the commands."""
    real("mix")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "epmd").symlink_to(Path(sys.executable).with_name("epmd"))
    project = shutil.copytree(ROOT / "tests" / "examples" / "mix_project", tmp_path / "project")
    script = MIX_TEST.text + "epmd -port $ERL_EPMD_PORT -dump; echo; echo $$"
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    clean = ["env", "-i", f"PATH={path}", f"HOME={tmp_path}", "LANG=C.UTF-8"]
    done = run([*clean, "sh", "-e", "-c", script], cwd=project, timeout=LONG)
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    assert exunit_passed(3, done.stdout)
    assert "name <sample>," in said.replace("name     <", "name <"), (
        "it was this mapper that the node went to"
    )
    assert gone(int(said.splitlines()[-1]))
    wait_until(lambda: not (project / "epmd.port").exists(), "the mapper to end")


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms(path: Path) -> None:
    """The keys that GitHub permits; a form with another one is not shown."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {*form} == {"name", "description", "body"}
    assert form["name"]
    assert form["description"]
    for part in form["body"]:
        assert part["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert part["attributes"]["label"]
        assert {*part} <= {"type", "attributes", "validations"}
        assert {*part["attributes"]} <= {"label", "description", "value", "render", "options"}


# --- Commands ---

#: What is not played, and why.
NOT_PLAYED = {
    "scripts/run": "serves until it is ended; scripts/try-newest plays it",
    "scripts/build": "takes a minute; what it makes is played",
    "scripts/test": "is this",
    ".venv/bin/python -m pytest": "is this",
    "scripts/soak": "takes minutes; tests/program/serving/test_reliability.py plays a short form",
    "PYTHONPATH=tests .venv/bin/python -m soak.guided": "takes hours, and needs atheris",
    "epmd -takeover": "needs an epmd with nodes; test_takeover.py plays it",
    "epmd -check": "has status 1 where something is wrong; test_check.py plays it",
    "useradd": "would change this host",
    "install -d -o epmd": "needs the user that useradd adds",
    "epmd -daemon -allow_register": "needs this epmd, which C's is not; test_own_options.py plays it",
    "epmd -daemon -user epmd": "needs the user that useradd adds; test_user.py has users of its own",
    "systemctl": "needs a systemd; test_systemd_units.py has one",
    "scripts/package": "test_package.py makes and installs one",
    "scripts/portable": "takes up to an hour; scripts/try-portable plays what it makes",
    "EPMD_EXECUTABLE=dist/portable/gevent-epmd/epmd scripts/package": "test_rpm.py makes and installs one",
    "apt install": "would change this host; test_package.py and scripts/try-package play it",
    "sha256sum": "needs a release; test_tarball.py installs one",
    "tar": "needs a release; test_tarball.py installs one",
    "gevent-epmd-0.1.0-linux-x86_64/install": "needs a release; test_tarball.py installs one",
}
#: Where options of a script are told, besides in itself.
USAGES = {
    "scripts/soak": "tests/soak/__main__.py",
    "scripts/bench": "tests/bench/__main__.py",
    "scripts/compare": "tests/comparison/__main__.py",
}
ERLANG = "/usr/lib/erlang"
SANDBOX = """\
ip link set lo up
mount --bind "$1" "$1"
mount -t tmpfs tmpfs /usr/local
mkdir /usr/local/bin
[ ! -d /etc/systemd/system ] || mount -t tmpfs tmpfs /etc/systemd/system
for erts in "$2"/erts-*/bin; do
    copy=$(mktemp -d "$1/erts.XXXXXX")
    cp -a "$erts/." "$copy"
    mount --bind "$copy" "$erts"
done
mount -o remount,bind,ro /
"$2"/erts-*/bin/epmd -daemon
until "$2"/erts-*/bin/epmd -names >/dev/null 2>&1; do sleep 0.02; done
cd "$3"
exec bash "$1/commands"
"""


def why_not(command: str) -> str:
    plain = command.removeprefix("sudo ")
    return next((beginning for beginning in NOT_PLAYED if f"{plain} ".startswith(f"{beginning} ")), "")


def played(path: Path) -> list[Command]:
    return [command for command in markdown.all_commands(path) if not why_not(command.text)]


def test_reasons_are_those_of_commands_that_are_shown() -> None:
    shown = {why_not(command.text) for path in documents() for command in markdown.all_commands(path)}
    assert {*NOT_PLAYED} <= shown


@each_document
def test_scripts_and_their_options_are_there(path: Path) -> None:
    for command in markdown.all_commands(path):
        words = shlex.split(command.text, comments=True)
        for number, word in enumerate(words):
            if word.startswith("scripts/"):
                assert os.access(ROOT / word, os.X_OK), command.text
                options = {option.partition("=")[0] for option in words[number:] if option.startswith("--")}
                assert options <= {*re.findall(r"--[\w-]+", usage_of(word))}, command.text


def usage_of(script: str) -> str:
    elsewhere = USAGES.get(script, script)
    return (ROOT / script).read_text(encoding="utf-8") + (ROOT / elsewhere).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in documents() if played(path)], ids=name_of)
def test_commands_do_what_is_shown(path: Path, tmp_path: Path) -> None:
    """All of a document, one after the other, in one shell."""
    if os.geteuid():
        pytest.skip("a root that cannot be written to needs root")
    for program in (FOLDER, "erl", "elixir", "ss", "ip", f"{ERLANG}/bin/epmd"):
        real(program)
    todo = played(path)
    for number, command in enumerate(todo):
        with (tmp_path / "commands").open("a") as script:
            # A reader has typed nothing before, so the shell remembers no other epmd.
            script.write(f'hash -r; {{ {command.text}\n}} >"$PLAYED/{number}.out" 2>&1 </dev/null\n')
            script.write(f'echo $? >"$PLAYED/{number}.status"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (tmp_path / "bin" / "sudo").chmod(0o755)
    apart = [real("unshare"), "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    environ = {
        "PATH": f"/usr/local/bin:{tmp_path}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PLAYED": str(tmp_path),
        "EPMD_EXECUTABLE": FOLDER,
    }
    inside = ["sh", "-e", "-c", SANDBOX, "sh", str(tmp_path), ERLANG, str(ROOT)]
    done = run([*apart, *inside], environ=environ, timeout=LONG)
    assert done.stderr == b""
    for number, command in enumerate(todo):
        said = (tmp_path / f"{number}.out").read_text(errors="replace")
        assert (tmp_path / f"{number}.status").read_text() == "0\n", f"{command.text}\n{said}"
        assert not command.output or said.splitlines() == command.output, command.text
