"""How a wire case is played, against any form: which server, who is there before, how the request is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gevent_epmd.wire import HEADER
from support.forms import Server
from support.patience import wait_until
from support.peer import Peer, ask, barrier, names, register
from support.wire_cases import Case

#: Of a long request only so many bytes at either end go one by one.
ONE_BY_ONE = 16


class Servers:
    """Servers of one form that cases share: one strict, one relaxed, started when first asked for.  A case
    that would see another's late names, or that ends its server, gets its own, until that has ended."""

    def __init__(self, form: type[Server]) -> None:
        self.form = form
        self._running: dict[bool, Server] = {}
        self._own: tuple[Case, Server] | None = None

    @contextmanager
    def server_for(self, case: Case) -> Iterator[Server]:
        server = self._own_of(case) if needs_its_own(case) else self._shared(relaxed=case.relaxed)
        wait_until(lambda: not names(server.port), "the last one's nodes to go")
        yield server

    def _own_of(self, case: Case) -> Server:
        if self._own and (self._own[0] is not case or self._own[1].ended() is not None):
            self._stop_own()
        if not self._own:
            self._own = case, self._start(relaxed=case.relaxed)
        return self._own[1]

    def _stop_own(self) -> None:
        if self._own:
            (_, server), self._own = self._own, None
            server.stop()

    def _shared(self, *, relaxed: bool) -> Server:
        if relaxed not in self._running or self._running[relaxed].ended() is not None:
            self._running[relaxed] = self._start(relaxed=relaxed)
        return self._running[relaxed]

    def _start(self, *, relaxed: bool) -> Server:
        return self.form(*(["-relaxed_command_check"] if relaxed else []))

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_own()
        for server in self._running.values():
            server.stop()


def needs_its_own(case: Case) -> bool:
    """Whether the case needs a server that no other case has seen or will see."""
    return case.ends or case.title.startswith("DUMP")


@contextmanager
def nodes_of(case: Case, port: int) -> Iterator[None]:
    """The case's nodes are there, and its late ones have come and gone."""
    for node in case.gone:
        peer, _ = register(port, node)
        peer.close()
        wait_until(lambda: not names(port), "the late node to go")
    with ExitStack() as holders:
        for node in case.nodes:
            holders.enter_context(register(port, node)[0])
        yield


def send(peer: Peer, request: bytes, mode: str, port: int) -> None:
    """Send it `whole`, `byte by byte`, `glued` to more bytes, or with more bytes that come `later`.  A peer
    that is closed in the middle has sent what there was to send."""
    pieces = _pieces(request, mode)
    for number, piece in enumerate(pieces, 1):
        try:
            peer.send(piece)
        except ConnectionError:
            return
        if number == len(pieces):
            return
        if mode == "later":
            barrier(port)
        else:
            ask(port, b"n")  # bytes that come together now and then do no harm here


def _pieces(request: bytes, mode: str) -> list[bytes]:
    if mode == "byte by byte":
        middle = max(ONE_BY_ONE, len(request) - ONE_BY_ONE)
        pieces = [request[i : i + 1] for i in range(min(ONE_BY_ONE, len(request)))]
        pieces += [request[ONE_BY_ONE:middle]] if len(request) > ONE_BY_ONE else []
        return pieces + [request[i : i + 1] for i in range(middle, len(request))]
    return {
        "whole": [request],
        "glued": [request + b"more"],
        "later": [request[:HEADER], request[HEADER:] + b"more"],
    }[mode]


def listed(port: int) -> list[str]:
    """The names in NAMES, newest first."""
    return [re.sub(r" at port \d+$", "", line) for line in names(port)]
