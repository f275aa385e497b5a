"""What `epmd -check` tells of what it has seen: rules without I/O."""

from __future__ import annotations

import pytest

from gevent_epmd.client.answers import NamedPort
from gevent_epmd.program.check import report
from gevent_epmd.program.check.finding import CODES, OK, WARNING, WRONG, Finding
from gevent_epmd.program.check.findings import findings, status
from gevent_epmd.program.check.look import askers
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
from gevent_epmd.program.check.sight import Installed, Node, Sight
from gevent_epmd.program.check.units import Unit
from gevent_epmd.program.options import Options
from gevent_epmd.program.process.procfs import OTHER, OURS, C, Listener, Process
from gevent_epmd.server.networks import read_network
from gevent_epmd.server.settings import Settings

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
            pid=7,
            path="/x/epmd",
            user="root",
            state="S",
            kind=C,
            version="OTP 25 (ERTS 13.1.5)",
            options=Options(),
            knows_environ=True,
            sockets=frozenset({1, 2}),
        ),
    ),
    users={0: "root"},
)
AFAR = WELL._replace(host="box", answers={HERE: UP}, own=frozenset(), listeners=None, processes=(), users={})


def codes(sight: Sight, topic: str) -> dict[str, tuple[str, str]]:
    return {f.subject: (f.state, f.code) for f in findings(sight) if f.topic == topic}


def with_node(node: Node, sight: Sight = WELL) -> tuple[str, str]:
    return codes(sight._replace(nodes=(node,)), "node")[node.name]


@pytest.mark.measured
def test_all_is_well() -> None:
    assert status(findings(WELL)) == 0
    assert {(f.topic, f.subject) for f in findings(WELL) if f.state != OK} == {("exposure", "other hosts")}
    assert all(f.state == OK for f in findings(AFAR))


@pytest.mark.measured
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


@pytest.mark.measured
def test_epmd_of_another_host_is_not_taken_for_the_own_one() -> None:
    """The own name is another host's, and there an epmd answers."""
    nobody = dict.fromkeys(WELL.answers, NOBODY)
    seen = WELL._replace(names={"box": Found((ELSEWHERE,))}, answers=nobody | {ELSEWHERE: UP}, nodes=())
    assert codes(seen, "epmd") == {"port 4369": (WRONG, REFUSED)}
    assert codes(seen, "name") == {"box": (WARNING, "foreign")}
    assert codes(seen, "address") == {}


@pytest.mark.measured
def test_mute_program_that_is_no_epmd_is_not_to_be_continued() -> None:
    mute = WELL._replace(answers=dict.fromkeys(WELL.answers, Answer(MUTE, "mute")), nodes=())
    for kind, state, advice in (
        (C, "T", "kill -CONT 7"),
        (C, "S", "busy or hangs"),
        (OTHER, "S", "another port"),
    ):
        assert advice in findings(mute._replace(processes=(process(kind=kind, state=state),)))[0].to_do


@pytest.mark.measured
def test_process_that_is_missing() -> None:
    assert findings(WELL._replace(answers={}, nodes=(), names={}, listeners=[], processes=())) == []


@pytest.mark.measured
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


@pytest.mark.measured
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


@pytest.mark.measured
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


#: A node that is no Erlang runtime, such as one of Python.
PYTHON_NODE = Process(8, "/usr/bin/python3")


