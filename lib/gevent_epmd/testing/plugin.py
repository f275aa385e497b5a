"""The pytest fixtures `epmd`, `epmd_session` and `epmd_factory`: separate mappers for tests with nodes.

pytest loads this module in every run if the package is installed. So it imports its dependencies, and watches
tests, only once a test requests a mapper. Only the mapper's process imports gevent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import watch
    from .process import EpmdProcess

#: The oldest pytest whose hooks the fixtures can use. An older one must only fail where they are used.
_LEAST_PYTEST = 8


@pytest.fixture(scope="session")
def epmd_options() -> Sequence[str]:
    """Override this to pass more options to the mappers of `epmd` and `epmd_session`."""
    return ()


@pytest.fixture
def epmd(epmd_options: Sequence[str], pytestconfig: pytest.Config) -> Iterator[EpmdProcess]:
    """A separate Erlang port mapper for one test, without any node. Its internal errors fail the test."""
    with _watch().mapper(epmd_options, pytestconfig) as mapper:
        yield mapper


@pytest.fixture(scope="session")
def epmd_session(epmd_options: Sequence[str], pytestconfig: pytest.Config) -> Iterator[EpmdProcess]:
    """A port mapper for all tests of the session, or of one worker with pytest-xdist.

    The test during which it fails, ends or is stopped fails, and the next one gets a mapper that was started
    again at the same port.
    """
    with _watch().shared_mapper(epmd_options, pytestconfig) as mapper:
        yield mapper


@pytest.fixture(scope="session")
def epmd_factory(request: pytest.FixtureRequest) -> watch.EpmdFactory:
    """Call this to start another mapper: `epmd_factory(*options, command=None)`.

    The mapper ends with the test, or with the fixture, that calls this. `command` runs another epmd, such as
    C's.
    """
    factory: watch.EpmdFactory = _watch().EpmdFactory(request)
    return factory


def _watch() -> ModuleType:
    if int(pytest.__version__.partition(".")[0]) < _LEAST_PYTEST:
        need = f"the fixtures of gevent-epmd need pytest {_LEAST_PYTEST} or later"
        pytest.fail(f"{need}, and this is {pytest.__version__}", pytrace=False)
    from . import watch

    return watch
