"""Where this epmd differs from C's on purpose: the one list that tests, scripts/compare and
docs/differences.md go by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

#: The versions of Erlang/OTP whose C epmd is compared: the columns.  A version in between counts as the last
#: one before it.
VERSIONS = (25, 27, 29)
SAME = "as this one"

#: The difference in words alone, which is in so many scenes that they do not name it.
WORDS = "the log's names of requests and replies"


class Difference(NamedTuple):
    """`scene` is its title; `c` and `ours` say what each does there, and ours why.

    Where C's versions differ among themselves, `c` says for the first version of each kind what it and those
    after it do; SAME where that is no difference from ours."""

    scene: str
    c: str | dict[int, str]
    ours: str

    def of(self, otp: int) -> str:
        """What C's epmd of this version does."""
        if isinstance(self.c, str):
            return self.c
        return self.c[max((first for first in self.c if first <= otp), default=min(self.c))]


DIFFERENCES = (
    Difference(
        "a look-up of a 255-character name",
        "closes without a reply",
        "answers: the name could be registered",
    ),
    Difference(
        "STOP of an unknown name",
        "answers `NOEXISTSTOPPED`",
        "answers `NOEXIST`, what clients read of it",
    ),
    Difference(
        "a registration of an empty name",
        "accepts it, where extra data follows",
        "refuses it: nobody can look it up",
    ),
    Difference(
        "a name that comes back at once",
        "is refused now and then, because the old connection's end has not been read",
        "looks whether the old owner is there before it refuses",
    ),
    Difference(
        "dripped bytes keep a connection open",
        {25: "for ever", 27: "for as long as they come several times a second"},
        "the packet timeout counts from the connection's start",
    ),
    Difference(
        "a reader that does not read",
        "stops the whole server",
        "waits alone, and is cut off at the packet timeout",
    ),
    Difference(
        "1,024 descriptors",
        "the most there can be: node 1,018 is refused",
        "raises its limit to the hard one, and keeps some for those who ask",
    ),
    Difference(
        "out of descriptors",
        {25: "ends, and with it every registration", 27: "answers nobody new, and logs that without end"},
        "closes the connection that has been of no use for longest, never a node's",
    ),
    Difference(
        "thousands of connections that are not a node's",
        "take its 1,024 descriptors: it answers nobody any more, or ends",
        "are 4,096 at most; the one that has been of no use for longest makes room",
    ),
    Difference(
        "`-daemon` that cannot serve",
        "status 0, and it returns before the port answers",
        "returns when the port answers; the status is true, and stderr says why: containers have no syslog",
    ),
    Difference(
        "a stranger at the port",
        "is taken for an epmd: `-daemon` and `-started` end with status 0, `-names` prints what it says",
        "a line that says what was met, and status 1: to the caller there is no epmd",
    ),
    Difference(
        "an epmd that does not answer",
        "keeps an interactive call waiting for ever",
        "after 10 s says so and ends with status 1 (`-started` says nothing): health checks do not pile up",
    ),
    Difference(
        "a zombie under a PID 1",
        "is left by every `-daemon`, where PID 1 does not reap",
        "none: each process reaps its own child",
    ),
    Difference(
        "a zombie under it, where it is process 1",
        "is left by every process of others that ends as an orphan",
        "none: it reaps them; in the one-file executable process 1 is the launcher, which does not",
    ),
    Difference(
        "a wildcard address",
        {25: "`-address 0.0.0.0` or `::` ends it, by its own loopback socket, with status 0", 29: SAME},
        "the wildcard covers the loopback address of its family",
    ),
    Difference(
        "a loopback address that is not there",
        "on a host without IPv6 is worth a line of the log: `failed to bind on ipaddr ::1`",
        "is worth none, if nobody asked for it",
    ),
    Difference(
        "`-address ::1` on a host without IPv6",
        {25: "serves at 127.0.0.1", 29: SAME},
        "is an error, status 1: the address was asked for",
    ),
    Difference(
        "a host whose own name is 127.0.1.1, as Debian and Ubuntu have it",
        "is not found by nodes with short names, where it listens on loopback alone",
        "`-loopback`, its variable and the socket unit listen there too",
    ),
    Difference(
        "an address that is named twice",
        "finds its port taken, by itself, and ends with status 0",
        "is listened on once",
    ),
    Difference(
        "a loopback address that is named twice",
        {25: SAME, 29: "finds its port taken, by itself, and ends with status 0"},
        "is listened on once",
    ),
    Difference(
        "an address that is not there, beside an epmd that runs",
        {25: "status 0, since it binds the loopback address first, and that is taken", 29: SAME},
        "is an error, status 1: named addresses are bound before the loopback addresses",
    ),
    Difference(
        "an address that is taken, beside an epmd that runs everywhere",
        {25: "`-d` names the loopback address as the one that is taken", 29: SAME},
        "`-d` names the address that was asked for",
    ),
    Difference(
        "14 addresses",
        "are more than it listens on, beside loopback: status 1",
        "are as many as it listens on, beside loopback",
    ),
    Difference(
        "the number of addresses that there may be",
        {25: "is said to be 16, which counts the two loopback addresses", 29: SAME},
        "is said to be 14",
    ),
    Difference(
        "a port or a time that is none",
        "`ERL_EPMD_PORT=abc` binds a random port, `-port 70966` binds 5430, `-packet_timeout 5x` is 5",
        "a clear error, status 1",
    ),
    Difference(
        "`--help`, `--version` and `--licences`",
        "are unknown: usage on stderr, status 1",
        "are answered on stdout, status 0; `-help` is a usage error as for C, but the usage is our own text",
    ),
    Difference(
        "a control character in a name",
        "goes into the log as it is, as do bytes that are not UTF-8",
        "is escaped, so that no name can forge a line or reach a terminal",
    ),
    Difference(
        "a complaint about a peer",
        "does not say whose packet it was",
        "has the same words, and ends with ` from ADDRESS:PORT`",
    ),
    Difference(
        "a complaint that comes again and again",
        "fills the log",
        "is said once a second, and how often it was left out; each time with `-d`",
    ),
    Difference(
        "the log of `-d -d -d` while nothing happens",
        "gets a line with the time every few seconds",
        "gets none: this one sleeps",
    ),
    Difference(
        "an error of the system, in syslog",
        "is told without its reason, which stderr is told",
        "is told with its reason",
    ),
    Difference(
        "a log file that may not grow any more",
        "ends it, by SIGXFSZ, and with it every registration",
        "is done without",
    ),
    Difference(
        WORDS,
        {25: "`NAMES_REQ`, `DUMP_REQ`, `KILL_REQ`, `STOP_REQ`, `ALIVE2_RESP`, `PORT2_RESP`", 29: SAME},
        "`EPMD_NAMES_REQ` and so on; `ALIVE2_REQ`, `PORT2_REQ` and the other replies have kept their names",
    ),
    Difference(
        "the time after a part of a packet",
        {25: "is logged by `-d -d -d`", 27: SAME},
        "is not: the packet timeout does not count from there",
    ),
)

