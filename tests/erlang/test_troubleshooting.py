"""docs/troubleshooting.md: each session that it shows goes as shown, each message in a heading is in one of
them, and what it says of the check being harmless is so."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gevent_epmd.program.check.finding import CODES
from support.checking import check
from support.erlang import FRUGAL, Node
from support.paths import FOLDER, ROOT, SOURCE
from support.patience import wait_until
from support.peer import names
from support.ports import answers, reserved_port
from support.programs import content, real, run
from support.shown import is_shown, masked, play, sessions

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
SESSIONS = sessions(TEXT)
#: Headings that are no message, or one of a program that no test has, or what is not printed.
UNPLAYED = {
    "docker stop",
    "{error,timeout}",
    # tests/program/serving/test_strangers.py and test_addresses.py play these.
    "port 4369 is in use, but no epmd answers there",
    "port 4369 does not answer on loopback",
    "epmd: connection to local epmd timed out",
    # Of the kernel, and of systemd.
    "etimedout",
    "Unit epmd.socket is masked",
    "start-limit-hit",
}


def test_sessions_are_found() -> None:
    assert len(SESSIONS) == TEXT.count("<!-- box:") >= 18
    assert all(session.commands for session in SESSIONS)


@pytest.mark.slow
@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.commands[0][:50])
def test_session_goes_as_shown(session) -> None:
    for program in (FOLDER, "erl", "erl_call", "elixir", "ss", "python3"):
        real(program)
    said = play(session)
    assert is_shown(session.lines, said), "\n".join(
        ["said:", *masked(said), "shown:", *masked(session.lines)]
    )


def test_messages_of_headings_are_shown() -> None:
    shown = "\n".join(line for session in SESSIONS for line in session.lines)
    for heading in re.findall(r"^##+ (.*)", TEXT, re.MULTILINE):
        for message in set(re.findall(r"`(.*?)`", heading)) - UNPLAYED:
            if not message.startswith("epmd.socket: "):
                assert message in shown, heading


def test_a_session_that_goes_otherwise_is_found() -> None:
    lines = ["$ x", "ok       process 12   C's epmd", "..."]
    assert is_shown(lines, ["$ x", "ok  process 7  C's epmd", "more", "and more"])
    assert not is_shown(lines, ["$ x", "wrong  process 7  C's epmd"])
    assert not is_shown(lines[:2], ["$ x", "ok  process 7  C's epmd", "more"])


def test_topics_and_codes_are_listed() -> None:
    """Those that the rules make, and no other ones."""
    table = TEXT.partition("| topic | codes |\n")[2].partition("\n\n")[0]
    rows = [row.split("|") for row in table.splitlines()[1:]]
    words = {word for row in rows for cell in row for word in re.findall(r"`(\w+)`", cell)}
    assert words == {*CODES, *(code for codes in CODES.values() for code in codes)}


TLS = """
[{{server, [{{certfile, "{0}/cert.pem"}}, {{keyfile, "{0}/key.pem"}}]}},
 {{client, [{{verify, verify_none}}]}}].
"""


@pytest.fixture(params=["inet_tcp", "inet_tls"])
def flags(request, tmp_path: Path) -> list[str]:
    """How a node is started that speaks this protocol, and shows its whole log."""
    real("erl")
    shown = ["-proto_dist", request.param, "-kernel", "logger_level", "all"]
    if request.param == "inet_tcp":
        return shown
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=x", "-days", "2"]
    files = ["-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/cert.pem"]
    done = run([real("openssl"), "req", "-x509", "-nodes", *kind, *files])
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "tls.conf").write_text(TLS.format(tmp_path))
    return [*shown, "-ssl_dist_optfile", f"{tmp_path}/tls.conf"]


def erl(name: str, cookie: str) -> list[str]:
    return ["erl", "-sname", name, "-start_epmd", "false", "-setcookie", cookie]


def length_of_log(node: Node) -> int:
    """In bytes, when all that the node has logged until now is written: its start is in the log, too."""
    assert node.eval("logger_std_h:filesync(default)") == "ok"
    return len(content(node._output))


def test_check_harms_no_node(flags: list[str], tmp_path: Path) -> None:
    """A node logs nothing of it, or, with TLS, nothing above the level of information; what it would log of a
    real fault is there, so the log is seen."""
    with reserved_port() as port:
        environ = {"ERL_EPMD_PORT": str(port), "HOME": str(tmp_path)}
        epmd = subprocess.Popen(
            [*SOURCE, "-port", str(port)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_until(lambda: answers(port), "the epmd")
            node = Node([*erl("busy", "a"), *flags], environ)
            try:
                assert names(port) != []
                start = length_of_log(node)
                for _ in range(2):
                    found = check([real(FOLDER)], port).codes("node")
                    assert found == {"busy": ("ok", "answers")}
                # What it has accepted before is done with when it has answered this.
                ping = f"net_adm:ping({node.eval('node()')}), halt()."
                done = run([*erl("x", "b"), *flags, "-noshell", "-eval", ping], environ=FRUGAL | environ)
                assert done.returncode == 0
                wait_until(lambda: b"rejected" in content(node._output), "the log of a fault")
                log = content(node._output)[start:].decode("latin-1")
                reports = re.findall(r"^=(\w+) REPORT====", log, re.MULTILINE)
                assert reports.count("ERROR") == 1, log
                allowed = {"ERROR"} if "inet_tcp" in flags else {"ERROR", "PROGRESS"}
                assert set(reports) <= allowed, log
                assert node.eval("nodes()") == "[]"
            finally:
                node.kill()
        finally:
            os.kill(epmd.pid, 15)
            epmd.wait()
