"""What `epmd -check` finds, for tests; and hosts with a name and an /etc/hosts of their own to look at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from gevent_epmd.program.check.finding import CODES
from support.paths import C_EPMD, SOURCE, TESTS
from support.patience import PATIENCE
from support.programs import clean_environment, content, run
from support.scenes import run_apart

#: What every host has that is not named by a test.
LOCALHOST = "127.0.0.1 localhost\n::1 localhost\n"
#: The name of a host that is made here.
BOX = "box"
#: Whether this process plays a scene, and nothing else.
is_scene = False


class Checked(NamedTuple):
    """What a call of -check gave; `told` is the whole object."""

    status: int
    findings: list[dict[str, str]]
    told: dict[str, Any]

    def node(self, name: str) -> dict[str, Any]:
        """What is told of a node, beside the finding."""
        (node,) = (node for node in self.told["nodes"] if node["name"] == name)
        return node

    def about(self, topic: str, subject: str = "") -> dict[str, str]:
        """The one finding of a topic, about this subject if there is one."""
        found = [f for f in self.findings if f["topic"] == topic and subject in ("", f["subject"])]
        assert len(found) == 1, (topic, subject, self.findings)
        return found[0]

    def codes(self, topic: str) -> dict[str, tuple[str, str]]:
        """The state and the code of each subject of a topic."""
        return {f["subject"]: (f["state"], f["code"]) for f in self.findings if f["topic"] == topic}


def check(command: list[str], port: int, *options: str, **how) -> Checked:
    """Call -check; its output must be sound, whatever it finds."""
    how["environ"] = {"PATH": _path_with_erl_of_c()} | how.get("environ", {})
    done = call(command, "-port", str(port), *options, "-json", "-check", **how)
    assert done.stderr == b"", done.stderr.decode()
    assert done.stdout.decode().removesuffix("\n").isprintable()
    found = json.loads(done.stdout)
    assert (found["port"], found["status"]) == (port, done.returncode)
    for finding in found["findings"]:
        assert list(finding) == ["topic", "subject", "state", "code", "seen", "to_do", "accepted"]
        assert finding["code"] in CODES[finding["topic"]], finding
        assert finding["state"] in ("ok", "warning", "wrong"), finding
        assert finding["to_do"] or finding["state"] == "ok", finding
        assert "\n" not in finding["seen"] + finding["to_do"]
    assert done.returncode == any(finding["state"] == "wrong" for finding in found["findings"])
    return Checked(done.returncode, found["findings"], found)


def call(command: list[str], *line: str, **how) -> subprocess.CompletedProcess[bytes]:
    """As `run`. In a scene a call of the source is a child of this process, which has imported it already:
    that halves its time."""
    forks = is_scene and list(command) == SOURCE
    return _forked(line, how.get("environ", {})) if forks else run([*command, *line], **how)


def _forked(line: Sequence[str], environ: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """As a program that is started, the child has none of this process's descriptors."""
    import docopt  # noqa: F401 - for all children, as the other ones

    from gevent_epmd.program.check import findings, look, report  # noqa: F401

    with open(os.devnull) as null, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            for descriptor, file in enumerate((null, out, err)):
                os.dup2(file.fileno(), descriptor)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            _become_the_program(line, clean_environment(**environ))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return subprocess.CompletedProcess(line, status, content(out), content(err))


def _become_the_program(line: Sequence[str], environ: dict[str, str]) -> NoReturn:
    from gevent_epmd.program import cli

    signal.alarm(round(PATIENCE))  # it may hang
    sys.argv = [SOURCE[1], *line]
    os.environ.clear()
    os.environ.update(environ)
    try:
        os._exit(cli.main())
    finally:
        traceback.print_exc()
        os._exit(1)


def _path_with_erl_of_c() -> str:
    """PATH, with the `erl` that starts the C epmd of these tests: where they meet another one than that of
    the host's erl, a hand-over would be due each time. What a scene puts into /run/bin comes first."""
    folders = os.environ["PATH"].split(":")
    at = folders.index("/run/bin") + 1 if "/run/bin" in folders else 0
    beside = f"{os.path.realpath(shutil.which(C_EPMD) or C_EPMD)}/../../../bin"
    return ":".join([*folders[:at], os.path.normpath(beside), *folders[at:]])


def run_in_a_box(module: str, scene, form, hosts: str, network: str = "plain") -> None:
    """Run a scene of a module of tests on a host that is made for it."""
    done = in_a_box([sys.executable, "-m", module, scene.__name__, form.__name__], hosts, network)
    assert done.returncode == 0, done.stderr.decode()


def in_a_box(command: list[str], hosts: str, network: str = "plain", **how):
    """Run a program to its end in a network namespace of its own, on a host that is named box, knows these
    hosts, and has /run/bin on its PATH and nothing else in /run."""
    named = ["unshare", "--uts", "sh", "-e", "-c", f'echo {BOX} >/proc/sys/kernel/hostname; exec "$@"', "sh"]
    known = f"printf '{LOCALHOST}{hosts}\\n' >/run/hosts; mount --bind /run/hosts /etc/hosts"
    environ = {"PYTHONPATH": str(TESTS), "HOME": "/run", "PATH": f"/run/bin:{os.environ['PATH']}"}
    prepare = f"mount -t tmpfs none /run; {known}"
    return run_apart([*named, *command], network, prepare=prepare, environ=environ, **how)


def main(scenes: dict[str, object], forms: dict[str, type]) -> None:
    """Run the scene that the command line names."""
    global is_scene
    is_scene = True
    scenes[sys.argv[1]](forms[sys.argv[2]])
