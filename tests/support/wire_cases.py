"""The table of wire cases: one request each, what comes back, and what is registered then.

`reply` is bytes, or a list of parts: bytes, and the patterns below.  `stays` says that the connection
is not closed after it.  Where C answers something else on purpose, `c_reply` (and `c_stays`) say what, and
`difference` is the scene of support/differences.py that says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gevent_epmd.protocol import Alive2Request, port2_reply
from gevent_epmd.wire import frame
from support.peer import node


@dataclass(frozen=True)
class Pattern:
    regex: bytes


CREATION = Pattern(rb"(?!\0\0\0[\0-\3]).{4}")
OLD_CREATION = Pattern(rb"\0[\1-\3]")
FD = Pattern(rb"\d+")
PORT = Pattern(b"PORT")

Parts = bytes | list[bytes | Pattern]

REGISTERED: Parts = [b"v\0", CREATION]
REGISTERED_OLD: Parts = [b"y\0", OLD_CREATION]
REFUSED = b"v\1\0\0\0\x63"
REFUSED_OLD = b"y\1\0\x63"
NOTHING = b""

LONGEST = "n" * 255
FOO = node("foo")
BAR = node("bar", port=4712, extra=b"more")


@dataclass(frozen=True)
class Case:
    title: str
    request: bytes
    reply: Parts
    stays: bool = False
    nodes: tuple[Alive2Request, ...] = ()
    gone: tuple[Alive2Request, ...] = ()
    """Nodes that were registered and have gone, before `nodes` come."""
    relaxed: bool = False
    left: tuple[str, ...] | None = None
    """Which names NAMES lists afterwards; None: those of `nodes`, newest first."""
    ends: bool = False
    """The server ends."""
    c_reply: Parts | None = None
    c_stays: bool | None = None
    difference: str = ""

    def expected(self, port: int, *, of_c: bool) -> re.Pattern[bytes]:
        parts = self.c_reply if of_c and self.c_reply is not None else self.reply
        parts = [parts] if isinstance(parts, bytes) else parts
        regex = b"".join(re.escape(p) if isinstance(p, bytes) else p.regex for p in parts)
        return re.compile(regex.replace(b"PORT", re.escape(port.to_bytes(4, "big"))), re.DOTALL)

    def keeps_open(self, *, of_c: bool) -> bool:
        return self.c_stays if of_c and self.c_stays is not None else self.stays


def _alive(title: str, request: Alive2Request, reply: Parts = REGISTERED, **more) -> Case:
    return Case(f"ALIVE2 {title}", frame(request.packet()), reply, stays=True, **more)


def _raw_alive(title: str, packet: bytes) -> Case:
    return Case(f"ALIVE2 {title}", frame(packet), NOTHING)


def _port2(title: str, name: bytes, reply: Parts, **more) -> Case:
    return Case(f"PORT2 {title}", frame(b"z" + name), reply, **more)


_PLAIN = FOO.packet()
_LOOKUP_255 = "a look-up of a 255-character name"
_STOP_UNKNOWN = "STOP of an unknown name"
_EMPTY_NAME = "a registration of an empty name"

NOT_UTF8 = {
    "a lone continuation byte": b"a\x80b",
    "a cut sequence": b"ab\xc3",
    "an overlong NUL": b"\xc0\x80",
    "an overlong slash": b"\xe0\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "a code point above U+10FFFF": b"\xf4\x90\x80\x80",
    "a byte that UTF-8 has not": b"\xff",
}

ALIVE2 = [
    _alive("of a node", FOO, left=("foo",)),
    _alive("of a node of version 7", node("foo", highest=7), left=("foo",)),
    _alive("of an old node", node("foo", highest=5), REGISTERED_OLD, left=("foo",)),
    _alive("of a node of version 0", node("foo", highest=0), REGISTERED_OLD, left=("foo",)),
    _alive("of a hidden node", FOO._replace(node_type=72), left=("foo",)),
    _alive("of an unknown type and protocol", FOO._replace(node_type=1, protocol=9), left=("foo",)),
    _alive("with port 0", node("foo", port=0), left=("foo",)),
    _alive("with the highest port", node("foo", port=65535), left=("foo",)),
    _alive("with extra data", node("foo", extra=b"\0\1extra\xff"), left=("foo",)),
    _alive("with the longest extra data", node("foo", extra=b"e" * 1020), left=("foo",)),
    _alive("beside others", FOO, nodes=(BAR,), left=("foo", "bar")),
    _alive("of a name that is free again", FOO, gone=(FOO,), left=("foo",)),
    _alive("of a one-letter name", node("f"), left=("f",)),
    _alive("of a name in Cyrillic", node("узел"), left=("узел",)),
    _alive("of a name with blanks and an at", node("a b@c"), left=("a b@c",)),
    _alive("of 255 letters", node(LONGEST), left=(LONGEST,)),
    _alive("of 255 characters of 2 bytes", node("ж" * 255), left=("ж" * 255,)),
    _alive("of 255 characters of 4 bytes", node("😀" * 255), left=("😀" * 255,)),
    Case("ALIVE2 with bytes after the extra data", frame(_PLAIN + b"more"), REGISTERED, True, left=("foo",)),
    _alive("of 256 letters", node("n" * 256), REFUSED),
    _alive("of 256 letters, old", node("n" * 256, highest=5), REFUSED_OLD),
    _alive("of 256 characters of 2 bytes", node("ж" * 256), REFUSED),
    _alive("of 1,021 letters", node("n" * 1021), REFUSED),
    _alive("with extra data of 1,021 bytes", node("foo", extra=b"e" * 1021), REFUSED),
    _alive("of a taken name", FOO, REFUSED, nodes=(FOO,)),
    _alive("of a taken name, old", node("foo", highest=5), REFUSED_OLD, nodes=(FOO, BAR)),
    *(_alive(f"of a name with {title}", node(name), REFUSED) for title, name in NOT_UTF8.items()),
    _alive(
        "of an empty name with extra data",
        node("", extra=b"e"),
        REFUSED,
        c_reply=REGISTERED,
        difference=_EMPTY_NAME,
    ),
    _raw_alive("that is only its tag", b"x"),
    _raw_alive("of 12 bytes", _PLAIN[:12]),
    _raw_alive("of an empty name", node("").packet()),
    _raw_alive("with a name that runs past the packet", _PLAIN[:9] + b"\0\x09" + _PLAIN[11:]),
    _raw_alive("with a name that leaves no room for Elen", _PLAIN[:9] + b"\0\4" + _PLAIN[11:]),
    _raw_alive("with extra data that runs past the packet", _PLAIN[:-2] + b"\0\1"),
    _raw_alive("with the longest Nlen", _PLAIN[:9] + b"\xff\xff" + _PLAIN[11:]),
    _raw_alive("with a NUL in the name", node("f\0o").packet()),
    _raw_alive("with a NUL after the name", node("foo\0").packet()),
    _raw_alive("with a NUL before the name", node("\0foo").packet()),
]

PORT2 = [
    _port2("of a node", b"foo", port2_reply(FOO), nodes=(FOO,)),
    _port2("with a NUL after the name", b"foo\0", port2_reply(FOO), nodes=(FOO,)),
    _port2("of a node with extra data", b"bar", port2_reply(BAR), nodes=(FOO, BAR)),
    _port2("of nobody", b"foo", b"w\1"),
    _port2("of a part of a name", b"fo", b"w\1", nodes=(FOO,)),
    _port2("of a name in another case", b"Foo", b"w\1", nodes=(FOO,)),
    _port2("of a node that has gone", b"foo", b"w\1", gone=(FOO,)),
    _port2("of a name in Cyrillic", "узел".encode(), port2_reply(node("узел")), nodes=(node("узел"),)),
    _port2("of 254 letters", b"n" * 254, port2_reply(node("n" * 254)), nodes=(node("n" * 254),)),
    _port2(
        "of 255 letters",
        LONGEST.encode(),
        port2_reply(node(LONGEST)),
        nodes=(node(LONGEST),),
        c_reply=NOTHING,
        difference=_LOOKUP_255,
    ),
    _port2(
        "of 255 characters of 4 bytes",
        ("😀" * 255).encode(),
        port2_reply(node("😀" * 255)),
        nodes=(node("😀" * 255),),
        c_reply=NOTHING,
        difference=_LOOKUP_255,
    ),
    _port2("of 255 letters, of nobody", LONGEST.encode(), b"w\1", c_reply=NOTHING, difference=_LOOKUP_255),
    _port2("of 256 letters", b"n" * 256, NOTHING),
    _port2("of no name", b"", NOTHING),
    _port2("of only a NUL", b"\0", NOTHING),
    _port2("of two NULs", b"\0\0", NOTHING),
    _port2("with two NULs after the name", b"foo\0\0", NOTHING, nodes=(FOO,)),
    _port2("with a NUL in the name", b"f\0o", NOTHING),
    *(_port2(f"of a name with {title}", name, NOTHING) for title, name in NOT_UTF8.items()),
]


def _active(request: Alive2Request) -> list[bytes | Pattern]:
    return [b"active name     <%b> at port %d, fd = " % (request.name, request.port), FD, b"\n\0"]


def _unused(request: Alive2Request) -> list[bytes | Pattern]:
    return [b"old/unused name <%b>, port = %d, fd = " % (request.name, request.port), FD, b" \n\0"]


_BOTH: Parts = [PORT, b"name bar at port 4712\nname foo at port 4711\n"]
_DUMP: Parts = [PORT, *_active(BAR), *_active(FOO), *_unused(node("old1")), *_unused(node("old2"))]
_DUMP_NODES = {"nodes": (FOO, BAR), "gone": (node("old1"), node("old2"))}

LISTINGS = [
    Case("NAMES of nobody", frame(b"n"), [PORT]),
    Case("NAMES newest first", frame(b"n"), _BOTH, nodes=(FOO, BAR)),
    Case("NAMES with bytes after the tag", frame(b"nfoo\0bar"), _BOTH, nodes=(FOO, BAR)),
    Case("NAMES without those that have gone", frame(b"n"), _BOTH, nodes=(FOO, BAR), gone=(node("old"),)),
    Case("NAMES of a name that came back", frame(b"n"), _BOTH, nodes=(FOO, BAR), gone=(BAR, FOO)),
    Case(
        "NAMES in Cyrillic", frame(b"n"), [PORT, "name узел at port 4711\n".encode()], nodes=(node("узел"),)
    ),
    Case("DUMP of nobody", frame(b"d"), [PORT]),
    Case("DUMP live nodes newest first, then late ones", frame(b"d"), _DUMP, **_DUMP_NODES),
    Case("DUMP with bytes after the tag", frame(b"dfoo\0bar"), _DUMP, **_DUMP_NODES),
    Case("DUMP of a name that came back", frame(b"d"), [PORT, *_active(FOO)], nodes=(FOO,), gone=(FOO,)),
]

COMMANDS = [
    Case("KILL", frame(b"k"), b"OK", ends=True),
    Case("KILL with bytes after the tag", frame(b"kfoo"), b"OK", ends=True),
    Case("KILL with late nodes", frame(b"k"), b"OK", gone=(FOO,), ends=True),
    Case("KILL with nodes", frame(b"k"), b"NO", nodes=(FOO,)),
    Case("KILL with nodes, relaxed", frame(b"k"), b"OK", nodes=(FOO,), relaxed=True, ends=True),
    Case("STOP", frame(b"sfoo"), NOTHING, nodes=(FOO,)),
    Case("STOP of nobody", frame(b"sfoo"), NOTHING),
    Case("STOP, relaxed", frame(b"sfoo"), b"STOPPED", nodes=(FOO, BAR), relaxed=True, left=("bar",)),
    Case("STOP with a NUL, relaxed", frame(b"sfoo\0"), b"STOPPED", nodes=(FOO,), relaxed=True, left=()),
    Case(
        "STOP with a NUL inside, relaxed", frame(b"sfoo\0b"), b"STOPPED", nodes=(FOO,), relaxed=True, left=()
    ),
    *(
        Case(
            f"STOP of {title}, relaxed",
            frame(b"s" + name),
            b"NOEXIST",
            nodes=(FOO,),
            relaxed=True,
            c_reply=b"NOEXISTSTOPPED",
            difference=_STOP_UNKNOWN,
        )
        for title, name in {"nobody": b"bar", "only a NUL": b"\0", "what is no name": b"\xff"}.items()
    ),
    Case("STOP of no name, relaxed", frame(b"s"), NOTHING, nodes=(FOO,), relaxed=True),
]

FRAMES = [
    Case("a packet of length 0", b"\0\0", NOTHING),
    Case("a packet of length 3,058", b"\x0b\xf2" + b"n" * 3058, NOTHING),
    Case("a packet of length 3,057", b"\x0b\xf1" + b"n" * 3057, [PORT]),
    Case("a packet of length 65,535", b"\xff\xff" + b"n" * 100, NOTHING),
    Case("a web browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", NOTHING),
    Case("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), NOTHING),
    *(
        Case(f"tag {tag!r}", frame(tag + b"foo"), NOTHING)
        for tag in (b"\0", b"a", b"p", b"u", b"w", b"y", b"\xff")
    ),
]

CASES = [*ALIVE2, *PORT2, *LISTINGS, *COMMANDS, *FRAMES]
