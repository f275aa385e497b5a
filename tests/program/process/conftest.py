"""What belongs to a process, as its signals and its end, is the launcher's part too."""

from __future__ import annotations

import pytest

from support.forms import PROGRAMS, command_of


@pytest.fixture(params=PROGRAMS.values(), ids=lambda form: form.__name__)
def ours(request) -> list[str]:
    """The beginning of a command line, for each form that is ours."""
    return command_of(request.param)
