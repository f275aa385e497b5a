"""No process that these tests start is measured: the cases of tests/program cover the same code."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nothing_is_measured(unmeasured) -> None:
    """For every test of this folder."""
