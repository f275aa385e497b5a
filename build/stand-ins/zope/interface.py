"""Stands in for zope.interface in the executables.  gevent uses it only to document its loops.

Importing the real one takes 6 ms, a quarter of the import of gevent's server.
"""


class Interface:
    """The base class of gevent's interfaces."""


class Attribute:
    """A member of an interface, with its documentation."""

    def __init__(self, *documentation):
        pass


def classImplements(*_):  # noqa: N802 - the name is zope's
    """Do nothing: nothing asks which class implements an interface."""
