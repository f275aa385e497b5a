"""Replaces zope.interface in the executable. gevent uses it to declare the interfaces of its loops.

The original takes a quarter of the import time of gevent's server, 6 ms before an epmd serves.
"""


class Interface:
    """The base of gevent's interfaces."""


class Attribute:
    """A member of an interface, with its documentation."""

    def __init__(self, *documentation):
        pass


def classImplements(*_):  # noqa: N802 - the name is zope's
    """Do nothing, because nothing asks who implements an interface."""
