"""What is done before the process ends."""

from __future__ import annotations

import pytest

from gevent_epmd.program.process import at_end

pytestmark = pytest.mark.measured


def test_last_one_is_first_and_each_comes_once() -> None:
    assert at_end.is_empty()
    done: list[int] = []
    for number in range(3):
        at_end.add(lambda number=number: done.append(number))
    assert not at_end.is_empty()
    at_end.run()
    at_end.run()
    assert done == [2, 1, 0]
    assert at_end.is_empty()
