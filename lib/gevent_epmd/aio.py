"""Queries an epmd from asyncio, with the types, errors and conventions of `gevent_epmd.client`.

    >>> from gevent_epmd import aio
    >>> await aio.names()
    [NamedPort(name='rabbit', port=25672)]

Each call opens a connection of its own, so calls may run at the same time. If a host has several addresses,
the next one is tried after 0.25 s, or as soon as one fails, and the first connection wins (RFC 8305). Does
not import gevent.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from . import wire
from .client import answers, api, checks, queries
from .client.answers import Dump, NamedPort, NodeInfo
from .client.exchange import (
    HEAD_START,
    MOST_LISTING,
    TIMEOUT,
    BadAnswerError,
    BrokenError,
    NoEpmdError,
    NoReplyError,
    Target,
    TooLateError,
    is_listing,
)
from .conventions import EpmdError
from .protocol import Port2Request

__all__ = ["Client", "Registration", "dump", "kill", "names", "port_please", "register", "started", "stop"]

_BUFFER = 65536

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client(api.Asker):
    """Asks the epmd of one host. The arguments and the methods are those of `client.Client`."""

    def __repr__(self) -> str:
        return f"<aio.Client of {self._place()}>"

    async def names(self) -> list[NamedPort]:
        """Return the registered nodes with their ports, newest first."""
        async with self._call() as call:
            return answers.parse_names(await call.listing(wire.NAMES_REQ))

    async def dump(self) -> Dump:
        """Return the registered nodes and the remembered names, with their descriptors. This host only."""
        async with self._call() as call:
            return answers.parse_dump(await call.listing(wire.DUMP_REQ))

    async def started(self) -> bool:
        """Return whether an epmd answers, with a whole and right answer."""
        try:
            async with self._call() as call:
                return is_listing(await call.listing(wire.NAMES_REQ))
        except EpmdError:
            return False

    async def port_please(self, name: str) -> NodeInfo | None:
        """Return what the node of this name has registered, including its port, or None if there is none."""
        request = Port2Request(checks.name_of(name))
        async with self._call() as call:
            await call.send(request.packet())
            return queries.read_look_up(await call.rest(queries.MOST_PORT2_RESP), call.title)

    async def register(
        self, name: str, node_port: int, *, hidden: bool = False, extra: bytes = b""
    ) -> Registration:
        """Register a node that listens at `node_port`.

        An epmd lets hosts of `-allow_register` and its own host do so. Raises RefusedError if the name is
        taken.
        """
        request = checks.request_of(name, node_port, hidden=hidden, extra=extra)
        async with self._call() as call:
            await call.send(request.packet())
            answer = await call.read(queries.ALIVE2_X_RESP_SIZE)
            creation = queries.read_registration(answer, request, call.title)
            return Registration(call.kept(), name, node_port, creation, self)

    async def stop(self, name: str) -> bool:
        """Unregister a node by force. Returns False if there is no node of this name. This host only.

        Raises NoReplyError if the epmd's check is not relaxed.
        """
        packet = bytes((wire.STOP_REQ,)) + checks.name_of(name)
        async with self._call() as call:
            await call.send(packet)
            try:
                return await call.one_of(wire.STOPPED, wire.NOEXIST) == wire.STOPPED
            except NoReplyError:
                raise queries.no_reply_to_stop(call.title) from None

    async def kill(self) -> None:
        """Shut down the epmd. Raises RefusedError if nodes are registered and its check is not relaxed."""
        async with self._call() as call:
            await call.send(bytes((wire.KILL_REQ,)))
            queries.must_be_killed(await call.one_of(wire.KILL_OK, wire.KILL_NO))

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[_Call]:
        """Give a call, limit its time, and let errors say where the epmd is."""
        call = _Call(Target(self._host, self._port, self._timeout))
        try:
            async with asyncio.timeout(self._timeout):
                yield call
        except EpmdError as error:
            raise self._explained(error) from error.__cause__
        except TimeoutError:
            late = TooLateError if call.streams else api.ConnectTimeoutError
            raise self._explained(late(f"no answer from {call.title} in {self._timeout:g} s")) from None
        finally:
            call.close()


class _Call:
    """A connection on which a request is sent, and from which its reply is read."""

    def __init__(self, target: Target) -> None:
        self.title = target.title
        self._target = target
        #: The connection, once there is one.
        self.streams: _Streams | None = None

    def close(self) -> None:
        """Close the connection."""
        if self.streams is not None:
            self.streams[1].close()

    def kept(self) -> _Streams:
        """Return the connection, so that `close` leaves it open."""
        assert self.streams is not None
        streams, self.streams = self.streams, None
        return streams

    async def send(self, packet: bytes) -> None:
        """Connect, and send a request."""
        self.streams = await self._connected()
        try:
            self.streams[1].write(wire.frame(packet))
            await self.streams[1].drain()
        except OSError as error:
            raise BrokenError("Can't write to epmd") from error

    async def _connected(self) -> _Streams:
        try:
            return await _first_of(await self._addresses())
        except socket.gaierror as error:
            raise NoEpmdError(f"cannot find the host {self._target.host}: {error.strerror}") from None
        except OSError as error:
            reason = f": {error.strerror or error}" if self._target.host else ""
            raise NoEpmdError(f"Cannot connect to {self.title}{reason}") from error

    async def _addresses(self) -> list[tuple[int, Any]]:
        if not self._target.host:
            return self._target.addresses()
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    async def read(self, size: int) -> bytes:
        """Return this many bytes, or fewer if the peer closes first."""
        got = b""
        while len(got) < size and (more := await self._some(size - len(got))):
            got += more
        return got

    async def rest(self, most: int = MOST_LISTING) -> bytes:
        """Return everything until the peer closes."""
        whole = bytearray()
        while more := await self._some(_BUFFER):
            if len(whole) + len(more) > most:
                raise BadAnswerError(f"the reply is longer than {most} bytes")
            whole += more
        return bytes(whole)

    async def _some(self, size: int) -> bytes:
        assert self.streams is not None
        try:
            return await self.streams[0].read(size)
        except OSError as error:
            raise BrokenError(f"failed to read answer from {self.title}") from error

    async def listing(self, tag: int) -> bytes:
        """Send a request for a listing, and return its text."""
        await self.send(bytes((tag,)))
        try:
            head = await self.read(wire.LISTING_PORT_SIZE)
        except BrokenError:
            head = b""
        self._target.port_of(head)
        return await self.rest()

    async def one_of(self, *known: bytes) -> bytes:
        """Return the reply, which must be one of these, all of the same size."""
        return self._target.must_be(await self.read(len(known[0])), known)


async def _first_of(addresses: list[tuple[int, Any]]) -> _Streams:
    """Return the first connection to one of these addresses. Raises OSError if there is none."""
    waiting = list(addresses)
    running: set[asyncio.Task[_Streams]] = set()
    failed: BaseException = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connected_to(*waiting.pop(0))))
            patience = HEAD_START if waiting else None
            done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if attempt.exception() is None:
                    running |= done - {attempt}
                    return attempt.result()
                failed = attempt.exception() or failed
        raise failed
    finally:
        for attempt in running:
            attempt.cancel()
            attempt.add_done_callback(_close_late_one)


def _close_late_one(attempt: asyncio.Task[_Streams]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[1].close()


async def _connected_to(family: int, address: Any) -> _Streams:
    reader, writer = await asyncio.open_connection(address[0], address[1], family=family)
    # The kernel may have chosen the port that nobody listens at for this end.
    if writer.get_extra_info("sockname")[:2] == writer.get_extra_info("peername", (None,))[:2]:
        writer.close()
        raise ConnectionRefusedError("connection refused")
    return reader, writer


class Registration:
    """A registered node. Its name is registered until `close`, or until the end of the `async with` block.

    `creation` distinguishes it from other registrations of the name.
    """

    #: Called once, with the registration, when it is closed.
    on_close: Callable[[Registration], object] | None = None

    def __init__(self, streams: _Streams, name: str, node_port: int, creation: int, client: Client) -> None:
        reader, self._writer = streams
        self._end = asyncio.create_task(_end_of(reader))
        self._client = client
        self._is_closed = False
        self.name = name
        self.node_port = node_port
        self.creation = creation

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "lost" if self.lost() else "registered"
        where = f"node port {self.node_port} at {self._client._place()}"
        return f"<aio.Registration of {self.name!r} with {where}: {state}>"

    def lost(self) -> bool:
        """Return whether the epmd has ended the registration, or has itself ended.

        The event loop notices that only while it runs.
        """
        return self._end.done()

    async def wait_lost(self) -> None:
        """Return once the registration is lost."""
        await asyncio.shield(self._end)

    async def close(self, timeout: float | None = None) -> None:
        """End the registration.

        Returns once the epmd has released the name, or after `timeout` seconds; None means the time limit of
        the client that registered it.
        """
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(OSError):
            self._writer.write_eof()
            await asyncio.wait((self._end,), timeout=self._client.timeout if timeout is None else timeout)
        self._end.cancel()
        self._writer.close()
        if self.on_close is not None:
            self.on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Return when the epmd closes the connection, or sends a byte."""
    with suppress(OSError):
        await reader.read(1)


