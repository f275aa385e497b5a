"""Bytes <-> requests: any bytes give a request or a ProtocolError, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from gevent_epmd import protocol, wire
from gevent_epmd.protocol import (
    MAX_PACKET,
    Alive2Request,
    BareRequest,
    PacketReader,
    Port2Request,
    ProtocolError,
    StopRequest,
    alive2_refusal,
    alive2_reply,
    parse_request,
)
from gevent_epmd.wire import HEADER, frame
from support.wire_cases import CASES

U16 = st.integers(0, 0xFFFF)
U8 = st.integers(0, 0xFF)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=255)
REQUESTS = st.one_of(
    st.builds(
        Alive2Request,
        U16,
        U8,
        U8,
        U16,
        U16,
        NAMES.map(str.encode),
        st.binary(max_size=protocol.MAX_SYMBOL_BYTES),
    ),
    st.builds(Port2Request, NAMES.map(str.encode)),
    st.builds(StopRequest, NAMES.map(str.encode)),
    st.sampled_from([wire.NAMES_REQ, wire.DUMP_REQ, wire.KILL_REQ]).map(BareRequest),
)


def fed(data: bytes, sizes: list[int]) -> bytes | None:
    """What a reader makes of the data where the socket gives so many bytes at a time; the last size
    goes on."""
    reader = PacketReader()
    while data:
        size = min(sizes.pop(0) if len(sizes) > 1 else sizes[0], reader.wanted)
        packet = reader.receive_data(data[:size])
        if packet is not None:
            return packet
        data = data[size:]
    return None


@given(REQUESTS)
def test_request_survives_the_wire(request) -> None:
    assert parse_request(request.packet()) == request
    assert fed(frame(request.packet()), [1 << 16]) == request.packet()


@given(st.binary(min_size=1, max_size=MAX_PACKET), st.lists(st.integers(1, 50), min_size=1))
def test_packet_is_the_same_however_it_is_cut(packet: bytes, sizes: list[int]) -> None:
    assert fed(frame(packet), sizes) == packet


@given(st.binary(max_size=MAX_PACKET + 100), st.lists(st.integers(1, 4000), min_size=1))
@example(b"\0\0", [1])
@example(b"\x0b\xf2", [1])
def test_any_bytes_give_a_request_or_a_protocol_error(data: bytes, sizes: list[int]) -> None:
    try:
        packet = fed(data, sizes)
        if packet is not None:
            assert packet == data[HEADER : HEADER + len(packet)]
            parse_request(packet)
    except ProtocolError:
        pass  # the one error there is


@pytest.mark.measured
@given(st.sampled_from(b"xzsndk"), st.binary(max_size=200))
@example(ord("s"), b"\0")
@example(ord("x"), bytes(13))
def test_any_payload_gives_a_request_or_a_protocol_error(tag: int, payload: bytes) -> None:
    try:
        request = parse_request(bytes((tag,)) + payload)
    except ProtocolError:
        return
    # Whatever was accepted has one meaning, and can be said again; but no name at all takes other bytes.
    if getattr(request, "name", True):
        assert parse_request(request.packet()) == request
    if isinstance(request, Alive2Request):
        refusal = request.refusal()
        assert refusal is None or refusal.kind.isprintable()
    if isinstance(request, Port2Request):
        assert 1 <= len(request.name.decode()) <= 255


@pytest.mark.measured
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_table_of_wire_cases(case) -> None:
    """What is answered can be read, and what cannot be read is not answered."""
    try:
        packet = fed(case.request, [1 << 16])
        readable = packet is not None and parse_request(packet) is not None
    except ProtocolError:
        readable = False
    strictly_refused = case.title in ("STOP", "STOP of nobody")
    assert readable == (case.reply != b"" or strictly_refused)


@given(st.integers(4, 2**32 - 1))
def test_both_forms_of_the_creation(creation: int) -> None:
    assert alive2_reply(6, creation) == b"v\0" + creation.to_bytes(4, "big")
    old = alive2_reply(5, creation)
    assert old[:3] == b"y\0\0"
    assert old[3] == creation % 3 + 1


def test_refusals() -> None:
    assert alive2_refusal(6) == b"v\1\0\0\0c"
    assert alive2_refusal(5) == b"y\1\0c"


def test_reader_never_wants_more_than_a_packet() -> None:
    reader = PacketReader()
    assert reader.wanted == HEADER + MAX_PACKET
    reader.receive_data(b"\0")
    assert (reader.got, reader.wanted) == (1, HEADER + MAX_PACKET - 1)
    reader.receive_data(b"\5")
    assert reader.wanted == 5
    assert reader.receive_data(b"zab") is None
    assert reader.wanted == 2
    assert reader.receive_data(b"cd") == b"zabcd"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\0\0", "invalid packet size (0)"),
        (b"GET ", "invalid packet size (18245)"),
        (b"\0\1nnn", "got 3 bytes in packet, expected 1"),
    ],
)
def test_complaint_about_a_packet(data: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        PacketReader().receive_data(data)
    assert raised.value.kind % raised.value.details == complaint


@pytest.mark.measured
def test_packet_that_is_too_long_for_a_frame() -> None:
    assert frame(b"n" * 65535)[:2] == b"\xff\xff"
    with pytest.raises(ValueError, match="65536 bytes are too long"):
        frame(b"n" * 65536)
