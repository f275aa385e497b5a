"""Fixtures that more than one module uses."""

from __future__ import annotations

import resource
import signal

import pytest
from forms import OURS

# Whoever runs the tests in the background, or with nohup, ignores signals, and so would what they start.
for _number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(_number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Some tests hold thousands of connections.
_, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))


@pytest.fixture(params=OURS, ids=lambda form: form.__name__)
def ours(request):
    """Each form of ours, to be started with options."""
    return request.param
