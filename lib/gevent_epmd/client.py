"""The interactive calls: ask the epmd of this host (C: epmd_cli.c).

Plain blocking sockets and nothing else: these calls are made at every start of an Erlang node, and
what they import is paid for there; what the module socket puts around _socket is 4 ms.  Everything goes
to stdout with os.write, so that the bytes of a node's name reach it as they are.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable
from contextlib import closing

from . import protocol
from .options import Options

_HOSTS = ((_socket.AF_INET6, "::1"), (_socket.AF_INET, "127.0.0.1"))
_BUFFER = 65536
#: C puts the name into a buffer of its own, and refuses more.
_LONGEST_STOP_NAME = 1000


class NoAnswer(Exception):
    """The call was made in vain; the text is for stdout, as C has it."""


class _NoEpmd(NoAnswer):
    """There is nobody to ask; the text, unlike all others, is for stderr."""


def call(options: Options) -> int:
    """Make the call that the options name; gives the exit status."""
    try:
        return _CALLS[options.command or ""](options)
    except NoAnswer as error:
        _write(2 if isinstance(error, _NoEpmd) else 1, str(error).encode())
        return 1


def _names(options: Options) -> int:
    return _list(options, protocol.NAMES_REQ)


def _dump(options: Options) -> int:
    return _list(options, protocol.DUMP_REQ)


def _started(options: Options) -> int:
    try:
        with closing(_ask(options.port, protocol.BareRequest(protocol.NAMES_REQ).packet())) as sock:
            _mapper_port(sock)
            return 0
    except NoAnswer:
        return 1


def _list(options: Options, tag: int) -> int:
    with closing(_ask(options.port, protocol.BareRequest(tag).packet())) as sock:
        port = _mapper_port(sock)
        _write(1, f"epmd: up and running on port {port} with data:\n".encode())
        try:
            while text := sock.recv(_BUFFER):
                _write(1, text)
        except OSError:
            pass  # a reset ends the listing as a close does
    return 0


def _mapper_port(sock: _socket.socket) -> int:
    try:
        head = _read(sock, protocol.LISTING_PORT_SIZE)
    except OSError:
        head = b""
    if len(head) < protocol.LISTING_PORT_SIZE:
        raise NoAnswer("epmd: no response from local epmd\n")
    return protocol.listing_port(head)


def _kill(options: Options) -> int:
    packet = protocol.BareRequest(protocol.KILL_REQ).packet()
    killed = _answer(options.port, packet, len(protocol.KILL_OK)) == protocol.KILL_OK
    _write(1, b"Killed\n" if killed else b"Killing not allowed - living nodes in database.\n")
    return 0 if killed else 1


def _stop(options: Options) -> int:
    name = os.fsencode(options.stop_name)
    if len(name) > _LONGEST_STOP_NAME:
        raise NoAnswer("epmd: Name too long!")
    packet = protocol.StopRequest(name).packet()
    _write(1, _answer(options.port, packet, len(protocol.STOPPED)) + b"\n")
    return 0


_CALLS: dict[str, Callable[[Options], int]] = {
    "names": _names,
    "dump": _dump,
    "started": _started,
    "kill": _kill,
    "stop": _stop,
}


def _answer(port: int, packet: bytes, size: int) -> bytes:
    """The reply to a request whose every reply has the same size."""
    with closing(_ask(port, packet)) as sock:
        try:
            answer = _read(sock, size)
        except OSError:
            raise NoAnswer("epmd: failed to read answer from local epmd\n") from None
    if len(answer) < size:
        raise NoAnswer("epmd: local epmd responded with <>\n")
    return answer


def _ask(port: int, packet: bytes) -> _socket.socket:
    """A connection over which the request is already on its way."""
    sock = _connect(port)
    try:
        sock.sendall(protocol.frame(packet))
    except OSError:
        sock.close()
        raise NoAnswer("epmd: Can't write to epmd\n") from None
    return sock


def _connect(port: int) -> _socket.socket:
    for family, host in _HOSTS:
        try:
            sock = _socket.socket(family, _socket.SOCK_STREAM)
        except OSError:
            continue  # a kernel without IPv6
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
        else:
            return sock
    raise _NoEpmd("epmd: Cannot connect to local epmd\n")


def _read(sock: _socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the other end closes first.  Raises OSError."""
    got = b""
    while len(got) < size and (more := sock.recv(size - len(got))):
        got += more
    return got


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        pass  # a full disk changes neither what is said elsewhere nor the status, as in C
