"""Standard descriptors that the caller has closed, in the test's own process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from gevent_epmd.program.cli import open_standard_descriptors

pytestmark = pytest.mark.measured

STANDARD = (0, 1, 2)


@contextlib.contextmanager
def closed(descriptors: tuple[int, ...]) -> Iterator[None]:
    """These are closed for as long as this lasts."""
    kept = [os.dup(descriptor) for descriptor in STANDARD]
    try:
        for descriptor in descriptors:
            os.close(descriptor)
        yield
    finally:
        for descriptor, copy in zip(STANDARD, kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def opened() -> dict[int, str]:
    """What is open, but for what lists it."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the list's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.mark.parametrize("which", [(), (0,), (1,), (2,), (0, 2), STANDARD], ids=str)
def test_those_that_are_closed_become_dev_null(which: tuple[int, ...]) -> None:
    with closed(which):
        before = opened()
        open_standard_descriptors()
        after = opened()
    assert after == before | dict.fromkeys(which, os.devnull)
