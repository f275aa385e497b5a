"""A NamedTuple for modules that must not import typing, which adds 2 ms to every start of an epmd.

For type checkers it is that of typing. At run time a class has the same attributes and methods.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False


class _Record(type):
    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
        if not bases:
            return super().__new__(cls, name, bases, body)
        fields = list(body["__annotations__"])  # type: ignore[call-overload]
        defaults = [body.pop(field) for field in fields if field in body]
        made: type = namedtuple(name, fields, defaults=defaults, module=str(body["__module__"]))  # type: ignore[misc]
        for key, value in body.items():
            setattr(made, key, value)
        return made


if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class NamedTuple(metaclass=_Record):
        """Base of a class whose annotated names become the fields of a tuple, as with `typing.NamedTuple`."""
