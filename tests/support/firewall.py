"""Ports that a firewall seems to block: every packet to them is dropped."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator

#: A program for a socket that drops every packet: return 0, by linux/filter.h.
_RETURN_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


@contextlib.contextmanager
def blocked_port(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that a firewall seems to block: it listens, and every packet to it is dropped."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        drop_packets(listener)
        yield listener.getsockname()[1]


def drop_packets(listener: socket.socket) -> None:
    """Let a listening socket drop every packet to it, as a firewall would."""
    code = ctypes.create_string_buffer(_RETURN_NOTHING)
    program = struct.pack("HP", 1, ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def let_packets_through(listener: socket.socket) -> None:
    """End what `drop_packets` began."""
    listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
