"""The table of wire cases: what either side answers, whether it stays connected, and who is listed then.

Nothing here knows what a case should answer: what came is read once the server must have seen all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from comparison.masks import masked
from comparison.rows import NOT_PLAYED, Form, Row, Seen, side_by_side
from support.forms import Server
from support.peer import Peer, barrier, lives
from support.wire_cases import CASES, Case
from support.wire_play import Servers, listed, nodes_of, send

if TYPE_CHECKING:
    from comparison.groups import Plan

MODES = ("whole", "byte by byte")

#: What a reply that registers may have for a creation: C's 1 to 3 in 16 bits, 4 or more in 32.
_CREATION = re.compile(rb"(y\0)\0[\1-\3]|(v\0)(?!\0\0\0[\0-\3]).{4}", re.DOTALL)


def wire(c: Form, ours: Form, _plan: Plan) -> Iterator[Row]:
    return side_by_side("wire", play, c, ours)


def play(form: Form, cases: Iterable[Case] = CASES) -> Iterator[Seen]:
    with Servers(form) as servers:
        for mode in MODES:
            for case in cases:
                with servers.server_for(case) as server:
                    yield Seen(f"{case.title}, {mode}", what_happens(case, mode, server), case.difference)


def what_happens(case: Case, mode: str, server: Server) -> str:
    """What the server does with the request, and who is registered while its peer is there and after."""
    try:
        with nodes_of(case, server.port), Peer(server.port) as peer:
            send(peer, case.request, mode, server.port)
            there = lives(server)
            seen = f"{shown(_all_that_came(peer), server.port)}, {'open' if peer.is_open() else 'closed'}"
            if there:
                seen += f", lists {listed(server.port)}"
                peer.close()
                barrier(server.port)
                seen += f" and then {listed(server.port)}"
    except (AssertionError, OSError) as error:
        return f"{NOT_PLAYED}: {error!r}"
    return f"{seen}, ended: {server.ended()}"


def _all_that_came(peer: Peer) -> bytes:
    got = b""
    while not peer.is_open() and (more := peer.read(1)):
        got += more
    return got


def shown(reply: bytes, port: int) -> str:
    """A reply as text, masked."""
    own = port.to_bytes(4, "big")
    if reply.startswith(own):
        return repr("(PORT)" + masked(reply[len(own) :].decode("utf-8", "backslashreplace"), port))
    return repr(_CREATION.sub(rb"\1\2(CREATION)", reply) if _CREATION.fullmatch(reply) else reply)
