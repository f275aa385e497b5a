"""An epmd for tests: `EpmdProcess`, and the pytest fixtures in `plugin` that use it.

pytest imports this module in every run if the package is installed, so `process` is imported on first use.
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
