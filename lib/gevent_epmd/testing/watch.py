"""Watches the mappers of the pytest fixtures: tells which test a mapper failed in, and shows its log there.

The fixtures import this with the first mapper of a run. Before that, no hook of this module is called.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from .process import EpmdProcess


def mapper(options: Sequence[str], config: pytest.Config) -> AbstractContextManager[EpmdProcess]:
    """Run a mapper that one test uses. Raises MapperFailedError at the end."""
    return _watched(EpmdProcess(*_exit_options(config), *options), config)


def shared_mapper(options: Sequence[str], config: pytest.Config) -> AbstractContextManager[EpmdProcess]:
    """Run a mapper that many tests use, each of which fails if the mapper has failed at its end."""
    return _watched(_SharedEpmd(*_exit_options(config), *options), config, "epmd_session")


class EpmdFactory:
    """Starts mappers. Each ends with the fixture that calls this, whatever its scope, or with the test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._config = request.config
        self._whole_session = request
        self._watcher = _watcher(request.config)

    def __call__(self, *options: str, command: Sequence[str] | None = None) -> EpmdProcess:
        """Start a mapper with further options of `epmd --help`, or of the epmd that `command` runs."""
        end_options = _exit_options(self._config) if command is None else ()
        made = EpmdProcess(*end_options, *options, command=command)
        owner, fixture = self._owner()
        watched = _watched(made, self._config, fixture)
        watched.__enter__()
        owner.addfinalizer(lambda: watched.__exit__(None, None, None))
        return made

    def _owner(self) -> tuple[pytest.FixtureRequest | pytest.Item, str]:
        """Return what the mapper ends with, and the name of the fixture if several tests share it."""
        if self._watcher.requests:
            request = self._watcher.requests[-1]
            return request, "" if request.scope == "function" else str(request.fixturename)
        if self._watcher.item is not None:
            return self._watcher.item, ""
        return self._whole_session, "epmd_factory"


class _SharedEpmd(EpmdProcess):
    """The mapper of `epmd_session`, which a test must not take away from the others."""

    def close(self) -> None:
        __tracebackhide__ = True  # the line of the test is the one to show
        raise RuntimeError(
            "epmd_session is for all tests, so a test cannot close it: use restart(), crash() or pause(),"
            " or the fixture epmd"
        )


@contextmanager
def _watched(mapper: EpmdProcess, config: pytest.Config, fixture: str = "") -> Iterator[EpmdProcess]:
    """Run a mapper, which is in the reports of failed tests. Tests that use this `fixture` share it."""
    watcher = _watcher(config)
    with mapper:
        watcher.mappers[mapper] = fixture
        try:
            yield mapper
        finally:
            del watcher.mappers[mapper]


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
        #: The mappers that are running, with the fixture of those that tests share.
        self.mappers: dict[EpmdProcess, str] = {}
        #: The fixtures that are being set up, and the test that is running.
        self.requests: list[pytest.FixtureRequest] = []
        self.item: pytest.Item | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, request: pytest.FixtureRequest) -> Generator[None, object, object]:
        self.requests.append(request)
        try:
            return (yield)
        finally:
            self.requests.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self.item = item
        try:
            return (yield)
        finally:
            self.item = None

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
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            # The request also knows those that were requested while the test ran.
            used = getattr(getattr(item, "_request", item), "fixturenames", ())
            with ExitStack() as checks:  # all of them, also if one fails
                for mapper, fixture in self.mappers.items():
                    if fixture and fixture in used:
                        checks.callback(_check_shared, mapper)


def _check_shared(shared: EpmdProcess) -> None:
    """Check a mapper after a test, and leave one that serves for the next test."""
    try:
        shared.resume()
        if shared.serves:
            shared.check()
    finally:
        if not shared.serves:
            shared.start()
