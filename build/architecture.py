"""Prints docs/architecture.svg: the modules of the package by wing, and their imports, read from the source.

An arc on the left of a box is an import within the wing, and its dot is at the module that is imported.  An
arrow between two boxes stands for all imports between two wings; its number says how many there are.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import NamedTuple

from imports import PACKAGES, SOURCES, own_imports, part

ROW, TITLE, ARCS, NAMES, GAP, MARGIN, TOP = 18, 28, 74, 136, 110, 16, 56
WIDTH = ARCS + NAMES
#: The wings, column by column.
COLUMNS = (("program", "testing"), ("server", "client"), ("ground",))
TITLES = {
    "program": "program/ (the command)",
    "testing": "testing/ (pytest)",
    "server": "server/ (the mapper)",
    "client": "client/ (who asks)",
    "ground": "shared (no I/O)",
}
COLOURS = {
    "program": "#0550ae",
    "testing": "#8250df",
    "server": "#116329",
    "client": "#953800",
    "ground": "#57606a",
}
STYLE = (
    "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2328}"
    ".title{font-weight:bold}.count{font-weight:bold;text-anchor:middle}"
    ".arc{fill:none;stroke-width:1;opacity:.55}.arrow{fill:none;stroke-width:2}"
)

#: How far from the middle of a box an arrow leaves it and reaches it, so that no two of them meet or cross.
LEAVES = {("program", "server"): -24, ("program", "client"): 24}
REACHES = {
    ("program", "client"): -14,
    ("testing", "client"): 14,
    ("server", "ground"): -14,
    ("client", "ground"): 14,
}

#: {importing module: the modules that it imports}
Imports = dict[str, set[str]]


class Box(NamedTuple):
    """The place of a wing, with its modules from top to bottom."""

    wing: str
    x: int
    y: int
    modules: list[str]

    @property
    def height(self) -> int:
        return TITLE + ROW * len(self.modules) + 8

    @property
    def middle(self) -> int:
        return self.y + self.height // 2

    def row(self, module: str) -> int:
        """The height of a module's name."""
        return self.y + TITLE + ROW * self.modules.index(module) + ROW // 2


def picture(imports: Imports) -> str:
    boxes = layout(imports)
    right = max(box.x for box in boxes.values()) + WIDTH + MARGIN
    bottom = max(box.y + box.height for box in boxes.values()) + TOP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" width="{right}" role="img">',
        "<title>The modules of gevent_epmd by wing, and their imports</title>",
        f"<style>{STYLE}</style>",
        "<defs>",
        *(_arrow_head(wing, colour) for wing, colour in COLOURS.items()),
        "</defs>",
        f'<rect x=".5" y=".5" width="{right - 1}" height="{bottom - 1}" rx="8" fill="#ffffff" '
        'stroke="#8b949e"/>',
    ]
    for box in boxes.values():
        lines += _box(box, imports)
    lines += _arrows(boxes, imports, bottom)
    return "\n".join([*lines, "</svg>\n"])


def layout(imports: Imports) -> dict[str, Box]:
    boxes = {}
    for column, wings in enumerate(COLUMNS):
        y = TOP
        for wing in wings:
            modules = in_order([module for module in imports if part(module) == wing], imports)
            boxes[wing] = Box(wing, MARGIN + column * (WIDTH + GAP), y, modules)
            y += boxes[wing].height + MARGIN
    return boxes


def in_order(modules: list[str], imports: Imports) -> list[str]:
    """Each module above those that it imports: tests/unit/test_imports.py forbids circles."""
    rest, ordered = sorted(modules), []
    while rest:
        free = [module for module in rest if not any(module in imports[other] for other in rest)]
        ordered.append(free[0])
        rest.remove(free[0])
    return ordered


def short(module: str) -> str:
    """The name of its file, in the folder of the wing."""
    if module in PACKAGES:
        return "/".join([*module.split(".")[2:], "__init__"])
    return "/".join(module.split(".")[2:]) or module.rpartition(".")[2]


