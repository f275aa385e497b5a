"""A crash with nodes registered, and a start at the same port at once."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack

from soak.crowd import still_serves
from soak.play import Figures, Form, Scale, scene
from support.patience import LONG, wait_until
from support.peer import names, node, register
from support.programs import clean_environment, real

_NODES = 200
_OPTIONS = ["-setcookie", "biscuit", "-start_epmd", "false", "+S", "1:1", "-noshell"]
_OPTIONS += ["-eval", "receive stop -> ok end."]


@scene("SIGKILL with 200 live nodes, 50 of them of Erlang, and a start at once")
def restart(form: Form, scale: Scale) -> Figures:
    of_erlang = scale.of(50, 1)
    with ExitStack() as stack:
        server = stack.enter_context(form())
        home = stack.enter_context(tempfile.TemporaryDirectory())
        nodes = [stack.enter_context(ErlangNode(f"erl{n}", server.port, home)) for n in range(of_erlang)]
        expected = {each.name for each in nodes}
        wait_until(lambda: expected <= live(server.port), "the nodes of Erlang to be up", LONG)
        ours = [f"n{number}" for number in range(_NODES - of_erlang)]
        # A creation comes from the second: crash and start are to be in the same one.
        wait_until(lambda: time.time() % 1 < 0.05, "a second to begin")
        seen = creations(stack, server.port, ours)
        server.kill_and_start_again()
        start = time.monotonic()
        again = creations(stack, server.port, ours)
        wait_until(lambda: expected <= live(server.port), "the nodes of Erlang to be back")
        back = time.monotonic() - start
        still_serves(server)
    repeated = sum(seen[name] == again[name] for name in ours)
    assert back < scale.promised(3), f"it took {back:.1f} s until all were back"
    assert repeated == 0, f"{repeated} of {len(ours)} creations were those from before"
    return {"of Erlang": of_erlang, "back after s": round(back, 1), "creations repeated": repeated}


def live(port: int) -> set[str]:
    return {line.split(" ")[0] for line in names(port)}


def creations(stack: ExitStack, port: int, of: list[str]) -> dict[str, int]:
    """Register them all, for as long as the stack; the creation of each."""
    got = {}
    for name in of:
        peer, got[name] = register(port, node(name))
        stack.enter_context(peer)
    return got


class ErlangNode:
    """`erl`, that does nothing but stay registered."""

    def __init__(self, name: str, port: int, home: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [real("erl"), "-sname", name, *_OPTIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=clean_environment(ERL_EPMD_PORT=str(port), HOME=home),
            start_new_session=True,
        )

    def __enter__(self) -> ErlangNode:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
