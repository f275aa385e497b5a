"""Fixtures that more than one module uses."""

from __future__ import annotations

import pytest
from forms import OURS


@pytest.fixture(params=OURS, ids=lambda form: form.__name__)
def ours(request):
    """Each form of ours, to be started with options."""
    return request.param
