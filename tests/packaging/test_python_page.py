"""docs/python.md tells every public name, as the code has it: signatures, fields, errors, constants."""

from __future__ import annotations

import inspect
import re

import pytest

import gevent_epmd
from gevent_epmd import aio, client, testing
from support import markdown
from support.paths import ROOT

PYTHON = ROOT / "docs" / "python.md"
#: The tables of names, by their sections: what they are of.
SECTIONS = {
    "An epmd in your program": gevent_epmd,
    "gevent_epmd.client": client,
    "gevent_epmd.aio": aio,
    "gevent_epmd.testing": testing,
}
RESULTS = (client.NamedPort, client.Dump, client.DumpedNode, client.NodeInfo)
CLASSES = {"An epmd in your program": gevent_epmd.PortMapper, "gevent_epmd.testing": testing.EpmdProcess}


def first_names(heading: str) -> set[str]:
    """The names that the tables of a section are about."""
    cells = [row[0] for row in markdown.rows(markdown.section(PYTHON, heading))]
    return {name for cell in cells for name in re.findall(r"`([A-Za-z_]\w*)", cell)}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_public_name_is_documented(heading: str) -> None:
    assert {*SECTIONS[heading].__all__} <= first_names(heading)


def test_clients_have_the_same_signatures() -> None:
    for name in aio.__all__:
        one, other = getattr(client, name), getattr(aio, name)
        if inspect.isfunction(one):
            assert signature(one, name) == signature(other, name)
    for name, one in vars(client.Client).items():
        if inspect.isfunction(one) and not name.startswith("_"):
            assert signature(one, name) == signature(getattr(aio.Client, name), name)


@pytest.mark.parametrize("heading", CLASSES)
def test_every_member_is_documented(heading: str) -> None:
    members = {name for name in vars(CLASSES[heading]) if not name.startswith("_")}
    assert members | {"port"} <= first_names(heading)


@pytest.mark.parametrize("heading", SECTIONS)
def test_nothing_else_is_documented(heading: str) -> None:
    known = {*SECTIONS[heading].__all__, "port", "with"}
    if heading in CLASSES:
        known |= {*dir(CLASSES[heading])}
    if heading == "An epmd in your program":
        known |= {*inspect.signature(gevent_epmd.PortMapper).parameters}
    if heading == "gevent_epmd.client":
        known |= {"host", "timeout", "name", "node_port"}
    assert first_names(heading) <= known


def signature(function: object, name: str) -> str:
    """As it is called: without types, and without `self`."""
    of = inspect.signature(function)
    shown = [one.replace(annotation=one.empty) for one in of.parameters.values() if one.name != "self"]
    return f"{name}{of.replace(parameters=shown, return_annotation=of.empty)}".replace("'", '"')


def documented_functions() -> list[str]:
    found = [(name, getattr(client, name)) for name in client.__all__]
    found += [(name, one) for cls in CLASSES.values() for name, one in vars(cls).items() if name[0] != "_"]
    return [signature(one, name) for name, one in found if inspect.isfunction(one)]


@pytest.mark.parametrize("call", documented_functions())
def test_signatures(call: str) -> None:
    assert f"`{call}`" in PYTHON.read_text(encoding="utf-8")


def test_arguments_of_the_mapper() -> None:
    rows = markdown.rows(markdown.section(PYTHON, "An epmd in your program"))
    shown = {name: row[2] for row in rows if len(row) == 4 for name in re.findall(r"`(\w+)`", row[0])}
    parameters = inspect.signature(gevent_epmd.PortMapper).parameters
    assert shown == {name: f"`{parameter.default!r}`" for name, parameter in parameters.items()}
    assert inspect.signature(gevent_epmd.ThreadedPortMapper) == inspect.signature(gevent_epmd.PortMapper)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.__name__)
def test_fields_of_results(result: type) -> None:
    (row,) = [
        row
        for row in markdown.rows(markdown.section(PYTHON, "gevent_epmd.client"))
        if row[0] == f"`{result.__name__}`" and len(row) == 2
    ]
    kinds = {name: getattr(kind, "__forward_arg__", kind) for name, kind in result.__annotations__.items()}
    assert row[1] == ", ".join(f"`{name}: {kind}`" for name, kind in kinds.items())


def test_errors_and_constants_of_the_client() -> None:
    rows = markdown.rows(markdown.section(PYTHON, "gevent_epmd.client"))
    errors = {row[0]: row[1] for row in rows if row[0].endswith("Error`")}
    public = [getattr(client, name) for name in client.__all__]
    raised = [one for one in public if isinstance(one, type) and issubclass(one, Exception)]
    assert errors == {
        f"`{one.__name__}`": ", ".join(f"`{base.__name__}`" for base in one.__bases__) for one in raised
    }
    shown = {
        name: value
        for row in rows
        if row[0].isupper()
        for name, value in zip(re.findall(r"\w+", row[0]), re.findall(r"`(\S+)`", row[1]), strict=True)
    }
    assert shown == {name: repr(getattr(client, name)) for name in client.__all__ if name.isupper()}