@pytest.mark.measured
@pytest.mark.parametrize(
    ("node", "here", "afar"),
    [
        (Node("a", 9100, ((HERE, ACCEPTS),)), (OK, ANSWERS), (OK, ANSWERS)),
        (
            Node("a", 9100, ((HERE, ACCEPTS),), owners=(PYTHON_NODE,), holders=(PYTHON_NODE,)),
            (OK, ANSWERS),
            None,
        ),
        (Node("a", 9100, ((HERE, NOBODY), (V4, ACCEPTS))), (WARNING, "elsewhere"), None),
        (Node("a", 9100, ((DEBIAN, NOBODY), (V4, ACCEPTS))), (WARNING, "elsewhere"), None),
        (Node("a", 9100, ((DEBIAN, NOBODY), (HERE, ACCEPTS))), (OK, ANSWERS), (OK, ANSWERS)),
        (Node("a", 9100, ((HERE, NOBODY), (V4, NOBODY)), 9100), (WRONG, "dead"), None),
        (Node("a", 9100, ((HERE, NOBODY),), 9100, holders=(Process(8),)), (WRONG, "dead"), (WRONG, REFUSED)),
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


@pytest.mark.measured
def test_without_proc_no_node_is_called_dead() -> None:
    """It may listen on an address that is not known."""
    refused = Node("a", 9100, ((HERE, NOBODY),), 9100)
    assert with_node(refused, WELL._replace(listeners=None)) == (WRONG, REFUSED)


@pytest.mark.measured
def test_who_holds_the_name_of_a_dead_node_is_named() -> None:
    both = (Process(8, "/usr/bin/x"), Process(9, "/usr/bin/x"))
    for holders, advice in (
        (both[:1], "process 8, which holds"),
        (both, "process 8 and process 9, which hold "),
        ((), "ss -tnp"),
    ):
        dead = Node("a", 9100, ((HERE, NOBODY),), 9100, holders=holders)
        (node,) = (f for f in findings(WELL._replace(nodes=(dead,))) if f.topic == "node")
        assert advice in node.to_do


def process(**different) -> Process:
    return WELL.processes[0]._replace(**different)


@pytest.mark.measured
@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ((process(),), {"process 7": (OK, "c")}),
        ((process(kind=OURS, version="1.2"),), {"process 7": (OK, OURS)}),
        ((process(kind=OTHER, path="/usr/bin/x"),), {"process 7": (OK, OTHER)}),
        ((process(state="T"),), {"process 7": (WRONG, "stopped")}),
        ((process(pid=1), process()), {"process 7": (OK, "c")}),
        ((process(pid=1),), {"process 1": (OK, "c")}),
        ((process(pid=8), process()), {"process 8": (OK, "c"), "process 7": (OK, "c")}),
        (
            (process(pid=8, sockets=frozenset({3})), process()),
            {"process 8": (OK, "c"), "process 7": (OK, "c"), "port 4369": (WARNING, "several")},
        ),
        ((), {"port 4369": (OK, "hidden")}),
    ],
)
def test_process(processes: tuple[Process, ...], expected: dict[str, tuple[str, str]]) -> None:
    assert codes(WELL._replace(processes=processes), "process") == expected


@pytest.mark.parametrize(
    ("kind", "descriptors", "nodes", "most"),
    [
        (C, (10, 20000), 3, 16),
        (C, (1000, 20000), 995, 6),
        (C, (1021, 20000), 1016, 1),
        (C, (62, 64), 57, 1),
        (OURS, (1000, 20000), 990, 16),
        (OURS, (1000, 1024), 990, 6),
        (C, (None, None), 900, 16),
        (C, (None, None), 1012, 1),
        (C, (None, 1024), 990, 2),
    ],
)
def test_how_many_ask_at_the_same_time(kind: str, descriptors: tuple, nodes: int, most: int) -> None:
    """A check must not take the last descriptors of an epmd."""
    assert askers(WELL._replace(processes=(process(kind=kind, descriptors=descriptors),)), nodes) == most
    assert askers(AFAR, 1012) == 1


def options(**different) -> tuple[Process]:
    return (process(kind=OURS, options=Options(settings=Settings(**different))),)


@pytest.mark.measured
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


@pytest.mark.measured
def test_exposure_to_users_of_this_host() -> None:
    assert codes(WELL._replace(processes=options(relaxed=True)), "exposure") == {
        "other hosts": (WARNING, "open"),
        "every user of this host": (WARNING, "relaxed"),
    }


@pytest.mark.measured
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


# --- Situations: what a stranger to the program would meet, and what must be said ---

OUT, BEAM = place("10.77.9.2"), "/usr/lib/erlang/erts-13.1.5/bin/beam.smp"
REFUSED_NODE = Node("a", 9100, ((HERE, NOBODY), (V4, NOBODY)), 9100)
FINE_NODE = Node("a", 9100, ((HERE, ACCEPTS),), 9100)
FORWARDER = Process(9, "/usr/sbin/sshd", "root")
OURS_HERE = process(kind=OURS, version="0.1.0", path="/usr/bin/epmd", line=("epmd",))
C_ACTIVATED = process(line=("/usr/bin/epmd", "-systemd"))
OURS_ACTIVATED = OURS_HERE._replace(line=("/usr/bin/epmd", "-systemd"))
OPEN_TO_ALL = Options(settings=Settings(allow=(read_network("0.0.0.0/0"),)))
MUTE_EVERYWHERE = dict.fromkeys(WELL.answers, Answer(MUTE, "does not answer"))
NOBODY_ANYWHERE = dict.fromkeys(WELL.answers, NOBODY)
ON_LOOPBACK = {"box": Found((DEBIAN,))}, WELL.answers | {DEBIAN: UP}
STRANGER_ON_HERE = WELL._replace(
    answers={V4: UP, V6: UP, HERE: Answer(CLOSED, "closes")},
    names={"box": Found((DEBIAN,))},
    listeners=[Listener("127.0.0.1", 0, 1), Listener("::1", 0, 2), Listener("10.0.0.5", 0, 3)],
    processes=(
        OURS_HERE._replace(sockets=frozenset({1, 2})),
        process(pid=8, kind=OTHER, path="/usr/bin/ncat", sockets=frozenset({3})),
    ),
)
HIDDEN = WELL._replace(
    processes=(),
    answers=MUTE_EVERYWHERE,
    nodes=(),
    suspects=(Process(8, "", "epmd", None, "S", ("epmd", "-daemon")),),
)


