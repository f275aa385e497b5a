"""Random traffic: C's epmd and ours do the same; a breakage is found, and shrunk to a few steps."""

from __future__ import annotations

import re
import sys

import pytest

from comparison.groups import Plan
from comparison.rows import DELIBERATE, DIFFERENT, SAME
from comparison.traffic import play_both, rows
from comparison.traffic_play import DELIBERATE as DELIBERATE_PAIRS
from comparison.traffic_steps import batch_of
from support.forms import C, Source
from support.paths import ROOT
from support.programs import real


@pytest.fixture(autouse=True)
def _c_is_there() -> None:
    real(C.command[0])


@pytest.mark.slow(15)
def test_c_and_ours_do_the_same() -> None:
    found = list(rows(C, Source, Plan(2000, 7)))
    assert [row for row in found if row.verdict == DIFFERENT] == []
    assert [row.verdict for row in found].count(SAME) == 4
    met = {row.difference for row in found if row.verdict == DELIBERATE}
    assert met == set(DELIBERATE_PAIRS)


#: What might be broken: the title, how, and with how many steps, at most, it is shown.  Two are shrunk, which
#: starts servers again and again.
BREAKAGES = [
    (
        "NAMES in the wrong order",
        """
from gevent_epmd.server.registry import Registry
Registry.live = lambda self: iter(self._live.values())
""",
        None,
    ),
    (
        "a NUL after a looked-up name counts",
        """
from gevent_epmd.protocol import Port2Request, _REQUESTS
from gevent_epmd.wire import PORT2_REQ
_REQUESTS[PORT2_REQ] = ("PORT2_REQ", lambda packet: Port2Request(packet[1:]))
""",
        None,
    ),
    (
        "a port turned round",
        """
from gevent_epmd import protocol, wire
right = protocol.port2_reply
def port2_reply(node):
    reply = right(node)
    return reply[:2] + reply[3:1:-1] + reply[4:] if len(node.name) == 7 else reply
protocol.port2_reply = port2_reply
""",
        None,
    ),
    (
        "a creation that comes again",
        """
from gevent_epmd.server.registry import Registry
right = Registry._next_count
Registry._next_count = lambda self, name: right(self, name) & -2
""",
        5,
    ),
    (
        "a refused node is closed",
        """
from gevent_epmd.server.connection import Connection, protocol
Connection._stay_refused = lambda self, request: self._reply(protocol.alive2_refusal(request.highest))
""",
        None,
    ),
    (
        "an error inside",
        """
from gevent_epmd.server.connection import Connection, protocol
Connection._HANDLERS[wire.DUMP_REQ] = None
""",
        1,
    ),
]
_BEGIN = f"import sys; sys.path.insert(0, {str(ROOT / 'lib')!r})"
_END = "from gevent_epmd.program.cli import main; sys.exit(main())"


@pytest.mark.parametrize(("how", "steps"), [b[1:] for b in BREAKAGES], ids=[b[0] for b in BREAKAGES])
def test_a_breakage_is_found_and_shrunk(how: str, steps: int | None) -> None:
    code = "\n".join([_BEGIN, how, _END])
    broken = type("Broken", (Source,), {"command": (sys.executable, "-c", code)})
    if steps is None:
        assert any(play_both(C, broken, batch_of(7, number)).differs for number in range(4))
        return
    row = next(row for row in rows(C, broken, Plan(2000, 7)) if row.verdict == DIFFERENT)
    assert re.search(r"--ours source --seed 7 --batch \d traffic$", row.more, re.MULTILINE)
    shown = re.findall(r"^ *\d+\. connection", row.more, re.MULTILINE)
    assert 1 <= len(shown) <= steps, row.more
