"""What scripts/compare, bench and soak were asked for, or one line on why it cannot be."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection
from typing import TypeVar

Number = TypeVar("Number", int, float)


def choice(what: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        sys.exit(f'{what}: "{value}" is not one of {", ".join(known)}')
    return value


def number(what: str, value: str, kind: Callable[[str], Number]) -> Number:
    try:
        return kind(value)
    except ValueError:
        sys.exit(f'{what}: "{value}" is not a number')


def program(what: str, path: str) -> str:
    if shutil.which(path) is None:
        sys.exit(f"{what}: {path} is not a program")
    return path
