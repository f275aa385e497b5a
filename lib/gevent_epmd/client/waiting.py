"""Waits for nodes to come or go, for objects that have an epmd of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar, overload

from ..conventions import EpmdError
from . import api
from .answers import NamedPort

T = TypeVar("T")

_LOOK_EVERY = 0.01
#: The time for a last look, in seconds: only an epmd that does not answer delays the error by so much.
_LAST_LOOK = 1.0


class WithNodes:
    """What has an epmd of its own, at `port`, and tells which nodes are registered there."""

    port: int

    def names(self) -> list[NamedPort]:
        """Return the registered nodes with their ports, newest first."""
        return self._outside(api.names, port=self.port)

    @overload
    def wait_for(self, name: str, /, *, timeout: float = 10.0) -> int: ...

    @overload
    def wait_for(self, *names: str, timeout: float = 10.0) -> tuple[int, ...]: ...

    def wait_for(self, *names: str, timeout: float = 10.0) -> int | tuple[int, ...]:
        """Return the port of this node, or a tuple with the port of each, once all of them are registered.

        Raises TimeoutError after `timeout` seconds, and client.EpmdError if the mapper has ended.
        """
        nodes = self._outside(_wait, self.port, names, is_there=True, timeout=timeout)
        ports = tuple(nodes[name] for name in names)
        return ports[0] if len(ports) == 1 else ports

    def wait_gone(self, *names: str, timeout: float = 10.0) -> None:
        """Return once there is no node of these names. Raises as `wait_for` does."""
        self._outside(_wait, self.port, names, is_there=False, timeout=timeout)

    def _outside(self, function: Callable[..., T], *given: object, **named: object) -> T:
        """Call a function that asks the epmd. A subclass decides in which thread."""
        return function(*given, **named)


def _wait(port: int, names: Sequence[str], *, is_there: bool, timeout: float) -> dict[str, int]:
    """Return all nodes and their ports, once each name `is_there`, or is not."""
    end = time.monotonic() + timeout
    while True:
        nodes = None
        try:
            nodes = dict(api.names(port=port, timeout=max(end - time.monotonic(), _LAST_LOOK)))
        except EpmdError:
            if time.monotonic() < end:
                raise
        others = names if nodes is None else [name for name in names if (name in nodes) != is_there]
        if nodes is not None and not others:
            return nodes
        if time.monotonic() >= end:
            wrong = f"{', '.join(others)}: {'not' if is_there else 'still'} registered after {timeout:g} s"
            known = "the epmd does not answer"
            if nodes is not None:
                known = f"registered nodes: {', '.join(nodes) or 'none'}"
            raise TimeoutError(f"{wrong}; {known}")
        time.sleep(_LOOK_EVERY)
