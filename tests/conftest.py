"""Options, marks and fixtures that more than one module uses."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.cost import Cost
from support.forms import FORMS, Folder, InProcess, Process, Server, Source, command_of
from support.made import Made
from support.measured import measure
from support.order import longest_first
from support.programs import Real, heed_signals

#: Projects of their own, which the tests run.
collect_ignore = ["examples"]
MARKS = (
    "slow(seconds): waits, or plays for long; left out by --quick. The more seconds, the earlier it begins",
    "measured(words): runs under coverage in scripts/test, and only so, with the form that costs least there",
)

heed_signals()

# The thousands of tests that are collected stay to the end: looking through them again and again takes long.
gc.disable()

# How long an example takes is a matter of the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
#: For the same tests once more, with another Python.
settings.register_profile("few", settings.get_profile("patient"), max_examples=10)

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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What has no measured test is not even read: each worker would, for seconds."""
    if config.getoption("measured") == "yes" and collection_path.suffix == ".py":
        return "mark.measured" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()
    if session.config.getoption("measured") == "yes":
        session.config.add_cleanup(measure())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        select(config, items, is_quick)
    if config.getoption("measured"):
        chosen = measured(items)
        wanted = config.getoption("measured") == "yes"
        select(config, items, lambda item: (item in chosen) == wanted)
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = longest_first(items, workers)


def select(config: pytest.Config, items: list[pytest.Item], wanted: Callable[[pytest.Item], bool]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = filter(wanted, items)


def is_quick(item: pytest.Item) -> bool:
    return not (item.get_closest_marker("slow") or needs_another_program(item))


def needs_another_program(item: pytest.Item) -> bool:
    """Whether the test is for a form that is made of something else than Python."""
    return not all(issubclass(form, InProcess | Source) for form in forms_of(item))


def measured(items: list[pytest.Item]) -> set[pytest.Item]:
    """Those that run under coverage: of the forms that are Python, one. In process it costs least.

    `measured("a", "b")` is for a test of many parameters: only where their names contain one of these.
    """
    marks = [(item, item.get_closest_marker("measured")) for item in items]
    marked = [item for item, mark in marks if mark and is_among(item, mark.args)]
    in_process = {(item.path, item.originalname) for item in marked if InProcess in forms_of(item)}
    return {
        item
        for item in marked
        if not needs_another_program(item)
        and ((item.path, item.originalname) not in in_process or InProcess in forms_of(item))
    }


def is_among(item: pytest.Item, words: tuple[str, ...]) -> bool:
    return not words or any(word in item.callspec.id for word in words)


def forms_of(item: pytest.Item) -> list[type[Server]]:
    """The forms among the parameters of a test."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return [value for value in parameters if isinstance(value, type) and issubclass(value, Server)]


@pytest.fixture(params=[form for form in FORMS if issubclass(form, Process)], ids=lambda form: form.__name__)
def command(request) -> list[str]:
    """The beginning of a command line, for each form that is a program."""
    return command_of(request.param)


@pytest.fixture(params=[Source, Folder], ids=lambda form: form.__name__)
def ours(request) -> list[str]:
    """The same, for each form that is ours, but for the launcher, which passes on what it is called with."""
    return command_of(request.param)


@pytest.fixture(scope="session")
def made(pytestconfig, tmp_path_factory) -> Made:
    """What takes long to make, and is made once for all workers."""
    return Made(pytestconfig, tmp_path_factory)
