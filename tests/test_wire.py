"""The table of wire cases against every form, each whole, cut into bytes, and with bytes after it."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest
from comparison.differences import is_listed
from forms import FORMS, C, InProcess, wait_until
from peer import Peer, ask, barrier, names, register
from wire_cases import CASES, Case

from gevent_epmd.protocol import HEADER, MAX_PACKET

MODES = ["whole", "byte by byte", "glued", "later"]
#: Of a long request only so many bytes at either end go one by one.
ONE_BY_ONE = 16


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.__name__)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def servers(form):
    """Servers of one form, started when first asked for: strict and relaxed."""
    running = {}

    def get(*, relaxed: bool):
        if relaxed not in running or running[relaxed].ended() is not None:
            running[relaxed] = form(*(["-relaxed_command_check"] if relaxed else []))
        return running[relaxed]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture
def server(case: Case, form, servers):
    """A server that knows no late names where the case would see them, and no nodes at all."""
    if case.ends or b"DUMP" in case.title.encode():
        with form(*(["-relaxed_command_check"] if case.relaxed else [])) as fresh:
            yield fresh
    else:
        shared = servers(relaxed=case.relaxed)
        wait_until(lambda: not names(shared.port), "the last case's nodes to go")
        yield shared


def send(peer: Peer, case: Case, mode: str, port: int) -> None:
    request = case.request
    if mode == "byte by byte":
        middle = max(ONE_BY_ONE, len(request) - ONE_BY_ONE)
        pieces = [request[i : i + 1] for i in range(min(ONE_BY_ONE, len(request)))]
        pieces += [request[ONE_BY_ONE:middle]] if len(request) > ONE_BY_ONE else []
        pieces += [request[i : i + 1] for i in range(middle, len(request))]
    else:
        pieces = {
            "whole": [request],
            "glued": [request + b"more"],
            "later": [request[:HEADER], request[HEADER:] + b"more"],
        }[mode]
    for number, piece in enumerate(pieces, 1):
        try:
            peer.send(piece)
        except ConnectionError:
            return  # closed in the middle of a bad request
        if number == len(pieces):
            return
        if mode == "later":
            barrier(port)
        else:
            ask(port, b"n")  # bytes that come together now and then do no harm here


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_case(case: Case, mode: str, server) -> None:
    port = server.port
    for node in case.gone:
        peer, _ = register(port, node)
        peer.close()
        wait_until(lambda: not names(port), "the late node to go")
    with ExitStack() as holders:
        for node in case.nodes:
            holders.enter_context(register(port, node)[0])
        check(case, mode, server)


def check(case: Case, mode: str, server) -> None:
    port = server.port
    already = [node.name.decode() for node in reversed(case.nodes)]
    with Peer(port) as peer:
        send(peer, case, mode, port)
        # A packet as long as it may be fills the read: what is glued to it is not seen.
        if mode == "glued" and len(case.request) < HEADER + MAX_PACKET:
            assert peer.read_all() == b""
            assert listed(port) == already
            return
        expected = case.expected(port, of_c=server.is_c)
        if case.keeps_open(of_c=server.is_c) and mode != "later":
            size = 6 if case.request[8:9] >= b"\6" else 4
            assert expected.fullmatch(peer.read(size))
            barrier(port)
            assert peer.is_open()
            if case.left is not None:
                assert listed(port) == list(case.left)
        else:
            assert expected.fullmatch(peer.read_all())
    if case.ends:
        wait_until(lambda: server.ended() == 0, "the server to end")
    elif case.stays:
        # The peer has closed by now, or has sent more than it may: either ends its registration.
        wait_until(lambda: listed(port) == already, "the node to go")
    else:
        assert listed(port) == (already if case.left is None else list(case.left))


def listed(port: int) -> list[str]:
    return [re.sub(r" at port \d+$", "", line) for line in names(port)]


def test_table_is_large_enough_and_its_differences_are_listed() -> None:
    assert len(CASES) >= 80
    differences = {case.difference for case in CASES if case.c_reply is not None}
    assert differences
    assert [difference for difference in differences if not is_listed(difference)] == []


def test_forms_are_what_they_say() -> None:
    assert [form.is_c for form in FORMS] == [False, False, False, True]
    assert InProcess in FORMS
    assert C in FORMS
