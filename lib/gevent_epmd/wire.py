"""The numbers of the protocol, and how a packet is framed: what the quickest calls need of it, and nothing
else.

Imports nothing: `epmd -names` at the start of a node comes through here.  `protocol` has all of these too.

Source: ERTS User's Guide, "Distribution Protocol"; epmd.h.
"""

from __future__ import annotations

#: Where an epmd listens, unless something else is said.
DEFAULT_PORT = 4369
MOST_PORT = 65535

#: Tags: the first byte of every packet.
ALIVE2_REQ = ord("x")
PORT2_REQ = ord("z")
NAMES_REQ = ord("n")
DUMP_REQ = ord("d")
KILL_REQ = ord("k")
STOP_REQ = ord("s")

ALIVE2_RESP = ord("y")
ALIVE2_X_RESP = ord("v")
PORT2_RESP = ord("w")

KILL_OK = b"OK"
KILL_NO = b"NO"
STOPPED = b"STOPPED"
NOEXIST = b"NOEXIST"

#: The size of the header in front of a packet: its length, in bytes.
HEADER = 2
#: The size of the port that the replies to NAMES and DUMP begin with, in bytes.
LISTING_PORT_SIZE = 4


def frame(packet: bytes) -> bytes:
    """The packet with its length in front, as it goes over the wire.  Raises ValueError for a packet whose
    length two bytes cannot hold."""
    try:
        return len(packet).to_bytes(HEADER, "big") + packet
    except OverflowError:
        raise ValueError(f"{len(packet)} bytes are too many for a request") from None


def listing_port(reply: bytes) -> int:
    """The epmd's own port, from the first LISTING_PORT_SIZE bytes of a reply to NAMES or DUMP."""
    return int.from_bytes(reply[:LISTING_PORT_SIZE], "big")