def _box(box: Box, imports: Imports) -> list[str]:
    colour = COLOURS[box.wing]
    lines = [
        f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{box.height}" rx="6" fill="{colour}" '
        f'fill-opacity=".06" stroke="{colour}"/>',
        f'<text class="title" x="{box.x + 10}" y="{box.y + 18}">{TITLES[box.wing]}</text>',
    ]
    for module in box.modules:
        lines.append(f'<text x="{box.x + ARCS + 8}" y="{box.row(module) + 4}">{short(module)}</text>')
        lines += [_arc(box, module, other) for other in box.modules if other in imports[module]]
    return lines


def _arc(box: Box, module: str, imported: str) -> str:
    x, start, end = box.x + ARCS, box.row(module), box.row(imported)
    bulge = min(ARCS * 4 // 3 - 12, 12 + (end - start) // 3)
    colour = COLOURS[box.wing]
    curve = f"M{x} {start}C{x - bulge} {start} {x - bulge} {end} {x} {end}"
    dot = f'<circle cx="{x}" cy="{end}" r="2" fill="{colour}"/>'
    return f'<path class="arc" stroke="{colour}" d="{curve}"/>{dot}'


def _arrow_head(wing: str, colour: str) -> str:
    shape = '<path d="M0 0L8 4L0 8z"'
    return (
        f'<marker id="{wing}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="5" markerHeight="5" '
        f'orient="auto">{shape} fill="{colour}"/></marker>'
    )


def _arrows(boxes: dict[str, Box], imports: Imports, bottom: int) -> list[str]:
    counts = Counter((part(module), part(name)) for module, names in imports.items() for name in names)
    lines = []
    for (importer, imported), count in sorted(counts.items()):
        if importer != imported:
            lines += _arrow(boxes[importer], boxes[imported], count, bottom)
    return lines


def _arrow(importer: Box, imported: Box, count: int, bottom: int) -> list[str]:
    columns = (imported.x - importer.x) // (WIDTH + GAP)
    if columns == 1:
        wings = importer.wing, imported.wing
        start = (importer.x + WIDTH, importer.middle + LEAVES.get(wings, 0))
        end = (imported.x - 3, imported.middle + REACHES.get(wings, 0))
        label = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2 - 8)
        curve = f"M{start[0]} {start[1]}L{end[0]} {end[1]}"
    elif columns == 2:
        # Around the column between them: above it, or below.
        above = importer.y == TOP
        x, y = importer.x + WIDTH // 2, importer.y if above else importer.y + importer.height
        to_x = imported.x + WIDTH // 2 + (0 if above else 40)
        to_y = imported.y - 3 if above else imported.y + imported.height + 3
        level = TOP // 3 + 6 if above else bottom - TOP // 3 - 6
        label = ((x + to_x) // 2, level - 6)
        curve = f"M{x} {y}V{level}H{to_x}V{to_y}"
    else:
        # Backwards: the package hands out what embeds a mapper, and imports it when it is first used.
        x, y = importer.x + WIDTH // 2 - 60, importer.y
        to_x, level = imported.x + WIDTH - 30, TOP - 14
        label = ((x + to_x) // 2, level - 5)
        curve = f"M{x} {y}V{level}H{to_x}V{imported.y - 3}"
    dashes = ' stroke-dasharray="4 3"' if columns < 0 else ""
    text = f"{count}, on first use" if columns < 0 else str(count)
    return [
        f'<path class="arrow" stroke="{COLOURS[importer.wing]}"{dashes} '
        f'marker-end="url(#{importer.wing})" d="{curve}"/>',
        f'<text class="count" x="{label[0]}" y="{label[1]}">{text}</text>',
    ]


if __name__ == "__main__":
    sys.stdout.write(picture(own_imports(SOURCES)))
