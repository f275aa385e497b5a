"""An epmd for tests: `EpmdProcess`, and the pytest fixtures in `plugin` that use it.

pytest imports this module in every run if the package is installed, so `process` is imported on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process import EpmdProcess, MapperFailedError
    from .watch import EpmdFactory

__all__ = ["EpmdFactory", "EpmdProcess", "MapperFailedError"]


if not TYPE_CHECKING:  # checkers would take every other name for one that exists

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in __all__:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        try:
            if name == "EpmdFactory":  # it needs pytest
                from . import watch as module
            else:
                from . import process as module
        except AttributeError as error:
            # Python would take it for a name that does not exist.
            raise ImportError(f"cannot import what has {__name__}.{name}: {error}") from error
        return getattr(module, name)

    def __dir__():  # noqa: ANN202
        return [*__all__]
