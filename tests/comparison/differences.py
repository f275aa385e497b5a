"""Where this epmd differs from C's on purpose: the one list that tests, scripts/compare and
docs/differences.md go by."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """`scene` is its title; `c` and `ours` say what each does there, and ours why."""

    scene: str
    c: str
    ours: str


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
        "for ever",
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
        "ends, and with it every registration",
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
        "returns when the port answers, and the status is true",
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
        "a wildcard address",
        "`-address 0.0.0.0` or `::` ends it",
        "the wildcard covers the loopback, and duplicates are dropped",
    ),
    Difference(
        "a loopback address that is not there",
        "ends it, on a host without IPv6",
        "is done without, unless it was asked for",
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
        "a port or a time that is none",
        "`ERL_EPMD_PORT=abc` binds a random port, `-port 70966` binds 5430, `-packet_timeout 5x` is 5",
        "a clear error, status 1",
    ),
    Difference(
        "`--help` and `--version`",
        "are unknown: usage on stderr, status 1",
        "are answered on stdout, status 0; `-help` is as C's",
    ),
    Difference(
        "a control character in a name",
        "goes into the log as it is, as do bytes that are not UTF-8",
        "is escaped, so that no name can forge a line or reach a terminal",
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
)


def is_listed(scene: str) -> bool:
    """Whether there is a deliberate difference of this title."""
    return any(difference.scene == scene for difference in DIFFERENCES)


_PAGE = """\
# Deliberately different from C

Made by `scripts/compare --write-docs` from the list that its verdicts and the tests go by
(`tests/comparison/differences.py`). Everywhere else the two programs do the same, which `scripts/compare`
shows. "C's epmd" is the one of OTP 25.

| scene | C's epmd | this one, and why |
|---|---|---|
{rows}
"""


def page() -> str:
    """docs/differences.md."""
    return _PAGE.format(rows="\n".join(f"| {d.scene} | {d.c} | {d.ours} |" for d in DIFFERENCES))
