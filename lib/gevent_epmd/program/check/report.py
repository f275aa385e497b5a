"""Formats the findings of `epmd -check`: a text for people, JSON, or a line for Nagios.

Invariant: names come from other programs and hosts, and no output contains a control character of theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ... import __version__
from ...conventions import printable
from . import evidence, findings
from .advice import counted, shown
from .finding import CODES, OK, WARNING, WRONG, Finding
from .look import Node, Sight

#: The version of the JSON, which docs/check.schema.json describes. A new member does not change it.
SCHEMA = 1
#: So many findings of one topic and code are shown one by one.
_MOST_ALONE = 3
#: So many names are shown of a group.
_MOST_NAMED = 8
#: Terminals are rarely narrower, and lines of more words are hard to read.
_LEAST_WIDTH, _INDENT = 40, " " * 9
_COLOURS = {WRONG: "31;1", WARNING: "33;1", OK: "32"}
_NAGIOS = {OK: (0, "OK"), WARNING: (1, "WARNING"), WRONG: (2, "CRITICAL")}
#: How the codes of nodes are shown for a group of them.
_GROUPS = {
    "answers": "accept connections",
    "dead": "are registered, but nothing listens at their ports",
    "blocked": "cannot be reached: no answer from their ports",
    "refused": "refuse connections",
    "late": "were not tried",
    "remote": "are on other hosts, or behind a forwarder, and cannot be tried from here",
    "elsewhere": "listen only where nodes do not look for them",
    "lookup": "cannot be looked up",
    "gone": "ended or restarted during the check",
    "no_port": "have no valid port",
    "stopped": "are stopped",
    "taken": "may be dead: their ports belong to other programs",
    "version": "are too old for nodes of OTP 25 and later",
    "host": "have names that lead to other hosts",
}


def unknown(codes: Iterable[str]) -> list[str]:
    """Return those words that are not codes."""
    known = {code for of_topic in CODES.values() for code in of_topic}
    return [code for code in codes if code not in known]


def as_text(found: list[Finding], width: int = 0, *, is_coloured: bool = False) -> str:
    """Return what is wrong first, then the warnings, each with its remedy, then what is ok in a few lines,
    and a summary as the last line.

    `width` is that of the terminal, or 0 for lines of any length.
    """
    lines, said = [], ""
    for state in (WRONG, WARNING):
        for group in _grouped([finding for finding in found if finding.state == state]):
            lines += _lines(state, _told(group), width, is_coloured=is_coloured)
            # What is wrong with the port and with its process often has one remedy.
            if group[0].to_do != said:
                said = group[0].to_do
                lines += _wrapped("-> " + printable(group[0].to_do), width, _INDENT, _INDENT + "   ")
    for text in _what_is_ok([finding for finding in found if finding.state == OK]):
        lines += _lines(OK, text, width, is_coloured=is_coloured)
    return "".join(f"{line}\n" for line in lines) + _summary(found) + "\n"


def _grouped(found: list[Finding]) -> list[list[Finding]]:
    """Return the findings, those of nodes with the same code together if there are many."""
    groups: dict[object, list[Finding]] = {}
    for finding in found:
        groups.setdefault(
            (finding.topic, finding.code) if finding.topic == "node" else id(finding), []
        ).append(finding)
    alone = [[[one] for one in group] if len(group) <= _MOST_ALONE else [group] for group in groups.values()]
    return [group for split in alone for group in split]


def _told(group: list[Finding]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"{_subject(first)}: {printable(first.seen)}"
    what = _GROUPS.get(first.code, first.code)
    return f"{_named(group)} {what}, such as {_subject(first)}: {printable(first.seen)}"


def _named(group: list[Finding]) -> str:
    names = [_short(finding.subject) for finding in group]
    more = " ... (-json lists all)" if len(names) > _MOST_NAMED else ""
    return f"{counted(len(names), 'node')} ({', '.join(names[:_MOST_NAMED])}{more})"


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _subject(finding: Finding) -> str:
    subject = printable(finding.subject)
    return f"node {subject}" if finding.topic == "node" else subject


def _what_is_ok(found: list[Finding]) -> list[str]:
    """Return what is ok: the epmd, where it answers, and its nodes, a line each."""
    of = {topic: [finding for finding in found if finding.topic == topic] for topic in CODES}
    rest = [*of["epmd"], *of["process"], *of["limits"], *of["unit"], *of["port"], *of["exposure"]]
    lines = ["; ".join(_told([finding]) for finding in rest), _addresses(of["address"], of["name"])]
    lines += ["; ".join(_of_nodes(of["node"]))]
    return [line for line in lines if line]


def _addresses(addresses: list[Finding], names: list[Finding]) -> str:
    answering = [finding.subject for finding in addresses if finding.code == "answers"]
    others = [finding for finding in addresses if finding.code != "answers"]
    parts = []
    if answering:
        hosts = ", ".join(answering[:2]) + f" and {len(answering) - 2} more"
        if len(answering) <= 2:
            hosts = " and ".join(answering)
        parts.append(f"{hosts} answer{'s' if len(answering) == 1 else ''}")
    refusing = [finding.subject for finding in others if finding.code == "refused"]
    if refusing:
        parts.append(f"nothing listens at {', '.join(refusing[:_MOST_NAMED])}")
    parts += [_told([finding]) for finding in others if finding.code != "refused"]
    return "; ".join([*map(printable, parts), *(_told([finding]) for finding in names)])


def _of_nodes(nodes: list[Finding]) -> list[str]:
    parts = []
    for code in dict.fromkeys(finding.code for finding in nodes):
        group = [finding for finding in nodes if finding.code == code]
        if len(group) <= _MOST_ALONE:
            parts += [_told([finding]) for finding in group]
        else:
            parts.append(f"{_named(group)} {_GROUPS.get(code, code)}")
    return parts


def _lines(state: str, text: str, width: int, *, is_coloured: bool) -> list[str]:
    first = f"{state:7}"
    lines = _wrapped(text, width, f"{first}  ", _INDENT)
    if is_coloured:
        lines[0] = f"\x1b[{_COLOURS[state]}m{first}\x1b[0m{lines[0][len(first) :]}"
    return lines


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    if not width:
        return [first + text]
    width = max(width, _LEAST_WIDTH)
    lines, line = [], first
    for word in text.split(" "):
        if len(line) + len(word) > width and line.strip() and line not in (first, others):
            lines.append(line.rstrip())
            line = others
        line += f"{word} "
    return [*lines, line.rstrip()]


def _summary(found: list[Finding]) -> str:
    counts = {state: sum(finding.state == state for finding in found) for state in (WRONG, WARNING)}
    warnings = counted(counts[WARNING], "warning")
    if counts[WRONG]:
        return f"epmd: {counts[WRONG]} wrong, {warnings}"
    return f"epmd: no problem found{f', {warnings}' if counts[WARNING] else ''}"


def width_of(descriptor: int) -> int:
    """Return the width of a terminal, or 0 if this is none."""
    if not os.isatty(descriptor):
        return 0
    try:
        return os.get_terminal_size(descriptor).columns
    except OSError:
        return 0


def has_colours(descriptor: int) -> bool:
    """Return whether to write colours: to a terminal that has some, unless NO_COLOR is set (no-color.org)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return is_wanted and os.isatty(descriptor)


