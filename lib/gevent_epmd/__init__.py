"""The Erlang Port Mapper Daemon, epmd, in Python on gevent: `PortMapper` and `ThreadedPortMapper` embed
it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .server.embedding import ListenError, PortInUse, PortMapper, ThreadedPortMapper

__version__ = "0.1.0"
__all__ = ["ListenError", "PortInUse", "PortMapper", "ThreadedPortMapper", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: every start of a node imports this module, and must not pay for gevent.
    if name in __all__:
        from .server import embedding

        return getattr(embedding, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
