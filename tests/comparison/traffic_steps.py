"""Random traffic as plain steps: what the clients of a batch do, a pure function of a seed and a number.

Nothing here talks to anybody.  Requests are valid, nearly valid, cut, glued and delayed; the names that
they are about come from a small pool, so that most are live, late, or were asked for before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gevent_epmd.protocol import (
    MAX_NAME_CHARACTERS,
    MAX_PACKET,
    MAX_SYMBOL_BYTES,
    Alive2Request,
    PacketReader,
    ProtocolError,
)
from gevent_epmd.wire import HEADER, frame

#: How many connections a batch opens, apart from those that only wait for something to be over.
CONNECTIONS = 500
#: How many different names a batch is mostly about, and how many nodes stay at most.
_POOL = 40
_MOST_HELD = 50

RELAXED, DEBUG = "-relaxed_command_check", "-d"

CLOSE, RESET, HALF_CLOSE, SEND_MORE = "close", "reset", "half close", "send more"

#: A name of these has every length of UTF-8 in it, and both ends of each.
_EDGES = "\x01\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff"
_NOT_UTF8 = (
    b"\x80",
    b"\xbf",
    b"\xc3",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xe2\x82",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf0\x9f\x98",
    b"\xfe",
    b"\xff",
)
_NAME_SIZE_AT = 9  # where Nlen is in an ALIVE2 packet
_KEEPER = Alive2Request(4711, 77, 0, 6, 5, b"keeper")


class Step(NamedTuple):
    """One thing that a client does; `label` numbers its connection, the same for each step on it.

    `do` is one of
    - ask: connect, send `data`, read the reply; a node, registered or refused, stays connected;
    - begin: connect and send `data`, which is not the whole request;
    - go on: send `data` on a connection that was begun, and read the reply;
    - leave: connect, send `data`, and go by `how`, mostly without reading;
    - end: go by `how` from a connection that has stayed open;
    - check: look which connections are open;
    - kill: ask with `data`, and wait for the end of the server.
    """

    do: str
    label: int = 0
    data: bytes = b""
    how: str = ""


class Batch(NamedTuple):
    """Steps for a fresh server with these options."""

    seed: int
    number: int
    options: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def connections(self) -> int:
        return sum(step.do in ("ask", "begin", "leave", "kill") for step in self.steps)


def heard(pieces: Iterable[bytes]) -> bytes | None:
    """The packet that a server acts on when these pieces come one after the other; empty where it must
    close at once, and None where it must wait for more."""
    reader = PacketReader()
    try:
        for piece in pieces:
            packet = reader.receive_data(piece[: reader.wanted])
            if packet is not None:
                return packet
    except ProtocolError:
        return b""
    return None


def registration(packet: bytes | None) -> Alive2Request | None:
    """The node that a packet registers, or tries to; None where it is no registration."""
    try:
        return Alive2Request.parse(packet) if packet and packet[:1] == b"x" else None
    except ProtocolError:
        return None


def has_empty_name(packet: bytes | None) -> bool:
    """Whether a packet is the registration that only C accepts."""
    request = registration(packet)
    return request is not None and not request.name and len(request.extra) <= MAX_SYMBOL_BYTES


def _is_cut_short(packet: bytes, sent: int) -> bool:
    """Whether bytes that nobody reads follow the request of a listing.  C writes it line by line, and then
    closes by a reset, for there are bytes unread: what has not gone out by then is lost."""
    return packet[:1] in (b"n", b"d") and sent > HEADER + len(packet)


def batch_of(seed: int, number: int) -> Batch:
    """The batch of this number: always the same one."""
    rng = random.Random(f"traffic {seed} {number}")
    options = [option for option, share in ((RELAXED, 0.5), (DEBUG, 0.25)) if rng.random() < share]
    writer = _Writer(rng, relaxed=RELAXED in options)
    return Batch(seed, number, tuple(options), tuple(writer.write()))


class _Writer:
    """Writes the steps of one batch.  It knows which connections are likely to be open, and leaves it
    to whoever plays the steps to see whether they are."""

    def __init__(self, rng: random.Random, *, relaxed: bool) -> None:
        self._rng = rng
        self._relaxed = relaxed
        self._steps: list[Step] = []
        self._label = 0
        self._names = [_name(rng) for _ in range(_POOL)]
        self._held: list[int] = []
        self._begun: list[tuple[int, bytes, bytes]] = []
        """Label, what was sent, and what is left to send, of each request that is not whole."""

    def write(self) -> list[Step]:
        # Somebody is live all the time: so a KILL that comes in between is refused where it can be.
        self._ask(frame(_KEEPER.packet()))
        self._held.clear()
        kinds, weights = zip(*_KINDS, strict=True)
        while self._label < CONNECTIONS:
            self._rng.choices(kinds, weights)[0](self)
            if len(self._held) > _MOST_HELD:
                self._end()
        self._finish()
        return self._steps

    # What comes in between.

    def _register(self) -> None:
        self._ask(frame(self._alive2()))

    def _look_up(self) -> None:
        self._ask(frame(self._port2()))

    def _list(self) -> None:
        self._ask(frame(self._listing()))

    def _kill(self) -> None:
        self._ask(frame(self._killing()))

    def _stop(self) -> None:
        self._ask(frame(self._stopping()))

    def _nearly(self) -> None:
        data = self._request()
        for _ in range(self._rng.choice((1, 1, 1, 2))):
            data = self._rng.choice(_CHANGES)(self._rng, data)
        self._ask(data)

    def _glued(self) -> None:
        self._ask(self._request() + self._some_bytes())

    def _garbage(self) -> None:
        data = self._rng.randbytes(self._rng.choice((1, 2, 3, 10, 100, MAX_PACKET, 5000)))
        self._ask(self._rng.choice((data, frame(data[:MAX_PACKET]), b"GET / HTTP/1.1\r\n\r\n" + data)))

    def _cut(self) -> None:
        data = self._request()
        last = len(data) - 1
        at = min(last, self._rng.choice((0, 1, 2, 3, self._rng.randrange(len(data)), last)))
        if self._rng.random() < 0.5:
            self._leave(data[:at])
        else:
            self._begin(data[:at], data[at:])

    def _go_on(self) -> None:
        if not self._begun:
            return
        label, first, rest = self._begun.pop(self._rng.randrange(len(self._begun)))
        if self._rng.random() < 0.2:
            rest += self._some_bytes()
        packet = heard([first, rest])
        if packet is None or not self._may_be_sent(packet) or _is_cut_short(packet, len(first + rest)):
            self._steps.append(Step("end", label, how=self._rng.choice((CLOSE, RESET, HALF_CLOSE))))
        else:
            self._steps.append(Step("go on", label, rest))
            self._hold(label, packet)

    def _go_early(self) -> None:
        self._leave(self._request())

    def _end(self) -> None:
        if self._held:
            label = self._held.pop(self._rng.randrange(len(self._held)))
            how = self._rng.choice((CLOSE, CLOSE, RESET, HALF_CLOSE, SEND_MORE))
            self._steps.append(Step("end", label, self._some_bytes() if how == SEND_MORE else b"", how))

    # The requests.

    def _request(self) -> bytes:
        makers = (self._alive2, self._port2, self._listing, self._killing, self._stopping)
        return frame(self._rng.choices(makers, (8, 6, 1, 1, 3))[0]())

    def _alive2(self) -> bytes:
        rng = self._rng
        port = rng.choice((rng.randrange(65536), rng.randrange(65536), 0, 65535))
        kind = rng.choice((77, 77, 72, rng.randrange(256)))
        protocol = rng.choice((0, 0, 0, rng.randrange(256)))
        highest = rng.choice((6, 6, 6, 5, 5, 0, 7, 255, 256, 65535, rng.randrange(65536)))
        extra = rng.randbytes(rng.choice((0, 0, 0, 1, 2, rng.randrange(200), 1019, 1020, 1021, 1022)))
        name = self._node_name()
        return Alive2Request(port, kind, protocol, highest, rng.randrange(65536), name, extra).packet()

    def _port2(self) -> bytes:
        return b"z" + self._node_name() + self._rng.choice((b"", b"\0"))

    def _listing(self) -> bytes:
        return self._rng.choice((b"n", b"n", b"d")) + self._rng.choice((b"", b"", b"more", b"\0"))

    def _killing(self) -> bytes:
        return b"k" + self._rng.choice((b"", b"", b"keeper"))

    def _stopping(self) -> bytes:
        return b"s" + self._node_name() + self._rng.choice((b"", b"\0", b"\0more"))

    def _node_name(self) -> bytes:
        """Mostly one of the pool; now and then a new one, or one that is none."""
        kind = self._rng.random()
        if kind < 0.8:
            return self._rng.choice(self._names)
        if kind < 0.95:
            return _name(self._rng)
        return _no_name(self._rng)

    def _some_bytes(self) -> bytes:
        rng = self._rng
        return rng.choice((b"\0", rng.randbytes(rng.randrange(1, 9)), frame(b"n"), bytes(4000)))

    # How they become steps.

    def _ask(self, data: bytes) -> None:
        packet = heard([data])
        if packet is None:
            self._begin(data, self._rng.choice((b"", b"\0", self._some_bytes())))
        elif self._may_be_sent(packet):
            self._steps.append(Step("ask", self._label, data))
            self._hold(self._label, packet)
            self._label += 1

    def _begin(self, first: bytes, rest: bytes) -> None:
        self._steps.append(Step("begin", self._label, first))
        self._begun.append((self._label, first, rest))
        self._label += 1

    def _leave(self, data: bytes) -> None:
        packet = heard([data])
        if not self._may_be_sent(packet):
            return
        # A reset may come before the request is read; so there it must not matter whether it is.
        matters = packet is not None and packet[:1] in (b"x", b"s")
        ways = (CLOSE, HALF_CLOSE) if matters else (CLOSE, HALF_CLOSE, RESET)
        self._steps.append(Step("leave", self._label, data, self._rng.choice(ways)))
        self._label += 1

    def _hold(self, label: int, packet: bytes) -> None:
        if packet[:1] == b"x":
            self._held.append(label)

    def _may_be_sent(self, packet: bytes | None) -> bool:
        """Whether both go on after it, with the same nodes."""
        kills = packet is not None and packet[:1] == b"k" and self._relaxed
        return not kills and not has_empty_name(packet)

    def _finish(self) -> None:
        """See what is left; and then what both do not go on after."""
        self._ask(frame(b"n"))
        self._ask(frame(b"d"))
        self._steps.append(Step("check"))
        for _ in range(self._rng.choice((0, 0, 1, 2))):
            self._ask_without_a_name()
        self._ask(frame(b"n"))
        if self._rng.random() < 0.3:
            if not self._relaxed:
                self._end_all()
            self._steps.append(Step("kill", self._label, frame(self._killing())))
            self._steps.append(Step("check"))

    def _ask_without_a_name(self) -> None:
        rng = self._rng
        extra, tail = rng.choice(((b"e", b""), (b"", b"t"), (rng.randbytes(9), b""), (b"e" * 1020, b"tail")))
        request = Alive2Request(rng.randrange(65536), 77, 0, rng.choice((5, 6)), 5, b"", extra)
        self._steps.append(Step("ask", self._label, frame(request.packet() + tail)))
        self._label += 1

    def _end_all(self) -> None:
        self._held.append(0)
        while self._held:
            self._end()


_KINDS: tuple[tuple[Callable[[_Writer], None], int], ...] = (
    (_Writer._register, 24),
    (_Writer._look_up, 22),
    (_Writer._end, 12),
    (_Writer._list, 6),
    (_Writer._kill, 2),
    (_Writer._stop, 4),
    (_Writer._nearly, 20),
    (_Writer._glued, 3),
    (_Writer._garbage, 2),
    (_Writer._cut, 8),
    (_Writer._go_on, 5),
    (_Writer._go_early, 2),
)


def _name(rng: random.Random) -> bytes:
    """A name that a node can have."""
    kind = rng.randrange(10)
    if kind < 6:
        letters = "abAB01_-@. " if kind else _EDGES
        return "".join(rng.choices(letters, k=rng.randrange(1, 13))).encode()
    if kind < 8:
        return b"node%d@host" % rng.randrange(100)
    character = rng.choice("nж€😀")
    return (character * rng.choice((MAX_NAME_CHARACTERS, MAX_NAME_CHARACTERS - 1))).encode()


def _no_name(rng: random.Random) -> bytes:
    """A name that no node can have, for one of many reasons, or that one is refused for."""
    kind = rng.randrange(5)
    if kind == 0:
        return (rng.choice("nж€😀") * (MAX_NAME_CHARACTERS + 1)).encode()
    if kind == 1:
        return b"n" * rng.choice((MAX_SYMBOL_BYTES, MAX_SYMBOL_BYTES + 1))
    if kind == 2:
        return _name(rng) + b"\0" + rng.choice((b"", b"b"))
    name = _name(rng)[:20]
    at = rng.randrange(len(name) + 1)
    return name[:at] + rng.choice(_NOT_UTF8) + name[at:]


# Changes of a whole request: each takes where randomness comes from and the bytes, and gives bytes.


def _other_length(rng: random.Random, data: bytes) -> bytes:
    size = int.from_bytes(data[:HEADER], "big")
    other = rng.choice((size - 1, size + 1, size + 1, 0, MAX_PACKET + 1, rng.randrange(65536)))
    return max(0, other).to_bytes(HEADER, "big") + data[HEADER:]


def _other_byte(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def _other_bit(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def _another_nul(rng: random.Random, data: bytes) -> bytes:
    packet = data[HEADER:]
    at = rng.choice((len(packet), rng.randrange(len(packet) + 1)))
    return frame(packet[:at] + b"\0" + packet[at:])


def _one_byte_less(rng: random.Random, data: bytes) -> bytes:
    packet = data[HEADER:]
    at = rng.choice((len(packet) - 1, rng.randrange(len(packet) or 1)))
    return frame(packet[: max(at, 0)] + packet[at + 1 :])


def _more_in_the_packet(rng: random.Random, data: bytes) -> bytes:
    return frame(data[HEADER:] + rng.choice((b"\0", b"t", rng.randbytes(20))))


def _as_long_as_can_be(rng: random.Random, data: bytes) -> bytes:
    return frame(data[HEADER:] + bytes(max(0, MAX_PACKET - len(data) + HEADER - rng.choice((0, 0, 1, -1)))))


def _other_name_size(rng: random.Random, data: bytes) -> bytes:
    return _other_size(rng, data, HEADER + _NAME_SIZE_AT)


def _other_extra_size(rng: random.Random, data: bytes) -> bytes:
    at = HEADER + _NAME_SIZE_AT
    return _other_size(rng, data, at + 2 + int.from_bytes(data[at : at + 2], "big"))


def _other_size(rng: random.Random, data: bytes, at: int) -> bytes:
    size = int.from_bytes(data[at : at + 2], "big")
    other = rng.choice((size - 1, size + 1, 0, size + 256, 65535))
    return data[:at] + (other % 65536).to_bytes(2, "big") + data[at + 2 :]


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _other_length,
    _other_byte,
    _other_byte,
    _other_bit,
    _other_bit,
    _another_nul,
    _one_byte_less,
    _more_in_the_packet,
    _as_long_as_can_be,
    _other_name_size,
    _other_extra_size,
)
