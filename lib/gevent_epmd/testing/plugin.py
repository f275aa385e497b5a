"""The pytest fixtures `epmd` and `epmd_session`: separate mappers for tests that use distributed Erlang.

pytest loads this module in every run if the package is installed. So it imports its dependencies, and watches
tests, only once a test requests a mapper. Only the mapper's process imports gevent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .process import EpmdProcess


@pytest.fixture(scope="session")
def epmd_options() -> Sequence[str]:
    """Override this to pass more options to the mappers of `epmd` and `epmd_session`."""
    return ()


@pytest.fixture
def epmd(epmd_options: Sequence[str], pytestconfig: pytest.Config) -> Iterator[EpmdProcess]:
    """A separate Erlang port mapper for one test, without any node. An internal error in it fails the
    test."""
    from . import watch

    with watch.mapper(epmd_options, pytestconfig) as mapper:
        yield mapper


@pytest.fixture(scope="session")
def epmd_session(epmd_options: Sequence[str], pytestconfig: pytest.Config) -> Iterator[EpmdProcess]:
    """A port mapper for all tests of the session, or of one worker with pytest-xdist.

    The test during which it fails, ends or is stopped fails, and the next one gets a mapper that was started
    again at the same port.
    """
    from . import watch

    with watch.shared_mapper(epmd_options, pytestconfig) as mapper:
        yield mapper
