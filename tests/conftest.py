"""Fixtures that more than one module uses."""

from __future__ import annotations

import resource

import pytest
from hypothesis import HealthCheck, settings

from support.forms import COMMANDS, Process, Real, Source, command_of, heed_signals

#: The folders whose tests start no process that is measured: those of program/ run the same code.
UNMEASURED = {"erlang", "packaging"}
#: Projects of their own, which the tests run.
collect_ignore = ["examples"]

heed_signals()

# How long an example takes is a matter of the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Some tests hold thousands of connections.
_, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "only what needs no other program and does not wait for long (scripts/test --quick)"
    parser.addoption("--quick", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: waits, or plays for long; left out by --quick")
    Real.wanted = not config.getoption("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        quick = {item: not (item.get_closest_marker("slow") or needs_another_program(item)) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not quick[item]])
        items[:] = [item for item in items if quick[item]]


def needs_another_program(item: pytest.Item) -> bool:
    """Whether the test is for a form that is made of something else than Python, by its parameters."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(
        issubclass(value, Process) and not issubclass(value, Source)
        if isinstance(value, type)
        else value in COMMANDS and value != "source"
        for value in parameters
        if isinstance(value, type | str)
    )


@pytest.fixture
def unmeasured(monkeypatch) -> None:
    """What is started imports what it needs itself, and nothing for coverage.

    That costs 0.1 s of CPU for each process, so tests that start hundreds of them, or that compare times,
    ask for this where other tests run the same code.
    """
    for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def by_folder(request) -> None:
    """`unmeasured`, for each test of the folders that say so."""
    if request.path.parent.name in UNMEASURED:
        request.getfixturevalue("unmeasured")


@pytest.fixture(params=COMMANDS)
def command(request) -> list[str]:
    """The beginning of a command line, for each form that is a program."""
    return command_of(request.param)


@pytest.fixture(params=[name for name in COMMANDS if name != "C"])
def ours(request) -> list[str]:
    """The same, for each form that is ours."""
    return command_of(request.param)
