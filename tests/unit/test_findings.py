"""What `epmd -check` tells of what it has seen: rules without I/O."""

from __future__ import annotations

import pytest

from gevent_epmd.client.answers import NamedPort
from gevent_epmd.program.check import report
from gevent_epmd.program.check.findings import OK, WARNING, WRONG, Finding, findings, status
from gevent_epmd.program.check.look import Node, Sight
from gevent_epmd.program.check.probe import (
    ABSENT,
    ANSWERS,
    CLOSED,
    MUTE,
    REFUSED,
    STRANGER,
    TIMEOUT,
    UNREACHABLE,
    Answer,
    Found,
    place,
)
from gevent_epmd.program.options import Options
from gevent_epmd.program.process.procfs import OTHER, OURS, C, Listener, Process
from gevent_epmd.server.networks import read_network
from gevent_epmd.server.settings import Settings

pytestmark = pytest.mark.measured

V4, V6, HERE, DEBIAN = place("127.0.0.1"), place("::1"), place("10.0.0.5"), place("127.0.1.1")
ELSEWHERE = place("192.0.2.1")
UP = Answer(ANSWERS, "an epmd answers", (NamedPort("a", 9100),))
ACCEPTS = Answer(ANSWERS, "accepts connections")
NOBODY = Answer(REFUSED, "Connection refused")
#: Nothing to complain about, but that it listens everywhere.
WELL = Sight(
    host="",
    port=4369,
    names={"box": Found((HERE,), "box")},
    answers={V4: UP, V6: UP, HERE: UP},
    own=frozenset((HERE, DEBIAN)),
    nodes=(Node("a", 9100, ((HERE, ACCEPTS),)),),
    listeners=[Listener("0.0.0.0", 0, 1), Listener("::", 0, 2)],
    processes=(
        Process(
            7, "root", "/x/epmd", C, "OTP 25 (ERTS 13.1.5)", None, "S", Options(), True, frozenset({1, 2})
        ),
    ),
    users={0: "root"},
)
AFAR = WELL._replace(host="box", answers={HERE: UP}, own=frozenset(), listeners=None, processes=(), users={})


def codes(sight: Sight, topic: str) -> dict[str, tuple[str, str]]:
    return {f.subject: (f.state, f.code) for f in findings(sight) if f.topic == topic}


def with_node(node: Node, sight: Sight = WELL) -> tuple[str, str]:
    return codes(sight._replace(nodes=(node,)), "node")[node.name]


def test_all_is_well() -> None:
    assert status(findings(WELL)) == 0
    assert {(f.topic, f.subject) for f in findings(WELL) if f.state != OK} == {("exposure", "other hosts")}
    assert all(f.state == OK for f in findings(AFAR))


@pytest.mark.parametrize("sight", [WELL, AFAR], ids=["here", "afar"])
@pytest.mark.parametrize("code", [REFUSED, TIMEOUT, UNREACHABLE, MUTE, CLOSED, STRANGER])
def test_no_epmd(sight: Sight, code: str) -> None:
    """One line says so; where nobody listens, each address would say the same."""
    nobody = sight._replace(answers=dict.fromkeys(sight.answers, Answer(code, "why")), nodes=())
    assert status(findings(nobody)) == 1
    assert codes(nobody, "epmd") == {"port 4369": (WRONG, code)}
    assert codes(nobody, "exposure") == {}
    assert codes(nobody, "address") == {}
    for finding in findings(nobody):
        assert finding.state != WRONG or finding.to_do, finding


def test_worst_of_the_addresses_is_told() -> None:
    mixed = WELL._replace(answers={V4: Answer(STRANGER, "odd"), V6: NOBODY, HERE: Answer(MUTE, "mute")})
    assert codes(mixed, "epmd") == {"port 4369": (WRONG, STRANGER)}
    assert codes(mixed, "address") == {"10.0.0.5": (WRONG, MUTE)}