async def names(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> list[NamedPort]:
    """Return the registered nodes with their ports, newest first."""
    return await Client(host, port, timeout).names()


async def dump(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> Dump:
    """Return the registered nodes and the remembered names, with their descriptors. This host only."""
    return await Client(host, port, timeout).dump()


async def started(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Return whether an epmd answers, with a whole and right answer."""
    return await Client(host, port, timeout).started()


async def port_please(
    name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT
) -> NodeInfo | None:
    """Return what the node of this name has registered, including its port, or None if there is none."""
    return await Client(host, port, timeout).port_please(name)


async def register(
    name: str,
    node_port: int,
    *,
    hidden: bool = False,
    extra: bytes = b"",
    host: str = "",
    port: int | None = None,
    timeout: float | None = TIMEOUT,
) -> Registration:
    """Register a node that listens at `node_port`. Raises RefusedError if the name is taken."""
    return await Client(host, port, timeout).register(name, node_port, hidden=hidden, extra=extra)


async def stop(name: str, host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> bool:
    """Unregister a node by force, as `Client.stop` does. Returns False if there is no node of this name."""
    return await Client(host, port, timeout).stop(name)


async def kill(host: str = "", port: int | None = None, timeout: float | None = TIMEOUT) -> None:
    """Shut down the epmd. Raises RefusedError if nodes are registered and its check is not relaxed."""
    await Client(host, port, timeout).kill()
