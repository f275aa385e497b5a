"""Addresses of peers: how the log names them, whether they are on this host, whether they are in a network.

IPv4 and IPv4-mapped IPv6 (::ffff:10.0.0.1) are the same: a dual-stack socket gives IPv4 peers the second
form. ipaddress takes 4 ms to import, so it is imported only where networks are named.

C's counterpart: conn_open of epmd_srv.c; networks that may ask are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

Network: TypeAlias = "IPv4Network | IPv6Network"

_MAPPED_PREFIX = 0xFFFF  # of 96 bits


def read_network(network: str | Network) -> Network:
    """The network that is meant, as 10.0.0.0/8; one of IPv4-mapped addresses is an IPv4 network.  An IPv6
    network that is greater than all of those, as ::/0 is, holds IPv6 peers alone.  Raises ValueError."""
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
    """A peer's address as accept gave it; of an IPv4 peer on a dual-stack socket its IPv4 address."""
    mapped = host.removeprefix("::ffff:")
    # ::ffff:1:2:3 is an IPv6 address like any other.
    return host if ":" in mapped else mapped


def is_in(host: str, networks: Collection[Network]) -> bool:
    """Whether a peer's address, as accept gave it, is in one of these networks."""
    if not networks:
        return False  # nobody has imported ipaddress, and an executable that serves imports nothing any more
    from ipaddress import ip_address

    address = ip_address(plain_host(host).partition("%")[0])
    return any(address in network for network in networks)


def is_local(peer: str, own: Callable[[], tuple[Any, ...]]) -> bool:
    """Whether a peer at this address is on this host: over loopback, or from the very address that it
    connected to, which `own` gives as getsockname does.  `own` is called only where loopback does not
    decide."""
    plain = plain_host(peer)
    loopback = peer == "::1" or (":" not in plain and plain.startswith("127."))
    return loopback or peer == own()[0]


def peer_name(peer: tuple[Any, ...]) -> str:
    """A peer as the log names it: ADDRESS:PORT, an IPv6 address in brackets.  `peer` is what accept gave."""
    host, port = plain_host(peer[0]), peer[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