def test_epmd_of_another_host_is_not_taken_for_the_own_one() -> None:
    """The own name is another host's, and there an epmd answers."""
    nobody = dict.fromkeys(WELL.answers, NOBODY)
    seen = WELL._replace(names={"box": Found((ELSEWHERE,))}, answers=nobody | {ELSEWHERE: UP}, nodes=())
    assert codes(seen, "epmd") == {"port 4369": (WRONG, REFUSED)}
    assert codes(seen, "name") == {"box": (WARNING, "foreign")}
    assert codes(seen, "address") == {}


def test_mute_program_that_is_no_epmd_is_not_to_be_continued() -> None:
    mute = WELL._replace(answers=dict.fromkeys(WELL.answers, Answer(MUTE, "mute")), nodes=())
    for kind, advice in ((C, "kill -CONT"), (OTHER, "another port")):
        assert advice in findings(mute._replace(processes=(process(kind=kind),)))[0].to_do


def test_process_that_is_missing() -> None:
    assert findings(WELL._replace(answers={}, nodes=(), names={}, listeners=[], processes=())) == []


@pytest.mark.parametrize(
    ("where", "answer", "expected"),
    [
        (V4, NOBODY, (WRONG, REFUSED)),
        (V6, NOBODY, (WARNING, REFUSED)),
        (HERE, NOBODY, (OK, REFUSED)),
        (V4, Answer(ABSENT, ""), None),
        (V6, Answer(ABSENT, ""), None),
        (V6, Answer(UNREACHABLE, ""), None),
        (HERE, Answer(STRANGER, ""), (WRONG, STRANGER)),
        (HERE, Answer(TIMEOUT, ""), (WRONG, TIMEOUT)),
    ],
)
def test_address_of_this_host(where, answer: Answer, expected) -> None:
    seen = WELL._replace(answers=WELL.answers | {where: answer}, names={"box": Found((DEBIAN,))})
    assert codes(seen, "address").get(where.host) == expected


def test_address_of_another_host() -> None:
    """Nodes take the first IPv4 address."""
    names = {"box": Found((place("fd00::5"), HERE, ELSEWHERE))}
    for answers, expected in (
        ((UP, UP, UP), (OK, OK, OK)),
        ((NOBODY, UP, NOBODY), (WARNING, OK, WARNING)),
        ((UP, NOBODY, UP), (OK, WRONG, OK)),
        ((NOBODY, NOBODY, NOBODY), ()),
        ((NOBODY, Answer(MUTE, ""), NOBODY), ()),
        ((Answer(TIMEOUT, ""), NOBODY, NOBODY), (WRONG,)),
    ):
        seen = AFAR._replace(names=names, answers=dict(zip(names["box"].places, answers, strict=True)))
        assert tuple(state for state, _ in codes(seen, "address").values()) == expected


@pytest.mark.parametrize(
    ("found", "answer", "expected", "advice"),
    [
        (Found((HERE,)), UP, (OK, "found"), ""),
        (Found((DEBIAN,)), UP, (OK, "found"), ""),
        (Found((V6, HERE)), UP, (OK, "found"), ""),
        (Found((DEBIAN,)), NOBODY, (WRONG, REFUSED), "ERL_EPMD_ADDRESS=127.0.1.1"),
        (Found((HERE,)), NOBODY, (WRONG, REFUSED), "ERL_EPMD_ADDRESS=10.0.0.5"),
        (Found((ELSEWHERE,)), NOBODY, (WRONG, REFUSED), "not an address of this host"),
        (Found((ELSEWHERE,)), Answer(TIMEOUT, ""), (WRONG, TIMEOUT), "not an address of this host"),
        (Found((ELSEWHERE,)), UP, (WARNING, "foreign"), "/etc/hosts"),
        (Found((place("fd00::5"),)), UP, (WARNING, "ipv6"), "inet6_tcp"),
        (Found(problem="Name or service not known"), UP, (WARNING, "nxdomain"), "/etc/hosts"),
    ],
)
def test_own_name(found: Found, answer: Answer, expected: tuple[str, str], advice: str) -> None:
    first = found.first or HERE
    own = WELL.own | {place("fd00::5")}
    seen = WELL._replace(names={"box": found}, answers=WELL.answers | {first: answer}, own=own)
    assert codes(seen, "name") == {"box": expected}
    assert advice in next(f.to_do for f in findings(seen) if f.topic == "name")


