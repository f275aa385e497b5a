"""Options -> bound, listening sockets (C: the first half of run() in epmd_srv.c).

Plain sockets, no gevent: a port in use is found out before anything slow is imported; what the module
socket puts around _socket is 4 ms.
"""

from __future__ import annotations

import _socket
import errno
from collections.abc import Iterable, Sequence

from ..conventions import LOOPBACK, LOOPBACK_ALONE, MAX_LISTEN_SOCKETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from ..records import NamedTuple

#: What is left of them beside loopback, which is what C tells since OTP 29.
_MOST_ADDRESSES = 14

#: How often to choose a free port that turns out not to be free everywhere.
_TRIES = 20

_ANY = ("0.0.0.0", "::")


class PortInUse(Exception):
    """Somebody has this port of this address already, an epmd most likely: no reason to complain."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"there is already a epmd running at port {port} on ipaddr {host}")
        self.host = host
        self.port = port


class ListenError(Exception):
    """There is no serving where it was asked for; the text says why."""


class Place(NamedTuple):
    """Where to listen; `asked` is False for what nobody named and nobody may miss."""

    family: int
    host: str
    asked: bool


def open_listeners(addresses: Sequence[str] | None, port: int) -> list[_socket.socket]:
    """Listen on the addresses and on both loopbacks, or everywhere if there are no addresses, or, for None,
    on the loopback addresses that this host has.

    The sockets do not block.  Port 0 lets the system choose, once for all of them.
    Raises PortInUse and ListenError, and leaves nothing open then.
    """
    for _ in range(_TRIES if port == 0 else 0):
        try:
            return _open_all(addresses, 0)
        except PortInUse:
            pass  # free on the first address, but not on all
    return _open_all(addresses, port)


def _open_all(addresses: Sequence[str] | None, port: int) -> list[_socket.socket]:
    listening: list[_socket.socket] = []
    try:
        for place in places(addresses):
            sock = _open(place, port)
            if sock is not None:
                listening.append(sock)
                port = port or sock.getsockname()[1]
        if not listening:
            raise ListenError("failed to bind on any loopback address")
    except BaseException:
        close_all(listening)
        raise
    return listening


def close_all(sockets: Iterable[_socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def places(addresses: Iterable[str] | None) -> list[Place]:
    """Where to listen, each place once, and none that a wildcard covers; None is loopback alone.  Raises
    ListenError."""
    if addresses is None:
        return [Place(_family(host), host, False) for host in LOOPBACK_ALONE]
    hosts = [(_family(address), address) for address in addresses]
    asked = [Place(family, _canonical(family, host), True) for family, host in hosts]
    implied = LOOPBACK if asked else _ANY
    # Loopback last, as in C since OTP 29: a missing address is an error even beside a running epmd.
    wanted = asked + [Place(_family(host), host, not asked and ":" not in host) for host in implied]
    wild = {place.family for place in wanted if place.host in _ANY}
    chosen: dict[tuple[int, str], Place] = {}
    for place in wanted:
        if place.host in _ANY or place.family not in wild:
            chosen.setdefault((place.family, place.host), place)
    if len(chosen) > MAX_LISTEN_SOCKETS:
        raise ListenError(f"cannot listen on more than {_MOST_ADDRESSES} IP addresses")
    return list(chosen.values())


def _family(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


def _canonical(family: int, address: str) -> str:
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, address))
    except (OSError, ValueError):
        raise ListenError(f'cannot parse IP address "{address}"') from None


def _open(place: Place, port: int) -> _socket.socket | None:
    """A listening socket, or None where a place that nobody asked for is not to be had (on a host
    without IPv6, for one)."""
    try:
        return _listen(place, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(place.host, port) from None
        if place.asked:
            raise ListenError(f"failed to bind on ipaddr {place.host}: {error.strerror}") from None
        return None


def _listen(place: Place, port: int) -> _socket.socket:
    sock = _socket.socket(place.family, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if place.family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((place.host, port))
        # Linux tells two listeners of one port apart only here, where SO_REUSEADDR is set.
        sock.listen(_socket.SOMAXCONN)
    except BaseException:
        sock.close()
        raise
    return sock
