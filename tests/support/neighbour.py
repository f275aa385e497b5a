"""Another host, for tests: a network namespace of its own, joined to this one by a veth pair.

To be used in a network namespace that the test made (`scenes.run_apart`), as root of it.  The other one
ends with the last descriptor that refers to it: nothing is left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from support.programs import real, run

#: The addresses of this end and of the other one.
HERE_V4, HERE_V6 = "10.78.0.1", "fd78::1"
THERE_V4, THERE_V6 = "10.78.0.2", "fd78::2"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Neighbour:
    """A host that is not this one, 1,500 bytes a packet away."""

    def __init__(self, second: int = 78) -> None:
        """`second` is the second number of its IPv4 address; another one makes another host."""
        self._link = f"here{second}"
        self._here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _call(_libc.unshare, _CLONE_NEWNET)
        self._there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._enter(self._here)
        there = f"/proc/{os.getpid()}/fd/{self._there}"
        link = ["link", "add", self._link, "mtu", "1500", "type", "veth"]
        _ip(*link, "peer", "name", "there", "mtu", "1500")
        _ip("link", "set", "there", "netns", there)
        addresses = (HERE_V4, HERE_V6, THERE_V4, THERE_V6)
        self.here_v4, here_v6, self.there_v4, there_v6 = (a.replace("78", f"{second}") for a in addresses)
        _set_up(self._link, self.here_v4, here_v6)
        with self.inside():
            _ip("link", "set", "lo", "up")
            _set_up("there", self.there_v4, there_v6)
            _ip("route", "add", "default", "via", self.here_v4)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread opens and starts meanwhile is the neighbour's."""
        self._enter(self._there)
        try:
            yield
        finally:
            self._enter(self._here)

    def close(self) -> None:
        # The kernel takes its time to remove a namespace, and the link would be in the way of the next one.
        _ip("link", "delete", self._link)
        os.close(self._here)
        os.close(self._there)

    @staticmethod
    def _enter(namespace: int) -> None:
        _call(_libc.setns, namespace, _CLONE_NEWNET)


def forward_packets() -> None:
    """Let this host, in a namespace that the test made, send the packets of its neighbours on, and answer
    those for which it has no route with an ICMP error; by default the kernel drops them all silently."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _call(function, *arguments: int) -> None:
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _set_up(link: str, v4: str, v6: str) -> None:
    _ip("link", "set", link, "up")
    _ip("address", "add", f"{v4}/24", "dev", link)
    _ip("address", "add", f"{v6}/64", "dev", link, "nodad")


def _ip(*arguments: str) -> None:
    done = run([real("ip"), *arguments])
    assert done.returncode == 0, done.stderr.decode()