def test_own_name_where_there_is_no_epmd() -> None:
    """What the name is says nothing then; that it is another host's does."""
    nobody = WELL._replace(answers=dict.fromkeys(WELL.answers, NOBODY))
    assert codes(nobody, "name") == {"box": (OK, "found")}
    foreign = nobody._replace(
        names={"box": Found((ELSEWHERE,))}, answers=nobody.answers | {ELSEWHERE: NOBODY}
    )
    assert codes(foreign, "name") == {"box": (WARNING, "foreign")}


@pytest.mark.parametrize(
    ("node", "here", "afar"),
    [
        (Node("a", 9100, ((HERE, ACCEPTS),)), (OK, ANSWERS), (OK, ANSWERS)),
        (Node("a", 9100, ((HERE, NOBODY), (V4, ACCEPTS))), (WARNING, "elsewhere"), None),
        (Node("a", 9100, ((DEBIAN, NOBODY), (V4, ACCEPTS))), (WARNING, "elsewhere"), None),
        (Node("a", 9100, ((DEBIAN, NOBODY), (HERE, ACCEPTS))), (OK, ANSWERS), (OK, ANSWERS)),
        (Node("a", 9100, ((HERE, NOBODY), (V4, NOBODY)), 9100), (WRONG, "dead"), None),
        (Node("a", 9100, ((HERE, NOBODY),), 9100, holder=(8, "/x")), (WRONG, "dead"), (WRONG, REFUSED)),
        (Node("a", 9100, ((HERE, NOBODY),), 9100), None, (WRONG, REFUSED)),
        (Node("a", 9100, ((HERE, Answer(TIMEOUT, "")),), 9100), (WRONG, "blocked"), (WRONG, "blocked")),
        (Node("a", 9100, ((HERE, Answer(UNREACHABLE, "")),), 9100), (WRONG, "blocked"), (WRONG, "blocked")),
        (Node("a", 9100, ((HERE, NOBODY),), None), (OK, "gone"), (OK, "gone")),
        (Node("a", 9100, ((HERE, NOBODY),), 9101), (OK, "gone"), (OK, "gone")),
        (Node("a", 0, ((HERE, NOBODY),), 0), (OK, "no_port"), (OK, "no_port")),
        (Node("a", 65536, ((HERE, Answer(UNREACHABLE, "")),)), (WRONG, "no_port"), (WRONG, "no_port")),
        (Node("a", 9100), (WARNING, "late"), (WARNING, "late")),
        (Node("a", 9100, ((HERE, ACCEPTS),), problem="why"), (WRONG, "lookup"), (WRONG, "lookup")),
    ],
)
def test_node(node: Node, here: tuple[str, str] | None, afar: tuple[str, str] | None) -> None:
    assert here is None or with_node(node) == here
    assert afar is None or with_node(node, AFAR) == afar


def test_without_proc_no_node_is_called_dead() -> None:
    """It may listen on an address that is not known."""
    refused = Node("a", 9100, ((HERE, NOBODY),), 9100)
    assert with_node(refused, WELL._replace(listeners=None)) == (WRONG, REFUSED)


def test_who_holds_the_name_of_a_dead_node_is_named() -> None:
    for holder, advice in (((8, "/usr/bin/x"), "process 8, "), (None, "ss -tnp")):
        dead = Node("a", 9100, ((HERE, NOBODY),), 9100, holder=holder)
        (node,) = (f for f in findings(WELL._replace(nodes=(dead,))) if f.topic == "node")
        assert advice in node.to_do


def process(**different) -> Process:
    return WELL.processes[0]._replace(**different)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ((process(),), {"process 7": (OK, C)}),
        ((process(kind=OURS, version="1.2"),), {"process 7": (OK, OURS)}),
        ((process(kind=OTHER, path="/usr/bin/nginx"),), {"process 7": (OK, OTHER)}),
        ((process(state="T"),), {"process 7": (WRONG, "stopped")}),
        ((process(pid=1), process()), {"process 7": (OK, C)}),
        ((process(pid=1),), {"process 1": (OK, C)}),
        ((process(pid=8), process()), {"process 8": (OK, C), "process 7": (OK, C)}),
        (
            (process(pid=8, sockets=frozenset({3})), process()),
            {"process 8": (OK, C), "process 7": (OK, C), "port 4369": (WARNING, "several")},
        ),
        ((), {"port 4369": (OK, "hidden")}),
    ],
)
def test_process(processes: tuple[Process, ...], expected: dict[str, tuple[str, str]]) -> None:
    assert codes(WELL._replace(processes=processes), "process") == expected


