"""An epmd for tests: `EpmdProcess`, and the pytest fixtures in `plugin` that use it.

pytest imports this module in every run if the package is installed, so `process` is imported on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process import EpmdProcess, MapperFailedError

__all__ = ["EpmdProcess", "MapperFailedError"]


if not TYPE_CHECKING:  # checkers would take every other name for one that exists

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in __all__:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        try:
            from . import process
        except AttributeError as error:
            # Python would take it for a name that does not exist.
            raise ImportError(f"cannot import {__name__}.process: {error}") from error
        return getattr(process, name)

    def __dir__():  # noqa: ANN202
        return [*__all__]
