"""The Markdown documents of the project: their code blocks, headings and links."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.paths import ROOT

#: Folders of what is not the project's: what is made, and caches.
_OTHERS = re.compile(r"dist$|\.(?!github$)")
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE)


class Block(NamedTuple):
    """A fenced code block; `line` is where it begins in its document, `comment` a comment just above."""

    path: Path
    line: int
    language: str
    text: str
    comment: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


class Command(NamedTuple):
    """A command of a console block, and the output that is shown for it."""

    text: str
    output: list[str]


def documents() -> list[Path]:
    """All of them, without looking into what is not the project's: environments have thousands of files."""
    found = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if not _OTHERS.match(name)]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            path,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["text"],
            _above(text, match),
        )
        for match in _BLOCK.finditer(text)
    ]


def _above(text: str, block: re.Match[str]) -> str:
    comments = list(_COMMENT.finditer(text, 0, block.start()))
    if not comments or text[comments[-1].end() : block.start()].strip():
        return ""
    return comments[-1][0].removeprefix("<!--").removesuffix("-->").strip()


def all_blocks(*languages: str) -> list[Block]:
    return [block for path in documents() for block in blocks(path) if block.language in languages]


def typed_in(block: Block) -> list[str]:
    """The commands of a block for a shell."""
    return [command.text for command in commands(block)] if block.language == "console" else [block.text]


def commands(block: Block) -> list[Command]:
    """What a console block shows: lines with a prompt are typed, the others are printed."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        else:
            found[-1].output.append(line)
    return found


def all_commands(path: Path) -> list[Command]:
    """Those of all console blocks of a document.  Where a comment prepares a host for a block, the document
    has a test of its own that plays it."""
    consoles = [block for block in blocks(path) if block.language == "console" and not block.comment]
    return [command for block in consoles for command in commands(block)]


def prose(path: Path) -> str:
    """The text without code blocks and comments."""
    return _COMMENT.sub("", _BLOCK.sub("", path.read_text(encoding="utf-8")))


def links(path: Path) -> list[str]:
    return ["".join(found) for found in _LINK.findall(_CODE.sub("`code`", prose(path)))]


def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as the forges make them."""
    return set(_anchors(re.findall(r"^#{1,6} (.+?)\s*$", prose(path), re.MULTILINE)))


def _anchors(headings: list[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for heading in headings:
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        yield f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor
        seen[anchor] += 1


def section(path: Path, heading: str) -> str:
    """The text under a heading, up to the next one of the same level."""
    text = path.read_text(encoding="utf-8")
    level = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert level, heading
    return re.split(rf"^#{{1,{len(level[1])}}} ", text[level.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their headings."""
    found = []
    for table in re.findall(r"^\|.*\n\|[-:| ]+\|\n((?:\|.*\n?)*)", text, re.MULTILINE):
        for line in table.splitlines():
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append([cell.replace("\\|", "|").strip() for cell in cells])
    return found
