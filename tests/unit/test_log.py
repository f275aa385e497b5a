"""The way to stderr: how much of a line it surely takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from select import PIPE_BUF

import pytest

from gevent_epmd.server import log

pytestmark = pytest.mark.measured


@pytest.fixture
def stderr() -> Iterator[None]:
    """What is put in the place of descriptor 2 is taken back."""
    saved = os.dup(2)
    yield
    os.dup2(saved, 2)
    os.close(saved)


def put_at_2(reading: int, writing: int) -> int:
    os.dup2(writing, 2)
    os.close(writing)
    return reading


@pytest.mark.usefixtures("stderr")
def test_terminal_is_opened_again_so_that_only_we_do_not_block() -> None:
    found = []
    for _ in range(2):
        reading = put_at_2(*os.openpty())
        descriptor, surely = log._way_out()
        assert log._way_out() == (descriptor, surely), "once"
        assert (surely, os.get_blocking(descriptor), os.get_blocking(2)) == (PIPE_BUF, False, True)
        os.write(descriptor, b"line")
        assert os.read(reading, 4) == b"line"
        found.append(reading)
    for reading in found:
        os.close(reading)


@pytest.mark.usefixtures("stderr")
def test_pipe_takes_as_much_as_posix_says() -> None:
    reading = put_at_2(*os.pipe())
    assert log._way_out() == (2, PIPE_BUF)
    os.close(reading)