# --- Nagios ---


def nagios(sight: Sight, found: list[Finding], seconds: float) -> tuple[int, str]:
    """Return the status and the line of a monitoring plugin, with perfdata.

    Source: the Monitoring Plugins Development Guidelines.
    """
    states = [finding.state for finding in found]
    worst = next((state for state in (WRONG, WARNING) if state in states), OK)
    number, word = _NAGIOS[worst]
    bad = _grouped([finding for finding in found if finding.state == worst])
    limits = findings.limits_of(sight)
    if worst == OK:
        text = f"an epmd answers at port {sight.port}, {counted(limits['nodes'] or 0, 'node')}"
    else:
        more = f"; {len(bad) - 1} more" if len(bad) > 1 else ""
        text = f"{_told(bad[0])}{more}"
    bad_nodes = sum(finding.topic == "node" and finding.state == WRONG for finding in found)
    data = [
        f"nodes={limits['nodes'] or 0};;;0;{_or_empty(limits['most_nodes'])}",
        f"bad_nodes={bad_nodes};;;0;",
        f"wrong={states.count(WRONG)};;;0;",
        f"warnings={states.count(WARNING)};;;0;",
        f"time={seconds:.3f}s;;;0;",
    ]
    if limits["descriptors"] is not None:
        data.append(f"descriptors={limits['descriptors']};;;0;{_or_empty(limits['most_descriptors'])}")
    # A bar would begin the perfdata.
    return number, f"EPMD {word} - {text.replace('|', '/')} | {' '.join(data)}\n"


