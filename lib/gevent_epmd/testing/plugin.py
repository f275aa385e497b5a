"""The pytest fixtures `epmd` and `epmd_session`: separate mappers for tests that use distributed Erlang.

pytest loads this module in every run if the package is installed. So it imports its dependencies, and watches
tests, only once a test requests a mapper. Only the mapper's process imports gevent.
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
    """Override this to pass more options to the mappers of `epmd` and `epmd_session`."""
    return ()


@pytest.fixture
def epmd(epmd_options: Sequence[str], request: pytest.FixtureRequest) -> Iterator[EpmdProcess]:
    """A separate Erlang port mapper for one test, without any node. An internal error in it fails the
    test."""
    with _mapper(epmd_options, request.config) as mapper:
        yield mapper


@pytest.fixture(scope="session")
def epmd_session(epmd_options: Sequence[str], pytestconfig: pytest.Config) -> Iterator[EpmdProcess]:
    """A port mapper for all tests of the session, or of one worker with pytest-xdist.

    An internal error in it fails the test during which it occurred. If it dies, it is restarted for the next
    test.
    """
    with _mapper(epmd_options, pytestconfig) as mapper:
        _watcher(pytestconfig).shared = mapper
        yield mapper


@contextmanager
def _mapper(options: Sequence[str], config: pytest.Config) -> Iterator[EpmdProcess]:
    from .process import EpmdProcess

    mapper = EpmdProcess(*_exit_options(config), *options)
    watcher = _watcher(config)
    with mapper:
        watcher.mappers.append(mapper)
        try:
            yield mapper
        finally:
            watcher.mappers.remove(mapper)


def _exit_options(config: pytest.Config) -> tuple[str, ...]:
    """Return the options that end a mapper when the controller of pytest-xdist is killed.

    A worker survives its controller for a while. The mapper must not.
    """
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
    """Checks the mappers after each test. Registered as a plugin together with the first mapper."""

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
