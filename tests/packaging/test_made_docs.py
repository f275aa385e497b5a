"""What scripts/docs makes is made of what is there now, and works: the manual page, the tables of options and
the completions of the usage text, the picture of the modules of their imports.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

import architecture
import imports
import usage
from gevent_epmd.program.check.report import unknown
from gevent_epmd.program.options import known_options, read_options
from support.forms import Source
from support.paths import BUILT, ROOT, SOURCE
from support.patience import LONG
from support.peer import node, register
from support.programs import real, run

MANUAL = ROOT / "docs" / "epmd.1"
COMPLETION = ROOT / "docs" / "completion"
MADE = {
    MANUAL: ["manual.py"],
    ROOT / "docs" / "options.md": ["options_page.py"],
    ROOT / "docs" / "architecture.svg": ["architecture.py"],
    COMPLETION / "epmd.bash": ["completion.py", "bash"],
    COMPLETION / "epmd.zsh": ["completion.py", "zsh"],
    COMPLETION / "epmd.fish": ["completion.py", "fish"],
}
ALL = sorted(spelling for option in usage.options() for spelling in option.spellings)
#: A line, without the program, and what its last word may become.
LINES = [
    (["-"], ALL),
    ([""], ALL),
    (["-po"], ["-port", "-port_file"]),
    (["-d", "-d", "-nam"], ["-names"]),
    (["-port", ""], []),
    (["-port", "-"], []),
    (["-port", "-names", "-nam"], ["-names"]),
    (["-names", "-"], []),
    (["-kill", ""], []),
    (["--help", "-"], []),
    (["-stop", "a", "-"], []),
    (["-port_file", "uni"], ["unit"]),
    (["-pid_file", "uni"], ["unit"]),
    (["-user", "roo"], ["root"]),
    (["-x", "-sto"], ["-stop"]),
]


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_is_what_scripts_docs_makes(path: Path) -> None:
    generator, *arguments = MADE[path]
    done = run([sys.executable, str(ROOT / "build" / generator), *arguments])
    assert (done.returncode, done.stderr) == (0, b"")
    assert path.read_bytes() == done.stdout, "run scripts/docs"


def test_session_is_what_the_executable_says() -> None:
    for program in (BUILT, "erl", "ip", "unshare"):
        real(program)
    done = run([sys.executable, str(ROOT / "build" / "session.py")], timeout=LONG)
    assert done.returncode == 0, done.stderr.decode()
    assert (ROOT / "docs" / "session.svg").read_bytes() == done.stdout, "run scripts/docs"
    assert ElementTree.fromstring(done.stdout).tag.endswith("svg")


def test_usage_is_taken_apart_as_the_program_does() -> None:
    taken = {spelling: bool(option.value) for option in usage.options() for spelling in option.spellings}
    assert taken == known_options()
    assert all(option.text for option in usage.options())


def test_every_variable_is_documented() -> None:
    """Those that the source names, those of the options that serve, and no other."""
    named = set(re.findall(r"\bERL_EPMD_[A-Z]\w*", "".join(imports.SOURCES.values())))
    [serving] = [
        options for title, options in usage.sections() if title.startswith("Serving, not in C's epmd")
    ]
    named |= {f"ERL_EPMD_{option.spellings[0].lstrip('-').upper()}" for option in serving}
    documented = ", ".join(usage.VARIABLES).split(", ")
    assert named == {variable for variable in documented if variable.startswith("ERL_")}


def test_every_module_and_wing_is_in_the_picture() -> None:
    known = imports.own_imports(imports.SOURCES)
    boxes = architecture.layout(known)
    assert sorted(module for box in boxes.values() for module in box.modules) == sorted(imports.SOURCES)
    svg = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    shown = re.findall(r">([^<>\n]+)</text>", svg)
    for module in imports.SOURCES:
        shown.remove(architecture.short(module))
    assert [text for text in shown if not text[0].isdigit()] == list(architecture.TITLES.values())


def test_every_module_is_explained() -> None:
    """In the tables of docs/architecture.md, under the heading of its folder."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## The way of")[0]
    told = dict(re.findall(r"^\| (?:`([\w/]+)/`|shared) \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE))
    files = set()
    for module in imports.SOURCES:
        folder, _, name = architecture.short(module).rpartition("/")
        wing = "" if (part := imports.part(module)) == "ground" else part
        files.add(f"{name}.py")
        if not name.startswith("__"):
            assert f"`{name}.py`" in told[f"{wing}/{folder}".strip("/")], module
    assert {*re.findall(r"`(\w+\.py)`", "".join(told.values()))} <= files


def test_functions_that_architecture_names_are_where_it_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\| `([\w/]+)\.py` \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(rows) == text.partition("\n## The wings")[0].count(".py` |") > 15
    for module, function in rows:
        node: ast.AST = imports.parsed(imports.SOURCES[f"{imports.PACKAGE}.{module.replace('/', '.')}"])
        for name in function.split("."):
            [node] = [each for each in ast.iter_child_nodes(node) if getattr(each, "name", "") == name]


def test_picture_shows_each_module_above_what_it_imports() -> None:
    known = {"a": {"c"}, "b": {"a"}, "c": set()}
    assert architecture.in_order(["a", "b", "c"], known) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "check",
    [["groff", "-man", "-ww", "-z", "-Tutf8"], ["mandoc", "-Tlint", "-Wwarning"]],
    ids=lambda check: check[0],
)
def test_manual_has_no_faults(check: list[str]) -> None:
    done = run([real(check[0]), *check[1:], str(MANUAL)])
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_manual_reads_as_the_usage() -> None:
    page = run([real("man"), "-l", str(MANUAL)], environ={"MANWIDTH": "1000", "LC_ALL": "C.UTF-8"}).stdout
    words = " ".join(page.decode().split())
    for option in usage.options():
        heading = ", ".join(option.spellings) + (f" {option.value}" if option.value else "")
        assert f" {heading} {' '.join(option.text.split())}" in words


def test_examples_of_the_manual() -> None:
    """Each can be called; the check that accepts warnings accepts those that there are."""
    text = MANUAL.read_text(encoding="utf-8").partition(".SH EXAMPLES\n")[2].replace("\\-", "-")
    text = text.replace("$$", "1").replace(
        "/etc/default/epmd", str(ROOT / "docs" / "examples" / "default-epmd")
    )
    examples = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("epmd ")]
    assert len(examples) >= 10
    for words in examples:
        accepted = read_options(words, {}).accept
        assert not unknown(accepted), words


