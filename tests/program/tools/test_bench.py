"""The benchmark: a very short run works, and a wrong reply fails it."""

from __future__ import annotations

import json
import os
import platform
import select
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import counting, load as load_module
from bench.load import NoCompilerError, WrongReplyError, measure, node_fields
from support.paths import C_EPMD, ROOT
from support.patience import LONG, PATIENCE
from support.programs import real
from support.scenes import run_apart


def bench(*options: str):
    """In a network of its own: thousands of connections that have ended stay in a table of the kernel for a
    minute, and whoever reads that meanwhile, as -check does, takes longer."""
    paths = f"{ROOT / 'tests'}:{ROOT / 'build'}"
    command = [sys.executable, "-m", "bench", "--quick", *options]
    return run_apart(command, environ={"PYTHONPATH": paths}, timeout=LONG)


def load(**plan) -> dict[str, float]:
    real("cc")
    core = min(os.sched_getaffinity(0))
    plan = {"kind": "lookup", "nodes": 1, "connections": 1, "seconds": 0.05, "server": os.getpid()} | plan
    return measure(core=core, patience=PATIENCE, **plan)


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
    for program in (C_EPMD, "cc", "erlc"):
        real(program)
    results = tmp_path / "results.json"
    found = bench("--only", "10 nodes, 8 at a time", f"--json={results}")
    assert found.returncode == 0, found.stderr
    page = found.stdout.decode()
    whose = "the system's" if sys.base_prefix == "/usr" else "not the system's"
    for kind in ("lookup", "unknown", "register", "names"):
        for client in ("", "Erlang's client, "):
            for server in ("C", f"Python {platform.python_version()}, {whose}"):
                assert f"| {kind}, {client}10 nodes, 8 at a time | {server} |" in page
    assert "| lookup, 10 nodes, 8 at a time | bare loop |" in page
    assert "in half of the rounds " in page, "what else the machine did"
    cells = json.loads(results.read_text())["scenes"][0]["cells"]
    assert [len(rounds) for cell in cells for rounds in cell["rounds"].values()] == [2] * 17
    assert all(result["requests"] > 0 for cell in cells for result in cell["rounds"]["ours"])


@pytest.mark.slow
def test_nodes_that_start_are_measured():
    real(C_EPMD)
    real("erl")
    found = bench("--only", "start of a node, 8 at a time")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(b"| start of a node, 8 at a time |") == 2


def test_another_python_is_measured_beside(tmp_path):
    real(C_EPMD)
    real("cc")
    other = tmp_path / "python"
    # A link to the environment's Python would not find its packages.
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    found = bench("--only", "lookup, 10 nodes, 8 at a time", f"--beside={other}")
    assert found.returncode == 0, found.stderr
    page = found.stdout.decode()
    assert page.count(f"| lookup, 10 nodes, 8 at a time | Python {platform.python_version()}, ") == 2
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
    result = load(connections=connections, seconds=0.2, port=port)
    assert result["requests"] / result["rate"] >= 0.2


@pytest.mark.parametrize("connections", [1, 8])
@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("lookup", b"w\1"),
        ("lookup", b""),
        ("unknown", b"w\0"),
        ("lookup", b"w\0" + node_fields("held", 0) + b"more"),
        ("names", b"\0\0\x11\x11"),
        ("register", b"v\1\0\0\0\x63"),
        ("register", b"v\0\0\0"),
    ],
)
def test_a_wrong_reply_fails_the_run(says, connections, kind, reply):
    with pytest.raises(WrongReplyError, match="wrong reply"):
        load(kind=kind, connections=connections, port=says(reply))


def test_request_comes_after_its_connection(monkeypatch):
    """Which a server that accepts at once has to wait for."""
    real("cc")  # here, because a skip in the other thread would leave this one waiting
    monkeypatch.setattr(load_module, "PAUSE", 1.0)
    with socket.create_server(("0.0.0.0", 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.settimeout(PATIENCE)
        asked = pool.submit(load, kind="unknown", port=listening.getsockname()[1], seconds=0.1)
        with listening.accept()[0] as sock:
            assert not select.select([sock], [], [], 0)[0]
            assert sock.recv(4096)[:3] == b"\0\x11z"
            sock.sendall(b"w\1")
        assert asked.result()["requests"] == 1


def test_machine_without_a_compiler(monkeypatch):
    load_module.program.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoCompilerError, match="cc is missing: install gcc"):
        measure("lookup", 1, 1, 1, 0.1, os.getpid(), 0, PATIENCE)


def test_lines_that_count_are_those_of_the_program() -> None:
    """It times copies of them."""
    assert counting.unknown_lines() == []
