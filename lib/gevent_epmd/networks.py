"""Networks whose hosts may ask, and whether a peer is in one of them.

IPv4 and IPv4-mapped IPv6 (::ffff:10.0.0.1) are one thing: a dual-stack socket gives IPv4 peers the second
form.  ipaddress, which takes 4 ms to import, is loaded where networks are named, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

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


def is_in(host: str, networks: Iterable[Network]) -> bool:
    """Whether a peer's address, as accept gave it, is in one of these networks."""
    from ipaddress import ip_address

    address = ip_address(plain_host(host).partition("%")[0])
    return any(address in network for network in networks)
