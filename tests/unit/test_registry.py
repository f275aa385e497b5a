"""Names, creations and memory, with a clock of the test's own."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gevent_epmd.protocol import BareRequest, Port2Request
from gevent_epmd.server.registry import NodeRefused, Registry
from gevent_epmd.wire import NAMES_REQ
from support.peer import node


class Holder:
    """A connection, as far as the registry knows one."""

    def __init__(self, fd: int = 7) -> None:
        self.fd = fd


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def creation_of(registry: Registry, name: str) -> int:
    """The creation that the name gets, for a moment."""
    taken = registry.register(node(name), Holder())
    registry.unregister(taken)
    return taken.creation


def test_unregistering_twice_does_not_hit_the_next_owner() -> None:
    registry = Registry()
    first = registry.register(node("foo"), Holder())
    assert registry.unregister(first)
    second = registry.register(node("foo"), Holder())
    assert not registry.unregister(first)
    assert registry.find(b"foo") is second


def test_owner_that_is_there_keeps_its_name() -> None:
    registry = Registry()
    first = registry.register(node("foo"), Holder())
    with pytest.raises(NodeRefused):
        registry.register(node("foo"), Holder())
    assert registry.find(b"foo") is first
    assert not first.is_back
    registry.unregister(first)
    second = registry.register(node("foo"), Holder())
    assert second.is_back
    assert second.creation == first.creation + 1


def test_former_node_lets_go_of_its_connection() -> None:
    """A thousand former nodes are remembered, and their connections are not needed."""
    registry = Registry()
    holder = Holder()
    gone = weakref.ref(holder)
    registry.unregister(registry.register(node("foo"), holder))
    del holder
    assert [former.name for former in registry.remembered()] == [b"foo"]
    assert gone() is None


@pytest.mark.measured
def test_limit() -> None:
    registry = Registry(limit=1)
    owner = registry.register(node("foo"), Holder())
    with pytest.raises(NodeRefused, match="no descriptor is left"):
        registry.register(node("bar"), Holder())
    registry.unregister(owner)
    registry.register(node("bar"), Holder())


def test_reply_is_kept_until_a_node_comes_or_goes() -> None:
    registry = Registry()

    def keep() -> dict[bytes, bytes]:
        registry.keep_reply(Port2Request(b"foo"), b"w\1")
        registry.keep_reply(BareRequest(NAMES_REQ), b"\0\0\x11\x11")
        return dict(registry.replies)

    assert keep() == {b"\0\4zfoo": b"w\1", b"\0\1n": b"\0\0\x11\x11"}
    foo = registry.register(node("foo"), Holder())
    assert not registry.replies
    assert keep()
    registry.unregister(foo)
    assert not registry.replies
    assert keep()
    registry.unregister(foo)
    assert registry.replies, "nothing has changed"


def test_long_reply_is_not_kept() -> None:
    registry = Registry()
    for size in (2048, 2049):
        registry.keep_reply(Port2Request(b"foo"), bytes(size))
        assert [len(reply) for reply in registry.replies.values()] == [2048]


@pytest.mark.measured
@pytest.mark.parametrize("jump", [-10_000_000, -1, 0, 10_000_000])
def test_clock_that_jumps_repeats_no_creation(jump: int) -> None:
    clock = Clock()
    registry = Registry(clock, remembered=1)
    seen = [creation_of(registry, "foo") for _ in range(10)]
    for name in ("a", "b", "c"):
        creation_of(registry, name)
    assert b"foo" not in {former.name for former in registry.remembered()}
    clock.now += jump
    seen += [creation_of(registry, "foo") for _ in range(10)]
    assert len(set(seen)) == 20


@pytest.mark.parametrize("now", [-5.0, 0.0, 2.0**32, 2.0**40])
def test_clock_that_is_absurd(now: float) -> None:
    clock = Clock()
    clock.now = now
    registry = Registry(clock)
    seen = [creation_of(registry, "foo") for _ in range(10)]
    assert len(set(seen)) == 10
    assert all(4 <= creation < 2**32 for creation in seen)


def test_creation_goes_round_below_2_to_the_32() -> None:
    clock = Clock()
    clock.now = 2.0**32 - 3
    registry = Registry(clock)
    assert [creation_of(registry, "foo") for _ in range(3)] == [2**32 - 2, 2**32 - 1, 4]


def test_registry_after_one_that_was_killed_in_the_same_second() -> None:
    clock = Clock()
    killed = Registry(clock)
    clock.now += 10.1
    before = creation_of(killed, "foo")
    clock.now += 0.5
    assert creation_of(Registry(clock), "foo") > before


class Model(RuleBasedStateMachine):
    """The registry against two lists: live nodes newest first, late names oldest first."""

    remembered = 3
    nodes = Bundle("nodes")
    names = st.sampled_from("abcdefgh")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.registry = Registry(self.clock, remembered=self.remembered)
        self.live: list[tuple[str, int]] = []
        self.late: list[tuple[str, int]] = []
        self.creations: set[tuple[str, int]] = set()

    @rule(target=nodes, name=names, port=st.integers(0, 65535))
    def register(self, name: str, port: int):
        try:
            new = self.registry.register(node(name, port), Holder(port))
        except NodeRefused:
            assert name in dict(self.live)
            return None
        assert name not in dict(self.live)
        if name in dict(self.late):
            self.late = [entry for entry in self.late if entry[0] != name]
        elif len(self.late) > self.remembered:
            self.late.pop(0)
        self.live.insert(0, (name, port))
        assert (name, new.creation) not in self.creations
        self.creations.add((name, new.creation))
        return new

    @rule(gone=consumes(nodes))
    def unregister(self, gone) -> None:
        if gone is not None:
            entry = (gone.name.decode(), gone.port)
            assert self.registry.unregister(gone)
            self.live.remove(entry)
            self.late.append(entry)

    @rule(jump=st.integers(-100_000, 100_000))
    def set_clock(self, jump: int) -> None:
        self.clock.now += jump

    @invariant()
    def same_as_the_lists(self) -> None:
        assert len(self.registry) == len(self.live)
        lines = [f"name {name} at port {port}\n" for name, port in self.live]
        assert self.registry.names_reply()[4:].decode() == "".join(lines)
        dump = [f"active name     <{name}> at port {port}, fd = {port}\n\0" for name, port in self.live]
        dump += [f"old/unused name <{name}>, port = {port}, fd = {port} \n\0" for name, port in self.late]
        assert self.registry.dump_reply()[4:].decode() == "".join(dump)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=50, stateful_step_count=50)


def test_greatest_creation_is_passed_on() -> None:
    """Also by an epmd that assigned none itself, to the one that takes its place."""
    recorded: list[int] = []
    registry = Registry(clock=Clock(), record=recorded.append)
    registry.follow(2_000_000_000)
    assert recorded == [2_000_000_000]
    assert creation_of(registry, "a") == 2_000_000_001 == recorded[-1]
