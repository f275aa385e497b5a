"""The benchmark: a very short run works, and a wrong reply fails it."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

import pytest

from bench.load import node_fields
from support.paths import C_EPMD, ROOT
from support.patience import LONG
from support.programs import real, run

BENCH = ROOT / "tests" / "bench"


def bench(*options: str):
    paths = f"{ROOT / 'tests'}:{ROOT / 'build'}"
    command = [sys.executable, "-m", "bench", "--quick", *options]
    return run(command, environ={"PYTHONPATH": paths}, timeout=LONG)


def load(**plan):
    plan = {"kind": "lookup", "nodes": 1, "connections": 1, "seconds": 0.05, "cores": [0]} | plan
    return run([sys.executable, "-S", str(BENCH / "load.py"), json.dumps(plan)])


@pytest.fixture
def says():
    """Starts a server that says this to each request, and closes; gives its port."""
    with socket.create_server(("0.0.0.0", 0)) as listening:

        def serve(reply: bytes) -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(4096)
                    sock.sendall(reply)

        def start(reply: bytes) -> int:
            threading.Thread(target=serve, args=(reply,), daemon=True).start()
            return listening.getsockname()[1]

        yield start
        listening.shutdown(socket.SHUT_RDWR)


def test_a_short_run_measures_both_in_its_cells(tmp_path):
    real(C_EPMD)
    results = tmp_path / "results.json"
    found = bench("--only", "10 nodes, 8 at a time", f"--json={results}")
    assert found.returncode == 0, found.stderr
    page = found.stdout.decode()
    for cell in (
        "lookup, 10 nodes, 8 at a time",
        "register, 10 nodes, 8",
        "names, 10 nodes, 8",
        "bare loop, 8",
    ):
        assert f"| {cell}" in page
    cells = json.loads(results.read_text())["scenes"][0]["cells"]
    assert [len(rounds) for cell in cells for rounds in cell["rounds"].values()] == [3] * 7
    assert all(result["requests"] > 0 for cell in cells for result in cell["rounds"]["ours"])


def test_another_python_is_measured_beside(tmp_path):
    real(C_EPMD)
    other = tmp_path / "python"
    # A link to the environment's Python would not find its packages.
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    found = bench("--only", "lookup, 10 nodes, 8 at a time", f"--beside={other}")
    assert found.returncode == 0, found.stderr
    page = found.stdout.decode()
    assert "throughput beside/C | CPU beside/C" in page
    assert "--beside=PYTHON" in page, "nobody wants to know where it is"
    assert str(other) not in page


@pytest.mark.parametrize("python", ["/bin/false", "/nonexistent"])
def test_python_beside_that_cannot_serve(python):
    found = bench("--only", "lookup, 10 nodes, 8 at a time", f"--beside={python}")
    assert (found.returncode, found.stderr.count(b"\n")) == (1, 1)
    assert found.stderr.startswith(f"bench: --beside: {python}".encode())


def test_the_start_up_is_measured_too():
    real(C_EPMD)
    found = bench("--only", "startup")
    assert found.returncode == 0, found.stderr
    assert b"| `-names` |" in found.stdout


@pytest.mark.parametrize("connections", [1, 2])
def test_it_asks_for_as_long_as_it_was_told(says, connections):
    """Also where for a moment nobody waits for an answer."""
    port = says(b"w\0" + node_fields("held", 0))
    found = load(connections=connections, seconds=0.5, port=port, server=os.getpid())
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["requests"] / result["rate"] >= 0.5


@pytest.mark.parametrize("connections", [1, 8])
@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("lookup", b"w\1"),
        ("lookup", b""),
        ("lookup", b"w\0" + node_fields("held", 0) + b"more"),
        ("names", b"\0\0\x11\x11"),
        ("register", b"v\1\0\0\0\x63"),
        ("register", b"v\0\0\0"),
    ],
)
def test_a_wrong_reply_fails_the_run(says, connections, kind, reply):
    found = load(kind=kind, connections=connections, port=says(reply), server=os.getpid())
    assert found.returncode == 1
    assert b"wrong reply" in found.stderr