def _or_empty(number: int | None) -> str:
    return "" if number is None else str(number)


# --- JSON ---


def as_object(sight: Sight, found: list[Finding]) -> dict[str, object]:
    """Return the object that is printed as JSON. docs/check.schema.json describes it."""
    return {
        "schema": SCHEMA,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "host": sight.host or os.uname().nodename,
        "is_remote": bool(sight.host),
        "port": sight.port,
        "status": findings.status(found),
        "epmd": _epmd(sight),
        "limits": findings.limits_of(sight),
        "addresses": [{"address": shown(at), "code": answer.code} for at, answer in sight.answers.items()],
        "names": [
            {"name": name, "addresses": [shown(at) for at in looked_up.places]}
            for name, looked_up in sight.names.items()
        ],
        "nodes": [_node(node, found) for node, found in _with_findings(sight, found)],
        "findings": [finding._asdict() for finding in found],
    }


def _epmd(sight: Sight) -> dict[str, object] | None:
    process = sight.epmd()
    if process is None:
        return None
    return {
        "pid": process.pid,
        "kind": process.kind.lower(),
        "program": process.path,
        "version": process.version,
        "user": process.user,
        "since": _utc(process.since),
        "options": findings.options_of(process),
        "environment": dict(process.environ),
        "listens_on": sorted(s.host for s in sight.listeners or () if s.inode in process.sockets),
    }


def _with_findings(sight: Sight, found: list[Finding]) -> Iterable[tuple[Node, Finding]]:
    """Return each node with the finding about it. They are in the same order."""
    return zip(sight.nodes, (finding for finding in found if finding.topic == "node"), strict=False)


def _node(node: Node, finding: Finding) -> dict[str, object]:
    owner = node.owners[0] if node.owners else None
    return {
        "name": node.name,
        "port": node.port,
        "state": finding.state,
        "code": finding.code,
        "peer": node.peer,
        "highest_version": node.highest or None,
        "pid": owner.pid if owner else None,
        "program": owner.path if owner else "",
        "user": owner.user if owner else "",
        "since": _utc(owner.since) if owner else None,
        "own_name": evidence.name_of(owner) if owner else "",
        "holder": node.holders[0].pid if node.holders else None,
    }


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Progress:
    """Shows the number of completed steps on stderr, if stderr is a terminal."""

    def __init__(self) -> None:
        self._shown = os.isatty(2)

    def tell(self, done: int, of: int) -> None:
        """Show how many steps are done."""
        self._write(f"\r\x1b[Kepmd: {done} of {of} steps")

    def clear(self) -> None:
        """Remove what was shown."""
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._shown:
            try:
                os.write(2, text.encode())
            except OSError:
                self._shown = False  # the terminal is gone or not read
