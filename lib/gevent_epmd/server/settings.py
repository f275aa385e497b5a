"""The settings of a port mapper, checked before it serves."""

from __future__ import annotations

from collections.abc import Iterable

from ..records import NamedTuple
from ..wire import DEFAULT_PORT, MOST_PORT
from .networks import Network, read_network

DEFAULT_PACKET_TIMEOUT = 60


class Settings(NamedTuple):
    """The settings of one port mapper. Times are in seconds, and 0 means none.

    `port` 0 means any free port. `addresses` are the IP addresses to listen on, in addition to loopback; an
    empty tuple means every address of this host, None loopback only. `relaxed` is C's relaxed_command_check.
    `allow` lists the networks whose hosts may connect; None means all. `allow_register` lists networks whose
    hosts may connect and also register nodes, which otherwise only this host may. `not_local` lists networks
    whose peers count as other hosts, although their addresses are local: those of a proxy on this host.
    `debug` is how often -d was given.
    """

    port: int = DEFAULT_PORT
    addresses: tuple[str, ...] | None = ()
    relaxed: bool = False
    allow: tuple[Network, ...] | None = None
    allow_register: tuple[Network, ...] = ()
    not_local: tuple[Network, ...] = ()
    packet_timeout: int = DEFAULT_PACKET_TIMEOUT
    idle_exit: int = 0
    delay_accept: int = 0
    delay_write: int = 0
    debug: int = 0


def checked(
    *,
    addresses: Iterable[str] | None,
    allow: Iterable[str | Network] | None,
    allow_register: Iterable[str | Network] | None,
    not_local: Iterable[str | Network],
    relaxed: bool,
    **numbers: int,
) -> Settings:
    """Build Settings from a program's arguments. Raises ValueError for a value that is out of range."""
    for name, value in (("addresses", addresses), ("allow", allow), ("allow_register", allow_register)):
        if isinstance(value, str):
            raise ValueError(f'{name}: "{value}" is a string, not a list of strings')
    settings = Settings(
        addresses=None if addresses is None else tuple(addresses),
        allow=None if allow is None else tuple(map(read_network, allow)),
        allow_register=tuple(map(read_network, allow_register or ())),
        not_local=tuple(map(read_network, not_local)),
        relaxed=relaxed,
        **numbers,
    )
    _check("port", settings.port, 0, MOST_PORT)
    _check("packet_timeout", settings.packet_timeout, 1)
    for name in ("idle_exit", "delay_accept", "delay_write", "debug"):
        _check(name, getattr(settings, name), 0)
    return settings


def _check(name: str, number: int, least: int, most: int | None = None) -> None:
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {limits}, not {number}")
