"""How one end of a call connects."""

from __future__ import annotations

import socket

import pytest

from gevent_epmd.client.exchange import connect


def test_connection_to_itself_is_refused() -> None:
    """The kernel makes one where nobody listens at the port, and this end has got that number."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            connect(sock, sock.getsockname())


def test_connection_to_another_one_is_none_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        connect(sock, server.getsockname())
        assert sock.getpeername() == server.getsockname()
