"""Sessions that docs/troubleshooting.md shows, as they really go: on a host that is made for each.

A session is a console block below a comment that names the host's own lines of /etc/hosts and prepares it:

    <!-- box: 127.0.1.1 box
    epmd -daemon
    -->

There `epmd` is ours, `erl` starts C's, and the port is 4369.  A line "..." stands for any number of lines.

`python -m support.shown docs/troubleshooting.md` writes what was said into the document, but for commands
whose output has such a line there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from support.checking import in_a_box
from support.erlang import FRUGAL
from support.paths import FOLDER
from support.patience import LONG, PATIENCE
from support.programs import content, real

_BLOCK = re.compile(
    r"<!-- box:(?P<hosts>[^\n]*)\n(?P<set_up>.*?)-->\n\n?```console\n(?P<lines>.*?)```\n", re.DOTALL
)
_ANY = "..."
_HERE = """
up() { for name; do while ! epmd -names | grep -q "^name $name "; do sleep 0.05; done; done; }
until_open() { while ! ss -ltn | grep -q ":$1 "; do sleep 0.05; done; }
"""

#: What differs from one run to the next, or from one host to the next, and what it becomes.
_MASKS = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\d\d-[A-Z][a-z]{2}-\d{4}::[\d:.]+|\b\d\d:\d\d:\d\d\.\d{3}\b", "TIME"),
    (r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:]{8} \d{4}", "TIME"),
    (r"OTP \d+ \(ERTS [\d.]+\)", "OTP"),
    (r"gevent-epmd \d\S*,", "gevent-epmd VERSION,"),
    (r'"version": "[^"]*"', '"version": "VERSION"'),
    (r"\d{4}-\d\d-\d\dT[\d:]{8}Z", "TIME"),
    (r" \| nodes=.*", " | PERFDATA"),
    (r"/\S*/(epmd|python|beam\.smp|bash|dash)[\d.]*(?=[,\s)]|$)", r"/PATH/\1"),
    (r"user \w+", "user NAME"),
    (r"process \d+|kill -CONT \d+", "process N"),
    (r"(?<=[\d\]]:)\d{5}\b|(?<=port )\d{5}\b|(?<=\",)\d{5}\b", "PORT"),
    # In one version of Elixir or another.
    (r"(?<=RPC failed with reason ):(nodedown|noconnection)\b", ":REASON"),
    (r" +", " "),
]


class Session(NamedTuple):
    """What is done on a host with these lines in its hosts file, and what is shown of it."""

    hosts: str
    set_up: str
    lines: list[str]

    @property
    def commands(self) -> list[str]:
        return [line.removeprefix("$ ") for line in self.lines if line.startswith("$ ")]


def sessions(text: str) -> list[Session]:
    return [_session(found) for found in _BLOCK.finditer(text)]


def _session(found: re.Match[str]) -> Session:
    hosts = "\n".join(found["hosts"].strip().split("; "))
    return Session(hosts, found["set_up"], found["lines"].splitlines())


def play(session: Session) -> list[str]:
    """The lines of the session as it went."""
    told = json.dumps([session.set_up, session.commands])
    me = [sys.executable, "-m", "support.shown"]
    done = in_a_box(me, session.hosts, input=told.encode(), stdin=None, timeout=LONG)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def masked(lines: list[str]) -> list[str]:
    found = []
    for line in lines:
        for pattern, becomes in _MASKS:
            line = re.sub(pattern, becomes, line)
        found.append(line.rstrip())
    return found


def is_shown(shown: list[str], said: list[str]) -> bool:
    """Whether what is shown was said, but for what differs each time."""
    pattern = "".join(r"(?:.*\n)*?" if line == _ANY else re.escape(line) + "\n" for line in masked(shown))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in masked(said))) is not None


def _inside() -> None:
    """In the host that was made."""
    set_up, commands = json.load(sys.stdin)
    os.environ.update(FRUGAL)
    os.chdir("/run")  # a node may leave a dump of its crash
    Path("/run/bin").mkdir()
    Path("/run/bin/epmd").symlink_to(real(FOLDER))
    with tempfile.TemporaryFile() as out:
        _run(f"{_HERE}{set_up}", out)
        for command in commands:
            with tempfile.TemporaryFile() as said:
                _run(command, said)
                sys.stdout.write(f"$ {command}\n{content(said).decode()}")


def _run(command: str, output) -> None:
    how = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "timeout": PATIENCE}
    subprocess.run(["sh", "-c", command], check=False, **how)


def _as_installed(text: str) -> str:
    """With the programs where people have them."""
    ours = text.replace(FOLDER, "/usr/local/lib/gevent-epmd/current/epmd")
    return re.sub(r"/\S*/(?=python3)", "/usr/bin/", ours)


def _by_command(lines: list[str]) -> list[list[str]]:
    """Each command, with what it says."""
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append([])
        found[-1].append(line)
    return found


def _write(path: Path) -> None:
    def renewed(found: re.Match[str]) -> str:
        session = _session(found)
        both = zip(_by_command(session.lines), _by_command(play(session)), strict=True)
        lines = [line for shown, said in both for line in (shown if _ANY in shown else said)]
        head = found[0][: found.start("lines") - found.start()]
        return head + _as_installed("".join(f"{line}\n" for line in lines)) + "```\n"

    path.write_text(_BLOCK.sub(renewed, path.read_text()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _write(Path(sys.argv[1]))
    else:
        _inside()