def bash(line: list[str], folder: Path) -> list[str]:
    script = """
        source "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2)); _epmd "$2"
        [ ${#COMPREPLY[@]} = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"
    """
    done = run(["bash", "-c", script, "bash", str(COMPLETION / "epmd.bash"), *line], cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    return sorted(done.stdout.decode().splitlines())


def fish(line: list[str], folder: Path) -> list[str]:
    script = f'source {COMPLETION / "epmd.fish"}; complete -C "$argv"'
    done = run(
        [real("fish"), "--no-config", "-c", script, "epmd", *line[1:]],
        cwd=folder,
        environ={"HOME": str(folder)},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = sorted(found.split("\t")[0] for found in done.stdout.decode().splitlines())
    # Before what begins with the word come, from fish 4 on, those that only have its letters in them.
    return [one for one in found if one.startswith(line[-1])] or found


@pytest.mark.parametrize(("line", "expected"), LINES, ids=lambda value: " ".join(value))
def test_bash_completes(line: list[str], expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "unit").touch()
    assert bash(["epmd", *line], tmp_path) == expected


@pytest.mark.parametrize(("line", "expected"), LINES, ids=lambda value: " ".join(value))
def test_fish_completes(line: list[str], expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "unit").touch()
    # After nothing at all, fish offers no options.
    assert fish(["epmd", *line], tmp_path) == ([] if line == [""] else expected)


@pytest.mark.parametrize("complete", [bash, fish], ids=lambda complete: complete.__name__)
def test_nodes_to_stop(complete, tmp_path: Path) -> None:
    program = tmp_path / "epmd"
    program.write_text(f'#!/bin/sh\nexec {" ".join(SOURCE)} "$@"\n')
    program.chmod(0o755)
    odd = "a$(touch was_run)"
    with Source() as server, ExitStack() as held:
        for name in ("apple", odd, "pear"):
            held.enter_context(register(server.port, node(name))[0])
        port = ["-port", str(server.port)]
        found = complete([str(program), *port, "-stop", "a"], tmp_path)
        # bash puts what it is given on the line as it is; fish quotes it itself.
        assert found == ["a\\$\\(touch\\ was_run\\)" if complete is bash else odd, "apple"]
        assert complete([str(program), *port, "-stop", ""], tmp_path)[-1] == "pear"
    assert not (tmp_path / "was_run").exists()
    assert complete([str(program), *port, "-stop", ""], tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_reads_its_completion(shell: str) -> None:
    done = run([real(shell), "-n", str(COMPLETION / f"epmd.{shell}")])
    assert (done.returncode, done.stderr) == (0, b"")