def here(**different) -> Sight:
    return WELL._replace(**different)


def systemd(**units: tuple[str, str, str]) -> Sight:
    named = {f"epmd.{name}": Unit(*unit) for name, unit in units.items()}
    return here(answers=NOBODY_ANYWHERE, nodes=(), processes=(), listeners=[], units=named)


def full(kind: str, nodes: int, used: int | None, limit: int) -> Sight:
    answer = Answer(ANSWERS, "", tuple(NamedPort(f"n{number}", 9100) for number in range(nodes)))
    one = process(kind=kind, version="0.1.0", descriptors=(used, limit))
    return here(answers={V4: answer}, nodes=(), processes=(one,))


#: What is so; topic, subject, state and code of a finding; what it must tell, and what it must not.
SITUATIONS: dict[str, tuple[Sight, tuple[str, str, str, str], list[str], list[str]]] = {
    # Where a node registered from
    "a node of another host, by -allow_register": (
        here(nodes=(REFUSED_NODE._replace(peer="10.77.9.2"),)),
        ("node", "a", OK, "remote"),
        ["registered from 10.77.9.2", "cannot be tried from here"],
        ["dead", "End"],
    ),
    "perhaps one of another host, for who may not see": (
        here(nodes=(REFUSED_NODE,), processes=(), peers=("10.77.9.2",)),
        ("node", "a", OK, "remote"),
        ["may have registered from 10.77.9.2"],
        ["dead", "End"],
    ),
    "nodes behind the published port of a container": (
        here(
            nodes=(REFUSED_NODE,), dump=CLOSED, processes=(process(kind=OTHER, path="/usr/bin/docker-proxy"),)
        ),
        ("node", "a", OK, "remote"),
        ["another host or container"],
        ["dead", "End"],
    ),
    "the published port of a container": (
        here(nodes=(), dump=CLOSED, processes=(process(kind=OTHER, path="/usr/bin/docker-proxy"),)),
        ("epmd", "port 4369", WARNING, "forwarder"),
        ["No node of this host can register", "docker-proxy"],
        [],
    ),
    "packets that the kernel forwards": (
        here(nodes=(), dump=CLOSED, processes=(), listeners=[]),
        ("epmd", "port 4369", WARNING, "forwarder"),
        ["no process of this host listens"],
        [],
    ),
    "a program without DUMP, or a forwarder that is not known": (
        here(nodes=(), dump=CLOSED, processes=(process(kind=OTHER, path="/usr/bin/x"),)),
        ("epmd", "port 4369", WARNING, "forwarder"),
        ["may not be able to register", "If a node ends with epmd_close"],
        ["No node of this host can register"],
    ),
    "a node of this host is dead, and others are of other hosts": (
        here(nodes=(REFUSED_NODE._replace(is_here=True),), peers=("10.77.9.2",)),
        ("node", "a", WRONG, "dead"),
        [],
        ["10.77.9.2"],
    ),
    "a program that embeds a mapper": (
        here(dump=ANSWERS, processes=(process(kind=OTHER, path="/usr/bin/x"),)),
        ("epmd", "port 4369", OK, ANSWERS),
        [],
        ["forward"],
    ),
    # Who holds it
    "a tunnel holds the registration": (
        here(nodes=(REFUSED_NODE._replace(holders=(FORWARDER,)),)),
        ("node", "a", OK, "remote"),
        ["behind a forwarder", "/usr/sbin/sshd"],
        ["End"],
    ),
    "process 1 holds the registration": (
        here(nodes=(REFUSED_NODE._replace(holders=(Process(1, "/sbin/init"),)),)),
        ("node", "a", WRONG, "dead"),
        ["must not be ended"],
        ["End process"],
    ),
    "a dead node's child holds the registration": (
        here(nodes=(REFUSED_NODE._replace(holders=(Process(8, "/bin/sh", "bob"),)),)),
        ("node", "a", WRONG, "dead"),
        ["End process 8", "/bin/sh", "user bob"],
        [],
    ),
    "a node that is stopped": (
        here(nodes=(FINE_NODE._replace(owners=(Process(8, BEAM, state="T"),)),)),
        ("node", "a", WRONG, "stopped"),
        ["kill -CONT 8"],
        [],
    ),
    "a node's port is another program's": (
        here(
            nodes=(FINE_NODE._replace(owners=(Process(9, "/usr/bin/x"),), holders=(Process(8, "/bin/sh"),)),)
        ),
        ("node", "a", WARNING, "taken"),
        ["port 9100 belongs to another program", "process 9", "End process 8"],
        [],
    ),
    "a process registered for the node": (
        here(
            nodes=(FINE_NODE._replace(owners=(Process(9, BEAM),), holders=(Process(8, "/usr/bin/python3"),)),)
        ),
        ("node", "a", OK, ANSWERS),
        [],
        ["end process"],
    ),
    "who has this name": (
        here(
            nodes=(FINE_NODE._replace(owners=(Process(9, BEAM, "bob", 0.0, "S", ("beam", "-name", "a@x")),)),)
        ),
        ("node", "a", OK, ANSWERS),
        ["process 9", "beam.smp", "user bob", "since 19", "named a@x"],
        [],
    ),
    "the name leads elsewhere": (
        here(
            nodes=(FINE_NODE._replace(owners=(Process(9, BEAM, line=("beam", "-name", "a@x")),)),),
            leads={"x": ELSEWHERE},
        ),
        ("node", "a", WARNING, "host"),
        ["x is not this host"],
        [],
    ),
    "an old node": (
        here(nodes=(FINE_NODE._replace(highest=5),)),
        ("node", "a", WARNING, "version"),
        ["version 5", "need 6"],
        [],
    ),
    "a node of a host whose name is foreign": (
        here(
            names={"box": Found((ELSEWHERE,))},
            answers={V4: UP, ELSEWHERE: NOBODY},
            nodes=(Node("a", 9100, ((ELSEWHERE, NOBODY), (V4, ACCEPTS)), 9100),),
        ),
        ("node", "a", OK, ANSWERS),
        [],
        ["all addresses"],
    ),
    # Systemd's sockets
    "C's under a socket unit is open": (
        here(processes=(C_ACTIVATED,), names=ON_LOOPBACK[0], answers=ON_LOOPBACK[1]),
        ("exposure", "other hosts", WARNING, "open"),
        ["epmd.socket.d", "ListenStream=\\n", "ListenStream=127.0.0.1:4369", "127.0.1.1:4369", "[::1]:4369"],
        ["ERL_EPMD_ADDRESS"],
    ),
    "ours under a socket unit is open": (
        here(processes=(OURS_ACTIVATED,)),
        ("exposure", "other hosts", WARNING, "open"),
        ["epmd.service.d", "ERL_EPMD_ALLOW=127.0.0.0/8"],
        ["-loopback", "ERL_EPMD_LOOPBACK"],
    ),
    "a socket unit lacks the address of the name": (
        here(
            processes=(C_ACTIVATED,),
            names={"box": Found((DEBIAN,))},
            answers={V4: UP, DEBIAN: NOBODY},
        ),
        ("name", "box", WRONG, REFUSED),
        ["ListenStream=127.0.1.1:4369"],
        ["-loopback", "ERL_EPMD_ADDRESS"],
    ),
    "C's is open, and the name is of loopback": (
        here(names=ON_LOOPBACK[0], answers=ON_LOOPBACK[1]),
        ("exposure", "other hosts", WARNING, "open"),
        ["ERL_EPMD_ADDRESS=127.0.1.1"],
        ["-allow", "-loopback"],
    ),
    "C's is open, and nodes look at another address": (
        here(),
        ("exposure", "other hosts", WARNING, "open"),
        ["firewall", "nodes find each other at 10.0.0.5"],
        ["ERL_EPMD_ADDRESS", "-allow"],
    ),
    "ours is open": (
        here(processes=(OURS_HERE,)),
        ("exposure", "other hosts", WARNING, "open"),
        ["-allow 127.0.0.0/8"],
        ["-loopback"],
    ),
    "ours admits everybody": (
        here(processes=options(allow=(read_network("0.0.0.0/0"), read_network("::/0")))),
        ("exposure", "other hosts", WARNING, "open"),
        ["names everybody", "0.0.0.0/0"],
        [],
    ),
    "C's does not listen where the name leads": (
        here(
            answers={V4: UP, V6: UP, HERE: NOBODY},
            processes=(process(environ={"ERL_EPMD_ADDRESS": "127.0.1.1"}),),
        ),
        ("name", "box", WRONG, REFUSED),
        ["ERL_EPMD_ADDRESS=127.0.1.1,10.0.0.5"],
        ["-loopback"],
    ),
    "ours does not listen where the name leads": (
        here(
            answers={V4: UP, V6: UP, HERE: NOBODY},
            processes=(OURS_HERE._replace(line=("epmd", "-loopback")),),
        ),
        ("name", "box", WRONG, REFUSED),
        ["without -loopback", "-address 10.0.0.5"],
        [],
    ),
    # A stranger on another address
    "a stranger on another address is not the epmd": (
        STRANGER_ON_HERE,
        ("process", "process 8", WARNING, OTHER),
        ["not an epmd", "End process 8"],
        ["answers like an epmd"],
    ),
    "what listens there is not the epmd": (
        STRANGER_ON_HERE,
        ("exposure", "other hosts", OK, "loopback"),
        [],
        ["10.0.0.5"],
    ),
    "the stranger has no -allow": (
        STRANGER_ON_HERE,
        ("address", "10.0.0.5", WRONG, CLOSED),
        ["End process 8"],
        ["-allow"],
    ),
    "ours excludes its own other address": (
        here(answers={V4: UP, HERE: Answer(CLOSED, "")}, processes=(OURS_HERE,)),
        ("address", "10.0.0.5", WRONG, CLOSED),
        ["-allow"],
        ["End"],
    ),
    # Advice that was followed, and did not help
    "a firewall is not seen": (
        here(),
        ("exposure", "other hosts", WARNING, "open"),
        ["then use `epmd -check -accept open`"],
        [],
    ),
    "networks that may register stay": (
        here(processes=options(allow_register=(read_network("10.0.0.0/8"),))),
        ("exposure", "nodes on other hosts", WARNING, "register"),
        ["then use `epmd -check -accept register`"],
        [],
    ),
    "a socket unit has lacked another address before": (
        here(
            processes=(C_ACTIVATED,),
            listeners=[Listener("127.0.0.1", 0, 1), Listener("127.0.1.1", 0, 2)],
            answers={V4: UP, DEBIAN: UP, HERE: NOBODY},
        ),
        ("name", "box", WRONG, REFUSED),
        [
            "ListenStream=\\nListenStream=127.0.0.1:4369\\nListenStream=127.0.1.1:4369\\nListenStream=10.0.0.5:4369"
        ],
        [],
    ),
    "units of another name": (
        here(processes=(C_ACTIVATED._replace(unit="epmd@0.0.0.0.service"),), names=ON_LOOPBACK[0]),
        ("exposure", "other hosts", WARNING, "open"),
        ["/system/epmd@0.0.0.0.socket.d ", "systemctl stop epmd@0.0.0.0.service epmd@0.0.0.0.socket && "],
        ["epmd.socket", "epmd.service"],
    ),
    "a unit whose name a shell would read": (
        here(
            processes=(C_ACTIVATED._replace(unit=r"my\x2depmd.service", is_deleted=True),),
            names=ON_LOOPBACK[0],
        ),
        ("process", "process 7", WARNING, "outdated"),
        [r"systemctl restart 'my\x2depmd.service'"],
        [],
    ),
    "a file has its -allow": (
        here(
            processes=(
                OURS_ACTIVATED._replace(
                    environ={"ERL_EPMD_ALLOW_FILE": "/etc/default/epmd"},
                    options=OPEN_TO_ALL,
                ),
            )
        ),
        ("exposure", "other hosts", WARNING, "open"),
        ["Set ERL_EPMD_ALLOW=127.0.0.0/8 in /etc/default/epmd", "--signal=HUP epmd.service"],
        ["zz-epmd-check"],
    ),
    "a variable has its -allow": (
        here(
            processes=(
                OURS_ACTIVATED._replace(
                    environ={"ERL_EPMD_ALLOW": "0.0.0.0/0"},
                    options=OPEN_TO_ALL,
                ),
            )
        ),
        ("exposure", "other hosts", WARNING, "open"),
        ["where epmd.service sets it", "systemctl cat epmd.service"],
        ["zz-epmd-check"],
    ),
    "its command line has its -allow": (
        here(
            processes=(
                OURS_ACTIVATED._replace(
                    line=("epmd", "-systemd", "-allow", "0.0.0.0/0"),
                    options=OPEN_TO_ALL,
                ),
            )
        ),
        ("exposure", "other hosts", WARNING, "open"),
        ["Set -allow 127.0.0.0/8 in ExecStart of epmd.service"],
        ["zz-epmd-check"],
    ),
    "::1 is missing under a socket unit": (
        here(processes=(C_ACTIVATED,), listeners=[Listener("127.0.0.1", 0, 1)], answers={V4: UP, V6: NOBODY}),
        ("address", "::1", WARNING, REFUSED),
        ["ListenStream=127.0.0.1:4369\\nListenStream=[::1]:4369"],
        [],
    ),
    "a node is named for its address": (
        here(
            nodes=(
                Node(
                    "a",
                    9100,
                    ((HERE, NOBODY), (V4, ACCEPTS)),
                    owners=(Process(9, BEAM, line=("beam", "-name", "a@127.0.0.1")),),
                ),
            )
        ),
        ("node", "a", OK, ANSWERS),
        [],
        ["Name it"],
    ),
    "a node is named for localhost": (
        here(
            nodes=(
                Node(
                    "a",
                    9100,
                    ((HERE, NOBODY), (V4, ACCEPTS)),
                    owners=(Process(9, BEAM, line=("beam", "-sname", "a@localhost")),),
                ),
            ),
            leads={"localhost": V4},
            own=WELL.own | {V4},
        ),
        ("node", "a", OK, ANSWERS),
        [],
        ["Name it"],
    ),
    # Confused operators, and attackers
    "a stranger lists a node that lives as dead": (
        here(
            processes=(process(kind=OTHER, path="/home/bob/x"),),
            nodes=(REFUSED_NODE._replace(holders=(Process(8, BEAM, "rabbitmq"),)),),
        ),
        ("node", "a", WRONG, "dead"),
        ["Check process 7 (/home/bob/x) first"],
        ["End process"],
    ),
    "an epmd in another network namespace": (
        here(
            answers=NOBODY_ANYWHERE,
            nodes=(),
            processes=(),
            listeners=[],
            apart=(Process(8, user="bob", line=("epmd", "-daemon")),),
        ),
        ("process", "process 8", WARNING, "other_network"),
        ["user bob, epmd -daemon", "`nsenter -t 8 -n epmd -check`"],
        [],
    ),
    "a name that no host can have": (
        here(names={"(none)": Found(problem="Name or service not known")}),
        ("name", "(none)", WARNING, "nxdomain"),
        ["not a valid host name", "Give the host a valid name"],
        ["`127.0.1.1 (none)`"],
    ),
    "a control character in the host's name": (
        here(names={"b\x1b[2J": Found(problem="Name or service not known")}),
        ("name", "b\x1b[2J", WARNING, "nxdomain"),
        ["Give the host a valid name"],
        [],
    ),
    "-host with a node's name": (
        AFAR._replace(names={"a@db": Found(problem="Name or service not known")}, answers={}, nodes=()),
        ("name", "a@db", WRONG, "nxdomain"),
        ["without brackets, port and node name"],
        ["/etc/hosts"],
    ),
    "another program on another host": (
        AFAR._replace(answers={HERE: Answer(STRANGER, "odd")}, nodes=()),
        ("epmd", "port 4369", WRONG, STRANGER),
        ["Run `epmd -port 4369 -check` on box"],
        ["End "],
    ),
    # What has the port, and does not answer
    "the culprit has the port": (
        here(answers=MUTE_EVERYWHERE, nodes=(), processes=(process(kind=OTHER, path="/usr/bin/x"),)),
        ("process", "process 7", WRONG, OTHER),
        ["End process 7 (/usr/bin/x)"],
        [],
    ),
    "a busy epmd": (
        here(answers=MUTE_EVERYWHERE, nodes=(), processes=(process(line=("epmd", "-delay_accept", "2")),)),
        ("epmd", "port 4369", WRONG, MUTE),
        ["-delay_accept"],
        ["kill"],
    ),
    "an epmd that hangs": (
        here(answers=MUTE_EVERYWHERE, nodes=()),
        ("epmd", "port 4369", WRONG, MUTE),
        ["not stopped", "restart it"],
        ["kill -CONT"],
    ),
    "a busy epmd, for who may not see": (
        HIDDEN,
        ("epmd", "port 4369", WRONG, MUTE),
        ["process 8 is not stopped"],
        ["kill -CONT"],
    ),
    "a stopped epmd, for who may not see": (
        HIDDEN._replace(suspects=(HIDDEN.suspects[0]._replace(state="T"),)),
        ("process", "process 8", WRONG, "stopped"),
        ["kill -CONT 8"],
        [],
    ),
    "nothing is known of what does not answer": (
        HIDDEN._replace(suspects=()),
        ("epmd", "port 4369", WRONG, MUTE),
        ["as root"],
        ["kill -CONT"],
    ),
    "one that was started with -user": (
        WELL._replace(processes=(), suspects=(Process(8, "", "epmd", None, "S", ("epmd", "-user", "epmd")),)),
        ("process", "port 4369", OK, "hidden"),
        ["user root opened its socket", "process 8 of user epmd: epmd -user epmd"],
        ["a process of user root"],
    ),
    "a firewall on loopback": (
        here(answers={V4: Answer(TIMEOUT, "no answer"), V6: Answer(TIMEOUT, "no answer")}, nodes=()),
        ("epmd", "port 4369", WRONG, TIMEOUT),
        ["this host's firewall", "lo"],
        ["between the hosts"],
    ),
    "another host is mute": (
        AFAR._replace(answers={HERE: Answer(MUTE, "mute")}, nodes=()),
        ("epmd", "port 4369", WRONG, MUTE),
        ["`epmd -check` on box"],
        ["kill -CONT"],
    ),
    # Nobody is there
    "a masked unit": (
        systemd(socket=("masked", "inactive", "")),
        ("epmd", "port 4369", WRONG, REFUSED),
        ["systemctl unmask epmd.socket && systemctl start epmd.socket"],
        ["epmd -daemon"],
    ),
    "a failed unit": (
        systemd(socket=("loaded", "failed", "service-start-limit-hit")),
        ("unit", "epmd.socket", WRONG, "failed"),
        ["systemctl reset-failed epmd.socket", "service-start-limit-hit"],
        ["epmd -daemon"],
    ),
    "a service that failed too often, and its socket": (
        systemd(
            socket=("loaded", "failed", "service-start-limit-hit"),
            service=("loaded", "failed", "start-limit-hit"),
        ),
        ("epmd", "port 4369", WRONG, REFUSED),
        ["systemctl reset-failed epmd.socket epmd.service && systemctl start epmd.socket"],
        [],
    ),
    "the published port of a container is open": (
        here(nodes=(), dump=CLOSED, processes=(process(kind=OTHER, path="/usr/bin/docker-proxy"),)),
        ("exposure", "other hosts", WARNING, "open"),
        ["-p 127.0.0.1:4369:4369"],
        ["-loopback", "ERL_EPMD"],
    ),
    "an inactive unit": (
        systemd(socket=("loaded", "inactive", "")),
        ("epmd", "port 4369", WRONG, REFUSED),
        ["systemctl start epmd.socket"],
        ["epmd -daemon"],
    ),
    "an epmd at another port": (
        here(
            answers=NOBODY_ANYWHERE,
            nodes=(),
            processes=(),
            listeners=[],
            others={4370: Process(8, line=("epmd",))},
        ),
        ("epmd", "port 4369", WRONG, REFUSED),
        ["set ERL_EPMD_PORT=4370"],
        [],
    ),
    "a second epmd at another port": (
        here(others={4370: Process(8, user="bob", line=("epmd", "-port", "4370"))}),
        ("port", "port of others", OK, "other_port"),
        ["4370 (process 8 of bob)"],
        [],
    ),
    # Names and addresses
    "the name is an IP address": (
        here(names={"10.0.0.5": Found((HERE,))}),
        ("name", "10.0.0.5", WARNING, "ip_address"),
        ["set-hostname"],
        [],
    ),
    "names without end": (
        here(late_names=1),
        ("name", "canonical names", WARNING, "late"),
        ["1 name left out"],
        [],
    ),
    "more own addresses than are asked": (
        here(late=(ELSEWHERE,)),
        ("address", "1 address", OK, "late"),
        ["not asked: 192.0.2.1"],
        [],
    ),
    "silent addresses of another host": (
        AFAR._replace(names={"box": Found((ELSEWHERE,))}, answers={HERE: UP}, late=(ELSEWHERE,)),
        ("address", "192.0.2.1", WARNING, "late"),
        ["not asked"],
        ["kill -CONT"],
    ),
    "a list without end": (
        here(answers={V4: UP._replace(more=95_904)}),
        ("node", "95,904 more", WARNING, "late"),
        ["95,904 nodes more not tried"],
        [],
    ),
    # How it fares
    "C's is nearly full": (
        full(C, 1012, 1019, 20000),
        ("limits", "process 7", WARNING, "nearly_full"),
        ["uses 1,019 of 1,024 descriptors", "1,012 nodes of 1,017"],
        [],
    ),
    "C's is full": (full(C, 1017, None, 20000), ("limits", "process 7", WRONG, "full"), ["1,017"], []),
    "ours refuses": (
        full(OURS, 1000, 1004, 1024),
        ("limits", "process 7", WRONG, "full"),
        ["LimitNOFILE"],
        ["C's"],
    ),
    "its file was replaced": (
        here(processes=(OURS_HERE._replace(is_deleted=True),)),
        ("process", "process 7", WARNING, "outdated"),
        ["removed or replaced", "-takeover"],
        [],
    ),
    "an older version runs": (
        here(processes=(OURS_HERE._replace(version="0.0.9"),)),
        ("process", "process 7", WARNING, "outdated"),
        ["0.0.9"],
        [],
    ),
    "Erlang was upgraded": (
        here(erl=Installed(C, "OTP 27 (ERTS 15.0)", "/usr/lib/erlang/erts-15.0/bin/epmd")),
        ("process", "process 7", WARNING, "outdated"),
        ["OTP 27"],
        [],
    ),
    "erl would start C's": (
        here(processes=(OURS_HERE,), erl=Installed(C, "OTP 25 (ERTS 13.1.5)", "/x")),
        ("process", "erl", OK, "erl"),
        ["OTP 25"],
        [],
    ),
    "what it was started with": (
        here(processes=(OURS_HERE._replace(line=("epmd", "-d"), environ={"ERL_EPMD_PORT": "4369"}),)),
        ("process", "process 7", OK, OURS),
        ["options -d", "ERL_EPMD_PORT=4369"],
        [],
    ),
}


