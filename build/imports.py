"""Which module of the package imports which, read from the source.

docs/architecture.svg is drawn from this, and tests/unit/test_imports.py checks rules with it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "gevent_epmd"
FOLDER = Path(__file__).parent.parent / "lib" / PACKAGE
WINGS = ("server", "client", "testing", "program")
#: The package itself is part of the ground: it has the version, and hands out what embeds a mapper.
GROUND = (PACKAGE, *(f"{PACKAGE}.{module}" for module in ("wire", "protocol", "conventions", "records")))
#: `python -m gevent_epmd` is the command.
COMMAND = f"{PACKAGE}.__main__"
#: The client for asyncio is public under a short name, and part of the client all the same.
AIO = f"{PACKAGE}.aio"

#: {module: its source}
Sources = dict[str, str]

parsed = functools.cache(ast.parse)


@functools.cache
def import_statements(tree: ast.AST) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in nodes(tree) if isinstance(node, ast.Import | ast.ImportFrom))


@functools.cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


def read_sources() -> Sources:
    found = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


SOURCES = read_sources()
#: Modules whose relative imports start at themselves.
PACKAGES = {module for module in SOURCES if any(other.startswith(f"{module}.") for other in SOURCES)}
#: The rooms of the command, from top to bottom: each imports only what is below it.
ROOMS = ("program", "check", "executable", "process")


def imports(module: str, tree: ast.AST, known: Sources) -> Iterator[str]:
    """The modules that a module imports.  That an import of a.b runs a too does not count: a package's own
    modules are not below it."""
    for node in import_statements(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        else:
            base = _base(module, node)
            for name in node.names:
                inner = f"{base}.{name.name}"
                yield inner if inner in known else base


def _base(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module
    parts = module.split(".")
    above = parts[: len(parts) - node.level + (module in PACKAGES)]
    return ".".join([*above, node.module] if node.module else above)


def part(module: str) -> str:
    """The wing that a module of ours is in, or the ground."""
    if module in GROUND:
        return "ground"
    if module == COMMAND:
        return "program"
    if module == AIO:
        return "client"
    return module.split(".")[1]


def room(module: str) -> str:
    """The room that a module of the command is in. What every room may import is on the lowest floor."""
    inside = module.removeprefix(f"{PACKAGE}.program").strip(".").split(".")[0]
    if inside in ("", "line", "options"):
        return ROOMS[-1]
    return inside if inside in ROOMS else ROOMS[0]


def own_imports(sources: Sources) -> dict[str, set[str]]:
    """For each module, the modules of this package that it imports."""
    return {
        module: {name for name in imports(module, parsed(source), sources) if name in sources}
        for module, source in sources.items()
    }
