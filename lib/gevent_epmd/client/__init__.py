"""Queries an epmd: list nodes, look one up, register one, stop one, shut down the epmd.

    >>> from gevent_epmd import client
    >>> client.names()
    [NamedPort(name='rabbit', port=25672)]

All functions are short cuts to the methods of `Client`, and share these conventions:
- `host` is a host's name or IP address; "" means this host (::1 and 127.0.0.1). `port` is the epmd's port;
  None means ERL_EPMD_PORT, or else 4369.
- `timeout` is the limit for the whole call in seconds, over all addresses; None means no limit.
- Invalid arguments raise ValueError or TypeError before anything is sent. So does an invalid ERL_EPMD_PORT.
- All other errors are EpmdError. NoEpmdError, which is also a ConnectionError, is raised if no connection can
  be made; TooLateError, which is also a TimeoutError, if there is no whole reply in time; and BadAnswerError
  if the reply is not that of an epmd, or is a listing of more than MOST_LISTING bytes. Its subclass
  NoReplyError means that the connection was closed without a reply, which an epmd does on a request that it
  does not allow.
- Names are UTF-8 on the wire in every locale. A byte that is not UTF-8 becomes a lone surrogate, as with
  os.fsdecode.

Uses plain blocking sockets and does not import gevent. `gevent_epmd.aio` has the same client for asyncio.

C's counterpart: epmd_cli.c, and what erl_epmd and ei do.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..conventions import EpmdError
    from .answers import Dump, DumpedNode, NamedPort, NodeInfo
    from .api import (
        Client,
        ConnectTimeoutError,
        Registration,
        dump,
        kill,
        names,
        port_please,
        register,
        started,
        stop,
    )
    from .checks import HIDDEN_NODE, NORMAL_NODE
    from .exchange import (
        MOST_LISTING,
        TIMEOUT,
        BadAnswerError,
        BrokenError,
        NoEpmdError,
        NoReplyError,
        TooLateError,
    )
    from .queries import RefusedError

__all__ = ["Client", "Registration", "dump", "kill", "names", "port_please", "register", "started", "stop"]
__all__ += ["Dump", "DumpedNode", "NamedPort", "NodeInfo"]
__all__ += [
    "BadAnswerError",
    "BrokenError",
    "ConnectTimeoutError",
    "EpmdError",
    "NoEpmdError",
    "NoReplyError",
]
__all__ += ["RefusedError", "TooLateError"]
__all__ += ["HIDDEN_NODE", "MOST_LISTING", "NORMAL_NODE", "TIMEOUT"]

if not TYPE_CHECKING:  # checkers would take every other name for one that exists

    def __getattr__(name):  # noqa: ANN001, ANN202
        # Imported on first use: every start of a node imports this package, for `exchange`.
        if name not in __all__:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        try:
            from . import api
        except AttributeError as error:
            # Python would take it for a name that does not exist.
            raise ImportError(f"cannot import {__name__}.api: {error}") from error
        return getattr(api, name)

    def __dir__():  # noqa: ANN202
        return [*__all__]
