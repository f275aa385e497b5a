"""Converts between bytes and the requests and replies of the Erlang port mapper, for server and client.

Invariants:
- No I/O: a `PacketReader` takes bytes that were read and returns a packet once it is complete, the request
  types parse a packet, and the reply functions build the reply.
- Parsing raises nothing but `ProtocolError`, which ends the connection without a reply.
- Integers are big-endian. Names and extra data are bytes, and a name is UTF-8.

Source: ERTS User's Guide, "Distribution Protocol". C's counterpart: do_read and do_request of epmd_srv.c.
"""

from __future__ import annotations

from struct import Struct, pack

from .records import NamedTuple
from .wire import (
    ALIVE2_REQ,
    ALIVE2_RESP,
    ALIVE2_X_RESP,
    DUMP_REQ,
    HEADER,
    KILL_REQ,
    NAMES_REQ,
    PORT2_REQ,
    PORT2_RESP,
    STOP_REQ,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

#: The greatest packet length, in bytes, that a header may announce.
MAX_PACKET = 3057

MAX_NAME_CHARACTERS = 255
#: The limit of a name and of the extra data, in bytes: 255 characters of 4 bytes.
MAX_SYMBOL_BYTES = 1020

#: The creation in the reply to a refused registration.
REFUSED_CREATION = 99
#: A node whose highest version is at least this understands the reply with a 32-bit creation.
FIRST_VERSION_WITH_32_BITS = 6

_ALIVE2_FIXED = Struct("!HBBHHH")  # port, node type, protocol, highest, lowest, Nlen
_ALIVE2_SMALLEST = 14
_U16 = Struct("!H")
_U32 = Struct("!I")


class Complaint(Exception):
    """A line for the log: `kind` is one of a few fixed texts, with a %s for each of the `details`.

    The texts are C's, spelling mistakes included, because operators search logs for them.
    """

    def __init__(self, kind: str, *details: object) -> None:
        super().__init__(kind, *details)
        self.kind = kind
        self.details = details


class ProtocolError(Complaint):
    """An error that ends a connection without a reply."""


class RequestDenied(ProtocolError):
    """A request that this peer may not make, or that nobody may make now."""


class PacketReader:
    """Collects one packet, which may arrive in pieces of any size (C: `want` and `got` of do_read).

    Read at most `wanted` bytes at a time and pass them to `receive_data`. As in C, bytes beyond the packet
    are an error only if they arrive together with the end of the header: once the length is known, `wanted`
    does not go beyond the packet.
    """

    __slots__ = ("_got", "_want")

    def __init__(self) -> None:
        self._got = b""
        self._want = 0

    @property
    def wanted(self) -> int:
        """How many bytes to read next, at most."""
        return (self._want or MAX_PACKET + HEADER) - len(self._got)

    @property
    def got(self) -> int:
        """How many bytes have arrived, header included."""
        return len(self._got)

    def receive_data(self, data: bytes) -> bytes | None:
        """Take the next bytes, and return the packet without its header once it is complete, else None.

        Raises ProtocolError if the length is 0 or over MAX_PACKET, or less than what arrives.
        """
        got = self._got = self._got + data
        if not self._want:
            if len(got) < HEADER:
                return None
            size = got[0] << 8 | got[1]
            if not 1 <= size <= MAX_PACKET:
                raise ProtocolError("invalid packet size (%s)", size)
            if len(got) > size + HEADER:
                raise ProtocolError("got %s bytes in packet, expected %s", len(got) - HEADER, size)
            self._want = size + HEADER
        return got[HEADER:] if len(got) == self._want else None


def name_characters(name: bytes) -> int | None:
    """Return the number of characters in a name, or None if it is not UTF-8 (C: verify_utf8)."""
    try:
        return len(name.decode())
    except UnicodeDecodeError:
        return None


class Alive2Request(NamedTuple):
    """The request to register a node.

    `port` is where the node listens for other nodes. `node_type` is 77 for a normal node, 72 for a hidden
    one. `protocol` 0 is TCP. `highest` and `lowest` are the distribution versions that the node supports.
    """

    port: int
    node_type: int
    protocol: int
    highest: int
    lowest: int
    name: bytes
    extra: bytes = b""

    @classmethod
    def parse(cls, packet: bytes) -> Alive2Request:
        """Parse a packet. Raises ProtocolError if a length points past its end, or the name has a NUL."""
        if len(packet) < _ALIVE2_SMALLEST:
            raise ProtocolError("packet to small for request ALIVE2_REQ (%s)", len(packet))
        port, node_type, transport, highest, lowest, name_size = _ALIVE2_FIXED.unpack_from(packet, 1)
        name_end = 1 + _ALIVE2_FIXED.size + name_size
        if name_end + _U16.size > len(packet):
            raise ProtocolError("Node name size error in ALIVE2_REQ")
        extra_start = name_end + _U16.size
        extra_end = extra_start + _U16.unpack_from(packet, name_end)[0]
        if extra_end > len(packet):
            raise ProtocolError("Extra info size error in ALIVE2_REQ")
        name = packet[name_end - name_size : name_end]
        _no_nul(name, "ALIVE2_REQ")
        extra = packet[extra_start:extra_end]
        return cls(port, node_type, transport, highest, lowest, name, extra)

    def packet(self) -> bytes:
        numbers = (self.port, self.node_type, self.protocol, self.highest, self.lowest)
        fixed = _ALIVE2_FIXED.pack(*numbers, len(self.name))
        tail = self.name + _U16.pack(len(self.extra)) + self.extra
        return bytes((ALIVE2_REQ,)) + fixed + tail

    def refusal(self) -> Complaint | None:
        """Return why any port mapper refuses this node, or None (C: the first checks in node_reg2)."""
        characters = name_characters(self.name)
        if len(self.name) > MAX_SYMBOL_BYTES or (characters or 0) > MAX_NAME_CHARACTERS:
            return Complaint("node name is too long (%s) %s", len(self.name), self.name)
        if characters is None:
            return Complaint("invalid node name encoding")
        if not self.name:
            return Complaint("node name is empty")
        if len(self.extra) > MAX_SYMBOL_BYTES:
            text = self.extra.split(b"\0", 1)[0]
            return Complaint("extra data is too long (%s) %s", len(self.extra), text)
        return None


class Port2Request(NamedTuple):
    """The request for the port of the node of this name."""

    name: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Port2Request:
        """Parse a packet. Raises ProtocolError if the name is empty, has a NUL, or is not a node's."""
        name = packet[1:]
        if name.endswith(b"\0"):
            name = name[:-1]
        if not name:
            raise ProtocolError("packet too small for request PORT2_REQ (%s)", 1 + len(name))
        _no_nul(name, "PORT2_REQ")
        if not 1 <= (name_characters(name) or 0) <= MAX_NAME_CHARACTERS:
            raise ProtocolError("invalid node name in PORT2_REQ")
        return cls(name)

    def packet(self) -> bytes:
        return bytes((PORT2_REQ,)) + self.name


class StopRequest(NamedTuple):
    """The request to unregister the node of this name by force. The name ends before the first NUL."""

    name: bytes

    @classmethod
    def parse(cls, packet: bytes) -> StopRequest:
        """Parse a packet. Raises ProtocolError if it consists of its tag only."""
        if len(packet) == 1:
            raise ProtocolError("packet too small for request EPMD_STOP_REQ (%s)", len(packet))
        return cls(packet[1:].split(b"\0", 1)[0])

    def packet(self) -> bytes:
        return bytes((STOP_REQ,)) + self.name


class BareRequest(NamedTuple):
    """A NAMES, DUMP or KILL request. It consists of its tag; bytes after the tag are ignored."""

    tag: int

    @classmethod
    def parse(cls, packet: bytes) -> BareRequest:
        return cls(packet[0])

    def packet(self) -> bytes:
        return bytes((self.tag,))


Request: TypeAlias = "Alive2Request | Port2Request | StopRequest | BareRequest"


#: For each tag, the request's name in the log (that of C since OTP 29) and its parser.
_REQUESTS: dict[int, tuple[str, Callable[[bytes], Request]]] = {
    ALIVE2_REQ: ("ALIVE2_REQ", Alive2Request.parse),
    PORT2_REQ: ("PORT2_REQ", Port2Request.parse),
    NAMES_REQ: ("EPMD_NAMES_REQ", BareRequest.parse),
    DUMP_REQ: ("EPMD_DUMP_REQ", BareRequest.parse),
    KILL_REQ: ("EPMD_KILL_REQ", BareRequest.parse),
    STOP_REQ: ("EPMD_STOP_REQ", StopRequest.parse),
}


def request_kind(packet: bytes) -> tuple[str, Callable[[bytes], Request]]:
    """Return the log's name and the parser of the request in a packet of at least one byte (its tag).

    Raises ProtocolError.
    """
    try:
        return _REQUESTS[packet[0]]
    except KeyError:
        raise ProtocolError("got garbage ") from None


def parse_request(packet: bytes) -> Request:
    """Return the request in a complete packet of at least one byte. Raises ProtocolError."""
    return request_kind(packet)[1](packet)


def _no_nul(name: bytes, request: str) -> None:
    if b"\0" in name:
        raise ProtocolError(f"node name contains ascii 0 in {request}")


def alive2_reply(highest: int, creation: int) -> bytes:
    """Build the reply to a registration that succeeded.

    A node whose highest version is below 6 gets a creation of 1, 2 or 3, derived from `creation`.
    """
    if highest >= FIRST_VERSION_WITH_32_BITS:
        return pack("!BBI", ALIVE2_X_RESP, 0, creation)
    return pack("!BBH", ALIVE2_RESP, 0, creation % 3 + 1)


def alive2_refusal(highest: int) -> bytes:
    """Build the reply to a registration that was refused."""
    if highest >= FIRST_VERSION_WITH_32_BITS:
        return pack("!BBI", ALIVE2_X_RESP, 1, REFUSED_CREATION)
    return pack("!BBH", ALIVE2_RESP, 1, REFUSED_CREATION)


PORT2_NOT_FOUND = bytes((PORT2_RESP, 1))


def port2_reply(node: Alive2Request) -> bytes:
    """Build the reply to a look-up that found the node: tag, result, then what the node registered with."""
    return bytes((PORT2_RESP, 0)) + node.packet()[1:]


def listing_reply(port: int, lines: list[bytes]) -> bytes:
    """Build the reply to NAMES or DUMP: the mapper's own port, then a line for each node."""
    return b"".join((_U32.pack(port), *lines))


def names_line(name: bytes, port: int) -> bytes:
    return b"name %b at port %d\n" % (name, port)


#: The lines of DUMP for live nodes and for former ones, each with name, port and descriptor.
DUMP_ACTIVE = b"active name     <%b> at port %d, fd = %d\n\0"
DUMP_UNUSED = b"old/unused name <%b>, port = %d, fd = %d \n\0"
