"""Our NamedTuple against that of typing."""

from __future__ import annotations

import pickle
import typing

import pytest

from gevent_epmd.records import NamedTuple

pytestmark = pytest.mark.measured


class Ours(NamedTuple):
    """With what our classes have."""

    name: str
    port: int = 4369

    @property
    def place(self) -> str:
        return f"{self.name}:{self.port}"

    @classmethod
    def at(cls, place: str) -> Ours:
        name, _, port = place.partition(":")
        return cls(name, int(port))


class Typed(typing.NamedTuple):
    """With what our classes have."""

    name: str
    port: int = 4369

    @property
    def place(self) -> str:
        return f"{self.name}:{self.port}"

    @classmethod
    def at(cls, place: str) -> Typed:
        name, _, port = place.partition(":")
        return cls(name, int(port))


@pytest.mark.parametrize(
    "seen",
    [
        lambda kind: kind("a").place,
        lambda kind: kind.at("b:1"),
        lambda kind: kind(port=2, name="c")._replace(port=3),
        lambda kind: kind("a") == ("a", 4369),
        lambda kind: isinstance(kind("a"), tuple),
        lambda kind: (kind._fields, kind._field_defaults, kind.__doc__, kind.__module__),
        lambda kind: repr(kind("a", 1)).removeprefix(kind.__name__),
        lambda kind: pickle.loads(pickle.dumps(kind("a", 1))) == kind("a", 1),
        lambda kind: kind.__mro__[1:],
        lambda kind: list(kind.__annotations__),
    ],
)
def test_same_as_the_one_of_typing(seen) -> None:
    assert seen(Ours) == seen(Typed)


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="name"):
        Ours()


def test_it_is_not_the_one_of_typing() -> None:
    assert Ours.__mro__ == (Ours, tuple, object)
    assert NamedTuple is not typing.NamedTuple
