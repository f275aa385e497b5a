"""How long an interactive call takes at most, whoever answers or does not."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gevent_epmd.client import TIMEOUT
from support.forms import C, Folder, Source
from support.marks import forms
from support.patience import PATIENCE, RESOLVER_GIVES_UP, SLOWEST_RESOLVER
from support.peer import node, register
from support.programs import clean_environment, run
from support.scenes import run_apart
from support.strangers import Dripping, Endless, Mute

#: Most wait for an answer that does not come.
pytestmark = pytest.mark.slow

ASKING = [["-names"], ["-dump"], ["-started"], ["-kill"], ["-stop", "foo"], ["-names", "-json"]]
FROM_HERE = [["-host", "127.0.0.1", "-names"], ["-host", "localhost", "-started"]]
#: The launcher of the one-file form has no part in how long its child waits.
each_that_waits = forms(Source, Folder, at="ours")
one_that_waits = forms(Source, at="ours")


def all_at_once(command: list[str], port: int, calls: list[list[str]]) -> dict[str, tuple[float, int, bytes]]:
    """For each call how many seconds it took, its status, and what it said on both outputs together."""
    found: dict[str, tuple[float, int, bytes]] = {}
    with contextlib.ExitStack() as stack:
        running = {}
        start = time.monotonic()
        for call in calls:
            # Not a pipe: what answers without end would wait for its reader.
            output = stack.enter_context(tempfile.TemporaryFile())
            options = [*command, "-port", str(port), *sorted(call, key=lambda word: word != "-json")]
            running[" ".join(call)] = (
                output,
                subprocess.Popen(
                    options, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
                ),
            )
        try:
            while len(found) < len(running) and time.monotonic() - start < TIMEOUT + PATIENCE:
                for call, (output, process) in running.items():
                    if call not in found and process.poll() is not None:
                        output.seek(0)
                        found[call] = time.monotonic() - start, process.returncode, output.read(10_000)
                time.sleep(0.01)
        finally:
            for _, process in running.values():
                process.kill()
                process.wait(PATIENCE)
    assert found.keys() == running.keys(), f"still waiting: {running.keys() - found.keys()}"
    return found


def assert_a_line(found: dict[str, tuple[float, int, bytes]]) -> None:
    for call, (_, status, said) in found.items():
        assert status == 1, call
        if "-started" in call:
            assert said == b"", call
        else:
            assert said.startswith(b"epmd: "), (call, said)
            assert said.count(b"\n") == 1, (call, said)


@each_that_waits
def test_nobody_answers(ours) -> None:
    with Mute() as mute:
        found = all_at_once(ours, mute.port, ASKING + FROM_HERE)
    assert_a_line(found)
    for call, (took, _, said) in found.items():
        assert took > TIMEOUT - 1, call
        assert "-started" in call or b"no answer from " in said


@one_that_waits
@forms(Source, C)
def test_stopped_epmd(ours, form) -> None:
    with form() as server, server.stopped():
        assert_a_line(all_at_once(ours, server.port, ASKING + FROM_HERE))


@one_that_waits
def test_answer_that_comes_a_byte_a_second(ours) -> None:
    with Dripping() as dripping:
        found = all_at_once(ours, dripping.port, ASKING + FROM_HERE)
    assert_a_line(found)


@one_that_waits
def test_answer_without_end(ours) -> None:
    with Endless() as endless:
        found = all_at_once(ours, endless.port, ASKING + FROM_HERE)
    assert_a_line(found)


@one_that_waits
def test_slow_reader_gets_all_of_it(ours) -> None:
    """The limit is for the epmd that answers, not for who reads what it answered."""
    names = [f"{number:03}" + "n" * 250 for number in range(800)]
    with Source() as server, contextlib.ExitStack() as nodes:
        for name in names:
            nodes.enter_context(register(server.port, node(name))[0])
        # More than a pipe takes, and it is read only when the limit is over.
        script = f'"$@" | (sleep {TIMEOUT + 1}; cat)'
        listed = run(["sh", "-c", script, "sh", *ours, "-port", str(server.port), "-names"])
    assert listed.stdout.count(b"\n") == 1 + len(names)


@each_that_waits
@pytest.mark.parametrize("call", ["-names", "-started"])
def test_name_server_that_does_not_answer(ours, call: str, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(f"nameserver 127.0.0.1\n{SLOWEST_RESOLVER}\n")
    silent = (
        "import socket, subprocess, sys; silent = socket.socket(type=socket.SOCK_DGRAM); "
        "silent.bind(('127.0.0.1', 53)); sys.exit(subprocess.call(sys.argv[1:]))"
    )
    over = f'mount --bind {tmp_path}/resolv.conf "$(readlink -f /etc/resolv.conf)"'
    line = [*ours, "-host", "nowhere.example", call]
    start = time.monotonic()
    done = run_apart([sys.executable, "-c", silent, *line], prepare=over)
    assert time.monotonic() - start < RESOLVER_GIVES_UP
    said = b"" if call == "-started" else b"epmd: cannot find the host nowhere.example in 10 s\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", said)
