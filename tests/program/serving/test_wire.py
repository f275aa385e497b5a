"""The table of wire cases against every form, each whole, cut into bytes, and with bytes after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gevent_epmd.protocol import MAX_PACKET
from gevent_epmd.wire import HEADER
from support.differences import is_listed
from support.forms import FORMS, Built, C, InProcess
from support.patience import wait_until
from support.peer import Peer, barrier
from support.wire_cases import CASES, Case
from support.wire_play import Servers, listed, nodes_of, send

MODES = ["whole", "byte by byte", "glued", "later"]


def asks(case: Case) -> bool:
    """Whether it changes nothing: what asks again gets the same answer."""
    return case.request[HEADER : HEADER + 1] in (b"z", b"n")


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.__name__)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def servers(form):
    with Servers(form) as running:
        yield running


@pytest.mark.measured("extra data", "letters", "UTF-8", "no name", "empty name", "old", "NUL", "of nobody")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_case(case: Case, servers) -> None:
    """In every mode, and what only asks three times over: from the second time on, ours need not parse it."""
    # The launcher of the one-file form has no part in how it serves.
    for mode in MODES[:1] if servers.form is Built else MODES:
        with told(mode), servers.server_for(case) as server, nodes_of(case, server.port):
            for _ in range(3 if mode == "whole" and asks(case) else 1):
                check(case, mode, server)


@contextmanager
def told(mode: str) -> Iterator[None]:
    """What fails in it names the mode."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the request was sent {mode}")
        raise


def check(case: Case, mode: str, server) -> None:
    port = server.port
    already = [node.name.decode() for node in reversed(case.nodes)]
    with Peer(port) as peer:
        send(peer, case.request, mode, port)
        # A packet as long as it may be fills the read: what is glued to it is not seen.
        if mode == "glued" and len(case.request) < HEADER + MAX_PACKET:
            assert peer.read_all() == b""
            assert listed(port) == already
            return
        of_c = bool(case.difference) and server.differs_in(case.difference)
        expected = case.expected(port, of_c=of_c)
        if case.keeps_open(of_c=of_c) and mode != "later":
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


def test_table_is_large_enough_and_its_differences_are_listed() -> None:
    assert len(CASES) >= 80
    differences = {case.difference for case in CASES if case.c_reply is not None}
    assert differences
    assert [difference for difference in differences if not is_listed(difference)] == []


def test_forms_are_what_they_say() -> None:
    assert [form.is_c for form in FORMS] == [False, False, False, False, True]
    assert InProcess in FORMS
    assert C in FORMS
