"""Where the checkout, its executables and the C epmd are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The folder from which tests and tools import each other.
TESTS = ROOT / "tests"
SOURCE = [sys.executable, str(ROOT / "epmd.py")]
BUILT = str(ROOT / "dist" / "epmd")
FOLDER = str(ROOT / "dist" / "gevent-epmd" / "epmd")
#: The C epmd that the tests meet.
C_EPMD = os.environ.get("EPMD_C") or "/usr/bin/epmd"
