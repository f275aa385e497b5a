"""The Erlang Port Mapper Daemon, epmd, in Python on gevent. The classes embed it in another program."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .server.embedding import ListenError, PortInUseError, PortMapper, ThreadedPortMapper

__version__ = "0.1.0"
__all__ = ["ListenError", "PortInUseError", "PortMapper", "ThreadedPortMapper", "__version__"]


if not TYPE_CHECKING:  # checkers would take every other name for one that exists

    def __getattr__(name):  # noqa: ANN001, ANN202
        # Imported on first use: every start of a node imports this module, and must not pay for gevent.
        if name not in __all__:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        try:
            from .server import embedding
        except AttributeError as error:
            # Python would take it for a name that does not exist.
            raise ImportError(f"cannot import {__name__}.server.embedding: {error}") from error
        return getattr(embedding, name)

    def __dir__():  # noqa: ANN202
        return [*__all__]
