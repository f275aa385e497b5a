"""Plays a batch of random traffic to one server, and says what came of each step.

Most steps are deterministic by themselves: a reply is read to its end before the next step.  Where the
server learns of something in its own time, as of a close, the step lasts until it has.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from comparison.traffic_steps import (
    DEBUG,
    HALF_CLOSE,
    RELAXED,
    RESET,
    SEND_MORE,
    Batch,
    Step,
    has_empty_name,
    heard,
    registration,
)
from gevent_epmd.protocol import (
    FIRST_VERSION_WITH_32_BITS,
    MAX_NAME_CHARACTERS,
    PORT2_NOT_FOUND,
    Alive2Request,
    name_characters,
    names_line,
    port2_reply,
)
from gevent_epmd.wire import HEADER, NOEXIST, STOPPED
from support.forms import Process
from support.patience import PATIENCE
from support.peer import Peer, ask, barrier

LOOK_UP_255 = "a look-up of a 255-character name"
STOP_UNKNOWN = "STOP of an unknown name"
EMPTY_NAME = "a registration of an empty name"


def _can_be_bound(host: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True


#: To which addresses connections go; all of them are local, and there are only so many ports at each.
_HOSTS = [host for host in ("127.0.0.1", "127.0.0.2", "127.255.255.254", "::1") if _can_be_bound(host)]

_DESCRIPTOR = re.compile(rb"(?<=fd = )\d+(?= ?\n\0)")
_DUE = b"(the answer that is due)"
_REGISTERED, _REFUSED = b"(registered)", b"(refused)"

CLOSED, OPEN = "closed", "open"
#: How the state begins of a step that must not be, whatever the other side says.
FAILS = "fails:"


class Seen(NamedTuple):
    """What a step came to: the reply, masked, and how the connection is after it.  `difference` is the
    title of a deliberate difference, where the step is about one."""

    reply: bytes = b""
    state: str = ""
    difference: str = ""


#: What C's epmd and ours must answer where they differ on purpose.
DELIBERATE = {
    LOOK_UP_255: (b"", _DUE),
    STOP_UNKNOWN: (NOEXIST + STOPPED, NOEXIST),
    EMPTY_NAME: (_REGISTERED, _REFUSED),
}


class _Creation(NamedTuple):
    """A creation as a reply gave it."""

    value: int
    old: bool

    def is_valid(self) -> bool:
        return self.value in (1, 2, 3) if self.old else self.value >= 4

    def follows(self, last: _Creation) -> bool:
        """Whether this one is the next after that one, as far as the old form tells."""
        if self.old or last.old:
            return self._in_the_round() == (last._in_the_round() + 1) % 3
        return self.value == last.value + 1

    def _in_the_round(self) -> int:
        return self.value - 1 if self.old else self.value % 3


class _Talk:
    """One connection, and what was sent on it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pieces: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.pieces.append(data)
        # Where the server has closed already, reading will show it.
        with contextlib.suppress(ConnectionError):
            self.peer.send(data)

    def heard(self) -> bytes | None:
        return heard(self.pieces)

    def has_more(self, packet: bytes, still: bytes = b"") -> bool:
        """Whether bytes were sent after the packet; `still` is what is still to be sent."""
        return sum(map(len, [*self.pieces, still])) > HEADER + len(packet)

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            self.peer.sock.shutdown(socket.SHUT_WR)


def play(server: Process, batch: Batch) -> list[Seen]:
    """What each step of the batch comes to.  There are fewer than steps where a step takes too long: no
    other is played after it."""
    with contextlib.ExitStack() as opened:
        player = _Player(server, batch, opened)
        seen: list[Seen] = []
        for step in batch.steps:
            try:
                seen.append(player.do(step))
            except TimeoutError:
                return [*seen, Seen(state=f"{FAILS} nothing for {PATIENCE:.0f} s")]
            except (ConnectionError, AssertionError) as error:
                has_ended = server.ended() is not None
                seen.append(Seen(state="nobody answers" if has_ended else f"{FAILS} {error!r}"))
        return seen


