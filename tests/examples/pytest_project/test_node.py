"""Erlang nodes, each test's over an epmd of its own: the names do not clash, whatever else runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from gevent_epmd.testing import EpmdProcess

pytestmark = pytest.mark.skipif(shutil.which("erl") is None, reason="erl is not installed")


def erl(name: str, code: str) -> list[str]:
    return ["erl", "-name", f"{name}@127.0.0.1", "-setcookie", "biscuit", "-noshell", "-eval", code]


@contextmanager
def node(
    epmd: EpmdProcess, name: str, last: str = "halt()."
) -> Generator[subprocess.Popen[bytes], None, None]:
    """A node that lives until its stdin is closed, so that it ends with the tests, too; then it does this."""
    command = erl(name, f"io:get_line(''), {last}")
    with subprocess.Popen(command, env=epmd.environ, stdin=subprocess.PIPE) as process:
        epmd.wait_for(name, timeout=60)
        yield process


@pytest.mark.parametrize("answer", ["pong", "pang"])
def test_node_is_found(epmd: EpmdProcess, answer: str) -> None:
    ping = f"{answer} = net_adm:ping('sample@127.0.0.1'), halt()."
    with node(epmd, "sample") as sample, node(epmd, "other", ping) as other:
        if answer == "pang":
            # Not by kill_node: a node registers again 2 s later, which may be before the other one asks.
            sample.kill()
            epmd.wait_gone("sample")
        assert other.stdin is not None
        other.stdin.close()
        assert other.wait(timeout=60) == 0
    epmd.wait_gone("sample")


def test_node_comes_back(epmd: EpmdProcess) -> None:
    with node(epmd, "sample"):
        epmd.restart()
        epmd.wait_for("sample", timeout=60)


def test_node_and_one_that_is_played(epmd: EpmdProcess) -> None:
    with epmd.register("played", 4711), node(epmd, "sample"):
        ask = (
            '{ok, Names} = net_adm:names({127,0,0,1}), {_, 4711} = lists:keyfind("played", 1, Names), halt().'
        )
        subprocess.run(erl("other", ask), env=epmd.environ, check=True, timeout=60)


def test_no_epmd_is_started_behind_our_back(epmd: EpmdProcess) -> None:
    epmd.close()
    done = subprocess.run(erl("sample", "halt()."), env=epmd.environ, capture_output=True, timeout=60)
    assert done.returncode != 0
    assert b"econnrefused" in done.stdout