def options(**different) -> tuple[Process]:
    return (process(kind=OURS, options=Options(settings=Settings(**different))),)


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({}, (WARNING, "open")),
        ({"listeners": [Listener("127.0.0.1", 0, 1), Listener("::1", 0, 2)]}, (OK, "loopback")),
        ({"listeners": [Listener("127.0.0.1", 0, 1), Listener("10.0.0.5", 0, 2)]}, (WARNING, "open")),
        ({"listeners": [Listener("::ffff:127.0.0.1", 0, 1), Listener("::1", 0, 2)]}, (OK, "loopback")),
        ({"listeners": None}, (WARNING, "open")),
        ({"listeners": None, "answers": {V4: UP, HERE: NOBODY}}, (OK, "loopback")),
        ({"processes": options(allow=(read_network("10.0.0.0/8"),))}, (OK, "allow")),
        ({"processes": options(allow=())}, (OK, "allow")),
        ({"processes": (options(allow=())[0]._replace(kind=C),)}, (WARNING, "open")),
        ({"processes": (process(kind=OURS, options=None, knows_environ=False),)}, (WARNING, "open")),
    ],
)
def test_exposure(different: dict, expected: tuple[str, str]) -> None:
    assert codes(WELL._replace(**different), "exposure") == {"other hosts": expected}


def test_exposure_to_users_of_this_host() -> None:
    assert codes(WELL._replace(processes=options(relaxed=True)), "exposure") == {
        "other hosts": (WARNING, "open"),
        "every user of this host": (WARNING, "relaxed"),
    }


@pytest.mark.parametrize("allow", [None, (read_network("10.0.0.0/8"),)])
def test_exposure_to_nodes_of_other_hosts(allow: tuple | None) -> None:
    register = (read_network("172.17.0.0/16"),)
    sight = WELL._replace(processes=options(allow=allow, allow_register=register))
    assert codes(sight, "exposure") == {
        "other hosts": (WARNING, "open") if allow is None else (OK, "allow"),
        "nodes on other hosts": (WARNING, "register"),
    }
    said = " ".join(finding.seen for finding in findings(sight))
    assert said.count("172.17.0.0/16") == (1 if allow is None else 2), "whoever may register may ask"
    c = sight._replace(processes=(sight.processes[0]._replace(kind=C),))
    assert "nodes on other hosts" not in codes(c, "exposure"), "C's epmd knows no such option"


def test_what_it_cannot_know_is_said() -> None:
    hidden = WELL._replace(processes=(process(kind=OURS, options=None, knows_environ=False),))
    for seen, words in ((hidden, "its ERL_EPMD_ALLOW"), (WELL._replace(processes=()), "its -allow")):
        (exposure,) = (finding for finding in findings(seen) if finding.topic == "exposure")
        assert words in exposure.seen


LINES = [
    Finding("node", "a\x1b[2J", OK, ANSWERS, "see\nn"),
    Finding("name", "box", WRONG, "nxdomain", "seen", "do"),
    Finding("node", "n" * 255, WARNING, "late", "seen", "do"),
]


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (LINES, "epmd: 1 wrong, 1 warning"),
        (LINES[1:2] * 2, "epmd: 2 wrong, 0 warnings"),
        (LINES[:1], "epmd: no problem found"),
        (LINES[2:] * 2, "epmd: no problem found, 2 warnings"),
    ],
)
def test_last_line_of_the_table(found: list[Finding], last: str) -> None:
    assert report.as_table(found).endswith(f"\n{last}\n")


def test_table() -> None:
    assert report.as_table(LINES).splitlines()[:-1] == [
        "ok       node a\\x1b[2J  see\\nn",
        "wrong    box            seen",
        "         -> do",
        f"warning  node {'n' * 255}  seen",
        "         -> do",
    ]