class _Player:
    def __init__(self, server: Process, batch: Batch, opened: contextlib.ExitStack) -> None:
        self._server = server
        self._port = server.port
        self._relaxed = RELAXED in batch.options
        self._remembers_all = DEBUG not in batch.options
        self._opened = opened
        self._talks: dict[int, _Talk] = {}
        self._live: dict[bytes, tuple[_Talk, Alive2Request]] = {}
        self._creations: dict[bytes, _Creation] = {}

    def do(self, step: Step) -> Seen:
        """Raises TimeoutError, and ConnectionError where nobody listens any more."""
        return self._DO[step.do](self, step)

    # The steps.

    def _ask(self, step: Step) -> Seen:
        return self._answer(step.label, self._begun(step))

    def _begin(self, step: Step) -> Seen:
        self._talks[step.label] = self._begun(step)
        return Seen()

    def _go_on(self, step: Step) -> Seen:
        talk = self._talks.pop(step.label, None)
        if talk is None:
            return Seen(state="not begun")
        packet = heard([*talk.pieces, step.data])
        if packet and talk.has_more(packet, step.data):
            # What comes after the packet is seen or not by whether its beginning has been read.
            barrier(self._port)
        talk.send(step.data)
        return self._answer(step.label, talk)

    def _leave(self, step: Step) -> Seen:
        talk = self._begun(step)
        if step.how == HALF_CLOSE:
            talk.shut()
            reply = talk.peer.read_all()
            talk.peer.close()
            return self._after_leaving(talk.heard(), reply)
        self._go(talk, step.how)
        packet = talk.heard()
        if packet and packet[:1] in (b"x", b"s"):
            barrier(self._port)
            self._forget(packet)
        return Seen()

    def _end(self, step: Step) -> Seen:
        talk = self._talks.pop(step.label, None)
        if talk is None:
            return Seen(state="not open")
        state = OPEN if talk.peer.is_open() else CLOSED
        reply = b""
        if step.how in (HALF_CLOSE, SEND_MORE):
            talk.shut() if step.how == HALF_CLOSE else talk.send(step.data)
            reply = talk.peer.read_all()
        self._go(talk, step.how)
        return Seen(reply, f"was {state}{self._late(talk)}")

    def _check(self, _step: Step) -> Seen:
        if self._server.ended() is None:
            barrier(self._port)
        states = [f"{n} {OPEN if t.peer.is_open() else CLOSED}" for n, t in sorted(self._talks.items())]
        return Seen(state=", ".join(states))

    def _kill(self, step: Step) -> Seen:
        seen = self._ask(step)
        end = time.monotonic() + PATIENCE
        while self._server.ended() is None and time.monotonic() < end:
            time.sleep(0.002)
        return seen._replace(state=f"status {self._server.ended()}")

    _DO: ClassVar[dict[str, Callable[[_Player, Step], Seen]]] = {
        "ask": _ask,
        "begin": _begin,
        "go on": _go_on,
        "leave": _leave,
        "end": _end,
        "check": _check,
        "kill": _kill,
    }

    # Connections.

    def _begun(self, step: Step) -> _Talk:
        host = _HOSTS[step.label % len(_HOSTS)]
        talk = _Talk(self._opened.enter_context(Peer(self._port, host)))
        talk.send(step.data)
        return talk

    @staticmethod
    def _go(talk: _Talk, how: str) -> None:
        if how == RESET:
            talk.peer.reset()
        else:
            talk.peer.close()

    def _late(self, talk: _Talk) -> str:
        """Wait until the node of this connection is no more, if it was one; text if it does not go."""
        for name, (owner, request) in self._live.items():
            if owner is talk:
                del self._live[name]
                return "" if self._goes(request) else ", stays registered"
        return ""

    def _goes(self, request: Alive2Request) -> bool:
        end = time.monotonic() + PATIENCE
        while self._is_listed(request):
            if time.monotonic() > end:
                return False
        return True

    def _is_listed(self, request: Alive2Request) -> bool:
        if name_characters(request.name) == MAX_NAME_CHARACTERS:
            return names_line(request.name, request.port) in ask(self._port, b"n")
        return ask(self._port, b"z" + request.name)[1:2] == b"\0"

    # Replies.

    def _answer(self, label: int, talk: _Talk) -> Seen:
        packet = talk.heard()
        if packet is None:
            self._talks[label] = talk
            return Seen(state="not whole")
        if packet[:1] == b"x" and not talk.has_more(packet):
            return self._answer_to_node(label, talk, packet)
        reply = talk.peer.read_all()
        talk.peer.close()
        return self._after_leaving(packet, reply)

    def _answer_to_node(self, label: int, talk: _Talk, packet: bytes) -> Seen:
        size = 6 if int.from_bytes(packet[5:7], "big") >= FIRST_VERSION_WITH_32_BITS else 4
        reply = talk.peer.read(size)
        if has_empty_name(packet):
            talk.shut()
            reply += talk.peer.read_all()
            talk.peer.close()
            return Seen({b"\0": _REGISTERED, b"\1": _REFUSED}.get(reply[1:2], reply), CLOSED, EMPTY_NAME)
        if len(reply) < size:
            talk.peer.close()
            return Seen(reply, CLOSED)
        self._talks[label] = talk
        request = registration(packet)
        if request and reply[1] == 0:
            self._live[request.name] = talk, request
        return Seen(self._masked(packet, reply), OPEN)

    def _after_leaving(self, packet: bytes | None, reply: bytes) -> Seen:
        """A reply that was read to its end."""
        difference = self._difference(packet)
        if difference == LOOK_UP_255 and reply == self._due(packet):
            reply = _DUE
        reply = self._masked(packet or b"", reply)
        if packet and packet[:1] == b"s" and reply == STOPPED:
            self._live.pop(_stopped(packet), None)
        return Seen(reply, CLOSED, difference)

    def _difference(self, packet: bytes | None) -> str:
        """Of what deliberate difference the request is, if any."""
        if not packet:
            return ""
        if packet[:1] == b"z":
            longest = name_characters(_looked_up(packet)) == MAX_NAME_CHARACTERS
            return LOOK_UP_255 if longest and b"\0" not in _looked_up(packet) else ""
        if packet[:1] == b"s" and self._relaxed and len(packet) > 1:
            return "" if _stopped(packet) in self._live else STOP_UNKNOWN
        return ""

    def _due(self, packet: bytes) -> bytes:
        """What a look-up must be answered."""
        live = self._live.get(_looked_up(packet))
        return port2_reply(live[1]) if live else PORT2_NOT_FOUND

    def _forget(self, packet: bytes) -> None:
        """What came of this request is not known; one who was refused changes nothing."""
        if packet[:1] == b"s" and self._relaxed:
            self._live.pop(_stopped(packet), None)
        request = registration(packet)
        if request and request.name not in self._live:
            self._creations.pop(request.name, None)

    def _masked(self, packet: bytes, reply: bytes) -> bytes:
        """The reply without what may differ: the mapper's port, descriptors, the value of a creation."""
        if packet[:1] in (b"n", b"d"):
            is_port = reply[:4] == self._port.to_bytes(4, "big")
            return (b"PORT" if is_port else reply[:4]) + _DESCRIPTOR.sub(b"FD", reply[4:])
        request = registration(packet)
        if request and reply[1:2] == b"\0":
            return reply[:2] + self._relation(request.name, reply)
        return reply

    def _relation(self, name: bytes, reply: bytes) -> bytes:
        """How the creation relates to the last one of the name."""
        creation = _Creation(int.from_bytes(reply[2:], "big"), reply[:1] == b"y")
        last = self._creations.get(name)
        self._creations[name] = creation
        if not creation.is_valid():
            return b"(creation %d)" % creation.value
        if last is None:
            return b"(new)"
        if self._remembers_all:
            return b"(next)" if creation.follows(last) else b"(not the next)"
        # A name that was forgotten in between starts from the clock again.
        return b"(again)"


def _looked_up(packet: bytes) -> bytes:
    """The name in a PORT2 packet."""
    return packet[1:].removesuffix(b"\0")


def _stopped(packet: bytes) -> bytes:
    """The name in a STOP packet."""
    return packet[1:].split(b"\0", 1)[0]
