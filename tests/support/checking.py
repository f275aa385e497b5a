"""What `epmd -check` finds, for tests; and hosts with a name and an /etc/hosts of their own to look at."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, NamedTuple

from gevent_epmd.program.check.finding import CODES
from support.paths import C_EPMD, TESTS
from support.programs import run
from support.scenes import run_apart

#: What every host has that is not named by a test.
LOCALHOST = "127.0.0.1 localhost\n::1 localhost\n"
#: The name of a host that is made here.
BOX = "box"


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
    done = run([*command, "-port", str(port), *options, "-json", "-check"], **how)
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
    scenes[sys.argv[1]](forms[sys.argv[2]])
