"""Fixtures that more than one module uses."""

from __future__ import annotations

import resource

import pytest

from support.forms import COMMANDS, heed_signals, real

#: Projects of their own, which the tests run.
collect_ignore = ["examples"]

heed_signals()

# Some tests hold thousands of connections.
_, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))


@pytest.fixture
def unmeasured(monkeypatch) -> None:
    """What is started imports what it needs itself, and nothing for coverage."""
    for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(params=COMMANDS)
def command(request) -> list[str]:
    """The beginning of a command line, for each form that is a program."""
    return command_of(request.param)


@pytest.fixture(params=[name for name in COMMANDS if name != "C"])
def ours(request) -> list[str]:
    """The same, for each form that is ours."""
    return command_of(request.param)


def command_of(name: str) -> list[str]:
    program, *arguments = COMMANDS[name]
    return [real(program), *arguments]
