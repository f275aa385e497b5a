"""Any bytes at all: over the parts that decide, guided by their coverage, and over a live socket.

`corpus.txt` has a line an input, in hexadecimal: what atheris found that reaches something new.  The first
byte of an input says how many of the others come at a time; the socket gets the others as they are.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gevent_epmd import protocol
from gevent_epmd.protocol import Alive2Request, PacketReader, Port2Request, ProtocolError
from gevent_epmd.server.registry import NodeRefused, Registry
from gevent_epmd.wire import frame
from soak.crowd import quick, still_serves
from soak.play import Figures, Form, Scale, scene
from support.paths import TESTS
from support.peer import look_up, names, node, register
from support.programs import clean_environment

CORPUS = Path(__file__).with_name("corpus.txt")

_ANSWER = re.compile(rb"|w\x01|w\x00.{10}.+|v[\x00\x01].{4}|y[\x00\x01].{2}|OK|NO|STOPPED|NOEXIST", re.DOTALL)
_DUMPED = re.compile(
    rb"active name     <.*> at port \d+, fd = \d+\n|old/unused name <.*>, port = \d+, fd = \d+ \n", re.DOTALL
)


def corpus() -> list[bytes]:
    return [bytes.fromhex(line) for line in CORPUS.read_text(encoding="ascii").split()]


class Holder:
    """Of every name; it never goes by itself."""

    fd = 7

    def gone(self) -> bool:
        return False


def feed(data: bytes) -> None:
    """One input for the protocol and the registry; fails where they do anything but what they promise."""
    packet = read(data[1:], data[0] + 1) if data else None
    if packet is None:
        return
    try:
        request = protocol.parse_request(packet)
    except ProtocolError:
        return
    if getattr(request, "name", True):  # no name at all takes other bytes to be said
        assert protocol.parse_request(request.packet()) == request
    if isinstance(request, Alive2Request):
        live_and_die(request)
    elif isinstance(request, Port2Request):
        assert 1 <= len(request.name.decode()) <= protocol.MAX_NAME_CHARACTERS


def read(data: bytes, size: int) -> bytes | None:
    """The packet at the beginning, where so many bytes come at a time; None if it is not whole, or none."""
    reader = PacketReader()
    while data:
        taken = min(size, reader.wanted)
        try:
            packet = reader.receive_data(data[:taken])
        except ProtocolError:
            return None
        if packet is not None:
            assert 1 <= len(packet) <= protocol.MAX_PACKET
            return packet
        data = data[taken:]
    return None


def live_and_die(request: Alive2Request) -> None:
    registry = Registry()
    try:
        taken = registry.register(request, Holder())
    except NodeRefused:
        assert request.refusal()
        assert not len(registry)
        return
    assert registry.find(request.name) is taken
    reply = protocol.alive2_reply(request.highest, taken.creation)
    assert len(reply) == (6 if request.highest >= 6 else 4)
    assert protocol.parse_request(b"z" + request.name).name == request.name or request.name.endswith(b"\0")
    assert _ANSWER.fullmatch(protocol.port2_reply(request))
    assert registry.unregister(taken)
    assert registry.names_reply() == b"\0\0\x11\x11"
    assert registry.dump_reply().count(b"old/unused name <") == 1


def mutants(seed: int) -> Iterator[bytes]:
    """The corpus, and then without end what is near to it."""
    known = corpus()
    yield from known
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(known))
        for _ in range(chance.randrange(1, 4)):
            mutate(data, chance, known)
        # Half of them as a whole packet: the others seldom get beyond their length.
        yield bytes(data[:1]) + frame(bytes(data[3:])) if chance.random() < 0.5 else bytes(data)


def mutate(data: bytearray, chance: random.Random, known: list[bytes]) -> None:
    place = chance.randrange(len(data) + 1)
    match chance.randrange(4):
        case 0:
            data[place : place + 1] = bytes((chance.randrange(256),))
        case 1:
            data[place:place] = chance.randbytes(chance.randrange(1, 9))
        case 2:
            del data[place : place + chance.randrange(1, 9)]
        case _:
            data[place:] = chance.choice(known)[-place:]


@scene("10^6 inputs to protocol and registry, guided by coverage (of ours only)")
def fuzz_protocol(form: Form, scale: Scale) -> Figures:
    """In short: the corpus, and what is near to it."""
    assert not form.is_c, "not played: C's has no such parts"
    if not scale.short:
        return guided(1_000_000)
    inputs = mutants(seed=1)
    count = len(corpus()) + 10_000
    for _ in range(count):
        feed(next(inputs))
    return {"inputs": count}


def guided(runs: int) -> Figures:
    """With atheris, from the corpus; what it found goes to the end of the output."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(corpus()):
            (Path(folder) / str(number)).write_bytes(data)
        command = [sys.executable, "-m", "soak.guided", folder, f"-runs={runs}", "-max_len=4096"]
        environ = clean_environment(PYTHONPATH=str(TESTS))
        done = subprocess.run(
            [*command, f"-artifact_prefix={folder}/"], capture_output=True, env=environ, check=False
        )
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, said[-1000:]
        found = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)[-1]
    return {"inputs": runs, "branches": found[0], "features": found[1], "corpus": found[2]}


@scene("10^5 inputs over a live socket")
def fuzz_socket(form: Form, scale: Scale) -> Figures:
    inputs, count = mutants(seed=2), len(corpus()) + scale.of(100_000, 1_000)
    with form() as server:
        keeper, _ = register(server.port, node("keeper"))
        replies = 0
        for number in range(count):
            data = next(inputs)[1:]
            reply = exchange(server.port, number, data)
            replies += bool(reply)
            if not is_reply(reply, server.port):
                still_serves(server)
                raise AssertionError(f"{data.hex()} was answered with {reply!r}")
            if number % 500 == 0:
                assert look_up(server.port, "keeper")[:2] == b"w\0"
        still_serves(server)
        assert keeper.is_open()
        assert "keeper at port 4711" in names(server.port)
        keeper.close()
    return {"inputs": count, "answered": replies, "closed": count - replies}


def exchange(port: int, number: int, data: bytes) -> bytes:
    """What comes back before it is closed, which the end of what is sent brings about; one in ten ends by
    a reset."""
    with quick(port, number) as peer:
        try:
            peer.send(data)
            if number % 10 == 9:
                peer.reset()
                return b""
            peer.sock.shutdown(1)
        except OSError:
            pass  # it had seen enough
        return peer.read_all()


def is_reply(reply: bytes, port: int) -> bool:
    if not reply.startswith(port.to_bytes(4, "big")):
        return bool(_ANSWER.fullmatch(reply))
    listing = reply[4:]
    if listing.endswith(b"\0"):
        return all(_DUMPED.fullmatch(line) for line in listing[:-1].split(b"\0"))
    # A name may hold what looks like the end of a line.
    return listing.startswith(b"name ") and listing.endswith(b"\n")
