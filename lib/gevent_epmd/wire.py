"""Packet framing and the constants of the protocol, for callers that cannot afford to import `protocol`.

Imports nothing, because `epmd -names` imports this module at every start of a node.

Source: ERTS User's Guide, "Distribution Protocol"; epmd.h.
"""

from __future__ import annotations

#: The default port of an epmd.
DEFAULT_PORT = 4369
MOST_PORT = 65535

#: Tags: the first byte of each packet.
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

#: The size of a packet's header, in bytes. The header holds the length of the packet.
HEADER = 2
#: The size of the port at the start of the replies to NAMES and DUMP, in bytes.
LISTING_PORT_SIZE = 4


def frame(packet: bytes) -> bytes:
    """Return the packet with its header, as sent over the wire.

    Raises ValueError if the packet's length does not fit into the two bytes of the header.
    """
    try:
        return len(packet).to_bytes(HEADER, "big") + packet
    except OverflowError:
        raise ValueError(f"{len(packet)} bytes are too long for a request") from None
