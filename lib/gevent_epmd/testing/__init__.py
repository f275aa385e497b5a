"""An epmd for tests: `EpmdProcess`, and in `plugin` the fixtures of pytest that are made of it.

pytest imports this in every run where the package is installed, so the process is imported when it is first
used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .process import EpmdProcess, MapperFailed

__all__ = ["EpmdProcess", "MapperFailed"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import process

        return getattr(process, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
