"""A fault: which text of which file becomes which other one, and which tests must catch it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """`breaks` says in a few words what goes wrong.  `path` is the file, from the root of the checkout, in
    which `old` occurs once and becomes `new`.  `tests` is FILE or FILE: EXPRESSION, with a file below tests/
    and an expression for pytest's -k."""

    breaks: str
    path: str
    old: str
    new: str
    tests: str

    @property
    def where(self) -> str:
        """The file, in few letters."""
        return self.path.removeprefix("lib/gevent_epmd/").removesuffix(".py")

    @property
    def tests_path(self) -> str:
        return f"tests/{self.tests.partition(': ')[0]}"

    @property
    def expression(self) -> str:
        """What -k gets; nothing where the whole file is meant."""
        return self.tests.partition(": ")[2]

    def problem(self, root: Path) -> str:
        """Why it cannot be planted into this checkout, or nothing."""
        path = root / self.path
        if not path.is_file():
            return f"there is no {self.path}"
        text = path.read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            return f"its text occurs {times} times in {self.path}: {self.old!r}"
        if not (root / self.tests_path).is_file():
            return f"there is no {self.tests_path}"
        if path.suffix == ".py":
            return _syntax(self.planted(text))
        return ""

    def planted(self, text: str) -> str:
        """The text of the file with the fault."""
        return text.replace(self.old, self.new)


def _syntax(source: str) -> str:
    try:
        ast.parse(source)
    except SyntaxError as error:
        return f"it is none of syntax, which no test is needed for: {error}"
    return ""
