"""The command `epmd`: reads the command line and the environment, then asks an epmd or serves."""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def environment() -> Mapping[str, str]:
    """Return os.environ, or its content if nothing has imported os yet.

    To import os takes a fifth of the time of `epmd -names`. So quick lines use `posix`, which is part of
    Python and has the same functions.
    """
    if "os" in sys.modules:
        return sys.modules["os"].environ  # type: ignore[no-any-return]
    encoding = sys.getfilesystemencoding()
    return {
        name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")
        for name, value in posix.environ.items()
    }


def is_frozen() -> bool:
    """Return whether this is an executable made by PyInstaller, in the one-file or the folder form."""
    return hasattr(sys, "frozen")


def is_one_file() -> bool:
    """Return whether this is the one-file executable, whose parent is a launcher (build/hooks/early.py)."""
    return getattr(sys, "frozen", None) == "one-file"
