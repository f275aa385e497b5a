"""Replaces gevent.socket in the executables. gevent's servers make and accept sockets of this kind.

An epmd makes and accepts its sockets itself. The original imports gevent's other modules for sockets, and
Python's socket, enum and selectors. Together they add 4 ms before an epmd serves, and 200 KB.
"""

from errno import EWOULDBLOCK  # noqa: F401


class socket:  # noqa: N801 - the name is gevent's
    """Never created."""
