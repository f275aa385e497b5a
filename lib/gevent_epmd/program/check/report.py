"""Formats the findings of `epmd -check`: a text for people, JSON, or a line for Nagios.

Invariant: names come from other programs and hosts, and no output contains a control character of theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ... import __version__
from ...conventions import printable
from ..process import procfs
from . import evidence, findings
from .advice import counted, shown
from .finding import CODES, OK, WARNING, WRONG, Finding
from .sight import Node, Sight

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


def _grouped(found: list[Finding]) -> Iterator[list[Finding]]:
    """Yield the findings, those of nodes with the same code together if there are many."""
    groups: dict[object, list[Finding]] = {}
    for finding in found:
        key = finding.code if finding.topic == "node" else id(finding)
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        yield from [group] if len(group) > _MOST_ALONE else ([one] for one in group)


def _told(group: list[Finding]) -> str:
    first = group[0]
    subject = f"node {first.subject}" if first.topic == "node" else first.subject
    alone = printable(f"{subject}: {first.seen}")
    return alone if len(group) == 1 else f"{_named(group)}, such as {alone}"


def _named(group: list[Finding]) -> str:
    names = [printable(finding.subject) for finding in group[:_MOST_NAMED]]
    names = [name if len(name) <= 40 else f"{name[:37]}..." for name in names]
    more = " ... (-json lists all)" if len(group) > _MOST_NAMED else ""
    what = _GROUPS.get(group[0].code, group[0].code)
    return f"{counted(len(group), 'node')} ({', '.join(names)}{more}) {what}"


def _what_is_ok(found: list[Finding]) -> list[str]:
    """Return what is ok: the epmd, where it answers, and its nodes, a line each."""
    of = {topic: [finding for finding in found if finding.topic == topic] for topic in CODES}
    rest = [*of["epmd"], *of["process"], *of["limits"], *of["unit"], *of["port"], *of["exposure"]]
    nodes = (_told(group) if len(group) == 1 else _named(group) for group in _grouped(of["node"]))
    lines = ["; ".join(_told([one]) for one in rest), _addresses(of["address"], of["name"]), "; ".join(nodes)]
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


def _lines(state: str, text: str, width: int, *, is_coloured: bool) -> list[str]:
    first = f"{state:7}"
    lines = _wrapped(text, width, f"{first}  ", _INDENT)
    if is_coloured:
        lines[0] = f"\x1b[{_COLOURS[state]}m{first}\x1b[0m{lines[0][len(first) :]}"
    return lines


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    if not width:
        return [first + text]
    # The module textwrap is not in the executables.
    width = max(width, _LEAST_WIDTH)
    lines, line = [], first
    for word in text.split(" "):
        if len(line) + len(word) > width and line not in (first, others):
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
    try:
        return os.get_terminal_size(descriptor).columns
    except OSError:
        return 0


def has_colours(descriptor: int) -> bool:
    """Return whether to write colours: to a terminal that has some, unless NO_COLOR is set (no-color.org)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return is_wanted and os.isatty(descriptor)


def nagios(sight: Sight, found: list[Finding], seconds: float) -> tuple[int, str]:
    """Return the status and the line of a monitoring plugin, with perfdata.

    Source: the Monitoring Plugins Development Guidelines.
    """
    states = [finding.state for finding in found]
    worst = next((state for state in (WRONG, WARNING) if state in states), OK)
    number, word = _NAGIOS[worst]
    limits = findings.limits_of(sight)
    text = f"an epmd answers at port {sight.port}, {counted(limits['nodes'] or 0, 'node')}"
    if worst != OK:
        first, *others = _grouped([finding for finding in found if finding.state == worst])
        text = _told(first) + (f"; {len(others)} more" if others else "")
    bad_nodes = sum(finding.topic == "node" and finding.state == WRONG for finding in found)
    data = [
        ("nodes", limits["nodes"] or 0, limits["most_nodes"]),
        ("bad_nodes", bad_nodes, None),
        ("wrong", states.count(WRONG), None),
        ("warnings", states.count(WARNING), None),
        ("time", f"{seconds:.3f}s", None),
        ("descriptors", limits["descriptors"], limits["most_descriptors"]),
    ]
    perfdata = [
        f"{name}={value};;;0;{'' if most is None else most}"
        for name, value, most in data
        if value is not None
    ]
    # A bar would begin the perfdata.
    return number, f"EPMD {word} - {text.replace('|', '/')} | {' '.join(perfdata)}\n"


def as_object(sight: Sight, found: list[Finding]) -> dict[str, object]:
    """Return the object that is printed as JSON. docs/check.schema.json describes it."""
    return {
        "schema": SCHEMA,
        "time": _utc(time.time()),
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
        # The findings about nodes are in the order of the nodes.
        "nodes": list(map(_node, sight.nodes, (finding for finding in found if finding.topic == "node"))),
        "findings": [finding._asdict() for finding in found],
    }


def _epmd(sight: Sight) -> dict[str, object] | None:
    process = sight.epmd()
    if not process.pid:
        return None
    return {
        "pid": process.pid,
        "kind": process.kind.lower(),
        "program": process.path,
        "version": process.version,
        "user": process.user,
        "since": _utc(process.since),
        "options": findings.options_of(process),
        "environment": process.environ,
        "listens_on": sorted(s.host for s in sight.listeners or () if s.inode in process.sockets),
    }


def _node(node: Node, finding: Finding) -> dict[str, object]:
    owner = node.owners[0] if node.owners else procfs.Process(0)
    return {
        "name": node.name,
        "port": node.port,
        "state": finding.state,
        "code": finding.code,
        "peer": node.peer,
        "highest_version": node.highest or None,
        "pid": owner.pid or None,
        "program": owner.path,
        "user": owner.user,
        "since": _utc(owner.since),
        "own_name": evidence.name_of(owner),
        "holder": node.holders[0].pid if node.holders else None,
    }


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def show_progress(done: int = 0, of: int = 0) -> None:
    """Show on stderr, if it is a terminal, how many steps are done. Without steps, remove what was shown."""
    text = f"epmd: {done} of {of} steps" if of else ""
    if os.isatty(2):
        with suppress(OSError):  # the terminal is gone or not read
            os.write(2, f"\r\x1b[K{text}".encode())