@pytest.mark.measured
@pytest.mark.parametrize("situation", SITUATIONS)
def test_situation(situation: str) -> None:
    sight, (topic, subject, state, code), must, must_not = SITUATIONS[situation]
    met = [
        f for f in findings(sight) if (f.topic, f.subject, f.state, f.code) == (topic, subject, state, code)
    ]
    assert len(met) == 1, findings(sight)
    said = f"{met[0].seen} -> {met[0].to_do}"
    assert [words for words in must if words not in said] == [], said
    assert [words for words in must_not if words in said] == [], said


@pytest.mark.measured
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_is_told_in_words_of_the_table(situation: str) -> None:
    sight, *_ = SITUATIONS[situation]
    found = findings(sight)
    for finding in found:
        assert finding.code in CODES[finding.topic], finding
        assert finding.to_do or finding.state == OK, finding
        assert "process 1," not in finding.to_do
        assert "End process 1 " not in finding.to_do
    width = 72
    lines = report.as_text(found, width).splitlines()
    assert all(len(line) <= width or " " not in line[12:] for line in lines)
    states = [line.split()[0] for line in lines[:-1] if line[0] != " "]
    assert states == sorted(states, key=[WRONG, WARNING, OK].index)
    assert states.count(OK) <= 3
    assert report.nagios(sight, found, 0.1)[1].count("\n") == 1


