"""Peer addresses: how the log shows them, whether they are on this host, and whether a network contains them.

An IPv4-mapped IPv6 address (::ffff:10.0.0.1) is treated as the IPv4 address, because a dual-stack socket
reports IPv4 peers in that form. ipaddress takes 4 ms to import, so only functions that deal with networks
import it.

C's counterpart: conn_open of epmd_srv.c. C has no list of allowed networks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any, TypeAlias


Network: TypeAlias = "IPv4Network | IPv6Network"

_MAPPED_PREFIX = 0xFFFF  # the first 96 bits of an IPv4-mapped address


def read_network(network: str | Network) -> Network:
    """Parse a network such as 10.0.0.0/8. Raises ValueError.

    A network of IPv4-mapped addresses becomes an IPv4 network. A wider IPv6 network, such as ::/0, contains
    IPv6 peers only.
    """
    from ipaddress import IPv4Network, ip_network

    try:
        read = ip_network(network)
    except ValueError:
        meant = read_network(ip_network(network, strict=False))
        raise ValueError(f"{network} has host bits set; the network is {meant}") from None
    size = read.prefixlen - 96
    first = int(read.network_address)
    if read.version == 6 and size >= 0 and first >> 32 == _MAPPED_PREFIX:
        return IPv4Network((first & 0xFFFFFFFF, size))
    return read


def plain_host(host: str) -> str:
    """Return a peer's address as reported by accept; that of IPv4 for a peer of a dual-stack socket."""
    mapped = host.removeprefix("::ffff:")
    # ::ffff:1:2:3 is an ordinary IPv6 address.
    return host if ":" in mapped else mapped


def is_in(host: str, networks: Collection[Network]) -> bool:
    """Return whether a peer's address, as reported by accept, is in one of these networks."""
    if not networks:
        # Nobody has imported ipaddress then, and an executable cannot import anything while it serves.
        return False
    from ipaddress import ip_address

    address = ip_address(plain_host(host).partition("%")[0])
    return any(address in network for network in networks)


def is_local(peer: str, own: Callable[[], tuple[Any, ...]]) -> bool:
    """Return whether a peer is on this host: it uses loopback, or the address that it connected to.

    `own` returns that one, as getsockname does. It is called only if `peer` is not a loopback address.
    """
    plain = plain_host(peer)
    loopback = peer == "::1" or (":" not in plain and plain.startswith("127."))
    return loopback or peer == own()[0]


def peer_name(peer: tuple[Any, ...]) -> str:
    """Return a peer, as reported by accept, as the log shows it: ADDRESS:PORT, IPv6 in brackets."""
    host, port = plain_host(peer[0]), peer[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
