"""The fixtures `epmd` and `epmd_session`: mappers of their own for tests that need distributed Erlang.

pytest loads this in every run where the package is installed, so it imports what it needs, and looks after
tests, only where one of them asks for a mapper; gevent is for the mapper's process alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .process import EpmdProcess


@pytest.fixture(scope="session")
def epmd_options() -> Sequence[str]:
    """More options for the mappers of `epmd` and `epmd_session`; to be overridden."""
    return ()


@pytest.fixture
def epmd(epmd_options: Sequence[str], request: pytest.FixtureRequest) -> Iterator[EpmdProcess]:
    """An Erlang port mapper of the test's own, without any node; what goes wrong in it fails the test."""
    with _mapper(epmd_options, request.config) as mapper:
        yield mapper


@pytest.fixture(scope="session")
def epmd_session(epmd_options: Sequence[str], pytestconfig: pytest.Config) -> Iterator[EpmdProcess]:
    """The same for all tests of the session, with pytest-xdist for all of one worker.  What goes wrong in it
    fails the test during which it went wrong; one that died is there again for the next."""
    with _mapper(epmd_options, pytestconfig) as mapper:
        _watcher(pytestconfig).shared = mapper
        yield mapper


@contextmanager
def _mapper(options: Sequence[str], config: pytest.Config) -> Iterator[EpmdProcess]:
    from .process import EpmdProcess

    mapper = EpmdProcess(*_lives_with(config), *options)
    watcher = _watcher(config)
    with mapper:
        watcher.mappers.append(mapper)
        try:
            yield mapper
        finally:
            watcher.mappers.remove(mapper)


def _lives_with(config: pytest.Config) -> tuple[str, ...]:
    """A worker of pytest-xdist lives on for a while when its controller is killed; no mapper does."""
    if not hasattr(config, "workerinput"):
        return ()
    return ("-pid_exit", f"{os.getpid()},{os.getppid()}")


def _watcher(config: pytest.Config) -> _Watcher:
    found = config.pluginmanager.get_plugin(_Watcher.name)
    if found is None:
        found = _Watcher()
        config.pluginmanager.register(found, _Watcher.name)
    assert isinstance(found, _Watcher)
    return found


class _Watcher:
    """Looks at the mappers after each test; registered as a plugin with the first of them."""

    name = "gevent_epmd.watcher"

    def __init__(self) -> None:
        self.mappers: list[EpmdProcess] = []
        self.shared: EpmdProcess | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        if call.excinfo is not None:
            for mapper in self.mappers:
                if mapper.serves and mapper.news():
                    item.add_report_section(call.when, f"epmd at port {mapper.port}", mapper.news())
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if self.shared in self.mappers:
                self._check_shared()

    def _check_shared(self) -> None:
        assert self.shared is not None
        try:
            self.shared.check()
        finally:
            if not self.shared.serves:
                self.shared.start()