_BY_SCENE = {difference.scene: difference for difference in DIFFERENCES}

#: What WORDS is about.
_OLD_WORD = re.compile(r"\b((?:NAMES|DUMP|KILL|STOP)_REQ|(?:ALIVE2|PORT2)_RESP)\b")


def is_listed(scene: str) -> bool:
    """Whether there is a deliberate difference of this title."""
    return scene in _BY_SCENE


def differs(scene: str, otp: int) -> bool:
    """Whether C's epmd of this version differs from ours in the listed scene."""
    return _BY_SCENE[scene].of(otp) != SAME


def in_new_words(log: str) -> str:
    """A log of C's epmd in the words of the newest version."""
    return _OLD_WORD.sub(r"EPMD_\1", log)


_PAGE = """\
# Deliberately different from C

Made by `scripts/compare --write-docs` from the list that its verdicts and the tests go by
(`tests/comparison/differences.py`). Everywhere else the two programs do the same, which
`scripts/compare --c PATH` shows with the C epmd of each of these versions of Erlang/OTP.

| scene | {versions} | this one, and why |
|---{columns}|---|
{rows}
"""


def page() -> str:
    """docs/differences.md."""
    return _PAGE.format(
        versions=" | ".join(f"C's epmd, OTP {otp}" for otp in VERSIONS),
        columns="|---" * len(VERSIONS),
        rows="\n".join(f"| {d.scene} | {' | '.join(_cells(d))} | {d.ours} |" for d in DIFFERENCES),
    )


def _cells(difference: Difference) -> Iterator[str]:
    """What each version does, once for those that do the same."""
    first: dict[str, int] = {}
    for otp in VERSIONS:
        does = difference.of(otp)
        yield f"as OTP {first[does]}" if does in first and does != SAME else does
        first.setdefault(does, otp)