@pytest.mark.measured
def test_warning_that_is_accepted() -> None:
    (one,) = (f for f in findings(WELL, ["open"]) if f.code == "open")
    assert (one.state, one.accepted) == (OK, True)
    (one,) = (f for f in findings(WELL, ["loopback", "answers"]) if f.code == "open")
    assert (one.state, one.accepted) == (WARNING, False)
    stopped = WELL._replace(processes=(process(state="T"),))
    assert status(findings(stopped, ["stopped"])) == 1, "what is wrong is not accepted"


# --- How it is printed ---

LINES = [
    Finding("node", "a\x1b[2J", OK, ANSWERS, "see\nn"),
    Finding("name", "box", WRONG, "nxdomain", "seen", "do"),
    Finding("node", "n" * 255, WARNING, "late", "seen", "do too"),
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
def test_last_line_of_the_text(found: list[Finding], last: str) -> None:
    assert report.as_text(found).endswith(f"\n{last}\n")


def test_text() -> None:
    """What is wrong comes first."""
    assert report.as_text(LINES).splitlines()[:-1] == [
        "wrong    box: seen",
        "         -> do",
        f"warning  node {'n' * 255}: seen",
        "         -> do too",
        "ok       node a\\x1b[2J: see\\nn",
    ]


def test_remedy_of_two_findings_is_printed_once() -> None:
    assert report.as_text(LINES[1:2] * 2).count("-> do") == 1


def test_repeats_are_grouped() -> None:
    dead = [
        Finding("node", f"n{at}", WRONG, "dead", "is registered", f"End process {at}") for at in range(412)
    ]
    alive = [Finding("node", f"m{at}", OK, ANSWERS, "accepts") for at in range(1000)]
    first, then, fine, last = report.as_text([*alive, *dead]).splitlines()
    assert first.startswith("wrong    412 nodes (n0, n1, n2, n3, n4, n5, n6, n7 ... (-json lists all)) ")
    assert "node n0: is registered" in first
    assert then == "         -> End process 0"
    assert fine.startswith("ok       1,000 nodes (m0, m1,")
    assert last == "epmd: 412 wrong, 0 warnings"
    three = report.as_text(dead[:3]).splitlines()
    assert len(three) == 7, "each of a few has a line, and a remedy"


def test_addresses_are_one_line() -> None:
    hosts = ("127.0.0.1", "::1", *(f"10.0.0.{at}" for at in range(6)))
    addresses = [Finding("address", host, OK, ANSWERS, "an epmd answers") for host in hosts]
    assert report.as_text(addresses).splitlines()[0] == "ok       127.0.0.1, ::1 and 6 more answer"


def test_lines_are_wrapped_to_the_terminal() -> None:
    text = report.as_text([Finding("name", "box", WRONG, "nxdomain", "word " * 20, "todo " * 20)], 60)
    assert max(map(len, text.splitlines())) <= 60
    assert "\n            todo" in text, "a remedy goes on below its beginning"
    assert report.as_text([], 60, is_coloured=True) == "epmd: no problem found\n"
    coloured = report.as_text(LINES, is_coloured=True)
    assert coloured.count("\x1b[0m") == 3
    assert coloured.startswith("\x1b[31;1mwrong  \x1b[0m  box: seen\n")


@pytest.mark.parametrize(
    ("sight", "status", "begins"),
    [
        (
            WELL._replace(listeners=[Listener("127.0.0.1", 0, 1)]),
            0,
            "EPMD OK - an epmd answers at port 4369, 1 node | ",
        ),
        (WELL, 1, "EPMD WARNING - other hosts: may ask"),
        (WELL._replace(processes=(process(state="T"),)), 2, "EPMD CRITICAL - process 7: is stopped"),
        (WELL._replace(names={"a|b": Found(problem="no")}), 1, "EPMD WARNING - a/b: "),
    ],
)
def test_line_for_nagios(sight: Sight, status: int, begins: str) -> None:
    number, line = report.nagios(sight, findings(sight), 0.25)
    assert number == status
    assert line.startswith(begins)
    text, _, data = line.partition(" | ")
    assert "nodes=1;;;0;" in data
    assert "time=0.250s;;;0;" in data
    assert "|" not in text
