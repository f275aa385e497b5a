"""The Erlang Port Mapper Daemon, epmd, in Python on gevent."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .embedding import PortMapper, ThreadedPortMapper

__version__ = "0.1.0"
__all__ = ["PortMapper", "ThreadedPortMapper", "__version__"]


def __getattr__(name: str) -> Any:
    # Every start of a node imports this module, and must not pay for gevent.
    if name in ("PortMapper", "ThreadedPortMapper"):
        from . import embedding

        return getattr(embedding, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
