"""Which module of the package may import which, and what each of them may touch, read from the source.

The package has four wings on one ground: program -> server, client; testing -> client; each -> ground.
Imports inside functions and those for type checkers count like the others.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

import pytest

from imports import (
    COMMAND,
    GROUND,
    PACKAGE,
    ROOMS,
    SOURCES,
    Sources,
    imports,
    nodes,
    own_imports,
    parsed,
    part,
    room,
)

MAY_IMPORT = {
    "program": {"program", "server", "client", "ground"},
    "testing": {"testing", "client", "ground"},
    "server": {"server", "ground"},
    "client": {"client", "ground"},
    "ground": {"ground"},
}
#: The modules without I/O, and all that they may import besides the ground.
WITHOUT_IO = {
    f"{PACKAGE}.wire": {"__future__"},
    f"{PACKAGE}.protocol": {"__future__", "collections.abc", "struct", "typing"},
    f"{PACKAGE}.conventions": {"__future__", "collections.abc"},
    f"{PACKAGE}.records": {"__future__", "collections", "typing"},
    f"{PACKAGE}.server.registry": {"__future__", "collections.abc", "time", "typing"},
}
#: What embeds a mapper also asks it.
EMBEDDING = f"{PACKAGE}.server.embedding"
IO = {"open", "print", "input", "breakpoint", "sleep"}
#: What belongs to a process, and so to its program.
OF_THE_PROCESS = {
    "argv",
    "orig_argv",
    "environ",
    "environb",
    "getenv",
    "getenvb",
    "putenv",
    "frozen",
    "_MEIPASS",
}
DYNAMIC = {"__import__", "import_module"}


@functools.cache
def touched(tree: ast.AST) -> list[str]:
    """Attributes, imported names, and strings, which may name an attribute."""
    found = []
    for node in nodes(tree):
        if isinstance(node, ast.Attribute):
            found.append(node.attr)
        elif isinstance(node, ast.alias):
            found.append(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


@functools.cache
def called(tree: ast.AST) -> set[str]:
    calls = [node.func for node in nodes(tree) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def at_import(tree: ast.Module) -> ast.Module:
    """The module without its functions, and without what only type checkers read or do not read."""
    kept = [
        node
        for node in tree.body
        if not isinstance(node, ast.FunctionDef)
        and not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return ast.Module(kept, [])


def faults(sources: Sources) -> list[str]:
    """Every fault against the rules, in words."""
    trees = {module: parsed(source) for module, source in sources.items()}
    found = {module: set(imports(module, tree, sources)) for module, tree in trees.items()}
    ours = own_imports(sources)
    return [
        *_places(sources),
        *_arrows(ours, trees[PACKAGE], sources),
        *_rooms(ours),
        *(f"circle: {' -> '.join(circle)}" for circle in _circles(ours)),
        *_io(found, trees),
        *_process(trees),
    ]


def _places(sources: Sources) -> Iterator[str]:
    for module in sources:
        if part(module) not in MAY_IMPORT:
            yield f"{module} is in no wing"


def _arrows(ours: dict[str, set[str]], package: ast.Module, sources: Sources) -> Iterator[str]:
    for module, names in ours.items():
        may = MAY_IMPORT.get(part(module), set())
        if module == EMBEDDING:
            may = may | {"client"}
        for name in sorted(names):
            if part(name) not in may and not (module == PACKAGE and part(name) == "server"):
                yield f"{module} imports {name}"
    for name in imports(PACKAGE, at_import(package), sources):
        if name in sources and part(name) == "server":
            yield f"{PACKAGE} imports {name} before anybody wants to serve"


def _rooms(ours: dict[str, set[str]]) -> Iterator[str]:
    for module, names in ours.items():
        if part(module) != "program" or module == COMMAND:
            continue
        for name in sorted(names):
            if part(name) == "program" and ROOMS.index(room(name)) < ROOMS.index(room(module)):
                yield f"{module} imports {name}, which is above it"
        if room(module) == ROOMS[0] and not module.endswith(".calls"):
            yield from (f"{module} imports {name}" for name in names if room(name) == "check")


def _circles(ours: dict[str, set[str]]) -> Iterator[list[str]]:
    """One for each module from which imports lead back to it."""
    for start in sorted(ours):
        ways = [[start]]
        seen = set()
        while ways:
            way = ways.pop()
            for name in ours[way[-1]]:
                if name == start:
                    yield [*way, name]
                    ways = []
                    break
                if name not in seen:
                    seen.add(name)
                    ways.append([*way, name])


def _io(found: dict[str, set[str]], trees: dict[str, ast.Module]) -> Iterator[str]:
    for module, may in WITHOUT_IO.items():
        for name in sorted(found[module] - may - {*GROUND}):
            yield f"{module} imports {name}, and does no I/O"
        for name in sorted(IO & called(trees[module])):
            yield f"{module} calls {name}, and does no I/O"


def _process(trees: dict[str, ast.Module]) -> Iterator[str]:
    variables = 0
    for module, tree in trees.items():
        names = touched(tree)
        if DYNAMIC & called(tree):
            yield f"{module} imports what cannot be read here"
        if part(module) == "client":
            variables += names.count("environ")
            names = [name for name in names if name != "environ"]
        if part(module) in ("server", "client", "ground"):
            yield from (f"{module} touches {name}" for name in names if name in OF_THE_PROCESS)
    if variables != 1:
        yield f"the client reads the environment in {variables} places"


def test_rules_hold() -> None:
    assert faults(SOURCES) == []


def test_every_wing_is_there() -> None:
    assert {part(module) for module in SOURCES} == {*MAY_IMPORT}
    assert {*GROUND, COMMAND, *WITHOUT_IO} <= {*SOURCES}


#: Each is added to a module, and is a fault, or several.
BREAKS = {
    "server.registry": {
        "from .mapper import Mapper": [
            "circle: gevent_epmd.server.mapper -> ",
            "registry imports gevent_epmd.s",
        ],
        "import os": ["registry imports os, and does no I/O"],
        "def f(): open('x')": ["registry calls open, and does no I/O"],
        "def f(): time.sleep(1)": ["registry calls sleep, and does no I/O"],
    },
    "server.mapper": {
        "from ..program import cli": ["mapper imports gevent_epmd.program.cli"],
        "def f():\n    from ..client.exchange import Call": ["mapper imports gevent_epmd.client.exchange"],
        "if TYPE_CHECKING:\n    from ..testing import process": [
            "mapper imports gevent_epmd.testing.process"
        ],
        "import gevent_epmd.client": ["mapper imports gevent_epmd.client"],
        "import sys; sys.argv": ["mapper touches argv"],
        "import os; os.environ['X']": ["mapper touches environ"],
        "from os import getenv as get": ["mapper touches getenv"],
        "import sys; getattr(sys, 'frozen', False)": ["mapper touches frozen"],
        "__import__('gevent_epmd.client')": ["mapper imports what cannot be read here"],
        "def f():\n    from .connection import Connection": ["circle: gevent_epmd.server.connection -> "],
    },
    "client.answers": {
        "from ..server.log import shown": ["answers imports gevent_epmd.server.log"],
        "from .. import server": ["answers imports gevent_epmd.server"],
        "import sys; sys.argv": ["answers touches argv"],
        "import os; os.environ": ["the client reads the environment in 2 places"],
    },
    "testing.process": {
        "from ..server import mapper": ["process imports gevent_epmd.server.mapper"],
        "from ..program.options import USAGE": ["process imports gevent_epmd.program.options"],
    },
    "wire": {
        "from .conventions import LOOPBACK": ["circle: gevent_epmd.wire -> gevent_epmd.conventions -> gev"],
    },
    "protocol": {
        "import socket": ["protocol imports socket, and does no I/O"],
        "from .client import exchange": ["protocol imports gevent_epmd.client.exchange"],
        "def f(): print(1)": ["protocol calls print, and does no I/O"],
    },
    "conventions": {
        "import os; os.environ": ["conventions imports os, and does", "conventions touches environ"]
    },
    "program.cli": {
        "from ..testing import process": ["cli imports gevent_epmd.testing.process"],
        "from .check import report": ["cli imports gevent_epmd.program.check.report"],
    },
    "program.process.daemon": {
        "from ..executable import launcher": [
            "daemon imports gevent_epmd.program.executable.launcher, which"
        ],
        "from .. import calls": ["daemon imports gevent_epmd.program.calls, which is above it"],
    },
    "": {
        "from .server import embedding": ["gevent_epmd imports gevent_epmd.server.embedding before anybody"],
        "def f():\n    from .client import exchange": ["gevent_epmd imports gevent_epmd.client.exchange"],
    },
    "extra": {"": ["gevent_epmd.extra is in no wing"]},
    "extra.module": {"": ["gevent_epmd.extra.module is in no wing"]},
}
ALL_BREAKS = [(name, line, said) for name, lines in BREAKS.items() for line, said in lines.items()]


@pytest.mark.parametrize(("name", "line", "said"), ALL_BREAKS)
def test_break_of_a_rule_is_found(name: str, line: str, said: list[str]) -> None:
    module = f"{PACKAGE}.{name}" if name else PACKAGE
    found = faults(SOURCES | {module: f"{SOURCES.get(module, '')}\n{line}\n"})
    for text in said:
        assert any(text in fault for fault in found), found
