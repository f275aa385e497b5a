"""Checks the arguments of a client before anything is sent: the same for every call and kind of client.

TypeError is raised for a value of another type, and ValueError for one that no epmd could accept.
"""

from __future__ import annotations

import _socket
import math

from ..conventions import MOST_SECONDS
from ..protocol import MAX_NAME_CHARACTERS, MAX_SYMBOL_BYTES, Alive2Request
from ..wire import MOST_PORT

NORMAL_NODE, HIDDEN_NODE = 77, 72

#: How many characters of an invalid name an error shows.
_SHOWN = 300
#: The versions of the distribution protocol that a registered node supports.
_HIGHEST, _LOWEST = 6, 5


def request_of(name: object, node_port: object, *, hidden: bool, extra: object) -> Alive2Request:
    """Return the request to register a node."""
    if not isinstance(extra, bytes):
        raise TypeError(f"extra: bytes are needed, not {type(extra).__name__}")
    if len(extra) > MAX_SYMBOL_BYTES:
        raise ValueError(f"extra: {len(extra)} bytes are more than {MAX_SYMBOL_BYTES}")
    kind = HIDDEN_NODE if hidden else NORMAL_NODE
    number = port_of(node_port, "node_port")
    return Alive2Request(number, kind, 0, _HIGHEST, _LOWEST, name_of(name), extra)


def name_of(name: object) -> bytes:
    """Return a node's name, without a host, as it is sent."""
    if not isinstance(name, str):
        raise TypeError(f"name: a str is needed, not {type(name).__name__}")
    if problem := _problem_of(name):
        raise ValueError(f"name: {name[:_SHOWN]!r} {problem}")
    return name.encode()


def _problem_of(name: str) -> str:
    if not name:
        return "is empty"
    if "@" in name:
        return f"has a host; the node's name is {name.partition('@')[0]!r}"
    if "\0" in name:
        return "contains a NUL"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has more than {MAX_NAME_CHARACTERS} characters"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "cannot be encoded in UTF-8"
    return ""


def port_of(port: object, what: str = "port") -> int:
    """Return a TCP port."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"{what}: an int is needed, not {type(port).__name__}")
    if not 1 <= port <= MOST_PORT:
        raise ValueError(f"{what}: {port} is not a valid TCP port")
    return port


def host_of(host: object) -> str:
    """Return the name or the address of a host, or "" for this host."""
    if not isinstance(host, str):
        raise TypeError(f"host: a str is needed, not {type(host).__name__}")
    if "\0" in host or host != host.strip():
        raise ValueError(f"host: {host[:_SHOWN]!r} is not the name or address of a host")
    return host


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, which needs no look-up."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False


def timeout_of(timeout: object) -> float | None:
    """Return a number of seconds, or None for no limit."""
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout: a number or None is needed, not {type(timeout).__name__}")
    if math.isnan(timeout) or not 0 <= timeout <= MOST_SECONDS:
        raise ValueError(f"timeout: {timeout} is not a number of seconds; None means no limit")
    return timeout
