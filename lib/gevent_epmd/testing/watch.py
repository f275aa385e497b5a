"""Watches the mappers of the pytest fixtures: tells which test a mapper failed in, and shows its log there.

The fixtures import this with the first mapper of a run. Before that, no hook of this module is called.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import pytest

from .process import EpmdProcess


@contextmanager
def mapper(options: Sequence[str], config: pytest.Config) -> Iterator[EpmdProcess]:
    """Run a mapper that one test uses. Raises MapperFailedError at the end."""
    with _watched(EpmdProcess(*_exit_options(config), *options), config) as made:
        yield made


@contextmanager
def shared_mapper(options: Sequence[str], config: pytest.Config) -> Iterator[EpmdProcess]:
    """Run a mapper that many tests use, each of which fails if the mapper has failed at its end."""
    shared = _SharedEpmd(*_exit_options(config), *options)
    with _watched(shared, config) as made:
        _watcher(config).shared = shared
        yield made


class _SharedEpmd(EpmdProcess):
    """The mapper of `epmd_session`, which a test must not take away from the others."""

    def close(self) -> None:
        __tracebackhide__ = True  # the line of the test is the one to show
        raise RuntimeError(
            "epmd_session is for all tests, so a test cannot close it: use restart(), crash() or pause(),"
            " or the fixture epmd"
        )


@contextmanager
def _watched(mapper: EpmdProcess, config: pytest.Config) -> Iterator[EpmdProcess]:
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
        self.shared: _SharedEpmd | None = None

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
            if self.shared in self.mappers and _uses_the_shared_one(item):
                self._check_shared(self.shared)

    @staticmethod
    def _check_shared(shared: EpmdProcess) -> None:
        try:
            shared.resume()
            if shared.serves:
                shared.check()
        finally:
            if not shared.serves:
                shared.start()


def _uses_the_shared_one(item: pytest.Item) -> bool:
    # The request also knows the fixtures that were requested while the test ran.
    request = getattr(item, "_request", None)
    return "epmd_session" in getattr(request, "fixturenames", ("epmd_session",))
