"""Lists the deliberate differences between this epmd and C's.

Invariant: this is the only such list. The tests and scripts/compare use it to judge a difference, and
docs/differences.md is generated from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

#: The columns: the versions of Erlang/OTP whose C epmd is compared. Any other version counts as the last
#: column before it.
VERSIONS = (25, 27, 29)
SAME = "as this one"

#: The scene of the difference that only renames words in the log. It affects so many scenes that they do not
#: refer to it.
WORDS = "the log's names of requests and replies"


class Difference(NamedTuple):
    """A deliberate difference. Tests refer to it by `scene`, its title.

    `c` is what C's epmd does there, and `ours` is what this epmd does, and why. If C's versions differ, `c`
    maps the first version of each behaviour to the behaviour, or to SAME if it is the same as ours.
    """

    scene: str
    c: str | dict[int, str]
    ours: str

    def of(self, otp: int) -> str:
        """Return what C's epmd of this OTP version does, or SAME."""
        if isinstance(self.c, str):
            return self.c
        return self.c[max((first for first in self.c if first <= otp), default=min(self.c))]


_START = (
    Difference(
        "a running epmd that is to be replaced while nodes are registered",
        "cannot be replaced: `-kill` is refused, and if its process is ended, all nodes must register again",
        "takes its place with `-takeover`: the sockets are copied, and no node notices",
    ),
    Difference(
        "`-daemon` that cannot serve",
        "returns before the port answers, always with status 0",
        "returns once the port answers; the status is reliable, and the reason is on stderr too",
    ),
    Difference(
        "another program at the port",
        "takes it for an epmd: `-daemon` and `-started` exit with status 0, `-names` prints what it sends",
        "prints within 3 s what it found instead of an epmd, and who holds the port; the status is 1, "
        "because no epmd is available",
    ),
    Difference(
        "a firewall that blocks the port on loopback",
        "`-daemon` exits with status 0, and nobody can ask",
        "`-daemon` asks its own port; if no loopback address answers, it exits with status 1 and the reason",
    ),
    Difference(
        "an invalid port or time",
        "`ERL_EPMD_PORT=abc` binds a random port, `-port 70966` binds 5430, `-packet_timeout 5x` is 5",
        "reports the invalid value, and exits with status 1",
    ),
    Difference(
        "an invalid address in `ERL_EPMD_ADDRESS`",
        "prints an error that does not name the variable",
        "prints the same error, with the name of the variable before it",
    ),
    Difference(
        "a socket unit of systemd that starts epmd without `-systemd`",
        "finds its port in use, exits, and is started again by its own question",
        "exits with status 1 and the line `systemd passes the socket for port 4369: start with -systemd`",
    ),
    Difference(
        "SIGUSR1 to an epmd that serves",
        "ends it",
        "makes it log its numbers, because operators send it to daemons to learn something",
    ),
    Difference(
        "SIGHUP to an epmd with `-systemd`",
        "ends it",
        "has no effect but a log line, because `systemctl reload` must not end it; with `-allow_file` it "
        "reads that file again",
    ),
    Difference(
        "zombies of `-daemon`",
        "leaves one for every `-daemon` if PID 1 does not reap",
        "leaves none: each process reaps its own child",
    ),
    Difference(
        "zombies if epmd is process 1",
        "leaves one for every orphan that ends",
        "leaves none: it reaps orphans; in the one-file executable process 1 is the launcher, which does not",
    ),
)
_SERVE = (
    Difference(
        "out of descriptors",
        {
            25: "exits, and all registrations are lost",
            27: "accepts no new connection, and logs this endlessly",
        },
        "closes the connection that has been unused longest, but never a node's",
    ),
    Difference(
        "1,024 descriptors",
        "cannot use more, and rejects node 1,018",
        "raises its soft limit to the hard limit, and registers 24 nodes fewer than that: 1,000 of 1,024",
    ),
    Difference(
        "thousands of connections that are not a node's",
        "runs out of its 1,024 descriptors, then answers nobody or exits",
        "keeps at most 4,096; a new connection replaces the one that has been unused longest",
    ),
    Difference(
        "a client that does not read the reply",
        "blocks for all clients",
        "serves all other clients, and closes this connection at the packet timeout",
    ),
    Difference(
        "an incomplete request whose bytes keep arriving",
        {
            25: "keeps the connection open forever",
            27: "keeps the connection open as long as bytes arrive several times a second",
        },
        "closes the connection: the packet timeout runs from the start of the connection",
    ),
    Difference(
        "a connection that has not sent anything",
        "is accepted at once",
        "is accepted after a second, when the packet timeout starts, and does not learn before that the epmd "
        "ends: the server wakes up once for a request instead of twice; with `-d` it is accepted at once",
    ),
    Difference(
        "a node that registers again at once",
        "sometimes rejects it, because it has not read the end of the old connection yet",
        "checks whether the old connection has ended before it rejects the name",
    ),
    Difference(
        "a look-up of a 255-character name",
        "closes the connection without a reply",
        "replies, because the name could be registered",
    ),
    Difference(
        "STOP of an unknown name",
        "replies `NOEXISTSTOPPED`",
        "replies `NOEXIST`, which is what clients read from C's reply",
    ),
    Difference(
        "a registration of an empty name",
        "accepts it if extra data follows",
        "rejects it, because no node can look the name up",
    ),
)
_ASK = (
    Difference(
        "an epmd that does not answer",
        "keeps an interactive call waiting forever",
        "exits after 10 s with status 1 and a message (`-started`: no message): health checks do not pile up",
    ),
    Difference(
        "a first address that drops packets",
        "waits for it for two minutes before it tries the next one",
        "tries the next address after a quarter of a second; the call has 10 s for all of them",
    ),
    Difference(
        "names with control characters on a terminal",
        "`-names` and `-dump` print them unchanged",
        "`-names` and `-dump` escape them on a terminal, and print them unchanged to a pipe or a file",
    ),
    Difference(
        "a command line that is wrong",
        "prints its usage, without the reason",
        "prints the reason in one line, which refers to `-help`; stderr and status 1 are the same",
    ),
    Difference(
        "`--help`, `--version` and `--licences`",
        "rejects them: usage on stderr, status 1",
        "prints the text on stdout, status 0; `-help` is a usage error as in C, with our own usage text",
    ),
)
_ADDRESSES = (
    Difference(
        "a wildcard address",
        {25: "conflicts with its own loopback socket, for `0.0.0.0` or `::`: exits with status 0", 29: SAME},
        "serves: the wildcard covers the loopback address of its family",
    ),
    Difference(
        "a host whose own name resolves to 127.0.1.1, as on Debian and Ubuntu",
        "cannot be reached by nodes with short names if it listens on loopback only",
        "also listens on 127.0.1.1 with `-loopback`, its variable or the socket unit",
    ),
    Difference(
        "a loopback address that the host does not have",
        "logs `failed to bind on ipaddr ::1` on a host without IPv6",
        "logs nothing, unless the address was requested",
    ),
    Difference(
        "`-address ::1` on a host without IPv6",
        {25: "serves at 127.0.0.1", 29: SAME},
        "exits with status 1, because the address was requested",
    ),
    Difference(
        "an address that the host does not have, while an epmd is running",
        {25: "exits with status 0: it binds loopback first, and that port is in use", 29: SAME},
        "exits with status 1, because it binds requested addresses before loopback",
    ),
    Difference(
        "an address that is in use, while an epmd is running on all addresses",
        {25: "names the loopback address in the log of `-d` as the one in use", 29: SAME},
        "names the requested address in the log of `-d`",
    ),
    Difference(
        "an address that is given twice",
        "finds its own port in use, and exits with status 0",
        "listens on it once",
    ),
    Difference(
        "a loopback address that is given twice",
        {25: SAME, 29: "finds its own port in use, and exits with status 0"},
        "listens on it once",
    ),
    Difference(
        "14 addresses",
        "rejects so many besides loopback, with status 1",
        "listens on all of them besides loopback",
    ),
    Difference(
        "the maximum number of addresses",
        {25: "reports a maximum of 16, which includes the two loopback addresses", 29: SAME},
        "reports a maximum of 14",
    ),
)
_LOG = (
    Difference(
        "a control character in a name",
        "logs it unchanged, and also bytes that are not UTF-8",
        "escapes it, so that no name can forge a log line or control a terminal",
    ),
    Difference(
        "an error message about a peer",
        "does not name the peer",
        "uses the same words, and appends ` from ADDRESS:PORT`",
    ),
    Difference(
        "the same error again and again",
        "fills the log",
        "is rate-limited to one line a second; the number of suppressed lines follows a second later, "
        "or at the end; `-d` logs every one",
    ),
    Difference(
        "the time in the log of `-d -d -d`",
        "logs the time whenever it reads the clock, which is also every few seconds while nothing happens",
        "does not log it: each line begins with the time",
    ),
    Difference(
        "the order of the log of `-d -d` and `-d -d -d`",
        "logs each part of a listing by itself, the beginning of a packet instead of each later part, "
        "and the connections that it closes when it ends",
        "logs the same events in the same words, but when they happen here, and what is read or written at "
        "once as a whole; without `-d` and with one `-d` the order is C's too",
    ),
    Difference(
        "a system error in syslog",
        "logs the reason to stderr only",
        "logs the reason to syslog too",
    ),
    Difference(
        "stderr that is the journal of systemd",
        "logs lines with the time, which the journal adds too, and without a priority",
        "logs lines with a priority, and without the time",
    ),
    Difference(
        "a log file at its size limit",
        "is killed by SIGXFSZ, and all registrations are lost",
        "continues to serve without this log",
    ),
    Difference(
        WORDS,
        {25: "`NAMES_REQ`, `DUMP_REQ`, `KILL_REQ`, `STOP_REQ`, `ALIVE2_RESP`, `PORT2_RESP`", 29: SAME},
        "`EPMD_NAMES_REQ` and so on; `ALIVE2_REQ`, `PORT2_REQ` and the other replies have kept their names",
    ),
)
#: {title: its differences}, in the order in which an operator meets them.
PARTS = {
    "Start, stop and replace": _START,
    "Serve": _SERVE,
    "Ask": _ASK,
    "Addresses": _ADDRESSES,
    "Log": _LOG,
}
DIFFERENCES = tuple(difference for part in PARTS.values() for difference in part)

