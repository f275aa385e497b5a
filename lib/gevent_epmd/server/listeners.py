"""Opens the listening sockets for the addresses and the port that an epmd is configured with.

Uses plain sockets without gevent, so that a port in use is detected before any slow import. It uses _socket,
because the module socket takes another 4 ms to import.

Invariant: if opening fails, no socket stays open.

C's counterpart: the first half of run() in epmd_srv.c.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
from collections.abc import Iterable, Sequence

from ..conventions import LOOPBACK, LOOPBACK_ALONE, MAX_LISTEN_SOCKETS, EpmdError
from ..records import NamedTuple

#: The limit without the two loopback addresses. C's message has shown this number since OTP 29.
_MOST_ADDRESSES = 14

#: How often to choose another free port if one turns out to be in use on some address.
_TRIES = 20

_ANY = ("0.0.0.0", "::")
#: Where to connect to an address on which something listens.
LOOPBACK_OF_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
#: How long an address of this host may take to accept a connection, in seconds.
_PATIENCE = 1.0


class PortInUseError(EpmdError, OSError):
    """The port of this address is in use, most likely by an epmd. That is not an error for most callers."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"there is already a epmd running at port {port} on ipaddr {host}")
        self.errno = errno.EADDRINUSE
        self.host = host
        self.port = port

    def __reduce__(self) -> tuple[type[PortInUseError], tuple[str, int]]:
        return type(self), (self.host, self.port)


class ListenError(EpmdError):
    """Listening as configured is not possible. The message gives the reason."""


class AddressError(ListenError):
    """The list of addresses is invalid."""


class Place(NamedTuple):
    """An address to listen on. `asked` is whether it is an error if the address is not available."""

    family: int
    host: str
    asked: bool


def open_listeners(addresses: Sequence[str] | None, port: int) -> list[_socket.socket]:
    """Listen on the addresses and on both loopback addresses. Returns non-blocking sockets.

    An empty sequence means every address; None means the loopback addresses that this host has. With port 0
    the system chooses one free port for all sockets. Raises PortInUseError and ListenError.
    """
    chosen = places(addresses)
    for _ in range(_TRIES if port == 0 else 0):
        try:
            return _open_all(chosen, 0)
        except PortInUseError:
            pass  # free on the first address, but not on all
    return _open_all(chosen, port)


def _open_all(
    chosen: Iterable[Place], port: int, beside: _socket.socket | None = None
) -> list[_socket.socket]:
    """Listen on these places, and share the port with the socket `beside`, if there is one."""
    listening: list[_socket.socket] = []
    try:
        for place in chosen:
            sock = _open(place, port, beside)
            if sock is not None:
                listening.append(sock)
                port = port or sock.getsockname()[1]
        if not listening and beside is None:
            raise ListenError("failed to bind on any loopback address")
    except BaseException:
        close_all(listening)
        raise
    return listening


def change_addresses(
    sockets: Sequence[_socket.socket], addresses: Sequence[str] | None
) -> tuple[list[_socket.socket], list[_socket.socket]]:
    """Listen on these addresses, at the port of sockets that listen already. All of them go on.

    Returns the sockets that serve from now on, and those that are to be closed. Raises ListenError.
    """
    port = sockets[0].getsockname()[1]
    old = {(sock.family, sock.getsockname()[0]): sock for sock in sockets}
    chosen = places(addresses)
    missing = [place for place in chosen if place[:2] not in old]
    try:
        # Without it, a wildcard and one of the addresses that it covers cannot both be listened on.
        _share(sockets, on=True)
        new = _open_all(missing, port, sockets[0])
    finally:
        # Processes of this user alone could share the port too.
        _share(sockets, on=False)
    _share(new, on=False)
    wanted = [old.pop(place[:2]) for place in chosen if place[:2] in old]
    if not wanted and not new:
        raise ListenError("failed to bind on any loopback address")
    return wanted + new, list(old.values())


def _share(sockets: Iterable[_socket.socket], *, on: bool) -> None:
    for sock in sockets:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, on)


def close_all(sockets: Iterable[_socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def places(addresses: Iterable[str] | None) -> list[Place]:
    """Return where to listen, without duplicates and without addresses that a wildcard covers.

    None means loopback only. Raises ListenError.
    """
    if addresses is None:
        return [Place(_family(host), host, False) for host in LOOPBACK_ALONE]
    asked = [Place(_family(address), _canonical(address), True) for address in addresses]
    implied = LOOPBACK if asked else _ANY
    # Loopback comes last, as in C since OTP 29, so a missing address is an error even if an epmd is running.
    wanted = asked + [Place(_family(host), host, not asked and ":" not in host) for host in implied]
    wild = {place.family for place in wanted if place.host in _ANY}
    chosen: dict[tuple[int, str], Place] = {}
    for place in wanted:
        if place.host in _ANY or place.family not in wild:
            chosen.setdefault((place.family, place.host), place)
    if len(chosen) > MAX_LISTEN_SOCKETS:
        raise AddressError(f"cannot listen on more than {_MOST_ADDRESSES} IP addresses")
    return list(chosen.values())


def _family(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


def _canonical(address: str) -> str:
    family = _family(address)
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, address))
    except (OSError, ValueError):
        raise AddressError(f'cannot parse IP address "{address}"') from None


def _open(place: Place, port: int, beside: _socket.socket | None = None) -> _socket.socket | None:
    """Return a listening socket, or None if an address that is not required is not available.

    It may share the port with the socket `beside`. Raises PortInUseError, but not with such a socket, and
    ListenError.
    """
    try:
        return _listen(place, port, beside)
    except OSError as error:
        is_in_use = error.errno == errno.EADDRINUSE
        if is_in_use and beside is None:
            raise PortInUseError(place.host, port) from None
        if is_in_use or place.asked:
            raise ListenError(f"failed to bind on ipaddr {place.host}: {error.strerror}") from None
        return None


def _listen(place: Place, port: int, beside: _socket.socket | None) -> _socket.socket:
    if sys.platform != "linux" and port and _is_served(place, port):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    sock = _socket.socket(place.family, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if place.family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        if beside is not None:
            _share([sock], on=True)
            owner = os.fstat(beside.fileno()).st_uid
            if owner != os.geteuid():
                os.fchown(sock.fileno(), owner, -1)  # only sockets of one user share a port
        sock.bind((place.host, port))
        # With SO_REUSEADDR, Linux reports a second listener on the same port only here, not in bind.
        sock.listen(_socket.SOMAXCONN)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_served(place: Place, port: int) -> bool:
    """Return whether somebody accepts connections there.

    With SO_REUSEADDR, the BSDs and macOS let one socket listen on an address while another one listens on all
    addresses. Without it, connections that ended recently would block the port.
    """
    try:
        connected(LOOPBACK_OF_ANY.get(place.host, place.host), port).close()
    except OSError:
        return False
    return True


def connected(host: str, port: int) -> _socket.socket:
    """Return a connection to an address of this host. Raises OSError, also if the kernel lacks the family.

    The kernel completes it, even if nobody accepts it yet.
    """
    sock = _socket.socket(_family(host), _socket.SOCK_STREAM)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def open_descriptors(most: int) -> Iterable[int]:
    """Return the descriptors that are open, and perhaps others: all up to `most` if nothing lists them."""
    try:
        listed = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        listed = []  # no /proc, as in a bare chroot
    # FreeBSD lists the standard ones alone, where no fdescfs is mounted.
    return listed if max(listed, default=0) > 2 else range(most)
