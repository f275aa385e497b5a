"""What the connections of a mapper share."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from gevent_epmd.server.events import Events
from gevent_epmd.server.log import Log
from gevent_epmd.server.mapper import Mapper
from gevent_epmd.server.registry import NodeRefused
from gevent_epmd.server.settings import Settings
from gevent_epmd.server.timers import IdleExit
from support.patience import whole_seconds
from support.peer import node

pytestmark = pytest.mark.measured

#: How much faster time goes for idle exit.
FASTER = 8


class Holder:
    """A connection, as far as the mapper knows one that has a node."""

    fd = 7
    has_gone = False

    def gone(self) -> bool:
        return self.has_gone


@pytest.fixture
def make() -> Iterator[type[Mapper]]:
    made = []

    def mapper(**settings: object) -> Mapper:
        made.append(Mapper(Settings(**settings), 4369, Events(Log())))
        return made[-1]

    yield mapper
    for each in made:
        for live in list(each.registry.live()):
            each.node_unreg(live)
        each.hub.loop.run_callback(each.stop)  # which is for the hub only
    gevent.sleep(0)


def test_one_names_reply_for_all_until_a_node_comes_or_goes(make) -> None:
    mapper = make()
    assert mapper.registry.names_reply() == b"\0\0\x11\x11"
    foo = mapper.node_reg(node("foo"), Holder())
    listing = mapper.registry.names_reply()
    assert listing == b"\0\0\x11\x11name foo at port 4711\n"
    assert mapper.registry.names_reply() is listing
    mapper.node_unreg(foo)
    mapper.node_reg(node("bar"), Holder())
    assert mapper.registry.names_reply() == b"\0\0\x11\x11name bar at port 4711\n"


def test_name_of_a_node_that_has_gone_is_free(make) -> None:
    mapper = make()
    holder = Holder()
    first = mapper.node_reg(node("foo"), holder)
    with pytest.raises(NodeRefused):
        mapper.node_reg(node("foo"), Holder())
    holder.has_gone = True
    second = mapper.node_reg(node("foo"), Holder())
    assert second.creation == first.creation + 1, "nobody has read its EOF yet"


@pytest.mark.parametrize("relaxed", [False, True])
def test_may_be_killed(make, *, relaxed: bool) -> None:
    mapper = make(relaxed=relaxed)
    assert mapper.may_be_killed()
    holder = Holder()
    mapper.node_reg(node("foo"), holder)
    assert mapper.may_be_killed() == relaxed
    holder.has_gone = True
    assert mapper.may_be_killed(), "nobody has read its EOF yet"


def test_idle_exit_counts_from_the_last_node(make, monkeypatch) -> None:
    faster = lambda loop, seconds, *calls: IdleExit(loop, seconds / FASTER, *calls)  # noqa: E731
    monkeypatch.setattr("gevent_epmd.server.mapper.IdleExit", faster)
    mapper = make(idle_exit=1)
    mapper.start()
    foo = mapper.node_reg(node("foo"), Holder())
    gevent.sleep(3 / FASTER)
    assert not mapper.finished.is_set()
    bar = mapper.node_reg(node("bar"), Holder())
    mapper.node_unreg(foo)
    gevent.sleep(3 / FASTER)
    assert not mapper.finished.is_set()
    mapper.node_unreg(bar)
    assert mapper.finished.wait(whole_seconds(10))


class Waiting:
    """A connection without a node."""

    aborted = False

    def abort(self, _reason: str) -> None:
        self.aborted = True


def test_one_of_the_connections_without_a_node_makes_room_where_there_are_too_many(make, monkeypatch) -> None:
    monkeypatch.setattr("gevent_epmd.server.mapper.MOST_UNREGISTERED", 2)
    mapper = make()
    assert not mapper.make_room()
    crowd = [Waiting() for _ in range(3)]
    for number, newcomer in enumerate(crowd):
        mapper.unregistered.add(newcomer)
        mapper.keep_bounded(newcomer)
        assert [waiting.aborted for waiting in crowd] == [number == 2, False, False]
    mapper.unregistered.clear()