_BY_SCENE = {difference.scene: difference for difference in DIFFERENCES}

#: The names that WORDS describes.
_OLD_WORD = re.compile(r"\b((?:NAMES|DUMP|KILL|STOP)_REQ|(?:ALIVE2|PORT2)_RESP)\b")


def is_listed(scene: str) -> bool:
    """Return whether a deliberate difference has this title."""
    return scene in _BY_SCENE


def differs(scene: str, otp: int) -> bool:
    """Return whether C's epmd of this OTP version differs from ours in the listed scene."""
    return _BY_SCENE[scene].of(otp) != SAME


def in_new_words(log: str) -> str:
    """Return a log of C's epmd with the names that the newest version uses."""
    return _OLD_WORD.sub(r"EPMD_\1", log)


_PAGE = """\
# Deliberately different from C

What changes for you if you replace C's epmd:

- **Nodes and clients: nothing.** Every request has the same reply, but for three rare cases under *Serve*.
- **Scripts:** a start that cannot serve has status 1 and says why; C's has status 0. A call of an epmd that
  hangs ends after 10 seconds, with status 1.
- **Settings:** an invalid value of an option or variable is an error. C's epmd guesses.
- **Logs:** a message about a peer ends with its address, and comes at most once a second. Adapt filters that
  match the end of a line.
- **Limits:** more than 1,017 nodes can register, if the limit of open files allows it; connections that are
  not a node's are closed beyond 4,096.

In all other compared scenes the two programs do the same. `scripts/compare --c PATH` checks this with the C
epmd of each of these versions of Erlang/OTP. The tables are generated by `scripts/compare --write-docs` from
`tests/support/differences.py`, which the tests use too.
{parts}"""


def page() -> str:
    """Return the text of docs/differences.md."""
    return _PAGE.format(parts="".join(_part(title, differences) for title, differences in PARTS.items()))


def _part(title: str, differences: tuple[Difference, ...]) -> str:
    head = ["scene", *(f"C's epmd, OTP {otp}" for otp in VERSIONS), "this one, and why"]
    rows = [head, ["---"] * len(head), *([d.scene, *_cells(d), d.ours] for d in differences)]
    return f"\n## {title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(difference: Difference) -> Iterator[str]:
    """Yield a cell for each version. A repeated behaviour refers to the first version that has it."""
    first: dict[str, int] = {}
    for otp in VERSIONS:
        does = difference.of(otp)
        yield f"as OTP {first[does]}" if does in first and does != SAME else does
        first.setdefault(does, otp)
