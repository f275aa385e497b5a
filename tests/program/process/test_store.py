"""The descriptor store of systemd: registrations outlive the process, however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.manager import Manager
from support.paths import BUILT, FOLDER, SOURCE
from support.patience import PATIENCE, wait_until
from support.peer import Peer, ask, names, node, register
from support.procfs import serving
from support.programs import real


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path, FDSTORE="8192")
    yield manager
    manager.close()


@contextlib.contextmanager
def started(
    manager: Manager, *options: str, command: list[str] | None = None
) -> Iterator[Callable[[int], None]]:
    """An epmd that serves. Gives what ends it by a signal."""
    before = manager.tags.count("READY")
    process = manager.start(*options, command=command)
    try:
        # The socket is the manager's: connections to it wait for an epmd that has ended, too.
        wait_until(lambda: manager.tags.count("READY") > before or process.poll() is not None, "it to serve")
        assert process.poll() is None, manager.log.read_bytes()
        names(manager.port)
        yield lambda number: end(process, number)
        # An orderly end, after which it is known what was run, and a signal if something has failed.
        if process.poll() is None:
            ask(manager.port, b"k")
            process.wait(PATIENCE)
    finally:
        end(process, signal.SIGTERM)


def end(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        # systemd signals both processes of the one-file form.
        os.kill(serving(process), number)
        process.wait(PATIENCE)


REQUESTS = [
    node("plain", 4000, highest=5),
    node("hidden", 4001, extra=b"e" * 300),
    node("n" * 255, 4002),
    node("é", 4003, extra=bytes(range(1, 40))),
]


@pytest.mark.measured("SIGKILL-source")
@pytest.mark.parametrize("form", [SOURCE, [FOLDER], [BUILT]], ids=["source", "folder", "one file"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nodes_outlive_the_process(manager: Manager, form: list[str], number: signal.Signals) -> None:
    real(form[0])
    with contextlib.ExitStack() as stack:
        with started(manager, command=form) as finish:
            held, creations = zip(*(register(manager.port, request) for request in REQUESTS), strict=True)
            ended = stack.enter_context(register(manager.port, node("ended"))[0])
            wait_until(lambda: len(manager.entries()) == len(REQUESTS) + 1, "all to be stored")
            before = [ask(manager.port, b"z" + request.name) for request in REQUESTS]
            listed = names(manager.port)
            finish(number)
        ended.close()
        with Peer(manager.port) as first:
            first.send(b"\0\1n")
            with started(manager, command=form):
                listed.remove("ended at port 4711")
                assert first.read_all()[4:].decode().splitlines() == [f"name {line}" for line in listed]
                assert [ask(manager.port, b"z" + request.name) for request in REQUESTS] == before
                wait_until(lambda: len(manager.entries()) == len(REQUESTS), "the ended one to be removed")
                held[3].close()
                wait_until(lambda: len(names(manager.port)) == len(REQUESTS) - 1, "the name to be free")
                wait_until(lambda: len(manager.entries()) == len(REQUESTS) - 1, "its entry to be removed")
                again, creation = register(manager.port, REQUESTS[3])
                assert creation > max(creations)
                wait_until(lambda: len(manager.entries()) == len(REQUESTS), "it to be stored")
                numbers = [int(name.split(".")[1], 16) for name in manager.entries()]
                assert numbers == sorted({*numbers}), "each one is the greatest until then"
                for peer in (again, *held):
                    peer.close()
                wait_until(lambda: not names(manager.port), "all to be gone")
                wait_until(lambda: not manager.entries(), "the store to be empty")
        assert b"took 4 nodes back from systemd's descriptor store" in manager.log.read_bytes()


def test_nodes_outlive_an_end_that_is_asked_for(manager: Manager) -> None:
    with started(manager, "-relaxed_command_check"):
        held, _ = register(manager.port, node("n"))
        wait_until(manager.entries, "it to be stored")
    # `started` has asked for the end, with KILL.
    with started(manager):
        assert names(manager.port) == ["n at port 4711"]
        held.close()
        wait_until(lambda: not names(manager.port), "the name to be free")


def test_hundred_nodes_are_there_at_the_first_answer_after_a_kill(manager: Manager) -> None:
    """systemd was slow: what it has not received yet is sent again."""
    with started(manager, "-relaxed_command_check") as finish:
        wait_until(lambda: "READY" in manager.tags, "the notification")
        with manager.lock:
            held = [register(manager.port, node(f"n{number}"))[0] for number in range(100)]
        lost = b"cannot change systemd's descriptor store"
        wait_until(
            lambda: len(manager.entries()) == 100 or lost in manager.log.read_bytes(), "all to be stored"
        )
        assert lost not in manager.log.read_bytes()
        listed = names(manager.port)
        finish(signal.SIGKILL)
    # A take-over that was killed may have left a second entry of the same connection.
    name = manager.entries()[0]
    manager.store[re.sub(r"\.[0-9a-f]+\.", ".ffffff.", name)] = [*map(os.dup, manager.store[name])]
    with started(manager, "-relaxed_command_check"):
        assert names(manager.port) == [listed[-1], *listed[:-1]]
        wait_until(lambda: len(manager.entries()) == 100, "the other entry to be removed")
        # A duplicate in the store does not keep a connection open that this epmd ends.
        held[0].send(b"?")
        assert ask(manager.port, b"sn1") == b"STOPPED"
        for peer in held[:2]:
            assert not peer.read_all()
        wait_until(lambda: len(manager.entries()) == 98, "both to be removed")
    for peer in held:
        peer.close()


@pytest.mark.parametrize(
    ("environ", "stored"),
    [({}, 0), ({"ERL_EPMD_FDSTORE": "1"}, 1), ({"FDSTORE": "9", "ERL_EPMD_FDSTORE": "0"}, 0)],
    ids=str,
)
def test_when_nodes_are_stored(tmp_path: Path, environ: dict[str, str], stored: int) -> None:
    with contextlib.closing(Manager(tmp_path, **environ)) as manager, started(manager):
        peer, _ = register(manager.port, node("n"))
        wait_until(lambda: "READY" in manager.tags, "the notification")
        wait_until(lambda: len(manager.entries()) == stored, "the node to be stored")
        peer.close()
        wait_until(lambda: not names(manager.port), "the name to be free")
    assert ("FDSTORE" in manager.tags) == bool(stored)


@pytest.mark.measured
def test_store_that_is_full(tmp_path: Path) -> None:
    """One entry is for creations. A node that does not fit is registered all the same."""
    with contextlib.closing(Manager(tmp_path, FDSTORE="2")) as manager, started(manager):
        held = [register(manager.port, node(f"n{number}"))[0] for number in range(3)]
        assert len(names(manager.port)) == 3
        wait_until(lambda: len(manager.entries()) == 1, "the first one to be stored")
        said = manager.log.read_bytes()
        assert b"cannot change systemd's descriptor store: the descriptor store is full" in said
        for peer in held:
            peer.close()
