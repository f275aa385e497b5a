"""Parses the usage text for the generators of the manual page and the completions."""

from __future__ import annotations

import re
from typing import NamedTuple

from gevent_epmd.program.options import _INTERACTIVE, USAGE

ENDS_THE_LINE = _INTERACTIVE
_FIRST_LINE = re.compile(r"    (-.*?)(?: ([A-Z][\w:[\]]*))?  +(\S.*)")


class Option(NamedTuple):
    """An option. `spellings` include their dashes. `value` is the name of its value, or empty."""

    spellings: tuple[str, ...]
    value: str
    text: str

    @property
    def in_short(self) -> str:
        return self.text.split(". ")[0].rstrip(".")


def synopsis() -> list[str]:
    return [line[7:].removeprefix("epmd ") for line in USAGE.split("\n\n")[0].splitlines()]


def introduction() -> str:
    return USAGE.split("\n\n")[1].replace("\n", " ")


def sections() -> list[tuple[str, list[Option]]]:
    """Return the options under their headings."""
    return [_section(paragraph.splitlines()) for paragraph in USAGE.strip().split("\n\n")[2:]]


def options() -> list[Option]:
    return [option for _, section in sections() for option in section]


def _section(lines: list[str]) -> tuple[str, list[Option]]:
    found: list[Option] = []
    for line in lines[1:]:
        if match := _FIRST_LINE.fullmatch(line):
            found.append(Option(tuple(match[1].split(", ")), match[2] or "", match[3]))
        else:
            found[-1] = found[-1]._replace(text=f"{found[-1].text} {line.strip()}")
    return lines[0].rstrip(":"), found
