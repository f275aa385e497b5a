"""Options, marks and fixtures that more than one module uses."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from support.cost import Cost
from support.forms import FORMS, PROGRAMS, InProcess, Process, Server, Source, command_of
from support.order import longest_first
from support.programs import Real, heed_signals

#: Projects of their own, which the tests run.
collect_ignore = ["examples"]
MARKS = (
    "slow(seconds): waits, or plays for long; left out by --quick. If it names its seconds, it begins early",
    "measured: scripts/test runs it under coverage, in the forms that coverage can measure, and not without",
)

heed_signals()

# Some tests hold thousands of connections.
_, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "only what needs no other program and does not wait for long (scripts/test --quick)"
    parser.addoption("--quick", action="store_true", help=text)
    text = "only the tests that run under coverage, or only the others"
    parser.addoption("--measured", choices=("yes", "no"), help=text)


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.pluginmanager.register(Cost())
    Real.wanted = not config.getoption("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        select(
            config, items, lambda item: not (item.get_closest_marker("slow") or needs_another_program(item))
        )
    if config.getoption("measured"):
        wanted = config.getoption("measured") == "yes"
        select(config, items, lambda item: is_measured(item) == wanted)
    items[:] = longest_first(items)


def select(config: pytest.Config, items: list[pytest.Item], wanted: Callable[[pytest.Item], bool]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = filter(wanted, items)


def is_quick(item: pytest.Item) -> bool:
    return not (item.get_closest_marker("slow") or needs_another_program(item))


def needs_another_program(item: pytest.Item) -> bool:
    """Whether the test is for a form that is made of something else than Python."""
    return not all(issubclass(form, InProcess | Source) for form in forms_of(item))


def is_measured(item: pytest.Item) -> bool:
    marked = item.get_closest_marker("measured") or item.path.parent.name == "unit"
    return bool(marked) and not needs_another_program(item)


def forms_of(item: pytest.Item) -> list[type[Server]]:
    """The forms among the parameters of a test."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return [value for value in parameters if isinstance(value, type) and issubclass(value, Server)]


@pytest.fixture(params=[form for form in FORMS if issubclass(form, Process)], ids=lambda form: form.__name__)
def command(request) -> list[str]:
    """The beginning of a command line, for each form that is a program."""
    return command_of(request.param)


@pytest.fixture(params=PROGRAMS.values(), ids=lambda form: form.__name__)
def ours(request) -> list[str]:
    """The same, for each form that is ours."""
    return command_of(request.param)
