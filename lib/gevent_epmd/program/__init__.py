"""The command `epmd`: reads the command line and the environment, then asks an epmd or serves."""

from __future__ import annotations

import sys


def is_frozen() -> bool:
    """Return whether this is an executable made by PyInstaller, in the one-file or the folder form."""
    return hasattr(sys, "frozen")


def is_one_file() -> bool:
    """Return whether this is the one-file executable, whose parent is a launcher (build/hooks/early.py)."""
    return getattr(sys, "frozen", None) == "one-file"
