"""The command `epmd`: reads the line and the environment, and asks an epmd or serves."""

from __future__ import annotations

import sys


def is_frozen() -> bool:
    """Whether this is an executable that PyInstaller made, in either form."""
    return hasattr(sys, "frozen")


def is_one_file() -> bool:
    """Whether this is the one-file form, whose parent process is a launcher (see build/hooks/one_file.py)."""
    return getattr(sys, "frozen", None) == "one-file"
