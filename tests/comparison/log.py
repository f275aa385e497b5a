"""What an operator reads: the log of either side at each debug level, event by event.

Each script is a generator that does something and then yields what it was; when the server has
nothing more to do, what it has written since is what it says of that event.

Scripts are played by processes that have one thread, this module run as a program: where several threads of
one play, what one of them closes stays open for as long as another is starting a program.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from comparison.masks import in_any_order, masked
from comparison.rows import Form, Row, Seen, at_once, seen_in
from comparison.settled import settle, stay_on_one_processor
from gevent_epmd.wire import frame
from support.daemons import serving_pid
from support.forms import Process
from support.paths import TESTS
from support.patience import LONG, wait_until
from support.peer import Peer, ask, node, register, try_to_register
from support.programs import run
from support.scenes import OTHER_V4, run_apart

if TYPE_CHECKING:
    from comparison.groups import Plan

Script = Callable[[int], Iterator[str]]
#: A script, and the options of the server.
Play = tuple[Script, list[str]]

GROUP = "log"
#: The options of each level of the log.
_LEVELS: tuple[list[str], ...] = ([], ["-d"], ["-d", "-d"], ["-d", "-d", "-d"])
_AT_ONCE = 4

_NOT_THERE = "an address that the host does not have, while an epmd is running"
_TAKEN = "an address that is in use, while an epmd is running on all addresses"
_ORDER = "the order of the log of `-d -d` and `-d -d -d`"
#: The events of which the sides speak differently on purpose, from which debug level on, and the
#: title of the difference.
_DELIBERATE = {
    "a look-up of a name of 255 characters": (0, "a look-up of a 255-character name"),
    "a name that is not UTF-8": (0, "a control character in a name"),
    "a name with control characters": (0, "a control character in a name"),
    "the end of a name with control characters": (0, "a control character in a name"),
    "a look-up of a name with control characters": (0, "a control character in a name"),
    "an empty name with extra data": (0, "a registration of an empty name"),
    "the end of an empty name with extra data": (0, "a registration of an empty name"),
    "STOP of an unknown name": (1, "STOP of an unknown name"),
    "an unknown tag, again and again": (0, "the same error again and again"),
    "the rest of a packet": (2, _ORDER),
    "KILL with a node": (2, _ORDER),
}

#: What to send and nothing else, each with what it is called.
_PACKETS = {
    "a look-up": b"zfoo",
    "a look-up of a name with a NUL at its end": b"zfoo\0",
    "a look-up in vain": b"znobody",
    "a look-up of nothing": b"z",
    "a look-up of a NUL": b"z\0",
    "a look-up of a name with a NUL inside": b"zfo\0o",
    "a look-up of a name that is not UTF-8": b"zfo\xff",
    "a look-up of a long name": b"z" + b"n" * 254,
    "a look-up of a name of 255 characters": b"z" + b"n" * 255,
    "a look-up of a name with control characters": b"za\r\nb\x1b[2J",
    "a look-up of a name too long": b"z" + b"n" * 256,
    "a look-up of an odd name": "zö \"quoted\" '%s' <x>".encode(),
    "NAMES": b"n",
    "NAMES with more": b"nothing",
    "NAMES in a long packet": b"n" * 3000,
    "DUMP": b"d",
    "KILL refused": b"k",
    "STOP without relaxed checking": b"sfoo",
    "STOP of nothing": b"s",
    "an unknown tag": b"?",
    "an unknown tag in a long packet": b"?" * 1024,
    "ALIVE2 that is its tag": b"x",
    "ALIVE2 that is too short": node("", extra=b"").packet()[:13],
    "ALIVE2 whose name runs over": node("n" * 20).packet()[:-4],
    "ALIVE2 whose extra data runs over": node("foo", extra=b"abc").packet()[:-1],
    "ALIVE2 of a name with a NUL": node(b"a\0b").packet(),
}

#: What is no packet.
_BYTES = {
    "length 0": b"\0\0",
    "a length too great": b"\x0f\xff",
    "more bytes than announced": b"\0\1nnnn",
    "another protocol": b"GET / HTTP/1.0\r\n\r\n",
}

#: Registrations: refused ones, and odd ones.
_NODES = {
    "a name that is taken": node("foo"),
    "a name that is taken, asked for by an old node": node("foo", highest=5),
    "a name of 256 characters": node("n" * 256),
    "a name of 256 characters of two bytes": node("ö" * 256),
    "a name of 1,021 bytes": node("n" * 1021),
    "a name that is not UTF-8": node(b"caf\xe9"),
    "too much extra data": node("bar", extra=b"e" * 1021),
    "an old node": node("old", highest=5),
    "a name with odd characters": node("ö \"quoted\" '%s' <x>"),
    "a long name": node("n" * 254, extra=b"\0\xff"),
    "port 0": node("zero", port=0),
}

_ODD_NODES = {
    "a name with control characters": node("a\r\nb\x1b[2J"),
    "an empty name with extra data": node("", extra=b"abc"),
}


def requests(port: int) -> Iterator[str]:
    """Requests good and bad, while one node is registered."""
    with register(port, node("foo"))[0]:
        yield "a node registers"
        for title, packet in _PACKETS.items():
            ask(port, packet)
            yield title
        for title, data in _BYTES.items():
            _send(port, data)
            yield title
        yield from _partial(port)
        yield from _alive2(port)
    yield "the node goes"


def _send(port: int, data: bytes) -> None:
    with Peer(port) as peer:
        peer.send(data)
        peer.read_all()


def _partial(port: int) -> Iterator[str]:
    for title, data in (("nothing", b""), ("half a header", b"\0"), ("half a packet", b"\0\5zfo")):
        for end in (Peer.close, Peer.reset):
            peer = Peer(port)
            peer.send(data)
            yield f"{title} is sent, before a {end.__name__}"
            end(peer)
            yield f"the {end.__name__} after {title}"
    with Peer(port) as peer:
        peer.send(b"\0\4zf")
        yield "the beginning of a packet"
        peer.send(b"oo")
        peer.read_all()
        yield "the rest of a packet"


def _alive2(port: int) -> Iterator[str]:
    for title, request in _NODES.items():
        with Peer(port) as peer:
            try_to_register(peer, request)
            yield title
        yield f"the end of {title}"
    with Peer(port) as peer:
        peer.send(frame(node("more").packet() + b"more"))
        peer.read(6)
        yield "a node sends more within its packet"
    yield "its end"
    with Peer(port) as peer:
        try_to_register(peer, node("foo"))
        peer.send(b"more")
        peer.read_all()
        yield "a node that is refused sends more"


def odd(port: int) -> Iterator[str]:
    """Names that either side takes differently on purpose."""
    for title, request in _ODD_NODES.items():
        with Peer(port) as peer:
            try_to_register(peer, request)
            yield title
        yield f"the end of {title}"


def registrations(port: int) -> Iterator[str]:
    """The ends of registrations, and what is remembered of them."""
    for title, end in {
        "its end": Peer.close,
        "a reset": Peer.reset,
        "a byte": lambda peer: peer.send(b"!"),
        "a request": lambda peer: peer.send(frame(b"zfoo")),
        "many bytes": lambda peer: peer.send(b"z" * 2000),
    }.items():
        peer, _ = register(port, node("foo"))
        yield f"foo comes, before {title}"
        end(peer)
        yield f"foo goes by {title}"
        peer.close()
    for number in range(8):
        peer, _ = register(port, node(f"n{number}"))
        peer.close()
        yield f"n{number} comes and goes"
    with ExitStack() as stack:
        for name in ("new", "n7", "n0", "newer"):
            stack.enter_context(register(port, node(name))[0])
            yield f"{name} comes, after many"
        ask(port, b"n")
        yield "NAMES of many"
        ask(port, b"d")
        yield "DUMP of many"


def relaxed(port: int) -> Iterator[str]:
    """What a relaxed check allows, to the end of the server."""
    with register(port, node("foo"))[0] as peer:
        yield "a node registers with a relaxed server"
        ask(port, b"sfoo")
        yield "STOP"
        peer.read_all()
    yield "the stopped node goes"
    ask(port, b"snobody")
    yield "STOP of an unknown name"
    ask(port, b"s")
    yield "STOP of nothing"
    with register(port, node("foo"))[0]:
        yield "it comes back"
        ask(port, b"k")
        yield "KILL with a node"


def timed_out(port: int) -> Iterator[str]:
    with Peer(port) as peer:
        peer.send(b"\0")
        peer.read_all()
        yield "a connection in vain"


def not_to_be_answered(port: int) -> Iterator[str]:
    """The other end is gone before the delay of a busy server is over."""
    pid = serving_pid(port)
    before = _descriptors(pid)
    for title, packet in (("NAMES", b"n"), ("a look-up", b"zfoo"), ("ALIVE2", node("foo").packet())):
        peer = Peer(port)
        peer.send(frame(packet))
        settle(pid)  # it has been read
        peer.reset()
        wait_until(lambda: _descriptors(pid) == before, "the connection to be closed, after the delay")
        yield f"{title} that cannot be answered"


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def complaints(port: int) -> Iterator[str]:
    """What is said without -d, once each."""
    with register(port, node("foo"))[0]:
        for title in (
            "a look-up of nothing",
            "KILL refused",
            "STOP without relaxed checking",
            "an unknown tag",
        ):
            ask(port, _PACKETS[title])
            yield title
        for title in ("ALIVE2 that is too short", "ALIVE2 whose name runs over"):
            ask(port, _PACKETS[title])
            yield title
        for title in ("length 0", "more bytes than announced"):
            _send(port, _BYTES[title])
            yield title
        for title in ("a name that is taken", "a name of 256 characters", "too much extra data"):
            with Peer(port) as peer:
                try_to_register(peer, _NODES[title])
                yield title
            yield f"the end of {title}"
        for _ in range(20):
            ask(port, b"?")
        yield "an unknown tag, again and again"


def strangers(port: int) -> Iterator[str]:
    """Somebody from another address of this host stands for another host."""
    for title in (
        "a look-up",
        "NAMES",
        "DUMP",
        "KILL refused",
        "STOP without relaxed checking",
        "an unknown tag",
    ):
        ask(port, _PACKETS[title], source=OTHER_V4)
        yield f"{title}, from elsewhere"
    ask(port, node("foo").packet(), source=OTHER_V4)
    yield "ALIVE2, from elsewhere"


def played(script: Script, options: list[str], form: Form) -> list[Seen]:
    """What one side says of each event of a script."""
    stay_on_one_processor()
    seen = []
    with form(*options) as server:
        pid, said = server.pid, ""
        for title in _with_start(script, server.port):
            settle(pid)
            log = server.log()
            new = masked(log.removeprefix(said), server.port)
            if options.count("-d") > 1:
                new = in_any_order(new)
            level, difference = _DELIBERATE.get(title, (0, ""))
            if options.count("-d") < level:
                difference = ""
            seen.append(Seen(f"{_line(options)}: {title}", new, difference))
            said = log
    return seen


def _with_start(script: Script, port: int) -> Iterator[str]:
    yield f"{script.__name__}: it starts, and is asked for NAMES"
    yield from script(port)


def _line(options: list[str]) -> str:
    return " ".join(options) or "no option"


def played_by_a_process(plays: list[Play], form: Form) -> list[Seen]:
    """The same of several scripts, one after the other; in a network of its own where they need an address of
    this host that is no loopback address."""
    told = json.dumps([[script.__name__, options] for script, options in plays])
    me = [sys.executable, "-m", "comparison.log", json.dumps(form.command), told]
    how = run_apart if any(script is strangers for script, _ in plays) else run
    done = how(me, environ={"PYTHONPATH": str(TESTS)}, timeout=LONG)
    assert done.returncode == 0, done.stderr.decode()
    return [Seen(*seen) for seen in json.loads(done.stdout)]


def starts(options: list[str], form: Form) -> list[Seen]:
    """Where it does not come to serve."""
    with form() as server:
        seen = []
        for title, more in {
            "the port is in use": [],
            "the port is in use at an address": ["-address", "127.0.0.1"],
            _NOT_THERE: ["-address", "203.0.113.7"],
            _TAKEN: ["-address", "127.0.0.5"],
            "an address that is none": ["-address", "127.0.0.1,here"],
        }.items():
            ended = run([*form.command, "-port", str(server.port), *options, *more])
            text = masked(ended.stderr.decode(), server.port)
            difference = title if title == _NOT_THERE or (title == _TAKEN and options) else ""
            seen.append(Seen(f"{_line(options)}: {title}", f"{text}status {ended.returncode}", difference))
    return seen


def _plays() -> Iterator[Play]:
    for options in _LEVELS:
        yield relaxed, [*options, "-relaxed_command_check"]
        for script in (requests, odd, registrations, strangers) if options else (complaints,):
            yield script, options
    yield timed_out, ["-d", "-d", "-packet_timeout", "1"]
    yield not_to_be_answered, ["-d", "-d", "-delay_write", "2"]


def play(form: Form, every: int = 1) -> list[Seen]:
    """What one side says in each of the plays, or in every so many of them.

    Most of the time is spent waiting, so several are played at once.
    """
    plays = [*_plays()][::every]
    by_strangers = [each for each in plays if each[0] is strangers]
    others = [each for each in plays if each[0] is not strangers]
    processes = [by_strangers, *(others[first :: _AT_ONCE - 1] for first in range(_AT_ONCE - 1))]
    refused = [partial(starts, options) for options in _LEVELS[::every]]
    return seen_in(
        [*(partial(played_by_a_process, some) for some in processes if some), *refused], form, _AT_ONCE
    )


def rows(c: Form, ours: Form, _plan: Plan) -> Iterator[Row]:
    return at_once(GROUP, play, c, ours)


def _main() -> None:
    form = type("Form", (Process,), {"command": tuple(json.loads(sys.argv[1]))})
    plays = [(globals()[script], options) for script, options in json.loads(sys.argv[2])]
    json.dump([seen for script, options in plays for seen in played(script, options, form)], sys.stdout)


if __name__ == "__main__":
    _main()
