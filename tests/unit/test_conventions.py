"""How numbers are read, for the command line and the environment alike."""

from __future__ import annotations

import pytest

from gevent_epmd.conventions import ValueProblem, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("9", 9), ("0009", 9), ("000000000000000000005", 5), ("0", None), ("10", None)],
)
def test_limits_belong_to_the_range(text: str, number: int | None) -> None:
    if number is None:
        with pytest.raises(ValueProblem, match=f'^-port: "{text}" is not a number from 1 to 9$'):
            read_number("-port", text, 9)
    else:
        assert read_number("-port", text, 9) == number


@pytest.mark.parametrize("text", ["0", "000"])
def test_least_number_may_be_0(text: str) -> None:
    assert read_number("-port", text, 9, 0) == 0


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "-1", "1_0", "1.0", "1e3", "0x1", "٣", "²", "one", "9" * 11, "9" * 5000]
)
def test_what_is_no_number(text: str) -> None:
    """Also where int() takes it, or has an error of its own."""
    with pytest.raises(ValueProblem):
        read_number("-port", text, 2**40, 0)
